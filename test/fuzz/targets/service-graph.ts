import assert from "node:assert/strict";
import * as fc from "fast-check";
import { decodeJson } from "../../../src/observe/otlp/json.ts";
import { DEFAULT_OTLP_LIMITS, type OtlpLimits } from "../../../src/observe/otlp/model.ts";
import { OtlpReceiver } from "../../../src/observe/otlp/receiver.ts";
import { graphMetric } from "../../../src/observe/otlp/service-graph.ts";
import { decodeTracesJson } from "../../../src/observe/otlp/traces-json.ts";
import { TraceReceiver } from "../../../src/observe/otlp/traces.ts";
import { decodePromql, type PromqlAnswer, type PromqlProblem, stepsOf } from "../../../src/observe/promql.ts";
import { ServiceGraphPoll } from "../../../src/observe/service-graph-poll.ts";
import { type CallReading, type CallSink, type CallSource, ServiceGraphStore } from "../../../src/observe/service-graph.ts";
import { SpanGraph } from "../../../src/observe/span-graph.ts";
import type { Span } from "../../../src/observe/spans.ts";
import { NightshiftError } from "../../../src/api/errors.ts";
import { TelemetryStore } from "../../../src/observe/store.ts";
import { grammarJson, type Json } from "../json.ts";
import { attributes, metricsRequest, NOW, textsIn, time } from "../otlp-messages.ts";
import { matrixAnswers } from "../promql-answers.ts";
import { withChanges } from "../bytes.ts";
import { ACCEPTED, decoded, type FuzzTarget, seedsOf } from "../target.ts";

const LIMITS: OtlpLimits = { ...DEFAULT_OTLP_LIMITS, maxPoints: 60, maxItems: 60, maxAttributes: 16, maxTextLength: 64, maxValueDepth: 4 };
const CODES = new Set(["MALFORMED_OTLP", "TOO_DEEP", "TOO_MANY_ITEMS", "MALFORMED_JSON"]);

/** A clock that can be moved on, and everything that was told to a graph. */
function harness() {
  let passed = 0;
  const clock = { now: () => NOW + passed, monotonic: () => passed, after: () => () => {} };
  const store = new ServiceGraphStore(clock, { maxEdges: 8 });
  const told: CallReading[] = [];
  const graph: CallSink = {
    recordCalls(source: CallSource, reading: CallReading) {
      const refusal = store.recordCalls(source, reading);
      // For want of place: what it says counts as told all the same.
      if (refusal === undefined || refusal === "edge-limit") told.push(reading);
      return refusal;
    },
  };
  const sum = (of: "requests" | "failed"): number => told.reduce((all, reading) => all + (reading[of] ?? 0), 0);
  return { clock, store, graph, told, sum, wait: (ms: number) => (passed += ms) };
}

/** What is told of calls is about services that `names` has, in amounts that are some, and what is kept of it is bounded. */
function holds({ told, store, clock }: ReturnType<typeof harness>, names: ReadonlySet<string>): void {
  for (const { client, server, requests = 0, failed = 0, latency, t } of told) {
    for (const { name, namespace = "default" } of [client, server]) {
      assert.ok(name !== "" && names.has(name), `nobody has named ${name}`);
      assert.ok(namespace === "default" || names.has(namespace), `nobody has named the namespace ${namespace}`);
    }
    for (const n of [requests, failed, latency?.sumMs ?? 0, latency?.count ?? 0]) assert.ok(Number.isFinite(n) && n >= 0, `${n} calls`);
    assert.ok(Number.isFinite(t));
  }
  assert.ok(store.size <= 8);
  for (const call of store.calls()) {
    const points = call.points(0);
    assert.ok(points.length <= 361);
    points.forEach(({ t, requests, failed, latencyMs = 0 }, i) => {
      assert.ok(failed <= requests && latencyMs >= 0, `${failed} of ${requests} failed, ${latencyMs} ms`);
      assert.ok(t <= clock.now() && t > (points[i - 1]?.t ?? -1), "spans are not by time");
    });
  }
}

const SERVICES = ["frontend", "payments", "orders", "user"];
const service = fc.constantFrom(...SERVICES);
const sometimes = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(of, { nil: undefined });

