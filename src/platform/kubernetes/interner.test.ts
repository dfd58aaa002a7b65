import assert from "node:assert/strict";
import { it } from "node:test";
import * as fc from "fast-check";
import { Interner } from "./interner.ts";

/** The same text in another string. */
const copy = (text: string): string => Buffer.from(text).toString();

it("stores equal nested values once, and freezes what it hands out", () => {
  const interner = new Interner();
  const record = () => ({ name: "a", labels: { app: copy("payments"), tier: "x" }, list: [{ a: 1 }] });
  const [one, two] = [interner.compact(record()), interner.compact(record())];
  assert.equal(one.labels, two.labels);
  assert.equal(one.list, two.list);
  assert.deepEqual(one, record());
  assert.ok(Object.isFrozen(one) && Object.isFrozen(one.labels) && Object.isFrozen(one.list[0]));
});

it("does not hold on to what a record was made of", () => {
  const interner = new Interner();
  const labels = { a: "b" };
  const kept = interner.compact({ name: "x", labels });
  labels.a = "changed";
  assert.equal(kept.labels.a, "b");
});

it("does not take a text for the value that it is the JSON of", () => {
  const interner = new Interner();
  const record = interner.compact({ text: '{"a":1}', value: { a: 1 }, again: '{"a":1}' });
  assert.deepEqual(record, { text: '{"a":1}', value: { a: 1 }, again: '{"a":1}' });
});

it("forgets, and stays right", () => {
  const interner = new Interner(8);
  for (let i = 0; i < 1_000; i += 1) {
    const record = { name: `n${i}`, node: `node-${i % 7}`, labels: { i: String(i % 5) }, n: i, none: undefined };
    assert.deepEqual(interner.compact(record), record);
  }
});

it("keeps a field that is called __proto__ a field", () => {
  const record = JSON.parse('{"__proto__":[],"labels":{"__proto__":"x"}}') as object;
  assert.deepEqual({ ...new Interner().compact(record) }, { ...record });
});

it("never changes a value", () => {
  const interner = new Interner(20);
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (record) => {
      // What JSON cannot tell apart is not told apart by what is made of JSON either: -0 is 0.
      const plain = JSON.parse(JSON.stringify(record)) as object;
      assert.deepEqual({ ...interner.compact(plain) }, { ...plain });
    }),
  );
});
