import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { sleep } from "../../ports/clock.ts";
import { streamOf } from "./random.ts";
import { Simulation } from "./simulation.ts";

const simulation = (seed = 1): Simulation => new Simulation(streamOf(seed, "ties"));

describe("virtual time", () => {
  it("runs events in order of their time, and those that they bring about", async () => {
    const sim = simulation();
    const seen: string[] = [];
    sim.schedule(20, () => seen.push(`late ${sim.elapsed}`));
    sim.schedule(10, () => {
      seen.push(`early ${sim.elapsed}`);
      sim.schedule(5, () => seen.push(`between ${sim.elapsed}`));
    });
    await sim.runUntil(100, () => undefined);
    assert.deepEqual(seen, ["early 10", "between 15", "late 20"]);
    assert.equal(sim.elapsed, 100);
  });

  it("puts events of the same time in an order that is the seed's", async () => {
    const orderOf = async (seed: number): Promise<string> => {
      const sim = simulation(seed);
      const seen: number[] = [];
      for (let i = 0; i < 8; i++) sim.schedule(1, () => seen.push(i));
      await sim.runUntil(1, () => undefined);
      return seen.join("");
    };
    assert.equal(await orderOf(1), await orderOf(1));
    assert.equal(new Set(await Promise.all([1, 2, 3, 4].map(orderOf))).size, 4);
  });

  it("lets everything that follows from an event of a process run before the next event, however long the chain", async () => {
    const sim = simulation();
    const process = sim.process("p");
    const seen: string[] = [];
    process.after(1, () => {
      void (async () => {
        for (let i = 0; i < 10_000; i++) await Promise.resolve();
        seen.push("chain");
      })();
    });
    process.after(1.001, () => seen.push("next"));
    await sim.runUntil(10, () => undefined);
    assert.deepEqual(seen, ["chain", "next"]);
  });

  it("moves on with every wait, however short: a remainder of a wait is below what a float can add", async () => {
    const sim = simulation();
    await sim.runUntil(500_000, () => undefined);
    let waits = 0;
    const again = (): void => {
      waits += 1;
      if (sim.elapsed > 500_000 || waits > 1_000) return;
      sim.schedule(1e-12, again);
    };
    sim.schedule(0, again);
    await sim.runUntil(500_001, () => undefined);
    assert.ok(waits < 5, `${waits} waits at one moment`);
  });

  it("runs nothing that was cancelled", async () => {
    const sim = simulation();
    const cancel = sim.schedule(1, () => assert.fail("it was cancelled"));
    cancel();
    await sim.runUntil(10, () => undefined);
    assert.equal(sim.events, 0);
  });
});

describe("a process", () => {
  it("has a monotonic clock from its start, and a wall clock that may be wrong and jump", async () => {
    const sim = simulation();
    await sim.runUntil(1_000, () => undefined);
    const process = sim.process("p");
    process.skewMs = 5_000;
    await sim.runUntil(3_000, () => undefined);
    assert.equal(process.monotonic(), 2_000);
    assert.equal(process.now(), Date.UTC(2026, 0, 1) + 8_000);
    process.skewMs = -60_000;
    assert.equal(process.monotonic(), 2_000);
  });

  it("that is killed does nothing more, whatever it waited for", async () => {
    const sim = simulation();
    const process = sim.process("p");
    let told = 0;
    process.onKill(() => (told += 1));
    process.after(10, () => assert.fail("it is dead"));
    void sleep(process, 20).then(() => assert.fail("it is dead"));
    sim.schedule(5, () => process.kill());
    await sim.runUntil(100, () => undefined);
    process.after(1, () => assert.fail("it is dead"));
    await sim.runUntil(200, () => undefined);
    assert.equal(told, 1);
    assert.equal(process.alive, false);
  });

  it("that is stopped does what was due when it goes on, in its order, and what was cancelled not", async () => {
    const sim = simulation();
    const process = sim.process("p");
    const seen: string[] = [];
    for (const ms of [30, 10, 20]) process.after(ms, () => seen.push(`${ms} at ${sim.elapsed}`));
    const cancel = process.after(15, () => seen.push("cancelled"));
    process.after(100, () => seen.push(`100 at ${sim.elapsed}`));
    process.stopFor(100);
    sim.schedule(50, cancel);
    await sim.runUntil(200, () => undefined);
    assert.deepEqual(seen, ["10 at 100", "20 at 100", "30 at 100", "100 at 100"]);
  });
});

describe("random streams", () => {
  it("are the same for the same seed and name, and differ for others", () => {
    const of = (seed: number, name: string): number[] =>
      Array.from(
        { length: 5 },
        (
          (s) => () =>
            s.next()
        )(streamOf(seed, name)),
      );
    assert.deepEqual(of(1, "a"), of(1, "a"));
    assert.notDeepEqual(of(1, "a"), of(1, "b"));
    assert.notDeepEqual(of(1, "a"), of(2, "a"));
    assert.ok(of(7, "x").every((n) => n >= 0 && n < 1));
  });

  it("are spread evenly", () => {
    const stream = streamOf(3, "even");
    const counts = Array.from({ length: 10 }, () => 0);
    for (let i = 0; i < 10_000; i++) counts[stream.int(0, 9)]! += 1;
    assert.ok(
      counts.every((count) => count > 850 && count < 1_150),
      counts.join(" "),
    );
  });
});
