import { analyseTrend } from "../src/orient/trend.ts";
import { SHAPES, seriesOf } from "../src/orient/shapes.ts";
import type { Point } from "../src/orient/statistics.ts";
import type { BenchResult } from "./result.ts";

const COUNT = 10_000;
const STEP = 15;
const SPAN = 3600;

/** Slope of a straight line by least squares: the least that looking at every point costs. */
function leastSquaresSlope(points: readonly Point[]): number {
  const first = points[0]?.t ?? 0;
  let n = 0;
  let t = 0;
  let v = 0;
  let tt = 0;
  let tv = 0;
  for (const p of points) {
    const x = p.t - first;
    n++;
    t += x;
    v += p.v;
    tt += x * x;
    tv += x * p.v;
  }
  return (n * tv - t * v) / (n * tt - t * t);
}

/** Series a second of `work`, on one core. */
function perSecond<T>(inputs: readonly T[], work: (input: T) => unknown): number {
  // Warm: the first calls are the compiler's.
  let kept: unknown;
  for (const input of inputs.slice(0, 500)) kept = work(input);
  const begin = performance.now();
  for (const input of inputs) kept = work(input);
  const took = performance.now() - begin;
  if (kept === undefined) throw new Error("the work has no result");
  return inputs.length / (took / 1000);
}

/** Leak detection over 10,000 series of one hour at 15 s, leaks and others mixed. */
export async function run(): Promise<BenchResult> {
  const shapes = SHAPES.filter((shape) => shape.span === SPAN && shape.step === STEP);
  const series: Point[][] = [];
  for (let i = 0; i < COUNT; i++) {
    const shape = shapes[i % shapes.length];
    if (shape !== undefined) series.push(seriesOf(shape, i));
  }
  const texts = series.map((points) => JSON.stringify(points));
  const limit = 512 * 2 ** 20;
  const parse = perSecond(texts, (text) => JSON.parse(text) as unknown);
  const line = perSecond(series, leastSquaresSlope);
  let leaking = 0;
  const trend = perSecond(series, (points) => {
    const result = analyseTrend(points, { limit });
    if (result.leaking) leaking++;
    return result;
  });
  const per = series.slice(0, 2000).map((points) => {
    const begin = performance.now();
    analyseTrend(points, { limit });
    return performance.now() - begin;
  });
  per.sort((a, b) => a - b);
  return {
    name: "trend",
    method:
      `analyseTrend over ${COUNT} synthetic series of ${SPAN / STEP + 1} points (one hour at ${STEP} s; ${shapes.length} shapes, seeded, leaks and others), ` +
      "one after the other on one core, 500 series of warm-up. Bounds in the same run: JSON.parse of the same series, and a least-squares line through the same points.",
    rows: [
      { label: "trend detection", value: trend, unit: "series/s", ratio: trend / parse },
      { label: "trend detection, p50 of one series", value: per[Math.floor(per.length / 2)] ?? 0, unit: "ms" },
      { label: "trend detection, p99 of one series", value: per[Math.floor(per.length * 0.99)] ?? 0, unit: "ms" },
      { label: "bound: JSON.parse of the same series", value: parse, unit: "series/s", ratio: 1 },
      { label: "bound: least-squares line", value: line, unit: "series/s", ratio: line / parse },
      { label: "called leaks, with the warm-up", value: leaking, unit: "series" },
    ],
  };
}
