import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { ServiceGraphStore } from "./service-graph.ts";
import { SpanGraph } from "./span-graph.ts";
import type { Span } from "./spans.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const span = (more: Partial<Span>): Span => ({
  traceId: "0".repeat(31) + "1",
  spanId: "a".repeat(16),
  parentSpanId: undefined,
  kind: "Client",
  service: "shop",
  namespace: "default",
  instanceId: undefined,
  start: NOW - 1_000,
  durationMs: 100,
  failed: false,
  peer: {},
  ...more,
});
const client = span({});
const server = span({ kind: "Server", service: "bank", spanId: "b".repeat(16), parentSpanId: client.spanId, durationMs: 80 });

function graph() {
  const clock = new ManualClock(NOW);
  const store = new ServiceGraphStore(clock);
  const spans = new SpanGraph(store, clock);
  const seen = (): string[] =>
    store.calls().map((call) => {
      const points = call.points(0);
      const sum = (of: "requests" | "failed"): number => points.reduce((all, point) => all + point[of], 0);
      return `${call.client.name} > ${call.server.name} ${call.kind} ${sum("requests")}/${sum("failed")} ${points[0]?.latencyMs} ms`;
    });
  return { clock, spans, seen, store };
}

describe("spans", () => {
  test("of both sides are one call, in whichever order they come, timed by the server, failed by either", () => {
    for (const order of [
      [client, server],
      [server, client],
    ]) {
      const { spans, seen } = graph();
      for (const each of order) spans.recordSpans([each]);
      assert.deepEqual(seen(), ["shop > bank Request 1/0 80 ms"]);
      assert.equal(spans.waiting, 0);
      spans.recordSpans([{ ...client, traceId: "f".repeat(32), failed: true }]);
      spans.recordSpans([{ ...server, traceId: "f".repeat(32) }]);
      assert.deepEqual(seen(), ["shop > bank Request 2/1 80 ms"]);
    }
  });
  test("count once, however often they are delivered", async () => {
    const { clock, spans, seen } = graph();
    const database = span({ spanId: "c".repeat(16), peer: { dbSystem: "postgresql" } });
    const away = span({ spanId: "d".repeat(16), peer: { address: "10.0.0.7" } });
    const queue = [
      span({ kind: "Producer", spanId: "e".repeat(16), peer: { messagingSystem: "kafka" } }),
      span({ kind: "Consumer", service: "mail", spanId: "f".repeat(16), parentSpanId: "e".repeat(16) }),
    ];
    const all = [client, server, database, away, ...queue];
    spans.recordSpans(all);
    await clock.advance(11_000);
    spans.recordSpans([]);
    const once = seen().toSorted();
    assert.equal(once.length, 5);
    // A sender that had no answer, and one that had half of one.
    for (const again of [all, all.toReversed(), [server], [client]]) spans.recordSpans(again);
    await clock.advance(11_000);
    spans.recordSpans([]);
    assert.deepEqual(seen().toSorted(), once);
  });
  test("of other traces and other parents do not meet, and the first of a trace waits for nobody", () => {
    const { spans, seen } = graph();
    spans.recordSpans([client, { ...server, traceId: "f".repeat(32) }, { ...server, parentSpanId: undefined }]);
    assert.deepEqual(seen(), []);
    assert.equal(spans.waiting, 2);
  });
  test("of a producer and its consumer are a queue, and the broker is called as well", () => {
    const { spans, seen } = graph();
    const peer = { messagingSystem: "kafka", destination: "orders" };
    spans.recordSpans([
      { ...client, kind: "Producer", peer },
      { ...server, kind: "Consumer", service: "mailer" },
    ]);
    assert.deepEqual(seen(), ["shop > kafka/orders External 1/0 100 ms", "shop > mailer Queue 1/0 80 ms"]);
  });
  test("name what sends none itself: a database at once, others when nobody has answered for them", async () => {
    const { spans, seen, clock, store } = graph();
    spans.recordSpans([{ ...client, peer: { dbSystem: "postgresql", address: "db.shop.svc.cluster.local" }, failed: true }]);
    assert.deepEqual(store.calls()[0]?.server, { name: "db", namespace: "shop" });
    spans.recordSpans([{ ...client, traceId: "e".repeat(32), peer: { address: "api.stripe.com" } }]);
    assert.equal(seen().length, 1);
    await clock.advance(10_001);
    spans.recordSpans([]);
    assert.deepEqual(seen(), ["shop > db External 1/1 100 ms", "shop > api.stripe.com External 1/0 100 ms"]);
  });
  test("that wait are bounded", () => {
    const { spans } = graph();
    for (let i = 0; i < 25_000; i++) spans.recordSpans([{ ...client, spanId: String(i).padStart(16, "0") }]);
    assert.equal(spans.waiting, 20_000);
  });
});
