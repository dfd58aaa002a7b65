import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BASE_SCENARIOS } from "./base-scenarios.ts";
import { MonitoringSystem, type Notice } from "./monitoring.ts";
import { streamOf } from "./random.ts";
import { Simulation } from "./simulation.ts";
import { Traffic } from "./traffic.ts";
import { SimWorld } from "./world.ts";

describe("a notice of Alertmanager that is delivered again", () => {
  async function played(
    until = 400_000,
  ): Promise<{ readonly monitoring: MonitoringSystem; readonly heard: Notice[]; readonly simulation: Simulation }> {
    const scenario = BASE_SCENARIOS.find(({ name }) => name === "alert")?.scenario;
    assert.ok(scenario);
    const simulation = new Simulation(streamOf(1, "ties"));
    const world = new SimWorld({ simulation, random: streamOf(1, "world"), workloads: scenario.workloads, nodes: scenario.nodes });
    const heard: Notice[] = [];
    const monitoring = new MonitoringSystem({
      simulation,
      world,
      traffic: new Traffic(simulation, world, streamOf(1, "traffic"), scenario),
      random: streamOf(1, "monitoring"),
      setup: scenario.monitoring,
      faults: { scrapeFails: () => false, noticeDelays: () => [0], flaps: () => undefined },
      deliver: (notice) => heard.push(notice) > 0,
    });
    const pod = world.workloads[0]?.pods[0];
    assert.ok(pod);
    simulation.schedule(60_000, () => world.fallIll(pod, { fault: 0, kind: "Hang", since: simulation.now, ms: 60_000, rate: 1 }));
    simulation.schedule(120_000, () => world.cure(0));
    await simulation.runUntil(until, () => undefined);
    assert.deepEqual(
      heard.map((notice) => notice.map(({ status }) => status).join()),
      ["firing", "resolved"],
    );
    return { monitoring, heard, simulation };
  }

  it("comes also to who has led for long and knows that it is over", async () => {
    const { monitoring, heard } = await played();
    monitoring.replay(2, 0);
    assert.equal(heard[2], heard[0]);
  });
  it("comes to nobody who leads since it was sent, and cannot know how old it is", async () => {
    const { monitoring, heard } = await played();
    monitoring.replay(2, 300_000);
    assert.equal(heard.length, 2);
  });
  it("comes also to who leads since, while Alertmanager itself would still try", async () => {
    const { monitoring, heard, simulation } = await played(200_000);
    monitoring.replay(1, simulation.elapsed);
    assert.equal(heard[2], heard[1]);
  });
});