const metricSeeds = seedsOf("service-graph-metrics");
const graphMetrics = metricsRequest(
  fc.constantFrom<Json[]>({ attributes: attributes({ "service.name": "otelcol" }) }, {}),
  fc.constantFrom(
    "traces_service_graph_request_total",
    "traces_service_graph_request_failed_total",
    "traces_service_graph_request_server_seconds",
    "traces_service_graph_request_client",
  ),
  fc
    .record({
      client: sometimes(service),
      server: sometimes(fc.constantFrom(...SERVICES, "kafka", "")),
      connection_type: sometimes(fc.constantFrom("", "database", "messaging_system", "virtual_node")),
      client_k8s_namespace_name: sometimes(fc.constantFrom("shop", "bank")),
      "server_service.namespace": sometimes(fc.constantFrom("shop", "")),
    })
    .map(attributes),
);

/** Metrics of a service graph, from what an OpenTelemetry Collector sends to the calls that are kept. */
export const serviceGraphMetrics: FuzzTarget = {
  name: "service-graph-metrics",
  seeds: metricSeeds,
  cost: 2,
  inputs: grammarJson(graphMetrics, metricSeeds, ["traces_service_graph_request_total", "connection_type"]),
  check: (input) =>
    decoded(
      CODES,
      () => decodeJson(input, LIMITS, () => true),
      (request) => {
        const graph = harness();
        const receiver = new OtlpReceiver({
          sink: new TelemetryStore(graph.clock),
          graph: graph.graph,
          clock: graph.clock,
          limits: LIMITS,
        });
        const metrics = request.resources.flatMap((resource) => resource.metrics);
        const points = metrics.reduce((sum, metric) => sum + metric.points.length, request.overLimit);
        const first = receiver.receive(input, "json");
        assert.equal(first.accepted + first.rejected, points);
        holds(graph, textsIn(input));
        // No more calls than the sender has counted.
        for (const what of ["requests", "failed"] as const) {
          const counted = metrics
            .filter(({ name }) => graphMetric(name) === what)
            .flatMap((metric) => metric.points as readonly { readonly value?: number }[])
            .reduce((sum, { value = 0 }) => (value > 0 && Number.isFinite(value) ? sum + value : sum), 0);
          assert.ok(graph.sum(what) <= counted * (1 + 1e-9), `${graph.sum(what)} ${what} of ${counted}`);
        }
        // Whoever has had no answer sends the same again: it is no news.
        const before = graph.told.length;
        const again = receiver.receive(input, "json");
        assert.equal(again.accepted + again.rejected, points);
        assert.deepEqual(
          graph.told.slice(before).filter(({ requests = 0, failed = 0, latency }) => requests + failed + (latency?.count ?? 0) > 0),
          [],
        );
      },
    ),
};

const spanSeeds = seedsOf("otlp-traces-json");
const TRACES = ["0af7651916cd43dd8448eb211c80319c", "0AF7651916CD43DD8448EB211C80319D", "0".repeat(32)];
const SPANS = ["00f067aa0ba902b7", "00f067aa0ba902b8", "00f067aa0ba902b9", "00F067AA0BA902BA"];
const span: fc.Arbitrary<Json> = fc
  .record({
    traceId: fc.constantFrom(...TRACES, TRACES[0] ?? ""),
    spanId: fc.constantFrom(...SPANS),
    parentSpanId: fc.constantFrom(...SPANS, "", "00"),
    kind: fc.constantFrom(1, 2, 2, 3, 3, 4, 5, "SPAN_KIND_CLIENT"),
    startTimeUnixNano: time,
    endTimeUnixNano: time,
    status: fc.constantFrom<Json[]>({}, { code: 2 }, { code: "STATUS_CODE_ERROR" }),
    attributes: fc
      .record({
        "service.peer.name": sometimes(fc.constantFrom("postgresql", "payments")),
        "server.address": sometimes(fc.constantFrom("db.shop.svc.cluster.local", "10.0.0.7", "payments.svc")),
        "db.system.name": sometimes(fc.constantFrom("postgresql")),
        "db.namespace": sometimes(fc.constantFrom("orders")),
        "messaging.system": sometimes(fc.constantFrom("kafka")),
        "messaging.destination.name": sometimes(fc.constantFrom("orders")),
      })
      .map(attributes),
  })
  .map((made): Json => ({ ...made }));
const traces = fc
  .array(
    fc
      .record({
        of: fc.record({ "service.name": sometimes(service), "service.namespace": sometimes(fc.constantFrom("shop", "")) }).map(attributes),
        spans: fc.array(span, { maxLength: 8 }),
      })
      .map(({ of, spans }): Json => ({ resource: { attributes: of }, scopeSpans: [{ spans }] })),
    { maxLength: 4 },
  )
  .map((resourceSpans): Json => ({ resourceSpans }));

