import type { OtlpLimits } from "../observe/otlp/model.ts";
import { LogReceiver, type LogSink } from "../observe/otlp/logs.ts";
import { type IngestResult, type OtlpEncoding, OtlpReceiver } from "../observe/otlp/receiver.ts";
import { encodeResponse } from "../observe/otlp/response.ts";
import { TraceReceiver } from "../observe/otlp/traces.ts";
import type { CallSink } from "../observe/service-graph.ts";
import { SpanGraph } from "../observe/span-graph.ts";
import type { SpanSink } from "../observe/spans.ts";
import type { TelemetrySink } from "../observe/store.ts";
import type { Clock } from "../ports/clock.ts";
import type { ObservedCounts } from "./metrics.ts";

/** Where OTLP over HTTP is taken, by OTLP's own rules. */
export const OTLP_PATHS = ["/v1/metrics", "/v1/traces", "/v1/logs"] as const;
export type OtlpPath = (typeof OTLP_PATHS)[number];

/** The same over gRPC. */
export const GRPC_METHOD: Readonly<Record<OtlpPath, string>> = {
  "/v1/metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
  "/v1/traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
  "/v1/logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
};

/** Whether a path is one of OTLP's. */
export function isOtlpPath(path: string): boolean {
  return (OTLP_PATHS as readonly string[]).includes(path);
}

/** What receives OTLP. */
export interface OtlpOptions {
  /** `graph`: takes who calls whom, from metrics of a service graph and from spans. */
  readonly telemetry: TelemetrySink & LogSink & { readonly graph?: CallSink };
  /** Default: spans are calls of the graph, where there is one. */
  readonly spans?: SpanSink | undefined;
  readonly reservedMetrics?: readonly string[];
  readonly clock: Clock;
}

/** Takes the body of an export request in and returns that of its answer. Throws a `NightshiftError` where it cannot be decoded. */
export type OtlpTake = (body: Uint8Array, encoding: OtlpEncoding) => Uint8Array;

/** What takes each kind of telemetry, over whichever listener it comes, and what it has counted. */
export function otlpOf(
  options: OtlpOptions,
  limits: Partial<OtlpLimits>,
): {
  readonly otlp: Readonly<Record<OtlpPath, OtlpTake>>;
  readonly counts: () => Omit<ObservedCounts, "series" | "telemetryRefused">;
} {
  const { clock, telemetry } = options;
  const { graph } = telemetry;
  const spans = options.spans ?? (graph === undefined ? undefined : new SpanGraph(graph, clock));
  const metrics = new OtlpReceiver({
    sink: telemetry,
    ...(graph === undefined ? {} : { graph }),
    clock,
    limits,
    reserved: options.reservedMetrics ?? [],
  });
  const logs = new LogReceiver({ sink: telemetry, clock, limits });
  const traces = spans === undefined ? undefined : new TraceReceiver({ sink: spans, clock, limits });
  return {
    otlp: {
      "/v1/metrics": (body, encoding) => encodeResponse(metrics.receive(body, encoding), encoding, "DataPoints"),
      "/v1/traces": (body, encoding) => encodeResponse(traces?.receive(body, encoding) ?? UNUSED, encoding, "Spans"),
      "/v1/logs": (body, encoding) => encodeResponse(logs.receive(body, encoding), encoding, "LogRecords"),
    },
    counts: () => ({
      pointsAccepted: metrics.accepted,
      pointsRefused: metrics.refused(),
      spansAccepted: traces?.accepted ?? 0,
      spansRefused: traces?.refused() ?? {},
      logsAccepted: logs.accepted,
      logsRefused: logs.refused(),
    }),
  };
}

/** What is said of telemetry that nothing here reads. */
const UNUSED: IngestResult = { accepted: 0, rejected: 0, message: "Nightshift makes nothing of these: they were not kept" };
