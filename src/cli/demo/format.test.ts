import assert from "node:assert/strict";
import { test } from "node:test";
import { fit, resample, span, sparkline, wantsColor, widthOf, wrap } from "./format.ts";
import { statsOf } from "./load.ts";

test("a sparkline has one bar a value, from the lowest to the highest", () => {
  assert.equal(sparkline([0, 50, 100], 10, 0, 100), "▁▅█");
  assert.equal(sparkline([1, 2, 3, 4], 2, 1, 4), "▆█", "the newest values");
  assert.equal(sparkline([5, 5], 2, 5, 5), "▁▁", "no range");
});

test("resampling keeps the last value of each span, and repeats it where there is none", () => {
  const samples = [
    { t: 0, v: 1 },
    { t: 5, v: 2 },
    { t: 31, v: 3 },
  ];
  assert.deepEqual(resample(samples, 4, 0, 40), [2, 2, 2, 3]);
  assert.deepEqual(resample([], 4, 0, 40), []);
});

test("text is cut and filled to a width that escapes do not count in", () => {
  assert.equal(fit("payments", 5), "paym…");
  assert.equal(fit("pay", 5), "pay  ");
  assert.equal(widthOf("\u001B[31mred\u001B[39m"), 3);
  assert.deepEqual(wrap("one two three", 7), ["one two", "three"]);
});

test("lengths of time are for people", () => {
  assert.deepEqual([850, 2_400, 47_000, 200_000].map(span), ["850 ms", "2.4 s", "47 s", "3 min 20 s"]);
});

test("NO_COLOR, a dumb terminal and a pipe take no colour", () => {
  const tty = { isTTY: true } as NodeJS.WriteStream;
  assert.equal(wantsColor(tty, { TERM: "xterm" }), true);
  assert.equal(wantsColor(tty, { TERM: "xterm", NO_COLOR: "1" }), false);
  assert.equal(wantsColor(tty, { TERM: "dumb" }), false);
  assert.equal(wantsColor({ isTTY: false } as NodeJS.WriteStream, { TERM: "xterm" }), false);
});

test("traffic is counted in its span: server errors and requests without an answer are errors, redirects and refusals are none", () => {
  const samples = [
    [999, 1, 200],
    [1_000, 10, 200],
    [1_001, 20, 404],
    [1_002, 30, 502],
    [1_003, 3_000, 0],
    [2_000, 1, 200],
  ] as const;
  assert.deepEqual(statsOf(samples, 1_000, 2_000), { requests: 4, errors: 2, p99Ms: 3_000 });
  assert.deepEqual(statsOf(samples, 5_000, 6_000), { requests: 0, errors: 0, p99Ms: undefined });
});

test("p99 is the nearest rank: of a hundred requests the second slowest is above it", () => {
  const samples = Array.from({ length: 100 }, (_, i) => [1_000, i + 1, 200] as const);
  assert.equal(statsOf(samples, 0, 2_000).p99Ms, 99);
});
