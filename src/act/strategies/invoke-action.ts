import type { StrategyDefinition } from "./strategy.ts";

/**
 * Asks the target for one action; every replica that serves actions where the target is the workload, one after the other.
 * Nothing leaves traffic. The step fails on a replica that serves none, and the ladder goes on.
 */
function invokes(action: string): StrategyDefinition {
  return {
    needs: ["InvokeAction"],
    perReplica: false,
    plan: ({ target, workload }) => {
      const step = { invoke: { action } };
      if (workload.replicas.some((replica) => replica.ref.uid === target.uid)) return [{ step }];
      const running = workload.replicas.filter((replica) => replica.phase === "Running");
      if (running.length === 0) return "the workload has no replica that runs";
      const serving = running.filter((replica) => replica.servesActions === true);
      // Where none serves them the step says so, and the ladder goes on.
      return (serving.length === 0 ? running : serving).map((replica) => ({ step, target: replica.ref }));
    },
  };
}

/** Has the application replace its connections (`pool-reset`), without a restart. */
export const resetConnectionPool = invokes("pool-reset");

/** Has the application empty its cache (`cache-flush`), without a restart. */
export const flushCache = invokes("cache-flush");
