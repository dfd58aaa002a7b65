import { z } from "zod";
import { NightshiftError } from "../api/errors.ts";
import { parseJson } from "./json.ts";
import type { Sample } from "./telemetry.ts";

/** What is asked of a Prometheus. */
export interface PromqlQuery {
  readonly query: string;
  /** How much of the past is looked at (ms); 0 for one instant. */
  readonly rangeMs: number;
  /** How often it is to be asked (ms). */
  readonly everyMs: number;
}

/** One series of an answer. */
export interface PromqlRow {
  readonly labels: Readonly<Record<string, string>>;
  /** By time. A step at which there was no value, or none that is a number, is not there. */
  readonly samples: readonly Sample[];
}

/** What a query was answered with. */
export interface PromqlAnswer {
  /** The times that it is about (ms): the last is when it was asked, by the clock of whoever asked, or at most a step before. */
  readonly steps: readonly number[];
  readonly rows: readonly PromqlRow[];
}

/** A query that is not answered, and why: missing data. */
export interface PromqlProblem {
  readonly problem: string;
}

/** Most rows of an answer. */
const MAX_ROWS = 10_000;
/** Most steps of a range. */
const MAX_STEPS = 60;
/** A step is no shorter than a common scrape interval (ms), where the range has four of them. */
const COMMON_STEP_MS = 15_000;

/**
 * The times that a query is evaluated at, by time, the last one `now` (ms). They cover the whole range, or a little more: from
 * one to the next are whole seconds, always the same, as the API counts them off itself.
 */
export function stepsOf(rangeMs: number, now: number): number[] {
  if (rangeMs === 0) return [now];
  const finest = Math.max(1_000, rangeMs / MAX_STEPS, Math.min(COMMON_STEP_MS, rangeMs / 4));
  const count = Math.ceil(rangeMs / finest - 1e-9);
  const step = Math.ceil(rangeMs / count / 1_000 - 1e-9) * 1_000;
  return Array.from({ length: count + 1 }, (_, index) => now - (count - index) * step);
}

const labels = z.record(z.string(), z.string());
const point = z.tuple([z.number(), z.string()]);
const histogram = z.tuple([z.number(), z.looseObject({})]);
// A native histogram stands in a field of its own, and instead of a number.
const instantRow = z
  .object({ metric: labels, value: point.optional(), histogram: histogram.optional() })
  .refine((row) => row.value !== undefined || row.histogram !== undefined);
const rangeRow = z
  .object({ metric: labels, values: z.array(point).optional(), histograms: z.array(histogram).optional() })
  .refine((row) => row.values !== undefined || row.histograms !== undefined);
const answerSchema = z.object({
  status: z.literal("success"),
  data: z.discriminatedUnion("resultType", [
    z.object({ resultType: z.literal("vector"), result: z.array(instantRow) }),
    z.object({ resultType: z.literal("matrix"), result: z.array(rangeRow) }),
    z.object({ resultType: z.literal("scalar"), result: point }),
    z.object({ resultType: z.literal("string"), result: point }),
  ]),
  warnings: z.array(z.string()).nullish(),
});

/**
 * Decodes an answer of Prometheus' HTTP API (`/api/v1/query` and `/api/v1/query_range`), as Prometheus, Mimir and Thanos
 * give it, to a query at `steps`. NaN and the infinities are no measurements: their step is without a value, as one that a
 * stale marker has ended. An answer with warnings is partial (Thanos says so of a store that it could not reach): what is
 * not in it may be there all the same.
 *
 * @throws NightshiftError `MALFORMED_JSON`, `TOO_DEEP` or `MALFORMED_ANSWER`.
 */
export function decodePromql(body: Uint8Array, steps: readonly number[]): PromqlAnswer | PromqlProblem {
  const parsed = answerSchema.safeParse(parseJson(body));
  if (!parsed.success) throw malformed("it did not answer as Prometheus does", parsed.error);
  const { data, warnings } = parsed.data;
  const [warning] = warnings ?? [];
  if (warning !== undefined) return { problem: `the answer is partial: ${warning.slice(0, 500)}` };
  if (data.resultType === "scalar" || data.resultType === "string")
    return { problem: `the query gives a ${data.resultType}, which names no target: let it give a vector` };
  if (data.result.length > MAX_ROWS)
    return { problem: `the answer has ${data.result.length} rows, more than ${MAX_ROWS}: narrow the query` };
  if (data.result.some((row) => ("histograms" in row ? (row.histograms ?? []).length > 0 : "histogram" in row)))
    return {
      problem: "the query gives native histograms, which are no numbers: take one of them, as by histogram_quantile or histogram_count",
    };
  const pointsOf = (row: (typeof data.result)[number]) =>
    ("value" in row ? [row.value] : "values" in row ? (row.values ?? []) : []).filter((each) => each !== undefined);
  // One that came twice would fill the gap of one that is not there.
  if (data.result.some((row) => !isByTime(pointsOf(row))))
    throw malformed("it did not answer as Prometheus does: its values are not by time");
  const times = timesOf(data.result.flatMap((row) => pointsOf(row).slice(0, 1))[0], steps);
  const known = new Set(times);
  const samplesOf = (points: readonly z.output<typeof point>[]): Sample[] =>
    points.flatMap(([seconds, text]) => {
      const t = millis(seconds);
      const v = Number(text);
      return !known.has(t) || text.trim() === "" || !Number.isFinite(v) ? [] : [{ t, v }];
    });
  return { steps: times, rows: data.result.map((row) => ({ labels: row.metric, samples: samplesOf(pointsOf(row)) })) };
}

function malformed(what: string, cause?: unknown): NightshiftError {
  return new NightshiftError("MALFORMED_ANSWER", what, {
    fix: "Give the address below which Prometheus' /api/v1/query is, such as http://mimir/prometheus.",
    cause,
  });
}

/** Whether each value is of a later time than the one before it. */
function isByTime(points: readonly (readonly [number, string])[]): boolean {
  return points.every(([seconds], i) => i === 0 || millis(seconds) > millis(points[i - 1]?.[0] ?? Infinity));
}

const millis = (seconds: number): number => Math.round(seconds * 1_000);

/**
 * The times that were evaluated: `steps`, or the multiples of the step before them. A query frontend may move a range there
 * for its cache (Thanos' does by default, `--query-range.align-range-with-step`).
 */
function timesOf(answered: readonly [number, string] | undefined, steps: readonly number[]): readonly number[] {
  const [first = 0, second = first] = steps;
  const step = second - first;
  if (answered === undefined || step === 0 || steps.includes(millis(answered[0]))) return steps;
  const moved = steps.map((t) => t - (t % step));
  return moved.includes(millis(answered[0])) ? moved : steps;
}

const refusalSchema = z.object({ status: z.literal("error"), errorType: z.string().optional(), error: z.string() });

/** What the body of a refusal says; undefined where it does not say it as Prometheus does. */
export function decodePromqlRefusal(body: string): string | undefined {
  let value: unknown;
  try {
    value = parseJson(new TextEncoder().encode(body));
  } catch {
    return undefined;
  }
  const parsed = refusalSchema.safeParse(value);
  return parsed.success ? parsed.data.error.slice(0, 500) : undefined;
}
