import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { baseScenario } from "./exhaustive.ts";
import { runScenario } from "./run.ts";
import type { Scenario } from "./scenario.ts";

const MINUTE = 60_000;

describe("a simulated drain", () => {
  it("stops when a person opens the node in the midst of it, and leaves what is there where it is", async () => {
    const { scenario } = baseScenario("node")!;
    // No pod may go: it waits for its PodDisruptionBudget.
    const held: Scenario = {
      ...scenario,
      workloads: scenario.workloads.map((workload) => ({ ...workload, minAvailable: workload.replicas })),
    };
    const play = async (faults: Scenario["faults"]): Promise<string[]> => {
      const lines: string[] = [];
      const { violations } = await runScenario({ ...held, faults }, { trace: (line) => void lines.push(line) });
      assert.deepEqual(violations, []);
      return lines.filter((line) => /record (Result|Phase)|effect Drain|effect Uncordon/.test(line));
    };
    const ill = { id: 0, kind: "NodeIll", at: MINUTE, for: 4 * MINUTE, index: 0 } as const;
    const opened = await play([ill, { id: 1, kind: "CordonByPerson", at: 100_000, for: 20_000, index: 0 }]);
    const stopped = opened.find((line) => line.includes("was uncordoned by somebody since"));
    assert.ok(stopped !== undefined && Number.parseFloat(stopped) < 135, opened.join("\n"));
    assert.deepEqual(
      opened.filter((line) => line.includes("effect Drain delete")),
      [],
    );
    const left = await play([ill]);
    assert.ok(!left.some((line) => line.includes("was uncordoned by somebody since")));
  });
});
