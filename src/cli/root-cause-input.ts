import { open } from "node:fs/promises";
import { NightshiftError } from "../api/errors.ts";
import type { CallEdge } from "../orient/root-cause.ts";
import type { Incident } from "../orient/root-cause-change.ts";
import type { MetricSeries } from "../orient/root-cause-series.ts";

/** Largest file that is read, in bytes: some 25 million readings. */
const MAX_BYTES = 512 * 2 ** 20;
const GRAPH_SHAPE = 'Write {"edges": [{"from": "a", "to": "b"}]}, where a calls b.';
const SERIES_SHAPE = 'Write {"service": "a", "metric": "latency_p99", "unit": "ms", "points": [[1700000000, 12.5]]}.';
const POINT_SHAPE = "Write a point as [time, value]: seconds or milliseconds since the epoch or an ISO 8601 text, and a number or null.";
const INCIDENT_SHAPE = 'Write "incident": {"start": 1700000000, "end": 1700003600}: times as in the points. All before start is baseline.';

/** Reads a file whole, if it is not too large. Rejects with `NO_SUCH_FILE`, `FILE_UNREADABLE` or `INPUT_TOO_LARGE`. */
export async function readBounded(path: string, maxBytes: number = MAX_BYTES): Promise<Buffer> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size > maxBytes) throw tooLarge(path, maxBytes);
    // A pipe has no size: room is made as it comes, and never for more than the bound.
    let bytes = Buffer.allocUnsafeSlow(Math.min(maxBytes, Math.max(size, 65_536)) + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(bytes, length, bytes.length - length, null);
      length += bytesRead;
      if (bytesRead === 0) return bytes.subarray(0, length);
      if (length > maxBytes) throw tooLarge(path, maxBytes);
      if (length === bytes.length) {
        const larger = Buffer.allocUnsafeSlow(Math.min(maxBytes + 1, 2 * bytes.length));
        bytes.copy(larger);
        bytes = larger;
      }
    }
  } catch (cause) {
    if (cause instanceof NightshiftError) throw cause;
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new NightshiftError(missing ? "NO_SUCH_FILE" : "FILE_UNREADABLE", missing ? "no such file" : "the file cannot be read", {
      where: path,
      fix: missing ? "Check the path." : "Name a file, and check its permissions.",
      cause,
    });
  }
}

const tooLarge = (path: string, maxBytes: number): NightshiftError =>
  new NightshiftError("INPUT_TOO_LARGE", `larger than ${Math.floor(maxBytes / 2 ** 20)} MiB`, {
    where: path,
    fix: "Leave out services that the target does not call, or take fewer readings a minute.",
  });

/** Reads `graph.json`. Throws `NOT_JSON` or `INVALID_GRAPH`, which name the place. */
export function parseGraph(bytes: Buffer, file: string): CallEdge[] {
  const bad = (at: string, message: string): NightshiftError =>
    new NightshiftError("INVALID_GRAPH", message, { where: `${file}${at === "" ? "" : `: ${at}`}`, fix: GRAPH_SHAPE });
  const value = parseJson(bytes, file).value;
  if (!isObject(value)) throw bad("", `expected an object with edges, found ${kindOf(value)}`);
  const { edges } = value;
  if (!Array.isArray(edges)) throw bad("edges", edges === undefined ? "is missing" : `expected a list, found ${kindOf(edges)}`);
  return edges.map((edge: unknown, i) => {
    if (!isObject(edge)) throw bad(`edges[${i}]`, `expected an object with from and to, found ${kindOf(edge)}`);
    for (const key of ["from", "to"])
      if (typeof edge[key] !== "string" || edge[key] === "")
        throw bad(
          `edges[${i}].${key}`,
          edge[key] === undefined
            ? `is missing${Object.keys(edge).length === 0 ? "" : `; the edge has ${Object.keys(edge).slice(0, 5).join(", ")}`}`
            : `expected the name of a service, found ${kindOf(edge[key])}`,
        );
    return { from: edge["from"] as string, to: edge["to"] as string };
  });
}

