import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Harness } from "../../test/support/harness.ts";
import type { Platform, Workload } from "../ports/platform.ts";
import { platformWith } from "../../test/support/platform-with.ts";

/** A workload on a platform that tells what its replicas are made from, as a cluster does. */
async function rolling(spec: Record<string, unknown> = {}, extra: object = {}) {
  const h = new Harness();
  const workload = h.platform.addWorkload("payments", 3, { revision: "r1", ...extra });
  await h.policy(spec);
  const replica = workload.replicas[1]?.ref.name ?? "";
  const rollOut = (revision: string): void => h.platform.set("payments", { revision });
  return { h, replica, rollOut };
}

const stepsOf = (h: Harness): string[] =>
  h.only().status.attempts.flatMap((a) => [...a.steps, ...a.undo].map((s) => `${s.type} ${s.state}`));

describe("a rollout by somebody else", () => {
  it("ends an episode that has acted, and what was done is taken back", async () => {
    const { h, replica, rollOut } = await rolling();
    h.platform.replacementsBecomeReady = false;
    await h.start();
    h.fire("Ill", { replica });
    await h.until(() => h.platform.log.includes("StartReplacement"));
    rollOut("r2");
    assert.ok(await h.until(() => h.ended()));
    const { status } = h.only();
    assert.deepEqual([status.phase, status.outcome], ["Cancelled", undefined]);
    assert.match(status.message ?? "", /somebody else has rolled out Workload payments since \(revision r2, not r1\)/);
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveReplacement"]);
    assert.deepEqual(h.pages, []);
    await h.stop();
  });

  it("ends an episode that is being verified: what helped cannot be told", async () => {
    const { h, replica, rollOut } = await rolling({ verify: { stableFor: "20s", timeout: "60s" } });
    await h.start();
    h.fire("Ill", { replica });
    await h.until(() => h.remediations()[0]?.status.phase === "Verifying");
    rollOut("r2");
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Cancelled", "Interference"]);
    await h.stop();
  });

  it("ends an episode that a crash cut off between an intent and its effect: nothing is done over it", async () => {
    const { h, replica, rollOut } = await rolling();
    const never = new Promise<never>(() => {});
    await h.start({
      platform: (platform) =>
        platformWith(platform, {
          apply: () => never,
        }),
    });
    h.fire("Ill", { replica });
    await h.until(() => h.remediations()[0]?.status.attempts[0]?.steps[0]?.state === "Intended");
    rollOut("r2");
    // kill -9: the dead one is not stopped, it just never gets another answer.
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(h.platform.log, []);
    assert.equal(h.only().status.phase, "Cancelled");
    assert.match(h.only().status.message ?? "", /somebody else has rolled out/);
    await h.stop();
  });

  it("is none when the number of replicas changes", async () => {
    const { h, replica } = await rolling();
    h.platform.replacementsBecomeReady = false;
    await h.start();
    h.fire("Ill", { replica });
    await h.until(() => h.platform.log.includes("StartReplacement"));
    h.platform.set("payments", { desired: 4 });
    h.platform.addReplica("payments");
    const started = h.platform.workload("payments").replicas.find((r) => r.startedBy !== undefined)?.ref.name ?? "";
    h.platform.change("payments", started, { ready: true, everReady: true });
    await h.until(() => h.platform.log.includes("Stop"));
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.only().status.outcome, "Remediated");
    await h.stop();
  });

  it("is none when the rollout is the episode's own", async () => {
    const { h } = await rolling({ ladder: [{ strategy: "RollingRestart" }] }, { rollsOut: true });
    await h.start({
      platform: (platform) =>
        platformWith(platform, {
          apply: async (effect) => {
            assert.equal(effect.type, "RolloutRestart");
            h.platform.set("payments", { revision: "r2" });
            return { message: "rolls out", revision: "r2" };
          },
        }),
    });
    h.fire("Ill", { workload: "payments" });
    await h.until(() => h.remediations()[0]?.status.phase === "Verifying");
    h.fire("Ill", { workload: "payments" }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.only().status.outcome, "Remediated", h.only().status.message);
    assert.deepEqual(stepsOf(h), ["rolloutRestart Done", "awaitAvailable Done"]);
    await h.stop();
  });
});

describe("a rollout that was under way before", () => {
  const busy = { reason: "RolloutInProgress", message: "Deployment shop/payments: rollout of revision 2 in progress" } as const;

  it("is waited for, and a person is told when it takes too long (L2)", async () => {
    const { h, replica } = await rolling({ escalation: { blockedFor: "5m" }, maxSignalAge: "1h" }, { busy });
    await h.start();
    h.fire("Ill", { replica });
    await h.until(() => h.remediations().length > 0);
    assert.deepEqual([h.only().status.phase, h.only().status.reason, h.only().status.message], ["Blocked", "InProgress", busy.message]);
    assert.ok(await h.until(() => h.pages.length > 0, 400_000));
    assert.deepEqual(h.platform.log, []);
    h.platform.set("payments", { busy: undefined });
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    await h.stop();
  });
});

