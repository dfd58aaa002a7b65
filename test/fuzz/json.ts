import * as fc from "fast-check";
import { MAX_INPUT, withChanges } from "./bytes.ts";

/** A value of JSON. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
/** A place in a value: what holds it, and under which key. */
interface Place {
  readonly holder: Json[] | { [key: string]: Json };
  readonly key: string | number;
}

const nested = (depth: number, wrap: (inner: Json) => Json): Json => {
  let value: Json = 1;
  for (let i = 0; i < depth; i++) value = wrap(value);
  return value;
};

/** What stands where something else is expected: other types, ends of ranges, texts that look like other things, and too much of all. */
const ODD: readonly Json[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  1e308,
  -1e308,
  2 ** 53,
  2 ** 64,
  1e-7,
  "",
  " ",
  "0",
  "-1",
  "NaN",
  "Infinity",
  "1e400",
  "18446744073709551616",
  "99999999999999999999999",
  "true",
  "null",
  "2026-11-30T00:00:00Z",
  "0001-01-01T00:00:00Z",
  "9999-12-31T23:59:60+24:00",
  "-000001-01-01T00:00:00Z",
  "1h",
  "999999999h",
  "110%",
  "../../etc/passwd",
  "http://[::1",
  "\u0000\u001b[31m",
  "\ud800",
  "🦊".repeat(50),
  "x".repeat(300),
  "x".repeat(20_000),
  "^(a+)+$",
  [],
  {},
  [[]],
  [null],
  { "": "" },
  nested(40, (inner) => [inner]),
  nested(70, (inner) => ({ a: inner })),
  Array.from({ length: 300 }, () => null),
];

/** Keys with which JavaScript does something of its own. */
const ODD_KEYS = ["__proto__", "constructor", "toString", "length", "", "0", "x".repeat(2_000)];

type Change = (root: Json, seeds: readonly Json[]) => Json;
const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

/** Every place in a value. */
function placesOf(root: Json): Place[] {
  const places: Place[] = [];
  const walk = (value: Json): void => {
    if (typeof value !== "object" || value === null) return;
    const keys = Array.isArray(value) ? value.keys() : Object.keys(value);
    for (const key of keys) {
      places.push({ holder: value, key });
      walk(read({ holder: value, key }));
    }
  };
  walk(root);
  return places;
}

const read = ({ holder, key }: Place): Json => (Object.getOwnPropertyDescriptor(holder, key) as { value: Json }).value;

/** Without a setter that a key such as `__proto__` may have. */
function write(holder: Place["holder"], key: string | number, value: Json): void {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

/** A change of one place: of what holds it, so of the whole where the value is no more than that. */
function placed(change: (place: Place, all: readonly Place[], seeds: readonly Json[]) => void): fc.Arbitrary<Change> {
  return share.map((where): Change => (root, seeds) => {
    const all = placesOf(root);
    const place = all[Math.floor(where * all.length)];
    if (place !== undefined) change(place, all, seeds);
    return root;
  });
}

/** Makes changes that depend on one more random number. */
const withNumber = (change: (n: number, place: Place, all: readonly Place[], seeds: readonly Json[]) => void): fc.Arbitrary<Change> =>
  share.chain((n) => placed((place, all, seeds) => change(n, place, all, seeds)));

const pick = <T>(from: readonly T[], n: number): T | undefined => from[Math.floor(n * from.length)];

const changes: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(fc.constantFrom(...ODD), share).map(([odd, where]): Change => (root) => {
      const all = placesOf(root);
      const place = all[Math.floor(where * all.length)];
      if (place === undefined) return structuredClone(odd);
      write(place.holder, place.key, structuredClone(odd));
      return root;
    }),
  },
  {
    weight: 2,
    arbitrary: placed(({ holder, key }) =>
      Array.isArray(holder) ? void holder.splice(Number(key), 1) : void Reflect.deleteProperty(holder, key),
    ),
  },
  {
    weight: 2,
    arbitrary: withNumber((n, place, all, seeds) => {
      // What stands elsewhere, also in another input.
      const others = n < 0.5 ? all : placesOf(pick(seeds, (n * 7) % 1) ?? null);
      const other = pick(others, (n * 31) % 1);
      if (other !== undefined) write(place.holder, place.key, structuredClone(read(other)));
    }),
  },
  {
    weight: 1,
    arbitrary: withNumber((n, place) => {
      const value = read(place);
      // Not copies of copies of copies.
      const times = Math.min(Math.ceil(n * 40), Math.floor(MAX_INPUT / JSON.stringify(value).length));
      if (Array.isArray(place.holder)) place.holder.push(...Array.from({ length: times }, () => structuredClone(value)));
      else write(place.holder, pick(ODD_KEYS, n) ?? "", value);
    }),
  },
  { weight: 1, arbitrary: placed((place) => write(place.holder, place.key, [read(place)])) },
  { weight: 1, arbitrary: placed((place) => write(place.holder, place.key, JSON.stringify(read(place)))) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...ODD).map(
      (odd): Change =>
        () =>
          structuredClone(odd),
    ),
  },
);

/** Values of `made`, changed where they are; some changes take parts of `seeds`. */
function changedValues(made: fc.Arbitrary<Json>, seeds: readonly Json[]): fc.Arbitrary<Json> {
  return fc
    .tuple(made, fc.array(changes, { maxLength: 5 }))
    .map(([value, list]) => list.reduce((changed, change) => change(changed, seeds), structuredClone(value)));
}

const valuesOf = (seeds: readonly Uint8Array[]): Json[] => seeds.map((seed) => JSON.parse(Buffer.from(seed).toString()) as Json);

/** Seeds, read as JSON and changed where they are: most of what comes out is understood in part. */
export function changedJson(
  seeds: readonly Uint8Array[],
  textOf: (value: unknown) => string = (value) => JSON.stringify(value),
): fc.Arbitrary<Uint8Array> {
  const values = valuesOf(seeds);
  return changedValues(fc.constantFrom(...values), values).map((value) => Buffer.from(textOf(value)).subarray(0, MAX_INPUT));
}

/**
 * Messages that a grammar makes: as they are, or changed where they are, or seeds that were changed. A grammar of few names and few times makes what
 * changes of seeds hardly ever do: parts of a message that are about one another.
 */
export function grammarJson(
  made: fc.Arbitrary<Json>,
  seeds: readonly Uint8Array[],
  words: readonly string[] = [],
): fc.Arbitrary<Uint8Array> {
  const bytes = (values: fc.Arbitrary<Json>): fc.Arbitrary<Uint8Array> =>
    values.map((value) => Buffer.from(JSON.stringify(value)).subarray(0, MAX_INPUT));
  return fc.oneof(
    { weight: 3, arbitrary: bytes(made) },
    { weight: 2, arbitrary: bytes(changedValues(made, valuesOf(seeds))) },
    { weight: 1, arbitrary: fuzzedJson(seeds, words) },
  );
}

/** As `changedJson`, and then the text itself changed in a third of all cases. */
export function fuzzedJson(seeds: readonly Uint8Array[], words: readonly string[] = []): fc.Arbitrary<Uint8Array> {
  return withChanges(changedJson(seeds), ['"', "\\", "{", "}", "[", "]", ",", ":", "\\u0000", "\\ud800", "//", "'", ...words]);
}
