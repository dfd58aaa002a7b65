import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Harness } from "../../test/support/harness.ts";
import { applying, refusing } from "../../test/support/platform-with.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import { runbookSchema } from "../api/runbook.ts";
import type { EffectType } from "../ports/platform.ts";
import { answerEpisode } from "../record/answer.ts";

// What happens between the phases of an episode: to a person's answer, to time that is waited for, to what is missing, when a policy changes.

const SHORT = { stableFor: "2s", timeout: "5s" };

async function ill(spec: Record<string, unknown> = {}): Promise<{ h: Harness; replica: string }> {
  const h = new Harness();
  const workload = h.platform.addWorkload("payments", 3);
  await h.policy({ maxSignalAge: "24h", ...spec });
  return { h, replica: workload.replicas[1]?.ref.name ?? "" };
}

async function answer(h: Harness, decision: "Approved" | "Denied"): Promise<void> {
  const { namespace, name } = h.only().metadata;
  await answerEpisode(h.store, { namespace, name, decision, by: "ada", now: h.clock.now() });
}

async function edit(h: Harness, change: (spec: RemediationPolicy["spec"]) => RemediationPolicy["spec"]): Promise<void> {
  const policy = await h.store.get("RemediationPolicy", "default", "payments");
  assert.ok(policy);
  await h.store.update({ ...policy, spec: change(policy.spec) });
}

const newest = (h: Harness): string => h.platform.workload("payments").replicas.at(-1)?.ref.name ?? "";
/** Whatever replaces a replica is as ill. */
function staysIll(h: Harness): void {
  h.platform.onChange(() => {
    if (h.platform.log.includes("Stop")) h.fire("Ill", { replica: newest(h) });
  });
}
const LADDER = [{ strategy: "RestartPod" }, { strategy: "RunJob", command: ["heal"] }];

describe("a person's answer", () => {
  /** Asked for, within 60 s, of an episode that a budget has held for 90 s before. */
  const askedLate = async (): Promise<Harness> => {
    const { h, replica } = await ill({ mode: "Approve", approval: { timeout: "60s" }, budgets: [{ maxUnavailable: 0 }] });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(90_000, 1_000);
    assert.equal(h.only().status.reason, "BudgetExhausted");
    await edit(h, ({ budgets: _budgets, ...spec }) => spec as RemediationPolicy["spec"]);
    assert.ok(await h.until(() => h.only().status.phase !== "Blocked"));
    assert.equal(h.only().status.phase, "AwaitingApproval");
    return h;
  };

  it("that is a no holds for the next rung, too, where the target was replaced by the last one (S16)", async () => {
    const { h, replica } = await ill({ ladder: LADDER, verify: { stableFor: "2s", timeout: "20s" } });
    await h.start();
    h.fire("Ill", { replica });
    staysIll(h);
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    await answer(h, "Denied");
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Cancelled", "Denied"]);
    assert.ok(!h.platform.log.includes("RunJob"));
    await h.stop();
  });

  it("is asked for what would be done, and a yes to the next rung is taken for the replacement", async () => {
    const { h, replica } = await ill({ mode: "Approve", ladder: LADDER, verify: SHORT });
    await h.start();
    h.fire("Ill", { replica });
    staysIll(h);
    assert.ok(await h.until(() => h.pages.length === 1));
    assert.match(h.pages[0]?.summary ?? "", /May RestartPod be carried out/);
    await answer(h, "Approved");
    assert.ok(await h.until(() => h.pages.length === 2));
    assert.match(h.pages[1]?.summary ?? "", /May RunJob on payments-4, which replaced it, be carried out/);
    assert.ok(!h.platform.log.includes("RunJob"));
    await answer(h, "Approved");
    assert.ok(await h.until(() => h.platform.log.includes("RunJob")));
    await h.stop();
  });

  it("has its whole time from when it was asked for, however long the episode was held by something else before", async () => {
    const h = await askedLate();
    await h.pass(50_000);
    await answer(h, "Approved");
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    await h.stop();
  });

  it("that is a no in the midst of an attempt ends it at once, and what was done is taken back", async () => {
    const { h, replica } = await ill({ mode: "Enforce" });
    h.platform.replacementsBecomeReady = false;
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.platform.log.includes("StartReplacement")));
    await answer(h, "Denied");
    assert.ok(await h.until(() => h.ended(), 5_000));
    assert.equal(h.only().status.phase, "Cancelled");
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveReplacement"]);
    await h.stop();
  });

  it("is asked for no longer than its time", async () => {
    const h = await askedLate();
    await h.pass(55_000);
    assert.equal(h.only().status.phase, "AwaitingApproval");
    await h.pass(10_000);
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Escalated", "ApprovalTimeout"]);
    assert.deepEqual(h.platform.log, []);
    await h.stop();
  });
});

