import assert from "node:assert/strict";
import { test } from "node:test";
import { nextOpening, openUntil } from "./schedule.ts";
import { timeMs } from "./time.ts";

const until = (schedule: string, duration: string, at: string): string | number | undefined => {
  const ms = openUntil({ schedule, duration, timeZone: "UTC" }, timeMs(at));
  return ms === undefined || ms === Infinity ? ms : new Date(ms).toISOString();
};

test("a window is open from its opening to just before its end", () => {
  assert.equal(until("0 11 * * *", "1h", "2026-06-03T10:59:59.999Z"), undefined);
  assert.equal(until("0 11 * * *", "1h", "2026-06-03T11:00:00Z"), "2026-06-03T12:00:00.000Z");
  assert.equal(until("0 11 * * *", "1h", "2026-06-03T11:59:59.999Z"), "2026-06-03T12:00:00.000Z");
  assert.equal(until("0 11 * * *", "1h", "2026-06-03T12:00:00Z"), undefined);
});

test("openings that overlap or touch close together", () => {
  assert.equal(until("0 11,12 * * *", "90m", "2026-06-03T11:30:00Z"), "2026-06-03T13:30:00.000Z");
  assert.equal(until("0 11,12 * * *", "1h", "2026-06-03T11:30:00Z"), "2026-06-03T13:00:00.000Z");
  assert.equal(until("0 11,12 * * *", "59m", "2026-06-03T11:30:00Z"), "2026-06-03T11:59:00.000Z");
  assert.equal(until("0 * * * *", "1h", "2026-06-03T11:30:00Z"), Infinity);
});

test("a window longer than a day, and one of seconds", () => {
  assert.equal(until("0 18 * * 5", "60h", "2026-06-07T12:00:00Z"), "2026-06-08T06:00:00.000Z");
  assert.equal(until("0 18 * * 5", "60h", "2026-06-08T06:00:00Z"), undefined);
  assert.equal(until("*/30 * * * * *", "10s", "2026-06-03T11:00:30.500Z"), "2026-06-03T11:00:40.000Z");
  assert.equal(until("*/30 * * * * *", "500ms", "2026-06-03T11:00:30.499Z"), "2026-06-03T11:00:30.500Z");
  assert.equal(until("*/30 * * * * *", "500ms", "2026-06-03T11:00:30.500Z"), undefined);
});

test("one that never comes round again has no next opening", () => {
  assert.equal(nextOpening({ schedule: "0 0 30 2 *", timeZone: "UTC" }, timeMs("2026-06-03T12:00:00Z")), undefined);
});

test("more schedules than the cache holds are answered all the same", () => {
  for (let i = 0; i < 2_100; i += 1) {
    const [minute, hour] = [i % 60, Math.floor(i / 60) % 24];
    const zone = i < 1_440 ? "UTC" : "Etc/GMT";
    const opens = nextOpening({ schedule: `${minute} ${hour} * * *`, timeZone: zone }, timeMs("2026-06-03T00:00:00Z") - 1);
    assert.equal(opens, timeMs("2026-06-03T00:00:00Z") + (hour * 60 + minute) * 60_000);
  }
});

test("an answer that is asked for again holds as long as it is true, and no longer, whichever way time goes", () => {
  const at = (time: string): string | number | undefined => until("0 9 * * *", "2h", `2026-06-03T${time}Z`);
  const open = "2026-06-03T11:00:00.000Z";
  const times = ["08:00:00", "08:59:59", "09:00:00", "10:00:00", "10:59:59", "11:00:00", "12:00:00"];
  const expected = [undefined, undefined, open, open, open, undefined, undefined];
  assert.deepEqual(times.map(at), expected);
  assert.deepEqual(times.toReversed().map(at), expected.toReversed(), "a wall clock may be put back");
  const opens = (time: string): number | undefined =>
    nextOpening({ schedule: "0 9 * * *", timeZone: "UTC" }, timeMs(`2026-06-03T${time}Z`));
  const [today, tomorrow] = [timeMs("2026-06-03T09:00:00Z"), timeMs("2026-06-04T09:00:00Z")];
  assert.deepEqual(["09:00:00", "08:00:00", "08:59:59", "10:00:00", "08:00:00"].map(opens), [tomorrow, today, today, tomorrow, today]);
});
