import type { StepParams } from "../../api/runbook.ts";
import { earlierStep, type StepDefinition } from "../step.ts";

/** Gives the target the memory limit that was worked out when the step was planned. */
export const resize: StepDefinition = {
  type: "resize",
  destructive: false,
  precondition: ({ replica }) => (replica === undefined ? "the replica is gone" : undefined),
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "Resize",
    workload: remediation.spec.workload,
    replica: step.target ?? remediation.spec.remediationTarget,
    memoryBytes: Number(step.params["memoryBytes"]),
    rollout: (step.params as StepParams<"resize">).whenRefused === "Rollout",
  }),
  // Also where the replica is gone: its workload may have been given the limit instead.
  undo: ({ workload }) => (workload === undefined ? undefined : "resizeBack"),
};

/** Takes the limit back that the attempt's resize gave the target. */
export const resizeBack: StepDefinition = {
  type: "resizeBack",
  destructive: false,
  precondition: ({ workload }) => (workload === undefined ? "the workload is gone" : undefined),
  effect: (context) => ({
    id: context.step.effectId,
    type: "ResizeBack",
    workload: context.remediation.spec.workload,
    replica: context.step.target ?? context.remediation.spec.remediationTarget,
    of: earlierStep(context, "resize")?.effectId ?? "",
  }),
};
