import type { StepParams } from "../../api/runbook.ts";
import type { StepDefinition } from "../step.ts";

/** Waits until the target has answered what it was asked. */
export const awaitInFlight: StepDefinition = {
  type: "awaitInFlight",
  destructive: false,
  poll: ({ replica }) => {
    if (replica === undefined) return { state: "Done", message: "the replica is gone" };
    if (replica.inFlight === undefined) return { state: "Waiting", message: "the number of requests in flight is not known" };
    return replica.inFlight === 0
      ? { state: "Done", message: "no request is in flight" }
      : { state: "Waiting", message: `${replica.inFlight} in flight` };
  },
  onTimeout: ({ step, replica }) => {
    const left = replica?.inFlight === undefined ? "an unknown number of requests" : `${replica.inFlight} requests`;
    return (step.params as StepParams<"awaitInFlight">).onTimeout === "Fail"
      ? { outcome: "Fail", message: `${left} still in flight after ${step.timeoutMs / 1000} s` }
      : { outcome: "Continue", message: `${left} still in flight after ${step.timeoutMs / 1000} s: the stop will cut them` };
  },
};