/** Who a span's peer may be said to be, in the words of `SpanPeer`. */
function peerNames({ peer: { service: name, address, dbSystem, dbName, messagingSystem, destination } }: Span): string[] {
  const dns = address?.split(".") ?? [];
  return [name, address, dbSystem, `${dbSystem}/${dbName}`, messagingSystem, `${messagingSystem}/${destination}`, dns[0], dns[1]].flatMap(
    (each) => each ?? [],
  );
}

/** Calls that spans tell of, whatever comes in whichever order. */
export const serviceGraphSpans: FuzzTarget = {
  name: "service-graph-spans",
  seeds: spanSeeds,
  inputs: grammarJson(traces, spanSeeds, ["SPAN_KIND_CLIENT", "STATUS_CODE_ERROR", "parentSpanId"]),
  check: (input) =>
    decoded(
      CODES,
      () => decodeTracesJson(input, LIMITS),
      () => {
        const spans: Span[] = [];
        const graph = harness();
        const sink = new SpanGraph(graph.graph, graph.clock);
        const receiver = new TraceReceiver({
          sink: { recordSpans: (more) => void spans.push(...more) },
          clock: graph.clock,
          limits: LIMITS,
        });
        receiver.receive(input, "json");
        sink.recordSpans(spans);
        assert.ok(sink.waiting <= spans.length);
        // Who has no answer by now has none.
        graph.wait(11_000);
        sink.recordSpans([]);
        assert.equal(sink.waiting, 0);
        holds(graph, new Set(spans.flatMap((each) => [each.service, each.namespace, ...peerNames(each)])));
        // A side of a call is one span, and each span is a side of one call, and of one with a broker.
        const ids = (kinds: readonly Span["kind"][], of: (each: Span) => string | undefined): Set<string> =>
          new Set(spans.filter(({ kind }) => kinds.includes(kind)).map((each) => `${each.traceId}/${of(each)}`));
        const calls = ids(["Client", "Producer"], ({ spanId }) => spanId).size;
        const brokers = ids(["Producer"], ({ spanId }) => spanId).size;
        assert.ok(graph.told.length <= calls + brokers, `${graph.told.length} calls of ${calls} spans`);
        assert.ok(graph.told.every(({ requests, failed = 0 }) => requests === 1 && failed <= 1));
        // Whoever has had no answer sends the same again: they are no further calls.
        const before = graph.told.length;
        sink.recordSpans(spans);
        graph.wait(11_000);
        sink.recordSpans([]);
        assert.deepEqual(graph.told.slice(before), []);
      },
    ),
};

const STEPS = stepsOf(3_600_000, NOW);
const answer = matrixAnswers(
  fc
    .record({ client: sometimes(service), server: sometimes(service), connection_type: sometimes(fc.constantFrom("database", "")) })
    .map((labels): Json =>
      Object.fromEntries(Object.entries(labels).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]]))),
    ),
  STEPS,
).map((made) => JSON.stringify(made));

/** The answers of Prometheus to two queries that belong together, requests and failures: each on a line of its own. */
export const serviceGraphPromql: FuzzTarget = {
  name: "service-graph-promql",
  seeds: [
    Buffer.from(
      '{"status":"success","data":{"resultType":"matrix","result":[]}}\n{"status":"success","data":{"resultType":"matrix","result":[]}}',
    ),
  ],
  inputs: withChanges(
    fc.tuple(answer, answer).map((lines) => Buffer.from(lines.join("\n"))),
    ["NaN", "+Inf", '"warnings":["x"],', "vector", '"client":"x",'],
  ),
  check(input) {
    const lines = Buffer.from(input).toString().split("\n");
    let outcome = ACCEPTED;
    const answers = lines.slice(0, 2).map((line): PromqlAnswer | PromqlProblem => {
      try {
        return decodePromql(Buffer.from(line), STEPS);
      } catch (error) {
        if (!(error instanceof NightshiftError)) throw error;
        assert.ok(["MALFORMED_JSON", "TOO_DEEP", "MALFORMED_ANSWER"].includes(error.code), error.code);
        outcome = error.code;
        return { problem: error.message };
      }
    });
    const graph = harness();
    const poll = new ServiceGraphPoll({
      ask: ({ query }) => (query.includes("_seconds") ? undefined : answers[query.includes("_failed_") ? 1 : 0]),
      graph: graph.graph,
    });
    poll.take();
    const names = new Set(answers.flatMap((each) => ("problem" in each ? [] : each.rows.flatMap(({ labels }) => Object.values(labels)))));
    holds(graph, names);
    assert.ok(graph.told.every(({ requests = 0, failed = 0 }) => failed <= requests));
    // The same answer, asked for again, is no news.
    const before = graph.told.length;
    poll.take();
    assert.equal(graph.told.length, before);
    return outcome;
  },
};
