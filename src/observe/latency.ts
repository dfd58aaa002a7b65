/** Ratio of one bucket's bound to the one before it. */
const GAMMA = 1.04;
const LN_GAMMA = Math.log(GAMMA);
/** Below this, latencies are not told apart (ms). */
const MIN_MS = 0.01;
/** Latencies above this count as this (ms): one hour. */
const MAX_MS = 3_600_000;
const MIN_INDEX = indexOf(MIN_MS);
const MAX_INDEX = indexOf(MAX_MS);

/** A quantile is at most this far from the true one, relative to it: (γ - 1) / (γ + 1) with γ = 1.04, so 2%. */
export const LATENCY_RELATIVE_ERROR = (GAMMA - 1) / (GAMMA + 1);

/** Bucket i holds the values in (γ^(i-1), γ^i]. */
function indexOf(ms: number): number {
  return Math.ceil(Math.log(ms) / LN_GAMMA);
}

/** How latencies between two bounds spread over the buckets: `weights[0]` of them fall into bucket `first`, and so on. */
export interface LatencyRange {
  readonly first: number;
  /** They add up to 1. */
  readonly weights: Float64Array;
}

/** Latencies between `from` and `to` ms, spread evenly; undefined where these are no such bounds. */
export function latencyRange(from: number, to: number): LatencyRange | undefined {
  if (!Number.isFinite(from) || !Number.isFinite(to) || from < 0 || to < from) return undefined;
  const first = clampIndex(from);
  const last = clampIndex(to);
  if (first === last) return { first, weights: Float64Array.of(1) };
  const high = Math.min(to, MAX_MS);
  const weights = new Float64Array(last - first + 1);
  for (let i = first; i <= last; i++) {
    const lower = i === first ? from : GAMMA ** (i - 1);
    const upper = i === last ? high : GAMMA ** i;
    if (upper > lower) weights[i - first] = (upper - lower) / (high - from);
  }
  return { first, weights };
}

/** Most lists of bounds whose ranges are remembered. */
const MAX_BOUNDS = 256;

/** The ranges between the bounds of histograms, worked out once for a list of bounds that comes with every point. */
export class LatencyRanges {
  /** By unit, then by list; the first is the one that is there for longest. */
  readonly #known = new Map<number, Map<readonly number[], readonly (LatencyRange | undefined)[]>>();

  /** From 0 to the first of `bounds`, from there to the second, and so on; `toMs` is their unit in ms. The list must not change later. */
  of(bounds: readonly number[], toMs: number): readonly (LatencyRange | undefined)[] {
    let known = this.#known.get(toMs);
    if (known === undefined) this.#known.set(toMs, (known = new Map()));
    let ranges = known.get(bounds);
    if (ranges !== undefined) return ranges;
    ranges = bounds.map((bound, i) => {
      const lower = Math.max(0, bounds[i - 1] ?? 0);
      return latencyRange(lower * toMs, Math.max(lower, bound) * toMs);
    });
    const [oldest] = known.keys();
    if (known.size >= MAX_BOUNDS && oldest !== undefined) known.delete(oldest);
    known.set(bounds, ranges);
    return ranges;
  }
}

/** What a latency histogram looks like on the wire: bucket `offset` holds `counts[0]`, and so on. */
export interface LatencyHistogramJson {
  readonly offset: number;
  readonly counts: readonly number[];
}

/**
 * Latencies in logarithmic buckets: mergeable without loss, of bounded size (at most 503 buckets), with quantiles
 * within 2% for 0.01 ms to one hour. The method is DDSketch (Masson, Rim, Lee; VLDB 2019) with fixed bounds, so that any
 * two of them merge.
 */
export class LatencyHistogram {
  #offset = 0;
  #counts = new Float64Array(0);
  #count = 0;

  /** How many latencies it holds. May be fractional after `addRange`. */
  get count(): number {
    return this.#count;
  }

  /** Adds `count` requests that took `ms`. What is not finite, or is negative, is ignored. */
  add(ms: number, count = 1): void {
    if (!Number.isFinite(ms) || ms < 0 || !Number.isFinite(count) || count <= 0) return;
    this.#addAt(clampIndex(ms), count);
  }

  /** Adds `count` requests that took between `from` and `to` ms, spread evenly, as `histogram_quantile` assumes. */
  addRange(from: number, to: number, count: number): void {
    const range = latencyRange(from, to);
    if (range !== undefined) this.addRanges([range], [count]);
  }

