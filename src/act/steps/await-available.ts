import type { StepDefinition } from "../step.ts";

/** Waits until the workload is whole again. */
export const awaitAvailable: StepDefinition = {
  type: "awaitAvailable",
  destructive: false,
  poll: ({ workload }) => {
    if (workload === undefined) return { state: "Failed", message: "the workload is gone" };
    if (workload.busy !== undefined) return { state: "Waiting", message: workload.busy.message };
    const serving = workload.replicas.filter((replica) => replica.phase === "Running" && replica.ready && replica.inTraffic).length;
    const message = `${serving} of ${workload.desired} replicas are ready`;
    return { state: serving < workload.desired ? "Waiting" : "Done", message };
  },
};
