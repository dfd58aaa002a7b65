import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect } from "../../../ports/platform.ts";
import { DELETION_COST, MARKS } from "../marks.ts";
import type { Pod } from "../objects.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;

function shop() {
  const world = new KubeWorld();
  world.deployment();
  const target = world.target();
  const start: Effect = { id: "shop/r/0/0", type: "StartReplacement", workload: world.workload("payments").ref, replaces: target };
  const podOf = (name: string): Pod | undefined => world.kube.get("Pod", "shop", name);
  return { world, target, start, podOf };
}

describe("StartReplacement", () => {
  it("has the ReplicaSet start another pod while the old one still serves, and marks it", async () => {
    const { world, target, start, podOf } = shop();
    const { replica } = await world.apply(start);
    const old = podOf(target.name);
    const replacement = podOf(replica?.name ?? "");
    assert.equal(world.pods().length, 4);
    assert.equal(old?.metadata.labels?.["pod-template-hash"], undefined);
    assert.equal(old?.metadata.labels?.["app"], "payments");
    assert.equal(old?.metadata.annotations?.[MARKS.detachedFrom], "payments-a1/a1");
    assert.deepEqual(
      [MARKS.startedBy, MARKS.replaces, MARKS.replacesPod].map((mark) => replacement?.metadata.annotations?.[mark]),
      [start.id, target.uid, target.name],
    );
    const seen = world.workload("payments");
    assert.equal(seen.replicas.length, 4);
    assert.equal(seen.replicas.find((r) => r.ref.uid === target.uid)?.detached, true);
    assert.equal(seen.replicas.find((r) => r.ref.uid === target.uid)?.inTraffic, true);
    assert.equal(seen.replicas.find((r) => r.startedBy === start.id)?.replaces, target.uid);
  });

  it("is done only when the watch has told of the replacement: one that it has not told of yet is not gone", async () => {
    const { world, start } = shop();
    world.kube.startsPods = false;
    let isDone = false;
    const run = world.apply(start, 60_000).then(() => (isDone = true));
    await world.clock.advance(500);
    // The view knows that the pod was let go, and nothing of what follows.
    world.kube.feeding = false;
    world.kube.startsPods = true;
    world.kube.settle();
    await world.clock.advance(5_000);
    assert.equal(world.pods().filter(({ metadata }) => metadata.annotations?.[MARKS.startedBy] === start.id).length, 1);
    assert.equal(isDone, false);
    world.kube.catchUp();
    await run;
    assert.ok(world.workload("payments").replicas.some((replica) => replica.startedBy === start.id));
  });

  it("carries the epoch, the effect's id and the resourceVersion that was read on every write", async () => {
    const { world, start } = shop();
    await world.apply(start);
    assert.ok(world.kube.writes.length >= 2);
    for (const { body } of world.kube.writes) {
      const metadata = body["metadata"] as { resourceVersion?: string; annotations?: Record<string, string> };
      assert.match(metadata.resourceVersion ?? "", /^\d+$/);
      assert.equal(metadata.annotations?.[MARKS.epoch], "7");
      assert.equal(metadata.annotations?.[MARKS.effect], start.id);
    }
  });

  it("takes effect once, whoever applies it how often", async () => {
    const { world, start } = shop();
    const first = await world.apply(start);
    const writes = world.kube.writes.length;
    assert.deepEqual(await world.apply(start), first);
    assert.deepEqual(await world.apply(start, 60_000, world.restarted()), first);
    assert.equal(world.kube.writes.length, writes);
    assert.equal(world.pods().length, 4);
  });

  it("is found by its id after a crash, and goes on where it was cut off", async () => {
    const { world, start } = shop();
    assert.deepEqual(await world.effects.observe(start), { state: "NotApplied" });
    world.kube.startsPods = false;
    await assert.rejects(world.apply(start, 3_000), code("EFFECT_TIMEOUT"));
    assert.deepEqual(await world.restarted().observe(start), { state: "NotApplied" });
    world.kube.startsPods = true;
    const { replica } = await world.apply(start, 60_000, world.restarted());
    assert.equal(world.pods().length, 4);
    const found = await world.restarted().observe(start);
    assert.equal(found.state, "Applied");
    assert.deepEqual(found.state === "Applied" ? found.result.replica : undefined, replica);
  });

  it("does not take a pod for the replacement that was there before, or that another effect has claimed", async () => {
    const { world, target, start } = shop();
    const other: Effect = { ...start, id: "shop/other/0/0", replaces: world.target(1) };
    const [a, b] = [await world.apply(other), await world.apply(start)];
    assert.notEqual(a.replica?.uid, b.replica?.uid);
    assert.equal(world.pods().length, 5);
    assert.ok(world.pods().every((pod) => pod.metadata.uid !== target.uid || pod.metadata.annotations?.[MARKS.startedBy] === undefined));
  });

  it("reads again and goes on when the pod changed between its reading and its writing", async () => {
    const { world, target, start } = shop();
    let once = true;
    world.kube.before = ({ method }) => {
      if (method !== "PATCH" || !once) return;
      once = false;
      world.kube.change("Pod", "shop", target.name, { metadata: { annotations: { "kubelet.example/seen": "1" } } });
    };
    await world.apply(start);
    assert.equal(world.pods().length, 4);
  });

  it("does nothing twice when the answer to its write is lost", async () => {
    const { world, start } = shop();
    let lost = 0;
    world.kube.after = ({ method }) => {
      if (method === "PATCH" && lost++ < 2) throw failure("KUBE_CONNECTION_LOST", "the connection broke");
    };
    await world.apply(start);
    assert.equal(world.pods().length, 4);
    assert.equal(world.pods().filter((pod) => pod.metadata.annotations?.[MARKS.startedBy] === start.id).length, 1);
  });

  it("goes on after the API server was away", async () => {
    const { world, start } = shop();
    const back = world.clock.now() + 10_000;
    world.kube.before = () => {
      if (world.clock.now() < back) throw failure("KUBE_UNREACHABLE", "connection refused");
    };
    await world.apply(start);
    assert.equal(world.pods().length, 4);
  });

  it("goes on where the API server's admission does not know yet that this process leads", async () => {
    const { world, start } = shop();
    const known = world.clock.now() + 1_500;
    world.kube.before = ({ method }) => {
      if (method === "PATCH" && world.clock.now() < known)
        throw failure(
          "KUBE_FORBIDDEN",
          "ValidatingAdmissionPolicy 'nightshift-fence': written under epoch 7, and the Lease is at 6: another leads now",
        );
    };
    await world.apply(start);
    assert.equal(world.pods().length, 4);
  });

  it("writes nothing once the lease may be lost", async () => {
    const { world, start } = shop();
    world.epoch = new NightshiftError("NOT_LEADER", "the lease is lost");
    await assert.rejects(world.apply(start), code("NOT_LEADER"));
    assert.deepEqual(world.kube.writes, []);
  });

  for (const [what, prepare, expected] of [
    ["a pod that is gone", (w: KubeWorld, name: string) => w.kube.remove("Pod", "shop", name), "NOT_FOUND"],
    [
      "a pod marked do-not-remediate",
      (w: KubeWorld, name: string) =>
        w.kube.change("Pod", "shop", name, { metadata: { annotations: { "nightshift.dev/do-not-remediate": "true" } } }),
      "DO_NOT_REMEDIATE",
    ],
    [
      "a pod of a ReplicaSet that is scaled down",
      (w: KubeWorld, name: string) => {
        // Deleted last, so that the target is still there.
        w.kube.change("Pod", "shop", name, { metadata: { annotations: { [DELETION_COST]: "1000" } } });
        w.kube.graceful = true;
        w.kube.change("ReplicaSet", "shop", "payments-a1", { spec: { replicas: 0 } });
      },
      "NOT_FOUND",
    ],
  ] as const)
    it(`refuses ${what}`, async () => {
      const { world, target, start } = shop();
      prepare(world, target.name);
      await assert.rejects(world.apply(start), code(expected));
      assert.deepEqual(world.kube.writes, []);
    });

  it("refuses a pod whose owner may not have it twice", async () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db");
    const start: Effect = { id: "e", type: "StartReplacement", workload: world.workload("db").ref, replaces: world.target() };
    await assert.rejects(world.apply(start), code("NOT_REPLACEABLE"));
  });
});

