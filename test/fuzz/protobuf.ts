import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import * as fc from "fast-check";
import { MAX_INPUT, withChanges } from "./bytes.ts";

/** A field of a message of whatever schema, as it is on the wire. */
interface Field {
  readonly no: number;
  readonly wire: WireType;
  readonly value: bigint | Uint8Array | Message;
}
type Message = readonly Field[];

/** Reads bytes as a message, and what may be messages in it as such; undefined where they are none. */
function messageOf(bytes: Uint8Array, depth = 0): Message | undefined {
  const reader = new BinaryReader(bytes);
  const fields: Field[] = [];
  try {
    while (reader.pos < reader.len) {
      const [no, wire] = reader.tag();
      if (wire === WireType.Varint) fields.push({ no, wire, value: BigInt.asUintN(64, BigInt(reader.uint64())) });
      else if (wire === WireType.Bit64) fields.push({ no, wire, value: BigInt.asUintN(64, BigInt(reader.fixed64())) });
      else if (wire === WireType.Bit32) fields.push({ no, wire, value: BigInt(reader.fixed32()) });
      else if (wire === WireType.LengthDelimited) {
        const part = reader.bytes();
        fields.push({ no, wire, value: (depth < 12 && part.length > 0 ? messageOf(part, depth + 1) : undefined) ?? part });
      } else return undefined;
    }
  } catch {
    return undefined;
  }
  return fields;
}

function write(writer: BinaryWriter, message: Message): void {
  for (const { no, wire, value } of message) {
    writer.tag(no, wire);
    if (value instanceof Uint8Array) writer.bytes(value);
    else if (typeof value === "bigint") {
      if (wire === WireType.Bit64) writer.fixed64(value);
      else if (wire === WireType.Bit32) writer.fixed32(Number(BigInt.asUintN(32, value)));
      else writer.uint64(value);
    } else {
      writer.fork();
      write(writer, value);
      writer.join();
    }
  }
}

function encode(message: Message): Uint8Array {
  const writer = new BinaryWriter();
  write(writer, message);
  return writer.finish();
}

/** A field in its message, with the way to it. */
type Change = (message: Message, place: number) => Message;

const count = (message: Message): number =>
  message.reduce((sum, { value }) => sum + 1 + (typeof value === "bigint" || value instanceof Uint8Array ? 0 : count(value)), 0);

/** Puts `change(field)` in the place of the field that is the n-th from the front. */
function replaced(message: Message, n: number, change: (field: Field) => readonly Field[]): Message {
  let left = n;
  const walk = (fields: Message): Message =>
    fields.flatMap((field): readonly Field[] => {
      if (left-- === 0) return change(field);
      const { value } = field;
      return [typeof value === "bigint" || value instanceof Uint8Array || left < 0 ? field : { ...field, value: walk(value) }];
    });
  return walk(message);
}

const NUMBERS = [
  0n,
  1n,
  127n,
  128n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n + 1n,
  2n ** 63n,
  2n ** 64n - 1n,
  0x7ff8000000000000n,
  0x7ff0000000000000n,
  0x8000000000000000n,
];
const bytes = (value: Field["value"]): Uint8Array =>
  value instanceof Uint8Array ? value : typeof value === "bigint" ? Buffer.from(value.toString()) : encode(value);

function changeOf(change: (field: Field) => readonly Field[]): Change {
  return (message, place) => replaced(message, place, change);
}

const changes: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .constantFrom(...NUMBERS)
      .map((value) => changeOf((field) => [{ ...field, wire: typeof field.value === "bigint" ? field.wire : WireType.Varint, value }])),
  },
  { weight: 2, arbitrary: fc.constant(changeOf(() => [])) },
  {
    weight: 2,
    arbitrary: fc
      .integer({ min: 2, max: 300 })
      .map((times) => changeOf((field) => Array.from({ length: bytes(field.value).length * times > MAX_INPUT ? 1 : times }, () => field))),
  },
  {
    weight: 2,
    arbitrary: fc
      .oneof(fc.integer({ min: 1, max: 16 }), fc.constantFrom(2 ** 29 - 1, 19_000))
      .map((no) => changeOf((field) => [{ ...field, no }])),
  },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom(WireType.Varint, WireType.Bit32, WireType.Bit64)
      .map((wire) => changeOf(({ no, value }) => [{ no, wire, value: typeof value === "bigint" ? value : BigInt(bytes(value).length) }])),
  },
  {
    weight: 2,
    arbitrary: fc
      .oneof(fc.string({ unit: "binary", maxLength: 8 }), fc.constant("x".repeat(2_000)))
      .map((text) => changeOf(({ no }) => [{ no, wire: WireType.LengthDelimited, value: new Uint8Array(Buffer.from(text)) }])),
  },
  {
    weight: 1,
    arbitrary: fc.uint8Array({ maxLength: 32 }).map((value) => changeOf(({ no }) => [{ no, wire: WireType.LengthDelimited, value }])),
  },
  {
    // A message in itself, deeper than anything has a use for.
    weight: 1,
    arbitrary: fc.integer({ min: 1, max: 40 }).map((depth) =>
      changeOf(({ no, value }) => {
        let inner: Field = { no, wire: WireType.LengthDelimited, value: bytes(value) };
        for (let i = 0; i < depth; i++) inner = { no, wire: WireType.LengthDelimited, value: [inner] };
        return [inner];
      }),
    ),
  },
  // Fields may come in any order, and twice.
  { weight: 1, arbitrary: fc.constant<Change>((message) => message.toReversed()) },
  {
    weight: 1,
    arbitrary: fc.constant(
      changeOf((field) => [
        field,
        typeof field.value === "bigint" || field.value instanceof Uint8Array ? field : { ...field, value: field.value.toReversed() },
      ]),
    ),
  },
);

/** Seeds as messages whose fields are changed, with lengths that are right again, and then their bytes in a third of all cases. */
export function fuzzedProtobuf(seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const messages = seeds.map((seed) => messageOf(seed) ?? []);
  const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
  const made = fc
    .tuple(fc.constantFrom(...messages), fc.array(fc.tuple(changes, share), { maxLength: 5 }))
    .map(([seed, list]) =>
      encode(list.reduce((message, [change, where]) => change(message, Math.floor(where * count(message))), seed)).subarray(0, MAX_INPUT),
    );
  return withChanges(made);
}