/** Reads `metrics.json`. Throws `NOT_JSON` or `INVALID_METRICS`, which name the place. */
export function parseMetrics(bytes: Buffer, file: string): { series: MetricSeries[]; incident: Incident } {
  const bad = (at: string, message: string, fix: string): NightshiftError =>
    new NightshiftError("INVALID_METRICS", message, { where: `${file}${at === "" ? "" : `: ${at}`}`, fix });
  const { value, points } = parseJson(bytes, file);
  if (!isObject(value))
    throw bad("", `expected an object with series and incident, found ${kindOf(value)}`, `${SERIES_SHAPE} ${INCIDENT_SHAPE}`);
  if (!Array.isArray(value["series"]))
    throw bad("series", value["series"] === undefined ? "is missing" : `expected a list, found ${kindOf(value["series"])}`, SERIES_SHAPE);
  const time = (from: unknown, at: string, fix: string): number => {
    const t = timeOf(from);
    if (t === undefined) throw bad(at, from === undefined ? "is missing" : `expected a time, found ${kindOf(from)}`, fix);
    return t;
  };
  const series = (value["series"] as unknown[]).map((one, i): MetricSeries => {
    const at = `series[${i}]`;
    if (!isObject(one)) throw bad(at, `expected an object, found ${kindOf(one)}`, SERIES_SHAPE);
    for (const key of ["service", "metric"])
      if (typeof one[key] !== "string" || one[key] === "")
        throw bad(`${at}.${key}`, one[key] === undefined ? "is missing" : `expected a text, found ${kindOf(one[key])}`, SERIES_SHAPE);
    const { unit } = one;
    if (unit !== undefined && unit !== null && typeof unit !== "string")
      throw bad(`${at}.unit`, `expected a text, found ${kindOf(unit)}`, SERIES_SHAPE);
    const named = { service: one["service"] as string, metric: one["metric"] as string, unit: unit ?? undefined };
    const list = one["points"] ?? [];
    const read = isObject(list) ? points.get(list[MARK] as number) : undefined;
    if (read !== undefined) return { ...named, ...read };
    if (!Array.isArray(list)) throw bad(`${at}.points`, `expected a list, found ${kindOf(list)}`, POINT_SHAPE);
    const times = new Float64Array(list.length);
    const values = new Float64Array(list.length);
    list.forEach((point: unknown, j) => {
      const where = `${at}.points[${j}]`;
      times[j] = values[j] = NaN;
      if (point === null) return;
      if (!Array.isArray(point) || point.length > 2 || point.length === 0)
        throw bad(where, `expected [time, value], found ${kindOf(point)}`, POINT_SHAPE);
      const v = valueOf(point[1]);
      if (v === undefined) throw bad(`${where}[1]`, `expected a number or null, found ${kindOf(point[1])}`, POINT_SHAPE);
      times[j] = time(point[0], `${where}[0]`, POINT_SHAPE);
      values[j] = v;
    });
    return { ...named, times, values };
  });
  const { incident } = value;
  if (!isObject(incident))
    throw bad("incident", incident === undefined ? "is missing" : `expected an object, found ${kindOf(incident)}`, INCIDENT_SHAPE);
  const start = time(incident["start"], "incident.start", INCIDENT_SHAPE);
  // One that is not over goes on until the newest reading.
  const end = incident["end"] === undefined || incident["end"] === null ? Infinity : time(incident["end"], "incident.end", INCIDENT_SHAPE);
  if (end < start) throw bad("incident.end", "lies before incident.start", INCIDENT_SHAPE);
  return { series, incident: { start, end } };
}

/**
 * Milliseconds of a time. A number below 1e11 is seconds (until the year 5138), below 1e14 milliseconds (from 1973 on), below
 * 1e17 microseconds, and else nanoseconds.
 */
