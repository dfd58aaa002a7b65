import type { RemediationApproval } from "../api/approval.ts";
import type { NightshiftError } from "../api/errors.ts";
import { sameTarget, targetKey, type TargetRef } from "../api/meta.ts";
import type { RemediationPolicy, Rung } from "../api/policy.ts";
import type { Attempt, Remediation, StepRecord } from "../api/remediation.ts";
import type { Runbook } from "../api/runbook.ts";
import type { Alert, Diagnosis, Signal } from "../api/signal.ts";
import { timeMs } from "../api/time.ts";
import { durationMs } from "../api/units.ts";
import { decide } from "../decide/decide.ts";
import type { Decision, GateContext } from "../decide/gate.ts";
import { detectSignals, targetsOf, unclearHint, type Detection } from "../orient/detect.ts";
import { wasRolledOut } from "../orient/changes.ts";
import { diagnose } from "../orient/diagnose.ts";
import { failureDomains } from "../orient/failure-domains.ts";
import { ChangeLog } from "../observe/changes.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import { findWorkload } from "../act/machine.ts";
import { effectsOf, favouriteRung, nextRung, rollbackRung, unsupported } from "../act/plan.ts";
import { EFFECTS_OF } from "../act/step-facts.ts";
import { resultReplica } from "../act/step.ts";
import type { Clock } from "../ports/clock.ts";
import type { Platform, Replica, Workload } from "../ports/platform.ts";
import type { Store } from "../ports/store.ts";
import type { LoopMetrics } from "../record/metrics.ts";
import { AlertIndex } from "./alerts.ts";
import { AnsweredHints } from "./hints.ts";
import { Causes } from "./causes.ts";
import { Cache, objectKey } from "./cache.ts";

/** Steps after which the owner of their target makes another. */
const ENDS_TARGET: ReadonlySet<StepRecord["type"]> = new Set(["evict", "stop"]);

/** Everything that the loop knows, in memory: resources, workloads, telemetry and alerts. Reading it never waits. */
export class World {
  readonly policies = new Cache("RemediationPolicy");
  readonly runbooks = new Cache("Runbook");
  readonly remediations = new Cache("Remediation");
  readonly budgets = new Cache("RemediationBudget");
  readonly approvals = new Cache("RemediationApproval");
  readonly dependencies = new Cache("ServiceDependency");
  readonly alerts = new AlertIndex();
  readonly platform: Platform;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** Signals that fire, by policy and workload, as of their last evaluation, and by fingerprint. */
  readonly firing = new Map<string, ReadonlyMap<string, Signal>>();
  readonly #causes: Causes;
  readonly #changes: ChangeLog;
  readonly #metrics: LoopMetrics;
  readonly #settled: () => { readonly suppressed: readonly Alert[] } | undefined;
  readonly #answeredHints = new AnsweredHints();
  /** By the uids of episodes that were taken up after a start, and whose alert or hint has not been heard of since: when they were. */
  readonly #unheard = new Map<string, number>();

  /** Workloads and replicas by name, and what that was made of. */
  #names: { readonly of: readonly Workload[]; readonly refs: ReadonlyMap<string, readonly TargetRef[]> } | undefined;
  /** Workloads by namespace, and what that was made of. */
  #refusals: { readonly runbooks: readonly Runbook[]; readonly of: WeakMap<RemediationPolicy, readonly NightshiftError[]> } | undefined;
  #namespaces: { readonly of: readonly Workload[]; readonly workloads: ReadonlyMap<string, readonly Workload[]> } | undefined;

  constructor(options: {
    readonly platform: Platform;
    readonly telemetry: Telemetry;
    readonly clock: Clock;
    readonly metrics: LoopMetrics;
    /** See `AlertSource.settled`. */
    readonly settled?: () => { readonly suppressed: readonly Alert[] } | undefined;
  }) {
    this.#settled = options.settled ?? (() => undefined);
    this.platform = options.platform;
    this.telemetry = options.telemetry;
    this.clock = options.clock;
    this.#changes = new ChangeLog(options.clock);
    this.#causes = new Causes(options.telemetry, options.clock);
    this.#metrics = options.metrics;
  }

