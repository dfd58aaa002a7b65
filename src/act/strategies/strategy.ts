import type { Rung } from "../../api/policy.ts";
import type { Step } from "../../api/runbook.ts";
import type { TargetRef } from "../../api/meta.ts";
import type { EffectType, Workload } from "../../ports/platform.ts";

/** A step with the replica that it acts on, where it is not the episode's own target. */
export interface PlannedStep {
  readonly step: Step;
  readonly target?: TargetRef;
}

/** What a strategy plans from. */
export interface PlanContext {
  readonly rung: Rung;
  readonly target: TargetRef;
  readonly workload: Workload;
}

/** A ready-made list of steps. */
export interface StrategyDefinition {
  /** Effects that the platform must be able to carry out. */
  readonly needs: readonly EffectType[];
  /** Whether it acts on one replica; it is then refused for a target that is a workload. */
  readonly perReplica: boolean;
  /** The steps for the world as it is; a sentence where there is nothing that it could do. */
  plan(context: PlanContext): readonly PlannedStep[] | string;
}
