import { NightshiftError, messageOf } from "../api/errors.ts";
import type { TargetRef } from "../api/meta.ts";
import type { Artifact, Attempt, BlockReason, NoticeRecord, Remediation, StepRecord } from "../api/remediation.ts";
import { sameTarget } from "../api/meta.ts";
import { timeMs, timestamp } from "../api/time.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import type { Decision } from "../decide/gate.ts";
import type { Clock } from "../ports/clock.ts";
import type { Effect, EffectResult, EffectType, Platform, Replica, Workload } from "../ports/platform.ts";
import { storedAndRecorded } from "./stored.ts";
import { resultReplica, type StepContext, type StepDefinition } from "./step.ts";
import { EFFECTS_OF, PER_REPLICA } from "./step-facts.ts";
import { STEPS } from "./steps/index.ts";
import type { Stopwatches } from "./stopwatches.ts";

/** What the step machine needs of the loop. */
export interface MachineDeps {
  readonly platform: Platform;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** Stores the episode durably and returns it as stored. Rejects with `CONFLICT` when another writer was first. */
  save(remediation: Remediation): Promise<Remediation>;
  /** Puts on record, durably. */
  audit(type: "Intent" | "Result", remediation: Remediation, step: StepRecord, message: string): Promise<void>;
  /** Asks the gates that are asked before every step. */
  gates(remediation: Remediation): Decision;
  /** Observes how an effect ended: for metrics. */
  effectEnded(type: EffectType, result: "Applied" | "Failed" | "Unknown"): void;
  /** Aborts when Nightshift stops. */
  readonly stopping: AbortSignal;
  readonly stopwatches: Stopwatches;
}

/** Where an attempt stands after a call of `advance`. */
export type Progress =
  /** There is more to do at once. */
  | { readonly next: "Again"; readonly remediation: Remediation }
  /** Look again in `ms`, or when the platform reports a change. */
  | { readonly next: "Wait"; readonly ms: number; readonly remediation: Remediation; readonly message: string }
  /** Every step is done: verify. */
  | { readonly next: "Verify"; readonly remediation: Remediation }
  /** The attempt is over, and what could be undone has been. `undone` is false where an undo step failed. */
  | { readonly next: "Ended"; readonly remediation: Remediation; readonly undone: boolean }
  /** The target is gone, and nothing of ours took its place. */
  | { readonly next: "TargetGone"; readonly remediation: Remediation; readonly message: string }
  /** What became of an effect cannot be known: a person must look (design rule S9). */
  | { readonly next: "Unknown"; readonly remediation: Remediation; readonly message: string };

/** How often a waiting step looks at the world by itself, in milliseconds; changes of the platform wake it earlier. */
const POLL_MS = 250;
/** How often a step that a gate holds back asks again, in milliseconds. */
const GATE_RETRY_MS = 1_000;
/** Gates that say that a person wants the hands off: the attempt ends. The others are waited for until the rung's time is up. */
const HANDS_OFF: ReadonlySet<BlockReason> = new Set(["Paused", "Unmanaged"]);
/** A missing answer is awaited; what is blocked for want of a yes was answered with a no. */
const isHandsOff = ({ action, reason }: Decision): boolean =>
  reason !== undefined && (HANDS_OFF.has(reason) || (reason === "AwaitingApproval" && action === "Block"));
const reasonOf = ({ reason, message }: Decision): string => `${reason ?? ""}: ${message}`;

/**
 * What is no failure of an effect. A save that failed after it: the next call finds it done. And that another may lead:
 * whoever does finds out what became of it.
 */
const NO_FAILED_EFFECT: ReadonlySet<string> = new Set(["CONFLICT", "STORE_UNAVAILABLE", "AUDIT_UNAVAILABLE", "NOT_LEADER"]);

/** The attempt that is under way, or was last. */
export function currentAttempt(remediation: Remediation): Attempt {
  const attempt = remediation.status.attempts.at(-1);
  if (attempt === undefined) throw new RangeError(`${remediation.metadata.name} has no attempt`);
  return attempt;
}