describe("what did not help", () => {
  const scale = {
    ladder: [
      { strategy: "ScaleUp", scale: { by: 2, max: 9 } },
      { strategy: "Notify", message: "look" },
    ],
  };
  const withScaleBack =
    (h: Harness, log: string[]) =>
    (platform: Platform): Platform => ({
      name: platform.name,
      effects: new Set([...platform.effects, "ScaleBack" as const]),
      workloads: () => platform.workloads(),
      onChange: (listener) => platform.onChange(listener),
      observe: (effect) => platform.observe(effect),
      apply: async (effect, signal) => {
        if (effect.type !== "ScaleBack") return platform.apply(effect, signal);
        log.push(`back of ${effect.of}`);
        h.platform.set("payments", { desired: 3 });
        return { message: "back at 3" };
      },
    });

  it("is taken back before the next rung", async () => {
    const { h } = await rolling(scale);
    const log: string[] = [];
    await h.start({ platform: withScaleBack(h, log) });
    h.fire("Ill", { workload: "payments" });
    assert.ok(await h.until(() => h.said("Phase").some((m) => /it is taken back/.test(m))));
    await h.until(() => h.remediations()[0]?.status.attempts.length === 2);
    const [first] = h.only().status.attempts;
    assert.equal(first?.outcome, "Ineffective");
    assert.deepEqual(
      [...(first?.steps ?? []), ...(first?.undo ?? [])].map((s) => `${s.type} ${s.state}`),
      ["scale Done", "scaleBack Done"],
    );
    assert.deepEqual(log, [`back of ${first?.steps[0]?.effectId ?? ""}`]);
    await h.stop();
  });

  it("stays where the platform cannot take it back", async () => {
    const { h } = await rolling(scale);
    await h.start();
    h.fire("Ill", { workload: "payments" });
    await h.until(() => h.remediations()[0]?.status.attempts.length === 2);
    assert.deepEqual(h.only().status.attempts[0]?.undo, []);
    assert.equal(h.platform.workload("payments").desired, 5);
    await h.stop();
  });

  it("is counted as one strike", async () => {
    const { h } = await rolling({ ladder: [scale.ladder[0]], attempts: { max: 3, window: "1h" }, cooldown: "1s" });
    await h.start({ platform: withScaleBack(h, []) });
    h.fire("Ill", { workload: "payments" });
    assert.ok(await h.until(() => h.pages.length > 0, 600_000));
    const acted = h.remediations().filter((r) => r.status.attempts.length > 0);
    assert.equal(acted.length, 3);
    await h.stop();
  });
});

describe("replicas for a time", () => {
  it("are taken back at the autoscaler's bound, too", async () => {
    const ladder = [{ strategy: "ScaleUp", scale: { by: 2, max: 9, for: "5s" } }];
    const { h } = await rolling({ ladder }, { maxReplicas: { count: 5, source: "an autoscaler" } });
    const log: string[] = [];
    await h.start({
      platform: (platform) => ({
        name: platform.name,
        effects: new Set([...platform.effects, "ScaleBack" as const]),
        workloads: () => platform.workloads(),
        onChange: (listener) => platform.onChange(listener),
        observe: (effect) => platform.observe(effect),
        apply: async (effect, signal) => {
          log.push(effect.type);
          return effect.type === "ScaleBack" ? { message: "back" } : platform.apply(effect, signal);
        },
      }),
    });
    h.fire("Ill", { workload: "payments" });
    assert.ok(await h.until(() => log.includes("ScaleBack")));
    await h.stop();
  });
});

describe("a view of the world that is out of date", () => {
  function blind(h: Harness) {
    const state: { staleness: string | undefined } = { staleness: undefined };
    const wrap = (platform: Platform): Platform =>
      platformWith(platform, {
        staleness: () => state.staleness,
      });
    return { state, start: () => h.start({ platform: wrap }) };
  }

  it("begins nothing, and goes on when it is up to date again", async () => {
    const { h, replica } = await rolling();
    const { state, start } = blind(h);
    state.staleness = "nothing was heard of the API server for 90 s";
    await start();
    h.fire("Ill", { replica });
    await h.until(() => h.remediations().length > 0);
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Blocked", "NoData"]);
    assert.match(h.only().status.message ?? "", /API server/);
    await h.pass(10_000);
    assert.deepEqual(h.platform.log, []);
    state.staleness = undefined;
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    await h.stop();
  });

  it("holds back the next step of what was begun, its undoing too", async () => {
    const { h, replica } = await rolling();
    const { state, start } = blind(h);
    h.platform.replacementsBecomeReady = false;
    await start();
    h.fire("Ill", { replica });
    await h.until(() => h.platform.log.includes("StartReplacement"));
    state.staleness = "nothing was heard of the API server for 90 s";
    await h.pass(120_000, 1_000);
    assert.deepEqual(h.platform.log, ["StartReplacement"]);
    state.staleness = undefined;
    assert.ok(await h.until(() => h.platform.log.includes("RemoveReplacement")));
    await h.stop();
  });

  it("takes nothing for gone that it cannot see yet", async () => {
    const { h, replica } = await rolling();
    let before: readonly Workload[] | undefined;
    const wrap = (platform: Platform): Platform =>
      platformWith(platform, {
        workloads: () => before ?? platform.workloads(),
        apply: async (effect, signal) => {
          // What is seen stays as it was before the effect.
          before = effect.type === "StartReplacement" ? structuredClone(platform.workloads()) : before;
          return platform.apply(effect, signal);
        },
        staleness: () => (before === undefined ? undefined : "what was written itself has not been heard of"),
      });
    await h.start({ platform: wrap });
    h.fire("Ill", { replica });
    await h.until(() => h.platform.log.includes("StartReplacement"));
    await h.pass(90_000, 1_000);
    assert.deepEqual(h.platform.log, ["StartReplacement"]);
    before = undefined;
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    assert.ok(!h.platform.log.includes("RemoveReplacement"));
    await h.stop();
  });
});
