import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect } from "../../../ports/platform.ts";
import { MARKS, RESTARTED_AT } from "../marks.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;
const OWNED = {
  metadata: {
    annotations: { "argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/payments" },
    managedFields: [
      { manager: "argocd-controller", operation: "Update", fieldsV1: { "f:spec": { "f:template": { "f:spec": { "f:containers": {} } } } } },
    ],
  },
};

describe("RolloutRestart", () => {
  function setUp() {
    const world = new KubeWorld();
    world.deployment();
    const restart: Effect = { id: "shop/r/0/0", type: "RolloutRestart", workload: world.workload("payments").ref };
    const restartedAt = () => world.kube.get("Deployment", "shop", "payments")?.spec.template?.metadata?.annotations?.[RESTARTED_AT];
    return { world, restart, restartedAt };
  }

  it("restarts as kubectl does, and says which revision it made", async () => {
    const { world, restart, restartedAt } = setUp();
    const before = world.workload("payments").revision;
    const { revision } = await world.apply(restart);
    assert.equal(restartedAt(), "2026-01-01T00:00:00.000Z");
    assert.notEqual(revision, before);
    assert.equal(revision, world.workload("payments").revision);
    const found = await world.restarted().observe(restart);
    assert.equal(found.state === "Applied" ? found.result.revision : "", revision);
  });

  it("takes effect once", async () => {
    const { world, restart, restartedAt } = setUp();
    await world.apply(restart);
    await world.clock.advance(5_000);
    await world.apply(restart, 60_000, world.restarted());
    assert.equal(restartedAt(), "2026-01-01T00:00:00.000Z");
    assert.equal(world.kube.writes.length, 1);
  });

  it("is not kept from it by a GitOps tool: Git says nothing of restarts", async () => {
    const { world, restart } = setUp();
    world.kube.change("Deployment", "shop", "payments", OWNED);
    await world.apply(restart);
  });

  it("refuses what its owner would not roll out", async () => {
    const { world, restart } = setUp();
    world.kube.change("Deployment", "shop", "payments", { spec: { paused: true } });
    await assert.rejects(world.apply(restart), code("NOT_ROLLABLE"));
    world.owned("StatefulSet", "db");
    world.kube.change("StatefulSet", "shop", "db", { spec: { updateStrategy: { type: "OnDelete" } } });
    await assert.rejects(world.apply({ ...restart, workload: world.workload("db").ref }), /OnDelete/);
    world.kube.remove("Deployment", "shop", "payments");
    await assert.rejects(world.apply(restart), code("NOT_FOUND"));
  });
});

