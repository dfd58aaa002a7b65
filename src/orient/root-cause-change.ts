/**
 * Did a series change with the incident, by how much, and since when? Medians and median absolute deviations, over what the
 * series itself did before.
 *
 * The incident is cut into up to four blocks of time and the baseline into blocks of the same length; each stands for its median.
 * So one outlier counts for nothing, heavy tails, autocorrelation and bursts show in how far the baseline's own blocks stray,
 * and an incident of one reading is compared with single readings. A block is held against two references:
 *
 * - all of the baseline, and how far its blocks lie about their median;
 * - where the baseline is long, its newest blocks, and how far any block of it lay from the ones before it: a day's rhythm, a
 *   trend, and a level that moved long ago are then no news. Where the baseline holds the same hour of earlier days, what
 *   happened then as well is no news either.
 *
 * Sources: the median and IQR of a baseline as the scale of a root cause's score, L. Pham, H. Ha, H. Zhang, "BARO" (FSE 2024); P. J. Rousseeuw
 * and C. Croux, "Alternatives to the median absolute deviation" (1993).
 */
import { median, quantileOfSorted } from "./statistics.ts";

/** Readings in order of time, in milliseconds; every value a finite number. */
export interface Readings {
  readonly times: Float64Array;
  readonly values: Float64Array;
}

/** The window in which something was wrong, milliseconds; all before `start` is baseline. */
export interface Incident {
  readonly start: number;
  readonly end: number;
}

/** What a series did. */
export interface Change {
  /** Level of the baseline that the incident is held against. */
  readonly before: number;
  /** Level of the worst block of the incident. */
  readonly during: number;
  /**
   * How unusual that is for this series, in robust standard deviations of its blocks: above zero is the bad way. At most `MAX_Z`.
   */
  readonly z: number;
  /** `during` minus `before`, with its sign as measured. */
  readonly excess: number;
  /** When it began, milliseconds: the first reading of several beyond the middle of the change; undefined where none was. */
  readonly onset: number | undefined;
  /** Milliseconds between readings, the median. */
  readonly step: number;
}

/** Why a series says nothing. */
export interface Silent {
  readonly silent: string;
}

/** Beyond this, how unusual a change is says nothing more. */
export const MAX_Z = 1000;
/** Why a series says nothing that has a baseline and no more. */
export const CEASED = "no reading during the incident";
/** Fewest readings that are a baseline. */
export const MIN_BASELINE = 5;
/** Smallest share of a level that counts as its scatter: a change of a tenth is four of it. */
const RELATIVE_FLOOR = 0.025;
/** Blocks of the baseline that stand for what is newest in it. */
const NEWEST = 8;
/** How many blocks later an incident's last block may lie: what the baseline's own drift is measured over. */
const HORIZON = 4;
const DAY_MS = 86_400_000;

/**
 * A robust standard deviation: by the median absolute deviation, and for heavy tails by the span of the middle nine tenths,
 * whichever is larger. Of few values one that is contaminated would already decide that span: then it is that of the middle six.
 */
function spreadOf(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const middle = quantileOfSorted(sorted, 0.5);
  const mad = 1.4826 * quantileOfSorted(sorted.map((v) => Math.abs(v - middle)).sort(), 0.5);
  const span = (q: number): number => quantileOfSorted(sorted, 1 - q) - quantileOfSorted(sorted, q);
  // Between its 5th and 95th percentile lie 3.29 standard deviations of a normal, between its 20th and 80th 1.68.
  if (sorted.length >= 40) return Math.max(mad, span(0.05) / 3.29);
  return Math.max(mad, span(0.2) / 1.68);
}

