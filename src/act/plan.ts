import { NightshiftError } from "../api/errors.ts";
import type { TargetRef } from "../api/meta.ts";
import type { RemediationPolicy, Rung } from "../api/policy.ts";
import type { StepRecord } from "../api/remediation.ts";
import { DEFAULT_STEP_TIMEOUT_MS, type Runbook, type Step, type StepType, stepType } from "../api/runbook.ts";
import { durationMs } from "../api/units.ts";
import type { EffectType, Platform, Workload } from "../ports/platform.ts";
import { STRATEGY_DEFINITIONS } from "./strategies/index.ts";
import type { PlannedStep } from "./strategies/strategy.ts";

/** Looks a runbook up by namespace and name. */
export type RunbookLookup = (namespace: string, name: string) => Runbook | undefined;

const EFFECTS_OF: Readonly<Record<StepType, readonly EffectType[]>> = {
  startReplacement: ["StartReplacement", "RemoveReplacement"],
  awaitReady: [],
  removeFromTraffic: ["RemoveFromTraffic", "RestoreTraffic"],
  awaitInFlight: [],
  capture: ["Capture"],
  stop: ["Stop"],
  scale: ["Scale"],
  runJob: ["RunJob"],
  notify: [],
  wait: [],
};

/** Steps that act on a replica, so that a target that is a workload does not suffice. */
const PER_REPLICA: ReadonlySet<StepType> = new Set([
  "startReplacement",
  "awaitReady",
  "removeFromTraffic",
  "awaitInFlight",
  "capture",
  "stop",
]);

/** What a rung is called in records: its strategy or runbook. */
export function rungName(rung: Rung): string {
  return rung.strategy ?? rung.runbook ?? "";
}

/** Whether a rung acts on one replica. */
export function needsReplica(rung: Rung, namespace: string, runbooks: RunbookLookup): boolean {
  if (rung.strategy !== undefined) return STRATEGY_DEFINITIONS[rung.strategy]?.perReplica ?? false;
  const runbook = runbooks(namespace, rung.runbook ?? "");
  return runbook?.spec.steps.some((step) => PER_REPLICA.has(stepType(step))) ?? false;
}

/** Kinds of effect that a rung may have. None of a runbook that does not exist. */
export function effectsOf(rung: Rung, namespace: string, runbooks: RunbookLookup): ReadonlySet<EffectType> {
  if (rung.strategy !== undefined) return new Set(STRATEGY_DEFINITIONS[rung.strategy]?.needs);
  return new Set(runbooks(namespace, rung.runbook ?? "")?.spec.steps.flatMap((step) => EFFECTS_OF[stepType(step)]));
}

/**
 * What a policy needs and the platform cannot do, one error each: asked when a policy is loaded, so that nobody learns
 * it at night. Codes: `STRATEGY_NOT_SUPPORTED`, `STEP_NOT_SUPPORTED`, `UNKNOWN_RUNBOOK`.
 */
export function unsupported(
  policy: RemediationPolicy,
  runbooks: RunbookLookup,
  platform: Pick<Platform, "name" | "effects">,
): NightshiftError[] {
  const errors: NightshiftError[] = [];
  policy.spec.ladder.forEach((rung, index) => {
    const where = `RemediationPolicy ${policy.metadata.namespace}/${policy.metadata.name} spec.ladder[${index}]`;
    if (rung.strategy !== undefined) {
      const definition = STRATEGY_DEFINITIONS[rung.strategy];
      const needs = [...(definition?.needs ?? []), ...(rung.captures.length > 0 ? (["Capture"] as const) : [])];
      if (definition === undefined || needs.some((effect) => !platform.effects.has(effect))) {
        const offered = Object.entries(STRATEGY_DEFINITIONS)
          .filter(([, d]) => d.needs.every((effect) => platform.effects.has(effect)))
          .map(([name]) => name);
        errors.push(
          new NightshiftError("STRATEGY_NOT_SUPPORTED", `strategy ${rung.strategy} cannot be carried out on platform ${platform.name}`, {
            where,
            fix: `Use one of ${offered.join(", ")}, or a runbook.`,
          }),
        );
      }
      return;
    }
    const runbook = runbooks(policy.metadata.namespace, rung.runbook ?? "");
    if (runbook === undefined) {
      errors.push(
        new NightshiftError("UNKNOWN_RUNBOOK", `there is no Runbook ${policy.metadata.namespace}/${rung.runbook ?? ""}`, {
          where,
          fix: "Add the Runbook to the same namespace, or correct the name.",
        }),
      );
      return;
    }
    for (const step of runbook.spec.steps) {
      const type = stepType(step);
      if (EFFECTS_OF[type].some((effect) => !platform.effects.has(effect)))
        errors.push(
          new NightshiftError(
            "STEP_NOT_SUPPORTED",
            `step ${type} of Runbook ${runbook.metadata.name} cannot be carried out on platform ${platform.name}`,
            {
              where,
            },
          ),
        );
    }
  });
  return errors;
}

