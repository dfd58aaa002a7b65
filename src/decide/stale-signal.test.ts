import assert from "node:assert/strict";
import { test } from "node:test";
import type { Signal } from "../api/signal.ts";
import { contextOf, HOUR, MINUTE, NOW, policyOf, SECOND } from "../../test/support/gate-context.ts";
import { staleSignal } from "./stale-signal.ts";

const verdictOf = (signal: Partial<Signal>, now = NOW): string => {
  const context = contextOf({ policy: policyOf({ maxSignalAge: "5m" }) });
  return staleSignal.check({ ...context, now, signal: { ...context.signal, ...signal } }).verdict;
};

test("passes a signal that fires and was just seen", () => {
  assert.equal(verdictOf({}), "Pass");
});

test("blocks a resolved signal, however fresh", () => {
  assert.equal(verdictOf({ state: "Resolved", seenAt: NOW }), "Block");
});

test("the age counts from when it was last seen, up to maxSignalAge", () => {
  assert.equal(verdictOf({ seenAt: NOW - 5 * MINUTE, receivedAt: NOW }), "Pass");
  assert.equal(verdictOf({ seenAt: NOW - 5 * MINUTE - 1, receivedAt: NOW }), "Block");
});

test("a clock may run a minute ahead, not more", () => {
  assert.equal(verdictOf({ seenAt: NOW + 60 * SECOND }), "Pass");
  assert.equal(verdictOf({ seenAt: NOW + 60 * SECOND + 1 }), "Block");
  assert.equal(verdictOf({ startsAt: NOW + 60 * SECOND }), "Pass");
  assert.equal(verdictOf({ startsAt: NOW + 60 * SECOND + 1 }), "Block");
});

test("a start in 1970 was never measured; one eleven months ago may have been", () => {
  assert.equal(verdictOf({ startsAt: 0 }), "Block");
  assert.equal(verdictOf({ startsAt: NOW - 366 * 24 * HOUR }), "Block");
  assert.equal(verdictOf({ startsAt: NOW - 330 * 24 * HOUR }), "Pass");
});

test("a time that is no number blocks", () => {
  for (const bad of [NaN, Infinity, -Infinity]) {
    assert.equal(verdictOf({ seenAt: bad }), "Block");
    assert.equal(verdictOf({ startsAt: bad }), "Block");
  }
  assert.equal(verdictOf({}, NaN), "Block");
});

test("blocks without a policy", () => {
  assert.equal(staleSignal.check(contextOf({ policy: undefined })).verdict, "Block");
});
