import type { Busy, Workload } from "../../ports/platform.ts";
import type { OwnerRecord } from "./records.ts";

/** A Deployment's ReplicaSets, newest revision first. */
export function byRevision(replicaSets: readonly OwnerRecord[]): OwnerRecord[] {
  return replicaSets.toSorted((a, b) => b.revision - a.revision || b.createdAt - a.createdAt);
}

/**
 * The rollout of a workload that is under way, in the words of its status. A missing or unready pod alone is none: a
 * rollout is when pods of another revision are to be replaced, or the controller has yet to look at a change.
 */
export function rolloutOf(owner: OwnerRecord, replicaSets: readonly OwnerRecord[]): Busy | undefined {
  const name = `${owner.kind} ${owner.namespace}/${owner.name}`;
  const busy = (message: string): Busy => ({ reason: "RolloutInProgress", message });
  if (owner.observedGeneration < owner.generation)
    return busy(`${name}: generation ${owner.generation} was not looked at yet (status.observedGeneration ${owner.observedGeneration})`);
  switch (owner.kind) {
    case "Deployment": {
      const [newest, ...older] = byRevision(replicaSets);
      if (newest === undefined) return undefined;
      const left = older.reduce((sum, set) => sum + Math.max(set.desired, set.replicas), 0);
      if (left === 0 && newest.desired >= owner.desired) return undefined;
      const how = owner.paused ? ", paused" : owner.stalled === undefined ? "" : `, stalled: ${owner.stalled}`;
      return busy(
        `${name}: rollout of revision ${newest.revision} in progress: ${owner.updated} of ${owner.desired} updated, ${left} of older revisions left${how}`,
      );
    }
    case "StatefulSet": {
      const wanted = Math.max(0, owner.desired - owner.partition);
      if (!owner.rolls || owner.currentRevision === owner.updateRevision || owner.updated >= wanted) return undefined;
      return busy(`${name}: rollout of ${owner.updateRevision ?? ""} in progress: ${owner.updated} of ${wanted} updated`);
    }
    case "DaemonSet":
      if (!owner.rolls || owner.updated >= owner.desired) return undefined;
      return busy(`${name}: rollout in progress: ${owner.updated} of ${owner.desired} updated`);
    case "ReplicaSet":
      return undefined;
  }
}

/**
 * How far the rollout of a workload is, where that can be known. Of a Deployment only that it is stuck, which its controller
 * says (`Progressing` is `False`). A StatefulSet's is under way until all pods of it are available, a DaemonSet's too. Nothing
 * is said of what its controller has not looked at yet.
 */
export function progressOf(owner: OwnerRecord): Workload["rollout"] {
  if (owner.observedGeneration < owner.generation || !owner.rolls) return undefined;
  const name = `${owner.kind} ${owner.namespace}/${owner.name}`;
  if (owner.kind === "Deployment") {
    const { stalled, stalledAt } = owner;
    if (stalled === undefined || stalledAt === undefined) return undefined;
    // Its deadline has not passed by that: the controller tries again.
    return { progressAt: stalledAt, ...(owner.unmade === true ? {} : { deadline: stalledAt }), message: `${name}: ${stalled}` };
  }
  const wanted = owner.kind === "StatefulSet" ? Math.max(0, owner.desired - owner.partition) : owner.desired;
  // The revisions of a StatefulSet stay apart for as long as a partition holds its rollout.
  const isUnderWay =
    owner.kind === "DaemonSet"
      ? owner.unfinished === true
      : owner.currentRevision !== owner.updateRevision && (owner.partition === 0 || owner.unfinished === true);
  if (owner.progressAt === undefined || !isUnderWay || (owner.updated >= wanted && owner.available >= owner.desired)) return undefined;
  const message = `${name}: ${owner.updated} of ${wanted} updated, ${owner.available} of ${owner.desired} available`;
  return { progressAt: owner.progressAt, message };
}
