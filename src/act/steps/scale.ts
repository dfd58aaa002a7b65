import { earlierStep, type StepDefinition } from "../step.ts";

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
  undo: ({ workload, attempt }) =>
    workload === undefined || attempt.steps.some((s) => s.type === "scaleBack" && s.state === "Done") ? undefined : "scaleBack",
};

/** Takes the replicas of the attempt's scale back. */
export const scaleBack: StepDefinition = {
  type: "scaleBack",
  destructive: false,
  precondition: (context) => {
    if (context.workload === undefined) return "the workload is gone";
    return earlierStep(context, "scale") === undefined ? "no replicas were added" : undefined;
  },
  effect: (context) => ({
    id: context.step.effectId,
    type: "ScaleBack",
    workload: context.remediation.spec.workload,
    of: earlierStep(context, "scale")?.effectId ?? "",
  }),
};
