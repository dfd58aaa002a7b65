import { durationMs } from "../../api/units.ts";
import type { StepParams } from "../../api/runbook.ts";
import type { StepDefinition } from "../step.ts";

/** Stops the target for good. */
export const stop: StepDefinition = {
  type: "stop",
  destructive: true,
  precondition: ({ step, replica, replacement }) => {
    if (replica === undefined) return "the replica is gone already";
    if ((step.params as StepParams<"stop">).allowCapacityDrop) return undefined;
    // Asked again here: the replacement may have fallen ill while the capture ran.
    if (replacement?.now?.ready !== true) return "there is no replacement that is ready: stopping it would drop capacity";
    return undefined;
  },
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "Stop",
    replica: step.target ?? remediation.spec.remediationTarget,
    gracePeriodMs: durationMs((step.params as StepParams<"stop">).gracePeriod),
  }),
};
