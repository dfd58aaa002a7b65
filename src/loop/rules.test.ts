// The design's rules, as the loop keeps them: each is broken here in the way that it can be.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { API_VERSION } from "../api/meta.ts";
import { NightshiftError } from "../api/errors.ts";
import type { Replica } from "../ports/platform.ts";
import { Harness } from "../../test/support/harness.ts";

async function ill(spec: Record<string, unknown> = {}, count = 3): Promise<{ h: Harness; replica: string }> {
  const h = new Harness();
  const workload = h.platform.addWorkload("payments", count);
  await h.policy(spec);
  return { h, replica: workload.replicas[1]?.ref.name ?? "" };
}
const EVICT = { ladder: [{ strategy: "EvictPod" }], maxSignalAge: "24h" };
const replicas = (h: Harness): readonly Replica[] => h.platform.workload("payments").replicas;
const name = (h: Harness, i: number): string => replicas(h)[i]?.ref.name ?? "";
const MARK = { "nightshift.dev/do-not-remediate": "true" };

describe("S3: never more unavailable than the budgets allow", () => {
  it("waits while another replica is down for a reason of its own, and goes on once that is back", async () => {
    const { h, replica } = await ill(EVICT);
    h.platform.change("payments", name(h, 0), { ready: false, inTraffic: false });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(20_000);
    assert.deepEqual(h.platform.log, []);
    assert.equal(h.only().status.reason, "BudgetExhausted");
    h.platform.change("payments", name(h, 0), { ready: true, inTraffic: true });
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    await h.stop();
  });

  it("a step is held back when a replica goes down in the midst of an episode", async () => {
    const { h, replica } = await ill(EVICT);
    await h.start();
    h.platform.change("payments", replica, { inFlight: 1 });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.platform.log.includes("RemoveFromTraffic")));
    h.platform.change("payments", name(h, 0), { ready: false });
    h.platform.change("payments", replica, { inFlight: 0 });
    await h.pass(20_000);
    assert.ok(!h.platform.log.includes("Stop"), "two of three would be down");
    h.platform.change("payments", name(h, 0), { ready: true });
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    await h.stop();
  });

  it("held back for longer than its rung, it puts the target back into traffic (L3)", async () => {
    const { h, replica } = await ill({ ...EVICT, ladder: [{ strategy: "EvictPod", timeout: "1m" }] });
    await h.start();
    h.platform.change("payments", replica, { inFlight: 1 });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.platform.log.includes("RemoveFromTraffic")));
    h.platform.change("payments", name(h, 0), { ready: false });
    h.platform.change("payments", replica, { inFlight: 0 });
    assert.ok(await h.until(() => h.platform.log.includes("RestoreTraffic"), 120_000));
    assert.ok(!h.platform.log.includes("Stop"));
    assert.equal(replicas(h).find((r) => r.ref.name === replica)?.inTraffic, true);
    assert.equal(h.pages.length, 1);
    await h.stop();
  });
});

describe("S4: what is not there is no evidence", () => {
  it("metrics that vanish while an episode waits neither begin it nor end it as recovered", async () => {
    const { h } = await ill({
      signals: [{ name: "hot", metric: { name: "heat", above: 10, for: "2s" } }],
      budgets: [{ maxUnavailable: 0 }],
      maxSignalAge: "24h",
    });
    const target = replicas(h)[1];
    assert.ok(target);
    const series = (uid: string, v: number, until: number): void =>
      void h.telemetry.series.set(
        `${uid}|heat`,
        Array.from({ length: 20 }, (_, i) => ({ t: until - (20 - i) * 1_000, v })),
      );
    const say = (): void => {
      for (const { ref } of replicas(h)) series(ref.uid, ref.uid === target.ref.uid ? 50 : 1, h.clock.now());
    };
    say();
    await h.start();
    for (let i = 0; i < 5; i++) {
      await h.pass(1_000);
      say();
    }
    assert.equal(h.only().status.reason, "BudgetExhausted");
    await h.pass(120_000);
    assert.equal(h.only().status.phase, "Blocked");
    assert.equal(h.only().status.reason, "NoData");
    assert.deepEqual(h.platform.log, []);
    await h.stop();
  });
});

