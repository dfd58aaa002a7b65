import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { CUSTOM } from "../../../test/support/fake-api/resources.ts";
import { FakeApi, type FakeRequest, type Fault } from "../../../test/support/fake-api/server.ts";
import type { KubeObject } from "../../../test/support/fake-api/types.ts";
import { approvalObject, remediationObject } from "../../../test/support/objects.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import { storeConformance, watcher, withCode } from "../../../test/support/store-conformance.ts";
import { until } from "../../../test/support/until.ts";
import { NightshiftError } from "../../api/errors.ts";
import type { Remediation } from "../../api/remediation.ts";
import { systemClock } from "../host/clock.ts";
import { HttpKubeClient } from "./http-client.ts";
import { KubernetesStore, type KubernetesStoreOptions } from "./store.ts";

async function setUp(t: TestContext, options: Partial<KubernetesStoreOptions> & { api?: FakeApi } = {}) {
  const api = options.api ?? (await FakeApi.start({ types: CUSTOM, bookmarkMs: 50 }));
  const client = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test" });
  const errors: string[] = [];
  const leader: { epoch: number | undefined } = { epoch: 1 };
  const store = new KubernetesStore({
    client,
    clock: systemClock,
    random: seededRandom(),
    epoch: () => {
      if (leader.epoch === undefined) throw new NightshiftError("NOT_LEADER", "this process does not lead");
      return leader.epoch;
    },
    onError: (message) => errors.push(message),
    backoff: { baseMs: 5, maxMs: 20 },
    ...options,
  });
  t.after(async () => {
    await store.close();
    await client.close();
    await api.down();
  });
  await store.start(new AbortController().signal);
  return { api, store, errors, leader };
}

storeConformance("KubernetesStore", async (t) => (await setUp(t)).store);

storeConformance("KubernetesStore, with a watch that lags and repeats itself", async (t) => {
  const api = await FakeApi.start({ types: CUSTOM, bookmarkMs: 50 });
  let i = 0;
  // A linear congruential generator: 0 to 7 ms, and every third event twice.
  const next = (): number => (i = (i * 1103515245 + 12345) % 2 ** 31) >> 8;
  api.delivery = { delayMs: () => next() % 8, duplicate: () => next() % 3 === 0 };
  return (await setUp(t, { api })).store;
});

storeConformance("KubernetesStore, on a server that breaks its watches all the time", async (t) => {
  const { api, store } = await setUp(t);
  const timer = setInterval(() => {
    for (const watch of api.watches)
      if (watch.request.at % 3 < 1) watch.fail(410, "Expired");
      else if (watch.request.at % 3 < 2) watch.resetMidLine();
      else watch.end();
  }, 30);
  t.after(() => clearInterval(timer));
  return store;
});

const REMEDIATIONS = CUSTOM.find((type) => type.plural === "remediations") ?? assert.fail();
const POLICIES = CUSTOM.find((type) => type.plural === "remediationpolicies") ?? assert.fail();
const APPROVALS = CUSTOM.find((type) => type.plural === "remediationapprovals") ?? assert.fail();
const raw = (object: object): KubeObject => structuredClone(object) as unknown as KubeObject;
const executing = (name: string): Remediation => {
  const object = remediationObject(name);
  object.status.phase = "Executing";
  return object;
};
const writesOf = (api: FakeApi): string[] =>
  api.requests
    .filter(({ verb }) => !["get", "list", "watch"].includes(verb))
    .map(({ verb, plural, subresource }) => `${verb} ${plural}${subresource === undefined ? "" : `/${subresource}`}`);

