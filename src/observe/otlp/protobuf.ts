import { WireType } from "@bufbuild/protobuf/wire";
import { ByteCache } from "./byte-cache.ts";
import {
  AttributeSet,
  type Exemplar,
  type ExponentialHistogramPoint,
  type HistogramPoint,
  identityOf,
  MAX_EXEMPLARS,
  type Metric,
  type MetricsRequest,
  NO_ATTRIBUTES,
  type NumberPoint,
  type OtlpLimits,
  type PointAttributes,
  type ResourceMetrics,
  type SummedPoint,
  type Temporality,
  type Unscoped,
} from "./model.ts";
import { decoding, Wire } from "./wire.ts";

/** Bit of a point's flags that says that it has no value. */
const NO_RECORDED_VALUE = 1;
/** Where no attribute begins. */
const NOWHERE = -1;
const NO_EXEMPLARS: readonly Exemplar[] = [];

/** What a decoder remembers from one request to the next. All limits must be the same. */
export class MetricCaches {
  /** Names, units, and attributes of resources. */
  readonly texts = new ByteCache<string>(2_048, 64);
  /** Attributes of points. */
  readonly attributes = new ByteCache<PointAttributes>(8_192, 512);
  /** Bounds of histograms. */
  readonly bounds = new ByteCache<readonly number[]>(256, 1_024);
}