const failing = (h: Harness, type: EffectType, meanwhile: () => void): ReturnType<typeof refusing> =>
  refusing(type, () => {
    h.platform.log.push("failed");
    meanwhile();
  });

/** What was scaled up can be taken back. */
const withBack = (h: Harness, andThen: () => void = () => undefined): ReturnType<typeof refusing> =>
  applying("ScaleBack", () => {
    h.platform.log.push("ScaleBack");
    h.platform.set("payments", { desired: 3 });
    andThen();
    return { message: "taken back" };
  });

describe("the last rung", () => {
  it("that failed is not tried again for what seemed well and falls ill again: a person is told", async () => {
    const { h, replica } = await ill();
    await h.start(failing(h, "StartReplacement", () => h.fire("Ill", { replica }, "resolved")));
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.remediations()[0]?.status.reason === "SignalResolved"));
    assert.equal(h.only().status.phase, "Blocked");
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended() && h.pages.length > 0));
    assert.deepEqual(h.platform.log, ["failed"]);
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Escalated", "StepFailed"]);
    assert.equal(h.pages.length, 1);
    await h.stop();
  });
});

describe("the next rung after a failed step", () => {
  for (const isKnown of [true, false])
    it(`is ${isKnown ? "begun where the fault is known to go" : "not begun while nobody knows whether the fault goes"} on (S4)`, async () => {
      const { h } = await ill({
        signals: [{ name: "errors", errorRate: { above: "20%", for: "1s" } }],
        ladder: [
          { strategy: "ScaleUp", scale: { by: 2, max: 10 } },
          { strategy: "RunJob", command: ["heal"] },
        ],
        escalation: { blockedFor: "5m" },
      });
      h.telemetry.rates.set("payments", { total: 100, failed: 90 });
      await h.start(failing(h, "Scale", () => (isKnown ? undefined : h.telemetry.rates.delete("payments"))));
      assert.ok(await h.until(() => h.platform.log.includes("failed")));
      await h.pass(60_000);
      assert.equal(h.platform.log.includes("RunJob"), isKnown);
      if (!isKnown) {
        assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Blocked", "NoData"]);
        // What is heard of again is as ill as before: the rung is begun then.
        h.telemetry.rates.set("payments", { total: 100, failed: 90 });
        assert.ok(await h.until(() => h.platform.log.includes("RunJob")));
        assert.equal(h.only().status.attempts.length, 2);
      }
      await h.stop();
    });
});

describe("what was taken back as it did not help", () => {
  it("is followed by nothing where it has become well meanwhile (S25)", async () => {
    const { h } = await ill({
      ladder: [
        { strategy: "ScaleUp", scale: { by: 2, max: 10 } },
        { strategy: "RunJob", command: ["heal"] },
      ],
      verify: SHORT,
    });
    await h.start(withBack(h, () => h.fire("Ill", { workload: "payments" }, "resolved")));
    h.fire("Ill", { workload: "payments" });
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(h.platform.log, ["Scale", "ScaleBack"]);
    assert.deepEqual([h.only().status.phase, h.only().status.outcome], ["Succeeded", "SelfRecovered"]);
    await h.stop();
  });
});

describe("a held back rung", () => {
  it("is paged for after `blockedFor` of waiting, and not for the time that the rung before it took", async () => {
    const { h, replica } = await ill({
      ladder: [{ strategy: "RunJob", command: ["a"] }, { strategy: "RestartPod" }],
      verify: { stableFor: "2s", timeout: "90s" },
      escalation: { blockedFor: "60s" },
    });
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    await edit(h, (spec) => ({ ...spec, budgets: [{ maxUnavailable: 0, timeZone: "UTC", whenRoundsToZero: "Block" }] }));
    assert.ok(await h.until(() => h.only().status.phase === "Blocked"));
    await h.pass(50_000);
    assert.deepEqual(h.pages, []);
    await h.pass(20_000);
    assert.equal(h.pages.length, 1);
    await h.stop();
  });
});