function timeOf(value: unknown): number | undefined {
  if (typeof value === "number") return milliseconds(value);
  if (typeof value !== "string" || value.trim() === "") return undefined;
  const number = Number(value);
  if (Number.isFinite(number)) return milliseconds(number);
  // Without a zone a time is UTC: what is meant must not depend on the machine.
  const parsed = Date.parse(
    /\d[T ]\d\d:\d\d/.test(value) && !/(Z|[+-]\d\d:?\d\d)$/i.test(value.trim()) ? `${value.trim().replace(" ", "T")}Z` : value,
  );
  return Number.isNaN(parsed) ? undefined : parsed;
}

function milliseconds(t: number): number | undefined {
  const size = Math.abs(t);
  if (!Number.isFinite(size)) return undefined;
  return size < 1e11 ? t * 1000 : size < 1e14 ? t : size < 1e17 ? t / 1000 : t / 1e6;
}

/** A reading's value; NaN where it is missing, undefined where it is none. */
function valueOf(value: unknown): number | undefined {
  if (value === null || value === undefined || value === "") return NaN;
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value !== "string") return undefined;
  const number = Number(value);
  return /^[+-]?(nan|inf(inity)?)$/i.test(value.trim()) ? NaN : Number.isNaN(number) ? undefined : number;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

function kindOf(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** The key of what stands in for a list of points that was read already. */
const MARK = "@points";

interface Parsed {
  readonly value: unknown;
  readonly points: ReadonlyMap<number, { times: Float64Array; values: Float64Array }>;
}

/**
 * Parses JSON. Lists of points are nearly all of a large file, and `JSON.parse` would make an array of each reading: those that
 * are plainly numbers are read straight into typed arrays first, three times as fast, and what is left is parsed as usual. Where
 * anything else is among them, the list is left to `JSON.parse`. Values are exact to some 15 digits. NaN and Infinity, which
 * Python writes, are null.
 */
function parseJson(bytes: Buffer, file: string): Parsed {
  const points = new Map<number, { times: Float64Array; values: Float64Array }>();
  const kept: string[] = [];
  let from = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  if (!bytes.includes(MARK)) {
    const scan = new PointScanner(bytes);
    for (let key = bytes.indexOf('"points"', from); key >= 0; key = bytes.indexOf('"points"', key + 8)) {
      // A backslash before it: the end of a text, not a key.
      const list = bytes[key - 1] === 0x5c ? undefined : scan.list(key + 8);
      if (list === undefined) continue;
      kept.push(bytes.toString("utf8", from, key), `"points":{"${MARK}":${points.size}}`);
      points.set(points.size, { times: list.times, values: list.values });
      from = list.end;
      key = list.end - 8;
    }
  }
  let text: string;
  try {
    kept.push(bytes.toString("utf8", from));
    text = kept.join("");
  } catch (cause) {
    throw tooLong(file, cause);
  }
  try {
    return { value: JSON.parse(text) as unknown, points };
  } catch (cause) {
    const finite = withoutNaN(text);
    try {
      if (finite !== text) return { value: JSON.parse(finite) as unknown, points };
    } catch {
      // Not that alone: the first error says what is wrong.
    }
    throw new NightshiftError("NOT_JSON", `not JSON: ${cause instanceof Error ? cause.message.slice(0, 200) : String(cause)}`, {
      where: file,
      fix: "Check the file with a JSON tool such as jq.",
      cause,
    });
  }
}

const tooLong = (file: string, cause: unknown): NightshiftError =>
  new NightshiftError("INPUT_TOO_LARGE", "too long for one text", {
    where: file,
    fix: "Write points as [number, number], or fewer of them.",
    cause,
  });

const withoutNaN = (text: string): string =>
  text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (found) => (found.startsWith('"') ? found : "null"));

