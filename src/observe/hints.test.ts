import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HintBook, type Hint, type HintLimits } from "./hints.ts";

const START = 1_800_000_000_000;

function book(limits: Partial<HintLimits> = {}) {
  const time = { now: START };
  const clock = { now: () => time.now, monotonic: () => time.now, after: () => () => {} };
  return { time, hints: new HintBook(clock, limits) };
}

const hint = (t: number, more: Partial<Hint> = {}): Hint => ({
  action: "pool-reset",
  saturationType: undefined,
  added: 1,
  delta: true,
  single: false,
  since: t - 1_000,
  t,
  receivedAt: t,
  traceIds: [],
  ...more,
});

describe("hints in memory", () => {
  it("of each kind the newest is kept, also where one comes late", () => {
    const { hints } = book();
    hints.record("a", hint(START));
    hints.record("a", hint(START + 500));
    hints.record("a", hint(START + 100));
    hints.record("a", hint(START + 50, { action: "cache-flush" }));
    hints.record("a", hint(START + 60, { saturationType: "connections" }));
    assert.deepEqual(
      hints.of("a").map(({ action, saturationType, t }) => [action, saturationType, t - START]),
      [
        ["pool-reset", undefined, 500],
        ["cache-flush", undefined, 50],
        ["pool-reset", "connections", 60],
      ],
    );
    assert.deepEqual(hints.of("b"), []);
  });

  it("a sender that floods is listened to once a second, and keeps no other from being heard", () => {
    const { hints, time } = book({ maxPerMinute: 60 });
    const taken = (n: number): number =>
      Array.from({ length: n }, () => hints.record("a", hint(time.now))).filter((r) => r === undefined).length;
    assert.equal(taken(1_000), 60);
    assert.equal(hints.record("a", hint(time.now)), "hint-limit");
    assert.equal(hints.record("b", hint(time.now)), undefined);
    time.now += 10_000;
    assert.equal(taken(1_000), 10);
  });

  it("kinds and senders are bounded", () => {
    const { hints } = book({ maxKinds: 2, maxSenders: 2 });
    assert.equal(hints.record("a", hint(START, { action: "x" })), undefined);
    assert.equal(hints.record("a", hint(START, { action: "y" })), undefined);
    assert.equal(hints.record("a", hint(START, { action: "z" })), "hint-limit");
    assert.equal(hints.record("a", hint(START + 1, { action: "x" })), undefined);
    assert.equal(hints.record("b", hint(START)), undefined);
    assert.equal(hints.record("c", hint(START)), "hint-senders");
  });

  it("old ones are forgotten, and make place", () => {
    const { hints, time } = book({ maxSenders: 1, retentionMs: 1_000 });
    hints.record("a", hint(START));
    time.now += 2_000;
    assert.deepEqual(hints.of("a"), []);
    assert.equal(hints.record("b", hint(time.now)), undefined);
    hints.forget("b");
    assert.deepEqual(hints.of("b"), []);
  });

  it("old kinds make place for new ones of a sender that never falls silent, whoever else is there", () => {
    const { hints, time } = book({ maxKinds: 2, retentionMs: 60_000 });
    hints.record("a", hint(START, { saturationType: "connections" }));
    time.now += 50_000;
    hints.record("b", hint(time.now));
    hints.record("a", hint(time.now));
    time.now += 20_000;
    assert.equal(hints.record("a", hint(time.now, { action: "cache-flush" })), undefined);
  });

  it("whoever listens is told of what is kept, and of nothing else", () => {
    const { hints } = book({ maxPerMinute: 1 });
    const heard: string[] = [];
    const end = hints.onHint((uid) => heard.push(uid));
    hints.record("a", hint(START));
    hints.record("a", hint(START));
    end();
    hints.record("b", hint(START));
    assert.deepEqual(heard, ["a"]);
  });
});
