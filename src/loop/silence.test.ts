import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Harness } from "../../test/support/harness.ts";
import { platformWith } from "../../test/support/platform-with.ts";

/** Alerts about the whole workload, in a policy that would be handed to a person after a minute. */
async function silenceable(spec: Record<string, unknown> = {}, onApply: (h: Harness) => void = () => undefined): Promise<Harness> {
  const h = new Harness();
  h.platform.addWorkload("payments", 3);
  await h.policy({ ladder: [{ strategy: "RollingRestart" }], escalation: { blockedFor: "1m" }, ...spec });
  await h.start({
    platform: (platform) =>
      platformWith(platform, {
        apply: (effect, signal) => {
          onApply(h);
          return platform.apply(effect, signal);
        },
      }),
  });
  return h;
}
const on = { deployment: "payments" };
/** Alertmanager goes on to say that it is silenced, as it is asked every 30 s. */
async function silencedFor(h: Harness, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 30_000) {
    h.fire("Ill", on, "suppressed");
    await h.pass(30_000, 1_000);
  }
}

describe("an alert that is silenced in Alertmanager after it was heard of", () => {
  it("begins nothing, and is not said to be over", async () => {
    const h = await silenceable();
    h.fire("Ill", on, "suppressed");
    await h.pass(5_000);
    assert.deepEqual([h.remediations(), h.platform.log], [[], []]);
    assert.deepEqual(h.said("Signal"), []);
    h.fire("Ill", on);
    assert.ok(await h.until(() => h.platform.log.length > 0));
    await h.stop();
  });

  it("holds an episode that waits, for as long as it is silenced, and wakes nobody; then it goes on", async () => {
    const h = await silenceable({ mode: "Approve", approval: { timeout: "24h" } });
    h.fire("Ill", on);
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "AwaitingApproval"));
    const pages = h.pages.length;
    await silencedFor(h, 600_000);
    const { status } = h.only();
    assert.deepEqual([status.phase, status.reason], ["Blocked", "NoData"]);
    assert.match(status.message ?? "", /the alert of ill is silenced or inhibited in Alertmanager/);
    assert.deepEqual([h.platform.log, h.pages.length], [[], pages]);
    assert.ok(h.said("Signal").some((said) => said.includes("is not acted on any more on payments: alert Ill is silenced or inhibited")));
    assert.ok(!h.said("Signal").some((said) => said.includes("resolved")));
    h.fire("Ill", on);
    assert.ok(await h.until(() => h.only().status.phase === "AwaitingApproval"));
    await h.stop();
  });

  it("ends the episode once it is over, and hands it to a person where Alertmanager says nothing more of it", async () => {
    const over = await silenceable({ mode: "Approve", approval: { timeout: "24h" } });
    over.fire("Ill", on);
    assert.ok(await over.until(() => over.remediations()[0]?.status.phase === "AwaitingApproval"));
    await silencedFor(over, 60_000);
    over.fire("Ill", on, "resolved");
    assert.ok(await over.until(() => over.ended()));
    assert.equal(over.only().status.outcome, "SelfRecovered");
    await over.stop();

    const gone = await silenceable({ mode: "Approve", approval: { timeout: "24h" } });
    gone.fire("Ill", on);
    assert.ok(await gone.until(() => gone.remediations()[0]?.status.phase === "AwaitingApproval"));
    await silencedFor(gone, 60_000);
    assert.ok(await gone.until(() => gone.ended(), 600_000));
    assert.deepEqual([gone.only().status.phase, gone.only().status.reason], ["Escalated", "NoData"]);
    await gone.stop();
  });

  it("is no proof that a cure has helped, and no reason for the next rung", async () => {
    const h = await silenceable({ ladder: [{ strategy: "RollingRestart" }, { strategy: "RollingRestart" }] });
    h.fire("Ill", on);
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    const done = [...h.platform.log];
    await silencedFor(h, 120_000);
    const { status } = h.only();
    assert.deepEqual([status.phase, status.outcome, status.reason], ["Escalated", "Inconclusive", "NoData"]);
    assert.match(status.message ?? "", /is silenced or inhibited/);
    assert.deepEqual(h.platform.log, done);
    await h.stop();
  });

  it("does not begin the next rung while it is silenced", async () => {
    const h = await silenceable({ ladder: [{ strategy: "RollingRestart" }, { strategy: "RollingRestart" }] }, (harness) =>
      harness.fire("Ill", on, "suppressed"),
    );
    h.platform.failing.set("StartReplacement", "there is no room");
    h.fire("Ill", on);
    assert.ok(await h.until(() => (h.remediations()[0]?.status.attempts[0]?.outcome ?? "") !== ""));
    const tried = h.platform.log.length;
    await silencedFor(h, 120_000);
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Blocked", "NoData"]);
    assert.deepEqual([h.only().status.attempts.length, h.platform.log.length], [1, tried]);
    await h.stop();
  });

  it("of one replica holds nothing that is done for another", async () => {
    const h = new Harness();
    const { replicas } = h.platform.addWorkload("payments", 3);
    const [first = "", second = ""] = replicas.map(({ ref }) => ref.name);
    await h.policy();
    h.platform.onChange(() => {
      if (h.platform.workload("payments").replicas.every((r) => r.ref.name !== second)) h.fire("Ill", { replica: second }, "resolved");
    });
    await h.start();
    h.fire("Ill", { replica: first }, "suppressed");
    h.fire("Ill", { replica: second });
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual([h.only().spec.remediationTarget.name, h.only().status.outcome], [second, "Remediated"]);
    await h.stop();
  });
});

describe("an alert that ended as nobody repeated it", () => {
  it("is no proof that a cure has helped, and no reason for the next rung: its Prometheus may be down", async () => {
    const h = await silenceable({ ladder: [{ strategy: "RollingRestart" }, { strategy: "RollingRestart" }] });
    h.fire("Ill", on);
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    const done = [...h.platform.log];
    h.fire("Ill", on, "expired");
    await h.pass(120_000, 1_000);
    const { status } = h.only();
    assert.deepEqual([status.phase, status.outcome, status.reason], ["Escalated", "Inconclusive", "NoData"]);
    assert.match(status.message ?? "", /nobody has said that it is over/);
    assert.deepEqual(h.platform.log, done);
    await h.stop();
  });

  it("is no recovery of an episode that waits, which goes on where it fires again, and else is handed to a person", async () => {
    for (const back of [true, false]) {
      const h = await silenceable({ mode: "Approve", approval: { timeout: "24h" } });
      h.fire("Ill", on);
      assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "AwaitingApproval"));
      h.fire("Ill", on, "expired");
      await h.pass(30_000, 1_000);
      assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Blocked", "NoData"]);
      assert.ok(!h.said("Signal").some((said) => said.includes("resolved")));
      if (back) {
        h.fire("Ill", on);
        assert.ok(await h.until(() => h.only().status.phase === "AwaitingApproval"));
      } else {
        assert.ok(await h.until(() => h.ended(), 900_000));
        assert.equal(h.only().status.outcome, "Inconclusive");
        assert.match(h.pages.at(-1)?.summary ?? "", /nobody has said that it is over/);
      }
      await h.stop();
    }
  });
});
