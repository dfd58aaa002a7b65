import type { StepParams } from "../../api/runbook.ts";
import { durationMs } from "../../api/units.ts";
import type { StepDefinition } from "../step.ts";

/** Stops the target as its disruption budgets allow, and leaves it to its owner to start another. */
export const evict: StepDefinition = {
  type: "evict",
  destructive: true,
  precondition: ({ replica }) => (replica === undefined ? "the replica is gone already" : undefined),
  effect: ({ step, remediation }) => {
    const { gracePeriod } = step.params as StepParams<"evict">;
    return {
      id: step.effectId,
      type: "Evict",
      replica: step.target ?? remediation.spec.remediationTarget,
      ...(gracePeriod === undefined ? {} : { gracePeriodMs: durationMs(gracePeriod) }),
    };
  },
};
