import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { findRootCause, type CallEdge, type RootCauseResult } from "./root-cause.ts";
import type { MetricSeries } from "./root-cause-series.ts";
import { normal, seeded } from "./shapes.ts";

const STEP = 60_000;
const START = 1_700_000_000_000;
const BASELINE = 120;
const DURING = 30;
const incident = { start: START, end: START + (DURING - 1) * STEP };

/** A metric with a little noise: `before`, and `during` from `from` minutes after the start on. */
function metric(service: string, name: string, before: number, during = before, from = 0, unit?: string): MetricSeries {
  const random = seeded(Array.from(`${service}/${name}`).reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 1e9, 7));
  const n = BASELINE + DURING;
  return {
    service,
    metric: name,
    unit,
    times: Float64Array.from({ length: n }, (_, i) => START + (i - BASELINE) * STEP),
    values: Float64Array.from({ length: n }, (_, i) => (i - BASELINE >= from ? during : before) * (1 + 0.03 * normal(random))),
  };
}
/** What a well service shows. */
const well = (service: string, latency = 50): MetricSeries[] => [
  metric(service, "latency_p99", latency),
  metric(service, "error_rate", 0),
  metric(service, "requests", 1000),
  metric(service, "cpu", 30),
  metric(service, "memory", 400),
];
/** The same with some of it replaced. */
const but = (all: MetricSeries[], ...other: MetricSeries[]): MetricSeries[] => [
  ...all.filter((one) => !other.some(({ metric: name }) => name === one.metric)),
  ...other,
];
const without = (all: MetricSeries[], ...names: string[]): MetricSeries[] => all.filter(({ metric: name }) => !names.includes(name));
const calls = (text: string): CallEdge[] =>
  text.split(" ").map((edge) => {
    const [from = "", to = ""] = edge.split(">");
    return { from, to };
  });
const find = (graph: string, series: MetricSeries[], target = "web"): RootCauseResult =>
  findRootCause({ edges: calls(graph), series, incident, target });
const first = (result: RootCauseResult): [string | undefined, string | undefined] => [result.causes[0]?.service, result.causes[0]?.metric];
const text = (result: RootCauseResult): string => result.causes.flatMap(({ evidence }) => evidence).join("\n");

