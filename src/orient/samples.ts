import type { Sample, Telemetry } from "../observe/telemetry.ts";
import type { Replica } from "../ports/platform.ts";
import { median } from "./statistics.ts";
import { seconds } from "./trend.ts";

/** Readings are never called stale before this age, however often they usually come. */
export const MIN_STALE_MS = 30_000;
/** Readings that fail to come this many times in a row are stale. */
const STALE_INTERVALS = 5;
/** How far back the usual interval is looked for at least. */
const MIN_LOOKBACK_MS = 300_000;

/** A metric of a replica, and whether it still comes in. */
export interface Readings {
  /** Ordered by time, from the asked time on. */
  readonly samples: readonly Sample[];
  readonly newest: Sample | undefined;
  /** Usual time between two readings in ms: the median of the last ones; 0 where there are fewer than two. */
  readonly intervalMs: number;
  /** Says what is missing where nothing came for longer than `max(30 s, 5 usual intervals)`, or ever; undefined while it is fresh. */
  readonly missing: string | undefined;
}

/** Reads a metric of a replica from `since` (ms) on. */
export function readingsOf(telemetry: Telemetry, replica: Replica, metric: string, since: number, now: number): Readings {
  // Looked at from further back than asked: a metric that vanished must not look as if it never came.
  const all = telemetry.replicaSeries(replica.ref.uid, metric, Math.min(since, now - MIN_LOOKBACK_MS));
  const newest = all.at(-1);
  if (newest === undefined)
    return {
      samples: [],
      newest,
      intervalMs: 0,
      missing: `no reading of ${metric} of ${replica.ref.name} in the last ${seconds(MIN_LOOKBACK_MS / 1000)}`,
    };
  const recent = all.slice(-32);
  const intervalMs = recent.length < 2 ? 0 : median(recent.slice(1).map((sample, i) => sample.t - (recent[i]?.t ?? sample.t)));
  const age = now - newest.t;
  return {
    samples: all.filter((sample) => sample.t >= since),
    newest,
    intervalMs,
    missing:
      age > Math.max(MIN_STALE_MS, STALE_INTERVALS * intervalMs)
        ? `no reading of ${metric} of ${replica.ref.name} since ${seconds(age / 1000)} (they came every ${seconds(intervalMs / 1000)})`
        : undefined,
  };
}
