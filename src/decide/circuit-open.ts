import { timeMs, timeText } from "../api/time.ts";
import { durationMs } from "../api/units.ts";
import { block, episodesOf, NO_POLICY, pass } from "./episode.ts";
import type { Gate, GateContext } from "./gate.ts";

/** Attempts without success of one policy on one workload, this episode's own included. */
export interface Strikes {
  /** Strikes inside `attempts.window` before now, since the last success. */
  readonly count: number;
  /** `attempts.max`. */
  readonly max: number;
  /** Whether the circuit is open: no further attempt. */
  readonly open: boolean;
  /** When it closes by itself (ms), while it is open. */
  readonly closesAt?: number;
  /** Whether strikes opened it, or an episode that was handed to a person, while it is open. */
  readonly by?: "Strikes" | "HandedOver";
}

/** When attempts that failed, and those that helped, ended (ms), as their records say; that a person closed the circuit counts as the latter. */
function results(context: GateContext): { failures: number[]; successes: number[]; handedOver: number[] } {
  const failures: number[] = [];
  const successes: number[] = [];
  const handedOver: number[] = [];
  for (const { status, metadata } of episodesOf(context).history) {
    const ended = status.phase === "Failed" || status.phase === "Escalated";
    for (const attempt of status.attempts) {
      const read = timeMs(attempt.endedAt ?? status.endedAt ?? attempt.startedAt);
      const at = Number.isNaN(read) ? context.now : read;
      if (attempt.outcome === "Effective") successes.push(at);
      else if (attempt.outcome === "Ineffective" || attempt.outcome === "Failed") failures.push(at);
      // An attempt that was cut off and given up on was no success.
      else if (attempt.outcome === undefined && ended) failures.push(at);
    }
    if (status.phase === "Escalated" && status.attempts.length > 0) handedOver.push(timeMs(status.endedAt ?? "") || context.now);
    // A person has looked at it: from then on it is as if it had helped.
    for (const { metadata: closed, spec } of context.approvals)
      if (spec.decision === "CircuitClosed" && spec.remediation === metadata.name && closed.namespace === metadata.namespace)
        successes.push(timeMs(spec.at));
    if (status.outcome === "Remediated" && status.endedAt !== undefined) successes.push(timeMs(status.endedAt));
  }
  return { failures, successes, handedOver };
}

/**
 * Counts strikes. The circuit opens at a strike that makes `attempts.max` within `attempts.window` since the last success,
 * and closes `attempts.reset` (default: the window) after the last such strike. An episode that was handed to a person
 * after it had acted opens it by itself: what a person was asked to look at is not tried again behind their back.
 *
 * A person closes it by a RemediationApproval with the decision `CircuitClosed` for any of its episodes; what failed before
 * that is forgiven. Times in the future (the clock was set back) are taken as now. A success in the future clears only strikes in the
 * future: which of the others came after it cannot be told.
 */
export function strikes(context: GateContext): Strikes {
  const attempts = context.policy?.spec.attempts;
  if (attempts === undefined) return { count: 0, max: 0, open: true };
  const { now } = context;
  const window = durationMs(attempts.window);
  const reset = durationMs(attempts.reset ?? attempts.window);
  const { failures, successes, handedOver } = results(context);
  const sinceSuccess = (all: readonly number[]): number[] =>
    all
      .filter((strike) => !successes.some((success) => strike <= success && (success <= now || strike > now)))
      .map((strike) => Math.min(strike, now))
      .sort((a, b) => a - b);
  const times = sinceSuccess(failures);
  /** How many lie in (end - window, end]. */
  const within = (end: number): number => times.filter((time) => time > end - window && time <= end).length;
  const stillOpen = (time: number): boolean => time + reset > now;
  const struck = times.filter((time) => within(time) >= attempts.max && stillOpen(time));
  const opened = [...struck, ...sinceSuccess(handedOver).filter(stillOpen)];
  const counted = { count: within(now), max: attempts.max };
  if (opened.length === 0) return { ...counted, open: false };
  return { ...counted, open: true, closesAt: Math.max(...opened) + reset, by: struck.length > 0 ? "Strikes" : "HandedOver" };
}

/** Blocks once what was tried has failed too often: a person is needed. */
export const circuitOpen: Gate = {
  name: "CircuitOpen",
  doc: "After `attempts.max` attempts without success inside `attempts.window` the circuit opens, and also when an episode was handed to a person after it had acted: a person is paged, once, and nothing is tried until `attempts.reset` has passed, or a person closes it (a RemediationApproval `CircuitClosed`).",
  onEveryStep: false,
  check(context) {
    const { policy } = context;
    if (policy === undefined) return NO_POLICY;
    const { count, max, open, closesAt, by } = strikes(context);
    if (!open) return pass(`${count} of ${max} attempts without success in the last ${policy.spec.attempts.window}`);
    const why =
      by === "Strikes" ? `${max} attempts without success within ${policy.spec.attempts.window}` : "an episode was handed to a person";
    return block(`${why}; the circuit closes at ${timeText(closesAt ?? NaN)}`, closesAt);
  },
};