describe("the cause", () => {
  test("is the deepest ill service that explains the symptom, and the resource that explains it beats its latency", () => {
    const result = find("web>cart cart>db web>ads", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 700)),
      ...but(well("cart", 100), metric("cart", "latency_p99", 100, 600)),
      ...but(well("db", 20), metric("db", "latency_p99", 20, 520), metric("db", "cpu", 30, 95)),
      ...well("ads"),
    ]);
    assert.equal(result.verdict, "cause");
    assert.deepEqual(first(result), ["db", "cpu"]);
    assert.match(text(result), /cpu rose from .* to .* robust deviations.*\n.*latency_p99 rose/);
    assert.match(text(result), /web > cart > db/);
    assert.match(text(result), /ads/);
  });
  test("is not deeper than what explains the symptom: a callee that is a little slower is not why", () => {
    const result = find("web>cart cart>db", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 900)),
      ...but(well("cart", 100), metric("cart", "latency_p99", 100, 800), metric("cart", "memory", 400, 900)),
      ...but(well("db", 20), metric("db", "latency_p99", 20, 32)),
    ]);
    assert.deepEqual(first(result), ["cart", "memory"]);
  });
  test("is not a callee that changed and shows no symptom", () => {
    const result = find("web>cart cart>db", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 900)),
      ...but(well("cart", 100), metric("cart", "latency_p99", 100, 800)),
      ...but(well("db", 20), metric("db", "memory", 400, 1200)),
    ]);
    assert.deepEqual(first(result), ["cart", "latency_p99"]);
    assert.match(text(result), /db changed its memory, but shows no symptom/);
  });
  test("is the target, when all below is well", () => {
    const result = find("web>cart", [...but(well("web", 200), metric("web", "latency_p99", 200, 900)), ...well("cart")]);
    assert.deepEqual(first(result), ["web", "latency_p99"]);
    assert.match(text(result), /is well: cart/);
  });
  test("may fail fast: errors are followed where latency falls", () => {
    const result = find("web>cart cart>db", [
      ...but(well("web", 200), metric("web", "error_rate", 0, 0.2), metric("web", "latency_p99", 200, 150)),
      ...but(well("cart", 100), metric("cart", "error_rate", 0, 0.25), metric("cart", "latency_p99", 100, 60)),
      ...but(well("db", 20), metric("db", "error_rate", 0, 0.3), metric("db", "latency_p99", 20, 10)),
    ]);
    assert.deepEqual(first(result), ["db", "error_rate"]);
  });
  test("may be slow where its callers time out", () => {
    const result = find("web>cart cart>db", [
      ...but(well("web", 200), metric("web", "error_rate", 0, 0.2)),
      ...but(well("cart", 100), metric("cart", "error_rate", 0, 0.3)),
      ...but(well("db", 20), metric("db", "latency_p99", 20, 4000)),
    ]);
    assert.deepEqual(first(result), ["db", "latency_p99"]);
  });
  test("is found through a service of which nothing is known, which is named", () => {
    const result = find("web>cart cart>db", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 700)),
      ...but(well("db", 20), metric("db", "latency_p99", 20, 520)),
    ]);
    assert.deepEqual(first(result), ["db", "latency_p99"]);
    assert.deepEqual(result.notLookedAt, [{ service: "cart", why: "no metrics" }]);
    assert.match(text(result), /cart \(not looked at\)/);
  });
  test("is found through a service that has metrics, but none of that kind of symptom", () => {
    const result = find("web>cart cart>db", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 700)),
      ...without(well("cart"), "latency_p99"),
      ...but(well("db", 20), metric("db", "latency_p99", 20, 520)),
    ]);
    assert.equal(first(result)[0], "db");
  });
  test("may be known by a resource alone", () => {
    const result = find("web>cart cart>db", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 700)),
      ...but(well("cart", 100), metric("cart", "latency_p99", 100, 600)),
      metric("db", "cpu", 20, 95),
    ]);
    assert.deepEqual(first(result), ["db", "cpu"]);
  });
  test("is one service that several others call", () => {
    const slow = (name: string): MetricSeries[] => but(well(name, 100), metric(name, "latency_p99", 100, 400));
    const result = find("web>a web>b web>c a>db b>db c>db", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 1100)),
      ...slow("a"),
      ...slow("b"),
      ...slow("c"),
      ...but(well("db", 20), metric("db", "latency_p99", 20, 330)),
    ]);
    assert.equal(first(result)[0], "db");
    assert.ok((result.causes[0]?.score ?? 0) > 0.9);
  });
  test("is found in a cycle", () => {
    const result = find("web>a a>b b>a b>c", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 700)),
      ...but(well("a", 100), metric("a", "latency_p99", 100, 580)),
      ...but(well("b", 50), metric("b", "latency_p99", 50, 550), metric("b", "cpu", 30, 90)),
      ...well("c"),
    ]);
    assert.deepEqual(first(result), ["b", "cpu"]);
  });
  test("may be two", () => {
    const result = find("web>a web>b", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 700)),
      ...but(well("a", 50), metric("a", "latency_p99", 50, 300), metric("a", "cpu", 30, 90)),
      ...but(well("b", 50), metric("b", "latency_p99", 50, 290), metric("b", "memory", 400, 900)),
    ]);
    assert.deepEqual(
      result.causes
        .slice(0, 2)
        .map(({ service, metric: name }) => `${service} ${name}`)
        .sort(),
      ["a cpu", "b memory"],
    );
  });
  test("began no later than its effect", () => {
    const result = find("web>a web>b", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 700)),
      ...but(well("a", 50), metric("a", "latency_p99", 50, 500)),
      ...but(well("b", 50), metric("b", "latency_p99", 50, 500, 15)),
    ]);
    assert.equal(first(result)[0], "a");
    assert.ok((result.causes[0]?.score ?? 0) > 1.5 * (result.causes[1]?.score ?? 0));
  });
  test("is named by a resource that grows, too", () => {
    const leak = metric("db", "memory", 400);
    leak.values.forEach((v, i) => (leak.values[i] = v + Math.max(0, i - BASELINE) * 20));
    const series = [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 700)),
      ...but(well("db"), metric("db", "latency_p99", 50, 500), leak),
    ];
    assert.deepEqual(first(find("web>db", series)), ["db", "memory"]);
    const open = findRootCause({ edges: calls("web>db"), series, incident: { start: START, end: Infinity }, target: "web" });
    assert.deepEqual(open, find("web>db", series));
  });
  test("is not demand that came with a fault", () => {
    const risen = (name: string, latency: number): MetricSeries[] =>
      but(well(name, latency), metric(name, "requests", 1000, 1500), metric(name, "cpu", 30, 45));
    const result = find("web>cart cart>db web>ads", [
      ...but(risen("web", 200), metric("web", "latency_p99", 200, 900)),
      ...but(risen("cart", 100), metric("cart", "latency_p99", 100, 800)),
      ...but(risen("db", 20), metric("db", "latency_p99", 20, 700)),
      ...risen("ads", 50),
    ]);
    assert.deepEqual(first(result), ["db", "latency_p99"]);
  });
  test("is found though latencies are in other units", () => {
    const result = find("web>cart cart>db", [
      ...but(well("web", 200), metric("web", "latency_p99", 200, 900, 0, "ms")),
      ...but(well("cart", 100), metric("cart", "latency_p99", 0.1, 0.8, 0, "s")),
      ...but(well("db", 20), metric("db", "latency_p99", 20_000, 30_000, 0, "us")),
    ]);
    assert.equal(first(result)[0], "cart");
  });
});

