import type { StepDefinition } from "../step.ts";

/** Waits until the replacement is ready. */
export const awaitReady: StepDefinition = {
  type: "awaitReady",
  destructive: false,
  poll: ({ replacement }) => {
    if (replacement === undefined) return { state: "Failed", message: "no replacement was started" };
    if (replacement.now === undefined) return { state: "Failed", message: `the replacement ${replacement.ref.name} is gone` };
    return replacement.now.ready
      ? { state: "Done", message: `${replacement.ref.name} is ready` }
      : { state: "Waiting", message: `waiting for ${replacement.ref.name} to become ready` };
  },
  onTimeout: ({ replacement, step }) => ({
    outcome: "Fail",
    message: `the replacement ${replacement?.ref.name ?? ""} did not become ready within ${step.timeoutMs / 1000} s`,
  }),
};
