import type { StepParams } from "../../api/runbook.ts";
import { timeMs } from "../../api/time.ts";
import type { StepDefinition } from "../step.ts";

/** Asks the replica for an action that it serves. What it does is the application's, so it counts as destructive. */
export const invoke: StepDefinition = {
  type: "invoke",
  destructive: true,
  precondition: ({ replica }) => {
    if (replica === undefined) return "the replica is gone already";
    return replica.servesActions === true ? undefined : `${replica.ref.name} serves no actions`;
  },
  effect: ({ step, remediation, now }) => ({
    id: step.effectId,
    type: "InvokeAction",
    replica: step.target ?? remediation.spec.remediationTarget,
    action: (step.params as StepParams<"invoke">).action,
    intendedAt: step.intendedAt === undefined ? now : timeMs(step.intendedAt),
  }),
};
