import type { StrategyDefinition } from "./strategy.ts";

/** Tells the receivers, and does nothing else. */
export const notifyStrategy: StrategyDefinition = {
  needs: [],
  perReplica: false,
  plan: ({ rung, workload }) => [{ step: { notify: { message: rung.message ?? `${workload.ref.name} needs attention` } } }],
};
