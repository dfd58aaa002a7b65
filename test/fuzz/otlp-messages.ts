import * as fc from "fast-check";
import type { Json } from "./json.ts";

/** Now (ms), as the targets' clocks have it. */
export const NOW = 1_800_000_000_000;

const anyValue = (value: string | number): Json => (typeof value === "string" ? { stringValue: value } : { intValue: String(value) });

/** Attributes as OTLP/JSON has them. */
export const attributes = (of: Readonly<Record<string, string | number | undefined>>): Json =>
  Object.entries(of).flatMap(([key, value]) => (value === undefined ? [] : [{ key, value: anyValue(value) }]));

/** A time of the last hour or about it, by ten seconds: few, so that they are the same often. In ns, as OTLP/JSON has it. */
export const time: fc.Arbitrary<string> = fc
  .oneof(
    { weight: 8, arbitrary: fc.integer({ min: -30, max: 0 }) },
    // The future that clocks may differ by and the one that they may not, and what is too old.
    { weight: 1, arbitrary: fc.constantFrom(3, 7, -360, -361) },
  )
  .map((steps) => `${NOW + steps * 10_000}000000`);

/** The values of a counter: some that grow, a reset, and numbers that are no count. */
export const count: fc.Arbitrary<number | string> = fc.oneof(
  { weight: 8, arbitrary: fc.nat(5) },
  { weight: 1, arbitrary: fc.constantFrom("NaN", "Infinity", "-Infinity", -1, 1e300, 0.5) },
);

/** A metrics request: of each sender some sums and histograms, each with points in the order made. */
export function metricsRequest(
  resource: fc.Arbitrary<Json>,
  name: fc.Arbitrary<string>,
  labels: fc.Arbitrary<Json>,
  exemplars: fc.Arbitrary<Json> = fc.constant([]),
): fc.Arbitrary<Json> {
  const point = fc.record({ attributes: labels, startTimeUnixNano: time, timeUnixNano: time, asDouble: count, exemplars });
  const bucket = fc.nat(4);
  const timed = fc
    .record({ attributes: labels, startTimeUnixNano: time, timeUnixNano: time, low: bucket, high: bucket })
    .map(({ low, high, ...rest }) => ({
      ...rest,
      count: String(low + high),
      sum: low * 0.05 + high,
      bucketCounts: [low, high],
      explicitBounds: [0.1],
    }));
  const temporality = fc.integer({ min: 0, max: 2 });
  const metric: fc.Arbitrary<Json> = fc.oneof(
    {
      weight: 3,
      arbitrary: fc
        .record({ name, points: fc.array(point, { maxLength: 6 }), temporality, isMonotonic: fc.constantFrom(true, true, true, false) })
        .map(({ points, temporality: aggregationTemporality, isMonotonic, ...rest }) => ({
          ...rest,
          sum: { aggregationTemporality, isMonotonic, dataPoints: points },
        })),
    },
    {
      weight: 1,
      arbitrary: fc
        .record({ name, points: fc.array(timed, { maxLength: 4 }), temporality, unit: fc.constantFrom("s", "ms", "") })
        .map(({ points, temporality: aggregationTemporality, ...rest }) => ({
          ...rest,
          histogram: { aggregationTemporality, dataPoints: points },
        })),
    },
  );
  const sender = fc
    .record({ resource, metrics: fc.array(metric, { maxLength: 4 }) })
    .map(({ resource: of, metrics }) => ({ resource: of, scopeMetrics: [{ metrics }] }));
  return fc.array(sender, { maxLength: 3 }).map((resourceMetrics): Json => ({ resourceMetrics }));
}

/** Every text in a message of JSON, keys too. */
export function textsIn(input: Uint8Array): Set<string> {
  const texts = new Set<string>();
  const walk = (value: unknown): void => {
    if (typeof value === "string") texts.add(value);
    else if (typeof value === "object" && value !== null)
      for (const [key, each] of Object.entries(value)) {
        texts.add(key);
        walk(each);
      }
  };
  // Without the mark that a text may begin with.
  walk(JSON.parse(new TextDecoder().decode(input)));
  return texts;
}