describe("what was done and is being verified", () => {
  const scaling = { ladder: [{ strategy: "ScaleUp", scale: { by: 2, max: 10 } }], verify: { stableFor: "60s", timeout: "5m" } };

  it("is taken back where somebody else rolls the workload out", async () => {
    const { h } = await ill(scaling);
    h.platform.set("payments", { revision: "r1" });
    await h.start(withBack(h));
    h.fire("Ill", { workload: "payments" });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    h.platform.set("payments", { revision: "r2" });
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.only().status.phase, "Cancelled");
    assert.deepEqual(h.platform.log, ["Scale", "ScaleBack"]);
    await h.stop();
  });

  for (const [how, change] of [
    ["was deleted", (h: Harness) => h.store.delete("RemediationPolicy", "default", "payments")],
    [
      "no longer has its signal",
      (h: Harness) => edit(h, (spec) => ({ ...spec, signals: [{ name: "other", alert: { alertname: "Other", matchLabels: {} } }] })),
    ],
    ["no longer covers its workload", (h: Harness) => edit(h, (spec) => ({ ...spec, targets: [{ kind: "Workload", name: "ledger" }] }))],
  ] as const)
    it(`does not count as healed where its policy ${how}: nobody looks any more (S19)`, async () => {
      const { h } = await ill(scaling);
      await h.start(withBack(h));
      h.fire("Ill", { workload: "payments" });
      assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
      await change(h);
      assert.ok(await h.until(() => h.ended(), 600_000));
      assert.deepEqual([h.only().status.phase, h.only().status.outcome], ["Cancelled", undefined]);
      assert.deepEqual(h.platform.log, ["Scale", "ScaleBack"]);
      await h.stop();
    });
});

describe("a target that its owner replaced", () => {
  /** Evicted, it comes back under the same name as another, as of a StatefulSet, or under another name. */
  const evicting = (h: Harness, name: (old: string) => string | undefined): ReturnType<typeof refusing> =>
    applying("Evict", (effect) => {
      h.platform.log.push("Evict");
      const old = effect.replica.name;
      h.platform.remove("payments", effect.replica.uid ?? "");
      const next = name(old);
      const ref = next === undefined ? {} : { ref: { kind: "Process", namespace: "default", name: next, uid: `uid-${next}-2` } };
      const { ref: made } = h.platform.addReplica("payments", { ...ref, startedAt: h.clock.now() });
      if (made.name !== old) h.fire("Ill", { replica: old }, "resolved");
      h.fire("Ill", { replica: made.name });
      return { message: "evicted" };
    });

  for (const [how, name] of [
    ["under its own name", (old: string) => old],
    ["under another name", () => undefined],
  ] as const)
    it(`${how} and is as ill gets the next rung, in the same episode`, async () => {
      const { h, replica } = await ill({
        ladder: [{ strategy: "EvictPod" }, { strategy: "RunJob", command: ["heal"] }],
        verify: SHORT,
      });
      h.platform.set("payments", { renewedBy: "Eviction" });
      await h.start(evicting(h, name));
      h.fire("Ill", { replica });
      assert.ok(await h.until(() => h.ended()));
      assert.deepEqual(h.platform.log.slice(0, 2), ["Evict", "RunJob"]);
      assert.deepEqual(
        h.remediations()[0]?.status.attempts.map(({ what }) => what),
        ["EvictPod", "RunJob"],
      );
      await h.stop();
    });

  it("in the midst of an attempt voids no yes to it: the attempt goes on", async () => {
    const { h, replica } = await ill({ mode: "Approve", ladder: [{ runbook: "renew" }], verify: SHORT });
    const steps = [{ evict: {} }, { runJob: { command: ["after"] } }];
    await h.store.create(
      runbookSchema.parse({
        apiVersion: "nightshift.dev/v1alpha1",
        kind: "Runbook",
        metadata: { name: "renew", namespace: "default" },
        spec: { steps },
      }),
    );
    await h.start(evicting(h, () => undefined));
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length === 1));
    await answer(h, "Approved");
    assert.ok(await h.until(() => h.platform.log.includes("RunJob")));
    assert.deepEqual(h.platform.log, ["Evict", "RunJob"]);
    await h.stop();
  });
});
