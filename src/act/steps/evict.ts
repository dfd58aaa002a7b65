import type { StepParams } from "../../api/runbook.ts";
import { durationMs } from "../../api/units.ts";
import type { StepDefinition } from "../step.ts";

/** Stops the target as its disruption budgets allow, and leaves it to its owner to start another. */
export const evict: StepDefinition = {
  type: "evict",
  destructive: true,
  precondition: ({ replica }) => (replica === undefined ? "the replica is gone already" : undefined),
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "Evict",
    replica: step.target ?? remediation.spec.remediationTarget,
    gracePeriodMs: durationMs((step.params as StepParams<"evict">).gracePeriod),
  }),
};
