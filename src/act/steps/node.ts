import { earlierStep, type StepContext, type StepDefinition } from "../step.ts";

const goneNode = ({ replica }: StepContext): string | undefined => (replica === undefined ? "the node is gone" : undefined);

/** Lets nothing new be started on the node. */
export const cordon: StepDefinition = {
  type: "cordon",
  destructive: false,
  precondition: goneNode,
  effect: ({ step, remediation }) => ({ id: step.effectId, type: "Cordon", replica: step.target ?? remediation.spec.remediationTarget }),
  // A node that was emptied because it is ill stays closed until it is well, and a person is told; one that could not be emptied
  // is opened again, and so is one that a person took from us: nobody is told of that.
  undo: ({ replica, attempt }) => {
    if (replica === undefined || attempt.steps.some((s) => s.type === "uncordon" && s.state === "Done")) return undefined;
    const emptied = attempt.steps.some((s) => s.type === "drain" && s.state === "Done");
    return emptied && !replica.ready && attempt.outcome !== "Cancelled" ? undefined : "uncordon";
  },
};

/** Moves what can be moved away from the node. */
export const drain: StepDefinition = {
  type: "drain",
  destructive: true,
  precondition: goneNode,
  effect: ({ step, remediation }) => ({ id: step.effectId, type: "Drain", replica: step.target ?? remediation.spec.remediationTarget }),
};

/** Waits until the node is well, or somebody has taken it away. */
export const awaitHealed: StepDefinition = {
  type: "awaitHealed",
  destructive: false,
  poll: ({ replica }) => {
    if (replica === undefined) return { state: "Done", message: "the node is gone" };
    return replica.ready
      ? { state: "Done", message: `${replica.ref.name} is ready` }
      : { state: "Waiting", message: `${replica.ref.name} is not ready` };
  },
  onTimeout: ({ replica, step }) => ({
    outcome: "Fail",
    message: `${replica?.ref.name ?? "the node"} is emptied, did not become ready within ${step.timeoutMs / 1000} s, and stays cordoned`,
  }),
};

/** Uses a node again that the attempt closed. */
export const uncordon: StepDefinition = {
  type: "uncordon",
  destructive: false,
  precondition: (context) => goneNode(context) ?? (earlierStep(context, "cordon") === undefined ? "it was not cordoned" : undefined),
  effect: (context) => ({
    id: context.step.effectId,
    type: "Uncordon",
    replica: context.step.target ?? context.remediation.spec.remediationTarget,
    of: earlierStep(context, "cordon")?.effectId ?? "",
  }),
};
