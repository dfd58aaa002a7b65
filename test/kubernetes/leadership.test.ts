// Three replicas of the operator, as the chart's account and under the chart's admission policies. Whatever becomes of the
// leader, another takes over in time, and each effect happens once, as the API server saw it.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Pod } from "../../src/platform/kubernetes/objects.ts";
import { lacking } from "../cluster/requirements.ts";
import type { Passing } from "./gateway.ts";
import { Fleet, isReady, LEASE, type Replica, replaces } from "./replicas.ts";

/** What is promised of a takeover after a crash: the duration of the Lease (ms). */
const CRASH_MS = 15_000;
/** And after a graceful stop (ms). */
const GRACEFUL_MS = 2_000;
/** A machine that has much else to do gets this much more. */
const SLACK = 1.5;
/** `nightshift help exit-codes`. */
const UNAVAILABLE = 69;

describe("three replicas of the operator", { skip: lacking({ nodes: true, tools: ["kube", "helm"] }) }, () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await Fleet.start();
  });
  after(() => fleet?.stop());

  /** One episode, which ended well; one pod started in the place of the target, and one deletion, both by us. */
  async function assertOneEffect(namespace: string, target: Pod): Promise<void> {
    const episodes = await fleet.ended(namespace);
    const told = JSON.stringify(
      episodes.map(({ status }) => status),
      undefined,
      1,
    );
    assert.deepEqual(
      episodes.map(({ status }) => [status.phase, status.outcome]),
      [["Succeeded", "Remediated"]],
      told,
    );
    const pods = await fleet.ready(namespace);
    assert.ok(pods.every(isReady));
    assert.deepEqual(
      pods.map(replaces).filter((uid) => uid !== undefined),
      [target.metadata.uid],
    );
    assert.deepEqual(fleet.effects(namespace), { started: 3, deletedByUs: 1, deletedByOthers: 0 }, told);
  }

  /** How long the takeover took, in words. */
  function report(t: { diagnostic(text: string): void }, what: string, ms: number): void {
    t.diagnostic(`${what}: another leads after ${(ms / 1000).toFixed(2)} s`);
  }

  async function assertLeads(replica: Replica): Promise<void> {
    await fleet.cluster.until("the leader's pod alone is labelled", async () => {
      const labelled = await fleet.labelled();
      return labelled.length === 1 && labelled[0] === replica.name;
    });
  }

  const isEffectOn =
    (namespace: string, method: string) =>
    ({ method: is, path }: Passing): boolean =>
      is === method && path.startsWith(`/api/v1/namespaces/${namespace}/pods/`);

  it("one stops in order: another takes over at once and ends what it had begun", async (t) => {
    await Promise.all([fleet.workload("stop-ready"), fleet.workload("stop-ending", { endsAfterSeconds: 6 })]);
    await Promise.all([fleet.ready("stop-ready"), fleet.ready("stop-ending")]);
    fleet.hold("stop-ready");
    const [waiting, ending] = await Promise.all([fleet.fire("stop-ready"), fleet.fire("stop-ending")]);
    await Promise.all([fleet.step("stop-ready", "awaitReady", "Intended"), fleet.step("stop-ending", "stop", "Intended")]);
    const leader = await fleet.leader();
    await assertLeads(leader);
    const begun = Date.now();
    leader.signal("SIGTERM");
    const { by, at } = await fleet.takeover(leader, begun);
    report(t, "SIGTERM", at - begun);
    assert.ok(at - begun <= GRACEFUL_MS * SLACK, `${at - begun} ms`);
    assert.equal(await leader.exited, 0);
    await assertLeads(by);
    fleet.let("stop-ready");
    await assertOneEffect("stop-ready", waiting);
    await assertOneEffect("stop-ending", ending);
  });

  it("one is killed at several points: another takes over in time and ends what it had begun", async (t) => {
    await fleet.whole();
    const places = ["kill-first", "kill-ready", "kill-ending"] as const;
    await Promise.all(places.map((place) => fleet.workload(place, place === "kill-ending" ? { endsAfterSeconds: 18 } : {})));
    await Promise.all(places.map((place) => fleet.ready(place)));
    fleet.hold("kill-ready");
    const [ready, ending] = await Promise.all([fleet.fire("kill-ready"), fleet.fire("kill-ending")]);
    await Promise.all([fleet.step("kill-ready", "awaitReady", "Intended"), fleet.step("kill-ending", "stop", "Intended")]);
    await fleet.cluster.until("the pod ends", async () =>
      (await fleet.pods("kill-ending")).some(
        ({ metadata }) => metadata.uid === ending.metadata.uid && metadata.deletionTimestamp !== undefined,
      ),
    );
    const leader = await fleet.leader();
    // The last one is hit as soon as its episode is there, before anything was done.
    const status = leader.gateway.hold(({ method, path }) => method === "PUT" && path.includes("/namespaces/kill-first/remediations/"));
    const first = await fleet.fire("kill-first");
    await fleet.cluster.until("an episode", async () => status.held.length > 0);
    const begun = Date.now();
    leader.signal("SIGKILL");
    const { by, at } = await fleet.takeover(leader, begun);
    report(t, "SIGKILL", at - begun);
    assert.ok(at - begun <= CRASH_MS * SLACK, `${at - begun} ms`);
    await assertLeads(by);
    await status.release();
    fleet.let("kill-ready");
    await assertOneEffect("kill-first", first);
    await assertOneEffect("kill-ready", ready);
    await assertOneEffect("kill-ending", ending);
  });

  it("one is frozen between intent and effect: what it had sent is refused, and thawed it writes nothing and ends", async (t) => {
    await fleet.whole();
    const places = ["freeze-ready", "freeze-detach", "freeze-late", "freeze-delete", "freeze-intent"] as const;
    await Promise.all(places.map((place) => fleet.workload(place)));
    await Promise.all(places.map((place) => fleet.ready(place)));
    const leader = await fleet.leader();
    const others = fleet.replicas.filter((replica) => replica !== leader);
    const hold = (replica: Replica, ...holds: readonly ((passing: Passing) => boolean)[]) =>
      replica.gateway.hold((passing) => holds.some((matches) => matches(passing)));
    // Nothing of these reaches the API server while it leads: the intent is stored, the effect is on its way.
    const detach = hold(leader, isEffectOn("freeze-detach", "PATCH"));
    const late = hold(leader, isEffectOn("freeze-late", "PATCH"));
    const deletion = hold(leader, isEffectOn("freeze-delete", "DELETE"));
    fleet.hold("freeze-ready");
    fleet.hold("freeze-intent");
    const [ready, detached, lateOne, deleted, intended] = await Promise.all([
      fleet.fire("freeze-ready"),
      fleet.fire("freeze-detach"),
      fleet.fire("freeze-late"),
      fleet.fire("freeze-delete"),
      fleet.fire("freeze-intent"),
    ]);
    await Promise.all([
      fleet.step("freeze-ready", "awaitReady", "Intended"),
      fleet.step("freeze-intent", "awaitReady", "Intended"),
      ...[detach, late, deletion].map((one) => fleet.cluster.until("an effect on its way", async () => one.held.length > 0)),
    ]);
    // And of this one the storing of the next state is on its way.
    const intent = hold(leader, ({ method, path }) => method === "PUT" && path.includes("/namespaces/freeze-intent/remediations/"));
    fleet.let("freeze-intent");
    await fleet.cluster.until("a state on its way", async () => intent.held.length > 0);
    // Those that take over do not get to these two before the old one's arrive, so that nothing but the Lease has changed.
    const newer = others.map((replica) => hold(replica, isEffectOn("freeze-detach", "PATCH"), isEffectOn("freeze-delete", "PATCH")));

    const begun = Date.now();
    leader.signal("SIGSTOP");
    const { by, at } = await fleet.takeover(leader, begun);
    report(t, "SIGSTOP", at - begun);
    assert.ok(at - begun <= CRASH_MS * SLACK, `${at - begun} ms`);
    await fleet.cluster.until("the new leader's effects on their way", async () => newer.flatMap(({ held }) => held).length >= 2);

    const refused = async (what: string, way: typeof detach): Promise<Passing> => {
      const passed = await way.release();
      for (const { method, status, refusal } of passed)
        t.diagnostic(
          `${what}: ${method} arrives after the takeover: ${status} ${(JSON.parse(refusal ?? "{}") as { message?: string }).message}`,
        );
      const [one] = passed;
      assert.ok(one !== undefined && passed.length === 1, what);
      return one;
    };
    // Its object has not changed since it was read: only the admission policy stands between.
    const fenced = /another leads now/;
    const byFence = [await refused("detaching", detach), await refused("deleting", deletion)];
    for (const { status, refusal } of byFence) {
      assert.equal(status, 403);
      assert.match(refusal ?? "", fenced);
    }
    assert.ok([409, 422].includes((await refused("storing", intent)).status ?? 0));
    await Promise.all(newer.map((one) => one.release()));
    // The new leader has done this one by now: it is another version of the pod.
    await fleet.step("freeze-late", "startReplacement", "Done");
    assert.ok([403, 404, 409].includes((await refused("late", late)).status ?? 0));

    leader.signal("SIGCONT");
    assert.equal(await leader.exited, UNAVAILABLE, leader.lines.slice(-20).join("\n"));
    // An event that was on its way as it froze has no epoch: it tells of what was, and changes nothing.
    const written = fleet.writesSince(leader, at).filter(({ objectRef }) => objectRef?.resource !== "events");
    assert.deepEqual(written, []);
    fleet.let("freeze-ready");
    await assertLeads(by);
    await assertOneEffect("freeze-ready", ready);
    await assertOneEffect("freeze-detach", detached);
    await assertOneEffect("freeze-late", lateOne);
    await assertOneEffect("freeze-delete", deleted);
    await assertOneEffect("freeze-intent", intended);
    assert.deepEqual(fleet.writesSince(leader, at), []);
  });

  it("one is cut off from the API server, in silence and then by resets: it ends, another takes over, and healing changes nothing", async (t) => {
    await fleet.whole();
    await fleet.workload("cut");
    await fleet.ready("cut");
    fleet.hold("cut");
    const target = await fleet.fire("cut");
    await fleet.step("cut", "awaitReady", "Intended");
    const leader = await fleet.leader();
    const begun = Date.now();
    leader.proxy.set("frozen");
    const left = leader.exited.then((code) => ({ code, at: Date.now() }));
    fleet.let("cut");
    await delay(4_000);
    leader.proxy.set("cut");
    const { by, at } = await fleet.takeover(leader, begun);
    report(t, "cut off", at - begun);
    assert.ok(at - begun <= CRASH_MS * SLACK, `${at - begun} ms`);
    const { code, at: ended } = await left;
    t.diagnostic(`cut off: the old leader's process has ended after ${((ended - begun) / 1000).toFixed(2)} s`);
    assert.equal(code, UNAVAILABLE);
    leader.proxy.set("open");
    await assertLeads(by);
    await assertOneEffect("cut", target);
    assert.deepEqual(fleet.writesSince(leader, at), []);
  });

  it("their Lease is deleted: another takes over at once, and the epoch never goes back", async (t) => {
    await fleet.whole();
    await fleet.workload("deleted");
    await fleet.ready("deleted");
    fleet.hold("deleted");
    const target = await fleet.fire("deleted");
    await fleet.step("deleted", "awaitReady", "Intended");
    const leader = await fleet.leader();
    const earlier = await fleet.lease();
    const begun = Date.now();
    await fleet.cluster.request("DELETE", LEASE);
    const { by, at } = await fleet.takeover(leader, begun);
    report(t, "Lease deleted", at - begun);
    assert.equal(await leader.exited, UNAVAILABLE);
    const later = await fleet.lease();
    assert.notEqual(later.metadata.uid, earlier.metadata.uid);
    assert.ok((later.spec?.leaseTransitions ?? 0) > (earlier.spec?.leaseTransitions ?? 0));
    fleet.let("deleted");
    await assertLeads(by);
    await assertOneEffect("deleted", target);
  });

  it("through all of that no epoch came twice, or after a higher one", () => {
    const held = fleet.leases.flatMap(({ spec: { holderIdentity = "", leaseTransitions = 0 } = {} }) =>
      holderIdentity === "" ? [] : [{ holderIdentity, leaseTransitions }],
    );
    const epochs = held.map(({ leaseTransitions }) => leaseTransitions);
    assert.ok(new Set(epochs).size >= 6, epochs.join(" "));
    assert.deepEqual(
      epochs,
      epochs.toSorted((a, b) => a - b),
    );
    for (const epoch of new Set(epochs)) {
      const holders = new Set(
        held.filter(({ leaseTransitions }) => leaseTransitions === epoch).map(({ holderIdentity }) => holderIdentity),
      );
      assert.equal(holders.size, 1, `epoch ${epoch}: ${[...holders].join(", ")}`);
    }
  });
});
