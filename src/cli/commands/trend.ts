import type { Command } from "commander";
import { NightshiftError } from "../../api/errors.ts";
import { parseQuantity } from "../../api/units.ts";
import { analyseTrend, bytes, percentText, rate, seconds, type TrendResult } from "../../orient/trend.ts";
import type { Point } from "../../orient/statistics.ts";

/** What `trend --json` prints. */
export interface TrendReport {
  readonly leaking: boolean;
  /** Growth of the floor, bytes per second. */
  readonly slopePerSecond: number;
  /** Seconds from the newest reading until the limit is reached; null where it is not leaking. */
  readonly secondsToLimit: number | null;
  /** Confidence that it is a leak, 0 to 1. */
  readonly confidence: number;
  readonly reason: string;
}

/** Most readings that are held at once. Beyond it neighbours are merged into the lowest of them: the floor is what counts. */
const MAX_POINTS = 200_000;
/** Longest line, in characters: what is longer is no reading. */
const MAX_LINE = 65_536;

/** Readings in bounded memory: when there are too many, equal spans of time keep their lowest one each. */
export class FloorBuffer {
  readonly #max: number;
  #points: Point[] = [];

  /** `max`: most readings held, at least 4. */
  constructor(max: number = MAX_POINTS) {
    this.#max = Math.max(4, max);
  }

  get points(): readonly Point[] {
    return this.#points;
  }

  add(point: Point): void {
    this.#points.push(point);
    if (this.#points.length >= this.#max) this.#merge();
  }

  #merge(): void {
    let first = Infinity;
    let last = -Infinity;
    for (const { t } of this.#points) {
      first = Math.min(first, t);
      last = Math.max(last, t);
    }
    const spans = Math.floor(this.#max / 2);
    const lowest = new Map<number, Point>();
    for (const point of this.#points) {
      const span = last === first ? 0 : Math.min(spans - 1, Math.floor(((point.t - first) / (last - first)) * spans));
      const known = lowest.get(span);
      if (known === undefined || point.v < known.v || (point.v === known.v && point.t < known.t)) lowest.set(span, point);
    }
    this.#points = [...lowest.values()];
  }
}

/** Reads `{"t": seconds, "v": bytes}` from a line; throws `BAD_LINE` with its number. */
function readingOf(line: string, number: number): Point {
  const bad = (message: string, cause?: unknown): NightshiftError =>
    new NightshiftError("BAD_LINE", message, {
      where: `stdin, line ${number}`,
      fix: 'Write one reading a line, such as {"t": 1700000000, "v": 104857600}.',
      ...(cause === undefined ? {} : { cause }),
    });
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw bad(`not JSON: ${line.length > 60 ? `${line.slice(0, 60)}...` : line}`, cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad("expected an object with t and v");
  const { t, v } = value as { t?: unknown; v?: unknown };
  for (const [key, field] of [
    ["t", t],
    ["v", v],
  ] as const)
    if (typeof field !== "number" || !Number.isFinite(field))
      throw bad(
        `${key} is ${field === undefined ? "missing" : JSON.stringify(field)}${typeof field === "number" ? ", too large" : ""}, expected a number`,
      );
  return { t: (t as number) * 1000, v: v as number };
}

/**
 * Reads readings, one JSON object a line, in bounded memory. Blank lines and a byte order mark are skipped, unknown fields
 * are let pass. Rejects with `BAD_LINE`, which names the line.
 */
export async function readSeries(chunks: AsyncIterable<string>, buffer: FloorBuffer = new FloorBuffer()): Promise<FloorBuffer> {
  let number = 0;
  let rest = "";
  const take = (line: string): void => {
    number++;
    const text = (number === 1 ? line.replace(/^\uFEFF/, "") : line).trim();
    if (text !== "") buffer.add(readingOf(text, number));
  };
  for await (const chunk of chunks) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
    if (rest.length > MAX_LINE)
      throw new NightshiftError("BAD_LINE", `longer than ${MAX_LINE} characters`, {
        where: `stdin, line ${number + 1}`,
        fix: "Write one reading a line.",
      });
  }
  if (rest.trim() !== "") take(rest);
  return buffer;
}

/** What is printed with `--json`. */
export function reportOf(result: TrendResult): TrendReport {
  return {
    leaking: result.leaking,
    slopePerSecond: result.slopePerSecond,
    secondsToLimit: result.secondsToLimit ?? null,
    confidence: result.confidence,
    reason: result.reason,
  };
}

/** What is printed for people. */
function textOf(result: TrendResult, points: readonly Point[], limit: number): string {
  const lines = [
    `${result.leaking ? "LEAK" : "no leak"}: ${result.reason}`,
    `  slope       ${rate(result.slopePerSecond)}`,
    `  limit       ${bytes(limit)}${result.secondsToLimit === undefined ? "" : `, reached in ${seconds(result.secondsToLimit)}`}`,
    `  confidence  ${percentText(result.confidence)} that it is a leak`,
  ];
  let first = Infinity;
  let last = -Infinity;
  for (const { t } of points) {
    first = Math.min(first, t);
    last = Math.max(last, t);
  }
  if (points.length > 0) lines.push(`  looked at   ${points.length} readings over ${seconds((last - first) / 1000)}`);
  return `${lines.join("\n")}\n`;
}

const HELP = `
Reads lines {"t": seconds, "v": bytes} on stdin, in any order; other fields are ignored. Memory stays bounded: beyond
${MAX_POINTS.toLocaleString("en-US")} readings neighbours are merged, and the lowest of them is kept.

--json prints {"leaking", "slopePerSecond", "secondsToLimit", "confidence", "reason"}; secondsToLimit is null without a leak.

Examples:
  $ nightshift trend --limit 256Mi < memory.ndjson
  $ nightshift trend --limit 268435456 --json < memory.ndjson | jq .leaking
  $ promtool query range ... -o json | jq -c '.[0].values[] | {t: .[0], v: (.[1] | tonumber)}' | nightshift trend --limit 1Gi

Exit status:
  0  the series was analysed, whether it leaks or not
  2  a line is no reading, or the command was called wrongly`;

/** Adds `trend` to the program. */
export function register(program: Command): void {
  program
    .command("trend")
    .description("tell whether a series of memory readings is a leak, and when it reaches its limit")
    .requiredOption("--limit <quantity>", "the limit: bytes, or a quantity such as 256Mi")
    .option("--json", "print one JSON document")
    .addHelpText("after", HELP)
    .action(async (options: { limit: string; json?: boolean }) => {
      try {
        const limit = parseQuantity(options.limit);
        if (limit === undefined || limit <= 0)
          throw new NightshiftError("INVALID_LIMIT", `not a limit: ${JSON.stringify(options.limit)}`, {
            where: "--limit",
            fix: "Give bytes above zero, such as 268435456 or 256Mi.",
          });
        process.stdin.setEncoding("utf8");
        const { points } = await readSeries(process.stdin as AsyncIterable<string>);
        const result = analyseTrend(points, { limit });
        process.stdout.write(options.json === true ? `${JSON.stringify(reportOf(result))}\n` : textOf(result, points, limit));
      } catch (error) {
        if (!(error instanceof NightshiftError)) throw error;
        if (options.json === true) process.stdout.write(`${JSON.stringify({ error })}\n`);
        process.stderr.write(`nightshift: ${error.toString()}\n`);
        process.exitCode = 2;
      }
    });
}
