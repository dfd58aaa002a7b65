import type { Strategy } from "../../api/policy.ts";
import { cordonAndDrainNode } from "./cordon-and-drain-node.ts";
import { evictPod } from "./evict-pod.ts";
import { flushCache, resetConnectionPool } from "./invoke-action.ts";
import { notifyStrategy } from "./notify.ts";
import { resizeResources } from "./resize-resources.ts";
import { restartPod } from "./restart-pod.ts";
import { rollbackRollout } from "./rollback-rollout.ts";
import { rollingRestart } from "./rolling-restart.ts";
import { runJobStrategy } from "./run-job.ts";
import { scaleUp } from "./scale-up.ts";
import type { StrategyDefinition } from "./strategy.ts";

/** The strategies, by name. */
export const STRATEGY_DEFINITIONS: Readonly<Record<Strategy, StrategyDefinition>> = {
  RestartPod: restartPod,
  RollingRestart: rollingRestart,
  ScaleUp: scaleUp,
  EvictPod: evictPod,
  RollbackRollout: rollbackRollout,
  ResizeResources: resizeResources,
  ResetConnectionPool: resetConnectionPool,
  FlushCache: flushCache,
  CordonAndDrainNode: cordonAndDrainNode,
  RunJob: runJobStrategy,
  Notify: notifyStrategy,
};
