import { messageOf } from "../api/errors.ts";
import { targetKey, type TargetRef } from "../api/meta.ts";
import { isOpenIncident, isSettled, isTerminal, type Phase } from "../api/remediation.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { Alert, Signal } from "../api/signal.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import type { Clock } from "../ports/clock.ts";
import type { Platform, Workload } from "../ports/platform.ts";
import type { Random } from "../ports/random.ts";
import { sleep } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";
import type { AuditRecord, AuditSink } from "../record/audit.ts";
import { type EvidenceShelf, NO_SHELF } from "../record/evidence.ts";
import type { LoopMetrics } from "../record/metrics.ts";
import type { Receiver } from "../record/paging.ts";
import { Episodes } from "./episodes.ts";
import { Pager } from "./pager.ts";
import { type Blindness, blindnessOf, Policies } from "./policies.ts";
import { WorkQueue } from "./queue.ts";
import { Recorder } from "./recorder.ts";
import { type AlertSource, objectKey, World } from "./world.ts";

/** What the loop runs on. */
export interface LoopOptions {
  readonly store: Store;
  readonly platform: Platform;
  readonly telemetry: Telemetry;
  readonly alerts: AlertSource;
  readonly audit: AuditSink;
  readonly receivers: readonly Receiver[];
  /** Keeps evidence that is larger than a Remediation may be. Default: nothing does, and the Remediation says so. */
  readonly shelf?: EvidenceShelf;
  readonly metrics: LoopMetrics;
  readonly clock: Clock;
  readonly random: Random;
  /** Told of errors that are retried. */
  readonly onError: (message: string) => void;
  /** Gets each audit record once it is durable. */
  readonly onRecord?: (record: AuditRecord) => void;
  /** How often every policy is evaluated by itself (ms). Alerts and changes of workloads are looked at when they arrive. Default 1000. */
  readonly tickMs?: number;
}

/** A full evaluation gives way to whatever has arrived after this long (ms). */
const SLICE_MS = 5;

/** Observe, orient, decide, act, record: the five rooms, tied together over the ports. */
export class Loop {
  readonly #options: LoopOptions;
  readonly #world: World;
  readonly #episodes: Episodes;
  readonly #queue: WorkQueue;
  readonly #recorder: Recorder;
  readonly #policies: Policies;
  readonly #stopping = new AbortController();
  readonly #unsubscribe: (() => void)[] = [];
  /** Workloads that changed since their policies were last evaluated. */
  readonly #changed = new Map<string, TargetRef>();
  #ticking: Promise<void> = Promise.resolve();
  #changeScheduled = false;
  /** Uids of replicas that sent a hint which is yet to be looked at. */
  readonly #hinting = new Set<string>();
  /** What existed has been read: from here on changes are news. */
  #watching = false;