  /** Follows the store; resolves when everything that exists has been read. */
  async follow(
    store: Store,
    stop: AbortSignal,
    on: { readonly change: (kind: string, key: string) => void; readonly error: (message: string) => void },
  ): Promise<void> {
    const caches = [
      [this.policies, "RemediationPolicy"],
      [this.runbooks, "Runbook"],
      [this.remediations, "Remediation"],
      [this.budgets, "RemediationBudget"],
      [this.approvals, "RemediationApproval"],
      [this.dependencies, "ServiceDependency"],
    ] as const;
    for (const [cache, kind] of caches) void cache.follow(store, this.clock, stop, (key) => on.change(kind, key), on.error);
    await Promise.all(caches.map(([cache]) => cache.ready));
  }

  /** The workloads that a policy covers; none, where it cannot be carried out here. */
  targets(policy: RemediationPolicy): Workload[] {
    if (this.refusalOf(policy).length > 0) return [];
    return targetsOf(policy, this.#workloadsOf(policy.metadata.namespace));
  }

  /** Why a policy cannot be carried out here; empty when it can. Such a policy begins nothing. Asked anew only for another policy, or once a runbook has changed. */
  refusalOf(policy: RemediationPolicy): readonly NightshiftError[] {
    const runbooks = this.runbooks.list();
    if (this.#refusals?.runbooks !== runbooks) this.#refusals = { runbooks, of: new WeakMap() };
    const { of } = this.#refusals;
    const refusal = of.get(policy) ?? unsupported(policy, this.runbook, this.platform);
    of.set(policy, refusal);
    return refusal;
  }

  /** The workloads of a namespace: with thousands of workloads and a policy for each team, nobody can look at all for each. */
  #workloadsOf(namespace: string): readonly Workload[] {
    const of = this.platform.workloads();
    if (this.#namespaces?.of !== of) this.#namespaces = { of, workloads: Map.groupBy(of, (workload) => workload.ref.namespace) };
    return this.#namespaces.workloads.get(namespace) ?? [];
  }

  /** Whether a workload or replica of another namespace has this name. */
  #hasNamesake({ namespace, name }: TargetRef): boolean {
    const of = this.platform.workloads();
    if (this.#names?.of !== of) {
      const refs = of.flatMap(({ ref, replicas }) => [ref, ...replicas.map((replica) => replica.ref)]);
      this.#names = { of, refs: Map.groupBy(refs, (ref) => ref.name) };
    }
    return this.#names.refs.get(name)?.some((ref) => ref.namespace !== namespace) ?? false;
  }

  workload(ref: TargetRef): Workload | undefined {
    return findWorkload(this.platform, ref);
  }

  runbook = (namespace: string, name: string): Runbook | undefined => this.runbooks.get(`${namespace}/${name}`);

  policyOf(remediation: Remediation): RemediationPolicy | undefined {
    const policy = this.policies.get(`${remediation.metadata.namespace}/${remediation.spec.policy.name}`);
    // A policy that was deleted and made anew is another policy: its team has not agreed to this episode.
    return policy?.metadata.uid === remediation.spec.policy.uid ? policy : undefined;
  }

  /** The policy's signals on a workload now, and what was looked for and is not there. */
  detect(policy: RemediationPolicy, workload: Workload): Detection {
    const now = this.clock.now();
    const { platform } = this;
    const surroundings = {
      graph: () => this.#causes.graph(this.dependencies.list(), platform.workloads()),
      changes: { list: this.#changes.list(), knownSince: this.#changes.knownSince },
      resources: platform.resources === undefined ? undefined : platform.resources.bind(platform),
      hasNamesake: (target: TargetRef) => this.#hasNamesake(target),
    };
    return this.#timed("orient", () =>
      this.#answeredHints.without(
        detectSignals(policy, workload, this.telemetry, this.alerts.about(workload), now, surroundings),
        policy,
        this.remediations.list(),
      ),
    );
  }

