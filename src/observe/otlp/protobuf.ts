import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  identityOf,
  isIdentity,
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
  type ResourceMetrics,
  type Temporality,
  type Unscoped,
} from "./model.ts";
import { NightshiftError } from "../../api/errors.ts";

/** Bit of a point's flags that says that it has no value. */
const NO_RECORDED_VALUE = 1;
const WIRE_TYPES = [
  WireType.Varint,
  WireType.Bit64,
  WireType.LengthDelimited,
  WireType.StartGroup,
  WireType.EndGroup,
  WireType.Bit32,
] as const;
const TWO_32 = 4_294_967_296;

/**
 * Decodes an ExportMetricsServiceRequest from protobuf by hand: only the fields that are read, and nothing of metrics
 * that `wants` declines. Field numbers are those of opentelemetry-proto 1.x.
 *
 * @throws NightshiftError `MALFORMED_OTLP`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeProtobuf(body: Uint8Array, limits: OtlpLimits, wants: (metric: string) => boolean): MetricsRequest {
  const decoder = new Decoder(body, limits, wants);
  try {
    return decoder.request();
  } catch (error) {
    if (error instanceof NightshiftError) throw error;
    throw malformed(`the body is no protobuf message: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

class Decoder {
  readonly #reader: BinaryReader;
  readonly #limits: OtlpLimits;
  readonly #wants: (metric: string) => boolean;
  readonly #tally: Tally;
  /** Wire type of the field that is being read. */
  #wire: WireType = WireType.Varint;

  constructor(body: Uint8Array, limits: OtlpLimits, wants: (metric: string) => boolean) {
    this.#reader = new BinaryReader(body);
    this.#limits = limits;
    this.#wants = wants;
    this.#tally = new Tally(limits);
  }

  request(): MetricsRequest {
    const resources: ResourceMetrics[] = [];
    this.#fields(this.#reader.len, (field) => {
      if (field !== 1) return false;
      resources.push(this.#resourceMetrics(this.#end()));
      return true;
    });
    return { resources, overLimit: this.#tally.overLimit };
  }

  #resourceMetrics(end: number): ResourceMetrics {
    this.#tally.item();
    const metrics: Metric[] = [];
    const identity = new Map<string, string>();
    this.#fields(end, (field) => {
      if (field === 1)
        this.#fields(this.#end(), (inner) => {
          if (inner !== 1) return false;
          this.#keyValue(this.#end(), (key, value) => void (typeof value === "string" && identity.set(key, value)), isIdentity);
          return true;
        });
      else if (field === 2) this.#scopeMetrics(this.#end(), metrics);
      else return false;
      return true;
    });
    return {
      ...identityOf(identity),
      metrics,
    };
  }

  #scopeMetrics(end: number, metrics: Metric[]): void {
    this.#tally.item();
    const own: Unscoped[] = [];
    let scope = "";
    this.#fields(end, (field) => {
      if (field === 1)
        this.#fields(this.#end(), (inner) => {
          if (inner !== 1) return false;
          scope = this.#text();
          return true;
        });
      else if (field === 2) {
        const metric = this.#metric(this.#end());
        if (metric !== undefined) own.push(metric);
      } else return false;
      return true;
    });
    for (const metric of own) metrics.push({ ...metric, scope });
  }

  #metric(end: number): Unscoped | undefined {
    this.#tally.item();
    let name = "";
    let unit = "";
    let data: [number, number, number] | undefined;
    // The data may come before the name: it is noted, and decoded once the name is known to be wanted.
    this.#fields(end, (field) => {
      switch (field) {
        case 1:
          name = this.#text();
          return true;
        case 3:
          unit = this.#text();
          return true;
        case 5:
        case 7:
        case 9:
        case 10: {
          const to = this.#end();
          data = [field, this.#reader.pos, to];
          this.#reader.pos = to;
          return true;
        }
        default:
          return false;
      }
    });
    if (data === undefined || !this.#wants(name)) return undefined;
    const [kind, from, to] = data;
    this.#reader.pos = from;
    const metric = this.#data(kind, to, name, unit);
    this.#reader.pos = end;
    return metric;
  }

  #data(kind: number, end: number, name: string, unit: string): Unscoped {
    const numbers: NumberPoint[] = [];
    const histograms: HistogramPoint[] = [];
    const exponentials: ExponentialHistogramPoint[] = [];
    let temporality: Temporality = "Unspecified";
    let monotonic = false;
    this.#fields(end, (field) => {
      if (field === 1) {
        const to = this.#end();
        if (!this.#tally.point()) this.#reader.pos = to;
        else if (kind === 9) histograms.push(this.#histogramPoint(to));
        else if (kind === 10) exponentials.push(this.#exponentialPoint(to));
        else numbers.push(this.#numberPoint(to));
        return true;
      }
      if (field === 2 && kind !== 5) {
        const value = this.#varint();
        temporality = value === 1 ? "Delta" : value === 2 ? "Cumulative" : "Unspecified";
        return true;
      }
      if (field === 3 && kind === 7) {
        monotonic = this.#varint() !== 0;
        return true;
      }
      return false;
    });
    if (kind === 5) return { kind: "Gauge", name, unit, points: numbers };
    if (kind === 7) return { kind: "Sum", name, unit, points: numbers, temporality, monotonic };
    if (kind === 9) return { kind: "Histogram", name, unit, points: histograms, temporality };
    return { kind: "ExponentialHistogram", name, unit, points: exponentials, temporality };
  }

  #numberPoint(end: number): NumberPoint {
    const attributes = new AttributeSet(this.#limits);
    let start = 0;
    let t = 0;
    let value: number | undefined;
    let flags = 0;
    this.#fields(end, (field) => {
      switch (field) {
        case 2:
          start = this.#milliseconds();
          return true;
        case 3:
          t = this.#milliseconds();
          return true;
        case 4:
          value = this.#double();
          return true;
        case 6:
          value = this.#signed64();
          return true;
        case 7:
          this.#attribute(attributes);
          return true;
        case 8:
          flags = this.#varint();
          return true;
        default:
          return false;
      }
    });
    return { start, t, value, noValue: (flags & NO_RECORDED_VALUE) !== 0, ...attributes.finish() };
  }

  #histogramPoint(end: number): HistogramPoint {
    const attributes = new AttributeSet(this.#limits);
    const counts: number[] = [];
    const bounds: number[] = [];
    let start = 0;
    let t = 0;
    let count = 0;
    let max: number | undefined;
    let flags = 0;
    this.#fields(end, (field) => {
      switch (field) {
        case 2:
          start = this.#milliseconds();
          return true;
        case 3:
          t = this.#milliseconds();
          return true;
        case 4:
          count = this.#unsigned64();
          return true;
        case 6:
          this.#repeated(counts, WireType.Bit64, () => this.#readUnsigned64());
          return true;
        case 7:
          this.#repeated(bounds, WireType.Bit64, () => this.#reader.double());
          return true;
        case 9:
          this.#attribute(attributes);
          return true;
        case 10:
          flags = this.#varint();
          return true;
        case 12:
          max = this.#double();
          return true;
        default:
          return false;
      }
    });
    return { start, t, count, counts, bounds, max, noValue: (flags & NO_RECORDED_VALUE) !== 0, ...attributes.finish() };
  }

  #exponentialPoint(end: number): ExponentialHistogramPoint {
    const attributes = new AttributeSet(this.#limits);
    const counts: number[] = [];
    let start = 0;
    let t = 0;
    let count = 0;
    let scale = 0;
    let zeroCount = 0;
    let offset = 0;
    let flags = 0;
    this.#fields(end, (field) => {
      switch (field) {
        case 1:
          this.#attribute(attributes);
          return true;
        case 2:
          start = this.#milliseconds();
          return true;
        case 3:
          t = this.#milliseconds();
          return true;
        case 4:
          count = this.#unsigned64();
          return true;
        case 6:
          this.#expect(WireType.Varint);
          scale = this.#reader.sint32();
          return true;
        case 7:
          zeroCount = this.#unsigned64();
          return true;
        case 8:
          this.#fields(this.#end(), (inner) => {
            if (inner === 1) {
              this.#expect(WireType.Varint);
              offset = this.#reader.sint32();
            } else if (inner === 2) this.#repeated(counts, WireType.Varint, () => Number(this.#reader.uint64()));
            else return false;
            return true;
          });
          return true;
        case 10:
          flags = this.#varint();
          return true;
        default:
          return false;
      }
    });
    return { start, t, count, scale, zeroCount, offset, counts, noValue: (flags & NO_RECORDED_VALUE) !== 0, ...attributes.finish() };
  }

  #attribute(attributes: AttributeSet): void {
    this.#keyValue(this.#end(), (key, value) => attributes.add(key, value));
  }

  /** Reads a KeyValue. The value of a key that `wanted` declines is skipped. */
  #keyValue(end: number, found: (key: string, value: AttributeValue) => void, wanted?: (key: string) => boolean, depth = 1): void {
    let key = "";
    let value: AttributeValue = null;
    this.#fields(end, (field) => {
      if (field === 1) {
        key = this.#text();
        return true;
      }
      if (field !== 2 || (wanted !== undefined && !wanted(key))) return false;
      value = this.#anyValue(this.#end(), depth);
      return true;
    });
    found(key, value);
  }

  #anyValue(end: number, depth: number): AttributeValue {
    if (depth > this.#limits.maxValueDepth) throw tooDeep(this.#limits.maxValueDepth);
    let value: AttributeValue = null;
    this.#fields(end, (field) => {
      switch (field) {
        case 1:
          value = this.#text();
          return true;
        case 2:
          value = this.#varint() !== 0;
          return true;
        case 3:
          this.#expect(WireType.Varint);
          value = exactInteger(BigInt(this.#reader.int64()));
          return true;
        case 4:
          value = this.#double();
          return true;
        case 5: {
          const list: AttributeValue[] = [];
          this.#fields(this.#end(), (inner) => {
            if (inner !== 1) return false;
            this.#room(list);
            list.push(this.#anyValue(this.#end(), depth + 1));
            return true;
          });
          value = list;
          return true;
        }
        case 6: {
          const entries: [string, AttributeValue][] = [];
          this.#fields(this.#end(), (inner) => {
            if (inner !== 1) return false;
            this.#room(entries);
            this.#keyValue(this.#end(), (key, item) => void entries.push([key, item]), undefined, depth + 1);
            return true;
          });
          value = sortedMap(entries);
          return true;
        }
        case 7:
          this.#expect(WireType.LengthDelimited);
          value = Buffer.from(this.#reader.bytes()).toString("base64");
          return true;
        default:
          return false;
      }
    });
    return value;
  }

  #room(list: readonly unknown[]): void {
    if (list.length >= this.#limits.maxAttributes)
      throw malformed(`an attribute's value has more than ${this.#limits.maxAttributes} parts`);
  }

  /** Calls `read` for each field up to `end`; a field for which it answers false is skipped. */
  #fields(end: number, read: (field: number) => boolean): void {
    const reader = this.#reader;
    while (reader.pos < end) {
      const tag = reader.uint32();
      const field = tag >>> 3;
      const wire = WIRE_TYPES[tag & 7];
      if (field === 0 || wire === undefined) throw malformed(`no field has the tag ${tag}`);
      this.#wire = wire;
      if (!read(field)) reader.skip(wire, field);
    }
    if (reader.pos !== end) throw malformed("a field runs over the end of its message");
  }

  #expect(wire: WireType): void {
    if (this.#wire !== wire) throw malformed(`a field has wire type ${this.#wire} instead of ${wire}`);
  }

  /** Where the length-delimited field at hand ends. */
  #end(): number {
    this.#expect(WireType.LengthDelimited);
    const length = this.#reader.uint32();
    const end = this.#reader.pos + length;
    if (end > this.#reader.len) throw malformed("a field is longer than the message");
    return end;
  }

  #text(): string {
    this.#expect(WireType.LengthDelimited);
    return this.#reader.string();
  }

  #varint(): number {
    this.#expect(WireType.Varint);
    return this.#reader.uint32();
  }

  #double(): number {
    this.#expect(WireType.Bit64);
    return this.#reader.double();
  }

  #unsigned64(): number {
    this.#expect(WireType.Bit64);
    return this.#readUnsigned64();
  }

  /** Without BigInt, which is ten times slower. Exact to 2^53, then to the nearest double. */
  #readUnsigned64(): number {
    const low = this.#reader.fixed32();
    return this.#reader.fixed32() * TWO_32 + low;
  }

  #signed64(): number {
    this.#expect(WireType.Bit64);
    const low = this.#reader.fixed32();
    return this.#reader.sfixed32() * TWO_32 + low;
  }

  #milliseconds(): number {
    return Math.floor(this.#unsigned64() / 1e6);
  }

  /** A repeated number, packed or not. */
  #repeated(into: number[], wire: WireType, read: () => number): void {
    const add = (): void => {
      if (into.length >= this.#limits.maxBuckets) throw malformed(`a histogram has more than ${this.#limits.maxBuckets} buckets`);
      into.push(read());
    };
    if (this.#wire === wire) return add();
    const end = this.#end();
    while (this.#reader.pos < end) add();
    if (this.#reader.pos !== end) throw malformed("a packed field runs over its end");
  }
}
