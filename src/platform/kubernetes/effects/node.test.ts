import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect } from "../../../ports/platform.ts";
import { MARKS } from "../marks.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;
const MARK = { metadata: { annotations: { "nightshift.dev/do-not-remediate": "true" } } };

function setUp() {
  const world = new KubeWorld();
  world.deployment();
  const replica = world.workload("nodes").replicas.find((r) => r.ref.name === "n1")!.ref;
  const cordon: Effect = { id: "nightshift-system/r/0/0", type: "Cordon", replica };
  const drain: Effect = { id: "nightshift-system/r/0/1", type: "Drain", replica };
  const uncordon: Effect = { id: "nightshift-system/r/0/0/undo0", type: "Uncordon", replica, of: cordon.id };
  const node = () => world.kube.get("Node", "", "n1");
  const onNode = (): string[] =>
    world
      .pods()
      .filter((pod) => pod.spec.nodeName === "n1")
      .map((pod) => pod.metadata.name);
  for (const pod of world.pods().slice(0, 2)) world.kube.change("Pod", "shop", pod.metadata.name, { spec: { nodeName: "n1" } });
  return { world, replica, cordon, drain, uncordon, node, onNode };
}

describe("Cordon and Uncordon", () => {
  it("close a node and open it again", async () => {
    const { world, cordon, uncordon, node } = setUp();
    assert.deepEqual(await world.effects.observe(cordon), { state: "NotApplied" });
    await world.apply(cordon);
    assert.equal(node()?.spec?.unschedulable, true);
    assert.equal(node()?.metadata.annotations?.[MARKS.cordonedBy], cordon.id);
    assert.equal((await world.restarted().observe(cordon)).state, "Applied");
    assert.equal(world.workload("nodes").replicas[0]?.busy, undefined);
    await world.apply(uncordon);
    assert.equal(node()?.spec?.unschedulable, undefined);
    assert.equal((await world.restarted().observe(uncordon)).state, "Applied");
    await assert.rejects(world.apply(cordon, 60_000, world.restarted()), code("EFFECT_FAILED"));
    assert.equal(node()?.spec?.unschedulable, undefined);
  });

  it("take effect once, and read again on a conflict", async () => {
    const { world, cordon } = setUp();
    let conflicts = 0;
    world.kube.before = ({ method }) => {
      if (method === "PATCH" && conflicts++ < 2) throw failure("KUBE_CONFLICT", "modified");
    };
    await world.apply(cordon);
    await world.apply(cordon, 60_000, world.restarted());
    assert.equal(world.kube.writes.length, 1);
  });

  it("leave a node to whoever else has closed it", async () => {
    const { world, cordon, uncordon, node } = setUp();
    world.kube.change("Node", "", "n1", { spec: { unschedulable: true } });
    await assert.rejects(world.apply(cordon), code("NODE_CORDONED"));
    await world.apply(uncordon);
    assert.equal(node()?.spec?.unschedulable, true);
    assert.deepEqual(world.kube.writes, []);
  });

  it("leave a node closed that somebody else has closed since", async () => {
    const { world, cordon, uncordon, node } = setUp();
    await world.apply(cordon);
    world.kube.change("Node", "", "n1", { spec: { unschedulable: null } });
    world.kube.change("Node", "", "n1", { spec: { unschedulable: true } });
    assert.match((await world.apply(uncordon)).message, /cordoned by somebody else since, and is left so/);
    assert.equal(node()?.spec?.unschedulable, true);
    assert.equal(node()?.metadata.annotations?.[MARKS.cordonedBy], undefined);
    assert.equal((await world.restarted().observe(uncordon)).state, "Applied");
  });

  it("refuse a node that is marked, or gone", async () => {
    const { world, cordon } = setUp();
    world.kube.change("Node", "", "n1", MARK);
    await assert.rejects(world.apply(cordon), code("DO_NOT_REMEDIATE"));
    world.kube.remove("Node", "", "n1");
    await assert.rejects(world.apply(cordon), code("NOT_FOUND"));
  });
});

