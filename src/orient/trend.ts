/**
 * Is it a leak? Memory that grows without end, told apart from memory that is merely used.
 *
 * What a process retains shows in its floor, not in its peaks: a garbage collector lets memory rise and takes it back, and
 * only what it could not take back counts. So the floor is what is looked at, in four stages:
 *
 * 1. Floor: the readings are cut into at most 48 buckets of time; a low quantile of each is the floor. Where the floor itself
 *    rises and falls (a collector with a long period, a daily rhythm), its troughs are the floor instead.
 * 2. Newest segment: only what came after the lowest floor counts. A restart, or the flat hours before a leak, fall away.
 *    A level that was reached before and left again by itself is no news.
 * 3. Trend: Theil-Sen slope (Sen 1968) and Mann-Kendall test (Mann 1945, Kendall 1975), corrected for ties and for
 *    autocorrelation (Hamed and Rao 1998).
 * 4. Shape: growth must last. A step is one jump, a cache and a warm-up decelerate (a saturation is fitted beside the line),
 *    a plateau has ended, and a day's rhythm is a sine (fitted beside the line where hours are in view).
 *
 * When in doubt the answer is no: a leak that is missed now is found some samples later, a healthy process that is restarted
 * is harm done.
 */
import { leastSquares, median, monotoneTrend, noiseOf, normalCdf, quantileOfSorted, type Point } from "./statistics.ts";

/** What an analysis needs to know besides the samples. */
export interface TrendOptions {
  /** Bytes that must not be reached. `secondsToLimit` is counted to it. */
  readonly limit: number;
  /** Milliseconds since the epoch: samples after it are ignored, and time to the limit is counted from it. Default: the newest sample. */
  readonly now?: number;
  /** Seconds that the growth must have lasted at least. Default 10. */
  readonly minSpanSeconds?: number;
  /** Samples that the growth must have at least. Default 10. */
  readonly minSamples?: number;
  /** Confidence from which on it is called a leak, 0.5 to 1. Default 0.95. */
  readonly minConfidence?: number;
}

/** What an analysis found. */
export interface TrendResult {
  /** Whether the floor grows, has not stopped or slowed, and `confidence` is at least `minConfidence`. */
  readonly leaking: boolean;
  /** Growth of the floor, bytes per second: of the newest segment where it leaks, else of everything in view. May be negative. */
  readonly slopePerSecond: number;
  /** Seconds from `now` until the floor's line reaches the limit; 0 when it has; undefined when it is not leaking. */
  readonly secondsToLimit: number | undefined;
  /**
   * Confidence that it is a leak, 0 to 1: the probability, by the Mann-Kendall test, that growth like this is not chance,
   * times the probability that it has not slowed to less than a quarter. At most 0.5 where a shape that is no leak was recognised.
   * On the synthetic shapes of the tests, of what is reported with 0.95 and above, more than 95% are leaks.
   */
  readonly confidence: number;
  /** Seconds that the growth has lasted in view; undefined when it is not leaking. */
  readonly spanSeconds: number | undefined;
  /** One sentence for people, with the numbers. */
  readonly reason: string;
}

/** Most buckets that a series is cut into: it bounds the pairs that Theil-Sen and Mann-Kendall look at to 1,128. */
const MAX_BUCKETS = 48;
/** Fewest points that a trend is computed of. */
const MIN_POINTS = 8;
const DAY_SECONDS = 86_400;

/** Analyses one series of one process. Order, duplicates and gaps do not matter; readings that are no non-negative number are left out. */
export function analyseTrend(samples: readonly Point[], options: TrendOptions): TrendResult {
  const points = clean(samples, options.now);
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined)
    return none(0, 0, samples.length === 0 ? "there are no samples" : "no sample is a usable number");
  const { minSpanSeconds = 10, minSamples = 10, minConfidence = 0.95 } = options;
  const epoch = first.t;
  const span = (last.t - epoch) / 1000;
  const now = ((options.now ?? last.t) - epoch) / 1000;
  if (points.length < Math.max(minSamples, MIN_POINTS))
    return none(0, 0, `${points.length} samples are too few to tell: at least ${Math.max(minSamples, MIN_POINTS)} are needed`);
  if (span < minSpanSeconds) return none(0, 0, `${seconds(span)} are too short to tell: at least ${seconds(minSpanSeconds)} are needed`);

  const found = judgedBefore(points, { limit: options.limit, minSpanSeconds, minSamples });
  const { judged } = found;
  if (judged.verdict === "No") return noneOf(found, judged);
  const leaking = judged.confidence >= minConfidence;
  const level = judged.level + judged.slope * (now - judged.at);
  const left = Number.isFinite(options.limit) ? Math.max(0, (options.limit - level) / judged.slope) : undefined;
  const growth = `the floor grows by ${rate(judged.slope)} over ${seconds(judged.span)}, from ${bytes(judged.from)} to ${bytes(judged.level)}`;
  const sure = `${percentText(judged.confidence)} confidence`;
  if (!leaking) return none(judged.slope, judged.confidence, `${growth}, but with ${sure} only (${percentText(minConfidence)} are needed)`);
  return {
    leaking,
    slopePerSecond: judged.slope,
    secondsToLimit: left,
    confidence: judged.confidence,
    spanSeconds: judged.span,
    reason: `${growth}, without slowing down; ${sure}${left === undefined ? "" : left === 0 ? `; the limit of ${bytes(options.limit)} is reached` : `; the limit of ${bytes(options.limit)} is reached in ${seconds(left)}`}`,
  };
}

