import { createHash } from "node:crypto";
import { abandon, advance, currentAttempt, interferenceOf, type MachineDeps, withAttempt } from "../act/machine.ts";
import { nextRung, plan, rungName } from "../act/plan.ts";
import { Stopwatches } from "../act/stopwatches.ts";
import { type Health, health } from "../act/verify.ts";
import { storedAndRecorded } from "../act/stored.ts";
import { NightshiftError } from "../api/errors.ts";
import { API_VERSION, sameTarget, targetKey } from "../api/meta.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import {
  type Attempt,
  type DiagnosisRecord,
  type Evidence,
  isOpenIncident,
  isTerminal,
  owesPage,
  type Phase,
  type PageRecord,
  type QuestionRecord,
  type Remediation,
  type RemediationStatus,
  type StepRecord,
  type StormRecord,
  wasTold,
} from "../api/remediation.ts";
import type { Diagnosis, Signal } from "../api/signal.ts";
import { timeMs, timestamp } from "../api/time.ts";
import { durationMs } from "../api/units.ts";
import { answerFrom, createdAt } from "../decide/episode.ts";
import type { Decision } from "../decide/gate.ts";
import { type Detection, targetsOf, undecidedText } from "../orient/detect.ts";
import { isOthersWork } from "../decide/in-progress.ts";
import { sameStorm, standsForStorm } from "../decide/storm-brake.ts";
import type { Clock } from "../ports/clock.ts";
import { boundedEvidence, isWhole } from "../orient/evidence.ts";
import type { Platform, Workload } from "../ports/platform.ts";
import type { Store } from "../ports/store.ts";
import type { AuditRecord } from "../record/audit.ts";
import type { EvidenceShelf } from "../record/evidence.ts";
import type { LoopMetrics } from "../record/metrics.ts";
import { MAX_DELAY_MS } from "../record/receivers.ts";
import { objectKey } from "./cache.ts";
import { remediationConditions } from "./conditions.ts";
import { Lock } from "./lock.ts";
import { dedupKey, healedAt, isPaged, type PageKind, type Pager } from "./pager.ts";
import type { Requeue } from "./queue.ts";
import type { Recorder } from "./recorder.ts";
import { policyKey, recordedSignal, type World } from "./world.ts";

/** How often an episode that waits is looked at again by itself (ms); changes wake it earlier. */
const RECONSIDER_MS = 1_000;
/** How often the target is looked at while an episode is verified (ms): oftener where it has to be well for less. */
const VERIFY_MS = 500;
/**
 * After a start, what is yet to be heard of (telemetry, what fires in Alertmanager, asked every 30 s) has this long to come before
 * a verification is judged by it (ms).
 */
const HEARING_MS = 60_000;
/** A signal must be gone this long before an episode that waits counts as recovered: one missed evaluation is no recovery (ms). */
const RESOLVE_GRACE_MS = 10_000;
/**
 * Reasons for which no episode begins; the decision is put on record all the same. A stale signal is no evidence of a
 * fault, unless it is what an attempt did not help against; and a rest after an episode is that episode's: when it is over, what still fires begins another.
 */
const NO_EPISODE: ReadonlySet<string> = new Set(["StaleSignal", "RecentlyRemediated"]);
/** How often an incident that somebody was paged for is looked at, whether it is over (ms). */
const INCIDENT_MS = 2_000;
/**
 * After an episode in which nothing was done, and whose fault goes on, another for the same rests for the policy's cooldown,
 * and for this at least (ms): one that only observes, has no plan or no target would follow the last at every look.
 */
const IDLE_REST_MS = 60_000;
/** Ends after which the next episode is about something else: a fault that comes back, another target, another policy. */
const NEXT_IS_ANOTHER: ReadonlySet<string> = new Set(["SignalResolved", "TargetChanged", "PolicyDeleted", "PolicyChanged"]);
/** Phases in which a question that was asked stands. */
const IS_ASKED: ReadonlySet<Phase> = new Set(["Pending", "Blocked", "AwaitingApproval"]);
/** How often receivers are told that a question or a notice is over, before they are left with it: half an hour. */
const MAX_CLOSING_TRIES = 12;
/** Phases in which nothing is done yet. */
const WAITING: ReadonlySet<Phase> = new Set(["Pending", "Blocked", "AwaitingApproval"]);
/** Reasons that a person gave: nobody is paged for a fault that somebody has said to leave alone. */
const SAID_BY_PEOPLE: ReadonlySet<string> = new Set(["Paused", "Unmanaged"]);

/** Begins episodes and carries them to their end. Every method may be called again after a crash. */
export class Episodes {
  readonly #store: Store;
  readonly #world: World;
  readonly #platform: Platform;
  readonly #recorder: Recorder;
  readonly #pager: Pager;
  readonly #metrics: LoopMetrics;
  readonly #clock: Clock;
  readonly #machine: MachineDeps;
  readonly #stopwatches: Stopwatches;
  /** Deciding and storing the decision is one act: two decisions at once would each not know of the other. */
  readonly #deciding = new Lock();
  /** Decisions as they were last put on record, by episode or by policy and signal: an unchanged one is not repeated. */
  readonly #recorded = new Map<string, string>();
  /** Effect ids of steps whose intent this very process has just stored, so that they need not be looked for. */
  readonly #fresh = new Map<string, string>();
  /** When the signal of a waiting episode was first seen gone (monotonic ms). */
  readonly #goneSince = new Map<string, number>();
  /** Since when there is no data of the signal of a waiting episode (monotonic ms). */
  readonly #missingSince = new Map<string, number>();
  /** Since when the signal of a waiting episode is stale (monotonic ms). */
  readonly #staleSince = new Map<string, number>();
  /** When episodes begin whose creation nobody has confirmed (ms since the epoch), by policy and signal: what is tried again has the same name. */
  readonly #unconfirmed = new Map<string, number>();
  /** Episodes that are stored and whose decision is being put on record. */
  readonly #beginning = new Set<string>();
  readonly #folds = new Map<string, { count: number; at: number }>();
  /** Questions that are being asked, by episode; and those that were, with what is to be stored of that. */
  readonly #asking = new Map<string, PageRecord | "UnderWay">();
  /** When a page that was not confirmed is tried again (monotonic ms), and the stored time that this was taken from. */
  readonly #pageDue = new Map<string, { readonly nextTryAt: string; readonly at: number }>();
  readonly #counted = new Set<string>();
  readonly #shelf: EvidenceShelf;
  readonly #wake: (key: string) => void;

