import { block, episodesOf, isOlder, modeOf, nameOf, pass, sameForLock } from "./episode.ts";
import type { Gate } from "./gate.ts";

/**
 * Blocks while another episode is live on the same target, root cause or workload. One that is itself blocked counts only
 * if it is older: of two that wait for each other exactly one goes on. An episode of a dry run never blocks a real one.
 * Blocks also while somebody else is at it: a rollout, an emptying of the node. A rollback is the cure of a rollout that
 * hangs, so that one does not wait for it.
 */
export const inProgress: Gate = {
  name: "InProgress",
  doc: "One live remediation a target, a root cause and a workload, and none while a rollout or the emptying of a node is under way there: two cures at once are a fault of their own.",
  onEveryStep: false,
  check(context) {
    const { diagnosis, workload, replica, effects } = context;
    const busy = [workload?.busy, replica?.busy].find(
      (each) => each !== undefined && !(each.reason === "RolloutInProgress" && effects?.has("Rollback")),
    );
    if (busy !== undefined) return block(busy.message);
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
    return pass("no other remediation is under way here");
  },
};
