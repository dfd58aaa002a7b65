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
    if (!Number.isFinite(from) || !Number.isFinite(to) || !Number.isFinite(count) || count <= 0 || from < 0 || to < from) return;
    const first = clampIndex(from);
    const last = clampIndex(to);
    if (first === last) return this.#addAt(last, count);
    const low = Math.max(from, 0);
    const high = Math.min(to, MAX_MS);
    this.#cover(first, last);
    for (let i = first; i <= last; i++) {
      const lower = i === first ? low : GAMMA ** (i - 1);
      const upper = i === last ? high : GAMMA ** i;
      if (upper > lower) this.#addAt(i, (count * (upper - lower)) / (high - low));
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
