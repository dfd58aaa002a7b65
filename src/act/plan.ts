import { NightshiftError } from "../api/errors.ts";
import type { TargetRef } from "../api/meta.ts";
import {
  OBJECT_CONDITIONS,
  SIGNAL_CONDITIONS,
  type ObjectCondition,
  type PolicySignal,
  type RemediationPolicy,
  type Rung,
} from "../api/policy.ts";
import type { Remediation, StepRecord } from "../api/remediation.ts";
import { DEFAULT_STEP_TIMEOUT_MS, type Runbook, type Step, type StepType, stepType } from "../api/runbook.ts";
import { expressionProblems } from "../api/signal-expression.ts";
import { timeMs } from "../api/time.ts";
import { durationMs, quantityBytes } from "../api/units.ts";
import type { EffectType, GitOpsField, Platform, Replica, Workload } from "../ports/platform.ts";
import { EFFECTS_OF, PER_REPLICA } from "./step-facts.ts";
import { STRATEGY_DEFINITIONS } from "./strategies/index.ts";
import type { PlannedStep } from "./strategies/strategy.ts";

/** Looks a runbook up by namespace and name. */
export type RunbookLookup = (namespace: string, name: string) => Runbook | undefined;

/** What is wrong with a signal's expressions: asked once for each signal, as it is asked for in every round. */
function problemsOf(signal: PolicySignal): ReturnType<typeof expressionProblems> {
  const known = problemsOfSignals.get(signal);
  if (known !== undefined) return known;
  const problems = expressionProblems(signal);
  problemsOfSignals.set(signal, problems);
  return problems;
}
const problemsOfSignals = new WeakMap<PolicySignal, ReturnType<typeof expressionProblems>>();

/** Steps that act on a node. */
const ON_NODES: ReadonlySet<StepType> = new Set(["cordon", "drain", "awaitHealed", "uncordon"]);
/** Steps that act on whatever it is. */
const ON_ANYTHING: ReadonlySet<StepType> = new Set(["notify", "wait"]);

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

/** The effects that a rung with a strategy needs. */
function needsOf(rung: Rung): readonly EffectType[] {
  return [
    ...(rung.strategy === undefined ? [] : STRATEGY_DEFINITIONS[rung.strategy].needs),
    ...(rung.captures.length > 0 ? (["Capture"] as const) : []),
    ...(rung.scale?.for === undefined ? [] : (["ScaleBack"] as const)),
  ];
}

/** Kinds of effect that a rung may have. None of a runbook that does not exist. */
export function effectsOf(rung: Rung, namespace: string, runbooks: RunbookLookup): ReadonlySet<EffectType> {
  if (rung.strategy !== undefined) return new Set(needsOf(rung));
  return new Set(runbooks(namespace, rung.runbook ?? "")?.spec.steps.flatMap((step) => EFFECTS_OF[stepType(step)]));
}

/**
 * What a policy needs and the platform cannot do or tell, one error each: asked when a policy is loaded, so that nobody
 * learns it at night. Codes: `SIGNAL_NOT_SUPPORTED`,
 * `INVALID_EXPRESSION`, `STRATEGY_NOT_SUPPORTED`, `STEP_NOT_SUPPORTED`, `UNKNOWN_RUNBOOK`.
 */
