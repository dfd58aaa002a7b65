/**
 * Brings series to a scale on which they can be judged and compared: order, counters to rates, milliseconds, shares of errors.
 */
import type { Incident, Readings } from "./root-cause-change.ts";
import { firstAt } from "./root-cause-change.ts";
import { isPercent, meaningOf, millisecondsIn, type MetricMeaning } from "./root-cause-metrics.ts";
import { quantileOfSorted } from "./statistics.ts";

/** One metric of one service, as it was measured. Times in milliseconds; a value that is missing is NaN. */
export interface MetricSeries {
  readonly service: string;
  readonly metric: string;
  readonly unit?: string | undefined;
  readonly times: Float64Array;
  readonly values: Float64Array;
}

/** A series that can be judged. */
export interface Prepared {
  readonly metric: string;
  readonly meaning: MetricMeaning;
  readonly readings: Readings;
  /** What its values are now: milliseconds, a share of errors (0 to 1), or as they were measured (`unit` then says of what, if known). */
  readonly scale: "ms" | "share" | "raw";
  readonly unit: string | undefined;
  /** Smallest scatter that is believed, in that scale. */
  readonly floor: number;
  /** What a block of it stands for. */
  readonly average: "median" | "mean";
}

/** A share of errors that moves by less than four of these is not news: 0.8 percentage points. */
const SHARE_FLOOR = 0.002;
/** Errors that are counted: one a reading is news. */
const COUNT_FLOOR = 0.25;
/** Errors a second, of a counter. */
const RATE_FLOOR = 0.01;
/** Milliseconds. */
const LATENCY_FLOOR = 0.25;

/** Finite readings in order of time. */
function ordered({ times, values }: MetricSeries): Readings {
  let clean = true;
  for (let i = 0; i < times.length && clean; i++)
    clean = Number.isFinite(values[i]) && Number.isFinite(times[i]) && (i === 0 || (times[i] as number) >= (times[i - 1] as number));
  if (clean) return { times, values };
  const kept: number[] = [];
  for (let i = 0; i < times.length; i++) if (Number.isFinite(values[i]) && Number.isFinite(times[i])) kept.push(i);
  kept.sort((a, b) => (times[a] as number) - (times[b] as number) || a - b);
  return { times: Float64Array.from(kept, (i) => times[i] as number), values: Float64Array.from(kept, (i) => values[i] as number) };
}

/** Whether readings only ever count up, but for resets to near nothing. */
function countsUp({ values }: Readings, named: boolean): boolean {
  const n = values.length;
  if (n < (named ? 3 : 20)) return false;
  let resets = 0;
  let rises = 0;
  let top = -Infinity;
  for (let i = 0; i < n; i++) {
    const v = values[i] as number;
    if (v < 0) return false;
    if (i > 0) {
      const last = values[i - 1] as number;
      if (v > last) rises++;
      // A reset begins anew; anything else that falls is a gauge.
      else if (v < last) {
        if (v > 0.5 * last) return false;
        resets++;
      }
    }
    top = Math.max(top, v);
  }
  if (resets > Math.max(1, n / 50)) return false;
  // Without a name that says so, it must have counted on and on, from a height that no rate would have.
  return named ? rises > 0 || top > 0 : resets <= 1 && rises > 0.9 * n;
}

/** Increase a second between readings; a reset counts from nothing. */
function rates({ times, values }: Readings): Readings {
  const t: number[] = [];
  const v: number[] = [];
  for (let i = 1; i < times.length; i++) {
    const seconds = ((times[i] as number) - (times[i - 1] as number)) / 1000;
    if (seconds <= 0) continue;
    const rise = (values[i] as number) - (values[i - 1] as number);
    t.push(times[i] as number);
    v.push((rise >= 0 ? rise : (values[i] as number)) / seconds);
  }
  return { times: Float64Array.from(t), values: Float64Array.from(v) };
}

const mapped = ({ times, values }: Readings, f: (v: number) => number): Readings => ({ times, values: values.map(f) });

const highest = ({ values }: Readings): number => {
  let top = -Infinity;
  for (const v of values) top = Math.max(top, v);
  return top;
};

/** The medians before and during the incident. */
function levels({ times, values }: Readings, incident: Incident): [before: number, during: number] {
  const start = firstAt(times, incident.start);
  const end = firstAt(times, incident.end + 1);
  return [quantileOfSorted(values.slice(0, start).sort(), 0.5), quantileOfSorted(values.slice(start, end).sort(), 0.5)];
}

