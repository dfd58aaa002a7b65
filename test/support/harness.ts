import { API_VERSION } from "../../src/api/meta.ts";
import { policySpecSchema, type RemediationPolicy } from "../../src/api/policy.ts";
import { isTerminal, type Remediation } from "../../src/api/remediation.ts";
import type { Alert } from "../../src/api/signal.ts";
import { Loop, type LoopOptions } from "../../src/loop/loop.ts";
import { type CallPoint, ServiceGraphStore } from "../../src/observe/service-graph.ts";
import type { RequestStats, Sample, Telemetry } from "../../src/observe/telemetry.ts";
import type { Platform } from "../../src/ports/platform.ts";
import type { Store } from "../../src/ports/store.ts";
import type { AuditRecord, AuditSink } from "../../src/record/audit.ts";
import { NO_METRICS } from "../../src/record/metrics.ts";
import type { Page, Receiver } from "../../src/record/paging.ts";
import { FakePlatform } from "./fake-platform.ts";
import { flush, ManualClock } from "./manual-clock.ts";
import { MemoryStore } from "./memory-store.ts";
import { seededRandom } from "./seeded-random.ts";

/** Telemetry that says what it is told to. */
export class FakeTelemetry implements Telemetry {
  readonly series = new Map<string, Sample[]>();
  /** Requests a second by workload; always fresh. */
  readonly rates = new Map<string, { readonly total: number; readonly failed: number }>();
  readonly graph: ServiceGraphStore;
  readonly #clock: ManualClock;

  constructor(clock: ManualClock) {
    this.#clock = clock;
    this.graph = new ServiceGraphStore(clock);
  }

  replicaSeries(replicaUid: string, metric: string, since: number): readonly Sample[] {
    return (this.series.get(`${replicaUid}|${metric}`) ?? []).filter((sample) => sample.t >= since);
  }

  requests(workload: { readonly name: string }, since: number): RequestStats | undefined {
    const rate = this.rates.get(workload.name);
    const now = this.#clock.now();
    const seconds = Math.max(0, now - since) / 1000;
    return rate === undefined ? undefined : { total: rate.total * seconds, failed: rate.failed * seconds, seenAt: now };
  }

  /** It has no past: there is nothing to tell apart. */
  requestSeries(): readonly CallPoint[] {
    return [];
  }
}

/** Everything that outlives a crash of the loop, and a way to start the loop on it again and again. */
export class Harness {
  readonly clock = new ManualClock();
  readonly store = new MemoryStore(this.clock);
  readonly platform = new FakePlatform();
  readonly telemetry = new FakeTelemetry(this.clock);
  readonly records: AuditRecord[] = [];
  readonly pages: Page[] = [];
  /** Pages of which the receiver was told that they are over. */
  readonly resolved: Page[] = [];
  readonly errors: string[] = [];
  readonly alerts = new Map<string, Alert>();
  /** What is suppressed, once everything that fires is known. See `AlertSource.settled`. */
  settled: { readonly suppressed: readonly Alert[] } | undefined;
  /** Set to make the audit trail, or the receiver, fail. */
  auditFails: Error | undefined;
  receiverFails: Error | undefined;
  readonly #alertListeners = new Set<(changed: readonly Alert[]) => void>();
  loop: Loop | undefined;

