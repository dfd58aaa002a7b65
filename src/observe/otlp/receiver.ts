import type { TargetRef } from "../../api/meta.ts";
import type { Clock } from "../../ports/clock.ts";
import { FAILED_REQUESTS } from "../exemplars.ts";
import { HINT_METRIC, type HintRefusal } from "../hints.ts";
import { LatencyHistogram, LatencyRanges } from "../latency.ts";
import type { CallRefusal, CallSink } from "../service-graph.ts";
import { DEFAULT_TELEMETRY_LIMITS, type Refusal, type TelemetrySink } from "../store.ts";
import { decodeJson } from "./json.ts";
import {
  type AttributeValue,
  DEFAULT_OTLP_LIMITS,
  type Exemplar,
  type ExponentialHistogramPoint,
  type HistogramPoint,
  type Metric,
  type MetricsRequest,
  type NumberPoint,
  type OtlpLimits,
  type ResourceMetrics,
  type SummedPoint,
} from "./model.ts";
import { decodeProtobuf, MetricCaches } from "./protobuf.ts";
import { Refusals } from "./refusals.ts";
import { callOf, graphMetric } from "./service-graph.ts";
import { type Buckets, type Stream, Streams } from "./streams.ts";

/** The two encodings of OTLP/HTTP. */
export type OtlpEncoding = "protobuf" | "json";

/** Duration of the requests that a server answered, by OpenTelemetry's semantic conventions. */
export const REQUEST_DURATION = "http.server.request.duration";

/** Requests that a server has taken and not answered yet, by the same conventions. */
export const ACTIVE_REQUESTS = "http.server.active_requests";

/** Why a point of a request is not kept; those of the store besides. */
export type PointRefusal =
  | Refusal
  | HintRefusal
  | CallRefusal
  /** The resource has no `service.instance.id`, or an overlong one: nobody knows whose reading it is. */
  | "no-instance-id"
  /** Requests without a `service.name`: nobody knows whose they are. */
  | "no-service-name"
  /** Attributes too many or too long, or a metric's name too long. */
  | "attribute-limit"
  /** More points in one request than allowed. */
  | "point-limit"
  /** A sum or histogram whose temporality is not said, or a non-monotonic sum of differences, which has no level. */
  | "unsupported"
  /** More streams of counters and histograms than are followed. */
  | "stream-limit"
  /** A name under which the platform keeps what it measures itself. */
  | "reserved";

/** What became of one request. */
export interface IngestResult {
  readonly accepted: number;
  readonly rejected: number;
  /** Why, or what else its sender should know, for people; empty when there is nothing to say. */
  readonly message: string;
}

/** What came in since the point before. */
interface Increase {
  readonly amount: number;
  /** Over how many ms; 0 where that is not known. */
  readonly over: number;
  /** No earlier than this did any of it come (ms, by the sender's clock). */
  readonly since: number;
  readonly before: Buckets | undefined;
}

/** When a process was heard of. */
interface Heard {
  /** Time of its first point. */
  first: number;
  /** Time of the newest point of the collection before the present one; undefined in the first. */
  before: number | undefined;
  /** Time of the newest point. */
  newest: number;
  /** When some of its points had no place last (ms, by our clock): a stream from before that may be new to us alone. */
  refusedAt: number;
}

/** Counts points that were kept, or refused. Default: one. */
type Count = (refusal: PointRefusal | undefined, points?: number) => void;

/** How many times of a stream of differences are remembered. */
const RECENT = 16;
/**
 * A rate of differences holds for this much of the time that it was counted over: an SDK says nothing of what was not added to, and the
 * next collection without it is that time away.
 */
const HOLDS = 0.9;
/** Points of one collection may differ by this much in time (ms): an SDK reads its instruments one after the other. */
const SAME_COLLECTION_MS = 500;

