import type { StepDefinition } from "../step.ts";

/** Sends the target no new requests. */
export const removeFromTraffic: StepDefinition = {
  type: "removeFromTraffic",
  destructive: false,
  precondition: ({ replica, replacement }) => {
    if (replica === undefined) return "the replica is gone";
    if (replacement !== undefined && replacement.now === undefined) return `the replacement ${replacement.ref.name} is gone`;
    return undefined;
  },
  // The replica still serves. After an outage of the control plane, all of a node's pods are taken for unready for a while.
  awaits: ({ replacement }) =>
    replacement?.now?.ready === false ? `the replacement ${replacement.ref.name} is no longer ready` : undefined,
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "RemoveFromTraffic",
    replica: step.target ?? remediation.spec.remediationTarget,
  }),
  undo: ({ replica }) => (replica === undefined ? undefined : "restoreTraffic"),
};
