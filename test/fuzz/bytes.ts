import * as fc from "fast-check";

/** Longest input (bytes). Beyond, the listeners' own bounds of a body are what holds, and they have their tests. */
export const MAX_INPUT = 64 * 1024;

type Change = (bytes: Buffer) => Buffer;

const at = (bytes: Buffer, share: number): number => Math.floor(share * (bytes.length + 1));
const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const length = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 1, max: 16 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 4_096 }) },
);

/** What has a meaning of its own in many formats: ends of ranges, lengths that are none, and bytes that are no UTF-8. */
const TELLING = [
  [0x00],
  [0x7f],
  [0x80],
  [0xff],
  [0xff, 0xff, 0xff, 0xff],
  [0x00, 0x00, 0x00, 0x80],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
  [0xf0, 0x9f],
  [0xed, 0xa0, 0x80],
  [0xef, 0xbb, 0xbf],
].map((bytes) => Buffer.from(bytes));

/** One change of some bytes, whatever they are, as libFuzzer and AFL make them: flipped, overwritten, inserted, taken out, repeated, cut off. */
const byteChange: fc.Arbitrary<Change> = fc.oneof(
  fc.tuple(share, fc.nat(7)).map(([where, bit]): Change => (bytes) => {
    const changed = Buffer.from(bytes);
    const index = at(bytes, where);
    if (index < changed.length) changed[index] = (changed[index] ?? 0) ^ (1 << bit);
    return changed;
  }),
  fc.tuple(share, fc.constantFrom(...TELLING), fc.boolean()).map(([where, telling, insert]): Change => (bytes) => {
    const index = at(bytes, where);
    return Buffer.concat([bytes.subarray(0, index), telling, bytes.subarray(insert ? index : index + telling.length)]);
  }),
  fc.tuple(share, length).map(
    ([where, count]): Change =>
      (bytes) =>
        Buffer.concat([bytes.subarray(0, at(bytes, where)), bytes.subarray(at(bytes, where) + count)]),
  ),
  fc.tuple(share, length, fc.integer({ min: 1, max: 64 })).map(([where, count, times]): Change => (bytes) => {
    const index = at(bytes, where);
    const part = bytes.subarray(index, index + count);
    const room = Math.max(0, Math.floor((MAX_INPUT - bytes.length) / Math.max(1, part.length)));
    return Buffer.concat([bytes.subarray(0, index), ...Array.from({ length: Math.min(times, room) }, () => part), bytes.subarray(index)]);
  }),
  share.map(
    (where): Change =>
      (bytes) =>
        bytes.subarray(0, at(bytes, where)),
  ),
  fc.tuple(share, fc.uint8Array({ minLength: 1, maxLength: 8 })).map(
    ([where, random]): Change =>
      (bytes) =>
        Buffer.concat([bytes.subarray(0, at(bytes, where)), random, bytes.subarray(at(bytes, where))]),
  ),
);

/** Changes of text: one of `words` instead of a token, or between two. */
function wordChange(words: readonly string[]): fc.Arbitrary<Change> {
  return fc.tuple(share, fc.constantFrom(...words), fc.boolean()).map(([where, word, insert]): Change => (bytes) => {
    // Latin-1 keeps each byte, also of what is no text any more.
    const text = bytes.toString("latin1");
    const tokens = text.split(/([\w.+-]+)/);
    const index = Math.floor(where * tokens.length);
    tokens[index] = insert ? (tokens[index] ?? "") + word : word;
    return Buffer.from(tokens.join(""), "latin1").subarray(0, MAX_INPUT);
  });
}

/** Numbers at the ends of ranges, and what is no number to one reader and is to another. */
const NUMBERS = [
  "0",
  "-0",
  "-1",
  "1e999",
  "-1e999",
  "1e-999",
  "9007199254740993",
  "18446744073709551616",
  "0.1",
  "1e3",
  "NaN",
  "+Inf",
  "0x10",
  "08",
  "1_000",
];

/** `made`, and its bytes changed a few times in about a third of all cases. */
export function withChanges(made: fc.Arbitrary<Uint8Array>, words: readonly string[] = []): fc.Arbitrary<Uint8Array> {
  const change = fc.oneof({ weight: 2, arbitrary: byteChange }, { weight: 1, arbitrary: wordChange([...NUMBERS, ...words]) });
  const changes = fc.oneof(
    { weight: 2, arbitrary: fc.constant<Change[]>([]) },
    { weight: 1, arbitrary: fc.array(change, { minLength: 1, maxLength: 4 }) },
  );
  return fc
    .tuple(made, changes)
    .map(
      ([bytes, list]) => new Uint8Array(list.reduce<Buffer>((changed, each) => each(changed), Buffer.from(bytes)).subarray(0, MAX_INPUT)),
    );
}

/** Seeds with their bytes changed, and bytes that are nothing. */
export function changedBytes(seeds: readonly Uint8Array[], words: readonly string[] = []): fc.Arbitrary<Uint8Array> {
  return fc.oneof(
    { weight: 20, arbitrary: withChanges(fc.constantFrom(...seeds), words) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 64 }) },
  );
}