/** Bounds and needs of an OtlpReceiver. */
export interface OtlpReceiverOptions {
  readonly sink: TelemetrySink;
  /** Takes what metrics of a service graph tell. Default: they are skipped. */
  readonly graph?: CallSink;
  readonly clock: Clock;
  readonly limits?: Partial<OtlpLimits>;
  /** Most streams of counters and histograms that are followed. Default 20,000. */
  readonly maxStreams?: number;
  /** A stream that was silent for this long is forgotten (ms). Default one hour. */
  readonly streamTtlMs?: number;
  /** Names under which the platform keeps what it measures itself: nobody else may write there. Default: none. */
  readonly reserved?: readonly string[];
  /** Which metrics are read at all; others are accepted and skipped without being decoded. Default: all. */
  readonly wants?: (metric: string) => boolean;
}

/**
 * Takes OTLP metrics in and writes what they say to a TelemetrySink.
 *
 * - The replica is the resource's `service.instance.id`, or on Kubernetes `k8s.pod.uid`; the workload its `service.name`
 *   and `service.namespace` (`default` where it names none), or what Kubernetes calls them: see `identityOf`.
 * - A gauge, and a non-monotonic cumulative sum, is a reading of the replica, one series an attribute set.
 * - A monotonic sum is kept as its rate per second since the point before.
 * - The monotonic sum `service.remediation.hint` is what its replica asks for: see `Hint`.
 * - The histogram `http.server.request.duration`, of either kind, is requests to the workload. Failed are those with
 *   `http.response.status_code` of 500 and above, or with `error.type`. Of any histogram and
 *   summary, `NAME.count` and `NAME.sum` are readings of the replica (observations, and their sum, a second) while a policy
 *   looks at them: all of them would be more series than there is place for.
 * - Metrics of a service graph (`traces_service_graph_request_*`) are calls of one service by another, whoever sends them: the
 *   services are those that they name. Other metrics without an instance are refused.
 *
 * Of the exemplars of points the newest traces are kept, as evidence; of requests those of failed ones.
 *
 * Cumulative streams are turned into differences per process and attribute set. A stream begins anew when its start time
 * moves forward or its count falls: then the point counts in full, as nothing of the new life was seen before. The first
 * point of a stream counts in full when all of it happened under our eyes: it started after this receiver did, or its
 * process was heard of in an earlier collection, which would have had the stream; and nothing of its process has been refused
 * for want of place since it started. Else it is a baseline and counts nothing: a history of unknown age is not evidence about
 * now. A point at or before the newest of its stream adds nothing that is not known, and is accepted without effect; so is one of a life that
 * began before: of processes that have one identity, the youngest is followed.
 */
export class OtlpReceiver {
  readonly #sink: TelemetrySink;
  readonly #graph: CallSink | undefined;
  readonly #clock: Clock;
  readonly #limits: OtlpLimits;
  readonly #maxStreams: number;
  readonly #ttl: number;
  readonly #reserved: ReadonlySet<string>;
  readonly #wants: (metric: string) => boolean;
  readonly #startedAt: number;
  readonly #refused = new Refusals<PointRefusal>("points");
  readonly #streams: Streams;
  /** The collections of each process, and when it was last heard of. Least recently heard of first. */
  readonly #processes = new Map<string, Heard & { seen: number }>();
  /** Of calls no process is known: the first point of a stream is a baseline, unless it began under our eyes. */
  readonly #callers: Heard = { first: Infinity, before: undefined, newest: Infinity, refusedAt: -Infinity };
  readonly #caches = new MetricCaches();
  readonly #ranges = new LatencyRanges();
  #accepted = 0;

  constructor(options: OtlpReceiverOptions) {
    this.#sink = options.sink;
    this.#graph = options.graph;
    this.#clock = options.clock;
    this.#limits = { ...DEFAULT_OTLP_LIMITS, ...options.limits };
    this.#maxStreams = options.maxStreams ?? 20_000;
    this.#ttl = options.streamTtlMs ?? 3_600_000;
    this.#streams = new Streams(this.#maxStreams, this.#ttl);
    this.#reserved = new Set(options.reserved);
    this.#wants = options.wants ?? (() => true);
    this.#startedAt = options.clock.now();
  }

