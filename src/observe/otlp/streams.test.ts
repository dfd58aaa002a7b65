import assert from "node:assert/strict";
import { test } from "node:test";
import { type Stream, Streams } from "./streams.ts";

const seenAt = (seen: number): Stream => ({ start: 0, t: 0, value: 0, buckets: undefined, recent: [], seen });

test("streams of another family or other attributes are others", () => {
  const streams = new Streams(10, 1_000);
  const one = seenAt(0);
  streams.set("a", "x", one);
  assert.equal(streams.get("a", "x", 0), one);
  assert.equal(streams.get("a", "y", 0), undefined);
  assert.equal(streams.get("b", "x", 0), undefined);
});

test("what was silent for too long is not known any more, before it is swept as well", () => {
  const streams = new Streams(10, 1_000);
  streams.set("a", "x", seenAt(0));
  assert.notEqual(streams.get("a", "x", 1_000), undefined);
  assert.equal(streams.get("a", "x", 1_001), undefined);
});

test("a place is free again once its stream was silent for too long, and not before", () => {
  const streams = new Streams(2, 10_000);
  streams.set("a", "x", seenAt(0));
  streams.set("a", "y", seenAt(0));
  // The same one again takes no place of its own.
  streams.set("a", "y", seenAt(8_000));
  assert.equal(streams.hasPlace(9_000), false);
  assert.equal(streams.hasPlace(15_000), true);
  streams.set("b", "x", seenAt(15_000));
  assert.equal(streams.hasPlace(15_001), false);
  // The clock was set back, and on again.
  assert.equal(streams.hasPlace(1_000), false);
  assert.equal(streams.hasPlace(40_000), true);
});
