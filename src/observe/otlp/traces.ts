import type { Clock } from "../../ports/clock.ts";
import type { Span, SpanSink } from "../spans.ts";
import { DEFAULT_TELEMETRY_LIMITS } from "../store.ts";
import { DEFAULT_OTLP_LIMITS, type OtlpLimits } from "./model.ts";
import { decodeTracesJson } from "./traces-json.ts";
import type { RawSpan } from "./traces-model.ts";
import { decodeTracesProtobuf } from "./traces-protobuf.ts";
import type { IngestResult, OtlpEncoding } from "./receiver.ts";
import { Refusals } from "./refusals.ts";

/** Why a span is not kept. */
export type SpanRefusal =
  /** The resource has no `service.name`, or an overlong one: nobody knows whose it is. */
  | "no-service-name"
  /** Ids that are none, or an end before its beginning. */
  | "invalid"
  /** From further in the future than clocks may differ. */
  | "future"
  /** From before anything that is kept. */
  | "too-old"
  /** More spans in one request than allowed. */
  | "span-limit";

/** Bounds and needs of a TraceReceiver. */
export interface TraceReceiverOptions {
  readonly sink: SpanSink;
  readonly clock: Clock;
  readonly limits?: Partial<OtlpLimits>;
}

const TRACE_ID = /^(?!0{32})[0-9a-f]{32}$/;
const SPAN_ID = /^(?!0{16})[0-9a-f]{16}$/;

/**
 * Takes OTLP traces in and hands the spans of calls between services to a SpanSink. Spans within a process are accepted and
 * not decoded: they are no edges of a graph. Who sent one is told as in metrics, see `identityOf`.
 */
export class TraceReceiver {
  readonly #sink: SpanSink;
  readonly #clock: Clock;
  readonly #limits: OtlpLimits;
  readonly #refused = new Refusals<SpanRefusal>("spans");
  #accepted = 0;

  constructor(options: TraceReceiverOptions) {
    this.#sink = options.sink;
    this.#clock = options.clock;
    this.#limits = { ...DEFAULT_OTLP_LIMITS, ...options.limits };
  }

  /** Spans accepted since the start. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Spans refused since the start, by reason. */
  refused(): Readonly<Partial<Record<SpanRefusal, number>>> {
    return this.#refused.total();
  }

  /**
   * Decodes a body and hands its spans on. They are judged one by one.
   *
   * @throws NightshiftError when the body cannot be decoded; then nothing of it was handed on.
   */
  receive(body: Uint8Array, encoding: OtlpEncoding): IngestResult {
    const request = encoding === "protobuf" ? decodeTracesProtobuf(body, this.#limits) : decodeTracesJson(body, this.#limits);
    const now = this.#clock.now();
    const spans: Span[] = [];
    const reasons = new Map<SpanRefusal, number>();
    const refuse = (reason: SpanRefusal, count: number): unknown => reasons.set(reason, (reasons.get(reason) ?? 0) + count);
    for (const { identity, spans: raw } of request.resources) {
      const { serviceName: service, instanceId } = identity;
      const namespace = identity.serviceNamespace === undefined || identity.serviceNamespace === "" ? "default" : identity.serviceNamespace;
      if (service === undefined || service === "" || Math.max(service.length, namespace.length) > this.#limits.maxTextLength) {
        if (raw.length > 0) refuse("no-service-name", raw.length);
        continue;
      }
      const uid = instanceId === undefined || instanceId === "" || instanceId.length > this.#limits.maxTextLength ? undefined : instanceId;
      for (const span of raw) {
        const reason = refusalOf(span, now);
        if (reason !== undefined) {
          refuse(reason, 1);
          continue;
        }
        const { traceId, spanId, kind, start, failed, peer } = span;
        const parentSpanId = span.parentSpanId === "" ? undefined : span.parentSpanId;
        const durationMs = span.stop - start;
        spans.push({ traceId, spanId, parentSpanId, kind, service, namespace, instanceId: uid, start, durationMs, failed, peer });
      }
    }
    if (request.overLimit > 0) refuse("span-limit", request.overLimit);
    if (spans.length > 0) this.#sink.recordSpans(spans);
    const accepted = spans.length + request.internal;
    this.#accepted += accepted;
    return { accepted, ...this.#refused.count(reasons) };
  }
}

function refusalOf(span: RawSpan, now: number): SpanRefusal | undefined {
  if (!TRACE_ID.test(span.traceId) || !SPAN_ID.test(span.spanId) || (span.parentSpanId !== "" && !SPAN_ID.test(span.parentSpanId)))
    return "invalid";
  if (span.stop < span.start) return "invalid";
  if (span.start > now + DEFAULT_TELEMETRY_LIMITS.maxFutureMs) return "future";
  return span.stop < now - DEFAULT_TELEMETRY_LIMITS.retentionMs ? "too-old" : undefined;
}