describe("KubernetesStore", () => {
  it("creates an episode with its status, which carries the epoch, and shows it only when it is whole", async (t) => {
    const { api, store, leader } = await setUp(t);
    leader.epoch = 7;
    const { read, next } = watcher(t, store, "Remediation");
    assert.deepEqual(await read(1), ["Synced"]);
    api.fault = ({ verb }): Fault | undefined => (verb === "update" ? { delayMs: 60 } : undefined);
    const created = await store.create(executing("a"));
    assert.deepEqual([created.status.phase, created.status.epoch], ["Executing", 7]);
    assert.deepEqual(await next(), { type: "Added", object: created });
    assert.equal(created.metadata.annotations?.["nightshift.dev/epoch"], "7", "by which admission knows who begins it");
    assert.deepEqual(writesOf(api), ["create remediations", "update remediations/status"]);
    assert.ok(api.requests.every(({ verb, query }) => verb !== "update" || query["fieldManager"] === "nightshift"));
  });

  it("writes an object's status through its subresource, and what else changes in it apart", async (t) => {
    const { api, store } = await setUp(t);
    const one = await store.create(executing("a"));
    api.requests.length = 0;
    const two = await store.update({ ...one, status: { ...one.status, revision: 1, phase: "Verifying" } });
    assert.deepEqual(writesOf(api), ["update remediations/status"]);
    const three = await store.update({ ...two, metadata: { ...two.metadata, labels: { a: "b" } } });
    assert.deepEqual(writesOf(api), ["update remediations/status", "update remediations"]);
    const four = await store.update({
      ...three,
      metadata: { ...three.metadata, labels: { a: "c" } },
      status: { ...three.status, revision: 2, phase: "Failed" },
    });
    assert.deepEqual([four.metadata.labels, four.status.phase], [{ a: "c" }, "Failed"]);
    assert.deepEqual(await store.get("Remediation", "default", "a"), four);
    assert.equal(api.requests.filter(({ verb }) => verb === "get").length, 0);
  });

  it("keeps what it does not know of an object's metadata, and hides it from the loop", async (t) => {
    const { api, store } = await setUp(t);
    const approval = raw(approvalObject("a"));
    approval.metadata.finalizers = ["example.com/wait"];
    approval.metadata.ownerReferences = [{ apiVersion: "v1", kind: "ConfigMap", name: "x", uid: "y" }];
    api.storage.create(APPROVALS, "default", approval);
    await until(async () => assert.ok(await store.get("RemediationApproval", "default", "a")));
    const known = (await store.get("RemediationApproval", "default", "a")) ?? assert.fail();
    assert.deepEqual(Object.keys(known.metadata).sort(), [
      "creationTimestamp",
      "generation",
      "name",
      "namespace",
      "resourceVersion",
      "uid",
    ]);
    await store.update({ ...known, spec: { ...known.spec, by: "bob" } });
    const { metadata } = api.storage.get(APPROVALS, "default", "a");
    assert.deepEqual([metadata.finalizers, metadata.ownerReferences], [approval.metadata.finalizers, approval.metadata.ownerReferences]);
    // With a finalizer a deletion is a wish.
    await store.delete("RemediationApproval", "default", "a");
    assert.ok(await store.get("RemediationApproval", "default", "a"));
    const marked = raw(api.storage.get(APPROVALS, "default", "a"));
    marked.metadata.finalizers = [];
    api.storage.update(APPROVALS, "default", "a", marked);
    await until(async () => assert.equal(await store.get("RemediationApproval", "default", "a"), undefined));
  });

  it("reads an episode without a status as pending, with revision 0", async (t) => {
    const { api, store } = await setUp(t);
    api.storage.create(REMEDIATIONS, "default", raw(remediationObject("a")));
    await until(async () => assert.ok(await store.get("Remediation", "default", "a")));
    const { status } = (await store.get("Remediation", "default", "a")) ?? assert.fail();
    assert.deepEqual([status.phase, status.revision, status.epoch], ["Pending", 0, undefined]);
  });

  it("leaves the object when its first status cannot be written, and says that it is not known", async (t) => {
    const { api, store } = await setUp(t);
    api.fault = ({ verb }): Fault | undefined => (verb === "update" ? "reset" : undefined);
    await assert.rejects(store.create(executing("a")), withCode("STORE_UNAVAILABLE"));
    await until(async () => assert.equal((await store.get("Remediation", "default", "a"))?.status.revision, 0));
    await assert.rejects(store.create(executing("a")), withCode("ALREADY_EXISTS"));
  });

  it("says that it is not known when an answer is lost, and has what was written once the watch tells", async (t) => {
    const { api, store } = await setUp(t);
    const created = await store.create(approvalObject("a"));
    for (const [by, fault] of [
      ["bob", "reset-after"],
      ["carol", "cut"],
    ] as const) {
      const current = (await store.get("RemediationApproval", "default", "a")) ?? assert.fail();
      api.fault = ({ verb }): Fault | undefined => (verb === "update" ? fault : undefined);
      await assert.rejects(store.update({ ...current, spec: { ...current.spec, by } }), withCode("STORE_UNAVAILABLE"));
      await until(async () => assert.equal((await store.get("RemediationApproval", "default", "a"))?.spec.by, by));
    }
    api.fault = undefined;
    await assert.rejects(store.update(created), withCode("CONFLICT"));
    await store.delete("RemediationApproval", "default", "a");
    api.fault = ({ verb }): Fault | undefined => (verb === "create" ? { refuse: 500, reason: "InternalError" } : undefined);
    await assert.rejects(store.create(approvalObject("b")), withCode("STORE_UNAVAILABLE"));
    await api.down();
    await assert.rejects(store.create(approvalObject("b")), withCode("STORE_UNAVAILABLE", /KUBE_UNREACHABLE|KUBE_CONNECTION_LOST/));
  });

  it("has read the newest state when it rejects with a conflict, though its watch lags", async (t) => {
    const api = await FakeApi.start({ types: CUSTOM, bookmarkMs: 50 });
    api.delivery = { delayMs: () => 200 };
    const { store } = await setUp(t, { api });
    const one = await store.create(executing("a"));
    const elsewhere = raw(api.storage.get(REMEDIATIONS, "default", "a"));
    elsewhere["status"] = { ...(elsewhere["status"] as object), message: "an agent was here" };
    api.storage.update(REMEDIATIONS, "default", "a", elsewhere, { subresource: "status" });
    await assert.rejects(store.update({ ...one, status: { ...one.status, revision: 1 } }), withCode("CONFLICT"));
    const newest = (await store.get("Remediation", "default", "a")) ?? assert.fail();
    assert.equal(newest.status.message, "an agent was here");
    const two = await store.update({ ...newest, status: { ...newest.status, revision: 1 } });
    // And what the watch tells late does not bring the older state back.
    const { next, read } = watcher(t, store, "Remediation");
    assert.deepEqual(await read(2), ["Added a", "Synced"]);
    await new Promise((resolve) => void setTimeout(resolve, 900));
    assert.deepEqual(await store.get("Remediation", "default", "a"), two);
    await store.create(executing("b"));
    const event = await next();
    assert.ok(event?.type === "Added" && event.object.metadata.name === "b", "nothing was told of a meanwhile");
  });

  it("keeps out what it cannot read, says so once, and takes it in when it can", async (t) => {
    const { api, store, errors } = await setUp(t);
    const { read } = watcher(t, store, "RemediationApproval");
    assert.deepEqual(await read(1), ["Synced"]);
    const good = await store.create(approvalObject("a"));
    assert.deepEqual(await read(1), ["Added a"]);
    const strange = raw(good);
    strange["spec"] = { ...good.spec, decision: "Perhaps" };
    api.storage.update(APPROVALS, "default", "a", strange);
    assert.deepEqual(await read(1), ["Deleted a"]);
    assert.match(errors.join("\n"), /^RemediationApproval default\/a is left out: .*spec\.decision/);
    // A listing brings it again: no news.
    for (const watch of api.watches) watch.fail(410, "Expired");
    await until(() => assert.equal(api.requests.filter((r) => r.verb === "list" && r.plural === APPROVALS.plural).length, 2));
    await assert.rejects(store.create(approvalObject("a")), withCode("ALREADY_EXISTS"));
    api.storage.update(APPROVALS, "default", "a", raw({ ...api.storage.get(APPROVALS, "default", "a"), spec: good.spec }));
    assert.deepEqual(await read(1), ["Added a"]);
    assert.equal(errors.filter((error) => error.includes("left out")).length, 1);
  });

  it("writes a policy's status, and none where there is none", async (t) => {
    const { api, store } = await setUp(t);
    api.storage.create(POLICIES, "default", {
      apiVersion: "nightshift.dev/v1alpha1",
      kind: "RemediationPolicy",
      metadata: { name: "p" },
      spec: {
        targets: [{ name: "payments" }],
        signals: [{ name: "memory-leak", trend: { horizon: "30m", window: "1h" } }],
        ladder: [{ strategy: "RestartPod", timeout: "10m" }],
        verify: { stableFor: "1m", timeout: "5m" },
        budgets: [{ maxUnavailable: 1 }],
      },
    });
    await until(async () => assert.ok(await store.get("RemediationPolicy", "default", "p")));
    const policy = (await store.get("RemediationPolicy", "default", "p")) ?? assert.fail();
    assert.equal(policy.status, undefined);
    const stored = await store.update({ ...policy, status: { observedGeneration: 1, conditions: [] } });
    assert.equal(stored.status?.observedGeneration, 1);
    assert.deepEqual(writesOf(api), ["update remediationpolicies/status"]);
    const { status: _, ...without } = stored;
    await assert.rejects(store.update(without), withCode("INVALID", /never taken away/));
  });

  it("lets nobody but the leader write episodes, and reads for everybody", async (t) => {
    const { api, store, leader } = await setUp(t);
    const one = await store.create(executing("a"));
    leader.epoch = undefined;
    await assert.rejects(store.create(executing("b")), withCode("NOT_LEADER"));
    await assert.rejects(store.update({ ...one, status: { ...one.status, phase: "Failed" } }), withCode("NOT_LEADER"));
    await assert.rejects(store.delete("Remediation", "default", "a"), withCode("NOT_LEADER"));
    assert.deepEqual(await store.get("Remediation", "default", "a"), one);
    await store.create(approvalObject("a"));
    assert.deepEqual(writesOf(api), ["create remediations", "update remediations/status", "create remediationapprovals"]);
  });

  it("says that it was deposed when the API server knows that another leads", async (t) => {
    const { api, store } = await setUp(t);
    const message = "written under epoch 1, and the Lease is at 2: another leads now";
    api.fault = ({ verb }): Fault | undefined => (verb === "create" ? { refuse: 403, reason: "Forbidden", message } : undefined);
    await assert.rejects(store.create(executing("a")), withCode("NOT_LEADER", /another leads now/));
    api.fault = ({ verb }): Fault | undefined => (verb === "create" ? { refuse: 403, reason: "Forbidden" } : undefined);
    await assert.rejects(store.create(executing("a")), withCode("STORE_UNAVAILABLE"));
  });

  it("takes every episode that is not over from the leader before, which can write none of them any more", async (t) => {
    const { api, store: before } = await setUp(t);
    const live = await before.create(executing("live"));
    const over = await before.create({ ...executing("over"), status: { ...executing("over").status, phase: "Failed" } });
    const page = { state: "Pending" as const, dedupKey: "k", summary: "s", tries: 0 };
    await before.create({ ...executing("unpaged"), status: { ...executing("unpaged").status, phase: "Escalated", page } });
    api.storage.create(REMEDIATIONS, "default", raw(remediationObject("new")));
    const after = await setUp(t, { api });
    after.leader.epoch = 2;
    api.requests.length = 0;
    await after.store.takeover();
    const epochs = (await after.store.list("Remediation")).map(({ metadata, status }) => [metadata.name, status.epoch]);
    assert.equal(after.store.usedEpoch(), 2);
    assert.deepEqual(epochs, [
      ["live", 2],
      ["new", 2],
      ["over", 1],
      ["unpaged", 2],
    ]);
    // Whatever version it read, and also when it has seen that there is another one.
    await assert.rejects(before.update({ ...live, status: { ...live.status, revision: 1, phase: "Verifying" } }), withCode("CONFLICT"));
    const newest = (await before.get("Remediation", "default", "live")) ?? assert.fail();
    await assert.rejects(before.update({ ...newest, status: { ...newest.status, revision: 1 } }), withCode("NOT_LEADER"));
    await assert.rejects(before.takeover(), withCode("NOT_LEADER"));
    const stored = api.storage.get(REMEDIATIONS, "default", "live")["status"] as Remediation["status"];
    assert.deepEqual([stored.phase, stored.epoch, stored.revision], ["Executing", 2, 0]);
    assert.equal((await after.store.get("Remediation", "default", "over"))?.metadata.resourceVersion, over.metadata.resourceVersion);
    const again = (await after.store.get("Remediation", "default", "live")) ?? assert.fail();
    await after.store.update({ ...again, status: { ...again.status, revision: 1, phase: "Verifying" } });
  });

  it("takes over while the leader before still writes, and misses nothing that it wrote", async (t) => {
    const api = await FakeApi.start({ types: CUSTOM, bookmarkMs: 50 });
    const { store: before } = await setUp(t, { api });
    for (let i = 0; i < 30; i += 1) await before.create(executing(`r${i}`));
    const after = await setUp(t, { api });
    after.leader.epoch = 2;
    const ended = new AbortController();
    const writing = (async () => {
      for (let i = 0; !ended.signal.aborted; i = (i + 1) % 30) {
        const current = (await before.get("Remediation", "default", `r${i}`)) ?? assert.fail();
        const status = { ...current.status, revision: current.status.revision + 1, phase: i % 2 === 0 ? "Failed" : "Verifying" } as const;
        await before.update({ ...current, status }).catch(() => undefined);
        // Every now and then it begins another one.
        if (i % 10 === 0) await before.create(executing(`late-${i}-${status.revision}`)).catch(() => undefined);
      }
    })();
    await after.store.takeover();
    ended.abort();
    await writing;
    const stored = api.storage.list(REMEDIATIONS).filter(({ metadata }) => /^r\d+$/.test(metadata.name));
    for (const object of stored) {
      const status = object["status"] as Remediation["status"];
      const mine = await after.store.get("Remediation", "default", object.metadata.name);
      if (status.phase !== "Failed") assert.equal(status.epoch, 2, object.metadata.name);
      if (status.epoch === 2) assert.deepEqual(mine?.status.phase, status.phase, object.metadata.name);
      else
        await until(async () =>
          assert.equal((await after.store.get("Remediation", "default", object.metadata.name))?.status.phase, "Failed"),
        );
    }
  });

  it("whatever two of them and others do at once, over watches that break, both end up with what the API server has", async (t) => {
    const api = await FakeApi.start({ types: CUSTOM, bookmarkMs: 50 });
    const random = seededRandom(11);
    const chance = (share: number): boolean => random.next() < share;
    api.delivery = { delayMs: () => (chance(0.1) ? 4 : 0), duplicate: () => chance(0.1) };
    const { store: one } = await setUp(t, { api });
    const { store: two } = await setUp(t, { api });
    const [seenByOne, seenByTwo] = [new Map<string, string>(), new Map<string, string>()];
    const stop = new AbortController();
    for (const [store, seen] of [
      [one, seenByOne],
      [two, seenByTwo],
    ] as const)
      void (async () => {
        for await (const event of store.watch("Remediation", stop.signal)) {
          if (event.type === "Synced") continue;
          const { name, resourceVersion = "" } = event.object.metadata;
          if (event.type === "Deleted") seen.delete(name);
          else seen.set(name, resourceVersion);
        }
      })();
    t.after(() => stop.abort());
    const work = async (store: KubernetesStore): Promise<void> => {
      const name = `n${Math.floor(random.next() * 4)}`;
      const known = await store.get("Remediation", "default", name);
      if (known === undefined) await store.create(executing(name));
      else if (chance(0.3)) await store.delete("Remediation", "default", name);
      else await store.update({ ...known, status: { ...known.status, revision: known.status.revision + 1 } });
    };
    const fault = (): void => {
      for (const watch of api.watches) {
        if (watch.request.plural !== "remediations" || chance(0.5)) continue;
        if (chance(0.5)) watch.fail(410, "Expired");
        else watch.resetMidLine();
      }
      if (chance(0.2)) api.compact();
      api.fault = chance(0.3)
        ? ({ plural }) => (plural === "remediations" && chance(0.1) ? (chance(0.5) ? "reset-after" : { delayMs: 6 }) : undefined)
        : undefined;
    };
    for (let round = 0; round < 150; round += 1) {
      if (chance(0.2)) fault();
      await Promise.allSettled([work(one), work(one), work(two), work(two)]);
    }
    api.fault = undefined;
    api.delivery = {};
    const truth = new Map(api.storage.list(REMEDIATIONS).map(({ metadata }) => [metadata.name, metadata.resourceVersion ?? ""]));
    for (const [store, seen] of [
      [one, seenByOne],
      [two, seenByTwo],
    ] as const)
      await until(async () => {
        const have = (await store.list("Remediation")).map(({ metadata }) => [metadata.name, metadata.resourceVersion ?? ""] as const);
        assert.deepEqual(new Map(have), truth);
        assert.deepEqual(seen, truth);
      });
  });

  it("follows the namespaces that it is given, and no other", async (t) => {
    const { api, store } = await setUp(t, { namespaces: ["a", "b"] });
    await store.create(approvalObject("x", "a"));
    await store.create(approvalObject("x", "b"));
    await assert.rejects(store.create(approvalObject("x", "c")), withCode("INVALID", /not followed/));
    api.storage.create(APPROVALS, "c", raw(approvalObject("y", "c")));
    api.storage.create(APPROVALS, "b", raw(approvalObject("y", "b")));
    await until(async () => assert.equal((await store.list("RemediationApproval")).length, 3));
    const listed = api.requests.filter(({ verb, plural }) => verb === "list" && plural === APPROVALS.plural);
    assert.deepEqual(new Set(listed.map(({ namespace }) => namespace)), new Set(["a", "b"]));
    // A listing of one namespace says nothing of the other.
    for (const watch of api.watches) if (watch.request.namespace === "a") watch.fail(410, "Expired");
    const lists = (r: FakeRequest): boolean => r.verb === "list" && r.plural === APPROVALS.plural && r.namespace === "a";
    await until(() => assert.equal(api.requests.filter(lists).length, 2));
    assert.equal((await store.list("RemediationApproval")).length, 3);
  });

  it("knows when it has not heard of a kind for too long", async (t) => {
    let skew = 0;
    const { api, store } = await setUp(t, { clock: { ...systemClock, monotonic: () => performance.now() + skew } });
    assert.equal(store.staleness(), undefined);
    await until(() => assert.equal(api.watches.size, CUSTOM.length));
    for (const watch of api.watches) if (watch.request.plural === "runbooks") watch.freeze();
    skew = 200_000;
    await until(() => assert.match(store.staleness() ?? "", /about Runbook$/));
  });

  it("refuses everything before it has read what exists, and after it was closed", async (t) => {
    const { store } = await setUp(t);
    await store.close();
    await assert.rejects(store.get("Runbook", "default", "a"), withCode("STORE_UNAVAILABLE"));
    await assert.rejects(store.create(approvalObject("a")), withCode("STORE_UNAVAILABLE"));
    assert.throws(() => store.watch("Runbook", new AbortController().signal), withCode("STORE_UNAVAILABLE"));
  });
});
