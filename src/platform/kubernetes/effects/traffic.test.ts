import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect } from "../../../ports/platform.ts";
import { MARKS } from "../marks.ts";
import type { Pod } from "../objects.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;

/** A pod that was replaced and is about to be taken out of traffic. */
async function detached() {
  const world = new KubeWorld();
  world.deployment();
  const target = world.target();
  await world.apply({ id: "shop/r/0/0", type: "StartReplacement", workload: world.workload("payments").ref, replaces: target });
  world.kube.writes.length = 0;
  const remove: Effect = { id: "shop/r/0/2", type: "RemoveFromTraffic", replica: target };
  const restore: Effect = { id: "shop/r/0/2/undo0", type: "RestoreTraffic", replica: target };
  const pod = (): Pod | undefined => world.kube.get("Pod", "shop", target.name);
  return { world, target, remove, restore, pod };
}

describe("RemoveFromTraffic", () => {
  it("takes off the label that the Service selects by, and waits until its EndpointSlices have dropped the pod", async () => {
    const { world, target, remove, pod } = await detached();
    await world.apply(remove);
    assert.equal(pod()?.metadata.labels?.["app"], undefined);
    assert.equal(pod()?.metadata.annotations?.[MARKS.removedLabels], '{"app":"payments"}');
    assert.equal(world.workload("payments").replicas.find((r) => r.ref.uid === target.uid)?.inTraffic, false);
    assert.equal((await world.restarted().observe(remove)).state, "Applied");
  });

  it("takes effect once", async () => {
    const { world, remove } = await detached();
    await world.apply(remove);
    await world.apply(remove, 60_000, world.restarted());
    assert.equal(world.kube.writes.length, 1);
  });

  it("takes off as few labels as it can: one for each Service", async () => {
    const { world, target, remove, pod } = await detached();
    world.kube.change("Pod", "shop", target.name, { metadata: { labels: { tier: "web", team: "money" } } });
    world.kube.put("Service", { metadata: { name: "web", namespace: "shop" }, spec: { selector: { tier: "web" } } });
    world.kube.put("Service", { metadata: { name: "both", namespace: "shop" }, spec: { selector: { team: "money", app: "payments" } } });
    await world.apply(remove);
    assert.deepEqual(JSON.parse(pod()?.metadata.annotations?.[MARKS.removedLabels] ?? ""), { app: "payments", tier: "web" });
    assert.deepEqual(pod()?.metadata.labels, { team: "money" });
  });

  it("needs no label where no Service selects the pod", async () => {
    const { world, remove, pod } = await detached();
    world.kube.remove("Service", "shop", "payments");
    world.kube.remove("EndpointSlice", "shop", "payments-slice");
    await world.apply(remove);
    assert.equal(pod()?.metadata.labels?.["app"], "payments");
    assert.equal(world.workload("payments").replicas.find((r) => r.ref.uid === pod()?.metadata.uid)?.inTraffic, false);
  });

  it("refuses to take off a label by which its owner knows the pod", async () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db");
    world.kube.put("Service", { metadata: { name: "db", namespace: "shop" }, spec: { selector: { app: "db" } } });
    const remove: Effect = { id: "e", type: "RemoveFromTraffic", replica: world.target() };
    await assert.rejects(world.apply(remove), code("NOT_REMOVABLE_FROM_TRAFFIC"));
    // With a label more for the Service to go by, it can be.
    world.kube.change("Service", "shop", "db", { spec: { selector: { serves: "yes" } } });
    for (const pod of world.pods()) world.kube.change("Pod", "shop", pod.metadata.name, { metadata: { labels: { serves: "yes" } } });
    await world.apply(remove);
    assert.equal(world.pods()[0]?.metadata.labels?.["app"], "db");
  });

  it("is not done before the EndpointSlices have dropped the pod, and says which still have it", async () => {
    const { world, target, remove } = await detached();
    world.kube.put("EndpointSlice", {
      metadata: { name: "old", namespace: "shop", labels: { "kubernetes.io/service-name": "payments" } },
      endpoints: [{ conditions: { ready: true }, targetRef: { kind: "Pod", name: target.name, uid: target.uid } }],
    });
    await assert.rejects(world.apply(remove, 2_000), /EndpointSlices of payments still have/);
    assert.deepEqual(await world.restarted().observe(remove), { state: "NotApplied" });
    world.kube.remove("EndpointSlice", "shop", "old");
    assert.equal((await world.restarted().observe(remove)).state, "Applied");
  });

  it("reads again on a conflict, and fails for a pod that is gone", async () => {
    const { world, target, remove, pod } = await detached();
    let conflicts = 0;
    world.kube.before = ({ method }) => {
      if (method === "PATCH" && conflicts++ < 3) throw failure("KUBE_CONFLICT", "modified");
    };
    await world.apply(remove);
    assert.equal(pod()?.metadata.labels?.["app"], undefined);
    world.kube.remove("Pod", "shop", target.name);
    await assert.rejects(world.apply({ ...remove, id: "another" }), code("NOT_FOUND"));
  });
});

describe("RestoreTraffic", () => {
  it("puts every label back", async () => {
    const { world, target, remove, restore, pod } = await detached();
    await world.apply(remove);
    assert.deepEqual(await world.restarted().observe(restore), { state: "NotApplied" });
    await world.apply(restore);
    assert.equal(pod()?.metadata.labels?.["app"], "payments");
    assert.equal(pod()?.metadata.annotations?.[MARKS.removedLabels], undefined);
    assert.equal(world.workload("payments").replicas.find((r) => r.ref.uid === target.uid)?.inTraffic, true);
    assert.equal((await world.restarted().observe(restore)).state, "Applied");
  });

  it("is not undone by a removal that is delivered again", async () => {
    const { world, remove, restore, pod } = await detached();
    await world.apply(remove);
    await world.apply(restore);
    await world.apply(remove, 60_000, world.restarted());
    assert.equal(pod()?.metadata.labels?.["app"], "payments");
  });

  it("writes nothing where nothing was taken off", async () => {
    const { world, restore } = await detached();
    await world.apply(restore);
    assert.deepEqual(world.kube.writes, []);
  });
});
