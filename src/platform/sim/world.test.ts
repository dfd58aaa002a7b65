import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { streamOf } from "./random.ts";
import { Simulation } from "./simulation.ts";
import { SimWorld } from "./world.ts";

describe("nodes of the simulated cluster", () => {
  it("one that is gone is told of, also where it was down before", () => {
    const simulation = new Simulation(streamOf(1, "ties"));
    const world = new SimWorld({ simulation, random: streamOf(1, "world"), workloads: [], nodes: 2, nodesIn: "nightshift-system" });
    const [node] = world.nodes;
    assert.ok(node);
    world.setNode(node, false);
    assert.deepEqual(
      world.takeChangedPools().map(({ name }) => name),
      ["nodes"],
    );
    world.removeNode(node);
    assert.deepEqual(
      world.takeChangedPools().map(({ name }) => name),
      ["nodes"],
    );
  });
});
