import type { StepDefinition } from "../step.ts";

/** Sends the target no new requests. */
export const removeFromTraffic: StepDefinition = {
  type: "removeFromTraffic",
  destructive: false,
  precondition: ({ replica, replacement }) => {
    if (replica === undefined) return "the replica is gone";
    if (replacement !== undefined && replacement.now?.ready !== true) return `the replacement ${replacement.ref.name} is no longer ready`;
    return undefined;
  },
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "RemoveFromTraffic",
    replica: step.target ?? remediation.spec.remediationTarget,
  }),
  undo: ({ replica }) => (replica === undefined ? undefined : "restoreTraffic"),
};
