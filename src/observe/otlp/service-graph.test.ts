import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ManualClock } from "../../../test/support/manual-clock.ts";
import { TelemetryStore } from "../store.ts";
import { OtlpReceiver } from "./receiver.ts";
import { callOf } from "./service-graph.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const nano = (ms: number): string => `${ms}000000`;

/** A collector as the servicegraph connector has it: its metrics have no resource. */
function collector() {
  const clock = new ManualClock(NOW);
  const telemetry = new TelemetryStore(clock);
  const receiver = new OtlpReceiver({ sink: telemetry, graph: telemetry.graph, clock });
  const send = (metrics: readonly object[]) =>
    receiver.receive(
      Buffer.from(JSON.stringify({ resourceMetrics: [{ scopeMetrics: [{ scope: { name: "traces_service_graph" }, metrics }] }] })),
      "json",
    );
  const attributes = (labels: Record<string, string>) =>
    Object.entries(labels).map(([key, stringValue]) => ({ key, value: { stringValue } }));
  const total = (name: string, labels: Record<string, string>, asInt: number, start = NOW) => ({
    name,
    sum: {
      isMonotonic: true,
      aggregationTemporality: 2,
      dataPoints: [
        { attributes: attributes(labels), startTimeUnixNano: nano(start), timeUnixNano: nano(clock.now()), asInt: String(asInt) },
      ],
    },
  });
  const durations = (name: string, labels: Record<string, string>, bucketCounts: readonly number[]) => ({
    name,
    unit: "s",
    histogram: {
      aggregationTemporality: 2,
      dataPoints: [
        {
          attributes: attributes(labels),
          startTimeUnixNano: nano(NOW),
          timeUnixNano: nano(clock.now()),
          count: String(bucketCounts.reduce((sum, n) => sum + n, 0)),
          bucketCounts: bucketCounts.map(String),
          explicitBounds: [0.1, 0.2],
        },
      ],
    },
  });
  return { clock, telemetry, receiver, send, total, durations };
}
const LABELS = { client: "shop", server: "bank", connection_type: "" };

describe("metrics of a service graph", () => {
  test("are calls of one service by another, whoever sends them", async () => {
    const { clock, telemetry, send, total, durations } = collector();
    for (const count of [10, 40]) {
      await clock.advance(15_000);
      const result = send([
        total("traces_service_graph_request_total", { ...LABELS, failed: "false" }, count),
        total("traces_service_graph_request_failed_total", { ...LABELS, failed: "true" }, count / 10),
        durations("traces_service_graph_request_server", LABELS, [0, count, 0]),
        durations("traces_service_graph_request_client", LABELS, [count, 0, 0]),
      ]);
      assert.deepEqual([result.accepted, result.rejected], [4, 0]);
    }
    const [seen, ...others] = telemetry.graph.calls();
    assert.deepEqual(others, []);
    assert.deepEqual([seen?.client, seen?.server, seen?.kind], [{ name: "shop" }, { name: "bank" }, "Request"]);
    const points = seen?.points(0) ?? [];
    assert.deepEqual(
      points.map(({ requests, failed }) => [requests, failed]),
      [
        [10, 1],
        [30, 3],
      ],
    );
    // The server's durations, all of them from 100 to 200 ms.
    assert.ok(points.every(({ latencyMs = 0 }) => Math.abs(latencyMs - 150) < 10));
  });
  test("are not counted in full after a number that is none, as if their counter had begun anew", async () => {
    const { clock, telemetry, send, total } = collector();
    for (const count of [100, Infinity, 101]) {
      await clock.advance(15_000);
      const metric = total("traces_service_graph_request_total", LABELS, 0, NOW - 60_000);
      const dataPoints = metric.sum.dataPoints.map((point) => ({ ...point, asInt: undefined, asDouble: String(count) }));
      assert.equal(
        send([{ ...metric, sum: { ...metric.sum, dataPoints } }]).message,
        count === Infinity ? "points refused: 1 not-finite" : "",
      );
    }
    const requests = telemetry.graph.calls().flatMap((call) => call.points(0).map((point) => point.requests));
    // The first is a baseline.
    assert.deepEqual(requests, [1]);
  });
  test("of several collectors, and of one that was started anew, do not mix", async () => {
    const { clock, telemetry, send, total } = collector();
    const name = "traces_service_graph_request_total";
    await clock.advance(10_000);
    send([total(name, LABELS, 1_000, NOW - 3_600_000), total(name, LABELS, 20, NOW)]);
    await clock.advance(10_000);
    send([total(name, LABELS, 1_005, NOW - 3_600_000), total(name, LABELS, 25, NOW), total(name, LABELS, 3, NOW + 15_000)]);
    const requests = telemetry.graph
      .calls()[0]
      ?.points(0)
      .map((point) => point.requests);
    // What the first has counted before anybody listened is no news; of the others everything is.
    assert.deepEqual(requests, [20, 13]);
  });
  test("that cannot be understood are refused, and say why", () => {
    const { receiver, telemetry, send, total } = collector();
    send([
      total("traces_service_graph_request_total", { client: "shop" }, 1),
      { name: "traces_service_graph_request_total", gauge: { dataPoints: [{ timeUnixNano: nano(NOW), asInt: "1" }] } },
      total("traces_service_graph_request_total", LABELS, -1),
    ]);
    assert.deepEqual(receiver.refused(), { "no-service-name": 1, unsupported: 1, invalid: 1 });
    assert.equal(telemetry.graph.size, 0);
  });
});

test("the type of a connection says who waits for it, and who times it", () => {
  const of = (connection_type: string, more: object = {}) => {
    const call = callOf({ ...LABELS, connection_type, ...more });
    return [call?.kind, call?.timedBy];
  };
  assert.deepEqual(of(""), ["Request", "server"]);
  assert.deepEqual(of("messaging_system"), ["Queue", "server"]);
  assert.deepEqual(of("database"), ["External", "client"]);
  assert.deepEqual(of("virtual_node"), ["External", "client"]);
  assert.deepEqual(of("virtual_node", { client: "user" }), ["Request", "server"]);
  assert.deepEqual(callOf({ ...LABELS, server_k8s_namespace_name: "money" })?.server, { name: "bank", namespace: "money" });
});
