import assert from "node:assert/strict";
import { test } from "node:test";
import { timeMs } from "../api/time.ts";
import { contextOf, NOW, policyOf } from "../../test/support/gate-context.ts";
import { outsideWindow } from "./outside-window.ts";

const at = (time: string, ...windows: Record<string, unknown>[]) =>
  outsideWindow.check({ ...contextOf({ policy: policyOf({ windows }) }), now: timeMs(time) });
const night = { schedule: "0 22 * * *", duration: "8h" };

test("passes without windows, and inside one", () => {
  assert.equal(outsideWindow.check(contextOf()).verdict, "Pass");
  assert.equal(at("2026-06-03T23:00:00Z", night).verdict, "Pass");
});

test("opens at its opening, and is closed again at its end", () => {
  assert.equal(at("2026-06-03T21:59:59.999Z", night).verdict, "Block");
  assert.equal(at("2026-06-03T22:00:00Z", night).verdict, "Pass");
  assert.equal(at("2026-06-04T05:59:59.999Z", night).verdict, "Pass");
  assert.equal(at("2026-06-04T06:00:00Z", night).verdict, "Block");
});

test("says when the next one opens", () => {
  const verdict = at("2026-06-03T12:00:00Z", night, { schedule: "0 14 * * *", duration: "1h" });
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, timeMs("2026-06-03T14:00:00Z"));
});

test("any one of several is enough", () => {
  assert.equal(at("2026-06-03T14:30:00Z", night, { schedule: "0 14 * * *", duration: "1h" }).verdict, "Pass");
});

test("a window that never comes round, and an empty list, block for good", () => {
  const verdict = at("2026-06-03T12:00:00Z", { schedule: "0 0 30 2 *", duration: "1h" });
  assert.deepEqual(verdict, { verdict: "Block", message: "outside the policy's windows, and none opens again" });
  const policy = policyOf();
  const empty = outsideWindow.check({ ...contextOf(), policy: { ...policy, spec: { ...policy.spec, windows: [] } }, now: NOW });
  assert.equal(empty.verdict, "Block");
  assert.ok(empty.verdict === "Block" && empty.until === undefined);
});

test("the time zone is that of the schedule", () => {
  const berlin = { ...night, timeZone: "Europe/Berlin" };
  assert.equal(at("2026-01-15T20:59:59Z", berlin).verdict, "Block");
  assert.equal(at("2026-01-15T21:00:00Z", berlin).verdict, "Pass");
  assert.equal(at("2026-07-15T20:00:00Z", berlin).verdict, "Pass");
});

test("daylight saving: a window over the night of the change lasts its duration in elapsed time", () => {
  for (const [timeZone, opening] of [
    // Clocks go forward: the local night has 7 hours, the window 8.
    ["Europe/Berlin", "2026-03-28T21:00:00Z"],
    ["America/New_York", "2026-03-08T03:00:00Z"],
    // And back: the local night has 9 hours, the window 8.
    ["Europe/Berlin", "2026-10-24T20:00:00Z"],
    ["America/New_York", "2026-11-01T02:00:00Z"],
  ] as const) {
    const window = { ...night, timeZone };
    const start = timeMs(opening);
    const verdictAt = (ms: number): string =>
      outsideWindow.check({ ...contextOf({ policy: policyOf({ windows: [window] }) }), now: ms }).verdict;
    assert.equal(verdictAt(start - 1), "Block", `${timeZone} ${opening}`);
    assert.equal(verdictAt(start), "Pass", `${timeZone} ${opening}`);
    assert.equal(verdictAt(start + 8 * 3_600_000 - 1), "Pass", `${timeZone} ${opening}`);
    assert.equal(verdictAt(start + 8 * 3_600_000), "Block", `${timeZone} ${opening}`);
  }
});

test("daylight saving: an opening in the hour that is skipped is not lost, one in the hour that is repeated happens once", () => {
  const half = (timeZone: string, hour: number) => ({ schedule: `30 ${hour} * * *`, duration: "10m", timeZone });
  // 02:30 does not exist: it opens when the clocks read 03:00.
  assert.equal(at("2026-03-29T01:05:00Z", half("Europe/Berlin", 2)).verdict, "Pass");
  assert.equal(at("2026-03-08T07:05:00Z", half("America/New_York", 2)).verdict, "Pass");
  // 02:30 (Berlin) and 01:30 (New York) come twice: it opens at the first.
  assert.equal(at("2026-10-25T00:35:00Z", half("Europe/Berlin", 2)).verdict, "Pass");
  assert.equal(at("2026-10-25T01:35:00Z", half("Europe/Berlin", 2)).verdict, "Block");
  assert.equal(at("2026-11-01T05:35:00Z", half("America/New_York", 1)).verdict, "Pass");
  assert.equal(at("2026-11-01T06:35:00Z", half("America/New_York", 1)).verdict, "Block");
});

test("blocks without a policy", () => {
  assert.equal(outsideWindow.check(contextOf({ policy: undefined })).verdict, "Block");
});