/** What was found of a series. */
interface Judged {
  readonly points: readonly Point[];
  readonly options: Bounds;
  readonly judged: Judgement;
  /** Slope of everything in view, once somebody has asked for it: of what is no leak hardly anybody does, and it costs as much as the rest. */
  all: number | undefined;
}

/**
 * Series that were judged last, by their ends. Readings come every few seconds or slower, and are looked at every second for
 * each policy: all but the first look at them find here what that found. At 15 s from one reading to the next that is most of
 * what the loop would compute.
 */
const judgements = new Map<number, Judged>();
/** Most series that are remembered: a few kilobytes each. */
const MAX_JUDGEMENTS = 4_096;

function areEqual(a: readonly Point[], b: readonly Point[]): boolean {
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] as Point, b[i] as Point];
    if (x !== y && (x.t !== y.t || x.v !== y.v)) return false;
  }
  return true;
}

/** Judges a series, unless the very same one was judged before. */
function judgedBefore(points: readonly Point[], options: Bounds): Judged {
  const [first, last] = [points[0] as Point, points.at(-1) as Point];
  // Only where to look: what is found there is compared. A text of these numbers would cost more than that.
  const key = first.t + last.t + last.v + (Number.isFinite(options.limit) ? options.limit : 0);
  const known = judgements.get(key);
  if (
    known !== undefined &&
    known.points.length === points.length &&
    known.options.minSpanSeconds === options.minSpanSeconds &&
    known.options.minSamples === options.minSamples &&
    areEqual(known.points, points)
  )
    return known;
  const readings = readingsOf(points);
  const judged = judge(readings, (last.t - first.t) / 1000, options);
  const found = { points, options, judged, all: judged.slope };
  // The oldest goes first: a map keeps the order in which its keys came.
  judgements.delete(key);
  judgements.set(key, found);
  if (judgements.size > MAX_JUDGEMENTS) judgements.delete(judgements.keys().next().value ?? 0);
  return found;
}

function none(slopePerSecond: number, confidence: number, reason: string): TrendResult {
  return { leaking: false, slopePerSecond, secondsToLimit: undefined, confidence, spanSeconds: undefined, reason };
}

/** A series that shows no leak. */
function noneOf(found: Judged, { confidence, reason }: Extract<Judgement, { verdict: "No" }>): TrendResult {
  return {
    ...none(0, confidence, reason),
    get slopePerSecond() {
      found.all ??= monotoneTrend(bucketsOf(readingsOf(found.points))).slope;
      return found.all;
    },
  };
}

/** The points in seconds since the first. */
function readingsOf(points: readonly Point[]): Point[] {
  const epoch = points[0]?.t ?? 0;
  return points.map((p) => ({ t: (p.t - epoch) / 1000, v: p.v }));
}

/** Usable readings, ordered, each time once (the lowest of several: it is the floor that counts). */
function clean(samples: readonly Point[], now: number | undefined): Point[] {
  const usable: Point[] = [];
  let ordered = true;
  for (const sample of samples) {
    if (!Number.isFinite(sample.t) || !Number.isFinite(sample.v) || sample.v < 0 || (now !== undefined && sample.t > now)) continue;
    const previous = usable.at(-1);
    if (previous !== undefined && sample.t <= previous.t) ordered = false;
    usable.push(sample);
  }
  let distinct = usable;
  if (!ordered) {
    usable.sort((a, b) => a.t - b.t || a.v - b.v);
    distinct = usable.filter((p, i) => i === 0 || p.t !== usable[i - 1]?.t);
  }
  // A process that lives has memory: a lone zero between other values is a reading that failed.
  const isGap = (i: number): boolean => distinct[i]?.v === 0 && (distinct[i - 1]?.v ?? 0) > 0 && (distinct[i + 1]?.v ?? 0) > 0;
  return distinct.some((_, i) => isGap(i)) ? distinct.filter((_, i) => !isGap(i)) : distinct;
}

