import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { remediation as example } from "../../../test/support/remediation.ts";
import { remediationStatusSchema, type Remediation } from "../../api/remediation.ts";
import type { EffectType, Platform, Workload } from "../../ports/platform.ts";
import { abandon } from "../machine.ts";

const NODE = { kind: "Node", namespace: "nightshift-system", name: "n1", uid: "n1" };
const POOL = { kind: "NodePool", namespace: "nightshift-system", name: "nodes", uid: "nodepool/nodes" };

/** An episode that has cordoned and emptied a node, and waits for it to be well. */
function waiting(): Remediation {
  const base = example("nodes");
  const step = (type: string, state: string, i: number): object => ({
    name: type,
    type,
    params: {},
    timeoutMs: 1_000,
    state,
    effectId: `nightshift-system/nodes/0/${i}`,
  });
  const at = "2026-01-01T00:00:00Z";
  const steps = [step("cordon", "Done", 0), step("drain", "Done", 1), step("awaitHealed", "Intended", 2), step("uncordon", "Pending", 3)];
  return {
    ...base,
    spec: { ...base.spec, signalTarget: NODE, remediationTarget: NODE, workload: POOL },
    status: remediationStatusSchema.parse({
      phase: "Executing",
      revision: 1,
      attempts: [{ rung: 0, what: "CordonAndDrainNode", startedAt: at, deadline: at, steps, undo: [] }],
    }),
  } as unknown as Remediation;
}

function platform(ready: boolean): Platform {
  const replica = { ref: NODE, workload: POOL, phase: "Running", ready, everReady: true, inTraffic: false, startedAt: 0, restarts: 0 };
  const pool = {
    ref: POOL,
    desired: 1,
    replicas: [{ ...replica, labels: {}, annotations: {} }],
    labels: {},
    annotations: {},
    enclosing: [],
  };
  return {
    effects: new Set<EffectType>(["Cordon", "Uncordon", "Drain"]),
    workloads: () => [pool as unknown as Workload],
  } as unknown as Platform;
}

const undone = (outcome: "Failed" | "Cancelled" | "Ineffective", ready: boolean): string[] =>
  abandon(waiting(), outcome, "", platform(ready), 0).status.attempts[0]?.undo.map(({ type }) => type) ?? [];

describe("a node that was cordoned and emptied", () => {
  it("stays cordoned where it does not become well, and is opened where it does", () => {
    assert.deepEqual([undone("Failed", false), undone("Ineffective", false)], [[], []]);
    assert.deepEqual([undone("Failed", true), undone("Ineffective", true)], [["uncordon"], ["uncordon"]]);
  });

  it("is opened where a person took the ground away: no page tells that it would stay cordoned", () => {
    assert.deepEqual([undone("Cancelled", false), undone("Cancelled", true)], [["uncordon"], ["uncordon"]]);
  });
});
