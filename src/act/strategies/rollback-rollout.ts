import type { StrategyDefinition } from "./strategy.ts";

/** Goes back to the newest earlier revision that was healthy. Going forward again is for people: it is not done by itself. */
export const rollbackRollout: StrategyDefinition = {
  needs: ["Rollback"],
  perReplica: false,
  plan: ({ rung }) => [{ step: { rollback: {} } }, { step: { awaitAvailable: {}, timeout: rung.timeout } }],
};
