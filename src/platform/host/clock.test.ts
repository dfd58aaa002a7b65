import assert from "node:assert/strict";
import { it } from "node:test";
import { systemClock } from "./clock.ts";

it("fires once, in order, and not after it was cancelled", async () => {
  const log: string[] = [];
  systemClock.after(1, () => log.push("cancelled"))();
  await new Promise<void>((resolve) => {
    systemClock.after(2, () => log.push("first"));
    systemClock.after(40, () => {
      log.push("second");
      resolve();
    });
  });
  assert.deepEqual(log, ["first", "second"]);
});

it("a wait longer than Node's timers can take does not fire at once", async () => {
  let fired = false;
  const cancel = systemClock.after(60 * 86_400_000, () => {
    fired = true;
  });
  await new Promise<void>((resolve) => void systemClock.after(50, resolve));
  cancel();
  assert.equal(fired, false);
});

it("monotonic time never goes back", () => {
  const one = systemClock.monotonic();
  assert.ok(systemClock.monotonic() >= one);
});
