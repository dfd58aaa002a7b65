import { parseJson } from "../json.ts";
import {
  identityOf,
  AttributeSet,
  exactInteger,
  malformed,
  sortedMap,
  Tally,
  tooDeep,
  type AttributeValue,
  type ExponentialHistogramPoint,
  type HistogramPoint,
  type Metric,
  type MetricsRequest,
  type NumberPoint,
  type OtlpLimits,
  type PointAttributes,
  type ResourceMetrics,
  type Temporality,
  type Unscoped,
} from "./model.ts";

type Json = Readonly<Record<string, unknown>>;

/**
 * Decodes an ExportMetricsServiceRequest from OTLP/JSON: lowerCamelCase names, 64-bit integers as text or numbers,
 * enumerations as numbers or names, `NaN` and `Infinity` as text, unknown fields ignored, null as absent.
 *
 * @throws NightshiftError `MALFORMED_JSON`, `MALFORMED_OTLP`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeJson(body: Uint8Array, limits: OtlpLimits, wants: (metric: string) => boolean): MetricsRequest {
  const tally = new Tally(limits);
  const root = object(parseJson(body, limits.maxJsonDepth), "the body");
  const resources = list(root["resourceMetrics"], "resourceMetrics").map((item): ResourceMetrics => {
    tally.item();
    const resourceMetrics = object(item, "resourceMetrics[]");
    const identity = new Map<string, string>();
    const resource = optional(resourceMetrics["resource"]);
    if (resource !== undefined)
      for (const [key, value] of keyValues(object(resource, "resource")["attributes"], limits, 1))
        if (typeof value === "string") identity.set(key, value);
    const metrics: Metric[] = [];
    for (const scope of list(resourceMetrics["scopeMetrics"], "scopeMetrics")) {
      tally.item();
      const scopeMetrics = object(scope, "scopeMetrics[]");
      const scopeName = text(object(optional(scopeMetrics["scope"]) ?? {}, "scope")["name"], "scope.name");
      for (const entry of list(scopeMetrics["metrics"], "metrics")) {
        tally.item();
        const metric = decodeMetric(object(entry, "metrics[]"), tally, wants);
        if (metric !== undefined) metrics.push({ ...metric, scope: scopeName });
      }
    }
    return {
      ...identityOf(identity),
      metrics,
    };
  });
  return { resources, overLimit: tally.overLimit };
}

function decodeMetric(metric: Json, tally: Tally, wants: (metric: string) => boolean): Unscoped | undefined {
  const name = text(metric["name"], "name");
  const unit = text(metric["unit"], "unit");
  if (!wants(name)) return undefined;
  const { limits } = tally;
  const points = <P>(data: Json, decode: (point: Json, limits: OtlpLimits) => P): P[] => {
    const decoded: P[] = [];
    for (const point of list(data["dataPoints"], "dataPoints"))
      if (tally.point()) decoded.push(decode(object(point, "dataPoints[]"), limits));
    return decoded;
  };
  const part = (field: string): Json | undefined => {
    const value = optional(metric[field]);
    return value === undefined ? undefined : object(value, field);
  };
  const gauge = part("gauge");
  if (gauge) return { kind: "Gauge", name, unit, points: points(gauge, numberPoint) };
  const sum = part("sum");
  if (sum) {
    const monotonic = optional(sum["isMonotonic"]) ?? false;
    if (typeof monotonic !== "boolean") throw malformed("isMonotonic is no boolean");
    return { kind: "Sum", name, unit, points: points(sum, numberPoint), temporality: temporalityOf(sum), monotonic };
  }
  const histogram = part("histogram");
  if (histogram) return { kind: "Histogram", name, unit, points: points(histogram, histogramPoint), temporality: temporalityOf(histogram) };
  const exponential = part("exponentialHistogram");
  if (exponential) {
    const temporality = temporalityOf(exponential);
    return { kind: "ExponentialHistogram", name, unit, points: points(exponential, exponentialPoint), temporality };
  }
  return undefined;
}

function numberPoint(point: Json, limits: OtlpLimits): NumberPoint {
  const double = optional(point["asDouble"]);
  const integer = optional(point["asInt"]);
  const value = double !== undefined ? number(double, "asDouble") : integer !== undefined ? Number(int64(integer, "asInt")) : undefined;
  return { ...common(point, limits), value };
}

function histogramPoint(point: Json, limits: OtlpLimits): HistogramPoint {
  const max = optional(point["max"]);
  return {
    ...common(point, limits),
    count: unsigned(point["count"], "count"),
    counts: bounded(point["bucketCounts"], "bucketCounts", limits).map((count) => unsigned(count, "bucketCounts[]")),
    bounds: bounded(point["explicitBounds"], "explicitBounds", limits).map((bound) => number(bound, "explicitBounds[]")),
    max: max === undefined ? undefined : number(max, "max"),
  };
}

function exponentialPoint(point: Json, limits: OtlpLimits): ExponentialHistogramPoint {
  const positive = object(optional(point["positive"]) ?? {}, "positive");
  return {
    ...common(point, limits),
    count: unsigned(point["count"], "count"),
    scale: int32(point["scale"], "scale"),
    zeroCount: unsigned(point["zeroCount"], "zeroCount"),
    offset: int32(positive["offset"], "offset"),
    counts: bounded(positive["bucketCounts"], "bucketCounts", limits).map((count) => unsigned(count, "bucketCounts[]")),
  };
}

function common(point: Json, limits: OtlpLimits): PointAttributes & Pick<NumberPoint, "start" | "t" | "noValue"> {
  const attributes = new AttributeSet(limits);
  for (const [key, value] of keyValues(point["attributes"], limits, 1)) attributes.add(key, value);
  return {
    start: milliseconds(point["startTimeUnixNano"], "startTimeUnixNano"),
    t: milliseconds(point["timeUnixNano"], "timeUnixNano"),
    noValue: (int32(point["flags"], "flags") & 1) !== 0,
    ...attributes.finish(),
  };
}

function* keyValues(value: unknown, limits: OtlpLimits, depth: number): Generator<[string, AttributeValue]> {
  for (const item of list(value, "attributes")) {
    const entry = object(item, "attributes[]");
    yield [text(entry["key"], "key"), anyValue(optional(entry["value"]) ?? {}, limits, depth)];
  }
}

function anyValue(value: unknown, limits: OtlpLimits, depth: number): AttributeValue {
  if (depth > limits.maxValueDepth) throw tooDeep(limits.maxValueDepth);
  const any = object(value, "value");
  for (const [field, raw] of Object.entries(any)) {
    if (raw === null) continue;
    switch (field) {
      case "stringValue":
      case "bytesValue":
        return text(raw, field);
      case "boolValue":
        if (typeof raw !== "boolean") throw malformed("boolValue is no boolean");
        return raw;
      case "intValue":
        return exactInteger(int64(raw, field));
      case "doubleValue":
        return number(raw, field);
      case "arrayValue":
        return parts(object(raw, field)["values"], limits).map((item) => anyValue(item, limits, depth + 1));
      case "kvlistValue":
        return sortedMap([...keyValues(parts(object(raw, field)["values"], limits), limits, depth + 1)]);
    }
  }
  return null;
}

function parts(value: unknown, limits: OtlpLimits): readonly unknown[] {
  const values = list(value, "values");
  if (values.length > limits.maxAttributes) throw malformed(`an attribute's value has more than ${limits.maxAttributes} parts`);
  return values;
}

function temporalityOf(data: Json): Temporality {
  const value = optional(data["aggregationTemporality"]) ?? 0;
  if (value === 1 || value === "AGGREGATION_TEMPORALITY_DELTA") return "Delta";
  if (value === 2 || value === "AGGREGATION_TEMPORALITY_CUMULATIVE") return "Cumulative";
  if (typeof value !== "number" && typeof value !== "string") throw malformed("aggregationTemporality is neither a number nor a name");
  return "Unspecified";
}

function optional(value: unknown): unknown {
  return value === null ? undefined : value;
}

function object(value: unknown, what: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(`${what} is no object`);
  return value as Json;
}

function list(value: unknown, what: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw malformed(`${what} is no array`);
  return value;
}

function bounded(value: unknown, what: string, limits: OtlpLimits): readonly unknown[] {
  const values = list(value, what);
  if (values.length > limits.maxBuckets) throw malformed(`a histogram has more than ${limits.maxBuckets} buckets`);
  return values;
}

function text(value: unknown, what: string): string {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string") throw malformed(`${what} is no text`);
  return value;
}

function number(value: unknown, what: string): number {
  if (typeof value === "number") return value;
  if (value === "NaN") return Number.NaN;
  if (value === "Infinity") return Number.POSITIVE_INFINITY;
  if (value === "-Infinity") return Number.NEGATIVE_INFINITY;
  // ProtoJSON lets numbers be written as text, too.
  if (typeof value === "string" && value.trim() !== "" && Number.isFinite(Number(value))) return Number(value);
  throw malformed(`${what} is no number`);
}

/** 20 digits hold every 64-bit integer; more would only make BigInt work. */
const INTEGER = /^-?\d{1,20}$/;

function int64(value: unknown, what: string): bigint {
  if (value === undefined || value === null) return 0n;
  if (typeof value === "number" && Number.isInteger(value) && Math.abs(value) < 2 ** 64) return BigInt(value);
  if (typeof value === "string" && INTEGER.test(value)) return BigInt(value);
  throw malformed(`${what} is no 64-bit integer`);
}

function unsigned(value: unknown, what: string): number {
  const integer = int64(value, what);
  if (integer < 0n) throw malformed(`${what} is negative`);
  return Number(integer);
}

function int32(value: unknown, what: string): number {
  const integer = Number(int64(value, what));
  if (Math.abs(integer) > 4_294_967_295) throw malformed(`${what} is no 32-bit integer`);
  return integer;
}

function milliseconds(value: unknown, what: string): number {
  return Math.floor(unsigned(value, what) / 1e6);
}
