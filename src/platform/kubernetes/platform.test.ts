import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { pino } from "pino";
import { failure } from "../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../test/support/kube-world.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import { NightshiftError } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import { MARKS } from "./marks.ts";
import { KubernetesPlatform, type KubernetesOptions } from "./platform.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;

async function started(extra: Partial<KubernetesOptions> = {}) {
  const world = new KubeWorld();
  world.deployment();
  const stop = new AbortController();
  const platform = new KubernetesPlatform({
    client: world.kube,
    clock: world.clock,
    random: seededRandom(),
    log: pino({ level: "silent" }),
    epoch: () => 7,
    ...extra,
  });
  const starting = platform.start(stop.signal);
  await world.clock.advance(1_000);
  await starting;
  return { world, platform, stop: () => platform.stop() };
}

describe("KubernetesPlatform", () => {
  it("has read everything that exists once it has started, and follows what changes", async () => {
    const { world, platform, stop } = await started();
    const names = (): string[] => platform.workloads().map((workload) => workload.ref.name);
    assert.deepEqual(names(), ["payments", "nodes"]);
    const told: TargetRef[] = [];
    platform.onChange((ref) => told.push(ref));
    world.owned("StatefulSet", "db");
    await world.clock.advance(1_000);
    assert.deepEqual(names(), ["payments", "nodes", "db"]);
    assert.ok(told.some((ref) => ref.name === "db"));
    await stop();
  });

  it("carries out effects on what it follows", async () => {
    const { world, platform, stop } = await started();
    const workload = platform.workloads()[0]!;
    const effect = { id: "shop/r/0/0", type: "StartReplacement", workload: workload.ref, replaces: workload.replicas[0]!.ref } as const;
    const applied = platform.apply(effect, new AbortController().signal);
    await world.clock.advance(5_000);
    const { replica } = await applied;
    assert.equal(platform.workloads()[0]?.replicas.find((r) => r.startedBy === effect.id)?.ref.uid, replica?.uid);
    assert.equal((await platform.observe(effect)).state, "Applied");
    await stop();
  });

  it("begins nothing while nothing is heard of the API server, and goes on when it is back", async () => {
    const { world, platform, stop } = await started({ backoff: { baseMs: 1_000, maxMs: 5_000 } });
    assert.equal(platform.fresh(), true);
    assert.equal(platform.staleness(), undefined);
    world.kube.before = () => {
      throw failure("KUBE_UNREACHABLE", "connection refused");
    };
    world.kube.breakWatches();
    for (let i = 0; i < 190; i++) await world.clock.advance(1_000);
    assert.equal(platform.fresh(), false);
    assert.match(platform.staleness() ?? "", /nothing was heard of the API server for more than 180 s/);
    const effect = { id: "e", type: "Stop", replica: world.target(), gracePeriodMs: 1 } as const;
    await assert.rejects(platform.apply(effect, new AbortController().signal), code("STALE_VIEW"));
    assert.deepEqual(world.kube.writes, []);
    world.kube.before = undefined;
    world.kube.breakWatches();
    for (let i = 0; i < 30; i++) await world.clock.advance(1_000);
    assert.equal(platform.fresh(), true);
    await stop();
  });

  it("is out of date as long as it has not heard of what it has written itself", async () => {
    const { world, platform, stop } = await started({ backoff: { baseMs: 40_000, maxMs: 40_000, jitter: 0 } });
    const [workload] = platform.workloads();
    const effect = { id: "shop/r/0/0", type: "StartReplacement", workload: workload!.ref, replaces: workload!.replicas[0]!.ref } as const;
    // The watches break twice within a second, and rest.
    world.kube.breakWatches();
    await world.clock.advance(200);
    world.kube.breakWatches();
    const timeout = new AbortController();
    const cutOff = assert.rejects(platform.apply(effect, timeout.signal));
    await world.clock.advance(5_000);
    timeout.abort();
    await cutOff;
    assert.equal((await platform.observe(effect)).state, "Applied");
    const replacement = () => platform.workloads()[0]?.replicas.find((r) => r.startedBy === effect.id);
    assert.equal(replacement(), undefined);
    assert.equal(platform.fresh(), true);
    assert.match(platform.staleness() ?? "", /what was written to a Pod/);
    for (let i = 0; i < 90; i++) await world.clock.advance(1_000);
    assert.notEqual(replacement(), undefined);
    assert.equal(platform.staleness(), undefined);
    await stop();
  });

  it("knows only the namespaces that it is given", async () => {
    const { world, platform, stop } = await started({ namespaces: ["other"] });
    assert.deepEqual(platform.workloads(), []);
    const told: TargetRef[] = [];
    platform.onChange((ref) => told.push(ref));
    world.kube.change("Pod", "shop", world.target().name, { metadata: { labels: { x: "y" } } });
    world.pod("a", { namespace: "other" });
    await world.clock.advance(1_000);
    assert.deepEqual(
      platform.workloads().map((w) => w.ref.name),
      ["a"],
    );
    assert.deepEqual(new Set(told.map((ref) => ref.namespace)), new Set(["other"]));
    await stop();
  });

  it("marks healthy revisions of the workloads that it is told to, once", async () => {
    const { world, stop } = await started({ marksHealthy: ({ ref }) => ref.name === "payments" });
    world.deployment("bank");
    for (let i = 0; i < 180; i++) await world.clock.advance(1_000);
    const since = (name: string) => world.kube.get("ReplicaSet", "shop", name)?.metadata.annotations?.[MARKS.healthySince];
    assert.match(since("payments-a1") ?? "", /^2026-01-01T00:00:0/);
    assert.equal(since("bank-a1"), undefined);
    assert.equal(world.kube.writes.length, 1);
    await stop();
  });

  it("does not start what was stopped before it had read the cluster", async () => {
    const world = new KubeWorld();
    world.kube.before = () => {
      throw failure("KUBE_UNREACHABLE", "connection refused");
    };
    const stop = new AbortController();
    const options = { client: world.kube, clock: world.clock, random: seededRandom(), log: pino({ level: "silent" }), epoch: () => 1 };
    const platform = new KubernetesPlatform(options);
    const starting = assert.rejects(platform.start(stop.signal), code("STOPPED"));
    await world.clock.advance(2_000);
    stop.abort();
    await world.clock.advance(10_000);
    await starting;
    await platform.stop();
  });
});
