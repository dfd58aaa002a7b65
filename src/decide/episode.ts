import type { RemediationBudget } from "../api/budget.ts";
import { sameTarget, type TargetRef } from "../api/meta.ts";
import { MODES, type Mode } from "../api/policy.ts";
import { isTerminal, type Remediation } from "../api/remediation.ts";
import { timeMs } from "../api/time.ts";
import type { GateContext, Verdict } from "./gate.ts";

// What several gates ask of the episodes that exist.

export const pass = (message: string): Verdict => ({ verdict: "Pass", message });

export const block = (message: string, until?: number): Verdict => ({
  verdict: "Block",
  message,
  ...(until === undefined ? {} : { until }),
});

/** Every gate that needs the policy says this without one: what is not known is not permitted. */
export const NO_POLICY: Verdict = block("the policy was deleted, so there is nothing to go by");

/** `namespace/name`. */
export function nameOf(object: { readonly metadata: { readonly namespace: string; readonly name: string } }): string {
  return `${object.metadata.namespace}/${object.metadata.name}`;
}

/** The episodes that exist, sorted by what the gates ask of them. */
interface Episodes {
  /** The episode that is being decided; undefined while it is not stored yet. */
  readonly self: Remediation | undefined;
  /** The others that are not over, of any policy. */
  readonly live: readonly Remediation[];
  /** The episodes of this policy on this workload, this one included: what cooldown and strikes are counted over. */
  readonly history: readonly Remediation[];
  /** The episodes that stand for a storm, or did. */
  readonly storms: readonly Remediation[];
}

// One walk for all gates: with ten thousand episodes, walking once a gate is what a decision would spend its time on.
const sorted = new WeakMap<GateContext, Episodes>();

export function episodesOf(context: GateContext): Episodes {
  const known = sorted.get(context);
  if (known !== undefined) return known;
  const { policy, diagnosis } = context;
  let self: Remediation | undefined;
  const live: Remediation[] = [];
  const history: Remediation[] = [];
  const storms: Remediation[] = [];
  for (const remediation of context.remediations) {
    const { name, namespace } = remediation.metadata;
    if (name === context.self?.name && namespace === context.self.namespace) self = remediation;
    else if (!isTerminal(remediation)) live.push(remediation);
    if (remediation.status.storm !== undefined) storms.push(remediation);
    if (
      policy !== undefined &&
      // By name, not by uid: deleting a policy and creating it again does not forgive its strikes.
      remediation.spec.policy.name === policy.metadata.name &&
      namespace === policy.metadata.namespace &&
      sameForLock(remediation.spec.workload, diagnosis.workload)
    )
      history.push(remediation);
  }
  const episodes = { self, live, history, storms };
  sorted.set(context, episodes);
  return episodes;
}

/** When an episode began to exist (ms). */
export function createdAt(remediation: Remediation): number {
  return timeMs(remediation.metadata.creationTimestamp ?? remediation.spec.startedAt);
}

/** From when on an answer has its time (ms): since it was asked for, or since the episode began to exist. */
export function answerFrom(remediation: Remediation): number {
  const asked = timeMs(remediation.status.question?.askedAt ?? "");
  return Number.isNaN(asked) ? createdAt(remediation) : asked;
}

/**
 * Whether `a` came before `b`: by creation, then by name, so that of any two exactly one did. `b` may be an episode that
 * is not stored yet; everything came before that.
 */
export function isOlder(a: Remediation, b: Remediation | undefined): boolean {
  if (b === undefined) return true;
  const [at, bt] = [createdAt(a), createdAt(b)];
  return at === bt ? nameOf(a) < nameOf(b) : at < bt;
}

/**
 * Whether two references mean the same target in the sense of a lock: by identity, and also by name, so that something
 * that was made anew under its old name is not treated as a stranger.
 */
export function sameForLock(a: TargetRef, b: TargetRef): boolean {
  return sameTarget(a, b) || (a.name === b.name && a.namespace === b.namespace && a.kind === b.kind);
}

/**
 * How far this episode may go: what the policy says now, but never further than it said when the episode began. An
 * episode of a dry run holds no lock against real ones, so it can never become one.
 */
export function modeOf(context: GateContext): Mode {
  const now = context.policy?.spec.mode ?? "Observe";
  const then = episodesOf(context).self?.spec.mode ?? now;
  return MODES.indexOf(then) < MODES.indexOf(now) ? then : now;
}

/** The platform team's budgets that cover the workload. */
export function coveringBudgets(context: GateContext): readonly RemediationBudget[] {
  return context.budgets.filter(
    (budget) => budget.spec.namespaces === undefined || budget.spec.namespaces.includes(context.diagnosis.workload.namespace),
  );
}

/** Whether the action is on the workload as a whole, not on one of its replicas. */
export function isWorkloadLevel(context: GateContext): boolean {
  return context.replica === undefined && sameForLock(context.diagnosis.remediationTarget, context.diagnosis.workload);
}