/**
 * Floors of equal buckets of time: at most 48, four readings each or more, or the readings themselves where they are few.
 * Where noise goes both ways the buckets' medians are the calmer floor, and are taken.
 */
function bucketsOf(readings: readonly Point[]): Point[] {
  const n = readings.length;
  if (n <= 24) return readings.slice();
  const count = Math.min(MAX_BUCKETS, Math.max(16, Math.floor(n / 4)));
  const start = readings[0]?.t ?? 0;
  const width = ((readings[n - 1]?.t ?? 0) - start) / count;
  const lows: Point[] = [];
  const middles: Point[] = [];
  let at = 0;
  for (let b = 0; b < count; b++) {
    const from = at;
    const end = b === count - 1 ? Infinity : start + (b + 1) * width;
    while (at < n && (readings[at]?.t ?? 0) < end) at++;
    if (at === from) continue;
    const values = new Float64Array(at - from);
    let sum = 0;
    for (let i = from; i < at; i++) {
      values[i - from] = readings[i]?.v ?? 0;
      sum += readings[i]?.t ?? 0;
    }
    values.sort();
    // The lowest of few; of many a low quantile, so that one stray reading is no floor.
    const t = sum / (at - from);
    lows.push({ t, v: quantileOfSorted(values, values.length < 8 ? 0 : 0.1) });
    middles.push({ t, v: quantileOfSorted(values, 0.5) });
  }
  return noiseOf(middles.map((p) => p.v)) < 0.8 * noiseOf(lows.map((p) => p.v)) ? middles : lows;
}

/** The lowest of each of at most 48 runs of neighbours. */
function lowestOf(points: readonly Point[]): Point[] {
  if (points.length <= MAX_BUCKETS) return points.slice();
  const result: Point[] = [];
  for (let b = 0; b < MAX_BUCKETS; b++) {
    const run = points.slice(Math.floor((b * points.length) / MAX_BUCKETS), Math.floor(((b + 1) * points.length) / MAX_BUCKETS));
    result.push(run.reduce((low, p) => (p.v < low.v ? p : low)));
  }
  return result;
}

type Judgement =
  | { readonly verdict: "No"; readonly confidence: number; readonly reason: string; readonly slope?: number }
  | {
      readonly verdict: "Growth";
      readonly confidence: number;
      readonly slope: number;
      /** Value of the floor's line at its end, when that is, at its beginning, and the seconds between. */
      readonly level: number;
      readonly at: number;
      readonly from: number;
      readonly span: number;
    };

interface Bounds {
  readonly limit: number;
  readonly minSpanSeconds: number;
  readonly minSamples: number;
}

const no = (confidence: number, reason: string, slope?: number): Judgement => ({
  verdict: "No",
  confidence: Math.max(0, Math.min(0.5, confidence)),
  reason,
  ...(slope === undefined ? {} : { slope }),
});

function judge(readings: readonly Point[], span: number, bounds: Bounds): Judgement {
  const { low, high } = extent(readings);
  if (high === low) return no(0, `memory is constant at ${bytes(low)} over ${seconds(span)}`, 0);
  const smooth = withoutSpikes(readings);
  const rawNoise = noiseOf(
    readings.map((p) => p.v),
    readings.length < 40 ? 0.5 : 0.25,
  );
  const rawTurns = turnsOf(smooth, Math.max(6 * rawNoise, 0.12 * (high - low)));
  const rawTroughs = rawTurns.filter((turn) => turn.trough);

  // Teeth that the samples resolve: their troughs are the floor, unless the teeth ceased.
  const spacing = median(rawTroughs.map((turn, i) => turn.t - (rawTroughs[i - 1] ?? turn).t).slice(1));
  const last = readings.at(-1) as Point;
  const toothed = rawTroughs.length >= MIN_POINTS && last.t - (rawTroughs.at(-1) as Point).t <= 3 * spacing;
  const raw = toothed ? lowestOf(rawTroughs) : bucketsOf(readings);
  const calm = deseasonalised(raw, span);
  if (calm === undefined && !toothed) {
    const deepest = deepestOf(rawTurns);
    const teeth = rawTurns.slice(deepest);
    if (deepest >= 0 && teeth.filter((turn) => turn.trough).length >= 4) {
      const judged = judgeTeeth(readings, teeth, rawNoise);
      if (judged.verdict === "Growth" || !areSpikes(readings, teeth)) return judged;
    }
  }
  return judgeFloor(calm ?? raw, toothed || calm !== undefined ? undefined : readings, span, bounds);
}

