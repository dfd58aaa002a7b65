import { block, episodesOf, isOlder, modeOf, nameOf, pass, sameForLock } from "./episode.ts";
import type { Busy } from "../ports/platform.ts";
import type { Gate, GateContext } from "./gate.ts";

/** What somebody else is doing to the target, if that stands against the action. A rollback does not wait for what it is the cure of. */
function busyWith({ workload, replica, effects }: GateContext): Busy | undefined {
  return [workload?.busy, replica?.busy].find(
    (each) => each !== undefined && !(each.reason === "RolloutInProgress" && effects?.has("Rollback")),
  );
}

/**
 * Whether an answer of this gate is about somebody else than Nightshift: no other episode will see to the fault then.
 */
export function isOthersWork(message: string, { workload, replica }: Pick<GateContext, "workload" | "replica">): boolean {
  return message === workload?.busy?.message || message === replica?.busy?.message;
}

/**
 * Blocks while another episode is live on the same target, root cause or workload. One that is itself blocked counts only
 * if it is older: of two that wait for each other exactly one goes on. An episode of a dry run never blocks a real one.
 * Blocks also while somebody else is at it: a rollout, an emptying of the node.
 */
export const inProgress: Gate = {
  name: "InProgress",
  doc: "One live remediation a target, a root cause and a workload, and none while a rollout or the emptying of a node is under way there: two cures at once are a fault of their own.",
  onEveryStep: false,
  check(context) {
    const { diagnosis } = context;
    const { self, live } = episodesOf(context);
    const dryRun = modeOf(context) === "Observe";
    for (const other of live) {
      if (other.spec.mode === "Observe" && !dryRun) continue;
      if (other.status.phase === "Blocked" && !isOlder(other, self)) continue;
      const shared = sameForLock(other.spec.remediationTarget, diagnosis.remediationTarget)
        ? "target"
        : other.spec.diagnosis.rootCauseKey === diagnosis.rootCauseKey
          ? "root cause"
          : sameForLock(other.spec.workload, diagnosis.workload)
            ? "workload"
            : undefined;
      if (shared !== undefined) return block(`remediation ${nameOf(other)} is ${other.status.phase} on the same ${shared}`);
    }
    const busy = busyWith(context);
    return busy === undefined ? pass("no other remediation is under way here") : block(busy.message);
  },
};
