import type { StrategyDefinition } from "./strategy.ts";

/** Gives the workload more replicas, up to a bound. */
export const scaleUp: StrategyDefinition = {
  needs: ["Scale"],
  perReplica: false,
  plan: ({ rung }) => (rung.scale === undefined ? "the rung has no scale" : [{ step: { scale: rung.scale } }]),
};
