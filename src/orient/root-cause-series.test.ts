import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { prepare, type MetricSeries } from "./root-cause-series.ts";

const incident = { start: 600_000, end: 900_000 };
const series = (metric: string, values: readonly number[], more: Partial<MetricSeries> = {}): MetricSeries => ({
  service: "a",
  metric,
  times: Float64Array.from(values, (_, i) => i * 10_000),
  values: Float64Array.from(values),
  ...more,
});
const only = (...all: MetricSeries[]): ReturnType<typeof prepare>[number] =>
  prepare(all, incident)[0] as ReturnType<typeof prepare>[number];
const values = (one: ReturnType<typeof prepare>[number]): number[] => [...one.readings.values].map((v) => Number(v.toFixed(6)));
const many = (n: number, f: (i: number) => number): number[] => Array.from({ length: n }, (_, i) => f(i));

describe("series on a scale", () => {
  test("missing values and order do not matter", () => {
    const one = only(series("cpu", [3, NaN, 1, 2], { times: Float64Array.from([30, 5, 10, 20]) }));
    assert.deepEqual(
      [[...one.readings.times], values(one)],
      [
        [10, 20, 30],
        [1, 2, 3],
      ],
    );
  });
  test("latencies are milliseconds where their unit is known", () => {
    assert.deepEqual(values(only(series("latency", [0.1, 0.2], { unit: "s" }))), [100, 200]);
    assert.equal(only(series("latency", [0.1, 0.2], { unit: "s" })).scale, "ms");
    assert.deepEqual(values(only(series("latency", [0.1, 0.2]))), [0.1, 0.2]);
    assert.equal(only(series("latency", [0.1, 0.2])).scale, "raw");
  });
  test("availability of 1 and of 100 is the same share of errors", () => {
    assert.deepEqual(values(only(series("availability", [1, 0.9]))), [0, 0.1]);
    assert.deepEqual(values(only(series("availability", [100, 90]))), [0, 0.1]);
    assert.deepEqual(values(only(series("availability", [100, 90], { unit: "%" }))), [0, 0.1]);
    assert.deepEqual(values(only(series("error_rate", [0, 10], { unit: "percent" }))), [0, 0.1]);
    assert.deepEqual(values(only(series("error_rate", [0, 0.1]))), [0, 0.1]);
  });
  test("an uptime in seconds is no availability", () => {
    const one = only(series("uptime", [86_400, 86_410]));
    assert.deepEqual([one.meaning.role, one.meaning.complement, values(one)], ["other", false, [86_400, 86_410]]);
  });
  test("errors that are counted are a share of the requests in the same window", () => {
    const errors = series(
      "errors",
      many(90, (i) => (i < 60 ? 2 : 40)),
    );
    const requests = series(
      "requests",
      many(90, (i) => (i < 60 ? 100 : 200)),
    );
    const one = only(errors, requests);
    assert.equal(one.scale, "share");
    assert.deepEqual([values(one)[0], values(one)[80]], [0.02, 0.2]);
    assert.equal(only(errors).scale, "raw");
  });
  test("a counter becomes a rate a second, resets and all", () => {
    const counter = only(series("cpu_seconds_total", [10, 20, 30, 5, 15]));
    assert.deepEqual(values(counter), [1, 1, 0.5, 1]);
    const unnamed = only(
      series(
        "requests",
        many(40, (i) => 1000 + 7 * i),
      ),
    );
    assert.ok(values(unnamed).every((v) => v === 0.7));
  });
  test("memory that grows is no counter, nor is a gauge that falls a little", () => {
    assert.equal(
      values(
        only(
          series(
            "memory",
            many(40, (i) => 1000 + 7 * i),
          ),
        ),
      )[3],
      1021,
    );
    assert.equal(
      values(
        only(
          series(
            "requests",
            many(40, (i) => 1000 + 7 * i - (i === 20 ? 100 : 0)),
          ),
        ),
      )[3],
      1021,
    );
  });
  test("one series in pieces is joined, several of the same name at the same time are not", () => {
    const late = { times: Float64Array.from([100_000, 110_000]) };
    assert.equal(prepare([series("cpu", [3, 4], late), series("cpu", [1, 2])], incident).length, 1);
    assert.deepEqual(values(only(series("cpu", [3, 4], late), series("cpu", [1, 2]))), [1, 2, 3, 4]);
    assert.equal(prepare([series("cpu", [1, 2]), series("cpu", [3, 4])], incident).length, 2);
  });
  test("where few requests are made, one error is no news", () => {
    const availability = series(
      "availability",
      many(90, () => 100),
    );
    assert.equal(
      only(
        availability,
        series(
          "requests",
          many(90, () => 1000),
        ),
      ).floor,
      0.002,
    );
    assert.ok(
      only(
        availability,
        series(
          "requests",
          many(90, () => 3),
        ),
      ).floor > 0.03,
    );
  });
});
