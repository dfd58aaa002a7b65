import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect } from "../../../ports/platform.ts";
import { MARKS } from "../marks.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;
const MIB = 2 ** 20;

function setUp(options: { readonly rollout?: boolean; readonly qosClass?: string } = {}) {
  const world = new KubeWorld();
  world.deployment();
  const target = world.target();
  if (options.qosClass !== undefined) world.kube.change("Pod", "shop", target.name, { status: { qosClass: options.qosClass } });
  world.kube.change("Pod", "shop", target.name, {
    status: { containerStatuses: [{ name: "main", resources: { limits: { memory: "256Mi" } } }] },
  });
  const { ref } = world.workload("payments");
  const raise: Effect = {
    id: "shop/r/0/0",
    type: "Resize",
    workload: ref,
    replica: target,
    memoryBytes: 384 * MIB,
    rollout: options.rollout ?? false,
  };
  const back: Effect = { id: "shop/r/0/0/undo0", type: "ResizeBack", workload: ref, replica: target, of: raise.id };
  const pod = () => world.kube.get("Pod", "shop", target.name);
  const resources = () => pod()?.spec.containers[0]?.resources;
  const template = () => world.kube.get("Deployment", "shop", "payments")?.spec.template?.spec?.containers[0]?.resources;
  return { world, target, raise, back, pod, resources, template };
}

describe("Resize", () => {
  it("raises the limit in place, and keeps the way back", async () => {
    const { world, target, raise, pod, resources } = setUp();
    assert.deepEqual(await world.effects.observe(raise), { state: "NotApplied" });
    await world.apply(raise);
    assert.deepEqual(resources(), { limits: { memory: "384Mi" }, requests: { memory: "128Mi" } });
    assert.equal(pod()?.metadata.uid, target.uid);
    assert.partialDeepStrictEqual(pod()?.metadata.annotations, { [MARKS.resizedBy]: raise.id, [MARKS.epoch]: "7" });
    assert.equal(world.workload("payments").replicas.find((r) => r.ref.uid === target.uid)?.memory?.limitBytes, 384 * MIB);
    assert.equal((await world.restarted().observe(raise)).state, "Applied");
  });

  it("keeps the quality of service of a pod that is guaranteed", async () => {
    const { world, raise, resources } = setUp({ qosClass: "Guaranteed" });
    await world.apply(raise);
    assert.deepEqual(resources(), { limits: { memory: "384Mi" }, requests: { memory: "384Mi" } });
  });

  it("takes effect once, and goes on after a crash between its writes", async () => {
    const { world, raise, resources } = setUp();
    world.kube.before = ({ path }) => {
      if (path.endsWith("/resize")) throw failure("KUBE_BAD_REQUEST", "no answer that helps", 400);
    };
    await assert.rejects(world.apply(raise), code("EFFECT_FAILED"));
    assert.deepEqual(await world.restarted().observe(raise), { state: "NotApplied" });
    world.kube.before = undefined;
    await world.apply(raise, 60_000, world.restarted());
    const writes = world.kube.writes.length;
    await world.apply(raise, 60_000, world.restarted());
    assert.equal(world.kube.writes.length, writes);
    assert.equal(resources()?.limits?.["memory"], "384Mi");
  });

  for (const [what, prepare, why] of [
    ["the cluster has no pods/resize", (w: KubeWorld) => (w.kube.before = refuse("KUBE_NOT_FOUND")), /no pods\/resize/],
    ["the API server refuses it", (w: KubeWorld) => (w.kube.before = refuse("KUBE_INVALID")), /refused here/],
    ["the API server forbids it", (w: KubeWorld) => (w.kube.before = refuse("KUBE_FORBIDDEN")), /refused here/],
    [
      "the node has no room",
      (w: KubeWorld) =>
        (w.kube.resize = (pod) => ({
          ...pod,
          status: {
            ...pod.status,
            conditions: [{ type: "PodResizePending", status: "True", reason: "Infeasible", message: "Node didn't have enough capacity" }],
          },
        })),
      /its node cannot: Node didn't have enough capacity/,
    ],
    [
      "the container would be restarted",
      (w: KubeWorld, name: string) =>
        w.kube.change("Pod", "shop", name, {
          spec: {
            containers: [
              {
                name: "main",
                resources: { limits: { memory: "256Mi" }, requests: { memory: "128Mi" } },
                resizePolicy: [{ resourceName: "memory", restartPolicy: "RestartContainer" }],
              },
            ],
          },
        }),
      /would be restarted/,
    ],
  ] as const) {
    it(`says so, and leaves nothing changed, where ${what}`, async () => {
      const { world, target, raise, pod, resources, template } = setUp();
      prepare(world, target.name);
      await assert.rejects(world.apply(raise), (error) => code("RESIZE_REFUSED")(error) && why.test(String(error)));
      assert.equal(resources()?.limits?.["memory"], "256Mi");
      assert.equal(pod()?.metadata.annotations?.[MARKS.resizedBy], undefined);
      assert.equal(template()?.limits?.["memory"], "256Mi");
    });

    it(`rolls the new limit out, if that is asked for, where ${what}`, async () => {
      const { world, target, raise, resources, template } = setUp({ rollout: true });
      prepare(world, target.name);
      const { revision } = await world.apply(raise);
      assert.deepEqual(template(), { limits: { memory: "384Mi" }, requests: { memory: "128Mi" } });
      assert.equal(resources()?.limits?.["memory"], "256Mi");
      assert.equal(revision, world.workload("payments").revision);
      assert.equal((await world.restarted().observe(raise)).state, "Applied");
    });
  }

  it("wishes for nothing any more once its time is up", async () => {
    const { world, raise, resources } = setUp();
    world.kube.resize = (pod) => ({
      ...pod,
      status: {
        ...pod.status,
        conditions: [{ type: "PodResizePending", status: "True", reason: "Deferred", message: "not enough memory now" }],
      },
    });
    await assert.rejects(world.apply(raise, 5_000), /put off: not enough memory now/);
    assert.equal(resources()?.limits?.["memory"], "256Mi");
  });

  it("does not fight a GitOps tool over the resources of the template", async () => {
    const { world, raise } = setUp({ rollout: true });
    world.kube.before = refuse("KUBE_NOT_FOUND");
    world.kube.change("Deployment", "shop", "payments", {
      metadata: {
        managedFields: [
          {
            manager: "helm-controller",
            operation: "Update",
            fieldsV1: { "f:spec": { "f:template": { "f:spec": { "f:containers": { 'k:{"name":"main"}': { "f:resources": {} } } } } } },
          },
        ],
        labels: { "helm.toolkit.fluxcd.io/name": "shop", "helm.toolkit.fluxcd.io/namespace": "shop" },
      },
    });
    await assert.rejects(
      world.apply(raise),
      /spec.template.spec.containers\[main\].resources of Deployment shop\/payments is owned by Flux HelmRelease shop\/shop/,
    );
  });
});