  /** Points accepted since the start. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Points refused since the start, by reason. */
  refused(): Readonly<Partial<Record<PointRefusal, number>>> {
    return this.#refused.total();
  }

  /**
   * Decodes a body and applies it. Points are judged one by one: what cannot be kept does not take the rest with it.
   *
   * @throws NightshiftError when the body cannot be decoded; then nothing of it was applied.
   */
  receive(body: Uint8Array, encoding: OtlpEncoding): IngestResult {
    const request = decodeMetrics(body, encoding, this.#limits, this.#wants, this.#caches);
    const now = this.#clock.now();
    this.#expire(now);
    const reasons = new Map<PointRefusal, number>();
    let accepted = 0;
    const count: Count = (refusal, points = 1) => {
      if (refusal === undefined) accepted += points;
      else reasons.set(refusal, (reasons.get(refusal) ?? 0) + points);
    };
    for (const resource of request.resources) this.#resource(resource, now, count);
    if (request.overLimit > 0) {
      count("point-limit", request.overLimit);
      for (const { process } of request.resources) {
        const heard = this.#processes.get(process);
        if (heard !== undefined) heard.refusedAt = now;
      }
    }
    this.#accepted += accepted;
    return { accepted, ...this.#refused.count(reasons) };
  }

  #resource(resource: ResourceMetrics, now: number, count: Count): void {
    const uid = resource.instanceId;
    const nameless = uid === undefined || uid === "" || uid.length > this.#limits.maxTextLength;
    for (const metric of resource.metrics) {
      if (graphMetric(metric.name) !== undefined) this.#calls(metric, now, count);
      else if (nameless) count("no-instance-id", metric.points.length);
      else if (metric.name.length > this.#limits.maxTextLength || metric.name === "") count("attribute-limit", metric.points.length);
      else if (this.#reserved.has(metric.name)) count("reserved", metric.points.length);
      else this.#metric(resource, uid, metric, now, count);
    }
  }

  #metric(resource: ResourceMetrics, uid: string, metric: Metric, now: number, count: Count): void {
    const { name } = metric;
    if (metric.kind !== "Gauge" && metric.temporality === "Unspecified") return count("unsupported", metric.points.length);
    const family = JSON.stringify([resource.process, metric.scope, name]);
    for (const point of metric.points) {
      if (point.oversized) count("attribute-limit");
      else if (point.noValue) count(undefined);
      else {
        const heard = this.#hear(resource.process, point.t, now);
        if (name === HINT_METRIC) count(this.#hint(family, uid, metric, point as NumberPoint, now, heard));
        else if (metric.kind === "Gauge") count(this.#gauge(uid, name, point as NumberPoint));
        else if (metric.kind === "Sum") {
          if (metric.monotonic) count(this.#counter(family, uid, metric, point as NumberPoint, now, heard));
          else if (metric.temporality === "Delta") count("unsupported");
          else count(this.#gauge(uid, name, point as NumberPoint));
        } else if (name === REQUEST_DURATION && metric.kind !== "Summary")
          count(this.#duration(resource, uid, metric, point as HistogramPoint | ExponentialHistogramPoint, now, heard));
        else count(undefined);
        if (metric.kind !== "Gauge" && metric.kind !== "Sum") this.#observations(resource, uid, metric, point as SummedPoint, now);
      }
    }
  }

  /**
   * Observations of a histogram or summary, and their sum, a second each, where a policy looks at them. A point that does not
   * fit is left out, not refused: it may have been kept as requests.
   */
  #observations(resource: ResourceMetrics, uid: string, metric: Metric, point: SummedPoint, now: number): void {
    for (const [suffix, value] of [
      ["count", point.count],
      ["sum", point.sum],
    ] as const) {
      const name = `${metric.name}.${suffix}`;
      if (value === undefined || !Number.isFinite(value) || value < 0 || this.#sink.looksAt?.(name) !== true) continue;
      const family = JSON.stringify([resource.process, metric.scope, name]);
      const delta = metric.kind !== "Gauge" && metric.temporality === "Delta";
      // It is followed from when it was looked at, not from when its process was first heard of: the first point is no news.
      const heard = { first: point.t, before: undefined, newest: point.t, refusedAt: -Infinity };
      const increase = this.#increase(family, delta, point, value, undefined, now, heard);
      if (typeof increase === "string" || increase === undefined || increase.over <= 0) continue;
      const rate = { t: point.t, v: (increase.amount * 1_000) / increase.over };
      this.#sink.recordReplica(uid, name, point.attributesKey, rate, delta ? HOLDS * increase.over : undefined);
      this.#sink.recordTraces(uid, name, traceIdsOf(point.exemplars), point.t);
    }
  }

  #calls(metric: Metric, now: number, count: Count): void {
    for (const point of metric.points) {
      if (metric.kind === "Gauge" || metric.temporality === "Unspecified" || (metric.kind === "Sum" && !metric.monotonic))
        count("unsupported");
      else if (point.oversized) count("attribute-limit");
      else count(point.noValue || this.#graph === undefined ? undefined : this.#call(metric, point, now, this.#graph));
    }
  }

  #call(
    metric: Exclude<Metric, { kind: "Gauge" }>,
    point: Metric["points"][number],
    now: number,
    graph: CallSink,
  ): PointRefusal | undefined {
    const what = graphMetric(metric.name);
    const labels = callOf(JSON.parse(`{${point.attributesKey}}`) as Record<string, unknown>);
    if (labels === undefined) return "no-service-name";
    const { timedBy, ...call } = labels;
    const isDuration = what === "server" || what === "client";
    if (isDuration && what !== timedBy) return undefined;
    const buckets = isDuration && "counts" in point ? bucketsOf(point) : undefined;
    const value = isDuration ? ("count" in point ? point.count : undefined) : "value" in point ? point.value : undefined;
    if (value === undefined || value < 0 || (isDuration && buckets === undefined)) return "invalid";
    // After one that is none, the next would look like a counter that began anew, and count in full.
    if (!Number.isFinite(value)) return "not-finite";
    // Several collectors may count the same calls under the same name, each those that passed it: each began at a time of its own.
    const family = JSON.stringify(["calls", metric.name, point.start]);
    const increase = this.#increase(family, metric.temporality === "Delta", point, value, buckets, now, this.#callers);
    if (typeof increase === "string" || increase === undefined) return increase;
    if (!isDuration)
      return graph.recordCalls("Otlp", { ...call, t: point.t, [what === "failed" ? "failed" : "requests"]: increase.amount });
    const latency =
      buckets &&
      latencyOf(buckets, increase.before, metric.unit === "ms" ? 1 : 1_000, "max" in point ? point.max : undefined, this.#ranges);
    const mean = latency?.meanMs;
    if (latency === undefined || mean === undefined) return undefined;
    return graph.recordCalls("Otlp", { ...call, t: point.t, latency: { sumMs: mean * latency.count, count: latency.count } });
  }

  #gauge(uid: string, metric: string, point: NumberPoint): PointRefusal | undefined {
    if (point.value === undefined) return "invalid";
    const refusal = this.#sink.recordReplica(uid, metric, point.attributesKey, { t: point.t, v: point.value });
    if (refusal === undefined) this.#sink.recordTraces(uid, metric, traceIdsOf(point.exemplars), point.t);
    return refusal;
  }

  #counter(
    family: string,
    uid: string,
    metric: Metric & { kind: "Sum" },
    point: NumberPoint,
    now: number,
    heard: Heard,
  ): PointRefusal | undefined {
    const increase = this.#sumIncrease(family, metric, point, now, heard);
    if (typeof increase === "string" || increase === undefined) return increase;
    if (increase.over <= 0) return undefined;
    const rate = { t: point.t, v: (increase.amount * 1_000) / increase.over };
    const holds = metric.temporality === "Delta" ? HOLDS * increase.over : undefined;
    const refusal = this.#sink.recordReplica(uid, metric.name, point.attributesKey, rate, holds);
    if (refusal === undefined) this.#sink.recordTraces(uid, metric.name, traceIdsOf(point.exemplars), point.t);
    return refusal;
  }

  #sumIncrease(
    family: string,
    metric: Metric & { kind: "Sum" },
    point: NumberPoint,
    now: number,
    heard: Heard,
  ): Increase | PointRefusal | undefined {
    if (point.value === undefined) return "invalid";
    if (!Number.isFinite(point.value)) return "not-finite";
    if (point.value < 0) return "invalid";
    return this.#increase(family, metric.temporality === "Delta", point, point.value, undefined, now, heard);
  }

  /** What a replica asks for. Its target is the replica, whatever its attributes say. */
  #hint(family: string, uid: string, metric: Metric, point: NumberPoint, now: number, heard: Heard): PointRefusal | undefined {
    if (metric.kind !== "Sum" || !metric.monotonic) return "unsupported";
    const increase = this.#sumIncrease(family, metric, point, now, heard);
    if (typeof increase === "string" || increase === undefined) return increase;
    if (increase.amount <= 0) return undefined;
    const { hintAction, hintSaturation, exemplars } = point;
    const t = Math.min(point.t, now);
    return this.#sink.recordHint(uid, {
      action: textOf(hintAction),
      saturationType: textOf(hintSaturation),
      added: increase.amount,
      delta: metric.temporality === "Delta",
      single: exemplars.some((exemplar) => exemplar.value === increase.amount && exemplar.t >= increase.since && exemplar.t <= point.t),
      since: Math.min(increase.since, t),
      t,
      receivedAt: now,
      traceIds: traceIdsOf(exemplars),
    });
  }

  #duration(
    resource: ResourceMetrics,
    uid: string,
    metric: Metric & { kind: "Histogram" | "ExponentialHistogram" },
    point: HistogramPoint | ExponentialHistogramPoint,
    now: number,
    heard: Heard,
  ): PointRefusal | undefined {
    const service = resource.serviceName;
    if (service === undefined || service === "") return "no-service-name";
    if (service.length > this.#limits.maxTextLength || (resource.serviceNamespace?.length ?? 0) > this.#limits.maxTextLength)
      return "attribute-limit";
    const buckets = bucketsOf(point);
    if (buckets === undefined) return "invalid";
    const namespace = resource.serviceNamespace === undefined || resource.serviceNamespace === "" ? "default" : resource.serviceNamespace;
    const family = JSON.stringify([resource.process, namespace, service, metric.scope, metric.name]);
    const increase = this.#increase(family, metric.temporality === "Delta", point, point.count, buckets, now, heard);
    if (typeof increase === "string" || increase === undefined) return increase;
    const latency = latencyOf(
      buckets,
      increase.before,
      metric.unit === "ms" ? 1 : 1_000,
      "max" in point ? point.max : undefined,
      this.#ranges,
    );
    const failed = point.errorType !== undefined || Number(point.statusCode ?? 0) >= 500;
    if (failed) this.#sink.recordTraces(uid, FAILED_REQUESTS, traceIdsOf(point.exemplars), point.t);
    const workload: TargetRef = { kind: "Workload", namespace, name: service };
    return this.#sink.recordRequests(workload, "Otlp", {
      t: point.t,
      total: increase.amount,
      failed: failed ? increase.amount : 0,
      replica: uid,
      ...(latency === undefined ? {} : { latency }),
    });
  }

  /** What a point adds to its stream; undefined when it adds nothing. */
  #increase(
    family: string,
    delta: boolean,
    point: { readonly start: number; readonly t: number; readonly attributesKey: string },
    value: number,
    buckets: Buckets | undefined,
    now: number,
    heard: Heard,
  ): Increase | PointRefusal | undefined {
    // A time in the future must not become the newest of a stream: it would stand still until then.
    const refusal = this.#untimely(point.t, now);
    if (refusal !== undefined) return refusal;
    const known = this.#streams.get(family, point.attributesKey, now);
    if (known === undefined && !this.#streams.hasPlace(now)) {
      heard.refusedAt = now;
      return "stream-limit";
    }
    // Nothing from the future was taken, so our own clock was set back: the stream begins again.
    const stream = known !== undefined && known.t > now + DEFAULT_TELEMETRY_LIMITS.maxFutureMs ? undefined : known;
    const next: Stream = stream ?? { start: point.start, t: point.t, value, buckets, recent: [], seen: now };
    if (stream === undefined) this.#streams.set(family, point.attributesKey, next);
    // The two may be the same millisecond.
    const startKnown = point.start > 0 && point.start <= point.t;
    // Two processes that cannot be told apart: were each taken for a new life of the other, all that they ever counted would be news each time.
    if (!delta && stream !== undefined && startKnown && point.start < stream.start - SAME_COLLECTION_MS) return undefined;
    next.seen = now;
    const sinceStart = startKnown ? point.t - point.start : 0;
    if (delta) {
      if (next.recent.includes(point.t)) return undefined;
      next.recent.push(point.t);
      if (next.recent.length > RECENT) next.recent.shift();
      return { amount: value, over: sinceStart, since: startKnown ? point.start : (heard.before ?? 0), before: undefined };
    }
    if (stream === undefined) {
      const isNew = known === undefined && point.start > heard.refusedAt;
      const ours = isNew && (point.start >= this.#startedAt || point.t > heard.first + SAME_COLLECTION_MS);
      const since = Math.max(point.start, heard.before ?? 0);
      return ours ? { amount: value, over: sinceStart, since, before: undefined } : undefined;
    }
    if (point.t <= stream.t) return undefined;
    const reset = point.start > stream.start || value < stream.value;
    const increase: Increase = reset
      ? { amount: value, over: sinceStart || point.t - stream.t, since: Math.max(point.start, stream.t), before: undefined }
      : { amount: value - stream.value, over: point.t - stream.t, since: stream.t, before: stream.buckets };
    stream.start = point.start;
    stream.t = point.t;
    stream.value = value;
    stream.buckets = buckets;
    return increase;
  }

  /** Notes that a process was heard of, and returns since when it is. */
  #hear(process: string, t: number, now: number): Heard {
    const known = this.#processes.get(process);
    if (known === undefined) {
      const heard = { first: t, before: undefined, newest: t, refusedAt: -Infinity, seen: now };
      if (this.#processes.size < this.#maxStreams && this.#untimely(t, now) === undefined) this.#processes.set(process, heard);
      return heard;
    }
    if (t > known.newest && this.#untimely(t, now) === undefined) {
      if (t > known.newest + SAME_COLLECTION_MS) known.before = known.newest;
      known.newest = t;
    }
    if (known.seen !== now) {
      known.seen = now;
      this.#processes.delete(process);
      this.#processes.set(process, known);
    }
    return known;
  }

  #untimely(t: number, now: number): PointRefusal | undefined {
    return t > now + DEFAULT_TELEMETRY_LIMITS.maxFutureMs ? "future" : t < now - this.#ttl ? "too-old" : undefined;
  }

  #expire(now: number): void {
    this.#streams.sweep(now);
    for (const [process, { seen }] of this.#processes) {
      if (seen >= now - this.#ttl) break;
      this.#processes.delete(process);
    }
  }
}

