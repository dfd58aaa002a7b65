import type { StepParams } from "../../api/runbook.ts";
import type { StepDefinition } from "../step.ts";

/** Saves evidence that a stop would destroy. A required one that fails ends the attempt (design rule S8). */
export const capture: StepDefinition = {
  type: "capture",
  destructive: false,
  precondition: ({ replica }) => (replica === undefined ? "the replica is gone, and its memory with it" : undefined),
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "Capture",
    replica: step.target ?? remediation.spec.remediationTarget,
    capture: step.params as StepParams<"capture">,
  }),
  optional: (step) => !(step.params as StepParams<"capture">).required,
};