describe("Drain", () => {
  it("evicts what can be moved, and leaves what belongs to the node", async () => {
    const { world, drain, onNode } = setUp();
    const daemon = { ownerReferences: [{ apiVersion: "apps/v1", kind: "DaemonSet", name: "agent", uid: "ds", controller: true }] };
    world.pod("agent-x", daemon);
    world.pod("static", { annotations: { "kubernetes.io/config.mirror": "x" } });
    world.pod("done", {}, {}, { phase: "Succeeded" });
    world.pod("dns", { namespace: "kube-system" });
    world.pod("info", { namespace: "kube-public" });
    world.pod("lease", { namespace: "kube-node-lease" });
    const ownerReferences = [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "tough", uid: "tough", controller: true }];
    world.pod("tough", { ownerReferences }, { tolerations: [{ operator: "Exists" }] });
    assert.deepEqual(await world.effects.observe(drain), { state: "NotApplied" });
    assert.match((await world.apply(drain)).message, /2 pods were evicted/);
    assert.deepEqual(onNode(), ["agent-x", "static", "done", "dns", "info", "lease", "tough"]);
    assert.equal((await world.restarted().observe(drain)).state, "Applied");
    assert.ok(world.kube.writes.filter(({ method }) => method === "POST").every(({ path }) => path.endsWith("/eviction")));
  });

  for (const [what, prepare, expected] of [
    ["a pod on it is marked", (w: KubeWorld) => w.kube.change("Pod", "shop", w.pods()[1]!.metadata.name, MARK), "DO_NOT_REMEDIATE"],
    ["a workload on it is marked", (w: KubeWorld) => w.kube.change("Deployment", "shop", "payments", MARK), "DO_NOT_REMEDIATE"],
    ["a namespace on it is marked", (w: KubeWorld) => w.kube.change("Namespace", "", "shop", MARK), "DO_NOT_REMEDIATE"],
    ["the node is marked", (w: KubeWorld) => w.kube.change("Node", "", "n1", MARK), "DO_NOT_REMEDIATE"],
    ["a pod on it has no owner", (w: KubeWorld) => void w.pod("alone"), "NOT_MOVABLE"],
  ] as const)
    it(`evicts nothing where ${what}`, async () => {
      const { world, drain, onNode } = setUp();
      prepare(world);
      const before = onNode();
      await assert.rejects(world.apply(drain), code(expected));
      assert.deepEqual(onNode(), before);
      assert.deepEqual(world.kube.writes, []);
    });

  it("evicts the next one only when the last one's workload is whole again", async () => {
    const { world, drain, onNode } = setUp();
    world.kube.podsBecomeReady = false;
    await assert.rejects(world.apply(drain, 20_000), /payments has 1 other replicas that are ready, of 3: it can spare none/);
    assert.equal(onNode().length, 1);
    assert.deepEqual(await world.restarted().observe(drain), { state: "NotApplied" });
    for (const pod of world.pods())
      world.kube.change("Pod", "shop", pod.metadata.name, {
        status: { phase: "Running", conditions: [{ type: "Ready", status: "True" }] },
      });
    await world.apply(drain, 60_000, world.restarted());
    assert.deepEqual(onNode(), []);
  });

  it("evicts no other where only the caches have not heard that the last one has gone", async () => {
    const { world, drain, onNode } = setUp();
    world.kube.feeding = false;
    world.kube.podsBecomeReady = false;
    await assert.rejects(world.apply(drain, 20_000), /payments has 1 other replicas that are ready, of 3: it can spare none/);
    assert.equal(onNode().length, 1);
  });

  for (const [what, prepare] of [
    ["a workload", (w: KubeWorld) => w.kube.change("Deployment", "shop", "payments", MARK)],
    ["a namespace", (w: KubeWorld) => w.kube.change("Namespace", "", "shop", MARK)],
  ] as const)
    it(`evicts nothing more where ${what} is marked while it waits`, async () => {
      const { world, drain, onNode } = setUp();
      world.kube.podsBecomeReady = false;
      const draining = world.apply(drain, 60_000);
      draining.catch(() => undefined);
      await world.clock.advance(5_000);
      assert.equal(onNode().length, 1);
      prepare(world);
      for (const pod of world.pods())
        world.kube.change("Pod", "shop", pod.metadata.name, {
          status: { phase: "Running", conditions: [{ type: "Ready", status: "True" }] },
        });
      await assert.rejects(draining, code("DO_NOT_REMEDIATE"));
      assert.equal(onNode().length, 1);
    });

  it("evicts nothing of which the caches have not heard yet", async () => {
    const { world, drain, onNode } = setUp();
    world.kube.feeding = false;
    const { labels = {}, ownerReferences = [] } = world.pods()[0]!.metadata;
    for (const name of onNode()) world.kube.change("Pod", "shop", name, { spec: { nodeName: "n2" } });
    world.pod("new", { labels, ownerReferences });
    await assert.rejects(world.apply(drain, 10_000), /pod shop\/new is not known yet/i);
    assert.deepEqual(onNode(), ["new"]);
  });

  it("moves one pod of a workload at a time, also where two nodes are emptied at once", async () => {
    const { world, drain, onNode } = setUp();
    const [on] = onNode();
    world.kube.change("Pod", "shop", on ?? "", { spec: { nodeName: "n2" } });
    const replica = world.workload("nodes").replicas.find((r) => r.ref.name === "n2")!.ref;
    const other: Effect = { id: "nightshift-system/s/0/1", type: "Drain", replica };
    world.kube.podsBecomeReady = false;
    const ends = await Promise.allSettled([world.apply(drain, 20_000), world.apply(other, 20_000)]);
    assert.deepEqual(ends.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
    assert.equal(world.kube.writes.filter(({ method }) => method === "POST").length, 1);
  });

  it("stops when somebody opens the node in the midst of it, and closes it no second time", async () => {
    const { world, cordon, drain, uncordon, node, onNode } = setUp();
    await world.apply(cordon);
    world.kube.podsBecomeReady = false;
    const before = onNode().length;
    let evicted = 0;
    world.kube.before = ({ method, path }) => {
      if (method !== "POST" || !path.endsWith("/eviction") || evicted++ > 0) return;
      // kubectl takes the taint and the field away, and no annotation.
      world.kube.change("Node", "", "n1", { spec: { unschedulable: undefined } });
    };
    await assert.rejects(world.apply(drain, 120_000), code("NODE_UNCORDONED"));
    assert.deepEqual([evicted, onNode().length], [1, before - 1]);
    await assert.rejects(world.apply(cordon, 60_000, world.restarted()), code("EFFECT_FAILED"));
    assert.equal(node()?.spec?.unschedulable, undefined);
    await world.apply(uncordon);
    assert.equal(node()?.metadata.annotations?.[MARKS.cordonedBy], undefined);
  });

  it("does not count a replica that is out of traffic", async () => {
    const { world, drain, onNode } = setUp();
    const out = world.pods().find(({ metadata }) => !onNode().includes(metadata.name))!.metadata.name;
    world.kube.change("Pod", "shop", out, { metadata: { annotations: { [MARKS.removedLabels]: "{}" } } });
    await assert.rejects(world.apply(drain, 5_000), /payments has 1 other replicas that are ready, of 3: it can spare none/);
    assert.equal(onNode().length, 2);
  });

  it("waits for a PodDisruptionBudget", async () => {
    const { world, drain, onNode } = setUp();
    world.pdb("payments", "payments", { minAvailable: 3 });
    await assert.rejects(world.apply(drain, 10_000), /disruption budget/);
    assert.equal(onNode().length, 2);
    world.kube.change("PodDisruptionBudget", "shop", "payments", { status: { disruptionsAllowed: 1 } });
    await world.apply(drain, 60_000, world.restarted());
    assert.deepEqual(onNode(), []);
  });

  it("does not wait for pods to end on a node that is not heard of", async () => {
    const { world, drain, onNode } = setUp();
    world.kube.graceful = true;
    world.kube.change("Node", "", "n1", { status: { conditions: [{ type: "Ready", status: "Unknown" }] } });
    await world.apply(drain);
    assert.equal(onNode().length, 2);
    assert.ok(
      world
        .pods()
        .filter((pod) => pod.spec.nodeName === "n1")
        .every((pod) => pod.metadata.deletionTimestamp !== undefined),
    );
  });

  it("evicts what carries it out last", async () => {
    const { world, drain } = setUp();
    const ownerReferences = [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "nightshift-1", uid: "ns", controller: true }];
    world.pod("a-nightshift", { namespace: "nightshift-system", ownerReferences });
    await world.apply(drain);
    const evicted = world.kube.writes.filter(({ method }) => method === "POST").map(({ path }) => path);
    assert.match(evicted.at(-1) ?? "", /a-nightshift/);
  });
});
