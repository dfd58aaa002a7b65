import type { Rung } from "../../api/policy.ts";
import type { Step } from "../../api/runbook.ts";
import type { Workload } from "../../ports/platform.ts";
import type { StrategyDefinition } from "./strategy.ts";

/** The steps that renew one replica in the way that its workload allows. */
export function renewSteps(captures: Rung["captures"], workload: Workload): Step[] {
  const captureSteps = captures.map((capture): Step => ({ capture }));
  // What may not exist twice goes before its successor comes, as its budgets allow.
  if (workload.renewedBy === "Eviction") return [...captureSteps, { evict: {} }];
  return [
    { startReplacement: {} },
    // A pod may have to wait for a node and for its image; the rung's own time bounds it.
    workload.renewedBy === undefined ? { awaitReady: {} } : { awaitReady: {}, timeout: "10m" },
    { removeFromTraffic: {} },
    { awaitInFlight: { onTimeout: "Continue" } },
    ...captureSteps,
    { stop: { gracePeriod: "10s", allowCapacityDrop: false } },
  ];
}

/** Renews the target, its replacement first where it may exist twice: the replacement serves before the old one leaves. */
export const restartPod: StrategyDefinition = {
  needs: ["StartReplacement", "RemoveReplacement", "RemoveFromTraffic", "RestoreTraffic", "Stop"],
  perReplica: true,
  plan: ({ rung, workload }) => renewSteps(rung.captures, workload).map((step) => ({ step })),
};
