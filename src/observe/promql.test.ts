import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { decodePromql, decodePromqlRefusal, stepsOf } from "./promql.ts";

const STEPS = [1_000_000, 1_015_000, 1_030_000];
const bytes = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const matrix = (values: [number, string][], more: object = {}): Uint8Array =>
  bytes({ status: "success", data: { resultType: "matrix", result: [{ metric: { pod: "a" }, values }] }, ...more });

describe("decodePromql", () => {
  it("reads a vector and a matrix, each value at the step that was asked for", () => {
    const vector = bytes({ status: "success", data: { resultType: "vector", result: [{ metric: { pod: "a" }, value: [1000, "1.5"] }] } });
    assert.deepEqual(decodePromql(vector, [1_000_000]), {
      steps: [1_000_000],
      rows: [{ labels: { pod: "a" }, samples: [{ t: 1_000_000, v: 1.5 }] }],
    });
    const answer = decodePromql(
      matrix([
        [1000, "1"],
        [1015, "2e3"],
        [1030, "-3"],
      ]),
      STEPS,
    );
    assert.ok("rows" in answer);
    assert.deepEqual(
      answer.rows[0]?.samples.map(({ v }) => v),
      [1, 2000, -3],
    );
  });

  it("NaN, the infinities and what a stale marker has ended are no values", () => {
    const answer = decodePromql(
      matrix([
        [1000, "NaN"],
        [1015, "+Inf"],
        [1030, "-Inf"],
      ]),
      STEPS,
    );
    assert.deepEqual("rows" in answer && answer.rows[0]?.samples, []);
    const ended = decodePromql(matrix([[1000, "1"]]), STEPS);
    assert.deepEqual("rows" in ended && ended.rows[0]?.samples, [{ t: 1_000_000, v: 1 }]);
  });

  it("reads a range that was moved to multiples of its step, as Thanos' query frontend does by default", () => {
    const asked = [1_007_123, 1_022_123, 1_037_123];
    const values: [number, string][] = [
      [1005, "1"],
      [1020, "2"],
      [1035, "3"],
    ];
    const answer = decodePromql(matrix(values), asked);
    assert.ok("rows" in answer);
    assert.deepEqual(answer.steps, [1_005_000, 1_020_000, 1_035_000]);
    assert.deepEqual(answer.rows[0]?.samples.at(-1), { t: 1_035_000, v: 3 });
    // Moved anywhere else, it is no answer to what was asked.
    const other = decodePromql(matrix([[1006, "1"]]), asked);
    assert.deepEqual(other, { steps: asked, rows: [{ labels: { pod: "a" }, samples: [] }] });
  });

  it("no rows are no rows", () => {
    const none = decodePromql(bytes({ status: "success", data: { resultType: "vector", result: [] } }), [1_000_000]);
    assert.deepEqual(none, { steps: [1_000_000], rows: [] });
  });

  it("an answer with warnings is partial, and none; infos are none of these", () => {
    const partial = decodePromql(matrix([[1000, "1"]], { warnings: ["store-2: no such host"] }), STEPS);
    assert.deepEqual(partial, { problem: "the answer is partial: store-2: no such host" });
    assert.ok("rows" in decodePromql(matrix([[1000, "1"]], { warnings: [], infos: ["metric might not be a counter"] }), STEPS));
  });

  it("a scalar, a text and too many rows are a problem of the query", () => {
    for (const resultType of ["scalar", "string"])
      assert.match(
        JSON.stringify(decodePromql(bytes({ status: "success", data: { resultType, result: [1000, "1"] } }), [1_000_000])),
        /vector/,
      );
    const result = Array.from({ length: 10_001 }, () => ({ metric: {}, value: [1000, "1"] }));
    assert.match(
      JSON.stringify(decodePromql(bytes({ status: "success", data: { resultType: "vector", result } }), [0])),
      /narrow the query/,
    );
  });

  it("native histograms are a problem of the query, which is named", () => {
    // As Prometheus 3 answers to a selector of a native histogram.
    const histogram = { count: "2", sum: "0.3", buckets: [[0, "0.09", "0.105", "1"]] };
    for (const data of [
      { resultType: "vector", result: [{ metric: { pod: "a" }, histogram: [1000, histogram] }] },
      { resultType: "matrix", result: [{ metric: { pod: "a" }, histograms: [[1000, histogram]] }] },
      { resultType: "matrix", result: [{ metric: { pod: "a" }, values: [[1000, "1"]], histograms: [[1015, histogram]] }] },
    ]) {
      const answer = decodePromql(bytes({ status: "success", data }), STEPS);
      assert.match("problem" in answer ? answer.problem : "", /native histograms.*histogram_quantile/);
    }
    const none = { resultType: "matrix", result: [{ metric: {}, values: [[1000, "1"]], histograms: [] }] };
    assert.ok("rows" in decodePromql(bytes({ status: "success", data: none }), STEPS));
  });

  it("refuses values that are not by time: one that comes twice would fill a gap", () => {
    for (const values of [
      [
        [1000, "1"],
        [1000, "1"],
        [1030, "1"],
      ],
      [
        [1015, "1"],
        [1000, "1"],
      ],
    ] as [number, string][][])
      assert.throws(() => decodePromql(matrix(values), STEPS), { code: "MALFORMED_ANSWER" });
  });

  it("refuses what is no answer of a Prometheus", () => {
    for (const value of [
      {},
      [],
      { status: "success" },
      { status: "success", data: { resultType: "vector", result: [{ value: 1 }] } },
      { status: "success", data: { resultType: "matrix", result: [{ metric: {} }] } },
    ])
      assert.throws(() => decodePromql(bytes(value), [0]), /as Prometheus does/);
    assert.throws(() => decodePromql(Buffer.from("<html>"), [0]), /no JSON/);
    assert.throws(() => decodePromql(Buffer.from("[".repeat(100_000)), [0]), /nested/);
  });

  it("finds in a refusal why", () => {
    assert.equal(decodePromqlRefusal('{"status":"error","errorType":"bad_data","error":"parse error"}'), "parse error");
    assert.equal(decodePromqlRefusal("<html>502</html>"), undefined);
    assert.equal(decodePromqlRefusal('{"status":"error"}'), undefined);
  });
});