describe("ResizeBack", () => {
  it("gives the pod back what it had", async () => {
    const { world, raise, back, resources, pod } = setUp();
    await world.apply(raise);
    assert.deepEqual(await world.restarted().observe(back), { state: "NotApplied" });
    await world.apply(back);
    assert.deepEqual(resources(), { limits: { memory: "256Mi" }, requests: { memory: "128Mi" } });
    assert.equal(pod()?.metadata.annotations?.[MARKS.resizedFrom], undefined);
    assert.equal((await world.restarted().observe(back)).state, "Applied");
  });

  it("gives the template back what it had", async () => {
    const { world, raise, back, template } = setUp({ rollout: true });
    world.kube.before = refuse("KUBE_NOT_FOUND");
    await world.apply(raise);
    world.kube.before = undefined;
    const { revision } = await world.apply(back);
    assert.deepEqual(template(), { limits: { memory: "256Mi" }, requests: { memory: "128Mi" } });
    assert.equal(revision, world.workload("payments").revision);
  });

  it("leaves what somebody has set since", async () => {
    const { world, target, raise, back, resources } = setUp();
    await world.apply(raise);
    world.kube.change("Pod", "shop", target.name, { spec: { containers: [{ name: "main", resources: { limits: { memory: "1Gi" } } }] } });
    await world.apply(back);
    assert.equal(resources()?.limits?.["memory"], "1Gi");
  });

  it("leaves the template that somebody has set away and back since", async () => {
    const { world, raise, back, template } = setUp({ rollout: true });
    world.kube.before = refuse("KUBE_NOT_FOUND");
    await world.apply(raise);
    for (const memory of ["1Gi", "384Mi"])
      world.kube.change("Deployment", "shop", "payments", {
        spec: { template: { spec: { containers: [{ name: "main", resources: { limits: { memory }, requests: { memory: "128Mi" } } }] } } },
      });
    await world.apply(back);
    assert.equal(template()?.limits?.["memory"], "384Mi");
  });

  it("has nothing to do where nothing was raised, or the pod is gone", async () => {
    const { world, target, back } = setUp();
    assert.match((await world.apply(back)).message, /nothing to take back/);
    world.kube.remove("Pod", "shop", target.name);
    assert.match((await world.apply({ ...back, id: "x" })).message, /nothing to take back/);
  });
});

function refuse(error: "KUBE_NOT_FOUND" | "KUBE_INVALID" | "KUBE_FORBIDDEN") {
  return ({ path }: { readonly path: string }): void => {
    if (path.endsWith("/resize")) throw failure(error, "refused here");
  };
}
