import { parseJson } from "../json.ts";
import {
  bounded,
  identityIn,
  int32,
  int64,
  type Json,
  keyValues,
  list,
  milliseconds,
  number,
  object,
  optional,
  text,
  unsigned,
} from "./json-values.ts";
import {
  AttributeSet,
  type Exemplar,
  type ExponentialHistogramPoint,
  type HistogramPoint,
  malformed,
  MAX_EXEMPLARS,
  type Metric,
  type MetricsRequest,
  type NumberPoint,
  type OtlpLimits,
  type PointAttributes,
  type ResourceMetrics,
  type SummedPoint,
  Tally,
  type Temporality,
  type Unscoped,
} from "./model.ts";

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
    return { ...identityIn(resourceMetrics["resource"], limits), metrics };
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
  const summary = part("summary");
  if (summary) return { kind: "Summary", name, unit, points: points(summary, summedPoint), temporality: "Cumulative" };
  return undefined;
}

function numberPoint(point: Json, limits: OtlpLimits): NumberPoint {
  return { ...common(point, limits), value: valueOf(point) };
}

function valueOf(point: Json): number | undefined {
  const double = optional(point["asDouble"]);
  const integer = optional(point["asInt"]);
  return double !== undefined ? number(double, "asDouble") : integer !== undefined ? Number(int64(integer, "asInt")) : undefined;
}

function exemplarOf(exemplar: Json): Exemplar {
  return {
    t: milliseconds(exemplar["timeUnixNano"], "timeUnixNano"),
    value: valueOf(exemplar) ?? 0,
    traceId: text(exemplar["traceId"], "traceId").toLowerCase(),
  };
}

function summedPoint(point: Json, limits: OtlpLimits): SummedPoint {
  const sum = optional(point["sum"]);
  return { ...common(point, limits), count: unsigned(point["count"], "count"), sum: sum === undefined ? undefined : number(sum, "sum") };
}

function histogramPoint(point: Json, limits: OtlpLimits): HistogramPoint {
  const max = optional(point["max"]);
  return {
    ...summedPoint(point, limits),
    counts: bounded(point["bucketCounts"], "bucketCounts", limits).map((count) => unsigned(count, "bucketCounts[]")),
    bounds: bounded(point["explicitBounds"], "explicitBounds", limits).map((bound) => number(bound, "explicitBounds[]")),
    max: max === undefined ? undefined : number(max, "max"),
  };
}

function exponentialPoint(point: Json, limits: OtlpLimits): ExponentialHistogramPoint {
  const positive = object(optional(point["positive"]) ?? {}, "positive");
  return {
    ...summedPoint(point, limits),
    scale: int32(point["scale"], "scale"),
    zeroCount: unsigned(point["zeroCount"], "zeroCount"),
    offset: int32(positive["offset"], "offset"),
    counts: bounded(positive["bucketCounts"], "bucketCounts", limits).map((count) => unsigned(count, "bucketCounts[]")),
  };
}

function common(point: Json, limits: OtlpLimits): PointAttributes & Pick<NumberPoint, "start" | "t" | "noValue" | "exemplars"> {
  const attributes = new AttributeSet(limits);
  for (const [key, value] of keyValues(point["attributes"], limits, 1)) attributes.add(key, value);
  return {
    start: milliseconds(point["startTimeUnixNano"], "startTimeUnixNano"),
    t: milliseconds(point["timeUnixNano"], "timeUnixNano"),
    noValue: (int32(point["flags"], "flags") & 1) !== 0,
    exemplars: list(point["exemplars"], "exemplars")
      .slice(0, MAX_EXEMPLARS)
      .map((item) => exemplarOf(object(item, "exemplars[]"))),
    ...attributes.finish(),
  };
}

function temporalityOf(data: Json): Temporality {
  const value = optional(data["aggregationTemporality"]) ?? 0;
  if (value === 1 || value === "AGGREGATION_TEMPORALITY_DELTA") return "Delta";
  if (value === 2 || value === "AGGREGATION_TEMPORALITY_CUMULATIVE") return "Cumulative";
  if (typeof value !== "number" && typeof value !== "string") throw malformed("aggregationTemporality is neither a number nor a name");
  return "Unspecified";
}
