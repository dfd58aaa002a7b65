import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect } from "../../../ports/platform.ts";
import { MARKS } from "../marks.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;

for (const type of ["Stop", "Evict"] as const)
  describe(type, () => {
    function setUp() {
      const world = new KubeWorld();
      world.deployment();
      const target = world.target();
      const effect: Effect = { id: "shop/r/0/5", type, replica: target, gracePeriodMs: 10_000 };
      const isThere = (): boolean => world.pods().some((pod) => pod.metadata.uid === target.uid);
      return { world, target, effect, isThere };
    }

    it("takes the pod away, bound to the pod that it read", async () => {
      const { world, target, effect, isThere } = setUp();
      await world.apply(effect);
      assert.equal(isThere(), false);
      const [mark, end] = world.kube.writes;
      assert.partialDeepStrictEqual(mark?.body, { metadata: { annotations: { [MARKS.epoch]: "7", [MARKS.stoppedBy]: effect.id } } });
      const options = (type === "Evict" ? end?.body["deleteOptions"] : end?.body) as {
        preconditions: { uid: string; resourceVersion: string };
        gracePeriodSeconds: number;
      };
      assert.equal(options.preconditions.uid, target.uid);
      assert.match(options.preconditions.resourceVersion, /^\d+$/);
      assert.equal(options.gracePeriodSeconds, 10);
      assert.equal(end?.path.endsWith("/eviction"), type === "Evict");
      assert.equal((await world.restarted().observe(effect)).state, "Applied");
    });

    it("gives the pod its own grace period where that is longer", async () => {
      const world = new KubeWorld();
      world.pod("worker", {}, { terminationGracePeriodSeconds: 30 });
      await world.apply({ id: "e", type, replica: world.target(), gracePeriodMs: 10_000 });
      assert.match(JSON.stringify(world.kube.writes.at(-1)?.body), /"gracePeriodSeconds":30/);
    });

    it("is done only when the pod is gone", async () => {
      const { world, target, effect, isThere } = setUp();
      world.kube.graceful = true;
      await assert.rejects(world.apply(effect, 2_000), code("EFFECT_TIMEOUT"));
      assert.deepEqual(await world.restarted().observe(effect), { state: "NotApplied" });
      const writes = world.kube.writes.length;
      world.clock.after(3_000, () => world.kube.finish("shop", target.name));
      await world.apply(effect, 60_000, world.restarted());
      assert.equal(isThere(), false);
      assert.equal(world.kube.writes.length, writes);
    });

    it("waits for a PodDisruptionBudget, and says what it says when the time is up", async () => {
      const { world, effect, isThere } = setUp();
      world.pdb("payments", "payments", { minAvailable: 3 });
      await assert.rejects(world.apply(effect, 5_000), /disruption budget payments needs 2 healthy pods/);
      assert.equal(isThere(), true);
      assert.deepEqual(await world.restarted().observe(effect), { state: "NotApplied" });
      world.clock.after(4_000, () => world.kube.change("PodDisruptionBudget", "shop", "payments", { status: { disruptionsAllowed: 1 } }));
      await world.apply(effect, 30_000, world.restarted());
      assert.equal(isThere(), false);
    });

    it("does not take another pod of the same name", async () => {
      const { world, target, effect } = setUp();
      await world.apply({ ...effect, replica: { ...target, uid: "of-yesterday" } } as Effect);
      assert.equal(world.pods().length, 3);
      assert.deepEqual(world.kube.writes, []);
    });

    it("looks again when the pod changed between its reading and its end", async () => {
      const { world, target, effect, isThere } = setUp();
      let changed = 0;
      world.kube.before = ({ method, path }) => {
        if ((method === "DELETE" || path.endsWith("/eviction")) && changed++ < 2)
          world.kube.change("Pod", "shop", target.name, { metadata: { labels: { seen: String(changed) } } });
      };
      await world.apply(effect);
      assert.equal(isThere(), false);
      assert.equal(changed, 3);
    });

    it("spares a pod that was marked do-not-remediate meanwhile", async () => {
      const { world, target, effect, isThere } = setUp();
      world.kube.before = ({ method, path }) => {
        if (method === "DELETE" || path.endsWith("/eviction"))
          world.kube.change("Pod", "shop", target.name, { metadata: { annotations: { "nightshift.dev/do-not-remediate": "yes" } } });
      };
      await assert.rejects(world.apply(effect), code("DO_NOT_REMEDIATE"));
      assert.equal(isThere(), true);
    });

    it("finds it done when the answer was lost", async () => {
      const { world, effect, isThere } = setUp();
      world.kube.after = ({ method, path }) => {
        if (method === "DELETE" || path.endsWith("/eviction")) throw failure("KUBE_TIMEOUT", "no answer", 504);
      };
      await world.apply(effect);
      assert.equal(isThere(), false);
    });

    it("refuses a pod that its kubelet runs from a file", async () => {
      const world = new KubeWorld();
      world.pod("etcd", { annotations: { "kubernetes.io/config.mirror": "x" } });
      await assert.rejects(world.apply({ id: "e", type, replica: world.target(), gracePeriodMs: 0 }), code("NOT_REMOVABLE"));
    });
  });

describe("Evict", () => {
  it("leaves the grace period to the pod where the step says nothing", async () => {
    const world = new KubeWorld();
    world.deployment();
    await world.apply({ id: "e", type: "Evict", replica: world.target() });
    assert.doesNotMatch(JSON.stringify(world.kube.writes.at(-1)?.body), /gracePeriodSeconds/);
  });
});

describe("Stop", () => {
  it("evicts where a PodDisruptionBudget counts the pod, and deletes where none does", async () => {
    for (const [app, ending] of [
      ["payments", "/eviction"],
      ["other", "DELETE"],
    ] as const) {
      const world = new KubeWorld();
      world.deployment();
      world.pdb("budget", app, { maxUnavailable: 1 }, 1);
      await world.apply({ id: "e", type: "Stop", replica: world.target(), gracePeriodMs: 1_000 });
      const last = world.kube.writes.at(-1);
      assert.ok(`${last?.method ?? ""} ${last?.path ?? ""}`.includes(ending), `${app}: ${JSON.stringify(last)}`);
    }
  });
});