  /** An episode of an earlier life of the loop is taken up: what its source said then was heard by another. */
  takeUp(remediation: Remediation): void {
    if (remediation.metadata.uid !== undefined) this.#unheard.set(remediation.metadata.uid, this.clock.monotonic());
  }

  /**
   * As `detect`, for an episode. Alerts are kept in memory, and Alertmanager repeats what still fires after hours only:
   * after a start, an alert that has not been heard of is missing data, neither gone nor healed, unless Alertmanager was
   * asked and does not have it.
   */
  detectFor(remediation: Remediation, policy: RemediationPolicy, workload: Workload): Detection {
    const detection = this.detect(policy, workload);
    const { signal, signalTarget } = remediation.spec;
    if (signal.condition === "hint") return this.#detectForHint(remediation, policy, workload, detection);
    const uid = remediation.metadata.uid ?? "";
    if (signal.condition !== "alert" || !this.#unheard.has(uid)) return detection;
    if ([...detection.signals, ...detection.undecided].some((seen) => seen.fingerprint === signal.fingerprint)) {
      this.#unheard.delete(uid);
      return detection;
    }
    const there = [workload.ref, ...workload.replicas.filter((r) => r.phase !== "Exited").map((r) => r.ref)];
    if (!there.some((ref) => sameTarget(ref, signalTarget))) return detection;
    const settled = this.#settled();
    if (settled !== undefined) {
      const suppressed = settled.suppressed.map((alert) => ({ ...alert, suppressed: true as const }));
      const { undecided } = detectSignals(policy, workload, this.telemetry, suppressed, this.clock.now());
      const own = undecided.filter((seen) => seen.fingerprint === signal.fingerprint);
      if (own.length === 0) this.#unheard.delete(uid);
      return { ...detection, undecided: [...detection.undecided, ...own] };
    }
    const unheard = `the alert of ${signal.name} has not been heard of since nightshift started: whether it still fires is not known`;
    return { ...detection, missing: [...detection.missing, unheard] };
  }

  /** The alert of an episode, where it is neither acted on nor over, on its own target or what replaced that. */
  undecidedOf(remediation: Remediation, detection: Detection): Signal | undefined {
    const { signal, signalTarget } = remediation.spec;
    const now = this.targetNow(remediation);
    return detection.undecided.find(
      ({ name, target }) => name === signal.name && (targetKey(target) === targetKey(signalTarget) || sameTarget(target, now)),
    );
  }

  /**
   * A hint that cannot be understood leaves its episode without data for as long as a fault may last before a person is asked.
   * Hints are kept in memory: after a start, whether one was repeated is known once it had the time to be.
   */
  #detectForHint(remediation: Remediation, policy: RemediationPolicy, workload: Workload, detection: Detection): Detection {
    const { signal, signalTarget } = remediation.spec;
    const hint = policy.spec.signals.find(({ name }) => name === signal.name)?.hint;
    const replica = workload.replicas.find(({ ref, phase }) => ref.uid === signalTarget.uid && phase !== "Exited");
    if (hint === undefined || replica === undefined) return detection;
    const unclear = unclearHint(policy, hint, replica, this.telemetry, this.clock.now());
    const takenUp = this.#unheard.get(remediation.metadata.uid ?? "");
    const unheard =
      takenUp !== undefined && this.clock.monotonic() - takenUp < durationMs(hint.activeFor)
        ? `whether ${replica.ref.name} repeats its hint is not known since nightshift started`
        : undefined;
    const missing = [unclear, unheard].filter((why) => why !== undefined);
    return missing.length === 0 ? detection : { ...detection, missing: [...new Set([...detection.missing, ...missing])] };
  }

