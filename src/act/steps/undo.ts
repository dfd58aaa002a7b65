import type { StepDefinition } from "../step.ts";

/** Puts the target back into traffic. */
export const restoreTraffic: StepDefinition = {
  type: "restoreTraffic",
  destructive: false,
  precondition: ({ replica }) => (replica === undefined ? "the replica is gone" : undefined),
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "RestoreTraffic",
    replica: step.target ?? remediation.spec.remediationTarget,
  }),
};

/** Takes away the replacement again, the target having stayed. */
export const removeReplacement: StepDefinition = {
  type: "removeReplacement",
  destructive: false,
  precondition: ({ replacement, replica }) => {
    if (replacement?.now === undefined && replica?.detached === undefined) return "the replacement is gone already";
    return replica === undefined ? "the replica that it was to replace is gone, so it stays in its place" : undefined;
  },
  effect: ({ step, replacement, remediation }) => ({
    id: step.effectId,
    type: "RemoveReplacement",
    ...(replacement === undefined ? {} : { replica: replacement.ref }),
    replaces: step.target ?? remediation.spec.remediationTarget,
  }),
};
