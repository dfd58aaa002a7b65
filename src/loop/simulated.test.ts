// What the simulator has found: each is a run that broke a rule, or flooded the API, cut down to what it took.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { API_VERSION } from "../api/meta.ts";
import type { Store } from "../ports/store.ts";
import { Harness } from "../../test/support/harness.ts";

async function shop(spec: Record<string, unknown>, replicas = 3): Promise<{ h: Harness; replica: string }> {
  const h = new Harness();
  const workload = h.platform.addWorkload("payments", replicas);
  await h.policy({ maxSignalAge: "24h", ...spec });
  await h.start();
  return { h, replica: workload.replicas[1]?.ref.name ?? "" };
}

describe("a fault that goes on after an episode in which nothing was done", () => {
  it("is one dry run, not one a second, also where the policy asks for no rest", async () => {
    const { h, replica } = await shop({ mode: "Observe", cooldown: "0s" });
    h.fire("Ill", { replica });
    await h.pass(50_000);
    assert.equal(h.only().status.outcome, "Observed");
    await h.pass(20_000);
    assert.equal(h.remediations().length, 2, "it is another after a minute");
    await h.stop();
  });

  it("is one escalation where there is no plan for it", async () => {
    const { h } = await shop({ ladder: [{ strategy: "ScaleUp", scale: { max: 3 } }], cooldown: "0s" });
    h.fire("Ill", { workload: "payments" });
    await h.pass(50_000);
    assert.equal(h.only().status.reason, "NoPlan");
    assert.equal(h.pages.length, 1);
    await h.stop();
  });

  it("is one episode where the alert names a replica that is gone", async () => {
    const { h } = await shop({});
    h.fire("Ill", { workload: "payments", replica: "payments-long-gone" });
    await h.pass(50_000);
    assert.equal(h.only().status.reason, "TargetGone");
    await h.stop();
  });

  it("is not asked for again right after a person said no, but after the cooldown", async () => {
    const { h, replica } = await shop({ mode: "Approve", cooldown: "5m" });
    h.fire("Ill", { replica });
    await h.pass(5_000);
    const asked = h.only();
    await h.store.create<"RemediationApproval">({
      apiVersion: API_VERSION,
      kind: "RemediationApproval",
      metadata: { name: "no", namespace: "default" },
      spec: { remediation: asked.metadata.name, decision: "Denied", by: "somebody", at: new Date(h.clock.now()).toISOString() },
    });
    await h.pass(60_000);
    assert.equal(h.only().status.reason, "Denied");
    await h.pass(300_000, 1_000);
    assert.equal(h.remediations().length, 2);
    await h.stop();
  });

  it("begins at once after a policy was promoted, and for a fault that came back", async () => {
    const { h, replica } = await shop({ mode: "Observe", cooldown: "0s" });
    h.fire("Ill", { replica });
    await h.pass(5_000);
    const policy = (await h.store.list("RemediationPolicy"))[0];
    assert.ok(policy);
    await h.store.update<"RemediationPolicy">({ ...policy, spec: { ...policy.spec, mode: "Enforce" } });
    assert.ok(await h.until(() => h.platform.log.includes("StartReplacement"), 5_000));
    await h.stop();
  });
});

describe("an episode that waits", () => {
  const NOT_HEARD = {
    signals: [
      { name: "ill", alert: { alertname: "Ill" } },
      { name: "errors", errorRate: { above: "5%" } },
    ],
    budgets: [{ maxUnavailable: "1%" }],
  };

  it("ends when its own signal has gone, whatever else there is no data of", async () => {
    const { h, replica } = await shop(NOT_HEARD);
    h.fire("Ill", { replica });
    await h.pass(5_000);
    assert.equal(h.only().status.phase, "Blocked");
    h.fire("Ill", { replica }, "resolved");
    await h.pass(30_000);
    assert.equal(h.only().status.outcome, "SelfRecovered");
    await h.stop();
  });

  it("is handed to a person once where its own signal's data does not come back", async () => {
    const { h } = await shop({
      signals: [{ name: "hot", metric: { name: "heat", above: 10, for: "2s" } }],
      budgets: [{ maxUnavailable: "1%" }],
      escalation: { blockedFor: "2m" },
    });
    const uid = h.platform.workload("payments").replicas[1]?.ref.uid ?? "";
    for (let i = 0; i < 10; i++) {
      for (const { ref } of h.platform.workload("payments").replicas)
        h.telemetry.series.set(`${ref.uid}|heat`, [
          ...(h.telemetry.series.get(`${ref.uid}|heat`) ?? []),
          { t: h.clock.now(), v: ref.uid === uid ? 50 : 1 },
        ]);
      await h.pass(1_000);
    }
    assert.equal(h.only().status.phase, "Blocked");
    await h.pass(300_000, 1_000);
    assert.deepEqual([h.only().status.phase, h.only().status.reason, h.only().status.outcome], ["Escalated", "NoData", "Inconclusive"]);
    assert.equal(h.pages.length, 1);
    await h.stop();
  });
});

