import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { streamOf } from "./random.ts";
import { Simulation } from "./simulation.ts";
import { type Pod, SimWorld } from "./world.ts";

const MIB = 2 ** 20;

describe("memory of simulated pods", () => {
  function made(): { readonly simulation: Simulation; readonly world: SimWorld; readonly pod: Pod } {
    const simulation = new Simulation(streamOf(1, "ties"));
    const spec = { kind: "Deployment", name: "payments", replicas: 1, startMs: 1_000, graceMs: 500, rps: 0, calls: [] } as const;
    const world = new SimWorld({ simulation, random: streamOf(1, "world"), workloads: [spec], nodes: 1 });
    const pod = world.workloads[0]?.pods[0];
    assert.ok(pod);
    return { simulation, world, pod };
  }
  const leak = (world: SimWorld, pod: Pod): void =>
    world.fallIll(pod, { fault: 0, kind: "Leak", since: pod.createdAt, ms: 100_000, rate: 1 });

  it("one that leaks lives as much longer as it is given more, in place", async () => {
    const { simulation, world, pod } = made();
    leak(world, pod);
    world.askLimit(pod, 1_024 * MIB);
    await simulation.runUntil(5_000, () => undefined);
    assert.equal(pod.limitBytes, 1_024 * MIB);
    await simulation.runUntil(242_000, () => undefined);
    assert.equal(pod.restarts, 0);
    // 0.3 of its first limit is in use while it is well, and 0.7 of it are added in 100 s.
    await simulation.runUntil(244_000, () => undefined);
    assert.deepEqual([pod.restarts, pod.killedForMemoryAt === undefined], [1, false]);
  });

  it("is not given by a node that has none, put off by one that may have some later, and not taken away while it is used", async () => {
    const { simulation, world, pod } = made();
    pod.node.resizes = "Infeasible";
    world.askLimit(pod, 1_024 * MIB);
    await simulation.runUntil(5_000, () => undefined);
    assert.deepEqual([pod.limitBytes, pod.resizeIsInfeasible], [512 * MIB, true]);
    pod.node.resizes = "Deferred";
    world.askLimit(pod, 1_024 * MIB);
    await simulation.runUntil(20_000, () => undefined);
    assert.deepEqual([pod.limitBytes, pod.resizeIsInfeasible], [512 * MIB, false]);
    pod.node.resizes = "CarriedOut";
    await simulation.runUntil(30_000, () => undefined);
    assert.equal(pod.limitBytes, 1_024 * MIB);
    world.askLimit(pod, 100 * MIB);
    await simulation.runUntil(60_000, () => undefined);
    assert.equal(pod.limitBytes, 1_024 * MIB);
  });
});

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
