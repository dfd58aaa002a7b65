import assert from "node:assert/strict";
import { it } from "node:test";
import { ManualClock } from "./manual-clock.ts";
import { MemoryStore } from "./memory-store.ts";
import { approvalObject } from "./objects.ts";
import { seededRandom } from "./seeded-random.ts";
import { storeConformance, withCode } from "./store-conformance.ts";
import { NightshiftError } from "../../src/api/errors.ts";
import { sleep } from "../../src/ports/clock.ts";

storeConformance("MemoryStore", () => new MemoryStore());

const make = (): Promise<unknown> => new MemoryStore(new ManualClock(), seededRandom(7)).create(approvalObject("a"));

it("MemoryStore gives the same objects for the same clock and seed", async () => {
  assert.deepEqual(await make(), await make());
});

it("MemoryStore lets a test break a write", async () => {
  const store = new MemoryStore();
  store.beforeWrite = () => {
    throw new NightshiftError("STORE_UNAVAILABLE", "the disk is gone");
  };
  await assert.rejects(store.create(approvalObject("a")), withCode("STORE_UNAVAILABLE"));
  store.beforeWrite = undefined;
  await store.create(approvalObject("a"));
  assert.deepEqual(store.writes, [{ verb: "create", kind: "RemediationApproval", namespace: "default", name: "a" }]);
});

it("ManualClock runs timers in order of time, with what follows from each before the next", async () => {
  const clock = new ManualClock(0);
  const log: string[] = [];
  const loop = async (name: string, ms: number): Promise<void> => {
    for (let i = 0; i < 3; i += 1) {
      await sleep(clock, ms);
      log.push(`${name}@${clock.now()}`);
    }
  };
  const done = Promise.all([loop("a", 20), loop("b", 30)]);
  const cancel = clock.after(10, () => log.push("cancelled"));
  cancel();
  await clock.advance(65);
  assert.deepEqual(log, ["a@20", "b@30", "a@40", "b@60", "a@60"]);
  assert.equal(clock.now(), 65);
  clock.jump(1_000_000);
  assert.equal(clock.monotonic(), 65);
  await clock.advance(25);
  await done;
  assert.equal(clock.pending, 0);
});

it("seededRandom is uniform enough, and the same for the same seed", () => {
  const random = seededRandom(3);
  const buckets = Array.from({ length: 10 }, () => 0);
  for (let i = 0; i < 10_000; i += 1) {
    const bucket = Math.floor(random.next() * 10);
    buckets[bucket] = (buckets[bucket] ?? 0) + 1;
  }
  for (const count of buckets) assert.ok(count > 850 && count < 1150, String(buckets));
  assert.deepEqual([seededRandom(3).next(), seededRandom(3).uuid()], [seededRandom(3).next(), seededRandom(3).uuid()]);
  assert.match(random.uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});