/** Running medians of three: a spike of one reading is no tooth. */
function withoutSpikes(readings: readonly Point[]): readonly Point[] {
  if (readings.length < 40) return readings;
  return readings.map((p, i) => {
    const a = readings[i - 1]?.v ?? p.v;
    const b = readings[i + 1]?.v ?? p.v;
    return { t: p.t, v: Math.max(Math.min(a, b), Math.min(Math.max(a, b), p.v)) };
  });
}

function extent(points: readonly Point[]): { low: number; high: number } {
  let low = Infinity;
  let high = -Infinity;
  for (const { v } of points) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return { low, high };
}

/** Whether memory is near its troughs nearly all the time: bursts, and no teeth. The buckets' floor sees through them. */
function areSpikes(readings: readonly Point[], teeth: readonly Turn[]): boolean {
  const troughs = teeth.filter((turn) => turn.trough);
  const height = median(teeth.filter((turn) => !turn.trough).map((p) => p.v)) - median(troughs.map((p) => p.v));
  const start = (troughs[0] as Turn).t;
  const { slope, intercept } = monotoneTrend(troughs);
  const seen = readings.filter((p) => p.t >= start);
  return seen.filter((p) => p.v > intercept + slope * (p.t - start) + 0.3 * height).length < 0.2 * seen.length;
}

/** Index of the lowest trough (the last of equal ones); -1 where there is none. */
function deepestOf(turns: readonly Turn[]): number {
  return turns.reduce((best, turn, i) => (turn.trough && turn.v <= (turns[best]?.v ?? Infinity) ? i : best), -1);
}

/** The floor from its last lowest point on. `readings` are given where the floor can be taken of them again, more finely. */
function judgeFloor(floors: readonly Point[], readings: readonly Point[] | undefined, span: number, bounds: Bounds): Judgement {
  const values = floors.map((f) => f.v);
  const { low: lowest, high: highest } = extent(floors);
  if (highest === lowest) return no(0, `the floor is constant at ${bytes(lowest)} over ${seconds(span)}`, 0);
  const noise = noiseOf(values);
  const range = highest - lowest;
  const drop = Math.max(6 * noise, 0.2 * range);
  const turns = turnsOf(floors, drop);
  const deepest = deepestOf(turns);
  if (deepest >= 0 && turns.slice(deepest).filter((turn) => turn.trough).length >= 4)
    return judgeTeeth(floors, turns.slice(deepest), noise);

  // The last time that the floor was at its lowest: what came before is another life of the process, or its flat hours.
  const tolerance = Math.max(2 * noise, 0.05 * range);
  let onset = 0;
  values.forEach((v, i) => {
    if (v <= lowest + tolerance) onset = i;
  });
  const start = floors[onset] as Point;
  const end = floors.at(-1) as Point;
  const grown = end.t - start.t;
  const level = median(values.slice(-3));
  const before = risenBefore(floors, onset, drop, (level - start.v) / Math.max(grown, 1e-9));
  if (before !== undefined && level <= before + 0.35 * (before - lowest))
    return no(0.3, `memory rose to ${bytes(before)} before and came back to ${bytes(lowest)} by itself; now it is ${bytes(level)}`);
  const stood = floors.slice(0, endOfHeight(floors, onset, drop) + 1);
  if (stood.length >= 6) {
    const earlier = extent(stood);
    const ranged = earlier.high - earlier.low;
    if (level - lowest < 1.5 * ranged)
      return no(
        0.3,
        `memory ranged over ${bytes(ranged)} before; that it now stands ${bytes(level - lowest)} above its lowest is no more than that`,
      );
  }
  const inside = turns.filter((turn) => turn.t > start.t + 1e-9 && turn.trough).length;
  if (inside > 0)
    return no(
      0.3,
      `memory rises and falls by ${bytes(drop)} and more; too few of its troughs are in view (${inside + 1}) to say that they rise`,
    );

  // A trend that everything in view shows is better known than its last part.
  if (onset > 0 && onset <= floors.length / 3) {
    const whole = judgeGrowth(floors, bounds, false, 8);
    if (whole.verdict === "Growth" && whole.confidence >= 0.9) return whole;
  }
  const from = onset === 0 ? -Infinity : ((floors[onset - 1] as Point).t + start.t) / 2;
  const segment = onset === 0 ? floors : (readings ?? floors).filter((p) => p.t >= from);
  if (
    segment.length < MIN_POINTS ||
    (readings !== undefined && onset > 0 && segment.length < bounds.minSamples) ||
    grown < bounds.minSpanSeconds ||
    grown < 0.08 * span
  )
    return no(0.2, `what has grown is not older than ${seconds(grown)}, of ${seconds(span)} in view: too short to tell`);
  return judgeGrowth(onset > 0 && readings !== undefined ? bucketsOf(segment) : segment, bounds, true);
}

