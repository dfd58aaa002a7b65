import { targetKey } from "../api/meta.ts";
import { block, isWorkloadLevel, pass } from "./episode.ts";
import type { Gate } from "./gate.ts";

/**
 * Blocks when something that the decision rests on is not there. Asked only when an episode or a rung begins: the steps
 * themselves take replicas away, and each looks for its own target.
 */
export const noData: Gate = {
  name: "NoData",
  doc: "Missing data is never evidence: without the target, its workload, a metric that was looked for, or a view of the world that is up to date, nothing happens.",
  onEveryStep: false,
  check(context) {
    const { diagnosis, workload, replica, staleness } = context;
    if (staleness !== undefined) return block(staleness);
    if (diagnosis.missing.length > 0) return block(`missing: ${diagnosis.missing.join("; ")}`);
    if (workload === undefined) return block(`${targetKey(diagnosis.workload)} does not exist`);
    if (workload.replicas.length === 0) return block(`${targetKey(diagnosis.workload)} has no replicas that are known`);
    if (!isWorkloadLevel(context)) {
      if (replica === undefined) return block(`${targetKey(diagnosis.remediationTarget)} no longer exists`);
      // One that does not go away is what is to be cured then.
      const isStuck = diagnosis.cause === "StuckTerminating";
      if (!isStuck && (replica.phase === "Exited" || replica.phase === "Stopping"))
        return block(`${targetKey(replica.ref)} is ${replica.phase === "Exited" ? "gone" : "stopping"} already`);
    }
    return pass("everything that was looked for is there");
  },
};
