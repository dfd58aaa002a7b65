import { timeText } from "../api/time.ts";
import { durationMs } from "../api/units.ts";
import { block, NO_POLICY, pass } from "./episode.ts";
import type { Gate } from "./gate.ts";

/** How far a source's clock may run ahead of ours before its times are not believed. */
const MAX_SKEW_MS = 60_000;

/** A condition that began longer ago than this was not measured: it is a zero, or a clock that was never set. */
const MAX_STANDING_MS = 365 * 86_400_000;

/** Blocks on a signal that is over, old, or dated by a clock that is not to be believed. */
export const staleSignal: Gate = {
  name: "StaleSignal",
  doc: "A signal that is resolved, older than `maxSignalAge`, from the future or from a clock that was never set is no reason to act.",
  onEveryStep: false,
  check(context) {
    const { policy, signal, now } = context;
    if (policy === undefined) return NO_POLICY;
    if (signal.state !== "Firing") return block(`the signal ${signal.name} is resolved`);
    const age = now - signal.seenAt;
    const max = durationMs(policy.spec.maxSignalAge);
    // Each comparison is the one that must hold, so that a time that is no number blocks.
    if (!(age >= -MAX_SKEW_MS)) return block(`the signal was last seen at ${at(signal.seenAt)}, which is in the future`);
    if (!(age <= max))
      return block(`the signal was last seen ${Math.round(age / 1000)} s ago; maxSignalAge is ${policy.spec.maxSignalAge}`);
    if (!(signal.startsAt <= now + MAX_SKEW_MS)) return block(`the signal starts at ${at(signal.startsAt)}, which is in the future`);
    if (!(signal.startsAt >= now - MAX_STANDING_MS))
      return block(`the signal claims to hold since ${at(signal.startsAt)}: no source has looked for so long`);
    return pass(`last seen ${Math.max(0, Math.round(age / 1000))} s ago`);
  },
};

function at(ms: number): string {
  return timeText(ms) ?? "a time that is none";
}