  /** Starts the loop; `wrap` puts something between it and its ports. */
  async start(
    wrap: { readonly store?: (store: Store) => Store; readonly platform?: (platform: Platform) => Platform } = {},
    extra: Partial<LoopOptions> = {},
  ): Promise<Loop> {
    const audit: AuditSink = {
      append: async (records) => {
        // As a real trail: durable a while later, with the store's watches served in between.
        await flush();
        if (this.auditFails !== undefined) throw this.auditFails;
        this.records.push(...records);
      },
    };
    const receiver: Receiver = {
      name: "oncall",
      send: async (page) => {
        if (this.receiverFails !== undefined) throw this.receiverFails;
        this.pages.push(page);
      },
      resolve: async (page) => {
        if (this.receiverFails !== undefined) throw this.receiverFails;
        this.resolved.push(page);
      },
    };
    this.loop = new Loop({
      store: wrap.store?.(this.store) ?? this.store,
      platform: wrap.platform?.(this.platform) ?? this.platform,
      telemetry: this.telemetry,
      alerts: {
        alerts: () => [...this.alerts.values()],
        settled: () => this.settled,
        onChange: (listener) => {
          this.#alertListeners.add(listener);
          return () => void this.#alertListeners.delete(listener);
        },
      },
      audit,
      receivers: [receiver],
      metrics: NO_METRICS,
      clock: this.clock,
      random: seededRandom(),
      onError: (message) => this.errors.push(message),
      ...extra,
    });
    const starting = this.loop.start();
    await this.clock.advance(0);
    await starting;
    return this.loop;
  }

  async stop(): Promise<void> {
    const stopping = this.loop?.stop();
    await this.clock.advance(10);
    await stopping;
    this.loop = undefined;
  }

  /** Lets time pass in steps, so that everything that waits for a moment gets it. */
  async pass(ms: number, step = 250): Promise<void> {
    for (let done = 0; done < ms; done += step) await this.clock.advance(Math.min(step, ms - done));
  }

  /** Lets time pass until `done`, `limit` ms at most; says whether it came to that. */
  async until(done: () => boolean, limit = 120_000): Promise<boolean> {
    for (let passed = 0; passed < limit && !done(); passed += 250) await this.clock.advance(250);
    return done();
  }

  /** An alert about a workload or replica, as Alertmanager would send it. */
  fire(name: string, labels: Record<string, string>, status: "firing" | "resolved" | "suppressed" | "expired" = "firing"): void {
    const now = this.clock.now();
    const fingerprint = `${name}|${JSON.stringify(labels)}`;
    const known = this.alerts.get(fingerprint);
    const alert: Alert = {
      status: status === "resolved" || status === "expired" ? "resolved" : "firing",
      ...(status === "expired" ? { expired: true } : {}),
      ...(status === "suppressed" ? { suppressed: true } : {}),
      alertname: name,
      labels: { alertname: name, namespace: "default", ...labels },
      annotations: {},
      startsAt: known?.status === "firing" ? known.startsAt : now,
      endsAt: status === "resolved" || status === "expired" ? now : undefined,
      fingerprint,
      receivedAt: now,
    };
    this.alerts.set(fingerprint, alert);
    for (const listener of this.#alertListeners) listener([alert]);
  }

  async policy(spec: Record<string, unknown> = {}, name = "payments"): Promise<RemediationPolicy> {
    return this.store.create(policy(spec, name));
  }

  remediations(): Remediation[] {
    return [...(this.loop?.world.remediations.list() ?? [])];
  }

  /** The only remediation there is. */
  only(): Remediation {
    const all = this.remediations();
    if (all.length !== 1 || all[0] === undefined) throw new Error(`expected one remediation, there are ${all.length}`);
    return all[0];
  }

  ended(): boolean {
    const all = this.remediations();
    return all.length > 0 && all.every(isTerminal);
  }

  said(type: AuditRecord["type"]): string[] {
    return this.records.filter((record) => record.type === type).map((record) => record.message);
  }
}

/** A policy on alerts, in `Enforce`, with short times; `spec` overrides. */
export function policy(spec: Record<string, unknown> = {}, name = "payments"): RemediationPolicy {
  return {
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name, namespace: "default" },
    spec: policySpecSchema.parse({
      mode: "Enforce",
      targets: [{ name }],
      signals: [{ name: "ill", alert: { alertname: "Ill" } }],
      ladder: [{ strategy: "RestartPod", captures: [{ type: "HeapSnapshot" }] }],
      verify: { stableFor: "5s", timeout: "30s" },
      cooldown: "10s",
      ...spec,
    }),
  };
}