/**
 * Decodes the body of an OTLP/HTTP metrics request.
 *
 * @param caches - what a decoder of protobuf remembers. Default: nothing.
 * @throws NightshiftError `MALFORMED_OTLP`, `MALFORMED_JSON`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeMetrics(
  body: Uint8Array,
  encoding: OtlpEncoding,
  limits: OtlpLimits = DEFAULT_OTLP_LIMITS,
  wants: (metric: string) => boolean = () => true,
  caches?: MetricCaches,
): MetricsRequest {
  return encoding === "protobuf" ? decodeProtobuf(body, limits, wants, caches) : decodeJson(body, limits, wants);
}

/** An attribute as text; undefined where it has no value. */
function textOf(value: AttributeValue | undefined): string | undefined {
  return value === undefined || value === null || typeof value === "string" ? (value ?? undefined) : JSON.stringify(value);
}

const NO_TRACES: readonly string[] = [];

/** The traces of a point's exemplars, newest first. */
function traceIdsOf(exemplars: readonly Exemplar[]): readonly string[] {
  if (exemplars.length === 0) return NO_TRACES;
  const ids = exemplars.toSorted((a, b) => b.t - a.t).map(({ traceId }) => traceId);
  return [...new Set(ids.filter((id) => /^[0-9a-f]{32}$/.test(id)))];
}