/** Joins what is one series in several pieces: the same metric of a service, one after the other. */
function joined(all: readonly MetricSeries[]): MetricSeries[] {
  const groups = new Map<string, { series: MetricSeries; readings: Readings }[]>();
  for (const series of all) {
    const key = JSON.stringify([series.metric, series.unit ?? ""]);
    const readings = ordered(series);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [{ series, readings }]);
    else group.push({ series, readings });
  }
  return [...groups.values()].flatMap((group) => {
    const begin = (readings: Readings): number => readings.times[0] ?? Infinity;
    group.sort((a, b) => begin(a.readings) - begin(b.readings));
    const out: { series: MetricSeries; readings: Readings }[] = [];
    for (const piece of group) {
      const last = out.at(-1);
      if (last === undefined || (last.readings.times.at(-1) ?? -Infinity) >= begin(piece.readings)) out.push(piece);
      else
        out[out.length - 1] = {
          series: last.series,
          readings: {
            times: Float64Array.from([...last.readings.times, ...piece.readings.times]),
            values: Float64Array.from([...last.readings.values, ...piece.readings.values]),
          },
        };
    }
    return out.map(({ series, readings }) => ({ ...series, ...readings }));
  });
}

/** Every series of one service, on a scale. */
export function prepare(all: readonly MetricSeries[], incident: Incident): Prepared[] {
  const raw = joined(all).map((series) => {
    const meaning = meaningOf(series.metric);
    const { times, values } = series;
    const counts = !meaning.level && !meaning.complement && countsUp({ times, values }, meaning.counter);
    return { series, meaning, readings: counts ? rates({ times, values }) : { times, values }, counts };
  });
  const traffic = raw.find(({ meaning }) => meaning.role === "traffic");
  const demand =
    traffic === undefined ? undefined : { ...traffic, levels: levels(traffic.readings, incident), highest: highest(traffic.readings) };
  return raw.map(({ series, meaning, readings, counts }): Prepared => {
    const { metric, unit } = series;
    const base = { metric, meaning, unit, average: meaning.role === "errors" ? ("mean" as const) : ("median" as const) };
    if (meaning.role === "latency") {
      const factor = millisecondsIn(unit);
      return factor === undefined || counts
        ? { ...base, readings, scale: "raw", floor: 0 }
        : { ...base, readings: factor === 1 ? readings : mapped(readings, (v) => v * factor), scale: "ms", floor: LATENCY_FLOOR };
    }
    if (meaning.role !== "errors") return { ...base, readings, scale: "raw", floor: 0 };
    const top = highest(readings);
    const whole = isPercent(unit) || (meaning.complement && top > 1.5) ? 100 : 1;
    const few = demand === undefined ? 0 : shareFloor(readings, demand.readings, demand.counts, demand.levels[1], incident);
    const share = (values: Float64Array): Prepared => ({
      ...base,
      readings: { times: readings.times, values },
      scale: "share",
      floor: Math.max(SHARE_FLOOR, few),
    });
    // What is called available and no share, such as an uptime in seconds, is no symptom that could be compared.
    if (meaning.complement && top > 100.5)
      return {
        ...base,
        average: "median",
        meaning: { ...meaning, role: "other", bad: "down", complement: false },
        readings,
        scale: "raw",
        floor: 0,
      };
    if (meaning.complement) return share(readings.values.map((v) => 1 - v / whole));
    if (whole === 100) return share(readings.values.map((v) => v / whole));
    if (top <= 1 && !counts) return share(readings.values);
    if (demand !== undefined && demand.counts === counts) {
      const [before, during] = demand.levels;
      const start = firstAt(readings.times, incident.start);
      if (before > 0 && during > 0 && top <= 1.2 * demand.highest)
        return share(readings.values.map((v, i) => v / (i < start ? before : during)));
    }
    return { ...base, readings, scale: "raw", floor: counts ? RATE_FLOOR : COUNT_FLOOR };
  });
}

/**
 * How far the share of errors of a quarter of the incident may stray by chance where few requests are made: the standard
 * deviation of a count (Poisson) of one error. Requests that are no whole numbers are taken for a rate a second.
 */
function shareFloor({ times }: Readings, demand: Readings, isRate: boolean, during: number, incident: Incident): number {
  const start = firstAt(times, incident.start);
  const end = firstAt(times, incident.end + 1);
  if (!(during > 0) || end - start < 1) return 0;
  const step = end - start > 1 ? ((times[end - 1] as number) - (times[start] as number)) / (end - start - 1) / 1000 : 60;
  const rate = isRate || demand.values.some((v) => !Number.isInteger(v));
  const requests = during * (rate ? step : 1) * Math.max(1, (end - start) / 4);
  return Math.min(0.25, 1 / requests);
}
