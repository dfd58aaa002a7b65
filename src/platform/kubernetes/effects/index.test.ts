import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect, EffectType } from "../../../ports/platform.ts";
import { MARKS } from "../marks.ts";
import { KubeApiError } from "../errors.ts";
import { HANDLERS } from "./index.ts";

const workload = { kind: "Deployment", namespace: "shop", name: "payments" };
const replica = { kind: "Pod", namespace: "shop", name: "nobody", uid: "gone" };
const of = "shop/r/0/0";

/** One effect of each type, on what is not there. */
const EFFECTS: { readonly [T in EffectType]: Omit<Extract<Effect, { type: T }>, "id" | "type"> } = {
  StartReplacement: { workload, replaces: replica },
  RemoveReplacement: { replica, replaces: replica },
  RemoveFromTraffic: { replica },
  RestoreTraffic: { replica },
  Capture: { replica, capture: { type: "HeapSnapshot", required: true, raiseLimit: true } },
  Stop: { replica, gracePeriodMs: 1_000 },
  Evict: { replica },
  Scale: { workload, replicas: 3 },
  ScaleBack: { workload, of },
  RolloutRestart: { workload },
  Rollback: { workload, revision: "payments-a1" },
  Resize: { workload, replica, memoryBytes: 2 ** 28, rollout: true },
  ResizeBack: { workload, replica, of },
  Cordon: { replica },
  Uncordon: { replica, of },
  Drain: { replica },
  InvokeAction: { replica, action: "pool-reset", intendedAt: 0 },
  RunJob: { workload, command: ["true"] },
};
const TYPES = Object.keys(EFFECTS) as EffectType[];
const effectOf = (type: EffectType, extra: object = {}): Effect => ({ id: "shop/r/0/9", type, ...EFFECTS[type], ...extra }) as Effect;

describe("every effect", () => {
  it("is one that can be carried out", () => {
    assert.deepEqual(Object.keys(HANDLERS).toSorted(), TYPES.toSorted());
    for (const type of TYPES) assert.equal(HANDLERS[type].type, type);
  });

  for (const type of TYPES) {
    it(`${type}: what became of it on something that is gone can be told`, async () => {
      const world = new KubeWorld();
      const { state } = await world.effects.observe(effectOf(type));
      assert.ok(state === "Applied" || state === "NotApplied", state);
      const kinds = ["Process", "Job"].map((kind) => ({ ...workload, kind }));
      for (const strange of kinds) assert.ok((await world.effects.observe(effectOf(type, { workload: strange }))).state !== "Unknown");
    });

    it(`${type}: an API server that does not answer is no answer`, async () => {
      const world = new KubeWorld();
      world.kube.before = () => {
        throw failure("KUBE_UNREACHABLE", "connection refused");
      };
      await assert.rejects(world.effects.observe(effectOf(type)), KubeApiError);
      await assert.rejects(world.apply(effectOf(type), 3_000), NightshiftError);
      assert.deepEqual(world.kube.writes, []);
    });

    it(`${type}: nothing is written by whom the lease was taken from`, async () => {
      const world = new KubeWorld();
      world.deployment();
      world.epoch = new NightshiftError("NOT_LEADER", "the lease is lost");
      const real = world.target();
      await assert.rejects(world.apply(effectOf(type, { replica: real, replaces: real }), 3_000), /the lease is lost/);
      assert.deepEqual(world.kube.writes, []);
    });
  }

  it("is run once when it is asked for twice at the same time, and is waited for by who looks what became of it", async () => {
    const world = new KubeWorld();
    world.deployment();
    const effect: Effect = { id: "shop/r/0/0", type: "Scale", workload: world.workload("payments").ref, replicas: 5 };
    const signal = new AbortController().signal;
    const [one, two] = [world.effects.apply(effect, signal), world.effects.apply(effect, signal)];
    assert.equal(one, two);
    const found = world.effects.observe(effect);
    await world.clock.advance(1_000);
    assert.equal((await found).state, "Applied");
    assert.equal(world.kube.writes.length, 1);
  });

  it("is cut off when Nightshift ends", async () => {
    const world = new KubeWorld();
    world.deployment();
    world.kube.startsPods = false;
    const effect: Effect = {
      id: "shop/r/0/0",
      type: "StartReplacement",
      workload: world.workload("payments").ref,
      replaces: world.target(),
    };
    const run = assert.rejects(world.effects.apply(effect, new AbortController().signal), /not done in the time/);
    await world.clock.advance(2_000);
    const closed = world.effects.close();
    await world.clock.advance(5_000);
    await Promise.all([run, closed]);
  });

  it("says who signs it: the epoch of the moment, not of the beginning", async () => {
    const world = new KubeWorld();
    world.deployment();
    world.kube.before = ({ method }) => {
      if (method === "GET") world.epoch = 8;
    };
    await world.apply({ id: "shop/r/0/0", type: "RolloutRestart", workload: world.workload("payments").ref });
    assert.equal(world.kube.get("Deployment", "shop", "payments")?.metadata.annotations?.[MARKS.epoch], "8");
  });
});
