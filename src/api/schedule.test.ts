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