  /**
   * What is really wrong. `began`: when the symptom began, where that is on record (ms). `Limits` leaves statistics out: what services
   * do while they are acted on is not what they usually do.
   */
  diagnose(signal: Signal, policy: RemediationPolicy, began = Infinity, by: "Statistics" | "Limits" = "Statistics"): Diagnosis {
    return this.#timed("orient", () => {
      const workloads = this.platform.workloads();
      const graph = this.#causes.graph(this.dependencies.list(), workloads);
      const onset = this.#causes.onset(`${objectKey(policy)}|${signal.fingerprint}`, Math.min(began, signal.startsAt));
      const search = (workload: TargetRef) => (by === "Limits" ? undefined : this.#causes.search(workload, graph, onset));
      return diagnose(signal, policy, workloads, graph, this.telemetry, this.clock.now(), {
        onset,
        search,
        changes: this.#changes.list(),
      });
    });
  }

  /** Asks the gates. */
  decide(
    phase: "Start" | "Step",
    signal: Signal,
    diagnosis: Diagnosis,
    policy: RemediationPolicy | undefined,
    self: Remediation | undefined,
  ): Decision {
    const workload = this.workload(diagnosis.workload);
    const replica = workload?.replicas.find((each) => each.ref.uid === diagnosis.remediationTarget.uid);
    const domains = this.#timed("orient", () =>
      failureDomains({
        signal,
        workload,
        replica,
        workloads: this.platform.workloads(),
        firing: [...this.firing.values()].flatMap((signals) => [...signals.values()]),
        dependencies: this.dependencies.list(),
      }),
    );
    const context: GateContext = {
      now: this.clock.now(),
      policy,
      signal,
      diagnosis,
      workload,
      replica,
      domains,
      self: self === undefined ? undefined : { namespace: self.metadata.namespace, name: self.metadata.name },
      remediations: this.#episodes(self),
      budgets: this.budgets.list(),
      approvals: this.#approvalsOf(self),
      ...this.#effects(phase, policy, self, {
        rootCauseKey: diagnosis.rootCauseKey,
        workload: diagnosis.workload,
        began: self === undefined ? signal.startsAt : timeMs(self.spec.signal.startsAt),
      }),
      ...(phase === "Step" ? this.#stepReplica(self, workload) : {}),
      ...this.#staleness(),
    };
    return this.#timed("decide", () => decide(context, phase));
  }

  /** The gates' answer for an episode that is under way. */
  decideStep(remediation: Remediation): Decision {
    return this.decide("Step", recordedSignal(remediation), this.standingDiagnosis(remediation), this.policyOf(remediation), remediation);
  }

  /**
   * The diagnosis of an episode that has acted: what it began with, its own symptom may be gone. Whether the fault lies
   * elsewhere is looked at anew; where the target was replaced, its replacement is the target.
   */
  standingDiagnosis(remediation: Remediation): Diagnosis {
    const recorded = { ...recordedDiagnosis(remediation), remediationTarget: this.targetNow(remediation) };
    const policy = this.policyOf(remediation);
    const dependency = policy === undefined ? undefined : this.diagnose(recordedSignal(remediation), policy, Infinity, "Limits").dependency;
    return dependency === undefined ? recorded : { ...recorded, dependency };
  }

  /** What the next attempt of an episode acts on: its target, or what replaced that. */
  targetNow(remediation: Remediation): TargetRef {
    const { remediationTarget, workload } = remediation.spec;
    const replicas = this.workload(workload)?.replicas.filter((r) => r.phase !== "Exited") ?? [];
    if (sameTarget(remediationTarget, workload) || replicas.some((r) => r.ref.uid === remediationTarget.uid)) return remediationTarget;
    for (const attempt of remediation.status.attempts.toReversed())
      for (const step of attempt.steps) {
        const started = step.type === "startReplacement" ? resultReplica(step) : undefined;
        if (started !== undefined && replicas.some((r) => r.ref.uid === started.uid)) return started;
      }
    return successor(remediation, replicas)?.ref ?? remediationTarget;
  }

  /** What the signal of an episode is looked for on: its target, or what replaced that. */
  signalTargetNow(remediation: Remediation): TargetRef {
    const { signalTarget, remediationTarget } = remediation.spec;
    return sameTarget(signalTarget, remediationTarget) ? this.targetNow(remediation) : signalTarget;
  }

  /** The signal of an episode as it fires now, on its target or on what replaced that, or undefined. */
  currentSignal(remediation: Remediation, detection: Detection): Signal | undefined {
    const now = this.signalTargetNow(remediation);
    return (
      detection.signals.find((s) => s.state === "Firing" && s.fingerprint === remediation.spec.signal.fingerprint) ??
      detection.signals.find(
        (s) =>
          s.state === "Firing" &&
          s.name === remediation.spec.signal.name &&
          (targetKey(s.target) === targetKey(remediation.spec.signalTarget) || sameTarget(s.target, now)),
      )
    );
  }

  /** Every episode as the gates see it; `self` as the caller has it, which may be ahead of what is stored. */
  #episodes(self: Remediation | undefined): Remediation[] {
    // An episode that waits for somebody else's fault to end will not act on its root cause, so it holds no lock on it.
    const holds = (r: Remediation): boolean => r.status.phase !== "Blocked" || r.status.reason !== "DependencyUnhealthy";
    return this.remediations
      .list()
      .flatMap((r) => (r.metadata.uid === self?.metadata.uid ? (self === undefined ? [] : [self]) : holds(r) ? [r] : []));
  }

  /** Index of the rung that an episode would begin now: the last one where all were tried. `began`: when its symptom did (ms). */
  rungNow(
    policy: RemediationPolicy | undefined,
    ladder: readonly Rung[],
    about: { readonly rootCauseKey: string; readonly workload: TargetRef; readonly began: number },
    attempts: readonly Attempt[],
  ): number {
    let favourite = policy === undefined ? 0 : favouriteRung(policy, ladder, about.rootCauseKey, this.remediations.list());
    if (policy?.spec.firstRung === "UndoChange" && wasRolledOut(this.#changes.list(), about.workload, about.began))
      favourite = rollbackRung(ladder, policy.metadata.namespace, this.runbook);
    return nextRung(ladder, attempts, favourite) ?? ladder.length - 1;
  }

  /** Notes what has changed since it was looked last. */
  noteChanges(): void {
    const atWork = (workload: TargetRef): boolean =>
      this.remediations
        .list()
        .some(({ spec, status }) => sameTarget(spec.workload, workload) && (status.phase === "Executing" || status.phase === "Verifying"));
    this.#changes.look(this.platform.workloads(), atWork);
  }

  /** The effects of the rung that would be begun, or of the step that would be next. */
  #effects(
    phase: "Start" | "Step",
    policy: RemediationPolicy | undefined,
    self: Remediation | undefined,
    about: Parameters<World["rungNow"]>[2],
  ): Pick<GateContext, "effects"> {
    const ladder = self?.spec.ladder ?? policy?.spec.ladder ?? [];
    if (phase === "Step") {
      const step = stepNow(self);
      return step === undefined ? {} : { effects: new Set(EFFECTS_OF[step.type]) };
    }
    const rung = ladder[this.rungNow(policy, ladder, about, self?.status.attempts ?? [])];
    const namespace = self?.metadata.namespace ?? policy?.metadata.namespace ?? "";
    return rung === undefined ? {} : { effects: effectsOf(rung, namespace, this.runbook) };
  }

  /** The replica of the step that would be next, where that is not the episode's own target. */
  #stepReplica(self: Remediation | undefined, workload: Workload | undefined): Pick<GateContext, "stepReplica"> {
    const step = stepNow(self);
    const replica = step?.target === undefined ? undefined : workload?.replicas.find(({ ref }) => ref.uid === step.target?.uid);
    return replica === undefined ? {} : { stepReplica: replica };
  }

  #staleness(): Pick<GateContext, "staleness"> {
    const staleness = this.platform.staleness?.();
    return staleness === undefined ? {} : { staleness };
  }

  #approvalsOf(self: Remediation | undefined): RemediationApproval[] {
    const isAbout = ({ metadata, spec }: RemediationApproval): boolean =>
      self !== undefined && metadata.namespace === self.metadata.namespace && spec.remediation === self.metadata.name;
    return this.approvals.list().filter((a) => a.spec.decision === "CircuitClosed" || isAbout(a));
  }

  #timed<T>(room: "orient" | "decide", work: () => T): T {
    const begin = this.clock.monotonic();
    const result = work();
    this.#metrics.room(room, (this.clock.monotonic() - begin) / 1000);
    return result;
  }
}

