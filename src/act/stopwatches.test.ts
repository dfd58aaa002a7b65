import assert from "node:assert/strict";
import { it } from "node:test";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { Stopwatches } from "./stopwatches.ts";

const DAY = 86_400_000;

it("counts by the monotonic clock from where it was first asked, whatever the wall clock does", async () => {
  const clock = new ManualClock();
  const watches = new Stopwatches(clock);
  const began = clock.now();
  assert.equal(watches.elapsed("a", "step", began), 0);
  for (const jump of [DAY, -3 * DAY, 2 * DAY]) clock.jump(clock.now() + jump);
  await clock.advance(5_000);
  assert.equal(watches.elapsed("a", "step", began), 5_000);
  assert.equal(watches.elapsed("a", "other", clock.now()), 0);
  assert.equal(watches.elapsed("b", "step", clock.now() - 1_000), 1_000);
});

it("takes the wall clock's word for what came before a restart, never less than nothing", () => {
  const clock = new ManualClock();
  const began = clock.now() - 7_000;
  assert.equal(new Stopwatches(clock).elapsed("a", "step", began), 7_000);
  clock.jump(clock.now() - DAY);
  assert.equal(new Stopwatches(clock).elapsed("a", "step", began), 0);
});

it("another beginning is another run, and what is forgotten begins anew", async () => {
  const clock = new ManualClock();
  const watches = new Stopwatches(clock);
  const first = clock.now();
  watches.elapsed("a", "step", first);
  await clock.advance(1_000);
  assert.equal(watches.elapsed("a", "step", clock.now()), 0);
  watches.forget("a");
  clock.jump(first + 500);
  assert.equal(watches.elapsed("a", "step", first), 500);
  assert.ok(Number.isNaN(watches.elapsed("a", "none", NaN)));
});
