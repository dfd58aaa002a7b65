import { createServer, type IncomingMessage } from "node:http";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { detectResources, envDetector } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import type { Faults } from "./faults.ts";

/** What a service answers. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** A small HTTP service with JSON bodies. */
export interface Service {
  /** Handlers by method and path, such as `POST /pay`. */
  readonly routes: Readonly<Record<string, (body: unknown) => Promise<Answer>>>;
  /** Readiness: resolves when the service can do its work, rejects when it cannot. */
  readonly ready?: () => Promise<void>;
  readonly faults: Faults;
  /** Called once, with the first request. */
  readonly onFirstRequest?: () => void;
}

/** Bucket bounds of `http.server.request.duration` in seconds, as the OpenTelemetry semantic conventions have them. */
const DURATION_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

/** A request in flight has this long to end after SIGTERM. */
const SHUTDOWN_MS = 3_000;

/** Metrics by the OpenTelemetry SDK, configured by its standard variables (`OTEL_*`); without an endpoint, none leave. */
function startMetrics() {
  const endpoint = process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] ?? process.env["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"];
  const interval = Number(process.env["OTEL_METRIC_EXPORT_INTERVAL"] ?? 1_000);
  const provider = new MeterProvider({
    resource: detectResources({ detectors: [envDetector] }),
    readers:
      endpoint === undefined
        ? []
        : [
            new PeriodicExportingMetricReader({
              exporter: new OTLPMetricExporter(),
              exportIntervalMillis: interval,
              exportTimeoutMillis: interval,
            }),
          ],
  });
  const meter = provider.getMeter("shop");
  const duration = meter.createHistogram("http.server.request.duration", {
    unit: "s",
    advice: { explicitBucketBoundaries: DURATION_BOUNDS },
  });
  const active = meter.createUpDownCounter("http.server.active_requests", { unit: "{request}" });
  meter.createObservableGauge("process.memory.usage", { unit: "By" }).addCallback((result) => result.observe(process.memoryUsage.rss()));
  meter
    .createObservableGauge("v8js.memory.heap.used", { unit: "By" })
    .addCallback((result) => result.observe(process.memoryUsage().heapUsed));
  return { duration, active, stop: () => provider.shutdown() };
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

/** Runs the service on the address in `HOST` (default 127.0.0.1) and the port in `PORT`, until SIGTERM. */
export function serve(service: Service): void {
  const metrics = startMetrics();
  let failing = false;
  let requests = 0;

  const first = (): void => {
    service.onFirstRequest?.();
    const { faults } = service;
    setTimeout(() => {
      failing = faults.has("errors");
      if (faults.has("mute")) metrics.stop().catch(() => undefined);
    }, faults.afterMs).unref();
  };

  const answer = async (request: IncomingMessage, path: string): Promise<Answer> => {
    if (path === "/healthz") {
      await service.ready?.();
      return { status: 200, body: { status: "ok" } };
    }
    const handler = service.routes[`${request.method} ${path}`];
    if (!handler) return { status: 404, body: { error: "not found" } };
    if (requests++ === 0) first();
    const body = await readJson(request);
    if (failing) return { status: 500, body: { error: "internal error" } };
    return handler(body);
  };

  const server = createServer((request, response) => {
    const began = performance.now();
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    // Probes say nothing about what customers see.
    if (path !== "/healthz") {
      const what = { "http.request.method": request.method ?? "", "url.scheme": "http" };
      metrics.active.add(1, what);
      response.once("close", () => {
        metrics.active.add(-1, what);
        const whole = response.writableFinished;
        metrics.duration.record((performance.now() - began) / 1_000, {
          "http.request.method": request.method ?? "",
          "http.route": path in service.routes ? path : "other",
          "http.response.status_code": whole ? response.statusCode : 499,
          ...(whole ? {} : { "error.type": "client_closed_request" }),
        });
      });
    }
    void answer(request, path)
      .catch((error: unknown): Answer => ({ status: 500, body: { error: error instanceof Error ? error.message : String(error) } }))
      .then(({ status, body }) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body)));
  });
  // Longer than the router keeps a connection idle, so that it is never closed under a request that is on its way.
  server.keepAliveTimeout = 65_000;
  // A connection that lives for ever keeps its caller on this process, also when a Service no longer sends anybody here.
  // Not by default: a caller that does not heed `Connection: close` gets 503 from Node after that.
  server.maxRequestsPerSocket = Number(process.env["SHOP_REQUESTS_PER_CONNECTION"] ?? 0);
  server.listen(Number(process.env["PORT"] ?? 0), process.env["HOST"] ?? "127.0.0.1");

  process.once("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    setTimeout(() => process.exit(0), SHUTDOWN_MS);
  });
}

/** How much longer than usual an answer is waited for: on a machine that does much else, slow is not lost. */
const PATIENCE = Number(process.env["SHOP_PATIENCE"] ?? 1);

/** Calls another service of the shop. Answers 504 itself when that does not answer in time, 502 when it cannot be reached. */
export async function call(method: "GET" | "POST", url: string, body: unknown, timeoutMs: number): Promise<Answer> {
  // Not `AbortSignal.timeout`: each would be kept until its time is over, and thousands fill the heap.
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), timeoutMs * PATIENCE);
  try {
    const response = await fetch(url, {
      method,
      signal: limit.signal,
      ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? undefined : JSON.parse(text) };
  } catch {
    const late = limit.signal.aborted;
    return { status: late ? 504 : 502, body: { error: late ? `no answer from ${url}` : `cannot reach ${url}` } };
  } finally {
    clearTimeout(timer);
  }
}

/** An address that the service cannot do without. */
export function requiredUrl(variable: string): string {
  const url = process.env[variable];
  if (!url) throw new Error(`${variable}: set it to the address of the service that is called`);
  return url;
}
