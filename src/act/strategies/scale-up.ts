import type { StrategyDefinition } from "./strategy.ts";

/** Gives the workload more replicas, up to a bound; for a time, where the rung says so. */
export const scaleUp: StrategyDefinition = {
  needs: ["Scale"],
  perReplica: false,
  plan: ({ rung }) => {
    if (rung.scale === undefined) return "the rung has no scale";
    const { for: time, ...scale } = rung.scale;
    return [{ step: { scale } }, ...(time === undefined ? [] : [{ step: { wait: { for: time } } }, { step: { scaleBack: {} } }])];
  },
};