describe("RemoveReplacement", () => {
  async function replaced() {
    const { world, target, start, podOf } = shop();
    const { replica } = await world.apply(start);
    assert.ok(replica !== undefined);
    const undo: Effect = { id: "shop/r/0/0/undo0", type: "RemoveReplacement", replica, replaces: target };
    return { world, target, start, replica, undo, podOf };
  }

  it("puts the old pod back and lets the replacement go", async () => {
    const { world, target, replica, undo, podOf } = await replaced();
    assert.deepEqual(await world.effects.observe(undo), { state: "NotApplied" });
    await world.apply(undo);
    assert.equal(podOf(replica.name), undefined);
    assert.equal(podOf(target.name)?.metadata.labels?.["pod-template-hash"], "a1");
    assert.equal(podOf(target.name)?.metadata.annotations?.[MARKS.detachedFrom], undefined);
    assert.equal(world.pods().length, 3);
    assert.equal((await world.restarted().observe(undo)).state, "Applied");
  });

  it("keeps the old pod also when it is not ready, as it may hold the evidence", async () => {
    const { world, target, replica, undo, podOf } = await replaced();
    world.kube.change("Pod", "shop", target.name, { status: { conditions: [{ type: "Ready", status: "False" }] } });
    world.kube.podsBecomeReady = false;
    await world.apply(undo);
    assert.equal(podOf(replica.name), undefined);
    assert.ok(podOf(target.name) !== undefined);
    assert.equal(world.pods().length, 3);
  });

  it("puts the old pod back where no replacement was ever seen", async () => {
    const { world, target, start, podOf } = shop();
    world.kube.startsPods = false;
    await assert.rejects(world.apply(start, 2_000), code("EFFECT_TIMEOUT"));
    await world.apply({ id: `${start.id}/undo0`, type: "RemoveReplacement", replaces: target });
    assert.equal(podOf(target.name)?.metadata.labels?.["pod-template-hash"], "a1");
    world.kube.startsPods = true;
    world.kube.settle();
    assert.equal(world.pods().length, 3);
  });

  it("leaves the replacement where the old pod is gone", async () => {
    const { world, target, replica, undo, podOf } = await replaced();
    world.kube.remove("Pod", "shop", target.name);
    assert.match((await world.apply(undo)).message, /stays/);
    assert.ok(podOf(replica.name) !== undefined);
  });

  it("is not undone by a start that is delivered again", async () => {
    const { world, target, start, undo, podOf } = await replaced();
    await world.apply(undo);
    await assert.rejects(world.apply(start, 60_000, world.restarted()), code("EFFECT_FAILED"));
    assert.equal(podOf(target.name)?.metadata.labels?.["pod-template-hash"], "a1");
  });

  it("goes on after a crash between its writes", async () => {
    const { world, replica, undo, podOf } = await replaced();
    world.kube.before = ({ method, path }) => {
      if (method === "PATCH" && !path.endsWith(replica.name)) throw failure("KUBE_FORBIDDEN", "deposed");
    };
    await assert.rejects(world.apply(undo), code("EFFECT_FAILED"));
    world.kube.before = undefined;
    await world.apply(undo, 60_000, world.restarted());
    assert.equal(podOf(replica.name), undefined);
    assert.equal(world.pods().length, 3);
  });
});
