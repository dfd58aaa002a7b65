import { WireType } from "@bufbuild/protobuf/wire";
import {
  AttributeSet,
  type Exemplar,
  type ExponentialHistogramPoint,
  type HistogramPoint,
  identityOf,
  MAX_EXEMPLARS,
  type Metric,
  type MetricsRequest,
  type NumberPoint,
  type OtlpLimits,
  type ResourceMetrics,
  type SummedPoint,
  type Temporality,
  type Unscoped,
} from "./model.ts";
import { decoding, Wire } from "./wire.ts";

/** Bit of a point's flags that says that it has no value. */
const NO_RECORDED_VALUE = 1;
const NO_EXEMPLARS: readonly Exemplar[] = [];

/**
 * Decodes an ExportMetricsServiceRequest from protobuf by hand: only the fields that are read, and nothing of metrics
 * that `wants` declines. Field numbers are those of opentelemetry-proto 1.x.
 *
 * @throws NightshiftError `MALFORMED_OTLP`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeProtobuf(body: Uint8Array, limits: OtlpLimits, wants: (metric: string) => boolean): MetricsRequest {
  return decoding(() => new Decoder(body, limits, wants).request());
}

class Decoder extends Wire {
  readonly #wants: (metric: string) => boolean;

  constructor(body: Uint8Array, limits: OtlpLimits, wants: (metric: string) => boolean) {
    super(body, limits);
    this.#wants = wants;
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
    const attributes = new AttributeSet(this.limits);
    let start = 0;
    let t = 0;
    let value: number | undefined;
    let flags = 0;
    let exemplars: Exemplar[] | undefined;
    this.fields(end, (field) => {
      switch (field) {
        case 2:
          start = this.milliseconds();
          return true;
        case 3:
          t = this.milliseconds();
          return true;
        case 4:
          value = this.double();
          return true;
        case 6:
          value = this.signed64();
          return true;
        case 5:
          return this.#exemplars((exemplars ??= []));
        case 7:
          this.attribute(attributes);
          return true;
        case 8:
          flags = this.varint();
          return true;
        default:
          return false;
      }
    });
    return {
      start,
      t,
      value,
      exemplars: exemplars ?? NO_EXEMPLARS,
      noValue: (flags & NO_RECORDED_VALUE) !== 0,
      ...attributes.finish(),
    };
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
    const attributes = new AttributeSet(this.limits);
    const counts: number[] = [];
    const bounds: number[] = [];
    let start = 0;
    let t = 0;
    let count = 0;
    let sum: number | undefined;
    let max: number | undefined;
    let flags = 0;
    let exemplars: Exemplar[] | undefined;
    this.fields(end, (field) => {
      switch (field) {
        case 2:
          start = this.milliseconds();
          return true;
        case 3:
          t = this.milliseconds();
          return true;
        case 4:
          count = this.unsigned64();
          return true;
        case 5:
          sum = this.double();
          return true;
        case 6:
          this.repeated(counts, WireType.Bit64, () => this.readUnsigned64());
          return true;
        case 7:
          this.repeated(bounds, WireType.Bit64, () => this.reader.double());
          return true;
        case 8:
          return this.#exemplars((exemplars ??= []));
        case 9:
          this.attribute(attributes);
          return true;
        case 10:
          flags = this.varint();
          return true;
        case 12:
          max = this.double();
          return true;
        default:
          return false;
      }
    });
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
      ...attributes.finish(),
    };
  }

  #summaryPoint(end: number): SummedPoint {
    const attributes = new AttributeSet(this.limits);
    let start = 0;
    let t = 0;
    let count = 0;
    let sum: number | undefined;
    let flags = 0;
    this.fields(end, (field) => {
      switch (field) {
        case 2:
          start = this.milliseconds();
          return true;
        case 3:
          t = this.milliseconds();
          return true;
        case 4:
          count = this.unsigned64();
          return true;
        case 5:
          sum = this.double();
          return true;
        case 7:
          this.attribute(attributes);
          return true;
        case 8:
          flags = this.varint();
          return true;
        default:
          return false;
      }
    });
    return { start, t, count, sum, exemplars: NO_EXEMPLARS, noValue: (flags & NO_RECORDED_VALUE) !== 0, ...attributes.finish() };
  }

  #exponentialPoint(end: number): ExponentialHistogramPoint {
    const attributes = new AttributeSet(this.limits);
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
    this.fields(end, (field) => {
      switch (field) {
        case 1:
          this.attribute(attributes);
          return true;
        case 2:
          start = this.milliseconds();
          return true;
        case 3:
          t = this.milliseconds();
          return true;
        case 4:
          count = this.unsigned64();
          return true;
        case 5:
          sum = this.double();
          return true;
        case 6:
          this.expect(WireType.Varint);
          scale = this.reader.sint32();
          return true;
        case 7:
          zeroCount = this.unsigned64();
          return true;
        case 8:
          this.fields(this.end(), (inner) => {
            if (inner === 1) {
              this.expect(WireType.Varint);
              offset = this.reader.sint32();
            } else if (inner === 2) this.repeated(counts, WireType.Varint, () => Number(this.reader.uint64()));
            else return false;
            return true;
          });
          return true;
        case 10:
          flags = this.varint();
          return true;
        case 11:
          return this.#exemplars((exemplars ??= []));
        default:
          return false;
      }
    });
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
      ...attributes.finish(),
    };
  }
}
