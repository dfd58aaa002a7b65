import assert from "node:assert/strict";
import { parseGraph, parseMetrics } from "../../../src/cli/root-cause-input.ts";
import { NightshiftError } from "../../../src/api/errors.ts";
import { findRootCause } from "../../../src/orient/root-cause.ts";
import type { MetricSeries } from "../../../src/orient/root-cause-series.ts";
import { fuzzedJson } from "../json.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const WORDS = ["null", "NaN", "Infinity", "1e22", "123456789012345678901234567890", '"@points"', '"points"', "latency_p99", "error_rate"];

const graphSeeds = seedsOf("root-cause-graph");
export const rootCauseGraph: FuzzTarget = {
  name: "root-cause-graph",
  seeds: graphSeeds,
  inputs: fuzzedJson(graphSeeds, WORDS),
  check: (input) =>
    decoded(
      new Set(["NOT_JSON", "INVALID_GRAPH"]),
      () => parseGraph(Buffer.from(input), "graph.json"),
      (edges) => {
        for (const { from, to } of edges) assert.ok(typeof from === "string" && typeof to === "string" && from !== "" && to !== "");
      },
    ),
};

const metricsSeeds = seedsOf("root-cause-metrics");
const GRAPH = parseGraph(Buffer.from(graphSeeds[0] ?? assert.fail()), "graph.json");

/** As `JSON.parse` alone reads it: the mark in it keeps the scanner for points away. */
function parsedSlowly(input: Uint8Array): ReturnType<typeof parseMetrics> {
  const text = Buffer.from(input)
    .toString()
    .replace(/^\ufeff/, "");
  const open = text.indexOf("{") + 1;
  return parseMetrics(Buffer.from(`${text.slice(0, open)}"@points":0,${text.slice(open)}`), "metrics.json");
}

/** The scanner is exact to some 15 digits. */
function assertSame(a: Float64Array, b: Float64Array): void {
  assert.equal(a.length, b.length);
  a.forEach((value, i) => {
    const other = b[i] ?? NaN;
    assert.ok(Object.is(value, other) || value === other || Math.abs(value - other) <= 1e-14 * Math.abs(other), `${value} and ${other}`);
  });
}

function search(series: MetricSeries[], incident: { start: number; end: number }): void {
  const target = series[0]?.service ?? "frontend";
  let result: ReturnType<typeof findRootCause>;
  try {
    result = findRootCause({ edges: GRAPH, series, incident, target });
  } catch (error) {
    assert.ok(error instanceof NightshiftError && error.code === "UNKNOWN_SERVICE", String(error));
    return;
  }
  assert.ok(["cause", "none", "inconclusive"].includes(result.verdict));
  assert.equal(result.causes.length > 0, result.verdict === "cause");
  for (const { score, service } of result.causes) assert.ok(Number.isFinite(score) && service !== "", `score ${score}`);
  // It is printed as JSON: what is none there would be null.
  assert.ok(!/:null/.test(JSON.stringify(result.causes)), JSON.stringify(result.causes));
}

export const rootCauseMetrics: FuzzTarget = {
  name: "root-cause-metrics",
  seeds: metricsSeeds,
  inputs: fuzzedJson(metricsSeeds, WORDS),
  check: (input) =>
    decoded(
      new Set(["NOT_JSON", "INVALID_METRICS"]),
      () => parseMetrics(Buffer.from(input), "metrics.json"),
      ({ series, incident }) => {
        assert.ok(Number.isFinite(incident.start) && incident.end >= incident.start);
        for (const { times, values } of series) assert.equal(times.length, values.length);
        const slowly = parsedSlowly(input);
        slowly.series.forEach((other, i) => {
          const { times, values } = series[i] ?? assert.fail();
          assertSame(times, other.times);
          assertSame(values, other.values);
        });
        search(series, incident);
      },
    ),
};
