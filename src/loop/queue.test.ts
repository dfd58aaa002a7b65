import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { flush, ManualClock } from "../../test/support/manual-clock.ts";
import { seededRandom } from "../../test/support/seeded-random.ts";
import { WorkQueue, type Requeue } from "./queue.ts";

/** A queue whose work begins at once and ends when the test says so. */
function setUp(options: { concurrency?: number; onBegin?: (key: string) => void } = {}): {
  queue: WorkQueue;
  clock: ManualClock;
  begun: string[];
  errors: string[];
  /** Keys that are worked on. */
  readonly open: () => string[];
  readonly end: (key: string, how?: Requeue | Error) => Promise<void>;
} {
  const clock = new ManualClock();
  const begun: string[] = [];
  const errors: string[] = [];
  const running = new Map<string, PromiseWithResolvers<Requeue>>();
  const queue = new WorkQueue({
    clock,
    random: seededRandom(),
    onError: (key) => errors.push(key),
    ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
    work: (key) => {
      assert.ok(!running.has(key), `${key} is worked on twice at once`);
      const work = Promise.withResolvers<Requeue>();
      running.set(key, work);
      begun.push(key);
      options.onBegin?.(key);
      return work.promise;
    },
  });
  return {
    queue,
    clock,
    begun,
    errors,
    open: () => [...running.keys()],
    end: async (key, how = {}) => {
      const work = running.get(key);
      assert.ok(work !== undefined, `${key} is not worked on`);
      running.delete(key);
      if (how instanceof Error) work.reject(how);
      else work.resolve(how);
      await flush();
    },
  };
}

describe("the work queue", () => {
  it("works once on a key that is added often, in the order of the first adding", async () => {
    const { queue, begun, end } = setUp({ concurrency: 1 });
    for (const key of ["a", "b", "c", "b", "c", "b"]) queue.add(key);
    await flush();
    for (const key of ["a", "b", "c"]) await end(key);
    assert.deepEqual(begun, ["a", "b", "c"]);
    assert.equal(queue.depth, 0);
  });

  it("works again on a key that is added while it is worked on, and only once", async () => {
    const { queue, begun, end } = setUp();
    queue.add("a");
    await flush();
    queue.add("a");
    queue.add("a");
    await flush();
    assert.deepEqual(begun, ["a"]);
    await end("a");
    assert.deepEqual(begun, ["a", "a"]);
    await end("a");
    assert.deepEqual(begun, ["a", "a"]);
  });

  it("works again, not twice at once, on a key that its own work adds at its beginning", async () => {
    let again = true;
    const { queue, begun, end } = setUp({
      onBegin: (key) => {
        if (again) queue.add(key);
        again = false;
      },
    });
    queue.add("a");
    await flush();
    assert.deepEqual(begun, ["a"]);
    await end("a");
    assert.deepEqual(begun, ["a", "a"]);
  });

  it("works on no more keys at once than it may", async () => {
    const { queue, begun, end } = setUp({ concurrency: 2 });
    for (const key of ["a", "b", "c"]) queue.add(key);
    await flush();
    assert.deepEqual(begun, ["a", "b"]);
    await end("b");
    assert.deepEqual(begun, ["a", "b", "c"]);
  });

  it("tries again after an error, later each time, and at once when something new happens", async () => {
    const { queue, clock, begun, errors, end } = setUp();
    queue.add("a");
    await flush();
    await end("a", new Error("no"));
    await clock.advance(4);
    assert.equal(begun.length, 1);
    await clock.advance(3);
    assert.equal(begun.length, 2);
    await end("a", new Error("no"));
    await clock.advance(9);
    assert.equal(begun.length, 2);
    queue.add("a");
    await flush();
    assert.equal(begun.length, 3);
    assert.deepEqual(errors, ["a", "a"]);
    await end("a");
    await clock.advance(60_000);
    assert.equal(begun.length, 3);
  });

  it("works on a key after the shortest of the delays asked for", async () => {
    const { queue, clock, begun } = setUp();
    queue.addAfter("a", 1_000);
    queue.addAfter("a", 100);
    queue.addAfter("a", 500);
    await clock.advance(99);
    assert.deepEqual(begun, []);
    await clock.advance(1);
    assert.deepEqual(begun, ["a"]);
  });

  it("takes no work once it is stopped, and waits for what is under way", async () => {
    const { queue, clock, begun, end } = setUp({ concurrency: 1 });
    queue.add("a");
    queue.add("b");
    queue.addAfter("c", 10);
    await flush();
    let stopped = false;
    const stop = queue.stop().then(() => (stopped = true));
    queue.add("d");
    await clock.advance(100);
    assert.equal(stopped, false);
    await end("a", { after: 1 });
    await stop;
    await clock.advance(100);
    assert.deepEqual(begun, ["a"]);
  });

  it("works on every key after it was last added, whatever the order of events", async () => {
    const event = fc.record({ what: fc.constantFrom("add", "end"), key: fc.constantFrom("a", "b", "c", "d", "e") });
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 60 }), fc.integer({ min: 1, max: 3 }), async (events, concurrency) => {
        const owed = new Set<string>();
        const { queue, open, end } = setUp({ concurrency, onBegin: (key) => owed.delete(key) });
        for (const { what, key } of events) {
          if (what === "add") {
            owed.add(key);
            queue.add(key);
            await flush(1);
          } else if (open().includes(key)) await end(key);
        }
        for (let key = open()[0]; key !== undefined; key = open()[0]) await end(key);
        assert.deepEqual([...owed], []);
        assert.equal(queue.depth, 0);
      }),
      { numRuns: 200 },
    );
  });
});