/**
 * Does the next thing of the episode's current attempt, at most one effect.
 *
 * Intent is stored before an effect and its result after it. A step found `Intended` was cut off by a crash: the
 * platform is asked what became of it; only what verifiably did not happen is done again, under the same effect id.
 * `fresh` is the effect id of a step whose intent this very process has just stored: nothing can have become of it yet.
 */
export async function advance(remediation: Remediation, deps: MachineDeps, fresh?: string): Promise<Progress> {
  const attempt = currentAttempt(remediation);
  const undoing = attempt.outcome !== undefined && attempt.outcome !== "Effective";
  const steps = undoing ? attempt.undo : attempt.steps;
  const index = steps.findIndex((step) => step.state === "Pending" || step.state === "Intended");
  const step = steps[index];
  if (step === undefined) {
    if (!undoing) return { next: "Verify", remediation };
    return { next: "Ended", remediation, undone: attempt.undo.every((s) => s.state !== "Failed") };
  }
  const machine = new StepRun(remediation, attempt, undoing, index, step, deps);
  return machine.run(fresh);
}

/**
 * Ends the attempt before its steps are done, or when they did not help, and plans what brings the world back, as far as
 * the platform can. The undo steps run in later calls of `advance`.
 */
export function abandon(
  remediation: Remediation,
  outcome: "Failed" | "Cancelled" | "Ineffective",
  message: string,
  platform: Platform,
  now: number,
): Remediation {
  const attempt = currentAttempt(remediation);
  const undo: StepRecord[] = [];
  attempt.steps.toReversed().forEach((step, reverse) => {
    if (step.state !== "Done" && step.state !== "Failed") return;
    const type = STEPS[step.type].undo?.(contextOf(remediation, { ...attempt, outcome }, step, platform, now, 0));
    if (type === undefined || EFFECTS_OF[type].some((effect) => !platform.effects.has(effect))) return;
    undo.push({
      name: type,
      type,
      params: {},
      ...(step.target === undefined ? {} : { target: step.target }),
      timeoutMs: 60_000,
      state: "Pending",
      effectId: `${step.effectId}/undo${reverse}`,
    });
  });
  const steps = attempt.steps.map((step): StepRecord => (step.state === "Pending" ? { ...step, state: "Skipped" } : step));
  return withAttempt(remediation, { ...attempt, steps, undo, outcome, message });
}

/** The episode with its current attempt replaced. */
export function withAttempt(remediation: Remediation, attempt: Attempt): Remediation {
  return { ...remediation, status: { ...remediation.status, attempts: [...remediation.status.attempts.slice(0, -1), attempt] } };
}

function objectKey({ metadata }: Remediation): string {
  return `${metadata.namespace}/${metadata.name}`;
}

/** One step, run or resumed. */
class StepRun {
  readonly #definition: StepDefinition;
  readonly #attempt: Attempt;
  readonly #undoing: boolean;
  readonly #index: number;
  readonly #deps: MachineDeps;
  #remediation: Remediation;
  #step: StepRecord;

  constructor(remediation: Remediation, attempt: Attempt, undoing: boolean, index: number, step: StepRecord, deps: MachineDeps) {
    this.#remediation = remediation;
    this.#attempt = attempt;
    this.#undoing = undoing;
    this.#index = index;
    this.#step = step;
    this.#deps = deps;
    this.#definition = STEPS[step.type];
  }