/** The buckets of a point; undefined when its numbers contradict each other. */
function bucketsOf(point: HistogramPoint | ExponentialHistogramPoint): Buckets | undefined {
  const inBuckets = point.counts.reduce((sum, count) => sum + count, 0);
  if ("scale" in point) {
    // The specification has scales from -10 to 20, and 32-bit indices.
    if (point.scale < -10 || point.scale > 20 || inBuckets + point.zeroCount > point.count) return undefined;
    return { kind: "exponential", scale: point.scale, offset: point.offset, counts: point.counts, zero: point.zeroCount };
  }
  if (point.counts.length > 0 && (point.counts.length !== point.bounds.length + 1 || inBuckets !== point.count)) return undefined;
  if (point.bounds.some((bound, i) => !Number.isFinite(bound) || (i > 0 && bound <= (point.bounds[i - 1] ?? 0)))) return undefined;
  return { kind: "explicit", bounds: point.bounds, counts: point.counts };
}

/** The latencies that `buckets` has and `before` did not; undefined where that cannot be said. `toMs` is a unit in ms. */
function latencyOf(
  buckets: Buckets,
  before: Buckets | undefined,
  toMs: number,
  max: number | undefined,
  ranges: LatencyRanges,
): LatencyHistogram | undefined {
  const latency = new LatencyHistogram();
  if (buckets.kind === "explicit") {
    if (before !== undefined && (before.kind !== "explicit" || !areSame(before.bounds, buckets.bounds))) return undefined;
    const { bounds, counts } = buckets;
    const known = before?.counts;
    latency.addRanges(ranges.of(bounds, toMs), known === undefined ? counts : counts.map((count, i) => count - (known[i] ?? 0)));
    // Above the last bound all that is known is the largest value, if that; so Prometheus' histogram_quantile has it.
    const lower = Math.max(0, bounds.at(-1) ?? 0);
    const upper = max !== undefined && Number.isFinite(max) ? Math.max(lower, max) : lower;
    latency.addRange(lower * toMs, upper * toMs, (counts[bounds.length] ?? 0) - (known?.[bounds.length] ?? 0));
    return latency;
  }
  if (before !== undefined && before.kind !== "exponential") return undefined;
  const scale = Math.min(buckets.scale, before?.scale ?? buckets.scale);
  const now = atScale(buckets, scale);
  const then = before === undefined ? undefined : atScale(before, scale);
  const base = 2 ** (2 ** -scale);
  latency.add(0, buckets.zero - (before?.zero ?? 0));
  for (const [index, count] of now) latency.addRange(base ** index * toMs, base ** (index + 1) * toMs, count - (then?.get(index) ?? 0));
  return latency;
}

function areSame(a: readonly number[], b: readonly number[]): boolean {
  return a === b || (a.length === b.length && a.every((bound, i) => bound === b[i]));
}

/** Counts by index, at the same or a coarser scale: a step of scale merges buckets in pairs. */
function atScale(buckets: Buckets & { kind: "exponential" }, scale: number): Map<number, number> {
  const counts = new Map<number, number>();
  const factor = 2 ** (buckets.scale - scale);
  buckets.counts.forEach((count, i) => {
    const index = Math.floor((buckets.offset + i) / factor);
    counts.set(index, (counts.get(index) ?? 0) + count);
  });
  return counts;
}
