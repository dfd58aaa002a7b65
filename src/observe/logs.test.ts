import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LogBook, type LogQuery, type LogRecord } from "./logs.ts";

const START = 1_800_000_000_000;
const ERRORS: LogQuery = { severity: 17, body: undefined, attributes: {} };

function book() {
  const time = { now: START };
  const logs = new LogBook({ now: () => time.now, monotonic: () => time.now, after: () => () => {} });
  return { time, logs };
}
const record = (more: Partial<LogRecord> = {}): LogRecord => ({
  t: START,
  severity: 17,
  body: "it failed",
  attributes: new Map(),
  traceId: "",
  ...more,
});

describe("counting log records", () => {
  it("counts from when it was asked, for each question and replica apart", () => {
    const { logs } = book();
    assert.equal(logs.active, false);
    logs.record("a", record());
    assert.equal(logs.count("a", ERRORS, 0)?.total, 0, "what came before is not known");
    assert.equal(logs.active, true);
    logs.count("a", { ...ERRORS, severity: 9 }, 0);
    for (const severity of [9, 13, 17, 21]) logs.record("a", record({ severity }));
    logs.record("b", record());
    assert.deepEqual([logs.count("a", ERRORS, 0)?.total, logs.count("a", { ...ERRORS, severity: 9 }, 0)?.total], [2, 4]);
    assert.deepEqual([logs.count("b", ERRORS, 0)?.total, logs.count("c", ERRORS, 0)?.heardAt], [1, undefined]);
  });

  it("a pattern matches a part of the body, and attributes all of theirs", () => {
    const { logs } = book();
    const of = { severity: 1, body: "time(d )?out", attributes: { "exception.type": "E", "http.status": "504" } };
    logs.count("a", of, 0);
    assert.deepEqual([...logs.attributeKeys()].sort(), ["exception.type", "http.status"]);
    const attributes = new Map(Object.entries(of.attributes));
    logs.record("a", record({ body: "request timed out after 3 s", attributes }));
    logs.record("a", record({ body: "timeout", attributes }));
    logs.record("a", record({ body: "timeout", attributes: new Map([["exception.type", "E"]]) }));
    logs.record("a", record({ body: "all is well", attributes }));
    assert.equal(logs.count("a", of, 0)?.total, 2);
  });

  it("counts by seconds, since a time, in whatever order they come, and forgets after an hour", () => {
    const { logs, time } = book();
    logs.count("a", ERRORS, 0);
    for (const s of [10, 0, 5, 10]) logs.record("a", record({ t: START - s * 1_000 }));
    const all = logs.count("a", ERRORS, START - 60_000);
    assert.deepEqual([all?.total, all?.first, all?.last, all?.countedSince], [4, START - 10_000, START, START]);
    assert.equal(logs.count("a", ERRORS, START - 5_000)?.total, 2);
    for (let minute = 0; minute < 61; minute++) {
      time.now += 60_000;
      logs.count("a", ERRORS, 0);
      logs.record("a", record({ t: time.now }));
    }
    assert.equal(logs.count("a", ERRORS, 0)?.first, START + 2 * 60_000);
  });

  it("a question that nobody asks any more is forgotten, and so is a replica that is gone", () => {
    const { logs, time } = book();
    logs.count("a", ERRORS, 0);
    logs.record("a", record());
    logs.forget("a");
    assert.deepEqual([logs.count("a", ERRORS, 0)?.total, logs.count("a", ERRORS, 0)?.heardAt], [0, undefined]);
    time.now += 301_000;
    assert.equal(logs.active, false);
  });

  it("questions and matches are bounded, whatever comes", () => {
    const { logs, time } = book();
    for (let i = 0; i < 256; i++) assert.ok(logs.count("a", { ...ERRORS, body: `x${i}` }, 0));
    assert.equal(logs.count("a", ERRORS, 0), undefined);
    const body = "y".repeat(1_024);
    const taken = Array.from({ length: 100 }, () => logs.record("a", record({ body })));
    const counted = taken.filter((refusal) => refusal === undefined).length;
    assert.ok(counted > 2 && counted < 30, `${counted} records of 256 questions`);
    assert.equal(taken.at(-1), "match-limit");
    time.now += 1_000;
    assert.equal(logs.record("a", record({ body })), undefined);
  });

  it("the work of matching is bounded by the length of bodies and of patterns, not by how many there are", () => {
    const taken = (pattern: string, body: string): number => {
      const { logs } = book();
      logs.count("a", { severity: 1, body: pattern, attributes: {} }, 0);
      let records = 0;
      while (records < 50_000 && logs.record("a", record({ body })) === undefined) records++;
      return records;
    };
    const [short, long] = [taken("pool (exhausted|closed)", "x".repeat(50)), taken("pool (exhausted|closed)", "x".repeat(1_024))];
    assert.ok(short > 4_000 && short > 10 * long, `${short} of 50 characters, ${long} of 1,024`);
    // Each of these takes 65 ms.
    const dear = taken("(x|a?){300}$", "a".repeat(1_024));
    assert.ok(dear > 0 && dear < 10, `${dear} records of a pattern with 1,800 instructions`);
    assert.ok(taken("x", "") <= 50_000);
  });

  it("what could not be counted is not known, of its replica alone", () => {
    const { logs, time } = book();
    const of = { ...ERRORS, body: "x" };
    const since = (uid: string): number | undefined => logs.count(uid, of, time.now - 60_000)?.countedSince;
    since("a");
    time.now += 600_000;
    logs.record("b", record({ t: time.now }));
    assert.deepEqual([since("a"), since("b")], [START, START]);
    while (logs.record("a", record({ t: time.now })) === undefined);
    assert.deepEqual([since("a"), since("b")], [time.now, START]);
    time.now += 60_000;
    logs.record("a", record({ t: time.now }));
    assert.equal(since("a"), time.now - 60_000);
  });

  it("who looks further back than anybody before knows no more than was kept", () => {
    const { logs, time } = book();
    const count = (ms: number) => logs.count("a", ERRORS, time.now - ms);
    count(60_000);
    for (let s = 0; s < 1_200; s++) {
      time.now += 1_000;
      logs.record("a", record({ t: time.now }));
    }
    assert.deepEqual([count(60_000)?.total, count(60_000)?.countedSince], [61, START]);
    const long = count(900_000);
    assert.equal(long?.countedSince, time.now - 120_000);
    for (let s = 0; s < 900; s++) {
      time.now += 1_000;
      logs.record("a", record({ t: time.now }));
    }
    assert.equal(count(900_000)?.total, 901);
    assert.ok((count(900_000)?.countedSince ?? Infinity) <= time.now - 900_000);
  });

  it("where the clock was an hour ahead, what was counted then is not in the future of what follows", () => {
    const { logs, time } = book();
    logs.count("a", ERRORS, 0);
    time.now += 3_600_000;
    logs.record("a", record({ t: time.now }));
    time.now -= 3_600_000;
    const after = logs.count("a", ERRORS, time.now - 15_000);
    assert.deepEqual([after?.total, after?.heardAt, after?.countedSince], [0, undefined, time.now]);
    time.now += 20_000;
    logs.record("a", record({ t: time.now, severity: 9 }));
    const later = logs.count("a", ERRORS, time.now - 15_000);
    assert.deepEqual([later?.total, later?.heardAt, later?.countedSince], [0, time.now, time.now - 20_000]);
  });

  it("a log of an hour that is sent again takes no longer than it is long", () => {
    const { logs } = book();
    logs.count("a", ERRORS, 0);
    // As it may come, and as it was written.
    const begin = performance.now();
    for (let i = 0; i < 60_000; i++) logs.record(`u${Math.floor(i / 3_600)}`, record({ t: START - ((i * 7_919) % 3_600) * 1_000 }));
    const taken = performance.now() - begin;
    const again = performance.now();
    for (let i = 0; i < 60_000; i++) logs.record(`u${Math.floor(i / 3_600)}`, record({ t: START }));
    assert.ok(taken < 50 * (performance.now() - again) + 100, `${taken} ms`);
    assert.equal(logs.count("u0", ERRORS, START - 3_599_000)?.total, 7_200);
  });

  it("a pattern that makes other engines hang takes no time", () => {
    const { logs } = book();
    logs.count("a", { severity: 1, body: "^(a+)+$", attributes: {} }, 0);
    const begin = performance.now();
    logs.record("a", record({ body: `${"a".repeat(1_000)}!` }));
    assert.ok(performance.now() - begin < 5_000);
  });
});
