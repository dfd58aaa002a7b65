import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { KubeWorld } from "../../../../test/support/kube-world.ts";
import { type Actions, serveActions } from "../../../../hints/serve.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { Effect, Replica } from "../../../ports/platform.ts";
import { ActionCaller, newActionKey } from "../../actions.ts";
import { systemClock } from "../../host/clock.ts";
import { KubeApiError } from "../errors.ts";
import { MARKS } from "../marks.ts";
import type { Pod } from "../objects.ts";

const never = new AbortController().signal;

describe("InvokeAction", () => {
  const caller = new ActionCaller(newActionKey(), systemClock);
  let world: KubeWorld;
  let pod: Pod;
  let actions: Actions;
  let resets = 0;
  let reset: Extract<Effect, { type: "InvokeAction" }>;

  const change = (metadata: object, spec: object = {}, status: object = {}): void =>
    world.kube.change("Pod", "shop", pod.metadata.name, JSON.parse(JSON.stringify({ metadata, spec, status })));
  const annotations = (): Readonly<Record<string, string>> => world.kube.get("Pod", "shop", pod.metadata.name)?.metadata.annotations ?? {};
  const replica = (): Replica | undefined => world.workload("payments").replicas.find(({ ref }) => ref.uid === pod.metadata.uid);

  beforeEach(async () => {
    world = new KubeWorld();
    world.deployment();
    const [first] = world.pods();
    assert.ok(first !== undefined);
    pod = first;
    resets = 0;
    actions = await serveActions({ key: caller.publicKey, uid: pod.metadata.uid, port: 0 });
    actions.onPoolReset(() => `reset ${(resets += 1)}`);
    change({ annotations: { [MARKS.actionsPort]: String(actions.port) } }, {}, { podIP: "127.0.0.1" });
    world.actions = caller;
    const ref = { kind: "Pod", namespace: "shop", name: pod.metadata.name, uid: pod.metadata.uid };
    reset = { id: "shop/r/0/0", type: "InvokeAction", replica: ref, action: "pool-reset", intendedAt: Date.now() };
    world.kube.writes.length = 0;
  });
  afterEach(() => actions.close());

  it("asks the pod at its own address, with its id on the pod first", async () => {
    assert.equal(replica()?.servesActions, true);
    const effects = world.restarted();
    assert.deepEqual(await effects.observe(reset), { state: "NotApplied" });
    assert.match((await effects.apply(reset, never)).message, /^pool-reset: reset 1/);
    assert.equal(annotations()[MARKS.invokedBy], reset.id);
    assert.equal(annotations()[MARKS.epoch], "7");
    assert.equal(world.kube.writes.length, 1);
    assert.equal(replica()?.inTraffic, true);
  });

  it("takes effect once, whoever asks again", async () => {
    await world.restarted().apply(reset, never);
    const next = world.restarted();
    assert.equal((await next.observe(reset)).state, "Applied");
    assert.match((await next.apply(reset, never)).message, /reset 1/);
    assert.deepEqual([resets, world.kube.writes.length], [1, 1]);
  });

  it("asks nobody under an epoch that is over", async () => {
    world.epoch = new NightshiftError("NOT_LEADER", "another leads");
    await assert.rejects(world.restarted().apply(reset, never), { code: "NOT_LEADER" });
    assert.deepEqual([resets, world.kube.writes.length], [0, 0]);
  });

  it("asks nobody where its mark could not be written", async () => {
    world.kube.before = (request) => {
      if (request.method === "PATCH") throw new KubeApiError("KUBE_FORBIDDEN", "the guard refuses it", { statusCode: 403 });
    };
    await assert.rejects(world.restarted().apply(reset, never), { code: "EFFECT_FAILED" });
    assert.equal(resets, 0);
    assert.deepEqual(await world.restarted().observe(reset), { state: "NotApplied" });
  });

  it("refuses a pod that serves none, or has no address of its own, or is marked", async () => {
    const port = { [MARKS.actionsPort]: String(actions.port) };
    const cases: [string, string, object, object?, object?][] = [
      ["no annotation", "NO_ACTIONS", { annotations: { [MARKS.actionsPort]: null } }],
      ["no port", "NO_ACTIONS", { annotations: { [MARKS.actionsPort]: "127.0.0.1:80" } }],
      ["a port that there is not", "NO_ACTIONS", { annotations: { [MARKS.actionsPort]: "70000" } }],
      ["no address", "NO_ACTIONS", { annotations: port }, {}, { podIP: null }],
      ["its node's address", "NO_ACTIONS", { annotations: port }, { hostNetwork: true }, { podIP: "127.0.0.1" }],
      ["a mark", "DO_NOT_REMEDIATE", { annotations: { ...port, "nightshift.dev/do-not-remediate": "true" } }, { hostNetwork: null }],
    ];
    for (const [what, code, metadata, spec, status] of cases) {
      change(metadata, spec, status);
      await assert.rejects(world.restarted().apply(reset, never), { code }, what);
    }
    assert.deepEqual([resets, world.kube.writes.length], [0, 0]);
  });

  it("is not known where the pod's process is another since it was decided", async () => {
    change({ annotations: { [MARKS.invokedBy]: reset.id } });
    assert.equal((await world.restarted().observe({ ...reset, intendedAt: Date.now() - 60_000 })).state, "Unknown");
    assert.deepEqual(await world.restarted().observe(reset), { state: "NotApplied" });
  });

  it("takes another key than that of the operator for nobody's", async () => {
    world.actions = new ActionCaller(newActionKey(), systemClock);
    await assert.rejects(world.restarted().apply(reset, never), { code: "ACTION_REFUSED" });
    world.actions = undefined;
    await assert.rejects(world.restarted().apply(reset, never), { code: "NO_ACTIONS" });
    assert.equal(resets, 0);
  });
});