/**
 * What the owner of an episode's target has made in its place since an attempt ended it: what has its name, else the only one that was started
 * since. Of several nobody can tell which it is.
 */
function successor({ spec, status }: Remediation, replicas: readonly Replica[]): Replica | undefined {
  const ended = status.attempts
    .flatMap(({ steps }) => steps)
    .findLast(
      ({ type, state, target }) =>
        ENDS_TARGET.has(type) && state === "Done" && (target === undefined || sameTarget(target, spec.remediationTarget)),
    );
  if (ended?.intendedAt === undefined) return undefined;
  // Platforms tell when a replica began in whole seconds.
  const since = Math.floor(timeMs(ended.intendedAt) / 1000) * 1000;
  const later = replicas.filter(({ startedAt, phase }) => startedAt >= since && phase !== "Stopping");
  return later.find(({ ref }) => ref.name === spec.remediationTarget.name) ?? (later.length === 1 ? later[0] : undefined);
}

/** The step of an episode that would be next. */
function stepNow(self: Remediation | undefined): StepRecord | undefined {
  return self?.status.attempts.at(-1)?.steps.find(({ state }) => state === "Pending" || state === "Intended");
}

/** The signal that began an episode, as a signal again. */
export function recordedSignal(remediation: Remediation): Signal {
  const { signal, diagnosis, signalTarget } = remediation.spec;
  const startsAt = timeMs(signal.startsAt);
  const receivedAt = timeMs(signal.receivedAt);
  return {
    name: signal.name,
    condition: signal.condition,
    source: signal.source,
    state: "Firing",
    target: signalTarget,
    startsAt,
    seenAt: receivedAt,
    receivedAt,
    fingerprint: signal.fingerprint,
    cause: diagnosis.cause,
    confidence: diagnosis.confidence,
    evidence: diagnosis.evidence,
  };
}

/** The diagnosis that an episode acts on. */
export function recordedDiagnosis(remediation: Remediation): Diagnosis {
  const { diagnosis, signalTarget, remediationTarget, workload } = remediation.spec;
  return { ...diagnosis, signalTarget, remediationTarget, workload, missing: [] };
}

/** The policy's key, as the cache has it. */
export function policyKey(remediation: Remediation): string {
  return `${remediation.metadata.namespace}/${remediation.spec.policy.name}`;
}

/** Alerts that are new or changed, as the webhook hands them over. */
export interface AlertSource {
  /** The alerts that are known now. */
  alerts(): readonly Alert[];
  /** Calls back with the alerts that are new or changed, before the sender gets its answer; returns what ends it. */
  onChange(listener: (changed: readonly Alert[]) => void): () => void;
  /**
   * Once everything that fires is known: alerts that are silenced or inhibited, of which nobody is told. Undefined before
   * that: what has not been heard of may fire. Without the method it is never known.
   */
  settled?(): { readonly suppressed: readonly Alert[] } | undefined;
}

export { objectKey };