describe("no cause", () => {
  test("where nothing changed", () => {
    const result = find("web>cart", [...well("web"), ...well("cart")]);
    assert.deepEqual([result.verdict, result.causes], ["none", []]);
    assert.match(result.reason, /web shows no symptom/);
    assert.deepEqual(
      result.lookedAt.map(({ service, state }) => [service, state]),
      [
        ["web", "well"],
        ["cart", "well"],
      ],
    );
  });
  test("where demand rose, and all with it", () => {
    const risen = (name: string): MetricSeries[] =>
      but(well(name), metric(name, "requests", 1000, 2500), metric(name, "cpu", 30, 75), metric(name, "latency_p99", 50, 65));
    const result = find("web>cart cart>db", ["web", "cart", "db"].flatMap(risen));
    assert.equal(result.verdict, "none");
    assert.match(result.reason, /demand rose to 2\.5 times its usual, which is no fault/);
  });
  test("where only a resource changed", () => {
    assert.equal(find("web>cart", [...well("web"), ...but(well("cart"), metric("cart", "memory", 400, 1200))]).verdict, "none");
  });
  test("of a target that is well, where something below it is clearly not, is not said", () => {
    const result = find("web>cart", [...well("web"), ...but(well("cart"), metric("cart", "error_rate", 0, 0.4))]);
    assert.deepEqual([result.verdict, ...first(result)], ["cause", "cart", "error_rate"]);
    assert.match(result.reason, /web itself shows no symptom, but cart below it does/);
  });
});

describe("too little to say", () => {
  test("without any metrics", () => {
    const result = find("web>cart", []);
    assert.equal(result.verdict, "inconclusive");
    assert.deepEqual(
      result.notLookedAt.map(({ service }) => service),
      ["cart", "web"],
    );
    assert.deepEqual(result.lookedAt, []);
  });
  test("where the target has no symptom metrics and nothing below is ill", () => {
    assert.equal(find("web>cart", [metric("web", "cpu", 30), ...well("cart")]).verdict, "inconclusive");
    assert.equal(find("web>cart", well("cart")).verdict, "inconclusive");
  });
  test("with a baseline that is too short, or nothing during the incident", () => {
    const cut =
      (from: number, to: number) =>
      (one: MetricSeries): MetricSeries => ({ ...one, times: one.times.slice(from, to), values: one.values.slice(from, to) });
    const result = find("web>cart", [...well("web"), ...well("cart")].map(cut(BASELINE - 3, 400)));
    assert.equal(result.verdict, "inconclusive");
    assert.match(result.notLookedAt[0]?.why ?? "", /baseline of 3 readings/);
    assert.equal(find("web>cart", [...well("web"), ...well("cart")].map(cut(0, BASELINE))).verdict, "inconclusive");
  });
  test("a callee whose metrics ceased is not blamed, and said to have ceased", () => {
    const ceased = well("cart").map((one) => ({ ...one, times: one.times.slice(0, BASELINE), values: one.values.slice(0, BASELINE) }));
    const result = find("web>cart", [...but(well("web"), metric("web", "error_rate", 0, 0.4)), ...ceased]);
    assert.deepEqual(first(result), ["web", "error_rate"]);
    assert.match(text(result), /nothing is known of cart \(its metrics ceased\) below it: not looked at, and not excluded/);
  });
  test("a target that has resources only is named for one that is far off", () => {
    assert.deepEqual(first(find("web>cart", [metric("web", "cpu", 30, 95), ...well("cart")])), ["web", "cpu"]);
  });
  test("but an ill callee of a target without metrics is named", () => {
    const result = find("web>cart", but(well("cart"), metric("cart", "latency_p99", 50, 500)));
    assert.deepEqual([result.verdict, ...first(result)], ["cause", "cart", "latency_p99"]);
  });
});