describe("Rollback", () => {
  /** Revision 2, which adds a volume and an environment variable, has replaced revision 1. */
  function setUp() {
    const world = new KubeWorld();
    world.deployment();
    const first = world.kube.get("Deployment", "shop", "payments");
    const template = {
      metadata: { labels: { app: "payments" } },
      spec: { containers: [{ name: "main", image: "payments:2", env: [{ name: "X", value: "1" }] }], volumes: [{ name: "v" }] },
    };
    world.kube.change("Deployment", "shop", "payments", { spec: { template } });
    world.replicaSet("payments", "b2", first?.metadata.uid ?? "", 2, 3, template);
    world.kube.change("ReplicaSet", "shop", "payments-a1", { spec: { replicas: 0 } });
    const undo: Effect = { id: "shop/r/0/0", type: "Rollback", workload: world.workload("payments").ref, revision: "payments-a1" };
    return { world, undo, before: first?.spec.template, deployment: () => world.kube.get("Deployment", "shop", "payments") };
  }

  it("restores the whole template of the earlier revision, and nothing of the later", async () => {
    const { world, undo, before, deployment } = setUp();
    const { revision } = await world.apply(undo);
    assert.deepEqual(deployment()?.spec.template, before);
    assert.equal(revision, world.workload("payments").revision);
    assert.partialDeepStrictEqual(deployment()?.metadata.annotations, {
      [MARKS.rolledBackBy]: undo.id,
      [MARKS.rolledBackFrom]: "payments-b2",
      [MARKS.epoch]: "7",
    });
    assert.equal((await world.restarted().observe(undo)).state, "Applied");
  });

  it("takes effect once: what people roll out after it stays", async () => {
    const { world, undo, deployment } = setUp();
    await world.apply(undo);
    world.kube.change("Deployment", "shop", "payments", {
      spec: { template: { spec: { containers: [{ name: "main", image: "payments:3" }] } } },
    });
    await world.apply(undo, 60_000, world.restarted());
    assert.equal(deployment()?.spec.template?.spec?.containers[0]?.image, "payments:3");
  });

  it("reads again when somebody was faster, and finds what it did when the answer was lost", async () => {
    const { world, undo, before, deployment } = setUp();
    let first = true;
    world.kube.before = ({ method }) => {
      if (method !== "PATCH" || !first) return;
      first = false;
      world.kube.change("Deployment", "shop", "payments", { metadata: { annotations: { note: "x" } } });
    };
    let lost = true;
    world.kube.after = ({ method }) => {
      if (method !== "PATCH" || !lost) return;
      lost = false;
      throw failure("KUBE_TIMEOUT", "no answer", 504);
    };
    await world.apply(undo);
    assert.deepEqual(deployment()?.spec.template, before);
    assert.equal(deployment()?.metadata.annotations?.["note"], "x");
    assert.equal(world.kube.writes.length, 1);
  });

  it("does not fight a GitOps tool over the template, and names it", async () => {
    const { world, undo } = setUp();
    world.kube.change("Deployment", "shop", "payments", OWNED);
    await assert.rejects(
      world.apply(undo),
      (error) => code("GITOPS_OWNED")(error) && /spec.template .*Argo CD application shop/.test(String(error)),
    );
    assert.deepEqual(world.kube.writes, []);
  });

  it("goes together with what is stated of the same workload", async () => {
    const { world, undo, before, deployment } = setUp();
    const restart = (id: string): Effect => ({ id, type: "RolloutRestart", workload: undo.workload });
    await world.apply(restart("a"));
    await world.apply({ ...undo, id: "b" });
    // What was stated of the template went with it, and is not stated again.
    assert.deepEqual(deployment()?.spec.template, before);
    await world.apply({ id: "c", type: "Scale", workload: undo.workload, replicas: 4 });
    assert.deepEqual(deployment()?.spec.template, before);
    assert.partialDeepStrictEqual(deployment()?.metadata.annotations, {
      [MARKS.restartedBy]: "a",
      [MARKS.rolledBackBy]: "b",
      [MARKS.scaledBy]: "c",
      [MARKS.effect]: "c",
    });
  });

  it("fails where the revision is gone, or is the present one", async () => {
    const { world, undo } = setUp();
    await assert.rejects(world.apply({ ...undo, revision: "payments-b2" }), /is at payments-b2 already/);
    world.kube.remove("ReplicaSet", "shop", "payments-a1");
    await assert.rejects(world.apply(undo), code("NOT_FOUND"));
  });

  it("of a StatefulSet applies its revision, and clears the way of pods that would block it", async () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db", 3);
    const uid = world.kube.get("StatefulSet", "shop", "db")?.metadata.uid ?? "";
    const ownerReferences = [{ apiVersion: "apps/v1", kind: "StatefulSet", name: "db", uid, controller: true }];
    for (const n of [1, 2])
      world.kube.put("ControllerRevision", {
        metadata: { name: `db-r${n}`, namespace: "shop", labels: { app: "db" }, ownerReferences },
        revision: n,
        data: {
          spec: {
            template: {
              $patch: "replace",
              metadata: { labels: { app: "db" } },
              spec: { containers: [{ name: "main", image: `db:${n}` }] },
            },
          },
        },
      });
    const label = (name: string, revision: string, ready: boolean): void =>
      world.kube.change("Pod", "shop", name, {
        metadata: { labels: { "controller-revision-hash": revision } },
        status: { conditions: [{ type: "Ready", status: ready ? "True" : "False" }] },
      });
    label("db-0", "db-r1", true);
    label("db-1", "db-r1", false);
    label("db-2", "db-r2", false);
    const undo: Effect = { id: "e", type: "Rollback", workload: world.workload("db").ref, revision: "db-r1" };
    await world.apply(undo);
    assert.equal(world.kube.get("StatefulSet", "shop", "db")?.spec.template?.spec?.containers[0]?.image, "db:1");
    assert.deepEqual(
      world.pods().map((pod) => pod.metadata.name),
      ["db-0", "db-1"],
    );
  });
});