/** Reads `: [[1, 2], [3, null], ...]` from bytes. */
class PointScanner {
  readonly #bytes: Buffer;
  #at = 0;
  #times = new Float64Array(2048);
  #values = new Float64Array(2048);

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** The list that follows a key ending at `at`, and where it ends; undefined where it is not of that form. */
  list(at: number): { times: Float64Array; values: Float64Array; end: number } | undefined {
    this.#at = at;
    if (!this.#take(0x3a) || !this.#take(0x5b)) return undefined;
    let count = 0;
    if (!this.#take(0x5d))
      for (;;) {
        if (!this.#take(0x5b)) return undefined;
        const t = this.#number();
        if (t === undefined || !this.#take(0x2c)) return undefined;
        const v = this.#number();
        if (v === undefined || !this.#take(0x5d)) return undefined;
        const ms = milliseconds(t);
        if (ms === undefined) return undefined;
        if (count === this.#times.length) this.#grow();
        this.#times[count] = ms;
        this.#values[count] = v;
        count++;
        if (this.#take(0x5d)) break;
        if (!this.#take(0x2c)) return undefined;
      }
    return { times: this.#times.slice(0, count), values: this.#values.slice(0, count), end: this.#at };
  }

  #grow(): void {
    const times = new Float64Array(2 * this.#times.length);
    const values = new Float64Array(2 * this.#values.length);
    times.set(this.#times);
    values.set(this.#values);
    this.#times = times;
    this.#values = values;
  }

  /** Skips blanks, and the given byte if it comes next. */
  #take(byte: number): boolean {
    const bytes = this.#bytes;
    let at = this.#at;
    let b = bytes[at];
    while (b === 0x20 || b === 0x0a || b === 0x0d || b === 0x09) b = bytes[++at];
    this.#at = b === byte ? at + 1 : at;
    return b === byte;
  }

  /** A number, or NaN for `null` and `NaN`; undefined for anything else. The grammar is JSON's. */
  #number(): number | undefined {
    const bytes = this.#bytes;
    let at = this.#at;
    let b = bytes[at];
    while (b === 0x20 || b === 0x0a || b === 0x0d || b === 0x09) b = bytes[++at];
    if (b === 0x6e || b === 0x4e) {
      const word = b === 0x6e ? "null" : "NaN";
      if (bytes.toString("latin1", at, at + word.length) !== word) return undefined;
      this.#at = at + word.length;
      return NaN;
    }
    const negative = b === 0x2d;
    if (negative) b = bytes[++at];
    const first = at;
    let mantissa = 0;
    while (b !== undefined && b >= 0x30 && b <= 0x39) {
      mantissa = mantissa * 10 + (b - 0x30);
      b = bytes[++at];
    }
    const digits = at - first;
    if (digits === 0 || (digits > 1 && bytes[first] === 0x30)) return undefined;
    let exponent = 0;
    if (b === 0x2e) {
      b = bytes[++at];
      const point = at;
      while (b !== undefined && b >= 0x30 && b <= 0x39) {
        mantissa = mantissa * 10 + (b - 0x30);
        b = bytes[++at];
      }
      exponent = point - at;
      if (exponent === 0) return undefined;
    }
    if (b === 0x65 || b === 0x45) {
      b = bytes[++at];
      const down = b === 0x2d;
      if (down || b === 0x2b) b = bytes[++at];
      const begin = at;
      let power = 0;
      while (b !== undefined && b >= 0x30 && b <= 0x39) {
        power = power * 10 + (b - 0x30);
        b = bytes[++at];
      }
      if (at === begin) return undefined;
      exponent += down ? -power : power;
    }
    this.#at = at;
    // Beyond these powers of ten a product is not exact: as JSON.parse reads it.
    if (exponent < -22 || exponent > 22) return Number(bytes.toString("latin1", negative ? first - 1 : first, at));
    const size = exponent < 0 ? mantissa / (POWERS[-exponent] as number) : mantissa * (POWERS[exponent] as number);
    return negative ? -size : size;
  }
}

/** Powers of ten that are exact. */
const POWERS: readonly number[] = Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));