/**
 * Decodes an ExportMetricsServiceRequest from protobuf by hand: only the fields that are read, and nothing of metrics
 * that `wants` declines. Field numbers are those of opentelemetry-proto 1.x. With `caches`, what comes again is not decoded
 * again: most of a request are attributes, and those come with every export.
 *
 * @throws NightshiftError `MALFORMED_OTLP`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeProtobuf(
  body: Uint8Array,
  limits: OtlpLimits,
  wants: (metric: string) => boolean,
  caches?: MetricCaches,
): MetricsRequest {
  return decoding(() => new Decoder(body, limits, wants, caches).request());
}

class Decoder extends Wire {
  readonly #wants: (metric: string) => boolean;
  readonly #caches: MetricCaches | undefined;
  /** Where the attributes of the point at hand begin and end, and whether something else stands between them. */
  #from = NOWHERE;
  #to = NOWHERE;
  #scattered = false;

  constructor(body: Uint8Array, limits: OtlpLimits, wants: (metric: string) => boolean, caches: MetricCaches | undefined) {
    super(body, limits, caches?.texts);
    this.#wants = wants;
    this.#caches = caches;
  }

  request(): MetricsRequest {
    const resources: ResourceMetrics[] = [];
    this.fields(this.reader.len, (field) => {
      if (field !== 1) return false;
      resources.push(this.#resourceMetrics(this.end()));
      return true;
    });
    return { resources, overLimit: this.tally.overLimit };
  }

  #resourceMetrics(end: number): ResourceMetrics {
    this.tally.item();
    const metrics: Metric[] = [];
    let identity = identityOf(new Map());
    this.fields(end, (field) => {
      if (field === 1) identity = this.resource();
      else if (field === 2) this.#scopeMetrics(this.end(), metrics);
      else return false;
      return true;
    });
    return { ...identity, metrics };
  }

  #scopeMetrics(end: number, metrics: Metric[]): void {
    this.tally.item();
    const own: Unscoped[] = [];
    let scope = "";
    this.fields(end, (field) => {
      if (field === 1)
        this.fields(this.end(), (inner) => {
          if (inner !== 1) return false;
          scope = this.text();
          return true;
        });
      else if (field === 2) {
        const metric = this.#metric(this.end());
        if (metric !== undefined) own.push(metric);
      } else return false;
      return true;
    });
    for (const metric of own) metrics.push({ ...metric, scope });
  }

  #metric(end: number): Unscoped | undefined {
    this.tally.item();
    let name = "";
    let unit = "";
    let data: [number, number, number] | undefined;
    // The data may come before the name: it is noted, and decoded once the name is known to be wanted.
    this.fields(end, (field) => {
      switch (field) {
        case 1:
          name = this.text();
          return true;
        case 3:
          unit = this.text();
          return true;
        case 5:
        case 7:
        case 9:
        case 10:
        case 11: {
          const to = this.end();
          data = [field, this.reader.pos, to];
          this.reader.pos = to;
          return true;
        }
        default:
          return false;
      }
    });
    if (data === undefined || !this.#wants(name)) return undefined;
    const [kind, from, to] = data;
    this.reader.pos = from;
    const metric = this.#data(kind, to, name, unit);
    this.reader.pos = end;
    return metric;
  }

  #data(kind: number, end: number, name: string, unit: string): Unscoped {
    const numbers: NumberPoint[] = [];
    const histograms: HistogramPoint[] = [];
    const exponentials: ExponentialHistogramPoint[] = [];
    const summaries: SummedPoint[] = [];
    let temporality: Temporality = "Unspecified";
    let monotonic = false;
    this.fields(end, (field) => {
      if (field === 1) {
        const to = this.end();
        if (!this.tally.point()) this.reader.pos = to;
        else if (kind === 9) histograms.push(this.#histogramPoint(to));
        else if (kind === 10) exponentials.push(this.#exponentialPoint(to));
        else if (kind === 11) summaries.push(this.#summaryPoint(to));
        else numbers.push(this.#numberPoint(to));
        return true;
      }
      if (field === 2 && kind !== 5 && kind !== 11) {
        const value = this.varint();
        temporality = value === 1 ? "Delta" : value === 2 ? "Cumulative" : "Unspecified";
        return true;
      }
      if (field === 3 && kind === 7) {
        monotonic = this.varint() !== 0;
        return true;
      }
      return false;
    });
    if (kind === 5) return { kind: "Gauge", name, unit, points: numbers };
    if (kind === 7) return { kind: "Sum", name, unit, points: numbers, temporality, monotonic };
    if (kind === 9) return { kind: "Histogram", name, unit, points: histograms, temporality };
    if (kind === 11) return { kind: "Summary", name, unit, points: summaries, temporality: "Cumulative" };
    return { kind: "ExponentialHistogram", name, unit, points: exponentials, temporality };
  }

  #numberPoint(end: number): NumberPoint {
    const begin = this.#begin();
    let start = 0;
    let t = 0;
    let value: number | undefined;
    let flags = 0;
    let exemplars: Exemplar[] | undefined;
    while (this.more(end))
      switch (this.field) {
        case 2:
          start = this.milliseconds();
          break;
        case 3:
          t = this.milliseconds();
          break;
        case 4:
          value = this.double();
          break;
        case 6:
          value = this.signed64();
          break;
        case 5:
          if (!this.#exemplars((exemplars ??= []))) this.skip();
          break;
        case 7:
          this.#pass();
          break;
        case 8:
          flags = this.varint();
          break;
        default:
          this.skip();
      }
    const { attributesKey, statusCode, errorType, hintAction, hintSaturation, oversized } = this.#attributes(7, begin, end);
    const noValue = (flags & NO_RECORDED_VALUE) !== 0;
    // Named one by one: a spread takes as long as all of the rest.
    return {
      start,
      t,
      value,
      exemplars: exemplars ?? NO_EXEMPLARS,
      noValue,
      attributesKey,
      statusCode,
      errorType,
      hintAction,
      hintSaturation,
      oversized,
    };
  }

  /** Begins a point, and returns where. */
  #begin(): number {
    this.#from = NOWHERE;
    this.#to = NOWHERE;
    this.#scattered = false;
    return this.reader.pos;
  }

  /** Passes an attribute of the point at hand by: all of them are read together. */
  #pass(): void {
    const at = this.fieldAt;
    this.reader.pos = this.end();
    if (this.#from === NOWHERE) this.#from = at;
    else if (at !== this.#to) this.#scattered = true;
    this.#to = this.reader.pos;
  }

  /** Reads the attributes that were passed by, which are the fields `field` of the point from `begin` to `end`. */
  #attributes(field: number, begin: number, end: number): PointAttributes {
    if (this.#from === NOWHERE) return NO_ATTRIBUTES;
    const from = this.#scattered ? begin : this.#from;
    const to = this.#scattered ? end : this.#to;
    const cache = this.#scattered ? undefined : this.#caches?.attributes;
    const place = cache?.placeOf(this.view, from, to) ?? -1;
    const known = place < 0 ? undefined : cache?.at(place, this.view, from, to);
    if (known !== undefined) return known;
    const set = new AttributeSet(this.limits);
    this.reader.pos = from;
    while (this.more(to)) {
      if (this.field === field) this.attribute(set);
      else this.skip();
    }
    this.reader.pos = end;
    const attributes = set.finish();
    if (place >= 0) cache?.put(place, this.view, from, to, attributes);
    return attributes;
  }

  /** Reads one exemplar more, where there is place for it. */
  #exemplars(into: Exemplar[]): boolean {
    if (into.length >= MAX_EXEMPLARS) return false;
    into.push(this.#exemplar(this.end()));
    return true;
  }

  #exemplar(end: number): Exemplar {
    let t = 0;
    let value = 0;
    let traceId = "";
    this.fields(end, (field) => {
      switch (field) {
        case 2:
          t = this.milliseconds();
          return true;
        case 3:
          value = this.double();
          return true;
        case 5:
          traceId = this.hex();
          return true;
        case 6:
          value = this.signed64();
          return true;
        default:
          return false;
      }
    });
    return { t, value, traceId };
  }

  #histogramPoint(end: number): HistogramPoint {
    const begin = this.#begin();
    const counts: number[] = [];
    let bounds: readonly number[] = [];
    let start = 0;
    let t = 0;
    let count = 0;
    let sum: number | undefined;
    let max: number | undefined;
    let flags = 0;
    let exemplars: Exemplar[] | undefined;
    while (this.more(end))
      switch (this.field) {
        case 2:
          start = this.milliseconds();
          break;
        case 3:
          t = this.milliseconds();
          break;
        case 4:
          count = this.unsigned64();
          break;
        case 5:
          sum = this.double();
          break;
        case 6:
          this.repeated(counts, WireType.Bit64, () => this.readUnsigned64());
          break;
        case 7:
          bounds = this.#bounds(bounds);
          break;
        case 8:
          if (!this.#exemplars((exemplars ??= []))) this.skip();
          break;
        case 9:
          this.#pass();
          break;
        case 10:
          flags = this.varint();
          break;
        case 12:
          max = this.double();
          break;
        default:
          this.skip();
      }
    return {
      start,
      t,
      count,
      sum,
      counts,
      bounds,
      max,
      exemplars: exemplars ?? NO_EXEMPLARS,
      noValue: (flags & NO_RECORDED_VALUE) !== 0,
      ...this.#attributes(9, begin, end),
    };
  }

  /** Reads bounds, after those that were `before` them; the same list for the same bytes where that can be. */
  #bounds(before: readonly number[]): readonly number[] {
    const cache = this.#caches?.bounds;
    if (before.length > 0 || this.wire !== WireType.LengthDelimited || cache === undefined) {
      const bounds = [...before];
      this.repeated(bounds, WireType.Bit64, () => this.reader.double());
      return bounds;
    }
    // Their length is among the bytes.
    const from = this.reader.pos;
    const to = this.end();
    const place = cache.placeOf(this.view, from, to);
    let bounds = place < 0 ? undefined : cache.at(place, this.view, from, to);
    if (bounds === undefined) {
      const read: number[] = [];
      this.reader.pos = from;
      this.repeated(read, WireType.Bit64, () => this.reader.double());
      bounds = read;
      if (place >= 0) cache.put(place, this.view, from, to, bounds);
    }
    this.reader.pos = to;
    return bounds;
  }

  #summaryPoint(end: number): SummedPoint {
    const begin = this.#begin();
    let start = 0;
    let t = 0;
    let count = 0;
    let sum: number | undefined;
    let flags = 0;
    while (this.more(end))
      switch (this.field) {
        case 2:
          start = this.milliseconds();
          break;
        case 3:
          t = this.milliseconds();
          break;
        case 4:
          count = this.unsigned64();
          break;
        case 5:
          sum = this.double();
          break;
        case 7:
          this.#pass();
          break;
        case 8:
          flags = this.varint();
          break;
        default:
          this.skip();
      }
    const noValue = (flags & NO_RECORDED_VALUE) !== 0;
    return { start, t, count, sum, exemplars: NO_EXEMPLARS, noValue, ...this.#attributes(7, begin, end) };
  }

  #exponentialPoint(end: number): ExponentialHistogramPoint {
    const begin = this.#begin();
    const counts: number[] = [];
    let start = 0;
    let t = 0;
    let count = 0;
    let sum: number | undefined;
    let scale = 0;
    let zeroCount = 0;
    let offset = 0;
    let flags = 0;
    let exemplars: Exemplar[] | undefined;
    while (this.more(end))
      switch (this.field) {
        case 1:
          this.#pass();
          break;
        case 2:
          start = this.milliseconds();
          break;
        case 3:
          t = this.milliseconds();
          break;
        case 4:
          count = this.unsigned64();
          break;
        case 5:
          sum = this.double();
          break;
        case 6:
          this.expect(WireType.Varint);
          scale = this.reader.sint32();
          break;
        case 7:
          zeroCount = this.unsigned64();
          break;
        case 8:
          this.fields(this.end(), (inner) => {
            if (inner === 1) {
              this.expect(WireType.Varint);
              offset = this.reader.sint32();
            } else if (inner === 2) this.repeated(counts, WireType.Varint, () => Number(this.reader.uint64()));
            else return false;
            return true;
          });
          break;
        case 10:
          flags = this.varint();
          break;
        case 11:
          if (!this.#exemplars((exemplars ??= []))) this.skip();
          break;
        default:
          this.skip();
      }
    return {
      start,
      t,
      count,
      sum,
      scale,
      zeroCount,
      offset,
      counts,
      exemplars: exemplars ?? NO_EXEMPLARS,
      noValue: (flags & NO_RECORDED_VALUE) !== 0,
      ...this.#attributes(1, begin, end),
    };
  }
}
