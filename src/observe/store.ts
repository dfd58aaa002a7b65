import type { TargetRef } from "../api/meta.ts";
import type { Clock } from "../ports/clock.ts";
import { ExampleTraces } from "./exemplars.ts";
import { HintBook, type Hint, type HintRefusal } from "./hints.ts";
import { LatencyHistogram } from "./latency.ts";
import { CALL_RESOLUTION_MS, type CallPoint, type ServiceGraphLimits, ServiceGraphStore } from "./service-graph.ts";
import { LogBook, type LogCount, type LogQuery, type LogRecord, type LogRefusal } from "./logs.ts";
import type { Answers, RequestStats, Sample, Telemetry } from "./telemetry.ts";

/** Why something that was observed is not kept. */
export const REFUSALS = [
  /** NaN or infinite. */
  "not-finite",
  /** Numbers that contradict each other, such as more failures than requests. */
  "invalid",
  /** From further in the future than clocks may differ. */
  "future",
  /** Older than anything that is kept (a clock at 1970). */
  "too-old",
  /** So far behind the newest of its series that it is not sorted in any more. */
  "late",
  /** There are as many series as there may be. */
  "series-limit",
  /** There are as many workloads as there may be. */
  "workload-limit",
  /** There is no memory left for a new series. */
  "memory-limit",
] as const;
export type Refusal = (typeof REFUSALS)[number];

/** Where requests to a workload were counted. */
export type RequestSource = "Router" | "Otlp";

/** Requests that ended at about the time `t`. */
export interface RequestReading {
  /** Milliseconds since the epoch, by the source's clock. */
  readonly t: number;
  /** Zero is evidence too: that the source lives and saw nothing. */
  readonly total: number;
  /** At most `total`. */
  readonly failed: number;
  /** Uid of the replica that answered them, where the source knows. */
  readonly replica?: string;
  /** Their latencies, where the source has them. It is merged, not kept: the caller may go on using it. */
  readonly latency?: LatencyHistogram;
}

/** Where everything that observes writes to. Each method says why it refused something; undefined when it did not. */
export interface TelemetrySink {
  /**
   * Keeps a reading of one replica. `metric` is `memory` for the platform's working set, else the OTLP metric's name;
   * `attributesKey` tells its attribute sets apart: the same for the same set, `""` where there are none. `holdsMs`: how long it
   * counts in sums over sets, where the source says nothing more once it is over. Default: as long as anything.
   */
  recordReplica(replicaUid: string, metric: string, attributesKey: string, sample: Sample, holdsMs?: number): Refusal | undefined;
  /** Whether somebody has asked for readings of this metric lately. Default: nobody does. */
  looksAt?(metric: string): boolean;
  /** Adds requests to a workload. Of its reference, namespace and name count: OTLP does not know kinds. */
  recordRequests(workload: TargetRef, source: RequestSource, reading: RequestReading): Refusal | undefined;
  /** Keeps what a replica asked for. */
  recordHint(replicaUid: string, hint: Hint): HintRefusal | undefined;
  /** Keeps traces that a sender gave as examples of what a metric of a replica measured at about `t` (ms). */
  recordTraces(replicaUid: string, metric: string, traceIds: readonly string[], t: number): void;
  /** Drops everything about a replica that is gone. */
  forgetReplica(replicaUid: string): void;
}

/** The bounds of the store. */
export interface TelemetryLimits {
  /** Most series, over all replicas, metrics and attribute sets. Default 20,000. */
  readonly maxSeries: number;
  /** Most readings that one series keeps; then the oldest makes place. Default 3,600: an hour at one a second. */
  readonly maxPointsPerSeries: number;
  /**
   * Most readings that all series have room for, 16 bytes each. Once it is used up no series grows: each keeps its
   * newest. Default 12,000,000 (192 MB).
   */
  readonly maxPoints: number;
  /** How long readings are kept, in ms. Default one hour. */
  readonly retentionMs: number;
  /** A reading this far behind the newest of its series is refused, in ms. Default 5 minutes. */
  readonly maxLatenessMs: number;
  /** How far ahead of ours a source's clock may be, in ms. Within it a reading gets the time of its arrival. Default one minute. */
  readonly maxFutureMs: number;
  /** Most workloads that requests are counted for. Default 2,000. */
  readonly maxWorkloads: number;
  /** Most spans of requests kept of one workload and source. Default 7,200: an hour at ten reports a second takes 6,300. */
  readonly maxRequestSpans: number;
  /** The router's view counts as fresh when it is no older than this, in ms. Default 15 seconds. */
  readonly routerFreshMs: number;
  /**
   * In a sum over attribute sets, a set counts with its newest value until that is this old, in ms. Default 5 minutes,
   * as Prometheus has it.
   */
  readonly lookbackMs: number;
}

