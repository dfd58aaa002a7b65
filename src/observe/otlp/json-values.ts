import {
  type AttributeValue,
  exactInteger,
  type Identity,
  identityOf,
  identityText,
  malformed,
  type OtlpLimits,
  sortedMap,
  tooDeep,
} from "./model.ts";

/** An object of JSON. */
export type Json = Readonly<Record<string, unknown>>;

/** Who sent it, by what is under `resource`. */
export function identityIn(resource: unknown, limits: OtlpLimits): Identity {
  const attributes = new Map<string, string>();
  for (const [key, value] of keyValues(object(optional(resource) ?? {}, "resource")["attributes"], limits, 1)) {
    const known = identityText(key, value);
    if (known !== undefined) attributes.set(key, known);
  }
  return identityOf(attributes);
}

export function* keyValues(value: unknown, limits: OtlpLimits, depth: number): Generator<[string, AttributeValue]> {
  for (const item of list(value, "attributes")) {
    const entry = object(item, "attributes[]");
    yield [text(entry["key"], "key"), anyValue(optional(entry["value"]) ?? {}, limits, depth)];
  }
}

export function anyValue(value: unknown, limits: OtlpLimits, depth: number): AttributeValue {
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

export function parts(value: unknown, limits: OtlpLimits): readonly unknown[] {
  const values = list(value, "values");
  if (values.length > limits.maxAttributes) throw malformed(`an attribute's value has more than ${limits.maxAttributes} parts`);
  return values;
}

export function optional(value: unknown): unknown {
  return value === null ? undefined : value;
}

export function object(value: unknown, what: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(`${what} is no object`);
  return value as Json;
}

export function list(value: unknown, what: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw malformed(`${what} is no array`);
  return value;
}

export function bounded(value: unknown, what: string, limits: OtlpLimits): readonly unknown[] {
  const values = list(value, what);
  if (values.length > limits.maxBuckets) throw malformed(`a histogram has more than ${limits.maxBuckets} buckets`);
  return values;
}

export function text(value: unknown, what: string): string {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string") throw malformed(`${what} is no text`);
  return value;
}

export function number(value: unknown, what: string): number {
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

export function int64(value: unknown, what: string): bigint {
  if (value === undefined || value === null) return 0n;
  if (typeof value === "number" && Number.isInteger(value) && Math.abs(value) < 2 ** 64) return BigInt(value);
  if (typeof value === "string" && INTEGER.test(value)) return BigInt(value);
  throw malformed(`${what} is no 64-bit integer`);
}

export function unsigned(value: unknown, what: string): number {
  const integer = int64(value, what);
  if (integer < 0n) throw malformed(`${what} is negative`);
  return Number(integer);
}

export function int32(value: unknown, what: string): number {
  const integer = Number(int64(value, what));
  if (Math.abs(integer) > 4_294_967_295) throw malformed(`${what} is no 32-bit integer`);
  return integer;
}

export function milliseconds(value: unknown, what: string): number {
  return Math.floor(unsigned(value, what) / 1e6);
}