/**
 * How high the floor stood before it fell to where it is rising from now, where that was a rise like this one: then this
 * may be the next tooth of a collector with a long period. A level that was held and then lost is a restart, and no tooth.
 */
function risenBefore(floors: readonly Point[], onset: number, drop: number, slope: number): number | undefined {
  const start = floors[onset] as Point;
  let top = -1;
  for (let i = 0; i < onset; i++) if ((floors[i] as Point).v > (floors[top]?.v ?? -Infinity)) top = i;
  const peak = floors[top];
  if (peak === undefined || peak.v - start.v < drop) return undefined;
  let foot = peak;
  for (let i = top; i >= 0; i--) if ((floors[i] as Point).v < foot.v) foot = floors[i] as Point;
  if (peak.v - foot.v >= 0.35 * (peak.v - start.v)) return peak.v;
  // A short piece of a rise, or too little to see whether it was one.
  const piece = floors.slice(0, endOfHeight(floors, onset, drop) + 1);
  return piece.length < 4 || monotoneTrend(piece).slope >= 0.4 * slope ? peak.v : undefined;
}

/** Index of the last floor before the onset that stood at the height of the highest one; -1 where the onset is the start. */
function endOfHeight(floors: readonly Point[], onset: number, drop: number): number {
  const { high } = extent(floors.slice(0, onset));
  let end = onset - 1;
  while (end > 0 && (floors[end] as Point).v < high - drop / 2) end--;
  return end;
}

/**
 * The floor without its daily rhythm, where days are in view and it has one: line and three harmonics of the day are fitted,
 * and the harmonics taken away. Undefined where there is none.
 */
function deseasonalised(floors: readonly Point[], span: number): Point[] | undefined {
  if (span < 2.2 * DAY_SECONDS || floors.length < 20) return undefined;
  const one = floors.map(() => 1);
  const time = floors.map((f) => f.t / span);
  const scale = extent(floors).high;
  const y = floors.map((f) => f.v / scale);
  const harmonics = [1, 2, 3].flatMap((k) => [
    floors.map((f) => Math.sin((2 * Math.PI * k * f.t) / DAY_SECONDS)),
    floors.map((f) => Math.cos((2 * Math.PI * k * f.t) / DAY_SECONDS)),
  ]);
  const line = leastSquares([one, time], y);
  const full = leastSquares([one, time, ...harmonics], y);
  if (line === undefined || full === undefined || full.sse > 0.4 * line.sse) return undefined;
  return floors.map((f, i) => ({
    t: f.t,
    v: f.v - scale * harmonics.reduce((sum, column, k) => sum + (full.coefficients[k + 2] ?? 0) * (column[i] ?? 0), 0),
  }));
}

interface Turn extends Point {
  readonly trough: boolean;
}

/** Turning points whose rise and fall are at least `size`: the zigzag. A trough counts once it has been risen from. */
function turnsOf(floors: readonly Point[], size: number): Turn[] {
  const turns: Turn[] = [];
  let high = floors[0] as Point;
  let low = high;
  let direction = 0;
  for (const p of floors) {
    if (direction >= 0 && p.v > high.v) high = p;
    if (direction <= 0 && p.v < low.v) low = p;
    if (direction >= 0 && high.v - p.v >= size) {
      turns.push({ t: high.t, v: high.v, trough: false });
      direction = -1;
      low = p;
    } else if (direction < 0 && p.v - low.v >= size) {
      turns.push({ t: low.t, v: low.v, trough: true });
      direction = 1;
      high = p;
    } else if (direction === 0 && p.v - low.v >= size) {
      direction = 1;
      high = p;
    }
  }
  return turns;
}

