import type { StepDefinition } from "../step.ts";

/** Has the platform replace every replica in its own way. */
export const rolloutRestart: StepDefinition = {
  type: "rolloutRestart",
  destructive: true,
  precondition: ({ workload }) => {
    if (workload === undefined) return "the workload is gone";
    return workload.busy?.message;
  },
  effect: ({ step, remediation }) => ({ id: step.effectId, type: "RolloutRestart", workload: remediation.spec.workload }),
};

/** Goes back to the revision that was found when the step was planned. */
export const rollback: StepDefinition = {
  type: "rollback",
  destructive: true,
  precondition: ({ workload }) => (workload === undefined ? "the workload is gone" : undefined),
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "Rollback",
    workload: remediation.spec.workload,
    revision: String(step.params["revision"]),
  }),
};