/** What a plan is made from. */
export interface PlanRequest {
  readonly rung: Rung;
  /** Prefix of the effects' ids: names the episode and the attempt. */
  readonly idPrefix: string;
  readonly target: TargetRef;
  /** The episode's own target, where that is another: steps then name theirs. */
  readonly episodeTarget: TargetRef;
  readonly workload: Workload;
  readonly namespace: string;
  readonly runbooks: RunbookLookup;
}

/**
 * The steps of one attempt, all `Pending`, for the world as it is now.
 * Throws a `NightshiftError` (`PLAN_IMPOSSIBLE`, `UNKNOWN_RUNBOOK`, `STRATEGY_NOT_SUPPORTED`) where there is nothing to do.
 */
export function plan(request: PlanRequest): StepRecord[] {
  const { rung, workload, target } = request;
  const planned = plannedSteps(request);
  if (
    planned.some(({ step, target: own }) => own === undefined && PER_REPLICA.has(stepType(step))) &&
    workload.replicas.every((r) => r.ref.uid !== target.uid)
  )
    throw new NightshiftError("PLAN_IMPOSSIBLE", `${rungName(rung)} acts on one replica, and ${target.name} is none that is alive`);
  return planned.map((entry, index) => record(entry, index, request));
}

function plannedSteps({ rung, workload, target, namespace, runbooks }: PlanRequest): readonly PlannedStep[] {
  if (rung.strategy !== undefined) {
    const definition = STRATEGY_DEFINITIONS[rung.strategy];
    if (definition === undefined) throw new NightshiftError("STRATEGY_NOT_SUPPORTED", `strategy ${rung.strategy} cannot be carried out`);
    const steps = definition.plan({ rung, target, workload });
    if (typeof steps === "string") throw new NightshiftError("PLAN_IMPOSSIBLE", steps);
    return steps;
  }
  const runbook = runbooks(namespace, rung.runbook ?? "");
  if (runbook === undefined) throw new NightshiftError("UNKNOWN_RUNBOOK", `there is no Runbook ${namespace}/${rung.runbook ?? ""}`);
  return runbook.spec.steps.map((step) => ({ step }));
}

function record(
  { step, target: own }: PlannedStep,
  index: number,
  { idPrefix, workload, target: current, episodeTarget }: PlanRequest,
): StepRecord {
  const type = stepType(step);
  const target = own ?? (current.uid === episodeTarget.uid ? undefined : current);
  const params: Record<string, unknown> = { ...step[type] };
  if (step.scale !== undefined) {
    const replicas = Math.min(workload.desired + step.scale.by, step.scale.max);
    if (replicas <= workload.desired)
      throw new NightshiftError(
        "PLAN_IMPOSSIBLE",
        `${workload.ref.name} has ${workload.desired} replicas, and ${step.scale.max} is the most that is allowed`,
      );
    params["replicas"] = replicas;
  }
  return {
    name: step.name ?? type,
    type,
    params,
    ...(target === undefined ? {} : { target }),
    timeoutMs: stepTimeoutMs(step, type),
    state: "Pending",
    effectId: `${idPrefix}/${index}`,
  };
}

function stepTimeoutMs(step: Step, type: StepType): number {
  if (step.timeout !== undefined) return durationMs(step.timeout);
  // A stop takes as long as its grace period, and a wait as long as it says.
  if (step.stop !== undefined) return durationMs(step.stop.gracePeriod) + DEFAULT_STEP_TIMEOUT_MS.stop;
  if (step.wait !== undefined) return durationMs(step.wait.for) + 10_000;
  return DEFAULT_STEP_TIMEOUT_MS[type];
}