/** Teeth that are wide enough to be seen one by one: their troughs are the floor. */
function judgeTeeth(points: readonly Point[], teeth: readonly Turn[], noise: number): Judgement {
  const troughs = teeth.filter((turn) => turn.trough);
  const peaks = teeth.filter((turn) => !turn.trough);
  const first = troughs[0] as Turn;
  const last = troughs.at(-1) as Turn;
  const height = median(peaks.map((p) => p.v)) - median(troughs.map((p) => p.v));
  const what = `${troughs.length} troughs, ${bytes(first.v)} to ${bytes(last.v)}, under teeth of ${bytes(height)}`;
  const growth = last.v - first.v;
  const trend = monotoneTrend(troughs);
  if (growth < Math.max(0.2 * height, 3 * noise))
    return no(0.1, `memory rises and falls, and its troughs do not rise: ${what}`, trend.slope);
  // Too few for a test's large-sample distribution: each trough and each peak must be above the one before it.
  const rises = (list: readonly Turn[]): boolean => list.every((turn, i) => i === 0 || turn.v > (list[i - 1]?.v ?? 0));
  if (!rises(troughs) || !rises(peaks))
    return no(0.3, `memory rises and falls, and its troughs do not rise steadily: ${what}`, trend.slope);
  const half = Math.floor(troughs.length / 2);
  const middle = troughs[half] as Turn;
  const early = (middle.v - first.v) / (middle.t - first.t);
  const late = (last.v - middle.v) / (last.t - middle.t);
  const before = troughs.at(-2) as Turn;
  const newest = (last.v - before.v) / (last.t - before.t);
  if (late < 0.5 * early || newest < 0.4 * trend.slope || trend.residual > 0.25 * growth)
    return no(0.4, `memory rises and falls, and the rise of its troughs is not steady: ${what}`, trend.slope);
  const level = trend.intercept + trend.slope * (last.t - first.t);
  return {
    verdict: "Growth",
    // n! orders are possible, and one of them is this: Kendall's exact test, for troughs and peaks that are half independent.
    confidence: 1 - 1 / factorial(troughs.length) ** 1.5,
    slope: trend.slope,
    level,
    at: last.t,
    from: first.v,
    span: (points.at(-1) as Point).t - first.t,
  };
}

function factorial(n: number): number {
  return n <= 1 ? 1 : n * factorial(n - 1);
}

/** Growth without teeth: is it significant, material, steady and still going on? */
function judgeGrowth(floors: readonly Point[], bounds: Bounds, mayTail: boolean, standOut = 5): Judgement {
  const n = floors.length;
  const first = floors[0] as Point;
  const last = floors[n - 1] as Point;
  const span = last.t - first.t;
  if (n < MIN_POINTS) return no(0.2, `${n} points of the floor are too few to tell`);
  const trend = monotoneTrend(floors);
  const growth = trend.slope * span;
  const numbers = `${signed(trend.slope)} over ${seconds(span)}`;
  const chance = normalCdf(trend.z);
  if (trend.slope <= 0) return no(0.02, `the floor does not grow: ${numbers}`, trend.slope);
  if (trend.z < 1.645)
    return no(chance / 2, `the floor's growth is not more than chance: ${numbers}, Mann-Kendall z ${trend.z.toFixed(1)}`, trend.slope);
  const from = trend.intercept;
  const to = from + growth;
  if (growth < 0.01 * to)
    return no(0.2, `the floor's growth is not material: ${numbers}, ${((100 * growth) / to).toFixed(2)}% of ${bytes(to)}`, trend.slope);
  // Noise that remembers its past wanders; the more it does, the more growth has to stand out of it.
  const needed = standOut + 7 * Math.max(0, trend.autocorrelation);
  if (growth < needed * trend.residual)
    return no(
      0.4,
      `the floor wanders: growth of ${bytes(growth)} in ${seconds(span)} does not stand out of its wandering by ${bytes(trend.residual)}`,
      trend.slope,
    );
  if (span < 60 && bounds.limit > to && (bounds.limit - to) / trend.slope > 30 * span)
    return no(
      0.4,
      `the floor grows by ${rate(trend.slope)}, but ${seconds(span)} are too short to foretell a limit ${seconds((bounds.limit - to) / trend.slope)} away`,
      trend.slope,
    );

  const shape = shapeOf(floors, span, growth);
  if (shape.jump > 0.4)
    return no(
      0.1,
      `a step: ${Math.round(100 * Math.min(1, shape.jump))}% of the growth of ${bytes(growth)} came at once, ${seconds(shape.jumpAgo)} ago`,
      trend.slope,
    );
  if (shape.stairs > 0.6)
    return no(
      0.3,
      `a few steps: ${Math.round(100 * Math.min(1, shape.stairs))}% of the growth of ${bytes(growth)} came in jumps, with rest between them`,
      trend.slope,
    );
  if (shape.decelerates) {
    if (mayTail && shape.lasting) {
      const tail = judgeGrowth(floors.slice(Math.floor(n / 2)), bounds, false);
      if (tail.verdict === "Growth") return tail;
    }
    return no(
      0.2,
      `the floor's growth slows down: ${signed(shape.early)} early, ${signed(shape.late)} lately, over ${seconds(span)}: a warm-up, or a cache that fills`,
      trend.slope,
    );
  }
  if (shape.ended) return no(0.2, `the floor's growth has ended: ${numbers}, but not in the last ${seconds(shape.endedFor)}`, trend.slope);
  const rhythm = rhythmOf(floors, span, bounds.limit);
  if (rhythm !== undefined)
    return no(
      0.4,
      `a daily rhythm explains the growth better than a line: ${numbers}, and its top of ${bytes(rhythm)} is below the limit`,
      trend.slope,
    );

  return {
    verdict: "Growth",
    confidence: Math.min(0.9999, chance * shape.steady),
    slope: trend.slope,
    level: to,
    at: last.t,
    from,
    span,
  };
}