describe("stepsOf", () => {
  it("is one instant, or a range with at least four steps and at most sixty", () => {
    assert.deepEqual(stepsOf(0, 5), [5]);
    assert.deepEqual(stepsOf(60_000, 100_000), [40_000, 55_000, 70_000, 85_000, 100_000]);
    assert.deepEqual(stepsOf(8_000, 10_000), [2_000, 4_000, 6_000, 8_000, 10_000]);
    assert.deepEqual(stepsOf(1_000, 1_000), [0, 1_000]);
    const day = stepsOf(86_400_000, 86_400_000);
    assert.deepEqual([day.length, day[0], day.at(-1)], [61, 0, 86_400_000]);
  });

  it("covers the whole range, from one to the next whole seconds, whatever its length", () => {
    for (let seconds = 0.5; seconds < 5_000; seconds += 0.5) {
      const steps = stepsOf(seconds * 1_000, 10_000_000);
      const step = steps[1]! - steps[0]!;
      assert.ok(steps[0]! <= 10_000_000 - seconds * 1_000, `${seconds} s: only ${10_000_000 - steps[0]!} ms of it`);
      assert.ok(step % 1_000 === 0 && steps.length <= 61, `${seconds} s: a step of ${step} ms, ${steps.length} of them`);
      // As Prometheus counts them off.
      assert.deepEqual(
        steps,
        steps.map((_, index) => steps[0]! + index * step),
      );
      assert.equal(steps.at(-1), 10_000_000);
    }
  });
});