  async run(fresh: string | undefined): Promise<Progress> {
    // The rung's time runs from the first look on.
    this.#rungTimeUp();
    if (this.#step.state === "Pending") {
      const held = await this.#mayBegin();
      if (held !== undefined) return held;
      await this.#intend();
    } else if (this.#definition.effect !== undefined && this.#step.effectId !== fresh) {
      const resolved = await this.#resume();
      if (resolved !== undefined) return resolved;
    }
    if (this.#definition.effect !== undefined) return this.#applyEffect();
    if (this.#definition.notification !== undefined) return this.#tell();
    return this.#poll();
  }

  /** Everything that must be so before the step begins; undefined when it may. */
  async #mayBegin(): Promise<Progress | undefined> {
    const context = this.#context();
    const stale = this.#definition.effect === undefined ? undefined : this.#deps.platform.staleness?.();
    if (stale !== undefined && (this.#undoing || !this.#rungTimeUp())) return this.#heldBack(stale);
    if (!this.#undoing) {
      if (this.#rungTimeUp()) return this.#fail(`the rung's time was up before step ${this.#step.name}`);
      const gone = await this.#targetGone(context);
      if (gone !== undefined) return gone;
      const interference = interferenceOf(context);
      if (interference !== undefined) return this.#abandon("Cancelled", interference);
    }
    const obstacle = this.#definition.precondition?.(context);
    if (obstacle !== undefined) {
      // What an undo step would bring back is gone: there is nothing left to do for it.
      if (this.#undoing) return this.#settle("Skipped", obstacle);
      return this.#definition.optional?.(this.#step) === true ? this.#settle("Skipped", obstacle) : this.#fail(obstacle);
    }
    if (this.#undoing || (this.#definition.effect === undefined && this.#definition.notification === undefined)) return undefined;
    const decision = this.#deps.gates(this.#remediation);
    if (decision.action === "Act") {
      const awaited = this.#definition.awaits?.(context);
      return awaited === undefined ? undefined : this.#heldBack(awaited);
    }
    if (isHandsOff(decision)) return this.#abandon("Cancelled", reasonOf(decision));
    if (decision.action !== "Block") return this.#abandon("Cancelled", `the policy's mode no longer lets it act: ${decision.action}`);
    return this.#heldBack(reasonOf(decision));
  }

  /** Why a person wants the hands off, so that a wait does not outlive its policy. */
  #handsOff(): string | undefined {
    const decision = this.#deps.gates(this.#remediation);
    return isHandsOff(decision) ? reasonOf(decision) : undefined;
  }

  #heldBack(why: string): Progress {
    return { next: "Wait", ms: GATE_RETRY_MS, remediation: this.#remediation, message: `step ${this.#step.name} is held back: ${why}` };
  }

  /** The replica that the attempt is about is gone: a person, a crash or its owner was faster. */
  async #targetGone(context: StepContext): Promise<Progress | undefined> {
    const onReplica = context.workload !== undefined && replicaTarget(this.#remediation, this.#step) !== undefined;
    if (!onReplica || context.replica !== undefined) return undefined;
    const stopped = this.#attempt.steps.some(
      (s) => (s.type === "stop" || s.type === "evict") && s.state === "Done" && sameStepTarget(s, this.#step),
    );
    if (stopped) return undefined;
    const begun = this.#attempt.steps.some((s) => s.state === "Done" && STEPS[s.type].effect !== undefined);
    // What is about the whole workload goes on: a rollout takes the target away, too.
    if (begun && !PER_REPLICA.has(this.#step.type)) return undefined;
    const message = `${replicaTarget(this.#remediation, this.#step)?.name ?? "the target"} is gone`;
    if (!begun) return { next: "TargetGone", remediation: this.#remediation, message };
    const steps = this.#attempt.steps.map((s): StepRecord =>
      (s.state === "Pending" || s.state === "Intended") && sameStepTarget(s, this.#step) ? { ...s, state: "Skipped", message } : s,
    );
    this.#remediation = await this.#deps.save(withAttempt(this.#remediation, { ...this.#attempt, steps }));
    return { next: "Again", remediation: this.#remediation };
  }

  async #intend(): Promise<void> {
    const intended: StepRecord = { ...this.#step, state: "Intended", intendedAt: timestamp(this.#deps.clock.now()) };
    const next = this.#withStep(intended);
    const recording = this.#deps.audit("Intent", next, intended, `step ${intended.name} begins`);
    this.#remediation = await storedAndRecorded(this.#deps.save(next), recording);
    this.#step = intended;
  }

  /** After a crash between intent and result: what did become of it? Undefined when it verifiably did not happen and may be done. */
  async #resume(): Promise<Progress | undefined> {
    const context = this.#context();
    const effect = this.#definition.effect?.(context);
    if (effect === undefined) return undefined;
    const found = await this.#deps.platform.observe(effect);
    if (found.state === "Applied") return this.#applied(effect, found.result, " (found done)");
    if (found.state === "Unknown") return this.#unknown(effect, found.why);
    const obstacle = this.#definition.precondition?.(context);
    if (obstacle !== undefined) return this.#undoing ? this.#settle("Skipped", obstacle) : this.#effectFailed(effect, obstacle);
    if (!this.#undoing) {
      // Failed, not skipped: some of it may have been done.
      const interference = interferenceOf(context);
      if (interference !== undefined) return this.#fail(interference, "Cancelled");
      const decision = this.#deps.gates(this.#remediation);
      const isOpen = decision.action === "Act" || (decision.action === "Block" && !isHandsOff(decision));
      const awaited = isOpen ? this.#definition.awaits?.(context) : undefined;
      if (awaited !== undefined) return this.#rungTimeUp() ? this.#effectFailed(effect, awaited) : this.#heldBack(awaited);
      if (decision.action !== "Act") return this.#effectFailed(effect, `${decision.reason ?? decision.action}: ${decision.message}`);
    }
    // The intent goes on record again, so that no effect lacks one even if the first never became durable.
    await this.#deps.audit(
      "Intent",
      this.#remediation,
      this.#step,
      `step ${this.#step.name} begins again: a restart cut it off before its effect`,
    );
    return undefined;
  }

  async #applyEffect(): Promise<Progress> {
    const effect = this.#definition.effect?.(this.#context());
    if (effect === undefined) throw new RangeError(`step ${this.#step.type} has no effect`);
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    const cancel = this.#deps.clock.after(this.#step.timeoutMs, abort);
    this.#deps.stopping.addEventListener("abort", abort, { once: true });
    try {
      return await this.#applied(effect, await this.#deps.platform.apply(effect, controller.signal), "");
    } catch (error) {
      if (error instanceof NightshiftError && NO_FAILED_EFFECT.has(error.code)) throw error;
      if (this.#deps.stopping.aborted) throw error;
      // It fell out of date after the look before the step: nothing was done.
      if (error instanceof NightshiftError && error.code === "STALE_VIEW" && (this.#undoing || !this.#rungTimeUp()))
        return this.#heldBack(error.message);
      const found = await this.#deps.platform.observe(effect);
      if (found.state === "Applied") return this.#applied(effect, found.result, "");
      if (found.state === "Unknown") return this.#unknown(effect, `${messageOf(error)}; ${found.why}`);
      const late = controller.signal.aborted ? `not done within ${this.#step.timeoutMs / 1000} s: ` : "";
      return this.#effectFailed(effect, `${late}${messageOf(error)}`);
    } finally {
      cancel();
      this.#deps.stopping.removeEventListener("abort", abort);
    }
  }

  async #applied(effect: Effect, result: EffectResult, suffix: string): Promise<Progress> {
    this.#deps.effectEnded(effect.type, "Applied");
    return this.#settle("Done", `${result.message}${suffix}`, result);
  }

  async #effectFailed(effect: Effect, message: string): Promise<Progress> {
    this.#deps.effectEnded(effect.type, "Failed");
    if (this.#undoing) return this.#settle("Failed", message);
    return this.#definition.optional?.(this.#step) === true ? this.#settle("Skipped", message) : this.#fail(message);
  }

  async #unknown(effect: Effect, why: string): Promise<Progress> {
    this.#deps.effectEnded(effect.type, "Unknown");
    const message = `it cannot be known whether step ${this.#step.name} took effect: ${why}`;
    const failed: StepRecord = { ...this.#step, state: "Failed", message, endedAt: timestamp(this.#deps.clock.now()) };
    await this.#saveResult(this.#withStep(failed), failed, message);
    return { next: "Unknown", remediation: this.#remediation, message };
  }

  /** What is to be told stands in the episode, and the loop delivers it, as it does pages. */
  async #tell(): Promise<Progress> {
    const { notice } = this.#remediation.status;
    if (notice?.step !== this.#step.effectId) {
      // Stored first: whoever takes this up after a crash tells it, and tells later that it is over.
      const summary = this.#definition.notification?.(this.#context()) ?? "";
      const sentTo = notice?.sentTo === undefined ? {} : { sentTo: notice.sentTo };
      const pending: NoticeRecord = {
        state: "Pending",
        dedupKey: `${objectKey(this.#remediation)}/notice`,
        summary,
        tries: 0,
        step: this.#step.effectId,
        ...sentTo,
      };
      const status = { ...this.#remediation.status, notice: pending };
      this.#remediation = await this.#deps.save({ ...this.#remediation, status });
      return { next: "Again", remediation: this.#remediation };
    }
    if (notice.state !== "Pending" && notice.state !== "NoReceiver") return this.#settle("Done", `told: ${notice.summary}`);
    const why = notice.lastError ?? "it is on its way";
    if (notice.state === "NoReceiver" || this.#timeUp()) return this.#fail(`nobody could be told: ${why}`);
    return { next: "Wait", ms: POLL_MS, remediation: this.#remediation, message: why };
  }

  async #poll(): Promise<Progress> {
    // What cannot be seen yet is neither ready nor gone.
    const stale = this.#deps.platform.staleness?.();
    if (stale !== undefined && !this.#rungTimeUp()) return this.#heldBack(stale);
    const context = this.#context();
    const over = this.#undoing ? undefined : (interferenceOf(context) ?? this.#handsOff());
    if (over !== undefined) {
      this.#remediation = this.#withStep({ ...this.#step, state: "Skipped", message: over });
      return this.#abandon("Cancelled", over);
    }
    const seen = this.#definition.poll?.(context, this.#deps.telemetry) ?? { state: "Done" as const, message: "" };
    if (seen.state === "Done") return this.#settle("Done", seen.message);
    if (seen.state === "Failed") return this.#fail(seen.message);
    if (!this.#timeUp()) return { next: "Wait", ms: POLL_MS, remediation: this.#remediation, message: seen.message };
    const end = this.#definition.onTimeout?.(context) ?? {
      outcome: "Fail" as const,
      message: `not done within ${this.#step.timeoutMs / 1000} s: ${seen.message}`,
    };
    return end.outcome === "Continue" ? this.#settle("Done", end.message) : this.#fail(end.message);
  }

  #timeUp(): boolean {
    return this.#elapsed() >= this.#step.timeoutMs || this.#rungTimeUp();
  }

  /** Milliseconds since the step's intent was stored; 0 before that. */
  #elapsed(): number {
    if (this.#step.intendedAt === undefined) return 0;
    return this.#deps.stopwatches.elapsed(objectKey(this.#remediation), "step", timeMs(this.#step.intendedAt));
  }

  #rungTimeUp(): boolean {
    const began = timeMs(this.#attempt.startedAt);
    return this.#deps.stopwatches.elapsed(objectKey(this.#remediation), "rung", began) >= timeMs(this.#attempt.deadline) - began;
  }

  async #settle(state: "Done" | "Skipped" | "Failed", message: string, result?: EffectResult): Promise<Progress> {
    const settled: StepRecord = {
      ...this.#step,
      state,
      message,
      endedAt: timestamp(this.#deps.clock.now()),
      ...(result === undefined ? {} : { result: { ...result } }),
    };
    let next = this.#withStep(settled);
    if (result?.artifact !== undefined) next = withArtifact(next, result.artifact);
    await this.#saveResult(next, settled, message);
    return { next: "Again", remediation: this.#remediation };
  }

  /** Both at once: where nobody confirms that it is stored, it is on the audit trail all the same, rather twice than never. */
  async #saveResult(next: Remediation, step: StepRecord, message: string): Promise<void> {
    this.#remediation = await storedAndRecorded(this.#deps.save(next), this.#deps.audit("Result", next, step, message));
  }

  async #fail(message: string, outcome: "Failed" | "Cancelled" = "Failed"): Promise<Progress> {
    const failed: StepRecord = { ...this.#step, state: "Failed", message, endedAt: timestamp(this.#deps.clock.now()) };
    this.#remediation = this.#withStep(failed);
    const recording = this.#deps.audit("Result", this.#remediation, failed, message);
    return storedAndRecorded(
      this.#abandon(outcome, outcome === "Failed" ? `step ${this.#step.name} failed: ${message}` : message),
      recording,
    );
  }

  async #abandon(outcome: "Failed" | "Cancelled", message: string): Promise<Progress> {
    this.#remediation = await this.#deps.save(abandon(this.#remediation, outcome, message, this.#deps.platform, this.#deps.clock.now()));
    return { next: "Again", remediation: this.#remediation };
  }

  #withStep(step: StepRecord): Remediation {
    const attempt = currentAttempt(this.#remediation);
    const replace = (steps: readonly StepRecord[]): StepRecord[] => steps.map((s, i) => (i === this.#index ? step : s));
    return withAttempt(
      this.#remediation,
      this.#undoing ? { ...attempt, undo: replace(attempt.undo) } : { ...attempt, steps: replace(attempt.steps) },
    );
  }

  #context(): StepContext {
    const { platform, clock } = this.#deps;
    return contextOf(this.#remediation, currentAttempt(this.#remediation), this.#step, platform, clock.now(), this.#elapsed());
  }
}

function withArtifact(remediation: Remediation, artifact: Artifact): Remediation {
  const known = remediation.status.artifacts.some((a) => a.sha256 === artifact.sha256 && a.path === artifact.path);
  if (known) return remediation;
  return { ...remediation, status: { ...remediation.status, artifacts: [...remediation.status.artifacts, artifact] } };
}

/** The replica that a step acts on; undefined for an episode about a whole workload. */
function replicaTarget(remediation: Remediation, step: StepRecord): TargetRef | undefined {
  if (step.target !== undefined) return step.target;
  return sameTarget(remediation.spec.remediationTarget, remediation.spec.workload) ? undefined : remediation.spec.remediationTarget;
}

function sameStepTarget(a: StepRecord, b: StepRecord): boolean {
  return a.target?.uid === b.target?.uid;
}

function contextOf(
  remediation: Remediation,
  attempt: Attempt,
  step: StepRecord,
  platform: Platform,
  now: number,
  elapsed: number,
): StepContext {
  const workload = findWorkload(platform, remediation.spec.workload);
  const alive = (uid: string | undefined): Replica | undefined => workload?.replicas.find((r) => r.ref.uid === uid && r.phase !== "Exited");
  const start = attempt.steps.find((s) => s.type === "startReplacement" && sameStepTarget(s, step));
  // A start whose result was lost is found by its effect's id.
  const ref =
    start === undefined ? undefined : (resultReplica(start) ?? workload?.replicas.find((r) => r.startedBy === start.effectId)?.ref);
  return {
    now,
    elapsed,
    remediation,
    attempt,
    step,
    workload,
    replica: alive(replicaTarget(remediation, step)?.uid),
    replacement: ref === undefined ? undefined : { ref, now: alive(ref.uid) },
  };
}

/**
 * What somebody else has done to the workload since the attempt began that is not to be fought: a rollout. That it has more
 * or fewer replicas, as by an autoscaler, is none.
 */
export function interferenceOf({
  workload,
  attempt,
}: {
  readonly workload: Workload | undefined;
  readonly attempt: Attempt;
}): string | undefined {
  let expected = attempt.revision;
  for (const step of attempt.steps) expected = (step.result as EffectResult | undefined)?.revision ?? expected;
  if (expected === undefined || workload?.revision === undefined || workload.revision === expected) return undefined;
  return `somebody else has rolled out ${workload.ref.kind} ${workload.ref.name} since (revision ${workload.revision}, not ${expected})`;
}

/** The workload as the platform has it now. */
export function findWorkload(platform: Platform, ref: TargetRef): Workload | undefined {
  return platform.workloads().find((workload) => sameTarget(workload.ref, ref));
}
