import type { Step } from "../../api/runbook.ts";
import type { StrategyDefinition } from "./strategy.ts";

/** Stops the target and leaves it to its owner to start another: for replicas that may not exist twice. */
export const evictPod: StrategyDefinition = {
  needs: ["RemoveFromTraffic", "RestoreTraffic", "Stop"],
  perReplica: true,
  plan: ({ rung, workload }) => {
    const captures = rung.captures.map((capture): Step => ({ capture }));
    const steps: Step[] =
      workload.renewedBy === undefined
        ? [
            { removeFromTraffic: {} },
            { awaitInFlight: { onTimeout: "Continue" as const } },
            ...captures,
            { stop: { gracePeriod: "10s", allowCapacityDrop: true } },
          ]
        : // Its eviction takes it out of traffic first, and keeps to the platform's own budgets.
          [...captures, { evict: {} }];
    return steps.map((step) => ({ step }));
  },
};