describe("S11: a breaker holds back actions, never news; and it replays nothing", () => {
  it("what fired and went while the circuit was open is over when it closes", async () => {
    const { h } = await ill({
      ...EVICT,
      attempts: { max: 1, window: "5m" },
      verify: { stableFor: "2s", timeout: "4s" },
      cooldown: "1s",
      ladder: [{ strategy: "RestartPod" }],
    });
    await h.start();
    h.fire("Ill", { replica: name(h, 1) });
    h.platform.onChange(() => h.fire("Ill", { replica: replicas(h).at(-1)?.ref.name ?? "" }));
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Escalated"), "one attempt that does not help opens it");
    const acted = h.platform.log.length;
    for (const { labels } of Array.from(h.alerts.values())) h.fire("Ill", { replica: labels["replica"] ?? "" }, "resolved");
    for (let i = 0; i < 30; i++) {
      h.fire("Ill", { replica: name(h, i % 3) });
      await h.pass(1_000);
      h.fire("Ill", { replica: name(h, i % 3) }, "resolved");
      await h.pass(3_000);
    }
    assert.equal(h.platform.log.length, acted, "nothing is tried while it is open");
    assert.ok(await h.until(() => h.ended(), 60_000), "and what waited has ended, as its signal did");
    assert.ok(
      h
        .remediations()
        .slice(1)
        .every((r) => r.status.outcome === "SelfRecovered" || r.status.phase === "Escalated"),
    );
    await h.pass(600_000, 1_000);
    assert.equal(h.platform.log.length, acted, "it has closed, and nothing is replayed");
    h.fire("Ill", { replica: name(h, 0) });
    await h.pass(2_000);
    assert.ok(h.platform.log.length > acted, "what fires now is acted on");
    await h.stop();
  });
});

describe("S12: what is marked do-not-remediate is left alone", () => {
  for (const where of ["label", "annotation"] as const)
    it(`by ${where}, from the start, and nobody is paged for it`, async () => {
      const { h, replica } = await ill({ escalation: { blockedFor: "10s" }, maxSignalAge: "24h" });
      h.platform.change("payments", replica, where === "label" ? { labels: MARK } : { annotations: MARK });
      await h.start();
      h.fire("Ill", { replica });
      await h.pass(60_000);
      assert.deepEqual([h.platform.log, h.pages], [[], []]);
      assert.equal(h.only().status.reason, "Unmanaged");
      await h.stop();
    });

  it("set in the midst of an episode: no further step, and what was done is taken back", async () => {
    const { h, replica } = await ill({ maxSignalAge: "24h" });
    await h.start();
    h.platform.change("payments", replica, { inFlight: 1 });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.platform.log.includes("RemoveFromTraffic")));
    h.platform.change("payments", replica, { annotations: MARK, inFlight: 0 });
    assert.ok(await h.until(() => h.remediations().some((r) => r.status.phase === "Cancelled")));
    // It is ill as before: another episode stands, and touches nothing.
    await h.pass(5_000);
    assert.deepEqual(new Set(h.remediations().map((r) => r.status.reason)), new Set(["Cancelled", "Unmanaged"]));
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveFromTraffic", "RestoreTraffic", "RemoveReplacement"]);
    assert.equal(replicas(h).length, 3);
    await h.stop();
  });
});

