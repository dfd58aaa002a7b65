import type { StepDefinition } from "../step.ts";

/** Brings up one replica more, which takes the target's place; the target still serves. */
export const startReplacement: StepDefinition = {
  type: "startReplacement",
  destructive: false,
  precondition: ({ replica }) => (replica === undefined ? "the replica to replace is gone" : undefined),
  effect: ({ step, remediation }) => ({
    id: step.effectId,
    type: "StartReplacement",
    workload: remediation.spec.workload,
    replaces: step.target ?? remediation.spec.remediationTarget,
  }),
  // Where the target is gone, the replacement has its place and must stay. Where its owner may have let the target go, it is
  // put back also if no replacement was seen: what is seen may be older than what was done.
  undo: ({ replica, replacement }) =>
    replica !== undefined && (replacement?.now !== undefined || replica.detached !== undefined) ? "removeReplacement" : undefined,
};