  constructor(options: {
    readonly store: Store;
    readonly world: World;
    readonly recorder: Recorder;
    readonly pager: Pager;
    readonly metrics: LoopMetrics;
    readonly stopping: AbortSignal;
    readonly shelf: EvidenceShelf;
    /** Has the episode of this key reconciled soon. */
    readonly wake: (key: string) => void;
  }) {
    this.#store = options.store;
    this.#world = options.world;
    this.#platform = options.world.platform;
    this.#clock = options.world.clock;
    this.#recorder = options.recorder;
    this.#pager = options.pager;
    this.#metrics = options.metrics;
    this.#shelf = options.shelf;
    this.#wake = options.wake;
    this.#stopwatches = new Stopwatches(this.#clock);
    this.#machine = {
      platform: this.#platform,
      telemetry: options.world.telemetry,
      clock: this.#clock,
      stopping: options.stopping,
      stopwatches: this.#stopwatches,
      save: (remediation) => this.#save(remediation),
      audit: (type, remediation, step, message) =>
        this.#recorder.write([
          this.#recorder.about(remediation, type, message, {
            step: step.name,
            type: step.type,
            effectId: step.effectId,
            state: step.state,
            ...(step.result === undefined ? {} : { result: step.result }),
          }),
        ]),
      gates: (remediation) => this.#world.decideStep(remediation),
      effectEnded: (type, result) => this.#metrics.effect(type, result),
    };
  }

  /**
   * Takes a signal that fires: into the live episode that it belongs to, or into a new one. `records` precede the decision on
   * record. `current` is the signal and the policy as they are when its turn comes; undefined when one of them is gone since.
   */
  async take(
    signal: Signal,
    policy: RemediationPolicy,
    isNew: boolean,
    records: readonly AuditRecord[],
    current: () => { readonly signal: Signal; readonly policy: RemediationPolicy } | undefined,
  ): Promise<void> {
    const own = this.#liveOf(policy, signal);
    if (own !== undefined) {
      await this.#recorder.write(records);
      if (isNew) this.#fold(own);
      return;
    }
    // Only deciding and storing are one at a time; the flush of the audit trail is shared with the others that wait for it.
    const { done } = await this.#deciding.run(async () => {
      // With a slow API server, and many before it, this one may have waited for long.
      const now = current();
      return now === undefined ? { done: this.#recorder.write(records) } : this.#begin(now.signal, now.policy, isNew, records);
    });
    await done;
  }

  /** Does what is next for an episode. */
  async reconcile(key: string): Promise<Requeue> {
    let remediation = this.#world.remediations.get(key);
    if (remediation === undefined || this.#beginning.has(key)) return {};
    remediation = await this.#storeFolds(key, remediation);
    remediation = await this.#storeAsked(key, remediation);
    const paging = await this.#page(remediation);
    remediation = this.#world.remediations.get(key) ?? remediation;
    const requeue = isTerminal(remediation) ? {} : await this.#step(key, remediation);
    if (isTerminal(remediation)) this.#forget(key, remediation);
    const after = Math.min(paging.after ?? Infinity, requeue.after ?? Infinity);
    return after === Infinity ? {} : { after };
  }

  async #step(key: string, remediation: Remediation): Promise<Requeue> {
    switch (remediation.status.phase) {
      case "Pending":
      case "Blocked":
      case "AwaitingApproval":
        return this.#reconsider(key);
      case "Executing":
        return this.#execute(key, remediation);
      case "Verifying":
        return this.#verify(remediation);
      default:
        return {};
    }
  }

  // ---- beginning -----------------------------------------------------------------------------------------------

  #liveOf(policy: RemediationPolicy, signal: Signal): Remediation | undefined {
    const key = objectKey(policy);
    return this.#world.remediations.list().find(
      (r) =>
        !isTerminal(r) &&
        policyKey(r) === key &&
        (r.spec.signal.fingerprint === signal.fingerprint ||
          targetKey(r.spec.signalTarget) === targetKey(signal.target) ||
          // What replaced the target and is as ill is the same episode's: it goes on to its next rung.
          (r.spec.signal.name === signal.name && sameTarget(this.#world.signalTargetNow(r), signal.target))),
    );
  }

  #liveOn(rootCauseKey: string): Remediation | undefined {
    return this.#world.remediations.list().find((r) => !isTerminal(r) && r.spec.diagnosis.rootCauseKey === rootCauseKey);
  }

  async #begin(
    signal: Signal,
    policy: RemediationPolicy,
    isNew: boolean,
    records: readonly AuditRecord[],
  ): Promise<{ readonly done: Promise<void> }> {
    if (isNew) this.#unconfirmed.delete(signalKey(policy, signal));
    // Asked again inside the lock: another signal may have begun the episode while this one waited for its turn.
    const own = this.#liveOf(policy, signal);
    if (own !== undefined) return { done: this.#recorder.write(records) };
    const diagnosis = this.#world.diagnose(signal, policy);
    const rests = this.#restsIdle(signal, diagnosis, policy);
    // What is new still joins the episode of its root cause, and that is the gates' to say.
    if (rests && !isNew) return { done: this.#recorder.write(records) };
    let decision = this.#world.decide("Start", signal, diagnosis, policy, undefined);
    const busy = this.#isAnothersTurn(decision, diagnosis);
    // Of the dependents of an ill service one has the episode: one root cause, one live remediation, one page (design rule S1).
    const twin = decision.reason === "DependencyUnhealthy" ? this.#liveOn(diagnosis.rootCauseKey) : undefined;
    if (twin !== undefined && isNew) this.#fold(twin);
    // Of all that a storm holds one has the episode, and the others wait for their turn without one.
    const held = decision.reason === "StormBrake" && decision.storm === undefined;
    if (rests) return { done: this.#recorder.write(records) };
    const passes = NO_EPISODE.has(decision.reason ?? "") && !(decision.reason === "StaleSignal" && this.#isLeftUnhealed(signal, policy));
    if (busy || held || twin !== undefined || passes) {
      return {
        done: this.#recorder.write([
          ...records,
          ...this.#decisionRecord(signalKey(policy, signal), decision, policy, diagnosis, undefined),
        ]),
      };
    }
    const draft = this.#draft(signal, policy, diagnosis, decision);
    const workload = this.#world.workload(diagnosis.workload);
    let status = this.#initialStatus(decision);
    if (decision.action === "Act" && workload !== undefined) {
      const attempt = this.#planAttempt(draft, this.#rungNow(draft, policy), workload);
      if (attempt instanceof NightshiftError) {
        decision = { ...decision, action: "Block", message: attempt.message };
        status = this.#escalated(draft, { ...status, reason: noPlanReason(attempt) }, attempt.message);
      } else {
        status = { ...status, phase: "Executing", attempts: [this.#intended(attempt)] };
      }
    }
    if (decision.storm !== undefined) status = { ...status, storm: this.#stormRecord(draft, decision.storm) };
    if (status.phase === "AwaitingApproval") status = { ...status, question: this.#newQuestion(draft, policy) };
    const object = withConditions({ ...draft, status }, this.#clock.now());
    const key = objectKey(object);
    const recorded = this.#recorder.write([
      ...records,
      ...this.#decisionRecord(key, decision, policy, diagnosis, object),
      ...this.#intentRecords(object),
    ]);
    // Handled below; until then a failure must not count as unhandled.
    recorded.catch(() => undefined);
    // The store's watch wakes the episode as soon as it is stored; it must not act before its decision is on record.
    this.#beginning.add(key);
    this.#unconfirmed.set(signalKey(policy, signal), timeMs(object.spec.startedAt));
    try {
      const created = await this.#store.create(object);
      this.#unconfirmed.delete(signalKey(policy, signal));
      this.#world.remediations.put(created);
      return { done: recorded.then(() => this.#begun(created, signal)).finally(() => this.#mayAct(key)) };
    } catch (error) {
      // It may be stored all the same, and the watch may have told of it already: then it is carried on from here.
      recorded.finally(() => this.#mayAct(key)).catch(() => undefined);
      throw error;
    }
  }

  /** What an episode that stands for a storm keeps of it. The group is paged once, however many episodes stand for it in turn. */
  #stormRecord({ spec }: Remediation, { domain, message }: NonNullable<Decision["storm"]>): StormRecord {
    const all = this.#world.remediations.list().filter((other) => spec.mode === "Observe" || other.spec.mode !== "Observe");
    const before = sameStorm(domain, all, this.#clock.now())?.status.storm;
    const since = before?.since ?? timestamp(this.#clock.now());
    // A dry run wakes nobody at once: it is paged for as any other that waits for long.
    const paged = spec.mode === "Observe" || all.some(({ status }) => status.storm?.page !== undefined && status.storm.since === since);
    const page: PageRecord = { state: "Pending", dedupKey: `storm/${domain}/${since}`, summary: message, tries: 0 };
    return { domain, message, since, ...(paged ? {} : { page }) };
  }

  /** Whether an episode of the same fault has just ended in which nothing was done. See `IDLE_REST_MS`. */
  #restsIdle(signal: Signal, diagnosis: Diagnosis, policy: RemediationPolicy): boolean {
    const now = this.#clock.now();
    const rest = Math.max(IDLE_REST_MS, durationMs(policy.spec.cooldown));
    return this.#world.remediations.list().some(
      ({ metadata, spec, status }) =>
        status.endedAt !== undefined &&
        status.attempts.length === 0 &&
        spec.signal.fingerprint === signal.fingerprint &&
        spec.mode === policy.spec.mode &&
        metadata.namespace === policy.metadata.namespace &&
        sameTarget(spec.remediationTarget, diagnosis.remediationTarget) &&
        !NEXT_IS_ANOTHER.has(status.reason ?? "") &&
        // The clock may have been set back: an end in the future is taken as now.
        now - Math.min(timeMs(status.endedAt), now) < rest,
    );
  }

  /**
   * Whether the last episode of a signal did not help, and nobody was told. What is heard of once, and not again before it is
   * old, would else be dropped by that (design rule L2).
   */
  #isLeftUnhealed(signal: Signal, policy: RemediationPolicy): boolean {
    const [last] = this.#world.remediations
      .list()
      .filter(({ spec, metadata }) => spec.signal.fingerprint === signal.fingerprint && metadata.namespace === policy.metadata.namespace)
      .toSorted((a, b) => timeMs(b.status.endedAt ?? b.spec.startedAt) - timeMs(a.status.endedAt ?? a.spec.startedAt));
    return last?.status.phase === "Failed" && last.status.page === undefined;
  }

  /** Whether another episode is at it, so that there need be none: one that waits for people's work does begin, and is handed to a person in time. */
  #isAnothersTurn(decision: Decision, diagnosis: Diagnosis): boolean {
    const verdict = decision.verdicts.find((v) => v.gate === "InProgress" && v.verdict === "Block");
    if (verdict === undefined) return false;
    // A rollout of our own goes on for a moment after its episode: the rest after that covers it.
    if (decision.verdicts.some((v) => v.verdict === "Block" && NO_EPISODE.has(v.gate))) return true;
    const workload = this.#world.workload(diagnosis.workload);
    const replica = workload?.replicas.find((r) => r.ref.uid === diagnosis.remediationTarget.uid);
    return !isOthersWork(verdict.message, { workload, replica });
  }

  #mayAct(key: string): void {
    this.#beginning.delete(key);
    this.#wake(key);
  }

  /** The episode is stored and its decision on record: from here on it may act. */
  #begun(remediation: Remediation, signal: Signal): void {
    const key = objectKey(remediation);
    const first = remediation.status.attempts[0]?.steps[0];
    if (remediation.status.phase === "Executing" && first !== undefined) {
      this.#metrics.signalToEffect(Math.max(0, this.#clock.now() - signal.receivedAt) / 1000);
      this.#fresh.set(key, first.effectId);
    }
    this.#count(remediation);
  }

  #draft(signal: Signal, policy: RemediationPolicy, diagnosis: Diagnosis, decision: Decision): Remediation {
    const { namespace, name } = policy.metadata;
    // The episode begins with its signal, but always after the one before it ended: a fault that goes on is another episode.
    const before = this.#world.remediations
      .list()
      .filter((r) => policyKey(r) === objectKey(policy) && targetKey(r.spec.signalTarget) === targetKey(signal.target))
      .map((r) => timeMs(r.status.endedAt ?? r.spec.startedAt) + 1);
    const startedAt = timestamp(Math.max(this.#unconfirmed.get(signalKey(policy, signal)) ?? signal.startsAt, ...before));
    const identity = [policy.metadata.uid, signal.target.uid ?? targetKey(signal.target), signal.name, startedAt].join("|");
    const suffix = createHash("sha256").update(identity).digest("hex").slice(0, 10);
    return {
      apiVersion: API_VERSION,
      kind: "Remediation",
      metadata: { namespace, name: `${name.slice(0, 200)}-${suffix}`, labels: { "nightshift.dev/policy": name } },
      spec: {
        policy: { name, uid: policy.metadata.uid ?? "", generation: policy.metadata.generation ?? 0 },
        mode: policy.spec.mode,
        signal: {
          name: signal.name,
          condition: signal.condition,
          source: signal.source,
          startsAt: timestamp(signal.startsAt),
          receivedAt: timestamp(signal.receivedAt),
          fingerprint: signal.fingerprint,
        },
        signalTarget: signal.target,
        remediationTarget: diagnosis.remediationTarget,
        workload: diagnosis.workload,
        diagnosis: diagnosisRecord(diagnosis, this.#shelf),
        ladder: policy.spec.ladder,
        startedAt,
      },
      status: this.#initialStatus(decision),
    };
  }

  #initialStatus(decision: Decision): RemediationStatus {
    const now = timestamp(this.#clock.now());
    const base: RemediationStatus = {
      revision: 1,
      phase: "Pending",
      gates: [...decision.verdicts],
      decidedAt: now,
      attempts: [],
      artifacts: [],
      captures: [],
      signalsFolded: 0,
      lastSignalAt: now,
      conditions: [],
    };
    switch (decision.action) {
      case "Act":
        return base;
      case "Observe":
        return {
          ...base,
          phase: "Succeeded",
          outcome: "Observed",
          reason: "Observed",
          message: "the mode is Observe: this would have been done now",
          endedAt: now,
        };
      case "AwaitApproval":
        return { ...base, phase: "AwaitingApproval", reason: decision.reason ?? "AwaitingApproval", message: decision.message };
      case "Block":
        return { ...base, ...blocked(decision) };
    }
  }

  /** Index of the rung that the episode would begin now. */
  #rungNow({ spec, status }: Remediation, policy: RemediationPolicy): number {
    const about = { rootCauseKey: spec.diagnosis.rootCauseKey, workload: spec.workload, began: timeMs(spec.signal.startsAt) };
    return this.#world.rungNow(policy, spec.ladder, about, status.attempts);
  }

  /** What an episode does, or would do next. */
  #whatNow(remediation: Remediation, policy: RemediationPolicy): string {
    const last = remediation.status.attempts.at(-1);
    if (last !== undefined && last.outcome === undefined) return last.what;
    return rungName(remediation.spec.ladder[this.#rungNow(remediation, policy)] ?? policy.spec.ladder[0]!);
  }

  /** The next attempt, or why there can be none. What worked last may be no way for this target: then it is the first rung. */
  #planAttempt(remediation: Remediation, rung: number, workload: Workload): Attempt | NightshiftError {
    const attempt = this.#planRung(remediation, rung, workload);
    const isFavourite = rung > 0 && remediation.status.attempts.length === 0;
    return isFavourite && attempt instanceof NightshiftError ? this.#planRung(remediation, 0, workload) : attempt;
  }

  #planRung(remediation: Remediation, rungIndex: number, workload: Workload): Attempt | NightshiftError {
    const rung = remediation.spec.ladder[rungIndex];
    if (rung === undefined) return new NightshiftError("PLAN_IMPOSSIBLE", `the ladder has no rung ${rungIndex}`);
    const now = this.#clock.now();
    try {
      return {
        rung: rungIndex,
        what: rungName(rung),
        startedAt: timestamp(now),
        deadline: timestamp(now + durationMs(rung.timeout)),
        ...(workload.revision === undefined ? {} : { revision: workload.revision }),
        steps: plan({
          rung,
          idPrefix: `${objectKey(remediation)}/${remediation.status.attempts.length}`,
          target: this.#world.targetNow(remediation),
          episodeTarget: remediation.spec.remediationTarget,
          workload,
          namespace: remediation.metadata.namespace,
          runbooks: this.#world.runbook,
        }),
        undo: [],
      };
    } catch (error) {
      if (error instanceof NightshiftError) return error;
      throw error;
    }
  }

  /** The gates have just answered, so the first step's intent is stored together with the decision: one write less before the first effect. */
  #intended(attempt: Attempt): Attempt {
    const [first, ...rest] = attempt.steps;
    if (first === undefined) return attempt;
    return { ...attempt, steps: [{ ...first, state: "Intended", intendedAt: attempt.startedAt }, ...rest] };
  }

  #intentRecords(remediation: Remediation): AuditRecord[] {
    const first = remediation.status.attempts.at(-1)?.steps[0];
    if (remediation.status.phase !== "Executing" || first?.state !== "Intended") return [];
    return [
      this.#recorder.about(remediation, "Intent", `step ${first.name} begins`, {
        step: first.name,
        type: first.type,
        effectId: first.effectId,
        state: first.state,
      }),
    ];
  }

  // ---- waiting -------------------------------------------------------------------------------------------------

  /** An episode that waits is looked at when its turn comes: what it is decided on must not have waited for that as well. */
  async #reconsider(key: string): Promise<Requeue> {
    const requeue = await this.#deciding.run(async () => {
      const waiting = this.#world.remediations.get(key);
      // It may have begun meanwhile: nobody had confirmed that, and then the watch told of it.
      return waiting === undefined || !WAITING.has(waiting.status.phase) ? { after: 0 } : this.#lookAnew(key, waiting);
    });
    const now = this.#world.remediations.get(key);
    const policy = now === undefined ? undefined : this.#world.policyOf(now);
    if (now?.status.phase === "AwaitingApproval" && policy !== undefined) this.#askForApproval(now, policy);
    return requeue;
  }

  /** Has the fault gone, may it begin now, has a person answered, has it waited too long? */
  async #lookAnew(key: string, remediation: Remediation): Promise<Requeue> {
    const policy = this.#world.policyOf(remediation);
    if (policy === undefined) return this.#end(remediation, "Cancelled", undefined, "PolicyDeleted", "the policy was deleted");
    const denial = this.#denial(remediation);
    if (denial !== undefined) return this.#end(remediation, "Cancelled", undefined, "Denied", denial);
    const target = this.#world.signalTargetNow(remediation);
    const workload =
      this.#world.workload(target) ?? this.#world.platform.workloads().find((w) => w.replicas.some((r) => r.ref.uid === target.uid));
    const unwatched = this.#unwatched(remediation, policy, workload);
    if (unwatched !== undefined) return this.#end(remediation, "Cancelled", undefined, unwatched.reason, unwatched.message);
    const detection = workload === undefined ? undefined : this.#world.detectFor(remediation, withOwnSignal(policy, remediation), workload);
    const signal = detection === undefined ? undefined : this.#world.currentSignal(remediation, detection);
    if (signal === undefined) return this.#signalGone(key, remediation, workload, policy, detection);
    this.#goneSince.delete(key);
    this.#missingSince.delete(key);
    const diagnosis = sinceHeld(remediation, this.#world.diagnose(signal, policy, timeMs(remediation.spec.signal.startsAt)));
    const own = this.#world.targetNow(remediation);
    if (targetKey(diagnosis.remediationTarget) !== targetKey(own) || diagnosis.remediationTarget.uid !== own.uid)
      return this.#end(
        remediation,
        "Cancelled",
        undefined,
        "TargetChanged",
        `the cause is now ${targetKey(diagnosis.remediationTarget)}: that is another episode`,
      );
    return this.#redecide(remediation, signal, diagnosis, policy);
  }

  async #redecide(remediation: Remediation, signal: Signal, diagnosis: Diagnosis, policy: RemediationPolicy): Promise<Requeue> {
    const decision = this.#world.decide("Start", signal, diagnosis, policy, remediation);
    const staleFor = this.#staleFor(remediation, decision);
    const records = this.#decisionRecord(objectKey(remediation), decision, policy, diagnosis, remediation);
    const now = this.#clock.now();
    if (records.length > 0 || decision.action === "Act") remediation = withDiagnosis(remediation, diagnosis, this.#shelf);
    const storm = this.#stormNow(remediation, decision);
    const stormChanged = storm !== remediation.status.storm;
    if (stormChanged && storm !== undefined) remediation = { ...remediation, status: { ...remediation.status, storm } };
    const last = remediation.status.attempts.at(-1);
    if (
      last !== undefined &&
      (decision.action === "Act" || decision.action === "AwaitApproval") &&
      nextRung(remediation.spec.ladder, remediation.status.attempts, 0) === undefined
    ) {
      // It seemed well after the last rung, and is not: that rung is not tried again without a rest.
      const why = `${last.message ?? last.what}; it seemed well, and is ill again`;
      if (last.outcome === "Ineffective") return this.#end(remediation, "Failed", "Ineffective", "Ineffective", why);
      return this.#escalate(remediation, "StepFailed", why);
    }
    if (decision.action === "Act") {
      return this.#beginAttempt(remediation, this.#rungNow(remediation, policy), decision, records);
    }
    if (decision.action === "Observe") {
      await this.#recorder.write(records);
      return this.#end(remediation, "Succeeded", "Observed", "Observed", "the mode is Observe: this would have been done now");
    }
    if (last !== undefined && decision.reason === "CircuitOpen") {
      await this.#recorder.write(records);
      return this.#escalate(remediation, "CircuitOpen", decision.message);
    }
    // What an earlier rung took is no waiting.
    const since = timeMs(last?.endedAt ?? "") || createdAt(remediation);
    const waited = this.#stopwatches.elapsed(objectKey(remediation), "waiting", since);
    if (decision.action === "AwaitApproval") {
      const open = isOpenQuestion(remediation.status.question);
      // Time in which nobody was asked, as something else stood against it, is nobody's silence.
      const unanswered = open ? this.#stopwatches.elapsed(objectKey(remediation), "asked", answerFrom(remediation)) : 0;
      const left = durationMs(policy.spec.approval.timeout) - unanswered;
      if (left <= 0) {
        await this.#recorder.write(records);
        return this.#escalate(remediation, "ApprovalTimeout", `nobody answered within ${policy.spec.approval.timeout}`);
      }
      if (remediation.status.phase !== "AwaitingApproval" || !open)
        remediation = await this.#saveWith(
          {
            ...remediation,
            status: {
              ...remediation.status,
              phase: "AwaitingApproval",
              reason: "AwaitingApproval",
              message: decision.message,
              gates: [...decision.verdicts],
              decidedAt: timestamp(now),
              ...(open ? {} : { question: this.#newQuestion(remediation, policy) }),
            },
          },
          records,
        );
      return { after: Math.min(RECONSIDER_MS, left) };
    }
    if (staleFor >= durationMs(policy.spec.escalation.blockedFor)) {
      // Nobody can tell whether the fault goes on, as where data is missing. Should it be heard of again, that is another episode.
      await this.#recorder.write(records);
      return this.#escalate(remediation, "StaleSignal", `not heard of again: ${decision.message}`, "Inconclusive");
    }
    if (records.length > 0 || stormChanged)
      remediation = await this.#saveWith(
        {
          ...remediation,
          status: { ...remediation.status, ...blocked(decision), gates: [...decision.verdicts], decidedAt: timestamp(now) },
        },
        records,
      );
    if (
      waited >= durationMs(policy.spec.escalation.blockedFor) &&
      remediation.status.page === undefined &&
      !SAID_BY_PEOPLE.has(decision.reason ?? "") &&
      // Whoever is on call knows of the storm.
      (decision.reason !== "StormBrake" || remediation.spec.mode === "Observe") &&
      !isPaged(remediation, this.#world.remediations.list(), this.#world.approvals.list())
    ) {
      const summary = `${remediation.spec.diagnosis.summary}; not acted on for ${policy.spec.escalation.blockedFor}: ${decision.reason ?? ""}: ${decision.message}`;
      await this.#save({ ...remediation, status: { ...remediation.status, page: this.#pager.newPage(remediation, summary) } });
      return { after: 0 };
    }
    return { after: RECONSIDER_MS };
  }

  /** How long a waiting episode's signal has been stale without a break (ms): a source that is away for a moment ends nothing. */
  #staleFor(remediation: Remediation, { reason }: Decision): number {
    const key = objectKey(remediation);
    if (reason !== "StaleSignal") {
      this.#staleSince.delete(key);
      return 0;
    }
    return this.#lasted(this.#staleSince, key);
  }

  /** How long something has lasted that is so now (monotonic ms): `since` keeps when that was first seen. */
  #lasted(since: Map<string, number>, key: string): number {
    const now = this.#clock.monotonic();
    const began = since.get(key) ?? now;
    since.set(key, began);
    return now - began;
  }

  /** What is to be kept of a storm: its beginning, where this episode is to stand for one, and its end. */
  #stormNow(remediation: Remediation, { storm }: Decision): StormRecord | undefined {
    const known = remediation.status.storm;
    if (storm === undefined)
      return known === undefined || known.releasedAt !== undefined ? known : { ...known, releasedAt: timestamp(this.#clock.now()) };
    if (known !== undefined && known.releasedAt === undefined) return known;
    const next = this.#stormRecord(remediation, storm);
    if (known === undefined) return next;
    const { earlier = [], ...before } = known;
    const isSame = known.page !== undefined && known.domain === next.domain && known.since === next.since;
    // Where it is another, whoever was paged for the last is yet to hear that that is over.
    const open = (isSame ? earlier : [...earlier, before]).filter(({ page }) => page !== undefined && isOpenPage(page));
    // The same storm, held again: that it was paged must not be lost, or who stands for it next pages once more.
    return { ...next, ...(isSame ? { page: known.page } : {}), ...(open.length === 0 ? {} : { earlier: open }) };
  }

  /** The signal is not seen. Gone is only what was looked for with data at hand; everything else is missing data. */
  async #signalGone(
    key: string,
    remediation: Remediation,
    workload: Workload | undefined,
    policy: RemediationPolicy,
    detection: Detection | undefined,
  ): Promise<Requeue> {
    const target = this.#world.signalTargetNow(remediation);
    if (
      workload === undefined ||
      (target.uid !== undefined &&
        target.uid !== workload.ref.uid &&
        workload.replicas.every((r) => r.ref.uid !== target.uid || r.phase === "Exited"))
    )
      return this.#end(remediation, "Succeeded", "SelfRecovered", "TargetGone", `${target.name} is gone ${whenOf(remediation)}`);
    const undecided = detection === undefined ? undefined : this.#world.undecidedOf(remediation, detection);
    const missing = [...(detection?.missing ?? []), ...(undecided === undefined ? [] : [undecidedText(undecided)])];
    if (missing.length > 0) {
      const message = missing.join("; ");
      const { blockedFor } = policy.spec.escalation;
      // Nobody can tell whether the fault goes on, and waiting for ever is no answer.
      const missingFor = this.#lasted(this.#missingSince, key);
      // Whoever has silenced it need not be told of it, as long as Alertmanager says so. One that expired is of then, and gets older.
      if (undecided !== undefined && this.#clock.now() - undecided.seenAt <= durationMs(policy.spec.maxSignalAge))
        this.#missingSince.delete(key);
      else if (missingFor >= durationMs(blockedFor))
        return this.#escalate(remediation, "NoData", `no data for ${blockedFor}: ${message}`, "Inconclusive");
      if (remediation.status.reason !== "NoData" || remediation.status.phase !== "Blocked")
        await this.#saveWith({ ...remediation, status: { ...remediation.status, phase: "Blocked", reason: "NoData", message } }, [
          this.#recorder.about(remediation, "Decision", `no action: NoData: ${message}`, { action: "Block", reason: "NoData" }),
        ]);
      return { after: RECONSIDER_MS };
    }
    this.#missingSince.delete(key);
    const goneFor = this.#lasted(this.#goneSince, key);
    if (goneFor < RESOLVE_GRACE_MS) return { after: Math.min(RECONSIDER_MS, RESOLVE_GRACE_MS - goneFor) };
    return this.#end(remediation, "Succeeded", "SelfRecovered", "SignalResolved", `the signal resolved ${whenOf(remediation)}`);
  }

  #denial(remediation: Remediation): string | undefined {
    const uid = remediation.spec.remediationTarget.uid;
    const answers = this.#world.approvals
      .list()
      .filter(
        (a) =>
          a.metadata.namespace === remediation.metadata.namespace &&
          a.spec.remediation === remediation.metadata.name &&
          (a.spec.targetUid === undefined || a.spec.targetUid === uid),
      );
    const denied = answers.filter((a) => a.spec.decision === "Denied").toSorted((a, b) => timeMs(b.spec.at) - timeMs(a.spec.at))[0];
    if (denied === undefined || answers.some((a) => a.spec.decision === "Approved" && timeMs(a.spec.at) > timeMs(denied.spec.at)))
      return undefined;
    return `denied by ${denied.spec.by}${denied.spec.reason === undefined ? "" : `: ${denied.spec.reason}`}`;
  }

  #newQuestion(remediation: Remediation, policy: RemediationPolicy): QuestionRecord {
    const { name, namespace } = remediation.metadata;
    const how = `Answer with: nightshift approve ${name} --namespace ${namespace}, or --deny.`;
    const what = this.#whatNow(remediation, policy);
    const target = this.#world.targetNow(remediation);
    const on = sameTarget(target, remediation.spec.remediationTarget) ? "" : ` on ${target.name}, which replaced it,`;
    const summary = `${remediation.spec.diagnosis.summary}. May ${what}${on} be carried out? ${how}`;
    return this.#pager.newQuestion(remediation, summary, policy, target);
  }

  /**
   * Asks for the answer that is waited for those that have not confirmed the question yet. Nothing waits for it: a receiver that is
   * slow must not hold up decisions, this episode's answer among them. What came of it is stored by the next turn.
   */
  #askForApproval(remediation: Remediation, policy: RemediationPolicy): void {
    const key = objectKey(remediation);
    const { question } = remediation.status;
    const isDue = question?.state === "Pending" || (question?.state === "NoReceiver" && this.#pager.hasReceivers(policy));
    if (question === undefined || !isDue || this.#asking.has(key)) return;
    if (question.nextTryAt !== undefined && this.#pageDueIn(toldKey(key, question), question.nextTryAt) > 0) return;
    this.#asking.set(key, "UnderWay");
    const asked = (next: PageRecord | undefined): void => {
      if (next === undefined) this.#asking.delete(key);
      else this.#asking.set(key, next);
      this.#wake(key);
    };
    this.#pager.deliver(remediation, { ...question, state: "Pending" }, policy, "Question").then(asked, () => asked(undefined));
  }

  /** Stores what came of asking. A question that was closed meanwhile stays so. */
  async #storeAsked(key: string, remediation: Remediation): Promise<Remediation> {
    const next = this.#asking.get(key);
    if (next === undefined || next === "UnderWay") return remediation;
    const { question } = remediation.status;
    let stored = remediation;
    if (question?.state === "Pending" || question?.state === "NoReceiver") {
      const said =
        next.state === "Sent"
          ? `asked for approval: ${next.summary}`
          : next.tries <= 1
            ? `nobody could be asked for approval yet: ${next.lastError ?? ""}`
            : undefined;
      stored = await this.#saveWith(
        { ...remediation, status: { ...remediation.status, question: next } },
        said === undefined
          ? []
          : [this.#recorder.about(remediation, "Page", said, { state: next.state, dedupKey: next.dedupKey, tries: next.tries })],
      );
    }
    this.#asking.delete(key);
    return stored;
  }

  /**
   * Once a question needs no answer any more, those that have it are yet to be told so: what they show as open else stays open. It
   * is stored together with what has ended it, so that no crash comes between.
   */
  #withQuestionClosed(remediation: Remediation): Remediation {
    const { question, phase, message, gates } = remediation.status;
    if (question === undefined || !isOpenQuestion(question) || IS_ASKED.has(phase)) return remediation;
    const answer = gates.find(({ gate, verdict }) => gate === "AwaitingApproval" && verdict === "Pass");
    const why = isTerminal(remediation) ? `${phase}${message === undefined ? "" : `, ${message}`}` : (answer?.message ?? phase);
    const closed = { ...this.#pager.over(question), summary: `needs no answer any more: ${why}` };
    return { ...remediation, status: { ...remediation.status, question: closed } };
  }

  // ---- acting --------------------------------------------------------------------------------------------------

  async #beginAttempt(remediation: Remediation, rung: number, decision: Decision, records: readonly AuditRecord[]): Promise<Requeue> {
    const workload = this.#world.workload(remediation.spec.workload);
    const attempt =
      workload === undefined
        ? new NightshiftError("PLAN_IMPOSSIBLE", "the workload is gone")
        : this.#planAttempt(remediation, rung, workload);
    if (attempt instanceof NightshiftError) {
      await this.#recorder.write(records);
      return this.#escalate(remediation, noPlanReason(attempt), attempt.message);
    }
    const { blockedUntil: _until, reason: _reason, message: _message, verification: _verification, ...rest } = remediation.status;
    const next: Remediation = {
      ...remediation,
      status: {
        ...rest,
        phase: "Executing",
        gates: [...decision.verdicts],
        decidedAt: timestamp(this.#clock.now()),
        attempts: [...rest.attempts, this.#intended(attempt)],
      },
    };
    const saved = await this.#saveWith(next, [...records, ...this.#intentRecords(next)]);
    const first = attempt.steps[0];
    if (first !== undefined) this.#fresh.set(objectKey(saved), first.effectId);
    return { after: 0 };
  }

  async #execute(key: string, remediation: Remediation): Promise<Requeue> {
    const begin = this.#clock.monotonic();
    const fresh = this.#fresh.get(key);
    this.#fresh.delete(key);
    const progress = await advance(remediation, this.#machine, fresh);
    this.#metrics.room("act", (this.#clock.monotonic() - begin) / 1000);
    switch (progress.next) {
      case "Again":
        return { after: 0 };
      case "Wait":
        return { after: progress.ms };
      case "Verify":
        return this.#beginVerification(progress.remediation);
      case "TargetGone":
        return this.#end(
          closeAttempt(progress.remediation, "Cancelled", progress.message, this.#clock),
          "Cancelled",
          undefined,
          "TargetGone",
          progress.message,
        );
      case "Unknown":
        await this.#save(abandon(progress.remediation, "Failed", progress.message, this.#platform, this.#clock.now()));
        return { after: 0 };
      case "Ended":
        return this.#attemptEnded(progress.remediation, progress.undone);
    }
  }

  async #beginVerification(remediation: Remediation): Promise<Requeue> {
    // Nothing but a message was sent: there is no effect to wait for, and the fault is still a person's.
    await this.#saveWith(
      { ...remediation, status: { ...remediation.status, phase: "Verifying", verification: { startedAt: timestamp(this.#clock.now()) } } },
      [this.#recorder.about(remediation, "Phase", "Verifying: every step is done")],
    );
    return { after: 0 };
  }

  async #attemptEnded(remediation: Remediation, undone: boolean): Promise<Requeue> {
    const attempt = currentAttempt(remediation);
    const message = attempt.message ?? "the attempt ended";
    const closed = closeAttempt(remediation, attempt.outcome ?? "Failed", message, this.#clock);
    const unknown = attempt.steps.find((step) => step.state === "Failed" && step.message?.startsWith("it cannot be known"));
    if (unknown !== undefined) return this.#escalate(closed, "Inconclusive", unknown.message ?? message, "Inconclusive");
    if (!undone)
      return this.#escalate(
        closed,
        "UndoFailed",
        `${message}; and what was done could not be taken back: ${attempt.undo.find((s) => s.state === "Failed")?.message ?? ""}`,
      );
    if (attempt.outcome === "Cancelled") return this.#end(closed, "Cancelled", undefined, "Cancelled", message);
    return this.#climb(closed, message, attempt.outcome === "Ineffective" ? "Ineffective" : "Failed");
  }

  // ---- verifying -----------------------------------------------------------------------------------------------

  async #verify(remediation: Remediation): Promise<Requeue> {
    const policy = this.#world.policyOf(remediation);
    const workload = this.#world.workload(remediation.spec.workload);
    const now = this.#clock.now();
    const interference = interferenceOf({ workload, attempt: currentAttempt(remediation) });
    if (interference !== undefined) return this.#callOff(remediation, "Interference", `${interference}: what helped cannot be told`);
    if (policy === undefined) return this.#callOff(remediation, "PolicyDeleted", "the policy was deleted");
    const unwatched = this.#unwatched(remediation, policy, workload);
    if (unwatched !== undefined) return this.#callOff(remediation, unwatched.reason, unwatched.message);
    const verification = remediation.status.verification ?? { startedAt: timestamp(now) };
    const key = objectKey(remediation);
    const verifying = this.#stopwatches.elapsed(key, "verifying", timeMs(verification.startedAt));
    const verify = verifyOf(remediation, policy);
    const stableFor = durationMs(verify.stableFor);
    const seen = this.#health(remediation, policy, Math.min(verifying, stableFor));
    const stableSince = seen.state === "Well" ? (verification.stableSince ?? timestamp(now)) : undefined;
    if (stableSince !== undefined && this.#stopwatches.elapsed(key, "stable", timeMs(stableSince)) >= stableFor) {
      const healed = closeAttempt(remediation, "Effective", seen.message, this.#clock);
      return this.#end(healed, "Succeeded", "Remediated", "Verified", `${seen.message}, for ${verify.stableFor}`);
    }
    const timeoutMs = durationMs(verify.timeout);
    // What is well is given the time to show it. And time that ran out while nobody looked says nothing of what has not been heard of yet.
    const watched = this.#stopwatches.watched(key, "verifying", timeMs(verification.startedAt));
    const isTold = seen.state === "Ill" || (seen.state === "NoData" && watched >= Math.min(timeoutMs, stableFor + HEARING_MS));
    if (verifying >= timeoutMs && isTold) {
      const why = `not well within ${verify.timeout}: ${seen.message}`;
      if (seen.state === "NoData")
        return this.#escalate(closeAttempt(remediation, "Ineffective", why, this.#clock), "NoData", why, "Inconclusive");
      // What did not help is taken back, where that is not lost by it, before anything else is tried.
      if (await this.#takeBack(remediation, "Ineffective", why)) return { after: 0 };
      return this.#climb(closeAttempt(remediation, "Ineffective", why, this.#clock), why, "Ineffective");
    }
    if (stableSince !== verification.stableSince || remediation.status.verification === undefined)
      await this.#save({
        ...remediation,
        status: {
          ...remediation.status,
          message: seen.message,
          verification: { startedAt: verification.startedAt, ...(stableSince === undefined ? {} : { stableSince }), message: seen.message },
        },
      });
    return { after: Math.min(VERIFY_MS, stableFor) };
  }

  /** Nobody can tell any more whether an attempt has helped: what can be taken back is. */
  async #callOff(remediation: Remediation, reason: string, message: string): Promise<Requeue> {
    if (await this.#takeBack(remediation, "Cancelled", message)) return { after: 0 };
    return this.#end(closeAttempt(remediation, "Cancelled", message, this.#clock), "Cancelled", undefined, reason, message);
  }

  /** Begins to take back what an attempt has done; whether there is anything to be taken back. */
  async #takeBack(remediation: Remediation, outcome: "Cancelled" | "Ineffective", why: string): Promise<boolean> {
    const taken = abandon(remediation, outcome, why, this.#platform, this.#clock.now());
    if (currentAttempt(taken).undo.length === 0) return false;
    await this.#saveWith({ ...taken, status: { ...taken.status, phase: "Executing" } }, [
      this.#recorder.about(taken, "Phase", `Executing: ${why}; it is taken back`),
    ]);
    return true;
  }

  /** Why the signal of an episode is not looked for any more: then that it is not seen says nothing. */
  #unwatched(
    { spec }: Remediation,
    policy: RemediationPolicy,
    workload: Workload | undefined,
  ): { readonly reason: "PolicyChanged"; readonly message: string } | undefined {
    // Without a change it is what the policy covers that has gone.
    if (policy.metadata.generation === spec.policy.generation) return undefined;
    if (policy.spec.signals.every(({ name }) => name !== spec.signal.name))
      return { reason: "PolicyChanged", message: `the policy no longer has the signal ${spec.signal.name}` };
    if (workload !== undefined && targetsOf(policy, [workload]).length === 0)
      return { reason: "PolicyChanged", message: `the policy no longer covers ${workload.ref.name}` };
    return undefined;
  }

  /** Whether the workload of an episode that has acted is well now; `window` is how far back requests are counted (ms). */
  #health(remediation: Remediation, policy: RemediationPolicy, window: number): Health {
    const workload = this.#world.workload(remediation.spec.workload);
    const { signals, undecided, missing }: Pick<Detection, "signals" | "undecided" | "missing"> =
      workload === undefined ? { signals: [], undecided: [], missing: [] } : this.#world.detectFor(remediation, policy, workload);
    return health({
      remediation,
      verify: verifyOf(remediation, policy),
      workload,
      firing: signals.filter((signal) => signal.state === "Firing"),
      undecided,
      missing,
      requests: this.#world.telemetry.requests(remediation.spec.workload, this.#clock.now() - window),
    });
  }

  /** An attempt did not help: the next rung, another episode after a rest, or a person. */
  async #climb(remediation: Remediation, why: string, how: "Failed" | "Ineffective"): Promise<Requeue> {
    const policy = this.#world.policyOf(remediation);
    if (policy === undefined) return this.#end(remediation, "Cancelled", undefined, "PolicyDeleted", "the policy was deleted");
    const { state, message } = this.#health(remediation, policy, durationMs(verifyOf(remediation, policy).stableFor));
    if (state === "Well") {
      // It has recovered while the attempt was under way or taken back, or seems to: nothing more is done unless it comes back.
      const seems = `${why}; and it is well now: ${message}`;
      await this.#saveWith(
        { ...remediation, status: { ...remediation.status, phase: "Blocked", reason: "SignalResolved", message: seems } },
        [
          this.#recorder.about(remediation, "Decision", `no action: SignalResolved: ${seems}`, {
            action: "Block",
            reason: "SignalResolved",
          }),
        ],
      );
      return { after: RECONSIDER_MS };
    }
    const rung = nextRung(remediation.spec.ladder, remediation.status.attempts, 0);
    return this.#deciding.run(async () => {
      const signal = { ...recordedSignal(remediation), seenAt: this.#clock.now() };
      const diagnosis = { ...this.#world.standingDiagnosis(remediation), missing: this.#notKnown(remediation, policy, how) };
      const decision = this.#world.decide("Start", signal, diagnosis, policy, remediation);
      const circuit = decision.verdicts.find((v) => v.gate === "CircuitOpen" && v.verdict === "Block");
      if (circuit !== undefined) return this.#escalate(remediation, "CircuitOpen", `${why}; ${circuit.message}`);
      if (rung === undefined) {
        if (how === "Failed") return this.#escalate(remediation, "StepFailed", why);
        return this.#end(remediation, "Failed", "Ineffective", "Ineffective", why);
      }
      const records = this.#decisionRecord(objectKey(remediation), decision, policy, diagnosis, remediation);
      if (decision.action === "Act") return this.#beginAttempt(remediation, rung, decision, records);
      await this.#saveWith(
        { ...remediation, status: { ...remediation.status, ...blocked(decision), gates: [...decision.verdicts] } },
        records,
      );
      return { after: RECONSIDER_MS };
    });
  }

  // ---- ending --------------------------------------------------------------------------------------------------

  async #end(
    remediation: Remediation,
    phase: Phase,
    outcome: RemediationStatus["outcome"],
    reason: string,
    message: string,
  ): Promise<Requeue> {
    const { blockedUntil: _until, ...rest } = remediation.status;
    const status: RemediationStatus = {
      ...rest,
      phase,
      reason,
      message,
      ...(outcome === undefined ? {} : { outcome }),
      endedAt: timestamp(this.#clock.now()),
    };
    await this.#saveWith({ ...remediation, status }, [
      this.#recorder.about(remediation, "Phase", `${phase}${outcome === undefined ? "" : `, ${outcome}`}: ${message}`, {
        phase,
        outcome,
        reason,
      }),
    ]);
    return { after: 0 };
  }

  /** Hands the episode to a person: once for an incident. */
  async #escalate(
    remediation: Remediation,
    reason: string,
    message: string,
    outcome: "Escalated" | "Inconclusive" = "Escalated",
  ): Promise<Requeue> {
    const status = this.#escalated(remediation, { ...remediation.status, reason }, message, outcome);
    await this.#saveWith({ ...remediation, status }, [
      this.#recorder.about(remediation, "Phase", `Escalated: ${message}`, {
        phase: "Escalated",
        outcome,
        reason,
        paged: status.page !== undefined,
      }),
    ]);
    return { after: 0 };
  }

  #escalated(
    remediation: Remediation,
    status: RemediationStatus,
    message: string,
    outcome: "Escalated" | "Inconclusive" = "Escalated",
  ): RemediationStatus {
    const paged = isPaged(remediation, this.#world.remediations.list(), this.#world.approvals.list());
    const { blockedUntil: _until, ...rest } = status;
    return {
      ...rest,
      phase: "Escalated",
      outcome,
      reason: status.reason ?? "NoPlan",
      message: paged ? `${message} (a person was paged for this incident before)` : message,
      endedAt: timestamp(this.#clock.now()),
      ...(paged || status.page !== undefined
        ? {}
        : { page: this.#pager.newPage(remediation, `${remediation.spec.diagnosis.summary}; ${message}`) }),
    };
  }

  /** Tries what is to be told and was not confirmed yet: of the episode itself, and of the storm that it stands for. */
  async #page(remediation: Remediation): Promise<Requeue> {
    const key = objectKey(remediation);
    let after = Infinity;
    for (const told of toldIn(remediation.status)) {
      const { record, kind } = told;
      // A question is asked beside the episode's own turns, and closed once it is not on its way any more.
      const isOwed = record.state === "Resolving" || (record.state === "Pending" && kind !== "Question");
      if (!isOwed || (kind === "Question" && this.#asking.has(key))) continue;
      const wait = record.nextTryAt === undefined ? 0 : this.#pageDueIn(toldKey(key, record), record.nextTryAt);
      if (wait <= 0) return this.#deliver(remediation, told);
      after = Math.min(after, wait);
    }
    const { page, notice } = remediation.status;
    if ((wasTold(page) || wasTold(notice)) && this.#incidentOver(remediation))
      return this.#close(remediation, {
        ...(wasTold(page) ? { page: this.#pager.over(page) } : {}),
        ...(wasTold(notice) ? { notice: this.#pager.over(notice) } : {}),
      });
    for (const { record, storm: own, kept } of toldIn(remediation.status))
      if (own !== undefined && wasTold(record) && this.#stormOver(remediation, own))
        return this.#close(remediation, kept(this.#pager.over(record)));
    if (isOpenIncident(remediation.status)) after = Math.min(after, INCIDENT_MS);
    return after === Infinity ? {} : { after };
  }

  async #close(remediation: Remediation, closed: Partial<RemediationStatus>): Promise<Requeue> {
    this.#goneSince.delete(incidentKey(remediation));
    const next = { ...remediation, status: { ...remediation.status, ...closed } };
    const before = new Set(toldIn(remediation.status).map(({ record }) => record));
    for (const { storm } of toldIn(remediation.status)) if (storm !== undefined) this.#goneSince.delete(stormKey(remediation, storm));
    await this.#saveWith(
      next,
      toldIn(next.status)
        .filter(({ record }) => !before.has(record))
        .map(({ record: { summary, dedupKey: incident } }) =>
          this.#recorder.about(remediation, "Page", `the incident is over: ${summary}`, { state: "Resolving", dedupKey: incident }),
        ),
    );
    return { after: 0 };
  }

  /**
   * Whether what somebody was paged for is over: healed by an episode since, or by itself or a person. The latter shows in
   * that the signal has been gone, with data at hand, for the policy's cooldown: one that flaps is one incident. Where the policy is
   * gone nobody looks any more, and an incident that stayed open would keep the next of its key from being paged.
   */
  #incidentOver(remediation: Remediation): boolean {
    const { status } = remediation;
    if (!isTerminal(remediation)) return false;
    const all = this.#world.remediations.list();
    if (healedAt(remediation, all) >= timeMs(status.endedAt ?? "")) return true;
    const key = incidentKey(remediation);
    // Also one that was made anew under the same name: it has the same incidents.
    const policy = this.#world.policies.get(policyKey(remediation));
    const incident = dedupKey(remediation);
    if (
      this.#platform.staleness?.() !== undefined ||
      all.some((other) => !isTerminal(other) && dedupKey(other) === incident) ||
      (policy !== undefined && this.#stillFires(remediation, policy))
    ) {
      this.#goneSince.delete(key);
      return false;
    }
    const rests = policy === undefined ? [] : [policy.spec.verify.stableFor, policy.spec.cooldown];
    return this.#lasted(this.#goneSince, key) >= Math.max(RESOLVE_GRACE_MS, ...rests.map(durationMs));
  }

  /** Whether the signal of an episode that is over fires on its workload, or may. A workload that is gone has none. */
  #stillFires(remediation: Remediation, policy: RemediationPolicy): boolean {
    const workload = this.#world.workload(remediation.spec.workload);
    if (workload === undefined) return false;
    const { signals, undecided, missing } = this.#world.detectFor(remediation, withOwnSignal(policy, remediation), workload);
    const isOwn = ({ name }: Signal): boolean => name === remediation.spec.signal.name;
    // Of what is gone nobody will ever say that it is over.
    const there = [workload.ref, ...workload.replicas.filter((r) => r.phase !== "Exited").map((r) => r.ref)].map(targetKey);
    const isLeftOpen = (signal: Signal): boolean => isOwn(signal) && there.includes(targetKey(signal.target));
    return missing.length > 0 || undecided.some(isLeftOpen) || signals.some((s) => s.state === "Firing" && isOwn(s));
  }

  /**
   * Why nobody can tell whether the signal of an episode goes on, for the gates: nothing else is begun then. That its alert is neither
   * acted on nor over; and after a step that failed, when nothing was verified, also that there is no data of it.
   */
  #notKnown(remediation: Remediation, policy: RemediationPolicy, how: "Failed" | "Ineffective"): readonly string[] {
    const workload = this.#world.workload(remediation.spec.workload);
    if (workload === undefined) return [];
    const detection = this.#world.detectFor(remediation, withOwnSignal(policy, remediation), workload);
    const undecided = this.#world.undecidedOf(remediation, detection);
    const fires = detection.signals.some(({ state }) => state === "Firing");
    return [...(undecided === undefined ? [] : [undecidedText(undecided)]), ...(how === "Failed" && !fires ? detection.missing : [])];
  }

  /** Whether a storm that somebody was paged for is over, and has been for a while: counted here, as the times on record are of clocks that may have jumped. */
  #stormOver(remediation: Remediation, storm: Storm): boolean {
    const key = stormKey(remediation, storm);
    // Another episode may stand for it by now, or in a moment.
    const goesOn = this.#world.remediations
      .list()
      .some((other) => standsForStorm(other) && other.status.storm?.domain === storm.domain && other.status.storm.since === storm.since);
    if (goesOn || (storm.releasedAt ?? remediation.status.endedAt) === undefined) {
      this.#goneSince.delete(key);
      return false;
    }
    return this.#lasted(this.#goneSince, key) >= RESOLVE_GRACE_MS;
  }

  async #deliver(remediation: Remediation, { kind, record: page, kept }: Told): Promise<Requeue> {
    const over = page.state === "Resolving";
    // The next incident of the same key must not be closed by the late word about this one.
    const isNewer = (other: PageRecord | undefined): boolean =>
      other?.dedupKey === page.dedupKey && !["Resolving", "Resolved"].includes(other.state);
    const superseded = over && this.#world.remediations.list().some(({ status }) => isNewer(status.page) || isNewer(status.storm?.page));
    const tried: PageRecord = superseded
      ? { ...page, state: "Resolved" }
      : await this.#pager.deliver(remediation, page, this.#world.policyOf(remediation), kind);
    // Whoever was woken is told for as long as it takes.
    const isGivenUp = kind !== "Page" && tried.state === "Resolving" && tried.tries >= MAX_CLOSING_TRIES;
    const next: PageRecord = isGivenUp ? { ...tried, state: "Resolved", nextTryAt: undefined } : tried;
    const told = kind === "Page" ? "paged" : "told";
    const said = superseded
      ? `receivers were not told that this is over, as it began again: ${page.summary}`
      : next.state === "Sent"
        ? `${told}: ${page.summary}`
        : next.state === "Resolved" && !isGivenUp
          ? `told that it is over: ${page.summary}`
          : `not ${over ? "told that it is over" : told}: ${next.lastError ?? ""}`;
    await this.#saveWith({ ...remediation, status: { ...remediation.status, ...kept(next) } }, [
      this.#recorder.about(remediation, "Page", said, { state: next.state, dedupKey: next.dedupKey, tries: next.tries }),
    ]);
    return { after: 0 };
  }

  /** How long until a page is tried again (ms), whatever the wall clock has done since that was stored. */
  #pageDueIn(key: string, nextTryAt: string): number {
    const known = this.#pageDue.get(key);
    if (known?.nextTryAt === nextTryAt) return known.at - this.#clock.monotonic();
    const wait = Math.min(Math.max(0, timeMs(nextTryAt) - this.#clock.now()), MAX_DELAY_MS);
    this.#pageDue.set(key, { nextTryAt, at: this.#clock.monotonic() + wait });
    return wait;
  }

  // ---- storing -------------------------------------------------------------------------------------------------

  async #save(remediation: Remediation): Promise<Remediation> {
    const closed = this.#withQuestionClosed(remediation);
    const revised = withConditions({ ...closed, status: { ...closed.status, revision: closed.status.revision + 1 } }, this.#clock.now());
    let stored: Remediation;
    try {
      stored = await this.#store.update(revised);
    } catch (error) {
      // Somebody else wrote it: the next try must begin from what is there now.
      if (error instanceof NightshiftError && error.code === "CONFLICT") {
        const newest = await this.#store.get("Remediation", remediation.metadata.namespace, remediation.metadata.name);
        if (newest !== undefined) this.#world.remediations.put(newest);
      }
      throw error;
    }
    this.#world.remediations.put(stored);
    return stored;
  }

  async #saveWith(remediation: Remediation, records: readonly AuditRecord[]): Promise<Remediation> {
    const stored = await storedAndRecorded(this.#save(remediation), this.#recorder.write(records));
    this.#count(stored);
    return stored;
  }

  #count(remediation: Remediation): void {
    const key = objectKey(remediation);
    if (!isTerminal(remediation) || remediation.status.outcome === undefined || this.#counted.has(key)) return;
    this.#counted.add(key);
    this.#metrics.outcome(remediation.status.outcome);
  }

  #fold(remediation: Remediation): void {
    const key = objectKey(remediation);
    const known = this.#folds.get(key);
    this.#folds.set(key, { count: (known?.count ?? 0) + 1, at: this.#clock.now() });
    this.#wake(key);
  }

  async #storeFolds(key: string, remediation: Remediation): Promise<Remediation> {
    const folds = this.#folds.get(key);
    if (folds === undefined) return remediation;
    this.#folds.delete(key);
    if (isTerminal(remediation)) return remediation;
    return this.#saveWith(
      {
        ...remediation,
        status: { ...remediation.status, signalsFolded: remediation.status.signalsFolded + folds.count, lastSignalAt: timestamp(folds.at) },
      },
      [
        this.#recorder.about(
          remediation,
          "Signal",
          `fired again: part of this episode (${remediation.status.signalsFolded + folds.count} so far)`,
        ),
      ],
    );
  }

  #forget(key: string, remediation: Remediation): void {
    if (owesPage(remediation.status)) return;
    for (const map of [this.#recorded, this.#fresh, this.#goneSince, this.#missingSince, this.#staleSince, this.#folds]) map.delete(key);
    for (const { record } of toldIn(remediation.status)) this.#pageDue.delete(toldKey(key, record));
    this.#stopwatches.forget(key);
  }

  /** The record of a decision, unless the same decision is the last on record. */
  #decisionRecord(
    key: string,
    decision: Decision,
    policy: RemediationPolicy,
    diagnosis: Diagnosis,
    remediation: Remediation | undefined,
  ): AuditRecord[] {
    const signature = JSON.stringify([
      decision.action,
      decision.reason,
      decision.verdicts.map((v) => v.verdict),
      diagnosis.remediationTarget,
    ]);
    if (this.#recorded.get(key) === signature) return [];
    // Keys of signals that never became an episode would pile up otherwise.
    if (this.#recorded.size > 10_000) this.#recorded.clear();
    this.#recorded.set(key, signature);
    this.#metrics.decision(decision.action, decision.reason);
    const what = remediation === undefined ? rungName(policy.spec.ladder[0]!) : this.#whatNow(remediation, policy);
    const message = {
      Act: `act: ${what} on ${diagnosis.remediationTarget.name}: ${diagnosis.summary}`,
      Observe: `I would have fixed this now: ${what} on ${diagnosis.remediationTarget.name}: ${diagnosis.summary}`,
      AwaitApproval: `waiting for a person's yes to ${what} on ${diagnosis.remediationTarget.name}: ${diagnosis.summary}`,
      Block: `no action: ${decision.reason ?? "NoPlan"}: ${decision.message}`,
    }[decision.action];
    return [
      {
        type: "Decision",
        at: this.#clock.now(),
        ...(remediation === undefined ? {} : { remediation: objectKey(remediation) }),
        policy: objectKey(policy),
        target: targetKey(diagnosis.remediationTarget),
        message,
        data: {
          action: decision.action,
          ...(decision.reason === undefined ? {} : { reason: decision.reason }),
          ...(decision.until === undefined ? {} : { until: timestamp(decision.until) }),
          signalTarget: targetKey(diagnosis.signalTarget),
          cause: diagnosis.cause,
          confidence: diagnosis.confidence,
          summary: diagnosis.summary,
          evidence: diagnosis.evidence,
          ...(diagnosis.dependency === undefined
            ? {}
            : { dependency: targetKey(diagnosis.dependency.workload), why: diagnosis.dependency.message }),
          verdicts: decision.verdicts,
        },
      },
    ];
  }
}

/** What a Remediation keeps of a diagnosis; what is more goes to the shelf. */
function diagnosisRecord({ cause, rootCauseKey, confidence, summary, evidence }: Diagnosis, shelf: EvidenceShelf): DiagnosisRecord {
  const kept = boundedEvidence(evidence);
  const more = isWhole(kept, evidence) ? {} : { allEvidence: shelf.keep(evidence) };
  return { cause, rootCauseKey, confidence, summary, evidence: kept, ...more };
}

/**
 * The diagnosis for an episode that another service's failures have held back. That these are no longer seen does not mean that they are over:
 * where nothing is heard of that service, it must be known to run, with all of its replicas ready.
 */
function sinceHeld({ spec }: Remediation, diagnosis: Diagnosis): Diagnosis {
  const { cause, rootCauseKey, evidence } = spec.diagnosis;
  if (cause !== "DependencyFailure" || diagnosis.dependency !== undefined) return diagnosis;
  const isCulprit = ({ kind, values }: Evidence): boolean =>
    kind === "Dependency" && rootCauseKey === `${cause}/${String(values["workload"])}`;
  const failed = evidence.some((piece) => isCulprit(piece) && piece.values["errorRate"] !== undefined);
  const silent = diagnosis.evidence.find((piece) => isCulprit(piece) && piece.values["state"] === "Unknown");
  if (!failed || silent === undefined) return diagnosis;
  const { ready, desired } = silent.values;
  if (typeof ready === "number" && typeof desired === "number" && desired > 0 && ready >= desired) return diagnosis;
  return { ...diagnosis, missing: [...diagnosis.missing, `whether it is well again is not known: ${silent.message}`] };
}

/** With the diagnosis of this decision, where its cause is another than that which the episode began with. */
function withDiagnosis(remediation: Remediation, diagnosis: Diagnosis, shelf: EvidenceShelf): Remediation {
  const { diagnosis: _before, ...status } = remediation.status;
  if (diagnosis.rootCauseKey === remediation.spec.diagnosis.rootCauseKey) return { ...remediation, status };
  return { ...remediation, status: { ...status, diagnosis: diagnosisRecord(diagnosis, shelf) } };
}

type Storm = Omit<StormRecord, "earlier">;

/** Something that people were told or asked, or are to be. */
interface Told {
  readonly kind: PageKind;
  readonly record: PageRecord;
  /** The storm that it is about, where it is about one. */
  readonly storm?: Storm;
  /** The part of the status that keeps it, with `next` in its place. */
  readonly kept: (next: PageRecord) => Partial<RemediationStatus>;
}

function toldIn({ page, storm, notice, question }: RemediationStatus): Told[] {
  const all: Told[] = [];
  if (page !== undefined) all.push({ kind: "Page", record: page, kept: (next) => ({ page: next }) });
  if (storm !== undefined) {
    const { earlier = [], page: stormPage } = storm;
    if (stormPage !== undefined)
      all.push({ kind: "Page", record: stormPage, storm, kept: (next) => ({ storm: { ...storm, page: next } }) });
    earlier.forEach((each, i) => {
      if (each.page === undefined) return;
      const kept = (next: PageRecord): Partial<RemediationStatus> => ({
        storm: { ...storm, earlier: earlier.with(i, { ...each, page: next }) },
      });
      all.push({ kind: "Page", record: each.page, storm: each, kept });
    });
  }
  if (notice !== undefined) all.push({ kind: "Notice", record: notice, kept: (next) => ({ notice: { ...next, step: notice.step } }) });
  if (question !== undefined) all.push({ kind: "Question", record: question, kept: (next) => ({ question: next }) });
  return all;
}

const toldKey = (key: string, { dedupKey: incident }: PageRecord): string => `${key}|${incident}`;

/** Whether a question is asked, or to be asked, and needs an answer. */
function isOpenQuestion(question: PageRecord | undefined): boolean {
  return question !== undefined && question.state !== "Resolving" && question.state !== "Resolved";
}

/** Whether somebody is yet to be told of a page, or of its end. */
function isOpenPage({ state }: PageRecord): boolean {
  return state !== "Resolved" && state !== "NoReceiver";
}

/** With the signal of an episode alone: that there is no data of another says nothing of its fault. */
function withOwnSignal(policy: RemediationPolicy, { spec }: Remediation): RemediationPolicy {
  return { ...policy, spec: { ...policy.spec, signals: policy.spec.signals.filter(({ name }) => name === spec.signal.name) } };
}

const incidentKey = (remediation: Remediation): string => `${objectKey(remediation)}|incident`;
const stormKey = (remediation: Remediation, { domain, since }: Storm): string => `${objectKey(remediation)}|storm|${domain}|${since}`;

function withConditions(remediation: Remediation, now: number): Remediation {
  return { ...remediation, status: { ...remediation.status, conditions: remediationConditions(remediation, now) } };
}

function blocked(decision: Decision): Pick<RemediationStatus, "phase" | "reason" | "message" | "blockedUntil"> {
  return {
    phase: "Blocked",
    reason: decision.reason ?? "NoPlan",
    message: decision.message,
    ...(decision.until === undefined ? { blockedUntil: undefined } : { blockedUntil: timestamp(decision.until) }),
  };
}

/** How far an episode had come, in words. */
function whenOf({ status }: Remediation): string {
  const last = status.attempts.at(-1);
  if (last === undefined) return "before anything was done";
  return `after attempt ${status.attempts.length}, ${last.what}, which ${last.outcome === "Ineffective" ? "had not helped yet" : "failed"}`;
}

/** By what an episode's current attempt is verified: its rung's own measure goes before the policy's. */
function verifyOf(remediation: Remediation, policy: RemediationPolicy): RemediationPolicy["spec"]["verify"] {
  return { ...policy.spec.verify, ...remediation.spec.ladder[currentAttempt(remediation).rung]?.verify };
}

function signalKey(policy: RemediationPolicy, { fingerprint }: Signal): string {
  return `${objectKey(policy)}|${fingerprint}`;
}

/** Why there is no plan, in one word. */
function noPlanReason(error: NightshiftError): string {
  return error.code === "GITOPS_OWNED" ? "GitOpsOwned" : "NoPlan";
}

function closeAttempt(remediation: Remediation, outcome: NonNullable<Attempt["outcome"]>, message: string, clock: Clock): Remediation {
  const attempt = currentAttempt(remediation);
  const steps = attempt.steps.map((step): StepRecord => (step.state === "Pending" ? { ...step, state: "Skipped" } : step));
  return withAttempt(remediation, { ...attempt, steps, outcome, message, endedAt: timestamp(clock.now()) });
}