interface Shape {
  /** Share of the growth that came within one tenth of the time, and how long ago (s). */
  readonly jump: number;
  readonly jumpAgo: number;
  /** Share of the growth that came in few jumps, each well above noise and above what a line rises between two points. */
  readonly stairs: number;
  readonly early: number;
  readonly late: number;
  readonly decelerates: boolean;
  /** Beside a saturation there is growth that does not saturate. */
  readonly lasting: boolean;
  readonly ended: boolean;
  readonly endedFor: number;
  /** Probability that growth has not slowed to less than a quarter. */
  readonly steady: number;
}

function shapeOf(floors: readonly Point[], span: number, growth: number): Shape {
  const n = floors.length;
  const start = (floors[0] as Point).t;
  const x = floors.map((f) => (f.t - start) / span);
  const y = floors.map((f) => f.v / growth);
  const one = x.map(() => 1);

  let jump = 0;
  let jumpAgo = 0;
  const width = Math.max(1, Math.round(n / 16));
  for (let i = width + 1; i + 1 < n; i++) {
    // Medians of three on both sides: one stray bucket is no step.
    const rise =
      median(y.slice(i, i + 3)) -
      median(y.slice(Math.max(0, i - width - 2), i - width + 1)) -
      ((x[i + 1] ?? 1) - (x[Math.max(0, i - width - 1)] ?? 0));
    if (rise > jump) {
      jump = rise;
      jumpAgo = (1 - (x[i] ?? 0)) * span;
    }
  }

  const quadratic = leastSquares([one, x, x.map((value) => value * value)], y);
  const [, b = 0, c = 0] = quadratic?.coefficients ?? [];
  const sd = quadratic?.errors[2] ?? 0;
  // Slopes of the fitted parabola in the middle of the first and of the last third.
  const early = b + c / 3;
  const late = b + (5 * c) / 3;
  const bend = sd > 0 ? c / sd : c < 0 ? -Infinity : 0;
  const ratio = early > 0 ? late / early : 1;
  const decelerates = late <= 0 || (ratio < 0.72 && bend < -2.5) || (ratio < 0.5 && bend < -1);
  // (late - early / 4) over its standard error, by the parabola's coefficient alone: the slope in the middle is known far better.
  const spread = sd > 0 ? (late - early / 4) / ((5 / 6) * sd) : 10;

  return {
    jump,
    jumpAgo,
    stairs: stairsOf(x, y),
    early: (early * growth) / span,
    late: (late * growth) / span,
    decelerates,
    lasting: decelerates && hasLastingGrowth(x, y),
    ...endOf(x, y, span),
    steady: normalCdf(Math.max(-6, spread)),
  };
}

/** Share of the growth (`y` is in units of it) that came in few jumps; 0 where there are more than a few. */
function stairsOf(x: readonly number[], y: readonly number[]): number {
  const n = y.length;
  const least = Math.max(2.2 / n, 5 * Math.SQRT2 * noiseOf(y));
  let sum = 0;
  let count = 0;
  for (let i = 1; i < n; i++) {
    // Beyond what a line would have risen in the time between: a gap is no jump.
    const rise = (y[i] ?? 0) - (y[i - 1] ?? 0);
    if (rise < least || rise < 2.2 * ((x[i] ?? 0) - (x[i - 1] ?? 0))) continue;
    sum += rise;
    count++;
  }
  return count <= Math.max(3, n / 4) ? sum : 0;
}