describe("the graph and the metrics", () => {
  test("a target that is in the metrics only is judged by itself", () => {
    const result = find("a>b", [
      ...but(well("web"), metric("web", "latency_p99", 50, 500)),
      ...but(well("b"), metric("b", "latency_p99", 50, 900)),
    ]);
    assert.deepEqual(first(result), ["web", "latency_p99"]);
    assert.match(text(result), /it is not in the graph/);
    assert.deepEqual(result.notLookedAt, [{ service: "b", why: "not downstream of web in the graph" }]);
  });
  test("a target that neither knows is refused, with what was meant", () => {
    assert.throws(() => find("web>cart", well("web"), "wbe"), { code: "UNKNOWN_SERVICE", where: "--target", fix: /"web"/ });
  });
  test("what is not downstream is no cause", () => {
    const result = find("web>cart other>cart", [
      ...but(well("web"), metric("web", "latency_p99", 50, 300)),
      ...well("cart"),
      ...but(well("other"), metric("other", "cpu", 30, 99), metric("other", "latency_p99", 50, 3000)),
    ]);
    assert.deepEqual(
      result.causes.map(({ service }) => service),
      ["web"],
    );
  });
  test("edges to itself and twice do not matter", () => {
    const series = [
      ...but(well("web"), metric("web", "latency_p99", 50, 300)),
      ...but(well("cart"), metric("cart", "latency_p99", 50, 300)),
    ];
    assert.deepEqual(find("web>cart web>cart cart>cart", series), find("web>cart", series));
  });
});

test("the order of edges, series and readings does not matter, scores never rise, and all are in (0, 1]", () => {
  const edges = calls("web>a web>b a>c b>c c>d d>a b>e");
  const series = [
    ...but(well("web", 200), metric("web", "latency_p99", 200, 900)),
    ...but(well("a", 100), metric("a", "latency_p99", 100, 500)),
    ...but(well("b", 100), metric("b", "error_rate", 0, 0.1)),
    ...but(well("c", 40), metric("c", "latency_p99", 40, 460), metric("c", "cpu", 30, 90)),
    ...but(well("d", 40), metric("d", "memory", 400, 900)),
    ...well("e"),
  ];
  const expected = JSON.stringify(findRootCause({ edges, series, incident, target: "web" }));
  const result = JSON.parse(expected) as RootCauseResult;
  assert.deepEqual(first(result), ["c", "cpu"]);
  result.causes.forEach(({ score }, i) => assert.ok(score > 0 && score <= 1 && score <= (result.causes[i - 1]?.score ?? 1)));
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const random = seeded(seed);
      const shuffled = <T>(all: readonly T[]): T[] =>
        all
          .map((one) => ({ one, at: random() }))
          .sort((a, b) => a.at - b.at)
          .map(({ one }) => one);
      const mixed = shuffled(series).map((one) => {
        const order = shuffled([...one.times.keys()]);
        return {
          ...one,
          times: Float64Array.from(order, (i) => one.times[i] as number),
          values: Float64Array.from(order, (i) => one.values[i] as number),
        };
      });
      assert.equal(JSON.stringify(findRootCause({ edges: shuffled(edges), series: mixed, incident, target: "web" })), expected);
    }),
    { numRuns: 20 },
  );
});

test("nothing throws, and no score is out of range, whatever the readings are", () => {
  const number = fc.oneof(fc.double(), fc.constantFrom(0, 1, -1, NaN, Infinity, -Infinity, 1e300));
  const name = fc.constantFrom("web", "a", "b", "c");
  const one = fc
    .tuple(
      name,
      fc.constantFrom("latency_p99", "error_rate", "availability", "requests", "cpu", "x_total", "zorbs"),
      fc.array(fc.tuple(fc.integer({ min: -50, max: 50 }), number), { maxLength: 60 }),
    )
    .map(([service, metricName, points]): MetricSeries => ({
      service,
      metric: metricName,
      times: Float64Array.from(points, ([t]) => START + t * STEP),
      values: Float64Array.from(points, ([, v]) => v),
    }));
  fc.assert(
    fc.property(fc.array(one, { maxLength: 12 }), fc.array(fc.record({ from: name, to: name }), { maxLength: 8 }), (series, edges) => {
      const result = findRootCause({ edges: [...edges, { from: "web", to: "a" }], series, incident, target: "web" });
      assert.equal(result.causes.length > 0, result.verdict === "cause");
      for (const { score, evidence } of result.causes) assert.ok(score > 0 && score <= 1 && evidence.length > 0);
      assert.doesNotMatch(JSON.stringify(result), /NaN|undefined/);
    }),
    { numRuns: 300 },
  );
});
