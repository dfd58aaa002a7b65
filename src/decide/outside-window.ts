import { nextOpening, openUntil } from "../api/schedule.ts";
import { timeText } from "../api/time.ts";
import { block, NO_POLICY, pass } from "./episode.ts";
import type { Gate } from "./gate.ts";

/** Blocks outside the policy's windows. */
export const outsideWindow: Gate = {
  name: "OutsideWindow",
  doc: "Where the policy names windows, nothing happens outside them.",
  onEveryStep: true,
  check({ policy, now }) {
    if (policy === undefined) return NO_POLICY;
    const { windows } = policy.spec;
    if (windows === undefined) return pass("the policy names no windows");
    for (const window of windows) {
      const until = openUntil(window, now);
      if (until !== undefined)
        return pass(`the window '${window.schedule}' ${window.timeZone} is open until ${timeText(until) ?? "further notice"}`);
    }
    const openings = windows.map((window) => nextOpening(window, now) ?? Infinity);
    const opens = Math.min(...openings);
    return Number.isFinite(opens)
      ? block(`outside the policy's windows; the next opens at ${timeText(opens)}`, opens)
      : block("outside the policy's windows, and none opens again");
  },
};
