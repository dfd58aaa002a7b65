import { renewSteps, restartPod } from "./restart-pod.ts";
import type { PlannedStep, StrategyDefinition } from "./strategy.ts";

/**
 * Replaces every replica that the workload has now. Where the platform can roll out by itself, and there is nothing to
 * capture from each, that does it: it keeps the workload's own limits, and goes on without Nightshift. Else one after the other.
 */
export const rollingRestart: StrategyDefinition = {
  needs: restartPod.needs,
  perReplica: false,
  plan: ({ rung, workload }) => {
    const replicas = workload.replicas.filter((replica) => replica.phase === "Starting" || replica.phase === "Running");
    if (replicas.length === 0) return "the workload has no replica";
    if (workload.rollsOut && rung.captures.length === 0)
      return [{ step: { rolloutRestart: {} } }, { step: { awaitAvailable: {}, timeout: rung.timeout } }];
    return replicas.flatMap((replica): PlannedStep[] => [
      ...renewSteps(rung.captures, workload).map((step) => ({ step, target: replica.ref })),
      // Without replacements the next one may go only when the last one is back.
      ...(workload.renewedBy === "Eviction" ? [{ step: { awaitAvailable: {} } }] : []),
    ]);
  },
};