describe("L2: what lasts is not dropped", () => {
  const lasting = async (): Promise<Harness> => {
    const { h } = await ill({
      ladder: [{ strategy: "RollingRestart" }],
      maxSignalAge: "1m",
      attempts: { max: 3, window: "1h" },
      escalation: { blockedFor: "5m" },
    });
    await h.start();
    // Heard of once, as Alertmanager repeats it after four hours only; and it goes on, whatever is done.
    h.fire("Ill", { workload: "payments" });
    assert.ok(await h.until(() => h.ended(), 300_000));
    assert.deepEqual([h.only().status.phase, h.only().status.reason, h.pages], ["Failed", "Ineffective", []]);
    await h.pass(120_000, 1_000);
    return h;
  };

  it("a signal that has grown old while an attempt at it did not help is handed to a person, and not acted on", async () => {
    const h = await lasting();
    const acted = h.platform.log.length;
    assert.ok(await h.until(() => h.pages.length > 0, 600_000));
    assert.match(h.pages[0]?.summary ?? "", /not heard of again: the signal was last seen/);
    await h.pass(1_200_000, 5_000);
    assert.deepEqual([h.platform.log.length, h.pages.length], [acted, 1]);
    // Whether it still fires nobody knows: it is a person's now, and waits no longer.
    const ends = h.remediations().map(({ status }) => `${status.phase} ${status.reason} ${status.outcome}`);
    assert.equal(ends.filter((end) => end === "Escalated StaleSignal Inconclusive").length, 1, ends.join("; "));
    assert.ok(h.ended());
    h.fire("Ill", { workload: "payments" }, "resolved");
    assert.ok(await h.until(() => h.ended() && h.resolved.length === 1, 600_000));
    await h.stop();
  });

  it("nobody is called where it is over before that", async () => {
    const h = await lasting();
    h.fire("Ill", { workload: "payments" }, "resolved");
    await h.pass(600_000, 5_000);
    assert.deepEqual([h.ended(), h.pages], [true, []]);
    await h.stop();
  });
});

describe("S13: no burst when what was away returns", () => {
  it("of ten workloads that are ill when the store is back, no more at once than the platform team allows", async () => {
    const h = new Harness();
    await h.store.create<"RemediationBudget">({
      apiVersion: API_VERSION,
      kind: "RemediationBudget",
      metadata: { name: "all", namespace: "default" },
      spec: { budgets: [], maxConcurrent: 2, stormBrake: { namespace: "100%", cluster: "100%" } },
    });
    for (let i = 0; i < 10; i++) {
      h.platform.addWorkload(`w${i}`, 3);
      await h.policy({ targets: [{ name: `w${i}` }], maxSignalAge: "24h" }, `w${i}`);
    }
    await h.start();
    h.store.beforeWrite = () => {
      throw new NightshiftError("STORE_UNAVAILABLE", "gone");
    };
    for (let i = 0; i < 10; i++) h.fire("Ill", { replica: h.platform.workload(`w${i}`).replicas[0]?.ref.name ?? "" });
    await h.pass(30_000);
    assert.deepEqual(h.platform.log, []);
    h.store.beforeWrite = undefined;
    let most = 0;
    const done = await h.until(() => {
      most = Math.max(most, h.remediations().filter((r) => ["Executing", "Verifying"].includes(r.status.phase)).length);
      for (const { labels } of h.alerts.values()) {
        const there = h.platform.workloads().some((w) => w.replicas.some((r) => r.ref.name === labels["replica"]));
        if (!there) h.fire("Ill", { replica: labels["replica"] ?? "" }, "resolved");
      }
      return h.remediations().length === 10 && h.ended();
    }, 600_000);
    assert.ok(done);
    assert.equal(most, 2);
    assert.equal(h.platform.log.filter((type) => type === "Stop").length, 10);
    await h.stop();
  });
});

describe("L1: it ends, and then there is silence", () => {
  it("nothing is written once every episode is over", async () => {
    const { h, replica } = await ill();
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    await h.pass(20_000);
    const [writes, records] = [h.store.writes.length, h.records.length];
    await h.pass(3_600_000, 5_000);
    assert.deepEqual([h.store.writes.length, h.records.length, h.errors], [writes, records, []]);
    await h.stop();
  });

  it("a fault that is blocked for good is paged for once, and then is quiet, too", async () => {
    const { h, replica } = await ill({ budgets: [{ maxUnavailable: 0 }], escalation: { blockedFor: "30s" }, maxSignalAge: "24h" });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(120_000);
    assert.equal(h.pages.length, 1);
    const [writes, records] = [h.store.writes.length, h.records.length];
    await h.pass(1_800_000, 5_000);
    assert.deepEqual([h.store.writes.length, h.records.length, h.pages.length], [writes, records, 1]);
    await h.stop();
  });
});