/** The index of the first time that is not before `t`. */
export function firstAt(times: Float64Array, t: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((times[middle] ?? 0) < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The middle of the first `n` values, which are sorted in place. */
function middleOf(values: Float64Array, n: number): number {
  // Insertion sort: blocks are small, and a native sort of each would be most of the work.
  if (n <= 24) {
    for (let i = 1; i < n; i++) {
      const v = values[i] as number;
      let j = i - 1;
      while (j >= 0 && (values[j] as number) > v) {
        values[j + 1] = values[j] as number;
        j--;
      }
      values[j + 1] = v;
    }
  } else values.subarray(0, n).sort();
  return n % 2 === 1 ? (values[(n - 1) / 2] as number) : ((values[n / 2 - 1] as number) + (values[n / 2] as number)) / 2;
}

function meanOf(values: Float64Array, begin: number, end: number): number {
  let sum = 0;
  for (let i = begin; i < end; i++) sum += values[i] as number;
  return sum / (end - begin);
}

/** The average of each block of `length` ms; block 0 begins at `from`. Blocks with less than half of the usual readings are left out. */
function blocksOf(
  readings: Readings,
  first: number,
  last: number,
  from: number,
  length: number,
  average: "median" | "mean",
): Map<number, number> {
  const { times, values } = readings;
  const bounds: [block: number, begin: number, end: number][] = [];
  let i = first;
  while (i < last) {
    const block = Math.floor(((times[i] as number) - from) / length + 1e-9);
    const until = from + (block + 1) * length - 1e-6 * length;
    const begin = i;
    while (i < last && (times[i] as number) < until) i++;
    if (i === begin) i++;
    bounds.push([block, begin, i]);
  }
  const usual = median(bounds.map(([, begin, end]) => end - begin));
  const blocks = new Map<number, number>();
  const scratch = new Float64Array(bounds.reduce((most, [, begin, end]) => Math.max(most, end - begin), 0));
  for (const [block, begin, end] of bounds) {
    if (2 * (end - begin) < usual) continue;
    if (average === "mean") blocks.set(block, meanOf(values, begin, end));
    else {
      for (let j = begin; j < end; j++) scratch[j - begin] = values[j] as number;
      blocks.set(block, middleOf(scratch, end - begin));
    }
  }
  return blocks;
}

/** Milliseconds between readings, the median; 1 of fewer than two. */
function stepOf(times: Float64Array): number {
  const count = Math.min(times.length - 1, 100);
  if (count < 1) return 1;
  const gaps = new Float64Array(count);
  // The newest: they include those of the incident.
  for (let i = 0; i < count; i++) gaps[i] = (times[times.length - 1 - i] as number) - (times[times.length - 2 - i] as number);
  return Math.max(quantileOfSorted(gaps.sort(), 0.5), 1);
}

/**
 * How a series changed with the incident. `bad` is the way that counts; with `both` the way that it went. `floor` is the
 * smallest scatter that is believed, in the series' own unit. Blocks stand for their median; with `mean` for their mean, as
 * the median of what is mostly nothing, such as a share of errors, is nothing or a leap.
 */
export function changeOf(
  readings: Readings,
  incident: Incident,
  bad: "up" | "down" | "both",
  floor: number,
  average: "median" | "mean" = "median",
): Change | Silent {
  const { times, values } = readings;
  const start = firstAt(times, incident.start);
  const end = firstAt(times, incident.end + 1);
  if (start < MIN_BASELINE) return { silent: start === 0 ? "no baseline" : `a baseline of ${start} readings, fewer than ${MIN_BASELINE}` };
  if (end <= start) return { silent: CEASED };
  const step = stepOf(times.subarray(0, end));
  const count = end - start;
  const span = incident.start - (times[0] as number);
  const wanted = count >= 12 ? 4 : count >= 6 ? 2 : 1;
  // From the baseline at least eight blocks: without several of them nothing is known of how it strays.
  const length = Math.max(
    Math.min((Math.min(incident.end, times[end - 1] as number) - incident.start + step) / wanted, span / 8),
    Math.min(step, span / MIN_BASELINE),
  );
  const before = blocksOf(readings, 0, start, incident.start, length, average);
  const during = blocksOf(readings, start, end, incident.start, length, average);
  const baseline = [...before.values()];
  const all = median(baseline);
  // The scatter of few blocks is itself uncertain.
  const uncertainty = 1 + 4 / baseline.length;
  const scale = (spread: number, level: number): number => Math.max(spread * uncertainty, floor, RELATIVE_FLOOR * Math.abs(level), 1e-12);
  const wide = scale(spreadOf(baseline), all);

  let newest = all;
  let narrow = Infinity;
  const drifts = driftsOf(before);
  if (drifts.size >= 12) {
    newest = median(baseline.slice(-NEWEST));
    narrow = scale(spreadOf([...drifts.values()]), newest);
  }
  const perDay = DAY_MS / length;
  let best: { z: number; level: number; way: number } | undefined;
  for (const [block, level] of during) {
    const earlier: number[] = [];
    const earlierDrift: number[] = [];
    for (let day = 1; day <= 7; day++) {
      const at = before.get(Math.round(block - day * perDay));
      const drift = drifts.get(Math.round(block - day * perDay));
      if (at !== undefined) earlier.push(at);
      if (drift !== undefined) earlierDrift.push(drift);
    }
    for (const way of bad === "both" ? [1, -1] : [bad === "up" ? 1 : -1]) {
      let far = (way * (level - all)) / wide;
      if (earlier.length > 0) far = Math.min(far, (way * (level - median(earlier))) / wide);
      let fresh = (way * (level - newest)) / narrow;
      if (earlierDrift.length > 0) fresh = Math.min(fresh, (way * (level - newest - median(earlierDrift))) / narrow);
      const z = narrow < Infinity ? Math.max(far, fresh) : far;
      if (best === undefined || z > best.z) best = { z, level, way };
    }
  }
  if (best === undefined) return { silent: CEASED };
  const reference = narrow < Infinity ? newest : all;
  const excess = best.level - reference;
  return {
    before: reference,
    during: best.level,
    z: Math.max(-MAX_Z, Math.min(MAX_Z, best.z)),
    excess,
    onset: onsetOf(times, values, start, end, reference + excess / 2, Math.sign(excess)),
    step,
  };
}

/** How far each block lay from the ones some blocks before it. */
function driftsOf(before: ReadonlyMap<number, number>): Map<number, number> {
  const ids = [...before.keys()];
  const levels = Float64Array.from(before.values());
  const earlier = new Float64Array(NEWEST);
  const drifts = new Map<number, number>();
  for (let i = HORIZON + NEWEST - 1; i < ids.length; i++) {
    for (let j = 0; j < NEWEST; j++) earlier[j] = levels[i - HORIZON - NEWEST + 1 + j] as number;
    drifts.set(ids[i] as number, (levels[i] as number) - middleOf(earlier, NEWEST));
  }
  return drifts;
}

/** The first of the incident's readings beyond `middle` with most of the next three beyond it as well. */
function onsetOf(times: Float64Array, values: Float64Array, start: number, end: number, middle: number, way: number): number | undefined {
  const beyond = (i: number): boolean => way * ((values[i] as number) - middle) >= 0;
  for (let i = start; i < end; i++) {
    if (!beyond(i)) continue;
    let more = 0;
    const next = Math.min(end, i + 4);
    for (let j = i + 1; j < next; j++) if (beyond(j)) more++;
    if (3 * more >= 2 * (next - i - 1)) return times[i];
  }
  return undefined;
}
