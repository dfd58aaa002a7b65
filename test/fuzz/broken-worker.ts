// Targets that break, to show that it is found.
import * as fc from "fast-check";
import { ACCEPTED, type FuzzTarget } from "./target.ts";
import { work } from "./work.ts";

const breaking = (name: string, letters: readonly string[], check: (text: string) => void): FuzzTarget => ({
  name,
  seeds: [],
  inputs: fc.string({ unit: fc.constantFrom(...letters), maxLength: 30 }).map((text) => new Uint8Array(Buffer.from(text))),
  check(input) {
    check(Buffer.from(input).toString());
    return ACCEPTED;
  },
});

work([
  breaking("throws", ["a", "b", "{", '"'], (text) => {
    if (text.includes('{"')) throw new TypeError("a quote and a brace");
  }),
  breaking("never-ends", ["{"], (text) => {
    // As a parser that does not go on.
    for (let at = 0; text[at] === "{"; at = 0);
  }),
  breaking("takes-all", ["{"], (text) => {
    const parts: number[][] = [];
    for (let at = 0; text[at] === "{"; at = 0) parts.push(Array.from({ length: 100_000 }, (_, i) => i));
  }),
]);
