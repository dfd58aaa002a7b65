import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { type PromqlAnswer, type PromqlProblem, type PromqlQuery, stepsOf } from "./promql.ts";
import { ServiceGraphPoll } from "./service-graph-poll.ts";
import { ServiceGraphStore } from "./service-graph.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const LABELS = { client: "shop", server: "bank", server_k8s_namespace_name: "money" };

/** A Prometheus in which each series has had the same rate for the last hour. */
function prometheus(rates: Readonly<Record<string, number | undefined>>) {
  const clock = new ManualClock(NOW);
  const graph = new ServiceGraphStore(clock);
  const asked: PromqlQuery[] = [];
  const problems = new Set<string>();
  const ask = (query: PromqlQuery): PromqlAnswer | PromqlProblem => {
    asked.push(query);
    const [metric = ""] = /traces_service_graph_request_[a-z_]+/.exec(query.query) ?? [];
    if (problems.has(metric)) return { problem: "it is down" };
    const steps = stepsOf(query.rangeMs, clock.now());
    const v = rates[metric];
    return { steps, rows: v === undefined ? [] : [{ labels: LABELS, samples: steps.map((t) => ({ t, v })) }] };
  };
  return { clock, graph, asked, problems, poll: new ServiceGraphPoll({ ask, graph }) };
}
const RATES = {
  traces_service_graph_request_total: 10,
  traces_service_graph_request_failed_total: 2,
  traces_service_graph_request_server_seconds_sum: 5,
  traces_service_graph_request_server_seconds_count: 10,
};
const sums = (graph: ServiceGraphStore, since = 0) => {
  const points = graph.calls()[0]?.points(since) ?? [];
  const sum = (of: "requests" | "failed"): number => Math.round(points.reduce((all, point) => all + point[of], 0));
  return { spans: points.length, requests: sum("requests"), failed: sum("failed"), latencyMs: points.at(-1)?.latencyMs };
};

test("the last hour is there at once, and nothing is counted twice after that", async () => {
  const { poll, graph, clock, asked } = prometheus(RATES);
  poll.take();
  const hour = sums(graph);
  assert.ok(Math.abs(hour.requests - 36_000) <= 600, `${hour.requests} requests`);
  assert.equal(hour.failed, Math.round(hour.requests / 5));
  assert.equal(hour.latencyMs, 500);
  assert.deepEqual(graph.calls()[0]?.server, { name: "bank", namespace: "money" });
  for (let i = 0; i < 10; i++) {
    await clock.advance(27_000);
    poll.take();
    poll.take();
  }
  const since = sums(graph, NOW + 10_000);
  assert.ok(Math.abs(since.requests - 2_600) <= 100, `${since.requests} requests in 260 s`);
  assert.deepEqual([...new Set(asked.map(({ rangeMs }) => rangeMs))], [3_600_000, 300_000]);
});

test("requests are not taken without their failures: they would look well", () => {
  const { poll, graph, problems } = prometheus(RATES);
  problems.add("traces_service_graph_request_failed_total");
  poll.take();
  assert.equal(sums(graph).requests, 0);
  problems.clear();
  poll.take();
  assert.ok(sums(graph).failed > 0);
});

test("without such metrics there is no graph", () => {
  const { poll, graph } = prometheus({});
  poll.take();
  assert.deepEqual(graph.calls(), []);
});
