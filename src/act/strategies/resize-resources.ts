import type { StrategyDefinition } from "./strategy.ts";

/** Gives the target more memory, up to a bound; every replica where the target is the workload. */
export const resizeResources: StrategyDefinition = {
  needs: ["Resize", "ResizeBack"],
  perReplica: false,
  plan: ({ rung, target, workload }) => {
    const { resize } = rung;
    if (resize === undefined) return "the rung has no resize";
    const running = workload.replicas.filter((replica) => replica.phase === "Running");
    const one = running.find((replica) => replica.ref.uid === target.uid);
    if (one !== undefined) return [{ step: { resize } }];
    if (running.length === 0) return "the workload has no replica that runs";
    return running.map((replica) => ({ step: { resize }, target: replica.ref }));
  },
};