describe("a storm that is held, let go and held again", () => {
  it("is one page, also when another episode stands for it then", async () => {
    const { h } = await shop({ budgets: [{ maxUnavailable: "1%" }] });
    const names = h.platform.workload("payments").replicas.map(({ ref }) => ref.name);
    const say = (status: "firing" | "resolved", ...replicas: (string | undefined)[]): void => {
      for (const replica of replicas) h.fire("Ill", { replica: replica ?? "" }, status);
    };
    const holds = (): boolean => h.remediations().some(({ status }) => status.storm !== undefined && status.storm.releasedAt === undefined);
    say("firing", ...names);
    assert.ok(await h.until(holds));
    await h.pass(2_000);
    assert.equal(h.pages.length, 1);
    const standing = h.remediations().find(({ status }) => status.storm !== undefined);
    const others = names.filter((name) => name !== standing?.spec.signalTarget.name);
    say("resolved", ...others);
    assert.ok(await h.until(() => !holds()));
    say("firing", ...others);
    assert.ok(await h.until(holds));
    say("resolved", standing?.spec.signalTarget.name);
    const back = `${others[0]}-back`;
    h.platform.addReplica("payments", { ref: { kind: "Process", namespace: "default", name: back, uid: back } });
    say("firing", back);
    assert.ok(
      await h.until(() =>
        h.remediations().some(({ metadata, status }) => metadata.uid !== standing?.metadata.uid && status.storm !== undefined),
      ),
    );
    await h.pass(10_000);
    assert.equal(h.pages.length, 1);
    await h.stop();
  });
});

describe("a restart of a whole workload, replica by replica", () => {
  it("takes none down beside another that is down for a reason of its own", async () => {
    const { h } = await shop({ ladder: [{ strategy: "RollingRestart", captures: [{ type: "HeapSnapshot" }] }] });
    const ill = h.platform.workload("payments").replicas[2]?.ref.name ?? "";
    h.platform.replacementsBecomeReady = false;
    h.fire("Ill", { workload: "payments" });
    assert.ok(await h.until(() => h.platform.log.includes("StartReplacement")));
    h.platform.change("payments", ill, { ready: false, inTraffic: false });
    const replacement = h.platform.workload("payments").replicas.find((r) => r.replaces !== undefined)?.ref.name ?? "";
    h.platform.change("payments", replacement, { ready: true, everReady: true });
    h.platform.change("payments", h.platform.workload("payments").replicas[1]?.ref.name ?? "", { ready: false, inTraffic: false });
    await h.pass(20_000);
    assert.deepEqual(h.platform.log, ["StartReplacement"], "two of three would be down");
    h.platform.change("payments", ill, { ready: true, inTraffic: true });
    assert.ok(await h.until(() => h.platform.log.includes("RemoveFromTraffic")));
    await h.stop();
  });
});

describe("a start", () => {
  it("decides nothing before everything is read: the budgets that forbid it may come last", async () => {
    const { h, replica } = await shop({ signals: [{ name: "hangs", probe: { failingFor: "1s" } }] });
    await h.store.create<"RemediationBudget">({
      apiVersion: API_VERSION,
      kind: "RemediationBudget",
      metadata: { name: "freeze", namespace: "default" },
      spec: { budgets: [{ maxUnavailable: 0, timeZone: "UTC", whenRoundsToZero: "Block" }] },
    });
    await h.pass(1_000);
    h.platform.change("payments", replica, { ready: false, inTraffic: false, unreadySince: h.clock.now() });
    await h.pass(5_000);
    assert.equal(h.only().status.reason, "BudgetExhausted");
    await h.stop();
    const slow = (store: Store): Store =>
      new Proxy(store, {
        get: (target, name) =>
          name !== "watch"
            ? (Reflect.get(target, name) as (...args: unknown[]) => unknown).bind(target)
            : async function* (kind: Parameters<Store["watch"]>[0], signal: AbortSignal) {
                if (kind === "RemediationBudget") await new Promise<void>((resolve) => void h.clock.after(5_000, resolve));
                yield* target.watch(kind, signal);
              },
      });
    const starting = h.start({ store: slow });
    await h.pass(10_000);
    await starting;
    await h.pass(10_000);
    assert.deepEqual(h.platform.log, []);
    assert.equal(h.only().status.reason, "BudgetExhausted");
    await h.stop();
  });
});