/** Whether line-then-flat explains the floor far better than a line does, with the flat part at the end. */
function endOf(x: readonly number[], y: readonly number[], span: number): { ended: boolean; endedFor: number } {
  const n = x.length;
  const one = x.map(() => 1);
  const line = leastSquares([one, x], y);
  if (line === undefined) return { ended: false, endedFor: 0 };
  let best = line.sse;
  let at = 1;
  for (let i = Math.floor(n / 4); i < n - 2; i++) {
    const knee = x[i] ?? 1;
    const fit = leastSquares([one, x.map((value) => Math.min(value, knee))], y);
    if (fit !== undefined && fit.sse < best) {
      best = fit.sse;
      at = knee;
    }
  }
  // An F test with one degree of freedom for the knee; 12 is far beyond chance also for the best of many knees.
  const f = best > 0 ? ((line.sse - best) / best) * (n - 3) : line.sse > 1e-12 ? Infinity : 0;
  return { ended: at < 0.93 && f > 12, endedFor: (1 - at) * span };
}

/** Whether a line beside a saturation (1 - e^(-x/tau)) explains the floor far better than the saturation alone. */
function hasLastingGrowth(x: readonly number[], y: readonly number[]): boolean {
  const one = x.map(() => 1);
  let alone = Infinity;
  let both = Infinity;
  let slope = 0;
  for (let i = 0; i < 14; i++) {
    const tau = 0.02 * 1.45 ** i;
    const saturation = x.map((value) => 1 - Math.exp(-value / tau));
    const a = leastSquares([one, saturation], y);
    if (a !== undefined) alone = Math.min(alone, a.sse);
    const b = tau <= 0.3 ? leastSquares([one, saturation, x], y) : undefined;
    if (b !== undefined && b.sse < both) {
      both = b.sse;
      slope = b.coefficients[2] ?? 0;
    }
  }
  return slope > 0.2 && ((alone - both) / Math.max(both, 1e-12)) * (x.length - 4) > 10;
}

/** Top of the daily sine that explains the floor better than a line, where it stays below the limit; undefined where none does. */
function rhythmOf(floors: readonly Point[], span: number, limit: number): number | undefined {
  if (span < DAY_SECONDS / 8 || span > 0.75 * DAY_SECONDS) return undefined;
  const scale = Math.max(...floors.map((f) => f.v));
  const y = floors.map((f) => f.v / scale);
  const one = y.map(() => 1);
  const angle = floors.map((f) => (2 * Math.PI * f.t) / DAY_SECONDS);
  const line = leastSquares([one, floors.map((f) => f.t / span)], y);
  const sine = leastSquares([one, angle.map(Math.sin), angle.map(Math.cos)], y);
  if (line === undefined || sine === undefined) return undefined;
  const [middle = 0, a = 0, b = 0] = sine.coefficients;
  const top = (middle + Math.hypot(a, b)) * scale;
  const f = ((line.sse - sine.sse) / Math.max(sine.sse, 1e-15)) * (y.length - 3);
  return f > 40 && top < limit && middle - Math.hypot(a, b) > 0 ? top : undefined;
}

/** Bytes for people: `12.3 MB`. */
export function bytes(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(2)} GB`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)} MB`;
  if (size >= 1e3) return `${(value / 1e3).toFixed(1)} kB`;
  return `${value.toFixed(size >= 10 || size === 0 ? 0 : 1)} B`;
}

/** A rate for people: in the unit of time in which it has digits. */
export function rate(perSecond: number): string {
  const size = Math.abs(perSecond);
  if (size >= 1e4 || size === 0) return `${bytes(perSecond)}/s`;
  if (size >= 1e4 / 60) return `${bytes(perSecond * 60)}/min`;
  return `${bytes(perSecond * 3600)}/h`;
}

/** A span for people: `38 s`, `12 min`, `3.5 h`, `2.1 d`. */
export function seconds(value: number): string {
  if (value < 120) return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 2 * DAY_SECONDS) return `${(value / 3600).toFixed(1)} h`;
  return `${(value / DAY_SECONDS).toFixed(1)} d`;
}

const signed = (perSecond: number): string => `${perSecond > 0 ? "+" : ""}${rate(perSecond)}`;

/** A share for people; never rounded up to certainty. */
export function percentText(share: number): string {
  return `${share > 0.99 && share < 1 ? (Math.floor(share * 1000) / 10).toFixed(1) : Math.floor(share * 100 + 1e-9)}%`;
}