  constructor(options: LoopOptions) {
    this.#options = options;
    const { platform, telemetry, clock, metrics, random, store } = options;
    this.#world = new World({ platform, telemetry, clock, metrics, settled: () => options.alerts.settled?.() });
    this.#recorder = new Recorder({
      sink: options.audit,
      clock,
      metrics,
      ...(options.onRecord === undefined ? {} : { listener: options.onRecord }),
    });
    this.#policies = new Policies({
      store,
      world: this.#world,
      recorder: this.#recorder,
      clock,
      random,
      onError: (message) => this.#onError(message),
    });
    this.#queue = new WorkQueue({
      work: (key) => this.#episodes.reconcile(key),
      clock,
      random,
      onError: (key, error) => this.#onError(`remediation ${key}: ${messageOf(error)}`),
    });
    this.#episodes = new Episodes({
      store,
      world: this.#world,
      recorder: this.#recorder,
      pager: new Pager({ receivers: options.receivers, clock, random, metrics, stopping: this.#stopping.signal }),
      metrics,
      stopping: this.#stopping.signal,
      shelf: options.shelf ?? NO_SHELF,
      wake: (key) => this.#queue.add(key),
    });
  }

  /** What the loop knows: for status pages. */
  get world(): World {
    return this.#world;
  }

  /** Remediations that wait or are worked on. */
  get queueDepth(): number {
    return this.#queue.depth;
  }

  /** Reads what exists, takes up every episode that is not over, and begins to watch. Resolves once it is watching. */
  async start(): Promise<void> {
    const { platform, alerts, clock } = this.#options;
    await this.#world.follow(this.#options.store, this.#stopping.signal, {
      change: (kind, key) => this.#onResource(kind, key),
      error: (message) => this.#onError(message),
    });
    await this.#recorder.write([
      {
        type: "Started",
        at: clock.now(),
        message: `nightshift began on platform ${platform.name} with ${this.#world.policies.list().length} policies`,
      },
    ]);
    const unfinished = this.#world.remediations.list().filter((r) => !isSettled(r.status));
    // A crash can have come between storing a decision and its record: what is taken up again is put on record again.
    await this.#recorder.write(
      unfinished.map((r) =>
        this.#recorder.about(
          r,
          "Phase",
          `taken up after a start: ${r.status.phase}${r.status.reason === undefined ? "" : `, ${r.status.reason}`}`,
          {
            phase: r.status.phase,
            verdicts: r.status.gates,
          },
        ),
      ),
    );
    this.#options.metrics.phases(() => this.#phases());
    this.#world.alerts.put(alerts.alerts());
    this.#unsubscribe.push(alerts.onChange((changed) => this.#onAlerts(changed)));
    const ofHints = this.#options.telemetry.onHint?.((uid) => this.#onHint(uid));
    if (ofHints !== undefined) this.#unsubscribe.push(ofHints);
    this.#unsubscribe.push(platform.onChange((workload) => this.#onWorkload(workload)));
    const incidents = this.#world.remediations.list().filter((r) => isTerminal(r) && isOpenIncident(r.status));
    for (const remediation of [...unfinished, ...incidents]) {
      this.#world.takeUp(remediation);
      this.#queue.add(objectKey(remediation));
    }
    this.#policies.all();
    this.#watching = true;
    this.#ticking = this.#tick();
  }

  /** Takes nothing new, lets what is under way come to a safe point, and resolves. What is unfinished goes on after the next start. */
  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#stopping.abort();
    await this.#ticking;
    await Promise.all([this.#queue.stop(), this.#policies.stop()]);
    await this.#recorder
      .write([{ type: "Stopped", at: this.#options.clock.now(), message: "nightshift stopped" }])
      .catch((error: unknown) => this.#onError(messageOf(error)));
  }

  /** Evaluates every policy on every workload that it covers, once. */
  async evaluateAll(): Promise<void> {
    const { clock, metrics } = this.#options;
    let sliceBegan = clock.monotonic();
    const seen = new Set<string>();
    this.#world.alerts.sync(this.#options.alerts.alerts());
    this.#world.noteChanges();
    for (const policy of this.#world.policies.list()) {
      const targets = this.#world.targets(policy);
      const blind: Blindness[] = [];
      for (const workload of targets) {
        seen.add(pairKey(policy, workload));
        blind.push(...(await this.#evaluateOne(policy, workload)));
        if (clock.monotonic() - sliceBegan < SLICE_MS) continue;
        await sleep(clock, 0);
        sliceBegan = clock.monotonic();
        if (this.#stopping.signal.aborted) return;
      }
      this.#policies.evaluated(policy, targets.length, blind);
    }
    for (const key of this.#world.firing.keys()) if (!seen.has(key)) this.#world.firing.delete(key);
    // What could not be written is not forgotten where nothing else is to be written.
    await this.#recorder.write([]);
    metrics.queueDepth(this.#queue.depth);
  }

  async #tick(): Promise<void> {
    const { clock, tickMs = 1_000 } = this.#options;
    while (!this.#stopping.signal.aborted) {
      try {
        await this.evaluateAll();
      } catch (error) {
        this.#onError(`evaluation: ${messageOf(error)}`);
      }
      await sleep(clock, tickMs, this.#stopping.signal);
    }
  }

  /**
   * One policy on one workload: what fires goes to its episode, what changed goes on record. Resolves to the signals that
   * nothing is known for.
   */
  async #evaluate(policy: RemediationPolicy, workload: Workload): Promise<readonly Blindness[]> {
    const key = pairKey(policy, workload);
    const before = this.#world.firing.get(key);
    const detection = this.#world.detect(policy, workload);
    const { signals, undecided } = detection;
    const firing = new Map(signals.filter((s) => s.state === "Firing").map((s) => [s.fingerprint, s]));
    if (firing.size === 0) this.#world.firing.delete(key);
    else this.#world.firing.set(key, firing);
    const ceased = [...(before?.values() ?? [])].filter((signal) => !firing.has(signal.fingerprint));
    const isUndecided = ({ fingerprint }: Signal): boolean => undecided.some((each) => each.fingerprint === fingerprint);
    const resolved = ceased.filter((signal) => !isUndecided(signal));
    const left = undecided.filter(({ fingerprint }) => before?.has(fingerprint) === true);
    if (left.length > 0)
      await this.#recorder.write(left.map((signal) => this.#signalRecord(signal, policy, "is not acted on any more", "Unknown")));
    if (resolved.length > 0) {
      for (const signal of resolved) this.#options.metrics.signal(signal.source, signal.condition, "Resolved");
      await this.#recorder.write(resolved.map((signal) => this.#signalRecord(signal, policy, "resolved", "Resolved")));
    }
    for (const signal of firing.values()) {
      const known = before?.get(signal.fingerprint);
      const isNew = known === undefined || (signal.condition === "alert" && known.startsAt !== signal.startsAt);
      if (isNew) {
        this.#options.metrics.signal(signal.source, signal.condition, "Firing");
        this.#options.metrics.detected(signal.source, Math.max(0, signal.receivedAt - signal.startsAt) / 1000);
      }
      await this.#episodes.take(signal, policy, isNew, isNew ? [this.#signalRecord(signal, policy, "fires", "Firing")] : [], () => {
        const now = { signal: this.#world.firing.get(key)?.get(signal.fingerprint), policy: this.#world.policies.get(objectKey(policy)) };
        return now.signal === undefined || now.policy === undefined ? undefined : { signal: now.signal, policy: now.policy };
      });
    }
    return blindnessOf(detection, workload.ref);
  }

  #signalRecord(signal: Signal, policy: RemediationPolicy, verb: string, state: Signal["state"] | "Unknown"): AuditRecord {
    return {
      type: "Signal",
      at: this.#options.clock.now(),
      policy: objectKey(policy),
      target: targetKey(signal.target),
      message: `${signal.name} ${verb} on ${signal.target.name}${signal.evidence[0] === undefined ? "" : `: ${signal.evidence[0].message}`}`,
      data: {
        name: signal.name,
        condition: signal.condition,
        source: signal.source,
        state,
        confidence: signal.confidence,
        evidence: signal.evidence,
      },
    };
  }

  /** Alerts are looked at when they arrive: this is the shortest way from a signal to its effect. */
  #onAlerts(changed: readonly Alert[]): void {
    const begin = this.#options.clock.monotonic();
    this.#world.alerts.put(changed);
    const names = new Set(changed.map((alert) => alert.alertname));
    const values = new Set(changed.flatMap((alert) => Object.values(alert.labels)));
    for (const policy of this.#world.policies.list()) {
      if (!policy.spec.signals.some((signal) => signal.alert !== undefined && names.has(signal.alert.alertname))) continue;
      for (const workload of this.#world.targets(policy)) {
        if (!values.has(workload.ref.name) && workload.replicas.every((r) => !values.has(r.ref.name) && !values.has(r.ref.uid))) continue;
        void this.#evaluateOne(policy, workload);
      }
    }
    this.#options.metrics.room("observe", (this.#options.clock.monotonic() - begin) / 1000);
  }

  /** A replica asks for something: it is looked at when that arrives, together with what others ask for in the same burst. */
  #onHint(replicaUid: string): void {
    this.#hinting.add(replicaUid);
    if (this.#hinting.size > 1) return;
    this.#options.clock.after(0, () => {
      const uids = new Set(this.#hinting);
      this.#hinting.clear();
      if (this.#stopping.signal.aborted) return;
      for (const policy of this.#world.policies.list()) {
        if (!policy.spec.signals.some(({ hint }) => hint !== undefined)) continue;
        for (const workload of this.#world.targets(policy))
          if (workload.replicas.some(({ ref }) => uids.has(ref.uid))) void this.#evaluateOne(policy, workload);
      }
    });
  }

  /** A change of a workload: its policies are evaluated once the burst that it came in is over, and its episodes are woken. */
  #onWorkload(ref: TargetRef): void {
    this.#changed.set(targetKey(ref), ref);
    for (const remediation of this.#world.remediations.list())
      if (!isTerminal(remediation) && targetKey(remediation.spec.workload) === targetKey(ref)) this.#queue.add(objectKey(remediation));
    if (this.#changeScheduled) return;
    this.#changeScheduled = true;
    this.#options.clock.after(0, () => {
      this.#changeScheduled = false;
      if (this.#stopping.signal.aborted) return;
      const changed = new Map(this.#changed);
      this.#changed.clear();
      const namespaces = new Set([...changed.values()].map(({ namespace }) => namespace));
      for (const policy of this.#world.policies.list()) {
        if (!namespaces.has(policy.metadata.namespace)) continue;
        for (const workload of this.#world.targets(policy))
          if (changed.has(targetKey(workload.ref))) void this.#evaluateOne(policy, workload);
      }
    });
  }

  #onResource(kind: string, key: string): void {
    // Before everything is read nothing is decided: budgets and answers may come last. What is unfinished is taken up by the start.
    if (!this.#watching) return;
    this.#policies.changed(kind, key);
    if (kind === "Remediation") {
      this.#queue.add(key);
      return;
    }
    if (kind === "RemediationPolicy" || kind === "RemediationApproval" || kind === "RemediationBudget")
      for (const remediation of this.#world.remediations.list()) if (!isTerminal(remediation)) this.#queue.add(objectKey(remediation));
  }

  /** What goes wrong with one policy on one workload keeps none of the others from being looked at. */
  async #evaluateOne(policy: RemediationPolicy, workload: Workload): Promise<readonly Blindness[]> {
    try {
      return await this.#evaluate(policy, workload);
    } catch (error) {
      this.#onError(`evaluation of ${pairKey(policy, workload)}: ${messageOf(error)}`);
      return [];
    }
  }

  #phases(): Partial<Record<Phase, number>> {
    const counts: Partial<Record<Phase, number>> = {};
    for (const { status } of this.#world.remediations.list()) counts[status.phase] = (counts[status.phase] ?? 0) + 1;
    return counts;
  }

  #onError(message: string): void {
    this.#options.onError(message);
  }
}

function pairKey(policy: RemediationPolicy, workload: Workload): string {
  return `${objectKey(policy)}|${targetKey(workload.ref)}`;
}