export function unsupported(
  policy: RemediationPolicy,
  runbooks: RunbookLookup,
  platform: Pick<Platform, "name" | "effects" | "reports">,
): NightshiftError[] {
  const errors: NightshiftError[] = [];
  policy.spec.signals.forEach((signal, index) => {
    const where = `RemediationPolicy ${policy.metadata.namespace}/${policy.metadata.name} spec.signals[${index}]`;
    for (const { path, line, column, message } of problemsOf(signal))
      errors.push(
        new NightshiftError("INVALID_EXPRESSION", `at ${line}:${column} of the expression: ${message}`, {
          where: `${where}.${path.join(".")}`,
        }),
      );
    const unknown = OBJECT_CONDITIONS.find((condition) => signal[condition] !== undefined && platform.reports?.has(condition) !== true);
    if (unknown === undefined) return;
    const offered = SIGNAL_CONDITIONS.filter(
      (condition) => !(OBJECT_CONDITIONS as readonly string[]).includes(condition) || platform.reports?.has(condition as ObjectCondition),
    );
    errors.push(
      new NightshiftError(
        "SIGNAL_NOT_SUPPORTED",
        `the condition ${unknown} of signal ${signal.name} is not reported on platform ${platform.name}`,
        {
          where,
          fix: `Use one of ${offered.join(", ")}.`,
        },
      ),
    );
  });
  policy.spec.ladder.forEach((rung, index) => {
    const where = `RemediationPolicy ${policy.metadata.namespace}/${policy.metadata.name} spec.ladder[${index}]`;
    if (rung.strategy !== undefined) {
      const needs = needsOf(rung);
      if (needs.some((effect) => !platform.effects.has(effect))) {
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
 * Throws a `NightshiftError` where there is nothing to do: `PLAN_IMPOSSIBLE`, `UNKNOWN_RUNBOOK`,
 * or `GITOPS_OWNED` where a GitOps tool would take it back.
 */
export function plan(request: PlanRequest): StepRecord[] {
  const { rung, workload, target } = request;
  const planned = plannedSteps(request);
  if (
    planned.some(({ step, target: own }) => own === undefined && PER_REPLICA.has(stepType(step))) &&
    workload.replicas.every((r) => r.ref.uid !== target.uid)
  )
    throw new NightshiftError("PLAN_IMPOSSIBLE", `${rungName(rung)} acts on one replica, and ${target.name} is none that is alive`);
  for (const { step } of planned) refuseMisplaced(stepType(step), rung, workload);
  return planned.map((entry, index) => record(entry, index, request));
}

function plannedSteps({ rung, workload, target, namespace, runbooks }: PlanRequest): readonly PlannedStep[] {
  if (rung.strategy !== undefined) {
    const steps = STRATEGY_DEFINITIONS[rung.strategy].plan({ rung, target, workload });
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
  const acted = own ?? current;
  const params = {
    ...step[type],
    ...workedOut(
      step,
      workload,
      workload.replicas.find((r) => r.ref.uid === acted.uid),
    ),
  };
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

/** A step for nodes on something else, one that nodes know nothing of, or one that its owner does not allow. */
function refuseMisplaced(type: StepType, rung: Rung, workload: Workload): void {
  const refuse = (why: string): NightshiftError => new NightshiftError("PLAN_IMPOSSIBLE", `${rungName(rung)}: step ${type} ${why}`);
  if (ON_ANYTHING.has(type)) return;
  const isPool = workload.ref.kind === "NodePool";
  if (ON_NODES.has(type) !== isPool)
    throw refuse(isPool ? "does not act on nodes" : `acts on nodes, and ${workload.ref.kind} ${workload.ref.name} is none`);
  if (type === "startReplacement" && workload.renewedBy === "Eviction")
    throw refuse(`starts one replica more, and ${workload.ref.kind} ${workload.ref.name} may not have one twice: evict it instead`);
}

/** What of a step's parameters is worked out from the world as it is when the step is planned. */
function workedOut(step: Step, workload: Workload, replica: Replica | undefined): Record<string, unknown> {
  const { ref, desired, maxReplicas, lastHealthy } = workload;
  if (step.scale !== undefined) {
    refuseOwned(workload, ["replicas"]);
    const most = Math.min(step.scale.max, maxReplicas?.count ?? Infinity);
    const replicas = Math.min(desired + step.scale.by, most);
    if (replicas > desired) return { replicas };
    const whose = most === step.scale.max ? "" : ` (${maxReplicas?.source ?? ""})`;
    throw new NightshiftError("PLAN_IMPOSSIBLE", `${ref.name} has ${desired} replicas, and ${most} is the most that is allowed${whose}`);
  }
  if (step.rollback !== undefined) {
    refuseOwned(workload, ["template", "resources"]);
    if (lastHealthy === undefined)
      throw new NightshiftError("PLAN_IMPOSSIBLE", `no earlier revision of ${ref.kind} ${ref.name} is known to have been healthy`);
    return { revision: lastHealthy.revision, why: lastHealthy.why };
  }
  if (step.resize !== undefined) {
    const { factor, by, max } = step.resize.memory;
    const limit = replica?.memory?.limitBytes;
    if (limit === undefined) throw new NightshiftError("PLAN_IMPOSSIBLE", `${replica?.ref.name ?? ref.name} has no memory limit to raise`);
    const wanted = by === undefined ? Math.ceil(limit * (factor ?? 1)) : limit + quantityBytes(by);
    // Whole MiB, as people write them.
    const memoryBytes = Math.min(Math.ceil(wanted / 2 ** 20) * 2 ** 20, quantityBytes(max));
    if (memoryBytes > limit) return { memoryBytes };
    throw new NightshiftError(
      "PLAN_IMPOSSIBLE",
      `${replica?.ref.name ?? ""} has a memory limit of ${limit} bytes, and ${max} is the most that is allowed`,
    );
  }
  return {};
}

/** Refuses what a GitOps tool would take back: it is not fought over. */
function refuseOwned({ ref, gitOps = [] }: Workload, fields: readonly GitOpsField[]): void {
  const owned = gitOps.find(({ field }) => fields.includes(field));
  if (owned === undefined) return;
  throw new NightshiftError(
    "GITOPS_OWNED",
    `${owned.path} of ${ref.kind} ${ref.name} is owned by ${owned.owner}, which would take a change back`,
    {
      fix: "Change it in Git, or leave the field out there.",
    },
  );
}

function stepTimeoutMs(step: Step, type: StepType): number {
  if (step.timeout !== undefined) return durationMs(step.timeout);
  // A stop takes as long as its grace period, and a wait as long as it says.
  if (step.stop !== undefined) return durationMs(step.stop.gracePeriod) + DEFAULT_STEP_TIMEOUT_MS.stop;
  if (step.evict?.gracePeriod !== undefined) return durationMs(step.evict.gracePeriod) + DEFAULT_STEP_TIMEOUT_MS.evict;
  if (step.wait !== undefined) return durationMs(step.wait.for) + 10_000;
  return DEFAULT_STEP_TIMEOUT_MS[type];
}

/**
 * The rung that is next in an episode; undefined where all were tried. The first is `favourite`, then the others follow in
 * their order.
 */
export function nextRung(ladder: readonly Rung[], attempts: readonly { readonly rung: number }[], favourite: number): number | undefined {
  if (attempts.length === 0) return favourite;
  const tried = new Set(attempts.map(({ rung }) => rung));
  const next = ladder.findIndex((_, i) => !tried.has(i));
  return next === -1 ? undefined : next;
}

/** The first rung of a ladder that rolls back; `0` where none does. */
export function rollbackRung(ladder: readonly Rung[], namespace: string, runbooks: RunbookLookup): number {
  return Math.max(
    0,
    ladder.findIndex((rung) => effectsOf(rung, namespace, runbooks).has("Rollback")),
  );
}

/**
 * Where an episode begins on its ladder: where the policy says so, with the rung that healed the same root cause under it
 * last, if the ladder still has it. `0` is the first rung.
 */
export function favouriteRung(
  policy: RemediationPolicy,
  ladder: readonly Rung[],
  rootCauseKey: string,
  remediations: readonly Remediation[],
): number {
  if (policy.spec.firstRung !== "WhatWorkedLast") return 0;
  let latest: { readonly at: number; readonly rung: number; readonly what: string } | undefined;
  for (const { metadata, spec, status } of remediations) {
    if (status.outcome !== "Remediated" || spec.diagnosis.rootCauseKey !== rootCauseKey) continue;
    if (spec.policy.name !== policy.metadata.name || metadata.namespace !== policy.metadata.namespace) continue;
    const helped = status.attempts.findLast(({ outcome }) => outcome === "Effective");
    const at = timeMs(status.endedAt ?? "");
    if (helped !== undefined && (latest === undefined || at > latest.at)) latest = { at, rung: helped.rung, what: helped.what };
  }
  const rung = latest === undefined ? undefined : ladder[latest.rung];
  return latest !== undefined && rung !== undefined && rungName(rung) === latest.what ? latest.rung : 0;
}
