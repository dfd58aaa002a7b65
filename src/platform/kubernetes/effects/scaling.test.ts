import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect } from "../../../ports/platform.ts";
import { MARKS, RESTARTED_AT } from "../marks.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;

function setUp(replicas = 5) {
  const world = new KubeWorld();
  world.deployment();
  const { ref } = world.workload("payments");
  const up: Extract<Effect, { type: "Scale" }> = { id: "shop/r/0/0", type: "Scale", workload: ref, replicas };
  const back: Effect = { id: "shop/r/0/0/undo0", type: "ScaleBack", workload: ref, of: up.id };
  const deployment = () => world.kube.get("Deployment", "shop", "payments");
  const hpa = () => world.kube.get("HorizontalPodAutoscaler", "shop", "payments");
  const autoscale = (minReplicas: number, maxReplicas: number): void =>
    void world.kube.put("HorizontalPodAutoscaler", {
      metadata: { name: "payments", namespace: "shop" },
      spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "payments" }, minReplicas, maxReplicas },
    });
  return { world, up, back, deployment, hpa, autoscale };
}

describe("Scale", () => {
  it("sets the replicas, and keeps the way back, in one write", async () => {
    const { world, up, deployment } = setUp();
    assert.deepEqual(await world.effects.observe(up), { state: "NotApplied" });
    await world.apply(up);
    assert.equal(world.kube.writes.length, 1);
    assert.equal(deployment()?.spec.replicas, 5);
    assert.partialDeepStrictEqual(deployment()?.metadata.annotations, {
      [MARKS.scaledBy]: up.id,
      [MARKS.scaledFrom]: "3",
      [MARKS.scaledTo]: "5",
      [MARKS.epoch]: "7",
    });
    assert.equal(world.workload("payments").desired, 5);
    assert.equal((await world.restarted().observe(up)).state, "Applied");
  });

  it("takes effect once", async () => {
    const { world, up, deployment } = setUp();
    await world.apply(up);
    world.kube.change("Deployment", "shop", "payments", { spec: { replicas: 9 } });
    await world.apply(up, 60_000, world.restarted());
    assert.equal(deployment()?.spec.replicas, 9);
  });

  it("never scales down", async () => {
    const { world, up, deployment } = setUp();
    world.kube.change("Deployment", "shop", "payments", { spec: { replicas: 8 } });
    assert.match((await world.apply(up)).message, /has 8 replicas already/);
    assert.equal(deployment()?.spec.replicas, 8);
  });

  it("raises the autoscaler's floor where one has the replicas, up to its bound", async () => {
    const { world, up, deployment, hpa, autoscale } = setUp(9);
    autoscale(2, 6);
    await world.apply(up);
    assert.equal(hpa()?.spec.minReplicas, 6);
    assert.equal(hpa()?.metadata.annotations?.[MARKS.scaledFrom], "2");
    assert.equal(deployment()?.spec.replicas, 3);
  });

  it("says so where the autoscaler is at its bound", async () => {
    const { world, up, autoscale } = setUp();
    autoscale(2, 3);
    await assert.rejects(world.apply(up), code("SCALE_LIMIT"));
    assert.deepEqual(world.kube.writes, []);
  });

  it("does not fight a GitOps tool over the replicas, and names it", async () => {
    const { world, up, autoscale } = setUp();
    world.kube.change("Deployment", "shop", "payments", {
      metadata: {
        labels: { "kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system" },
        managedFields: [{ manager: "kustomize-controller", operation: "Apply", fieldsV1: { "f:spec": { "f:replicas": {} } } }],
      },
    });
    await assert.rejects(world.apply(up), /spec.replicas of Deployment shop\/payments is owned by Flux Kustomization flux-system\/shop/);
    // Where an autoscaler has the replicas, its floor is what counts, and nobody owns that.
    autoscale(2, 6);
    await world.apply(up);
  });

  it("takes over what somebody wrote once, and nothing else of the object", async () => {
    const { world, up, deployment } = setUp();
    await world.apply(up);
    const entry = deployment()?.metadata.managedFields?.find(({ manager }) => manager === "nightshift");
    assert.equal(entry?.operation, "Apply");
    assert.deepEqual(entry?.fieldsV1?.["f:spec"], { "f:replicas": {} });
    assert.deepEqual(world.kube.writes[0]?.body["spec"], { replicas: 5 });
  });

  it("does not force what somebody states by server-side apply, and names field and owner", async () => {
    const { world, up, deployment } = setUp();
    world.kube.applyAs("helm", "Deployment", "shop", "payments", { spec: { replicas: 3 } });
    await assert.rejects(
      world.apply(up),
      (error) =>
        code("FIELD_OWNED")(error) && /spec.replicas of Deployment shop\/payments is stated by the field manager helm/.test(String(error)),
    );
    assert.equal(deployment()?.spec.replicas, 3);
    assert.deepEqual(world.kube.writes, []);
  });

  it("makes nothing where the object was deleted, or is another of the same name, since it was read", async () => {
    const { world, up, deployment } = setUp();
    let first = true;
    world.kube.before = ({ method }) => {
      if (method !== "PATCH" || !first) return;
      first = false;
      world.kube.remove("Deployment", "shop", "payments");
      world.deployment();
    };
    await assert.rejects(world.apply(up), code("NOT_FOUND"));
    assert.equal(deployment()?.spec.replicas, 3);
  });

  it("keeps what it states when another effect states something else", async () => {
    const { world, up, back, deployment } = setUp();
    await world.apply(up);
    await world.apply({ id: "shop/r/0/1", type: "RolloutRestart", workload: up.workload });
    assert.equal(deployment()?.spec.replicas, 5);
    await world.apply(back);
    assert.equal(deployment()?.spec.replicas, 3);
    assert.notEqual(deployment()?.spec.template?.metadata?.annotations?.[RESTARTED_AT], undefined);
    assert.equal(deployment()?.metadata.annotations?.[MARKS.scaledTo], undefined);
  });

  it("reads again on a conflict, and finds what it did when the answer was lost", async () => {
    const { world, up, deployment } = setUp();
    let conflicts = 0;
    world.kube.before = ({ method }) => {
      if (method === "PATCH" && conflicts++ < 2) throw failure("KUBE_CONFLICT", "modified");
    };
    let lost = true;
    world.kube.after = ({ method }) => {
      if (method !== "PATCH" || !lost) return;
      lost = false;
      throw failure("KUBE_CONNECTION_LOST", "the connection broke");
    };
    await world.apply(up);
    assert.equal(world.kube.writes.length, 1);
    assert.equal(deployment()?.spec.replicas, 5);
  });

  it("refuses what is gone, what is marked, and what has one replica a node", async () => {
    const { world, up } = setUp();
    world.kube.change("Deployment", "shop", "payments", { metadata: { labels: { "nightshift.dev/do-not-remediate": "" } } });
    await assert.rejects(world.apply(up), code("DO_NOT_REMEDIATE"));
    world.kube.remove("Deployment", "shop", "payments");
    await assert.rejects(world.apply(up), code("NOT_FOUND"));
    world.owned("DaemonSet", "agent");
    await assert.rejects(world.apply({ ...up, workload: world.workload("agent").ref }), code("EFFECT_NOT_SUPPORTED"));
  });
});

