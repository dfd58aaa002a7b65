import assert from "node:assert/strict";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import * as fc from "fast-check";
import { isDeepStrictEqual } from "node:util";
import { NightshiftError } from "../../../src/api/errors.ts";
import { decodeJson } from "../../../src/observe/otlp/json.ts";
import { DEFAULT_OTLP_LIMITS } from "../../../src/observe/otlp/model.ts";
import { decodeLogsJson } from "../../../src/observe/otlp/logs-json.ts";
import { decodeLogsProtobuf } from "../../../src/observe/otlp/logs-protobuf.ts";
import { decodeProtobuf } from "../../../src/observe/otlp/protobuf.ts";
import { decodeTracesJson } from "../../../src/observe/otlp/traces-json.ts";
import { decodeTracesProtobuf } from "../../../src/observe/otlp/traces-protobuf.ts";
import { ACCEPTED, type FuzzTarget } from "../target.ts";

type Scalar =
  | "string"
  | "bytes"
  | "hex"
  | "bool"
  | "double"
  | "fixed64"
  | "sfixed64"
  | "int64"
  | "uint64"
  | "uint32"
  | "fixed32"
  | "sint32"
  | "enum";
/** Number of a field, its type (a scalar's, or a message's name), and whether it is repeated. */
type Field = readonly [no: number, type: string, repeated?: "repeated"];