export const DEFAULT_TELEMETRY_LIMITS: TelemetryLimits = {
  maxSeries: 20_000,
  maxPointsPerSeries: 3_600,
  maxPoints: 12_000_000,
  retentionMs: 3_600_000,
  maxLatenessMs: 300_000,
  maxFutureMs: 60_000,
  maxWorkloads: 2_000,
  maxRequestSpans: 7_200,
  routerFreshMs: 15_000,
  lookbackMs: 300_000,
};

/** Requests are kept in spans of this many ms; a question about requests since a time begins with the span it lies in. */
export const REQUEST_RESOLUTION_MS = 100;
/**
 * Those that are older than `FINE_MS` are kept in spans of this many ms; a question begins with the first that lies in it whole. Replicas
 * report each at a time of its own: an hour of twenty of them is 7,200 spans, and with its latencies a span takes 2 KB.
 */
const COARSE_MS = CALL_RESOLUTION_MS;
/** Longer than what is verified usually takes (ms), and than what comes late may be late. */
const FINE_MS = 600_000;

/** Room for readings that a new series begins with. */
const INITIAL_CAPACITY = 16;
/** Growth by half, not by doubling: a series of 240 readings has room for 271, not for 480. */
const GROWTH = 1.5;
/** A metric that nobody has asked for in this time is not looked at (ms). */
const LOOKED_MS = 300_000;
/** Most metrics that are remembered to have been asked for. */
const MAX_LOOKED = 10_000;
/** How often series that have fallen silent are looked for, in ms. */
const SWEEP_EVERY_MS = 60_000;
/** The same while the limit of series is reached: what is refused may be waiting for just that. */
const SWEEP_AT_LIMIT_MS = 5_000;

/** A ring of readings, ordered by time, each time once. */
class Series {
  times: Float64Array;
  values: Float64Array;
  /** How long its newest reading counts in a sum (ms). */
  holdsMs = Infinity;
  #head = 0;
  length = 0;

  constructor(capacity: number) {
    this.times = new Float64Array(capacity);
    this.values = new Float64Array(capacity);
  }

  get capacity(): number {
    return this.times.length;
  }

