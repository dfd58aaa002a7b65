import { isTerminal, type Remediation } from "../api/remediation.ts";
import { timeMs, timeText } from "../api/time.ts";
import { durationMs } from "../api/units.ts";
import { block, createdAt, episodesOf, modeOf, nameOf, NO_POLICY, pass } from "./episode.ts";
import type { Gate } from "./gate.ts";

/** Whether an episode changed something, or decided to: only such a one needs a rest after it. */
function counts(remediation: Remediation, dryRun: boolean): boolean {
  const { outcome, phase, attempts } = remediation.status;
  const stepTaken = attempts.some((attempt) => attempt.steps.some((step) => step.state !== "Pending" && step.state !== "Skipped"));
  // So that a dry run decides as the real one would. One that was made a dry run in its midst may have acted before.
  if (outcome === "Observed") return dryRun || stepTaken;
  if (outcome === "SelfRecovered" || phase === "Cancelled") return stepTaken;
  return attempts.length > 0;
}

/** Blocks for the policy's cooldown after an episode on the same workload that did something. */
export const recentlyRemediated: Gate = {
  name: "RecentlyRemediated",
  doc: "After an episode the workload rests for `cooldown`: what was just changed needs time to show its effect.",
  onEveryStep: false,
  check(context) {
    const { policy, now } = context;
    if (policy === undefined) return NO_POLICY;
    const cooldown = durationMs(policy.spec.cooldown);
    const dryRun = modeOf(context) === "Observe";
    let latest: { readonly until: number; readonly name: string } | undefined;
    const { self, history } = episodesOf(context);
    for (const other of history) {
      if (other === self || !isTerminal(other) || !counts(other, dryRun)) continue;
      const ended = other.status.endedAt === undefined ? createdAt(other) : timeMs(other.status.endedAt);
      // The clock may have been set back: an end in the future is taken as now.
      const until = Math.min(ended, now) + cooldown;
      if (until > now && (latest === undefined || until > latest.until)) latest = { until, name: nameOf(other) };
    }
    if (latest === undefined) return pass("the cooldown is over");
    return block(
      `remediation ${latest.name} ended less than ${policy.spec.cooldown} ago; rest until ${timeText(latest.until)}`,
      latest.until,
    );
  },
};