/** Written down from opentelemetry-proto 1.x, and not from the decoders. `|` stands before the fields of a oneof. */
const SCHEMA: Readonly<Record<string, Readonly<Record<string, Field>>>> = {
  ExportMetricsServiceRequest: { resourceMetrics: [1, "ResourceMetrics", "repeated"] },
  ResourceMetrics: { resource: [1, "Resource"], scopeMetrics: [2, "ScopeMetrics", "repeated"], schemaUrl: [3, "string"] },
  Resource: { attributes: [1, "KeyValue", "repeated"], droppedAttributesCount: [2, "uint32"] },
  ScopeMetrics: { scope: [1, "InstrumentationScope"], metrics: [2, "Metric", "repeated"], schemaUrl: [3, "string"] },
  InstrumentationScope: { name: [1, "string"], version: [2, "string"], attributes: [3, "KeyValue", "repeated"] },
  Metric: {
    name: [1, "string"],
    description: [2, "string"],
    unit: [3, "string"],
    "|gauge": [5, "Gauge"],
    "|sum": [7, "Sum"],
    "|histogram": [9, "Histogram"],
    "|exponentialHistogram": [10, "ExponentialHistogram"],
    "|summary": [11, "Summary"],
  },
  Gauge: { dataPoints: [1, "NumberDataPoint", "repeated"] },
  Sum: { dataPoints: [1, "NumberDataPoint", "repeated"], aggregationTemporality: [2, "enum"], isMonotonic: [3, "bool"] },
  Histogram: { dataPoints: [1, "HistogramDataPoint", "repeated"], aggregationTemporality: [2, "enum"] },
  ExponentialHistogram: { dataPoints: [1, "ExponentialHistogramDataPoint", "repeated"], aggregationTemporality: [2, "enum"] },
  Summary: { dataPoints: [1, "SummaryDataPoint", "repeated"] },
  NumberDataPoint: {
    attributes: [7, "KeyValue", "repeated"],
    startTimeUnixNano: [2, "fixed64"],
    timeUnixNano: [3, "fixed64"],
    "|asDouble": [4, "double"],
    "|asInt": [6, "sfixed64"],
    exemplars: [5, "Exemplar", "repeated"],
    flags: [8, "uint32"],
  },
  HistogramDataPoint: {
    attributes: [9, "KeyValue", "repeated"],
    startTimeUnixNano: [2, "fixed64"],
    timeUnixNano: [3, "fixed64"],
    count: [4, "fixed64"],
    sum: [5, "double"],
    bucketCounts: [6, "fixed64", "repeated"],
    explicitBounds: [7, "double", "repeated"],
    exemplars: [8, "Exemplar", "repeated"],
    flags: [10, "uint32"],
    min: [11, "double"],
    max: [12, "double"],
  },
  ExponentialHistogramDataPoint: {
    attributes: [1, "KeyValue", "repeated"],
    startTimeUnixNano: [2, "fixed64"],
    timeUnixNano: [3, "fixed64"],
    count: [4, "fixed64"],
    sum: [5, "double"],
    scale: [6, "sint32"],
    zeroCount: [7, "fixed64"],
    positive: [8, "Buckets"],
    negative: [9, "Buckets"],
    flags: [10, "uint32"],
    min: [12, "double"],
    max: [13, "double"],
    zeroThreshold: [14, "double"],
  },
  Buckets: { offset: [1, "sint32"], bucketCounts: [2, "uint64", "repeated"] },
  SummaryDataPoint: { attributes: [7, "KeyValue", "repeated"], timeUnixNano: [3, "fixed64"], count: [4, "fixed64"], sum: [5, "double"] },
  Exemplar: {
    filteredAttributes: [7, "KeyValue", "repeated"],
    timeUnixNano: [2, "fixed64"],
    "|asDouble": [3, "double"],
    "|asInt": [6, "sfixed64"],
    spanId: [4, "hex"],
    traceId: [5, "hex"],
  },
  KeyValue: { key: [1, "string"], value: [2, "AnyValue"] },
  AnyValue: {
    "|stringValue": [1, "string"],
    "|boolValue": [2, "bool"],
    "|intValue": [3, "int64"],
    "|doubleValue": [4, "double"],
    "|arrayValue": [5, "ArrayValue"],
    "|kvlistValue": [6, "KeyValueList"],
    "|bytesValue": [7, "bytes"],
  },
  ArrayValue: { values: [1, "AnyValue", "repeated"] },
  KeyValueList: { values: [1, "KeyValue", "repeated"] },
  ExportTraceServiceRequest: { resourceSpans: [1, "ResourceSpans", "repeated"] },
  ResourceSpans: { resource: [1, "Resource"], scopeSpans: [2, "ScopeSpans", "repeated"], schemaUrl: [3, "string"] },
  ScopeSpans: { scope: [1, "InstrumentationScope"], spans: [2, "Span", "repeated"], schemaUrl: [3, "string"] },
  Span: {
    traceId: [1, "hex"],
    spanId: [2, "hex"],
    traceState: [3, "string"],
    parentSpanId: [4, "hex"],
    name: [5, "string"],
    kind: [6, "enum"],
    startTimeUnixNano: [7, "fixed64"],
    endTimeUnixNano: [8, "fixed64"],
    attributes: [9, "KeyValue", "repeated"],
    droppedAttributesCount: [10, "uint32"],
    events: [11, "Event", "repeated"],
    links: [13, "Link", "repeated"],
    status: [15, "Status"],
    flags: [16, "fixed32"],
  },
  Event: { timeUnixNano: [1, "fixed64"], name: [2, "string"], attributes: [3, "KeyValue", "repeated"] },
  Link: { traceId: [1, "hex"], spanId: [2, "hex"], attributes: [4, "KeyValue", "repeated"] },
  Status: { message: [2, "string"], code: [3, "enum"] },
  ExportLogsServiceRequest: { resourceLogs: [1, "ResourceLogs", "repeated"] },
  ResourceLogs: { resource: [1, "Resource"], scopeLogs: [2, "ScopeLogs", "repeated"], schemaUrl: [3, "string"] },
  ScopeLogs: { scope: [1, "InstrumentationScope"], logRecords: [2, "LogRecord", "repeated"], schemaUrl: [3, "string"] },
  LogRecord: {
    timeUnixNano: [1, "fixed64"],
    severityNumber: [2, "enum"],
    severityText: [3, "string"],
    body: [5, "AnyValue"],
    attributes: [6, "KeyValue", "repeated"],
    droppedAttributesCount: [7, "uint32"],
    flags: [8, "fixed32"],
    traceId: [9, "hex"],
    spanId: [10, "hex"],
    observedTimeUnixNano: [11, "fixed64"],
    eventName: [12, "string"],
  },
};

