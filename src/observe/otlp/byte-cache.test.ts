import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { ByteCache } from "./byte-cache.ts";

/** The fewest that there can be. */
const PLACES = 16;

test("finds a value by its bytes, wherever they stand, and never by others", () => {
  // So few places that most bytes meet others there; so few different bytes that many are alike.
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ min: 0, max: 2, maxLength: 12 }), { maxLength: 60 }), fc.nat(7), (texts, offset) => {
      const cache = new ByteCache<string>(PLACES, 10);
      for (const text of texts) {
        const view = new DataView(Uint8Array.from([...new Uint8Array(offset), ...text, 9]).buffer);
        const [from, to] = [offset, offset + text.length];
        const place = cache.placeOf(view, from, to);
        if (text.length > 10 || text.length === 0) assert.equal(place, -1);
        else {
          const known = cache.at(place, view, from, to);
          assert.ok(known === undefined || known === text.join());
          cache.put(place, view, from, to, text.join());
          assert.equal(cache.at(place, view, from, to), text.join());
        }
      }
    }),
  );
});

test("knows what it was told, as long as nothing takes its place", () => {
  const cache = new ByteCache<number>(1_024, 16);
  const bytes = (i: number): DataView => new DataView(new Uint8Array([i, 1, 2, 3, i, 5]).buffer);
  const placeOf = (i: number): number => cache.placeOf(bytes(i), 0, 6);
  for (let i = 0; i < 100; i++) cache.put(placeOf(i), bytes(i), 0, 6, i);
  const found = Array.from({ length: 100 }, (_, i) => cache.at(placeOf(i), bytes(i), 0, 6));
  assert.ok(found.every((value, i) => value === undefined || value === i));
  assert.ok(found.filter((value) => value !== undefined).length > 80);
});
