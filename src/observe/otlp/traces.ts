import type { Clock } from "../../ports/clock.ts";
import type { Span, SpanSink } from "../spans.ts";
import { ItemReceiver } from "./item-receiver.ts";
import type { OtlpLimits } from "./model.ts";
import { decodeTracesJson } from "./traces-json.ts";
import type { RawSpan } from "./traces-model.ts";
import { decodeTracesProtobuf } from "./traces-protobuf.ts";
import type { IngestResult, OtlpEncoding } from "./receiver.ts";

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
export class TraceReceiver extends ItemReceiver<SpanRefusal> {
  readonly #sink: SpanSink;

  constructor(options: TraceReceiverOptions) {
    super("spans", options);
    this.#sink = options.sink;
  }

  /**
   * Decodes a body and hands its spans on. They are judged one by one.
   *
   * @throws NightshiftError when the body cannot be decoded; then nothing of it was handed on.
   */
  receive(body: Uint8Array, encoding: OtlpEncoding): IngestResult {
    const request = encoding === "protobuf" ? decodeTracesProtobuf(body, this.limits) : decodeTracesJson(body, this.limits);
    const now = this.clock.now();
    return this.judged((refuse) => {
      const spans: Span[] = [];
      for (const { identity, spans: raw } of request.resources) {
        const { serviceName: service, instanceId } = identity;
        const namespace =
          identity.serviceNamespace === undefined || identity.serviceNamespace === "" ? "default" : identity.serviceNamespace;
        if (!this.isName(service) || !this.isName(namespace)) {
          refuse("no-service-name", raw.length);
          continue;
        }
        const uid = this.isName(instanceId) ? instanceId : undefined;
        for (const span of raw) {
          const reason = isInvalid(span) ? "invalid" : this.untimely(span.start, span.stop, now);
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
      refuse("span-limit", request.overLimit);
      if (spans.length > 0) this.#sink.recordSpans(spans);
      return spans.length + request.internal;
    });
  }
}

function isInvalid({ traceId, spanId, parentSpanId, start, stop }: RawSpan): boolean {
  const isParent = parentSpanId === "" || SPAN_ID.test(parentSpanId);
  return !TRACE_ID.test(traceId) || !SPAN_ID.test(spanId) || !isParent || stop < start;
}
