/**
 * A distribution of latencies that can be added to another: counts by logarithmic bucket, as DDSketch has them (Masson,
 * Rim and Lee, VLDB 2019). A quantile is off by 1% at most, whatever was merged. Plain JSON: pairs of bucket and count.
 */
export type LatencySketch = readonly (readonly [bucket: number, count: number])[];

/** Relative error of a quantile. */
const ACCURACY = 0.01;
const GAMMA = (1 + ACCURACY) / (1 - ACCURACY);
const LOG_GAMMA = Math.log(GAMMA);
/** What is faster than this (ms) is all one: below the resolution of a timer. */
const FASTEST_MS = 0.001;

/** The bucket of a latency in milliseconds. */
function bucketOf(ms: number): number {
  return Math.ceil(Math.log(Math.max(ms, FASTEST_MS)) / LOG_GAMMA);
}

/** Collects latencies. */
export class LatencyRecorder {
  readonly #counts = new Map<number, number>();

  /** Adds one latency in milliseconds. */
  add(ms: number): void {
    const bucket = bucketOf(ms);
    this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + 1);
  }

  /** What was added so far. */
  sketch(): LatencySketch {
    return [...this.#counts];
  }
}

/** All that the sketches have, in one. */
export function mergeLatencies(sketches: Iterable<LatencySketch>): LatencySketch {
  const counts = new Map<number, number>();
  for (const sketch of sketches) for (const [bucket, count] of sketch) counts.set(bucket, (counts.get(bucket) ?? 0) + count);
  return [...counts];
}

/** The latency in milliseconds that the share `q` (0 to 1) of all does not exceed; undefined where there is none. */
export function latencyQuantile(sketch: LatencySketch, q: number): number | undefined {
  const sorted = [...sketch].sort(([a], [b]) => a - b);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  // Nearest rank: the smallest latency with at least this many at or below it.
  let rank = Math.max(1, Math.ceil(q * total));
  for (const [bucket, count] of sorted) {
    rank -= count;
    // The value in the bucket that is nowhere further than the accuracy from any other in it.
    if (rank <= 0) return (2 * GAMMA ** bucket) / (GAMMA + 1);
  }
  return undefined;
}