type Json = string | number | boolean | Json[] | { [key: string]: Json };
type Message = { [key: string]: Json };

const KEYS = [
  "service.name",
  "service.namespace",
  "service.instance.id",
  "k8s.pod.uid",
  "http.response.status_code",
  "error.type",
  "db.system",
  "peer.service",
  "server.address",
  "",
];
const text = fc.oneof(
  fc.constantFrom(...KEYS, "payments", "http.server.request.duration"),
  fc.string({ unit: "grapheme", maxLength: 8 }),
  fc.constant("x".repeat(1_100)),
);
const bigint = (min: bigint, max: bigint): fc.Arbitrary<string> =>
  fc.oneof(fc.bigInt({ min, max }), fc.constantFrom(min, max, 0n, 1n, 2n ** 53n + 1n)).map(String);
/** As ProtoJSON writes it: numbers that JSON has none for are texts. Minus zero has no number there either, and is left out. */
const double = fc
  .oneof(fc.double(), fc.constantFrom(NaN, Infinity, -Infinity, 1e308, 5e-324))
  .map((v): Json => (Object.is(v, -0) ? 0 : Number.isFinite(v) ? v : String(v)));

const SCALARS: Readonly<Record<Scalar, fc.Arbitrary<Json>>> = {
  string: text,
  bytes: fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes).toString("base64")),
  hex: fc.constantFrom("0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7", "", "00"),
  bool: fc.boolean(),
  double,
  fixed64: fc.oneof(bigint(0n, 2n ** 64n - 1n), fc.constantFrom("1800000000000000000", "0")),
  uint64: bigint(0n, 2n ** 64n - 1n),
  sfixed64: bigint(-(2n ** 63n), 2n ** 63n - 1n),
  int64: bigint(-(2n ** 63n), 2n ** 63n - 1n),
  uint32: fc.oneof(fc.nat(3), fc.constantFrom(2 ** 32 - 1)),
  fixed32: fc.nat(3),
  sint32: fc.oneof(fc.integer({ min: -12, max: 22 }), fc.integer()),
  enum: fc.nat(6),
};

const isScalar = (type: string): type is Scalar => Object.hasOwn(SCALARS, type);

/** Values of a message, some of its fields left out. A message deep inside another is empty. */
function messageOf(type: string, depth = 0): fc.Arbitrary<Message> {
  const fields = Object.entries(SCHEMA[type] ?? assert.fail(type));
  const valueOf = ([, fieldType, repeated]: Field): fc.Arbitrary<Json> => {
    const one: fc.Arbitrary<Json> = isScalar(fieldType)
      ? SCALARS[fieldType]
      : depth > 9
        ? fc.constant({})
        : fc.constant(null).chain(() => messageOf(fieldType, depth + 1));
    return repeated === undefined ? one : fc.array(one, { maxLength: 3 });
  };
  const plain = fields.filter(([name]) => !name.startsWith("|"));
  const choices = fields.filter(([name]) => name.startsWith("|"));
  const record = fc.record(Object.fromEntries(plain.map(([name, field]) => [name, valueOf(field)])), {
    requiredKeys: [],
  }) as fc.Arbitrary<Message>;
  if (choices.length === 0) return record;
  const choice = fc.option(
    fc.oneof(...choices.map(([name, field]) => valueOf(field).map((value): Message => ({ [name.slice(1)]: value })))),
    { nil: {}, freq: 8 },
  );
  return fc.tuple(record, choice).map(([some, one]) => ({ ...some, ...one }));
}

const PACKED: ReadonlySet<string> = new Set(["double", "fixed64", "uint64"]);

