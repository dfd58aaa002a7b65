import type { StepParams } from "../../api/runbook.ts";
import type { StepDefinition } from "../step.ts";

/** Runs a command to its end. What it does is not known, so it counts as destructive. */
export const runJob: StepDefinition = {
  type: "runJob",
  destructive: true,
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "RunJob",
    workload: remediation.spec.workload,
    command: (step.params as StepParams<"runJob">).command,
  }),
};
