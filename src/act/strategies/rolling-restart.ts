import { replaceSteps, restartPod } from "./restart-pod.ts";
import type { StrategyDefinition } from "./strategy.ts";

/** Replaces every replica that the workload has now, one after the other. */
export const rollingRestart: StrategyDefinition = {
  needs: restartPod.needs,
  perReplica: false,
  plan: ({ rung, workload }) => {
    const replicas = workload.replicas.filter((replica) => replica.phase === "Starting" || replica.phase === "Running");
    if (replicas.length === 0) return "the workload has no replica";
    return replicas.flatMap((replica) => replaceSteps(rung.captures).map((step) => ({ step, target: replica.ref })));
  },
};
