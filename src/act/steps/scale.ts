import type { StepDefinition } from "../step.ts";

/** Gives the workload the number of replicas that was worked out when the step was planned. */
export const scale: StepDefinition = {
  type: "scale",
  destructive: false,
  precondition: ({ workload }) => (workload === undefined ? "the workload is gone" : undefined),
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "Scale",
    workload: remediation.spec.workload,
    replicas: Number(step.params["replicas"]),
  }),
};