describe("ScaleBack", () => {
  it("restores what there was before", async () => {
    const { world, up, back, deployment } = setUp();
    await world.apply(up);
    assert.deepEqual(await world.restarted().observe(back), { state: "NotApplied" });
    await world.apply(back);
    assert.equal(deployment()?.spec.replicas, 3);
    assert.equal((await world.restarted().observe(back)).state, "Applied");
    await world.apply(up, 60_000, world.restarted());
    assert.equal(deployment()?.spec.replicas, 3);
  });

  it("restores the autoscaler's floor", async () => {
    const { world, up, back, hpa, autoscale } = setUp();
    autoscale(2, 6);
    await world.apply(up);
    await world.apply(back);
    assert.equal(hpa()?.spec.minReplicas, 2);
  });

  it("leaves what somebody has set since", async () => {
    const { world, up, back, deployment } = setUp();
    await world.apply(up);
    world.kube.change("Deployment", "shop", "payments", { spec: { replicas: 10 } });
    assert.match((await world.apply(back)).message, /set to 10 by somebody else/);
    assert.equal(deployment()?.spec.replicas, 10);
    assert.equal((await world.restarted().observe(back)).state, "Applied");
  });

  it("leaves what somebody has set away and back since", async () => {
    const { world, up, back, deployment } = setUp();
    await world.apply(up);
    for (const replicas of [9, 5]) world.kube.change("Deployment", "shop", "payments", { spec: { replicas } });
    assert.match((await world.apply(back)).message, /set to 5 by somebody else/);
    assert.equal(deployment()?.spec.replicas, 5);
  });

  it("leaves what somebody states too, and states it no longer", async () => {
    const { world, up, back, deployment } = setUp();
    await world.apply(up);
    world.kube.applyAs("helm", "Deployment", "shop", "payments", { spec: { replicas: 5 } });
    assert.match((await world.apply(back)).message, /set to 5 by somebody else/);
    assert.equal(deployment()?.spec.replicas, 5);
    world.kube.applyAs("helm", "Deployment", "shop", "payments", { spec: { replicas: 4 } });
    assert.equal(deployment()?.spec.replicas, 4);
  });

  it("has nothing to do where nothing was raised", async () => {
    const { world, back } = setUp();
    assert.match((await world.apply(back)).message, /nothing to take back/);
    assert.deepEqual(world.kube.writes, []);
  });
});
