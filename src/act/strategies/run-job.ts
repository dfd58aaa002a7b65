import type { StrategyDefinition } from "./strategy.ts";

/** Runs the policy's own command. */
export const runJobStrategy: StrategyDefinition = {
  needs: ["RunJob"],
  perReplica: false,
  plan: ({ rung }) => (rung.command === undefined ? "the rung has no command" : [{ step: { runJob: { command: rung.command } } }]),
};