  /** Adds `counts[i]` requests to `ranges[i]`. What is not finite, or not positive, is ignored. */
  addRanges(ranges: readonly (LatencyRange | undefined)[], counts: readonly number[]): void {
    const at = (i: number): number => {
      const count = counts[i] ?? 0;
      return Number.isFinite(count) && count > 0 ? count : 0;
    };
    let first = Infinity;
    let last = -Infinity;
    for (let i = 0; i < ranges.length; i++) {
      const range = ranges[i];
      if (range === undefined || at(i) === 0) continue;
      first = Math.min(first, range.first);
      last = Math.max(last, range.first + range.weights.length - 1);
    }
    if (last < first) return;
    this.#cover(first, last);
    for (let i = 0; i < ranges.length; i++) {
      const range = ranges[i];
      const count = at(i);
      if (range === undefined || count === 0) continue;
      const { weights } = range;
      let to = range.first - this.#offset;
      for (let j = 0; j < weights.length; j++, to++) this.#counts[to] = (this.#counts[to] ?? 0) + count * (weights[j] ?? 0);
      this.#count += count;
    }
  }

  /** Adds everything that `other` holds. */
  merge(other: LatencyHistogram): void {
    if (other.#counts.length === 0) return;
    this.#cover(other.#offset, other.#offset + other.#counts.length - 1);
    const shift = other.#offset - this.#offset;
    for (let i = 0; i < other.#counts.length; i++) this.#counts[i + shift] = (this.#counts[i + shift] ?? 0) + (other.#counts[i] ?? 0);
    this.#count += other.#count;
  }

  /** The latency in ms that the share `q` (0 to 1) of the requests did not exceed; undefined when it holds none. */
  quantile(q: number): number | undefined {
    if (this.#count <= 0) return undefined;
    const rank = Math.min(1, Math.max(0, q)) * this.#count;
    let seen = 0;
    let last = 0;
    for (let i = 0; i < this.#counts.length; i++) {
      const here = this.#counts[i] ?? 0;
      if (here === 0) continue;
      last = i;
      seen += here;
      // Fractional counts add up with rounding errors; without the tolerance the top quantile could run off the end.
      if (seen >= rank - 1e-9 * this.#count) break;
    }
    // The point of a bucket whose relative distance to both of its bounds is the same.
    return (2 * GAMMA ** (last + this.#offset)) / (GAMMA + 1);
  }

  /** The mean of all latencies in ms, within 2%; undefined where it holds none. */
  get meanMs(): number | undefined {
    if (this.#count <= 0) return undefined;
    let sum = 0;
    this.#counts.forEach((count, i) => {
      if (count > 0) sum += (count * 2 * GAMMA ** (i + this.#offset)) / (GAMMA + 1);
    });
    return sum / this.#count;
  }

  toJSON(): LatencyHistogramJson {
    return { offset: this.#offset, counts: [...this.#counts] };
  }

  /** The histogram that `toJSON` wrote; undefined when `json` is none. */
  static fromJSON(json: LatencyHistogramJson): LatencyHistogram | undefined {
    const { offset, counts } = json;
    if (!Number.isInteger(offset) || !Array.isArray(counts) || counts.length > MAX_INDEX - MIN_INDEX + 1) return undefined;
    if (counts.length > 0 && (offset < MIN_INDEX || offset + counts.length - 1 > MAX_INDEX)) return undefined;
    const histogram = new LatencyHistogram();
    histogram.#offset = offset;
    histogram.#counts = new Float64Array(counts.length);
    for (const [i, count] of counts.entries()) {
      if (typeof count !== "number" || !Number.isFinite(count) || count < 0) return undefined;
      histogram.#counts[i] = count;
      histogram.#count += count;
    }
    return histogram;
  }

  #addAt(index: number, count: number): void {
    this.#cover(index, index);
    this.#counts[index - this.#offset] = (this.#counts[index - this.#offset] ?? 0) + count;
    this.#count += count;
  }

  /** Makes room for the buckets `first` to `last`. */
  #cover(first: number, last: number): void {
    const length = this.#counts.length;
    const end = this.#offset + length - 1;
    if (length > 0 && first >= this.#offset && last <= end) return;
    const low = length === 0 ? first : Math.min(first, this.#offset);
    const high = length === 0 ? last : Math.max(last, end);
    const counts = new Float64Array(high - low + 1);
    counts.set(this.#counts, length === 0 ? 0 : this.#offset - low);
    this.#counts = counts;
    this.#offset = low;
  }
}

function clampIndex(ms: number): number {
  return ms <= MIN_MS ? MIN_INDEX : ms >= MAX_MS ? MAX_INDEX : indexOf(ms);
}
