import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { NightshiftError } from "../../api/errors.ts";
import type { ByteCache } from "./byte-cache.ts";
import {
  type AttributeSet,
  type AttributeValue,
  exactInteger,
  type Identity,
  identityOf,
  identityText,
  isIdentity,
  malformed,
  type OtlpLimits,
  sortedMap,
  Tally,
  tooDeep,
} from "./model.ts";

const WIRE_TYPES = [
  WireType.Varint,
  WireType.Bit64,
  WireType.LengthDelimited,
  WireType.StartGroup,
  WireType.EndGroup,
  WireType.Bit32,
] as const;
const TWO_32 = 4_294_967_296;

/** Runs a decoder, and tells what its reader trips over as a malformed body. */
export function decoding<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (error instanceof NightshiftError) throw error;
    throw malformed(`the body is no protobuf message: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

/** What the decoders of OTLP's messages have in common: fields, attributes and resources from protobuf, within bounds. */
export abstract class Wire {
  protected readonly reader: BinaryReader;
  protected readonly view: DataView;
  protected readonly limits: OtlpLimits;
  protected readonly tally: Tally;
  /** Wire type, number and beginning of the field that is being read. */
  protected wire: WireType = WireType.Varint;
  protected field = 0;
  protected fieldAt = 0;
  readonly #texts: ByteCache<string> | undefined;

  /** @param texts - short texts that were read before. */
  constructor(body: Uint8Array, limits: OtlpLimits, texts?: ByteCache<string>) {
    this.reader = new BinaryReader(body);
    this.view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    this.limits = limits;
    this.tally = new Tally(limits);
    this.#texts = texts;
  }

  /** Reads a Resource: of its attributes those that say who sent it. */
  protected resource(): Identity {
    const attributes = new Map<string, string>();
    this.fields(this.end(), (field) => {
      if (field !== 1) return false;
      const set = (key: string, value: AttributeValue): void => {
        const known = identityText(key, value);
        if (known !== undefined) attributes.set(key, known);
      };
      this.keyValue(this.end(), set, isIdentity);
      return true;
    });
    return identityOf(attributes);
  }

  /**
   * Reads a request for spans or log records: for each resource what `read` makes of its items, each up to where it ends; undefined for
   * one of which nothing is kept.
   */
  protected itemsByResource<T>(read: (end: number) => T | undefined): { readonly identity: Identity; readonly items: readonly T[] }[] {
    const resources: { readonly identity: Identity; readonly items: readonly T[] }[] = [];
    this.fields(this.reader.len, (field) => {
      if (field !== 1) return false;
      this.tally.item();
      const items: T[] = [];
      let identity = identityOf(new Map());
      this.fields(this.end(), (part) => {
        if (part === 1) identity = this.resource();
        else if (part === 2) {
          this.tally.item();
          this.fields(this.end(), (inner) => {
            if (inner !== 2) return false;
            const to = this.end();
            const item = this.tally.point() ? read(to) : undefined;
            if (item !== undefined) items.push(item);
            this.reader.pos = to;
            return true;
          });
        } else return false;
        return true;
      });
      resources.push({ identity, items });
      return true;
    });
    return resources;
  }

  attribute(attributes: AttributeSet): void {
    this.keyValue(this.end(), (key, value) => attributes.add(key, value));
  }

  /** Reads a KeyValue. The value of a key that `wanted` declines is skipped. */
  protected keyValue(end: number, found: (key: string, value: AttributeValue) => void, wanted?: (key: string) => boolean, depth = 1): void {
    let key = "";
    let value: AttributeValue = null;
    this.fields(end, (field) => {
      if (field === 1) {
        key = this.text();
        return true;
      }
      if (field !== 2 || (wanted !== undefined && !wanted(key))) return false;
      value = this.anyValue(this.end(), depth);
      return true;
    });
    found(key, value);
  }

  protected anyValue(end: number, depth: number): AttributeValue {
    if (depth > this.limits.maxValueDepth) throw tooDeep(this.limits.maxValueDepth);
    let value: AttributeValue = null;
    this.fields(end, (field) => {
      switch (field) {
        case 1:
          value = this.text();
          return true;
        case 2:
          value = this.varint() !== 0;
          return true;
        case 3:
          this.expect(WireType.Varint);
          value = exactInteger(BigInt(this.reader.int64()));
          return true;
        case 4:
          value = this.double();
          return true;
        case 5: {
          const list: AttributeValue[] = [];
          this.fields(this.end(), (inner) => {
            if (inner !== 1) return false;
            this.room(list);
            list.push(this.anyValue(this.end(), depth + 1));
            return true;
          });
          value = list;
          return true;
        }
        case 6: {
          const entries: [string, AttributeValue][] = [];
          this.fields(this.end(), (inner) => {
            if (inner !== 1) return false;
            this.room(entries);
            this.keyValue(this.end(), (key, item) => void entries.push([key, item]), undefined, depth + 1);
            return true;
          });
          value = sortedMap(entries);
          return true;
        }
        case 7:
          this.expect(WireType.LengthDelimited);
          value = Buffer.from(this.reader.bytes()).toString("base64");
          return true;
        default:
          return false;
      }
    });
    return value;
  }

  protected room(list: readonly unknown[]): void {
    if (list.length >= this.limits.maxAttributes) throw malformed(`an attribute's value has more than ${this.limits.maxAttributes} parts`);
  }

  /** Calls `read` for each field up to `end`; a field for which it answers false is skipped. */
  protected fields(end: number, read: (field: number) => boolean): void {
    while (this.more(end)) if (!read(this.field)) this.skip();
  }

  /** Whether there is a field more up to `end`; reads what it is. What `fields` does, without a call for each field. */
  protected more(end: number): boolean {
    const { reader } = this;
    if (reader.pos >= end) {
      if (reader.pos !== end) throw malformed("a field runs over the end of its message");
      return false;
    }
    this.fieldAt = reader.pos;
    const tag = reader.uint32();
    const wire = WIRE_TYPES[tag & 7];
    this.field = tag >>> 3;
    if (this.field === 0 || wire === undefined) throw malformed(`no field has the tag ${tag}`);
    this.wire = wire;
    return true;
  }

  /** Passes by the field that was met, of which nothing has been read. */
  protected skip(): void {
    this.reader.skip(this.wire, this.field);
  }

  protected expect(wire: WireType): void {
    if (this.wire !== wire) throw malformed(`a field has wire type ${this.wire} instead of ${wire}`);
  }

  /** Where the length-delimited field at hand ends. */
  protected end(): number {
    this.expect(WireType.LengthDelimited);
    const length = this.reader.uint32();
    const end = this.reader.pos + length;
    if (end > this.reader.len) throw malformed("a field is longer than the message");
    return end;
  }

  protected text(): string {
    const { reader, view } = this;
    const texts = this.#texts;
    this.expect(WireType.LengthDelimited);
    if (texts === undefined) return reader.string();
    const before = reader.pos;
    const to = this.end();
    const from = reader.pos;
    const place = texts.placeOf(view, from, to);
    const known = place < 0 ? undefined : texts.at(place, view, from, to);
    if (known !== undefined) {
      reader.pos = to;
      return known;
    }
    reader.pos = before;
    const text = reader.string();
    if (place >= 0) texts.put(place, view, from, to, text);
    return text;
  }

  /** The id of a trace or span. */
  protected hex(): string {
    this.expect(WireType.LengthDelimited);
    const bytes = this.reader.bytes();
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
  }

  protected varint(): number {
    this.expect(WireType.Varint);
    return this.reader.uint32();
  }

  protected double(): number {
    this.expect(WireType.Bit64);
    return this.reader.double();
  }

  protected unsigned64(): number {
    this.expect(WireType.Bit64);
    return this.readUnsigned64();
  }

  /** Without BigInt, which is ten times slower. Exact to 2^53, then to the nearest double. */
  protected readUnsigned64(): number {
    const low = this.reader.fixed32();
    return this.reader.fixed32() * TWO_32 + low;
  }

  protected signed64(): number {
    this.expect(WireType.Bit64);
    const low = this.reader.fixed32();
    return this.reader.sfixed32() * TWO_32 + low;
  }

  protected milliseconds(): number {
    return Math.floor(this.unsigned64() / 1e6);
  }

  /** A repeated number, packed or not. */
  protected repeated(into: number[], wire: WireType, read: () => number): void {
    const add = (): void => {
      if (into.length >= this.limits.maxBuckets) throw malformed(`a histogram has more than ${this.limits.maxBuckets} buckets`);
      into.push(read());
    };
    if (this.wire === wire) return add();
    const end = this.end();
    while (this.reader.pos < end) add();
    if (this.reader.pos !== end) throw malformed("a packed field runs over its end");
  }
}
