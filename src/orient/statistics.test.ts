import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { normal, seeded } from "./shapes.ts";
import { leastSquares, median, monotoneTrend, noiseOf, normalCdf, quantileOfSorted } from "./statistics.ts";

const series = (values: readonly number[]) => values.map((v, t) => ({ t, v }));

test("median and quantiles", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.equal(quantileOfSorted([0, 10], 0.1), 1);
});

test("the normal distribution agrees with its table", () => {
  for (const [z, p] of [
    [0, 0.5],
    [1, 0.841345],
    [1.644854, 0.95],
    [-1.959964, 0.025],
    [3, 0.99865],
  ] as const)
    assert.ok(Math.abs(normalCdf(z) - p) < 1e-5, `${z}`);
});

test("Mann-Kendall by hand: S, ties and continuity", () => {
  // 1 2 3 4 5: S = 10, Var = 5*4*15/18 = 16.67, z = 9 / 4.082
  assert.ok(Math.abs(monotoneTrend(series([1, 2, 3, 4, 5])).z - 9 / Math.sqrt(300 / 18)) < 1e-9);
  // 1 1 2 2: S = 4; Var = (4*3*13 - 2 * 2*1*9) / 18 = 120/18
  assert.ok(Math.abs(monotoneTrend(series([1, 1, 2, 2])).z - 3 / Math.sqrt(120 / 18)) < 1e-9);
  assert.equal(monotoneTrend(series([7, 7, 7, 7])).z, 0);
});

test("Theil-Sen's slope is exact on a line and bears a quarter of wild values, where least squares does not", () => {
  const values = Array.from({ length: 40 }, (_, i) => 5 + 3 * i);
  assert.ok(Math.abs(monotoneTrend(series(values)).slope - 3) < 1e-9);
  const wild = values.map((v, i) => (i % 4 === 0 ? v + 10_000 : v));
  assert.ok(Math.abs(monotoneTrend(series(wild)).slope - 3) < 0.2);
  const square = leastSquares([wild.map(() => 1), wild.map((_, i) => i)], wild);
  assert.ok(Math.abs((square?.coefficients[1] ?? 3) - 3) > 1);
});

test("autocorrelation widens the test: of stationary AR(1) far fewer pass than of the uncorrected test", () => {
  let corrected = 0;
  let plain = 0;
  for (let seed = 0; seed < 300; seed++) {
    const random = seeded(seed);
    let state = normal(random);
    const values = Array.from({ length: 48 }, () => (state = 0.7 * state + normal(random)));
    if (monotoneTrend(series(values)).z > 1.645) corrected++;
    let s = 0;
    values.forEach((a, i) => values.slice(i + 1).forEach((b) => (s += Math.sign(b - a))));
    if ((s - 1) / Math.sqrt((48 * 47 * 101) / 18) > 1.645) plain++;
  }
  assert.ok(plain > 45, `${plain} of 300 pass the uncorrected test`);
  assert.ok(corrected < 0.8 * plain, `${corrected} of 300 pass the corrected one, ${plain} the other`);
});

test("noise is seen under a trend, and under a trend only", () => {
  const random = seeded(1);
  const noisy = Array.from({ length: 2000 }, (_, i) => 50 * i + 4 * normal(random));
  assert.ok(Math.abs(noiseOf(noisy) - 4) < 0.5);
  assert.ok(Math.abs(noiseOf(noisy, 0.25) - 4) < 0.7);
  assert.ok(noiseOf(Array.from({ length: 100 }, (_, i) => 50 * i)) < 1e-9);
});

test("least squares finds the coefficients of what it is given", () => {
  fc.assert(
    fc.property(
      fc.tuple(fc.integer({ min: -50, max: 50 }), fc.integer({ min: -50, max: 50 }), fc.integer({ min: -50, max: 50 })),
      ([a, b, c]) => {
        const x = Array.from({ length: 20 }, (_, i) => i / 19);
        const fit = leastSquares(
          [x.map(() => 1), x, x.map((v) => v * v)],
          x.map((v) => a + b * v + c * v * v),
        );
        assert.ok(fit !== undefined);
        [a, b, c].forEach((value, i) => assert.ok(Math.abs((fit.coefficients[i] ?? NaN) - value) < 1e-6));
      },
    ),
  );
  assert.equal(
    leastSquares(
      [
        [1, 1, 1],
        [2, 2, 2],
      ],
      [1, 2, 3],
    ),
    undefined,
    "columns that depend on each other",
  );
});
