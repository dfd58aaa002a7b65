import { sameTarget } from "../../../api/meta.ts";
import type { Attempt, Remediation, StepRecord } from "../../../api/remediation.ts";
import type { RemediationPolicy } from "../../../api/policy.ts";
import { timeMs } from "../../../api/time.ts";
import { durationMs } from "../../../api/units.ts";
import type { EffectType } from "../../../ports/platform.ts";
import type { Mutation } from "../effect.ts";
import { EPOCH_MS } from "../simulation.ts";
import type { Truth } from "./rule.ts";

/** How long news of a change may be under way to an operator that hears of the API server (ms): the most that faults delay them, and some more. */
export const NEWS_MS = 30_000;

/** How long Alertmanager may be about to say that something is over (ms), on top of its group's interval: what faults delay it. */
const ALERT_NEWS_MS = 100_000;

/** How old what is heard of an alert may be (ms). */
export function alertNewsMs({ scenario }: Pick<Truth, "scenario">, { spec }: RemediationPolicy): number {
  return durationMs(spec.maxSignalAge) + scenario.monitoring.groupIntervalMs + ALERT_NEWS_MS;
}

/** For how long what a pod has said stands by itself (ms): a hint, or what it has logged; 0 for other signals. */
export function standsMs({ spec }: RemediationPolicy, signalName: string): number {
  const { hint, log } = spec.signals.find(({ name }) => name === signalName) ?? {};
  return Math.max(0, ...[hint?.activeFor, log?.window].map((time) => (time === undefined ? 0 : durationMs(time))));
}

/** The step that an effect belongs to, as it is stored. */
export interface StoredStep {
  readonly remediation: Remediation;
  readonly attempt: Attempt;
  readonly step: StepRecord;
  readonly undoes: boolean;
}

/** The step of a write, as the API server has it. An effect's id is `namespace/name/attempt/step`, and more for what takes one back. */
export function stepOf(truth: Pick<Truth, "api">, effectId: string): StoredStep | undefined {
  const [namespace = "", name = "", number = ""] = effectId.split("/");
  const remediation = truth.api.get("Remediation", namespace, name);
  const attempt = remediation?.status.attempts[Number(number)];
  if (remediation === undefined || attempt === undefined) return undefined;
  for (const [list, undoes] of [
    [attempt.steps, false],
    [attempt.undo, true],
  ] as const) {
    const step = list.find((each) => each.effectId === effectId);
    if (step !== undefined) return { remediation, attempt, step, undoes };
  }
  return undefined;
}

/** Writes that take something away or change it, and are not the taking back of another. */
const ACTS: ReadonlySet<string> = new Set([
  "cordon",
  "detach",
  "invoke",
  "removeFromTraffic",
  "delete",
  "scale",
  "rolloutRestart",
  "rollback",
  "resize",
  "resizeByRollout",
  "runJob",
  "markStopped",
  "markInvoked",
  "markResized",
]);

/** Effects that take back what another did. */
const TAKES_BACK: ReadonlySet<EffectType> = new Set(["RemoveReplacement", "RestoreTraffic", "ScaleBack", "ResizeBack"]);

/** Whether a write acts on the world, other than by putting back what was there. */
export function isAct({ verb, effect }: Mutation): boolean {
  return ACTS.has(verb) && !TAKES_BACK.has(effect.type);
}

/** Whether a write takes a pod out of service. */
export function takesDown(mutation: Mutation): boolean {
  return isAct(mutation) && (mutation.verb === "removeFromTraffic" || mutation.verb === "delete");
}

/** Whether a write is the first of its attempt. */
export function isFirstOfAttempt(truth: Pick<Truth, "mutations">, mutation: Mutation): boolean {
  const prefix = attemptOf(mutation.effect.id);
  return truth.mutations.every((other) => other === mutation || attemptOf(other.effect.id) !== prefix);
}

/** Episode and attempt of an effect: `namespace/name/attempt`. */
export function attemptOf(effectId: string): string {
  return effectId.split("/").slice(0, 3).join("/");
}

/** Whether an episode is over a whole workload. */
export function isWorkloadLevel({ spec }: Remediation): boolean {
  return sameTarget(spec.remediationTarget, spec.workload);
}

export function keyOf({ metadata }: { readonly metadata: { readonly namespace: string; readonly name: string } }): string {
  return `${metadata.namespace}/${metadata.name}`;
}

/** `namespace/name` of an episode's policy. */
export function policyKeyOf({ metadata, spec }: Remediation): string {
  return `${metadata.namespace}/${spec.policy.name}`;
}

/** How long a step has been under way, by the clock of who wrote it (ms). */
export function sinceIntent(step: Pick<StepRecord, "intendedAt">, wallMs: number): number {
  return step.intendedAt === undefined ? 0 : Math.max(0, wallMs - timeMs(step.intendedAt));
}

/**
 * Before which moment a change, of a kind where one is named, must have been known to who decided on a write (ms since the
 * epoch): news take their time, those that a watch has lost come with the next listing, and what was decided when the step
 * began stands for `longestMs` at most.
 */
export function knownBefore(
  truth: Pick<Truth, "now" | "scenario">,
  { viewAgeMs, wallMs }: Pick<Mutation, "viewAgeMs" | "wallMs">,
  step: Pick<StepRecord, "intendedAt">,
  { kind, longestMs = Infinity }: { readonly kind?: string; readonly longestMs?: number } = {},
): number {
  const { faults, startsAt = EPOCH_MS } = truth.scenario;
  const looked = truth.now - viewAgeMs - Math.min(longestMs, sinceIntent(step, wallMs));
  let known = looked - NEWS_MS;
  for (const { kind: what, at, for: lasts, what: of } of faults)
    if (
      what === "WatchDrops" &&
      (kind === undefined || of === undefined || of === kind) &&
      startsAt + at < known &&
      looked < startsAt + at + lasts + NEWS_MS
    )
      known = startsAt + at;
  return known;
}

/** Moments by key, each the newest or the first. */
export class Moments {
  readonly #at = new Map<string, number>();

  /** Something is so at `now`. */
  seen(key: string, now: number): void {
    this.#at.set(key, now);
  }

  /** Something holds, or does not: `since` tells from when on it has without a break. */
  holds(key: string, holds: boolean, now: number): void {
    if (!holds) this.#at.delete(key);
    else if (!this.#at.has(key)) this.#at.set(key, now);
  }

  since(key: string): number | undefined {
    return this.#at.get(key);
  }
}
