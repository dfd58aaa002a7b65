import assert from "node:assert/strict";
import { it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Gate } from "./gate.ts";

it("lets so many through at once, in order, and the next one also after a failure", async () => {
  const gate = new Gate(2);
  const log: string[] = [];
  let running = 0;
  const task = (name: string, fails = false) =>
    gate.run(async () => {
      running += 1;
      assert.ok(running <= 2);
      log.push(name);
      await turn();
      await turn();
      running -= 1;
      if (fails) throw new Error(name);
      return name;
    });
  const results = await Promise.allSettled([task("a"), task("b", true), task("c"), task("d", true), task("e")]);
  assert.deepEqual(log, ["a", "b", "c", "d", "e"]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ["fulfilled", "rejected", "fulfilled", "rejected", "fulfilled"],
  );
  assert.equal(await task("f"), "f");
});