  timeAt(i: number): number {
    return this.times[this.#slot(i)] ?? Number.NaN;
  }

  valueAt(i: number): number {
    return this.values[this.#slot(i)] ?? Number.NaN;
  }

  get newest(): number {
    return this.length === 0 ? Number.NEGATIVE_INFINITY : this.timeAt(this.length - 1);
  }

  /** Index of the first reading at or after `t`. */
  lowerBound(t: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.timeAt(middle) < t) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Puts a reading where it belongs. The caller has made room, unless the ring is to forget its oldest. */
  insert(t: number, v: number): boolean {
    let at = this.length;
    if (t <= this.newest) {
      at = this.lowerBound(t);
      if (this.timeAt(at) === t) {
        this.values[this.#slot(at)] = v;
        return true;
      }
    }
    if (this.length === this.capacity) {
      if (at === 0) return false;
      this.#head = (this.#head + 1) % this.capacity;
      this.length--;
      at--;
    }
    for (let i = this.length; i > at; i--) {
      const to = this.#slot(i);
      const from = this.#slot(i - 1);
      this.times[to] = this.times[from] ?? 0;
      this.values[to] = this.values[from] ?? 0;
    }
    const slot = this.#slot(at);
    this.times[slot] = t;
    this.values[slot] = v;
    this.length++;
    return true;
  }

  dropBefore(t: number): void {
    const n = this.lowerBound(t);
    if (n === 0) return;
    this.#head = (this.#head + n) % this.capacity;
    this.length -= n;
  }

  /** Drops what is later than `t`. */
  dropAfter(t: number): void {
    this.length = this.lowerBound(t + 1);
  }

  resize(capacity: number): void {
    const times = new Float64Array(capacity);
    const values = new Float64Array(capacity);
    for (let i = 0; i < this.length; i++) {
      times[i] = this.timeAt(i);
      values[i] = this.valueAt(i);
    }
    this.times = times;
    this.values = values;
    this.#head = 0;
  }

  #slot(i: number): number {
    const slot = this.#head + i;
    return slot >= this.times.length ? slot - this.times.length : slot;
  }
}

interface RequestSpan {
  /** Its beginning: a multiple of its length. */
  readonly start: number;
  seenAt: number;
  total: number;
  failed: number;
  latency: LatencyHistogram | undefined;
}

/**
 * Everything that was observed, in memory and bounded. It never waits and never throws on what it is given: what it
 * cannot keep it refuses, says why, and counts.
 */
export class TelemetryStore implements Telemetry, TelemetrySink {
  readonly limits: TelemetryLimits;
  /** Set where a Prometheus is configured. */
  promql?: NonNullable<Telemetry["promql"]>;
  /** Who calls whom. */
  readonly graph: ServiceGraphStore;
  readonly #clock: Clock;
  readonly #replicas = new Map<string, Map<string, Map<string, Series>>>();
  readonly #requests = new Map<string, Record<RequestSource, RequestSpan[]>>();
  /** Up to when requests are kept in coarse spans (ms). */
  readonly #coarseUpTo = new WeakMap<readonly RequestSpan[], number>();
  /** By replica, least recently heard of first. */
  readonly #answers = new Map<string, Answers>();
  readonly #hints: HintBook;
  readonly #traces = new ExampleTraces();
  /** When readings of a metric were asked for last. */
  readonly #lookedAt = new Map<string, number>();
  readonly #logs: LogBook;
  readonly #refused = new Map<Refusal, number>();
  #series = 0;
  #room = 0;
  #sweptAt: number;

  constructor(clock: Clock, limits: Partial<TelemetryLimits> = {}, graph: Partial<ServiceGraphLimits> = {}) {
    this.#clock = clock;
    this.limits = { ...DEFAULT_TELEMETRY_LIMITS, ...limits };
    this.graph = new ServiceGraphStore(clock, graph);
    this.#sweptAt = clock.monotonic();
    this.#hints = new HintBook(clock);
    this.#logs = new LogBook(clock);
  }

  recordHint(replicaUid: string, hint: Hint): HintRefusal | undefined {
    return this.#hints.record(replicaUid, hint);
  }

  get logsActive(): boolean {
    return this.#logs.active;
  }

  logAttributeKeys(): ReadonlySet<string> {
    return this.#logs.attributeKeys();
  }

  recordLog(replicaUid: string, record: LogRecord): LogRefusal | undefined {
    return this.#logs.record(replicaUid, record);
  }

  logs(replicaUid: string, query: LogQuery, since: number): LogCount | undefined {
    return this.#logs.count(replicaUid, query, since);
  }

  recordTraces(replicaUid: string, metric: string, traceIds: readonly string[], t: number): void {
    this.#traces.add(replicaUid, metric, traceIds, t);
  }

  traces(replicaUid: string, metric: string, since: number): readonly string[] {
    return this.#traces.of(replicaUid, metric, since);
  }

  hints(replicaUid: string): readonly Hint[] {
    return this.#hints.of(replicaUid);
  }

  onHint(listener: (replicaUid: string) => void): () => void {
    return this.#hints.onHint(listener);
  }

  /** How many series there are. */
  get seriesCount(): number {
    return this.#series;
  }

  /** How many readings the series have room for: the memory in use is 16 bytes each. */
  get pointCapacity(): number {
    return this.#room;
  }

  /** How much was refused since the start, by reason. */
  refused(): Readonly<Record<Refusal, number>> {
    return Object.fromEntries(REFUSALS.map((reason) => [reason, this.#refused.get(reason) ?? 0])) as Record<Refusal, number>;
  }

  recordReplica(replicaUid: string, metric: string, attributesKey: string, sample: Sample, holdsMs = Infinity): Refusal | undefined {
    const now = this.#clock.now();
    if (!Number.isFinite(sample.v)) return this.#refuse("not-finite");
    const t = this.#arrivalTime(sample.t, now);
    if (typeof t === "string") return this.#refuse(t);
    this.#sweep(now, SWEEP_EVERY_MS);
    let series = this.#replicas.get(replicaUid)?.get(metric)?.get(attributesKey);
    if (series === undefined) {
      if (this.#series >= this.limits.maxSeries) {
        this.#sweep(now, SWEEP_AT_LIMIT_MS);
        if (this.#series >= this.limits.maxSeries) return this.#refuse("series-limit");
      }
      const capacity = Math.min(INITIAL_CAPACITY, this.limits.maxPointsPerSeries);
      if (this.#room + capacity > this.limits.maxPoints) return this.#refuse("memory-limit");
      series = new Series(capacity);
      this.#room += capacity;
      this.#series++;
      inner(inner(this.#replicas, replicaUid), metric).set(attributesKey, series);
    }
    this.#forgetFuture(series, now);
    if (t < series.newest - this.limits.maxLatenessMs) return this.#refuse("late");
    if (series.length === series.capacity) {
      series.dropBefore(now - this.limits.retentionMs);
      if (series.length === series.capacity) this.#grow(series);
    }
    series.holdsMs = holdsMs;
    return series.insert(t, sample.v) ? undefined : this.#refuse("late");
  }

  recordRequests(workload: TargetRef, source: RequestSource, reading: RequestReading): Refusal | undefined {
    const now = this.#clock.now();
    const { total, failed, latency } = reading;
    if (!Number.isFinite(total) || !Number.isFinite(failed)) return this.#refuse("not-finite");
    if (total < 0 || failed < 0 || failed > total) return this.#refuse("invalid");
    const t = this.#arrivalTime(reading.t, now);
    if (typeof t === "string") return this.#refuse(t);
    this.#sweep(now, SWEEP_EVERY_MS);
    const key = workloadKey(workload);
    let sources = this.#requests.get(key);
    if (sources === undefined) {
      if (this.#requests.size >= this.limits.maxWorkloads) {
        this.#sweep(now, SWEEP_AT_LIMIT_MS);
        if (this.#requests.size >= this.limits.maxWorkloads) return this.#refuse("workload-limit");
      }
      sources = { Router: [], Otlp: [] };
      this.#requests.set(key, sources);
    }
    const spans = sources[source];
    this.#forgetFutureSpans(spans, now);
    const start = Math.floor(t / REQUEST_RESOLUTION_MS) * REQUEST_RESOLUTION_MS;
    const newest = spans.at(-1);
    if (newest !== undefined && t < newest.seenAt - this.limits.maxLatenessMs) return this.#refuse("late");
    let at = spans.length;
    while (at > 0 && (spans[at - 1]?.start ?? 0) > start) at--;
    const before = spans[at - 1];
    const span: RequestSpan = before?.start === start ? before : { start, seenAt: t, total: 0, failed: 0, latency: undefined };
    if (span !== before) {
      if (at === spans.length) spans.push(span);
      else spans.splice(at, 0, span);
    }
    span.seenAt = Math.max(span.seenAt, t);
    span.total += total;
    span.failed += failed;
    if (latency !== undefined && latency.count > 0) {
      span.latency ??= new LatencyHistogram();
      span.latency.merge(latency);
    }
    this.#coarsen(spans, now);
    if (spans.length > this.limits.maxRequestSpans) spans.shift();
    if (reading.replica !== undefined) this.#noteAnswers(reading.replica, t, total > 0);
    return undefined;
  }

  forgetReplica(replicaUid: string): void {
    this.#hints.forget(replicaUid);
    this.#logs.forget(replicaUid);
    for (const sets of this.#replicas.get(replicaUid)?.values() ?? []) for (const series of sets.values()) this.#release(series);
    this.#replicas.delete(replicaUid);
    this.#answers.delete(replicaUid);
  }

  looksAt(metric: string): boolean {
    return this.#clock.monotonic() - (this.#lookedAt.get(metric) ?? -Infinity) < LOOKED_MS;
  }

  /** Notes that readings of a metric are asked for. */
  #looked(metric: string): void {
    if (this.#lookedAt.size >= MAX_LOOKED && !this.#lookedAt.has(metric)) this.#lookedAt.clear();
    this.#lookedAt.set(metric, this.#clock.monotonic());
  }

  replicaSeries(replicaUid: string, metric: string, since: number, startedAt = -Infinity): readonly Sample[] {
    this.#looked(metric);
    const sets = this.#replicas.get(replicaUid)?.get(metric);
    if (sets === undefined) return [];
    const now = this.#clock.now();
    const from = Math.max(since, now - this.limits.retentionMs);
    const all = [...sets.values()];
    for (const series of all) this.#forgetFuture(series, now);
    const [first] = all;
    if (first !== undefined && all.length === 1) {
      const samples: Sample[] = [];
      for (let i = first.lowerBound(from); i < first.length; i++) samples.push({ t: first.timeAt(i), v: first.valueAt(i) });
      return samples;
    }
    return this.#sum(all, from, startedAt);
  }

  requests(workload: TargetRef, since: number): RequestStats | undefined {
    const sources = this.#requests.get(workloadKey(workload));
    if (sources === undefined) return undefined;
    const now = this.#clock.now();
    const from = Math.max(since, now - this.limits.retentionMs);
    for (const spans of Object.values(sources)) this.#forgetFutureSpans(spans, now);
    const router = statsSince(sources.Router, from);
    if (router !== undefined && router.seenAt >= now - this.limits.routerFreshMs) return router;
    return statsSince(sources.Otlp, from) ?? router;
  }

  requestSeries(workload: TargetRef, since: number, stepMs: number): readonly CallPoint[] {
    const sources = this.#requests.get(workloadKey(workload));
    if (sources === undefined) return [];
    const now = this.#clock.now();
    for (const spans of Object.values(sources)) this.#forgetFutureSpans(spans, now);
    const isFresh = (sources.Router.at(-1)?.seenAt ?? -Infinity) >= now - this.limits.routerFreshMs;
    const spans = isFresh || sources.Otlp.length === 0 ? sources.Router : sources.Otlp;
    return pointsOf(spans, Math.max(since, now - this.limits.retentionMs), stepMs);
  }

  answers(replicaUid: string): Answers | undefined {
    const known = this.#answers.get(replicaUid);
    // As for readings: a time from the future says that our own clock was set back.
    return known === undefined || known.heardAt > this.#clock.now() + this.limits.maxFutureMs ? undefined : known;
  }

  #noteAnswers(replicaUid: string, t: number, some: boolean): void {
    const known = this.#answers.get(replicaUid);
    const answeredAt = some ? Math.max(known?.answeredAt ?? t, t) : known?.answeredAt;
    this.#answers.delete(replicaUid);
    this.#answers.set(replicaUid, { heardAt: Math.max(known?.heardAt ?? t, t), answeredAt });
    const [oldest] = this.#answers.keys();
    if (this.#answers.size > this.limits.maxSeries && oldest !== undefined) this.#answers.delete(oldest);
  }

  /**
   * The sum over attribute sets at every time at which one of them has a reading. A set counts from its first reading
   * on, with its newest value, until that is older than the look-back or has ceased to hold; from `startedAt` on none that is from before.
   */
  #sum(all: readonly Series[], from: number, startedAt: number): Sample[] {
    const times = new Set<number>();
    // A value from before `from` still holds at `from`.
    const cursors = all.map((series) => series.lowerBound(from) - 1);
    all.forEach((series, i) => {
      for (let at = (cursors[i] ?? 0) + 1; at < series.length; at++) times.add(series.timeAt(at));
    });
    const samples: Sample[] = [];
    for (const t of Float64Array.from(times).sort()) {
      let v = 0;
      const notBefore = t >= startedAt ? startedAt : -Infinity;
      all.forEach((series, i) => {
        let at = cursors[i] ?? -1;
        while (at + 1 < series.length && series.timeAt(at + 1) <= t) at++;
        cursors[i] = at;
        const age = at < 0 ? Infinity : t - series.timeAt(at);
        if (age <= Math.min(this.limits.lookbackMs, series.holdsMs) && series.timeAt(at) >= notBefore) v += series.valueAt(at);
      });
      if (Number.isFinite(v)) samples.push({ t, v });
    }
    return samples;
  }

  /** The time that a reading is kept under, or why it is not. */
  #arrivalTime(t: number, now: number): number | Refusal {
    if (!Number.isFinite(t)) return "not-finite";
    if (t > now + this.limits.maxFutureMs) return "future";
    if (t < now - this.limits.retentionMs) return "too-old";
    return Math.min(t, now);
  }

  /**
   * Forgets readings from the future. None is kept that was one when it came, so our own clock was set back: they would be
   * taken for the newest, and all that comes for late, until the clock has caught up.
   */
  #forgetFuture(series: Series, now: number): void {
    if (series.newest > now + this.limits.maxFutureMs) series.dropAfter(now);
  }

  /** Joins spans that have become old. */
  #coarsen(spans: RequestSpan[], now: number): void {
    const upTo = Math.floor((now - FINE_MS) / COARSE_MS) * COARSE_MS;
    if (this.#coarseUpTo.get(spans) === upTo) return;
    this.#coarseUpTo.set(spans, upTo);
    let kept = 0;
    for (const span of spans) {
      const start = Math.floor(span.start / COARSE_MS) * COARSE_MS;
      const last = spans[kept - 1];
      if (span.start >= upTo) spans[kept++] = span;
      else if (last?.start !== start) spans[kept++] = { ...span, start };
      else {
        last.seenAt = Math.max(last.seenAt, span.seenAt);
        last.total += span.total;
        last.failed += span.failed;
        if (last.latency === undefined) last.latency = span.latency;
        else if (span.latency !== undefined) last.latency.merge(span.latency);
      }
    }
    spans.length = kept;
  }

  #forgetFutureSpans(spans: RequestSpan[], now: number): void {
    while ((spans.at(-1)?.seenAt ?? now) > now + this.limits.maxFutureMs) spans.pop();
  }

  #grow(series: Series): void {
    const wanted = Math.min(this.limits.maxPointsPerSeries, Math.ceil(series.capacity * GROWTH));
    if (wanted <= series.capacity || this.#room + wanted - series.capacity > this.limits.maxPoints) return;
    this.#room += wanted - series.capacity;
    series.resize(wanted);
  }

  /** Drops what has been silent for longer than anything is kept. Without timers, so that time may be virtual. */
  #sweep(now: number, every: number): void {
    const elapsed = this.#clock.monotonic();
    if (elapsed - this.#sweptAt < every) return;
    this.#sweptAt = elapsed;
    const oldest = now - this.limits.retentionMs;
    for (const [uid, metrics] of this.#replicas) {
      for (const [metric, sets] of metrics) {
        for (const [key, series] of sets) {
          if (series.newest >= oldest) continue;
          this.#release(series);
          sets.delete(key);
        }
        if (sets.size === 0) metrics.delete(metric);
      }
      if (metrics.size === 0) this.#replicas.delete(uid);
    }
    for (const [uid, { heardAt }] of this.#answers) if (heardAt < oldest) this.#answers.delete(uid);
    for (const [key, sources] of this.#requests) {
      for (const spans of Object.values(sources)) {
        const kept = spans.findIndex((span) => span.seenAt >= oldest);
        spans.splice(0, kept === -1 ? spans.length : kept);
      }
      if (sources.Router.length === 0 && sources.Otlp.length === 0) this.#requests.delete(key);
    }
  }

  #release(series: Series): void {
    this.#series--;
    this.#room -= series.capacity;
  }

  #refuse(reason: Refusal): Refusal {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
    return reason;
  }
}

function workloadKey(workload: TargetRef): string {
  return `${workload.namespace}/${workload.name}`;
}

function inner<K, V>(map: Map<string, Map<K, V>>, key: string): Map<K, V> {
  let value = map.get(key);
  if (value === undefined) {
    value = new Map();
    map.set(key, value);
  }
  return value;
}

function pointsOf(spans: readonly RequestSpan[], since: number, stepMs: number): CallPoint[] {
  const points: CallPoint[] = [];
  for (const [span, of] of Map.groupBy(
    spans.filter(({ start }) => start >= since),
    ({ start }) => Math.floor(start / stepMs),
  )) {
    let requests = 0;
    let failed = 0;
    const latencies = new LatencyHistogram();
    for (const { total, failed: failures, latency } of of) {
      requests += total;
      failed += failures;
      if (latency !== undefined) latencies.merge(latency);
    }
    points.push({ t: span * stepMs, requests, failed, latencyMs: latencies.meanMs });
  }
  return points;
}

function statsSince(spans: readonly RequestSpan[], since: number): RequestStats | undefined {
  const start = Math.floor(since / REQUEST_RESOLUTION_MS) * REQUEST_RESOLUTION_MS;
  let total = 0;
  let failed = 0;
  let seenAt = Number.NEGATIVE_INFINITY;
  const latency = new LatencyHistogram();
  for (let i = spans.length - 1; i >= 0; i--) {
    const span = spans[i];
    if (span === undefined || span.start < start) break;
    total += span.total;
    failed += span.failed;
    seenAt = Math.max(seenAt, span.seenAt);
    if (span.latency !== undefined) latency.merge(span.latency);
  }
  if (seenAt === Number.NEGATIVE_INFINITY) return undefined;
  const p99Ms = latency.quantile(0.99);
  return { total, failed, seenAt, ...(p99Ms === undefined ? {} : { p99Ms }) };
}
