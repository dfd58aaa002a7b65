import type { Step } from "../../api/runbook.ts";
import type { StrategyDefinition } from "./strategy.ts";

/** Stops the target and leaves it to its owner to start another: for replicas that may not exist twice. */
export const evictPod: StrategyDefinition = {
  needs: ["RemoveFromTraffic", "RestoreTraffic", "Stop"],
  perReplica: true,
  plan: ({ rung }) =>
    [
      { removeFromTraffic: {} },
      { awaitInFlight: { onTimeout: "Continue" as const } },
      ...rung.captures.map((capture): Step => ({ capture })),
      { stop: { gracePeriod: "10s", allowCapacityDrop: true } },
    ].map((step: Step) => ({ step })),
};
