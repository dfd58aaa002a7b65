import assert from "node:assert/strict";
import { it } from "node:test";
import { ExampleTraces } from "./exemplars.ts";

it("keeps the newest few traces of each metric of each replica", () => {
  const traces = new ExampleTraces();
  traces.add("a", "m", ["1", "2"], 10);
  traces.add("a", "m", ["3", "2"], 20);
  traces.add("a", "m", ["old"], 5);
  traces.add("a", "n", ["x"], 20);
  traces.add("a", "m", [], 30);
  assert.deepEqual(traces.of("a", "m", 0), ["3", "2", "1"]);
  assert.deepEqual(traces.of("a", "m", 15), ["3", "2"]);
  assert.deepEqual(traces.of("a", "n", 0), ["x"]);
  assert.deepEqual(traces.of("b", "m", 0), []);
});

it("forgets who has not been heard of for longest", () => {
  const traces = new ExampleTraces();
  for (let i = 0; i < 20_000; i++) traces.add(`u${i}`, "m", ["t"], 1);
  traces.add("u0", "m", ["t"], 2);
  traces.add("new", "m", ["t"], 2);
  assert.deepEqual([traces.of("u0", "m", 0), traces.of("u1", "m", 0), traces.of("new", "m", 0)], [["t"], [], ["t"]]);
});
