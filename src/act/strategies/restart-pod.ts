import type { Rung } from "../../api/policy.ts";
import type { Step } from "../../api/runbook.ts";
import type { StrategyDefinition } from "./strategy.ts";

/** The steps that replace one replica without losing capacity: the replacement serves before the old one leaves. */
export function replaceSteps(captures: Rung["captures"]): Step[] {
  return [
    { startReplacement: {} },
    { awaitReady: {} },
    { removeFromTraffic: {} },
    { awaitInFlight: { onTimeout: "Continue" } },
    ...captures.map((capture): Step => ({ capture })),
    { stop: { gracePeriod: "10s", allowCapacityDrop: false } },
  ];
}

/** Replaces the target, its replacement first. */
export const restartPod: StrategyDefinition = {
  needs: ["StartReplacement", "RemoveReplacement", "RemoveFromTraffic", "RestoreTraffic", "Stop"],
  perReplica: true,
  plan: ({ rung }) => replaceSteps(rung.captures).map((step) => ({ step })),
};
