import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { CALL_RESOLUTION_MS, type CallReading, DEFAULT_SERVICE_GRAPH_LIMITS, ServiceGraphStore } from "./service-graph.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const call = (more: Partial<CallReading> = {}): CallReading => ({
  client: { name: "shop" },
  server: { name: "bank" },
  kind: "Request",
  t: NOW,
  requests: 10,
  failed: 1,
  ...more,
});
const store = (limits = {}) => {
  const clock = new ManualClock(NOW);
  return { clock, graph: new ServiceGraphStore(clock, limits) };
};

describe("the calls that were seen", () => {
  test("add up in spans, whichever of its numbers comes first", () => {
    const { graph } = store();
    graph.recordCalls("Otlp", call({ requests: 30, failed: 0 }));
    graph.recordCalls("Otlp", call({ requests: 0, failed: 3 }));
    graph.recordCalls("Otlp", call({ requests: 0, failed: 0, latency: { sumMs: 900, count: 30 } }));
    const [seen] = graph.calls();
    assert.deepEqual(seen?.points(0), [{ t: NOW, requests: 30, failed: 3, latencyMs: 30 }]);
  });
  test("age out an hour after the last of them, however long their counters are told of", async () => {
    const { graph, clock } = store();
    graph.recordCalls("Otlp", call());
    const version = graph.version;
    await clock.advance(DEFAULT_SERVICE_GRAPH_LIMITS.edgeTtlMs - 1);
    graph.recordCalls("Otlp", call({ t: clock.now(), requests: 0, failed: 0 }));
    assert.equal(graph.calls().length, 1);
    await clock.advance(20_000);
    assert.deepEqual(graph.calls(), []);
    assert.notEqual(graph.version, version);
  });
  test("are bounded: what is new is refused, and what is known stays", () => {
    const { graph } = store({ maxEdges: 2 });
    for (const name of ["a", "b"]) assert.equal(graph.recordCalls("Otlp", call({ server: { name } })), undefined);
    assert.equal(graph.recordCalls("Otlp", call({ server: { name: "c" } })), "edge-limit");
    assert.equal(graph.recordCalls("Otlp", call({ server: { name: "a" } })), undefined);
    assert.equal(graph.size, 2);
    assert.deepEqual(graph.refused(), { "edge-limit": 1 });
  });
  test("are of an hour, and of the source that knows them longest", () => {
    const { graph } = store();
    for (let i = 0; i < 400; i++) graph.recordCalls("Prometheus", call({ t: NOW - (399 - i) * CALL_RESOLUTION_MS }));
    graph.recordCalls("Spans", call());
    assert.equal(graph.refused()["too-old"], 39);
    const [seen, ...others] = graph.calls();
    assert.deepEqual(others, []);
    assert.equal(seen?.source, "Prometheus");
    assert.equal(seen.points(0).length, 360);
    assert.equal(seen.points(NOW - 30_000).length, 4);
  });
  test("are refused where they are no numbers, contradict each other or come from the future", () => {
    const { graph } = store();
    assert.equal(graph.recordCalls("Otlp", call({ requests: NaN })), "not-finite");
    assert.equal(graph.recordCalls("Otlp", call({ failed: -1 })), "invalid");
    assert.equal(graph.recordCalls("Otlp", call({ server: { name: "" } })), "invalid");
    assert.equal(graph.recordCalls("Otlp", call({ t: NOW + 61_000 })), "future");
    assert.equal(graph.size, 0);
    graph.recordCalls("Otlp", call({ failed: 12 }));
    assert.equal(graph.calls()[0]?.points(0)[0]?.failed, 10);
  });
  test("of a clock that was set back do not stand in the way of those that follow", async () => {
    const clock = new ManualClock(NOW);
    let back = 0;
    const graph = new ServiceGraphStore({
      now: () => clock.now() - back,
      monotonic: () => clock.monotonic(),
      after: () => () => undefined,
    });
    graph.recordCalls("Otlp", call());
    back = 1_800_000;
    graph.recordCalls("Otlp", call({ t: NOW - back }));
    assert.deepEqual(
      graph.calls().map(({ seenAt }) => seenAt),
      [NOW - back],
    );
  });
  test("never have more in them than was told", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: -4_000_000, max: 100_000 }), fc.nat(50)), { maxLength: 60 }), (readings) => {
        const { graph } = store();
        let told = 0;
        for (const [at, requests] of readings)
          if (graph.recordCalls("Otlp", call({ t: NOW + at, requests, failed: 0 })) === undefined) told += requests;
        const kept = graph.calls()[0]?.points(0) ?? [];
        assert.ok(kept.reduce((sum, { requests }) => sum + requests, 0) <= told);
        assert.deepEqual(
          kept.map(({ t }) => t),
          [...new Set(kept.map(({ t }) => t))].sort((a, b) => a - b),
        );
      }),
      { numRuns: 100 },
    );
  });
});