function scalar(w: BinaryWriter, type: Scalar, value: Json): void {
  const number = Number(value);
  const one: Readonly<Record<Scalar, () => unknown>> = {
    string: () => w.string(value as string),
    bytes: () => w.bytes(Buffer.from(value as string, "base64")),
    hex: () => w.bytes(Buffer.from(value as string, "hex")),
    bool: () => w.bool(value as boolean),
    double: () => w.double(number),
    fixed64: () => w.fixed64(BigInt(value as string)),
    uint64: () => w.uint64(BigInt(value as string)),
    sfixed64: () => w.sfixed64(BigInt(value as string)),
    int64: () => w.int64(BigInt(value as string)),
    uint32: () => w.uint32(number),
    fixed32: () => w.fixed32(number),
    sint32: () => w.sint32(number),
    enum: () => w.int32(number),
  };
  one[type]();
}

const WIRE: Readonly<Partial<Record<Scalar, WireType>>> = {
  string: WireType.LengthDelimited,
  bytes: WireType.LengthDelimited,
  hex: WireType.LengthDelimited,
  double: WireType.Bit64,
  fixed64: WireType.Bit64,
  sfixed64: WireType.Bit64,
  fixed32: WireType.Bit32,
};

/** Writes a message in protobuf. */
function write(w: BinaryWriter, type: string, message: Message): void {
  const schema = SCHEMA[type] ?? assert.fail(type);
  for (const [name, value] of Object.entries(message)) {
    const [no, fieldType, repeated] = schema[name] ?? schema[`|${name}`] ?? assert.fail(`${type}.${name}`);
    const values = repeated === undefined ? [value] : (value as Json[]);
    if (isScalar(fieldType) && repeated !== undefined && PACKED.has(fieldType)) {
      w.tag(no, WireType.LengthDelimited).fork();
      for (const each of values) scalar(w, fieldType, each);
      w.join();
      continue;
    }
    for (const each of values) {
      w.tag(no, isScalar(fieldType) ? (WIRE[fieldType] ?? WireType.Varint) : WireType.LengthDelimited);
      if (isScalar(fieldType)) scalar(w, fieldType, each);
      else {
        w.fork();
        write(w, fieldType, each as Message);
        w.join();
      }
    }
  }
}

function outcome(decode: () => unknown): unknown {
  try {
    return decode();
  } catch (error) {
    if (error instanceof NightshiftError) return error.code;
    throw error;
  }
}

/** The same message in both encodings means the same. The input is the message as JSON. */
function alike(
  name: string,
  type: string,
  fromJson: (body: Uint8Array) => unknown,
  fromProtobuf: (body: Uint8Array) => unknown,
): FuzzTarget {
  return {
    name,
    // What the schema has no field for would not be compared: these are messages of the schema.
    seeds: [Buffer.from("{}")],
    inputs: messageOf(type).map((message) => Buffer.from(JSON.stringify(message))),
    check(input) {
      const message = JSON.parse(Buffer.from(input).toString()) as Message;
      const writer = new BinaryWriter();
      write(writer, type, message);
      const json = outcome(() => fromJson(input));
      const protobuf = outcome(() => fromProtobuf(writer.finish()));
      assert.ok(isDeepStrictEqual(protobuf, json), `${JSON.stringify(protobuf)} in protobuf is ${JSON.stringify(json)} in JSON`);
      return typeof json === "string" ? json : ACCEPTED;
    },
  };
}

const all = (): boolean => true;
export const otlpMetricsAlike = alike(
  "otlp-metrics-alike",
  "ExportMetricsServiceRequest",
  (body) => decodeJson(body, DEFAULT_OTLP_LIMITS, all),
  (body) => decodeProtobuf(body, DEFAULT_OTLP_LIMITS, all),
);
export const otlpTracesAlike = alike(
  "otlp-traces-alike",
  "ExportTraceServiceRequest",
  (body) => decodeTracesJson(body, DEFAULT_OTLP_LIMITS),
  (body) => decodeTracesProtobuf(body, DEFAULT_OTLP_LIMITS),
);
const KEYS_ASKED = new Set(KEYS);
export const otlpLogsAlike = alike(
  "otlp-logs-alike",
  "ExportLogsServiceRequest",
  (body) => decodeLogsJson(body, DEFAULT_OTLP_LIMITS, KEYS_ASKED),
  (body) => decodeLogsProtobuf(body, DEFAULT_OTLP_LIMITS, KEYS_ASKED),
);
