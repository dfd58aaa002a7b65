import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Harness } from "../../test/support/harness.ts";
import { NightshiftError } from "../api/errors.ts";
import { API_VERSION } from "../api/meta.ts";
import { sleep } from "../ports/clock.ts";

const SERVICES = 8;

/** Services of three replicas each, with a policy each. */
async function cluster(spec: Record<string, unknown> = {}): Promise<Harness> {
  const h = new Harness();
  for (let i = 0; i < SERVICES; i++) {
    h.platform.addWorkload(`s${i}`, 3);
    await h.policy({ targets: [{ name: `s${i}` }], maxSignalAge: "24h", escalation: { blockedFor: "1m" }, ...spec }, `s${i}`);
  }
  return h;
}
const replica = (h: Harness, i: number): string => h.platform.workload(`s${i}`).replicas[0]?.ref.name ?? "";
const fire = (h: Harness, ...services: number[]): string[] => {
  const names = services.map((i) => replica(h, i));
  for (const name of names) h.fire("Ill", { replica: name });
  return names;
};
/** A replica that was replaced is ill no more. */
function resolveWhenReplaced(h: Harness): void {
  h.platform.onChange(() => {
    const there = new Set(h.platform.workloads().flatMap((w) => w.replicas.map((r) => r.ref.name)));
    for (const alert of h.alerts.values())
      if (alert.status === "firing" && !there.has(alert.labels["replica"] ?? ""))
        h.fire("Ill", { replica: alert.labels["replica"] ?? "" }, "resolved");
  });
}
const begun = (h: Harness): number => h.platform.log.filter((type) => type === "StartReplacement").length;

