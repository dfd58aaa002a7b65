import type { Sample, Telemetry } from "../observe/telemetry.ts";
import type { Replica } from "../ports/platform.ts";
import { quantileOfSorted } from "./statistics.ts";
import { seconds } from "./trend.ts";

/** Readings are never called stale before this age, however often they usually come. */
export const MIN_STALE_MS = 30_000;
/** Readings that fail to come this many times in a row are stale. */
const STALE_INTERVALS = 5;
/** Times between readings that the usual one is the median of. */
const RECENT = 31;
/** How far back the usual interval is looked for at least. */
const MIN_LOOKBACK_MS = 300_000;

/** A metric of a replica, and whether it still comes in. */
export interface Readings {
  /** Ordered by time, from the asked time on. */
  readonly samples: readonly Sample[];
  readonly newest: Sample | undefined;
  /** Says what is missing where nothing came for longer than `max(30 s, 5 usual intervals)`, or ever; undefined while it is fresh. */
  readonly missing: string | undefined;
}

/** Reads a metric of a replica from `since` (ms) on. */
export function readingsOf(telemetry: Telemetry, replica: Replica, metric: string, since: number, now: number): Readings {
  // Looked at from further back than asked: a metric that vanished must not look as if it never came.
  const all = telemetry.replicaSeries(replica.ref.uid, metric, Math.min(since, now - MIN_LOOKBACK_MS), replica.startedAt);
  const newest = all.at(-1);
  if (newest === undefined)
    return {
      samples: [],
      newest,
      missing: `no reading of ${metric} of ${replica.ref.name} in the last ${seconds(MIN_LOOKBACK_MS / 1000)}`,
    };
  const first = all.findIndex((sample) => sample.t >= since);
  return {
    samples: first === 0 ? all : first < 0 ? [] : all.slice(first),
    newest,
    missing: silenceOf(`${metric} of ${replica.ref.name}`, all, now - newest.t),
  };
}

/** What is missing where the newest reading is `age` old (ms). How often they come is asked only where that decides. */
function silenceOf(what: string, samples: readonly Sample[], age: number): string | undefined {
  if (age <= MIN_STALE_MS) return undefined;
  const intervalMs = intervalOf(samples);
  return age > STALE_INTERVALS * intervalMs
    ? `no reading of ${what} since ${seconds(age / 1000)} (they came every ${seconds(intervalMs / 1000)})`
    : undefined;
}

/** How far apart readings may be (ms) for what lies between them to count as known. */
export function longestGapOf(samples: readonly Sample[]): number {
  return Math.max(MIN_STALE_MS, STALE_INTERVALS * intervalOf(samples));
}

/** The median time between the last readings (ms); 0 where there are fewer than two. */
function intervalOf(samples: readonly Sample[]): number {
  const gaps = new Float64Array(Math.min(samples.length - 1, RECENT));
  if (gaps.length === 0) return 0;
  const first = samples.length - 1 - gaps.length;
  for (let i = 0; i < gaps.length; i++) gaps[i] = (samples[first + i + 1]?.t ?? 0) - (samples[first + i]?.t ?? 0);
  return quantileOfSorted(gaps.sort(), 0.5);
}