describe("the storm brake", () => {
  it("holds what is ill at once, under one episode, and pages once for all of it", async () => {
    const h = await cluster();
    await h.start();
    fire(h, 0, 1, 2, 3, 4, 5);
    await h.pass(300_000, 1_000);
    assert.deepEqual(h.platform.log, []);
    const { status } = h.only();
    assert.deepEqual([status.phase, status.reason, status.storm?.domain], ["Blocked", "StormBrake", "Cluster"]);
    assert.equal(h.pages.length, 1);
    assert.match(h.pages[0]?.summary ?? "", /^6 of 8 workloads in Cluster are ill at once/);
    await h.stop();
  });

  it("of several that wait already one stands for it, also while the trail takes nothing and the store is slow", async () => {
    const h = await cluster();
    const pause = await h.store.create<"RemediationBudget">({
      apiVersion: API_VERSION,
      kind: "RemediationBudget",
      metadata: { name: "pause", namespace: "default" },
      spec: { budgets: [], paused: { reason: "maintenance" } },
    });
    await h.start({
      store: (store) => ({
        get: (kind, namespace, name) => store.get(kind, namespace, name),
        list: (kind, namespace) => store.list(kind, namespace),
        create: (object) => store.create(object),
        delete: (kind, namespace, name, version) => store.delete(kind, namespace, name, version),
        watch: (kind, signal) => store.watch(kind, signal),
        update: async (object) => {
          await sleep(h.clock, 200);
          return store.update(object);
        },
      }),
    });
    fire(h, 0, 1, 2, 3, 4, 5);
    await h.pass(10_000, 100);
    assert.deepEqual(new Set(h.remediations().map(({ status }) => status.reason)), new Set(["Paused"]));
    h.auditFails = new NightshiftError("AUDIT_UNAVAILABLE", "no space left");
    await h.store.delete("RemediationBudget", "default", "pause", pause.metadata.resourceVersion);
    await h.pass(10_000, 100);
    h.auditFails = undefined;
    await h.pass(300_000, 1_000);
    assert.deepEqual(h.remediations().filter(({ status }) => status.storm !== undefined).length, 1);
    assert.equal(h.pages.length, 1, h.pages.map(({ summary }) => summary).join("; "));
    await h.stop();
  });

  it("closes its page when it is over, also where the clock was an hour ahead then", async () => {
    const h = await cluster();
    await h.start();
    const ill = fire(h, 0, 1, 2, 3, 4, 5);
    assert.ok(await h.until(() => h.pages.length === 1, 60_000));
    h.clock.jump(h.clock.now() + 3_600_000);
    for (const name of ill) h.fire("Ill", { replica: name }, "resolved");
    assert.ok(await h.until(() => h.ended(), 60_000));
    h.clock.jump(h.clock.now() - 3_600_000);
    assert.ok(await h.until(() => h.resolved.length === 1, 120_000));
    await h.stop();
  });

  it("the same, but fewer: they are healed at once, and nobody is paged", async () => {
    const h = await cluster();
    resolveWhenReplaced(h);
    await h.start();
    fire(h, 0, 1);
    await h.pass(1_000);
    assert.equal(begun(h), 2);
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual([h.pages, h.remediations().map((r) => r.status.outcome)], [[], ["Remediated", "Remediated"]]);
    await h.stop();
  });

  it("lets go when it is over, one after the other and not all at once, also after a crash; pages no second time", async () => {
    const h = await cluster({ verify: { stableFor: "1s", timeout: "30s" } });
    await h.store.create({
      apiVersion: "nightshift.dev/v1alpha1",
      kind: "RemediationBudget",
      metadata: { name: "all", namespace: "default" },
      spec: { budgets: [], stormBrake: { cluster: 3, namespace: 3 } },
    } as never);
    resolveWhenReplaced(h);
    await h.start();
    const names = fire(h, 0, 1, 2, 3, 4);
    await h.pass(20_000);
    for (const name of names.slice(0, 2)) h.fire("Ill", { replica: name }, "resolved");
    await h.pass(500);
    await h.stop();
    await h.start();
    const at: number[] = [];
    for (let i = 0; i < 480; i++) {
      await h.clock.advance(250);
      while (at.length < begun(h)) at.push(h.clock.now());
    }
    assert.equal(at.length, 3);
    for (const [i, time] of at.entries()) if (i > 0) assert.ok(time - (at[i - 1] ?? 0) >= 30_000, `${time - (at[i - 1] ?? 0)} ms apart`);
    assert.ok(h.ended());
    assert.deepEqual([h.pages.length, h.resolved.map((page) => page.dedupKey)], [1, [h.pages[0]?.dedupKey]]);
    await h.stop();
  });

  it("an episode whose target is gone hands a storm that goes on to another, under the same page", async () => {
    const h = await cluster();
    await h.start();
    const [first] = fire(h, 0, 1, 2, 3, 4, 5);
    await h.pass(5_000);
    const name = h.only().metadata.name;
    const service = h.only().spec.workload.name;
    assert.equal(h.platform.workload(service).replicas[0]?.ref.name, first);
    h.platform.remove(service, `uid-${first ?? ""}`);
    await h.pass(60_000);
    const held = h.remediations().filter((r) => r.status.phase === "Blocked");
    assert.equal(held.length, 1);
    assert.notEqual(held[0]?.metadata.name, name);
    assert.deepEqual([h.platform.log, h.pages.length], [[], 1]);
    await h.stop();
  });

  it("an episode that stands for another storm after the first has it told that the first is over", async () => {
    const h = await cluster({ budgets: [{ maxUnavailable: 0 }], escalation: { blockedFor: "1h" } });
    await h.start();
    const names = fire(h, 0, 1, 2, 3, 4, 5);
    await h.pass(5_000);
    const key = h.only().metadata.name;
    const own = h.only().spec.signalTarget.name;
    assert.equal(h.only().status.storm?.page?.state, "Sent");
    for (const name of names) if (name !== own) h.fire("Ill", { replica: name }, "resolved");
    await h.pass(3_000);
    const service = names.indexOf(own);
    for (const { ref } of h.platform.workload(`s${service}`).replicas) h.fire("Ill", { replica: ref.name });
    await h.pass(3_000);
    const standing = h.remediations().find(({ metadata }) => metadata.name === key);
    assert.deepEqual(
      [standing?.status.storm?.domain, standing?.status.storm?.earlier?.map(({ domain }) => domain)],
      [`Workload/default/s${service}`, ["Cluster"]],
    );
    assert.ok(await h.until(() => h.resolved.some(({ dedupKey }) => dedupKey === h.pages[0]?.dedupKey)));
    assert.equal(h.pages.length, 2);
    await h.stop();
  });

  it("in Observe nobody is woken at once, and real episodes are not held by it", async () => {
    const h = await cluster({ mode: "Observe" });
    await h.start();
    fire(h, 0, 1, 2, 3, 4, 5);
    await h.pass(30_000);
    assert.deepEqual([h.pages, h.only().status.reason], [[], "StormBrake"]);
    await h.stop();
  });

  it("a storm that rises in the middle of an episode holds its next step", async () => {
    const h = await cluster();
    h.platform.replacementsBecomeReady = false;
    await h.start();
    fire(h, 0);
    await h.pass(1_000);
    assert.deepEqual(h.platform.log, ["StartReplacement"]);
    fire(h, 1, 2, 3, 4, 5);
    const replacement = h.platform.workload("s0").replicas.find((r) => r.startedBy !== undefined);
    h.platform.change("s0", replacement?.ref.name ?? "", { ready: true, everReady: true });
    await h.pass(20_000);
    assert.ok(!h.platform.log.includes("RemoveFromTraffic"), h.platform.log.join());
    await h.stop();
  });
});
