import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { TelemetryStore } from "../observe/store.ts";
import type { Hint } from "../observe/hints.ts";
import { Harness } from "../../test/support/harness.ts";

const SIGNALS = [{ name: "asks", hint: { action: "restart" } }];

async function start(spec: Record<string, unknown> = {}) {
  const h = new Harness();
  const workload = h.platform.addWorkload("payments", 3);
  await h.policy({ signals: SIGNALS, ...spec });
  const telemetry = new TelemetryStore(h.clock);
  await h.start({}, { telemetry });
  const [, sender] = workload.replicas;
  assert.ok(sender);
  const send = (more: Partial<Hint> = {}, uid = sender.ref.uid): unknown =>
    telemetry.recordHint(uid, {
      action: "restart",
      saturationType: undefined,
      added: 1,
      delta: true,
      single: false,
      since: h.clock.now() - 1_000,
      t: h.clock.now(),
      receivedAt: h.clock.now(),
      traceIds: ["0af7651916cd43dd8448eb211c80319c"],
      ...more,
    });
  return { h, telemetry, sender, send };
}

const outcomes = (h: Harness): unknown[] => h.remediations().map(({ status }) => status.outcome ?? status.reason ?? status.phase);

describe("a hint", () => {
  it("is acted on at once, on its sender, with what it said on record", async () => {
    const { h, send, sender } = await start();
    send();
    // Without waiting for the next round of evaluation, which is a second away.
    await h.clock.advance(0);
    await h.clock.advance(50);
    assert.equal(h.remediations().length, 1);
    assert.ok(await h.until(() => h.ended()));
    const { spec, status } = h.only();
    assert.deepEqual([status.outcome, spec.remediationTarget.uid], ["Remediated", sender.ref.uid]);
    assert.deepEqual(
      [spec.signal.condition, spec.signal.source, spec.diagnosis.cause],
      ["hint", "OpenTelemetry", "RequestedByApplication"],
    );
    assert.equal(spec.diagnosis.summary, `${sender.ref.name} asks for restart`);
    assert.deepEqual(spec.diagnosis.evidence[0]?.values["traceIds"], "0af7651916cd43dd8448eb211c80319c");
    await h.stop();
  });

  it("is answered once: it begins no second episode, however short the cooldown", async () => {
    const { h, send } = await start({ cooldown: "0s", ladder: [{ strategy: "ScaleUp", scale: { max: 9 } }] });
    send();
    assert.ok(await h.until(() => h.ended()));
    await h.pass(180_000);
    assert.deepEqual(outcomes(h), ["Remediated"]);
    assert.deepEqual(h.platform.log, ["Scale"]);
    await h.stop();
  });

  it("is one signal's of its policy, the first one's: it begins no second episode by another that it is for", async () => {
    const signals = [
      { name: "pool", hint: { action: "restart", saturationType: "pool" } },
      { name: "any", hint: { action: "restart" } },
    ];
    const ladder = [{ strategy: "ScaleUp", scale: { max: 9 } }];
    const { h, send } = await start({ cooldown: "0s", signals, ladder });
    send({ saturationType: "pool" });
    assert.ok(await h.until(() => h.ended()));
    await h.pass(180_000);
    assert.deepEqual([outcomes(h), h.platform.log], [["Remediated"], ["Scale"]]);
    assert.equal(h.only().spec.signal.name, "pool");
    // Another kind of hint is the other signal's.
    send({ saturationType: "heap" });
    assert.ok(await h.until(() => h.remediations().length === 2 && h.ended()));
    assert.deepEqual(
      h.remediations().map(({ spec }) => spec.signal.name),
      ["pool", "any"],
    );
    await h.stop();
  });

  it("that the first signal does not want is the next one's, and stays answered when the first would want it later", async () => {
    const signals = [
      { name: "old", hint: { action: "restart", activeFor: "10m" }, when: "signal.age > duration('60s')" },
      { name: "any", hint: { action: "restart", activeFor: "10m" } },
    ];
    const { h, send } = await start({ cooldown: "0s", maxSignalAge: "10m", signals, ladder: [{ strategy: "ScaleUp", scale: { max: 9 } }] });
    send();
    assert.ok(await h.until(() => h.ended()));
    await h.pass(300_000);
    assert.deepEqual([h.remediations().map(({ spec }) => spec.signal.name), h.platform.log], [["any"], ["Scale"]]);
    await h.stop();
  });

  it("that comes again after the action says that it did not help", async () => {
    const ladder = [{ strategy: "ScaleUp", scale: { max: 4 } }];
    const { h, send } = await start({ ladder, verify: { stableFor: "5s", timeout: "20s" } });
    send();
    await h.until(() => h.remediations().length > 0 && h.only().status.phase === "Verifying");
    for (let i = 0; i < 12; i++) {
      send();
      await h.pass(2_000);
    }
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(outcomes(h), ["Ineffective"]);
    assert.match(h.only().status.message ?? "", /asks still fires/);
    await h.stop();
  });

  it("climbs the ladder when a rung did not help, though it is not repeated", async () => {
    const ladder = [{ strategy: "ScaleUp", scale: { max: 4 } }, { strategy: "RestartPod" }];
    const { h, send, telemetry } = await start({ ladder, verify: { stableFor: "5s", timeout: "10s", maxErrorRate: "5%" }, cooldown: "0s" });
    const failing = (): unknown =>
      telemetry.recordRequests({ kind: "Workload", namespace: "default", name: "payments" }, "Router", {
        t: h.clock.now(),
        total: 10,
        failed: 10,
      });
    send();
    await h.until(() => h.remediations().length > 0 && h.only().status.attempts.length > 0);
    await h.until(() => {
      if (h.only().status.attempts.length < 2) failing();
      return h.ended();
    });
    assert.deepEqual(
      h.only().status.attempts.map(({ what, outcome }) => [what, outcome]),
      [
        ["ScaleUp", "Ineffective"],
        ["RestartPod", "Effective"],
      ],
    );
    await h.stop();
  });

  it("of another action, of a replica that is unknown, or that is too old does nothing", async () => {
    const { h, send } = await start();
    send({ action: "pool-reset" });
    send({}, "uid-of-nobody");
    send({ t: h.clock.now() - 400_000, since: h.clock.now() - 400_000 });
    await h.pass(10_000);
    assert.deepEqual([outcomes(h), h.platform.log], [[], []]);
    await h.stop();
  });

  it("that is over before anything was done has resolved by itself", async () => {
    const { h, send } = await start({ mode: "Approve", signals: [{ name: "asks", hint: { action: "restart", activeFor: "20s" } }] });
    send();
    await h.until(() => h.remediations().length > 0 && h.only().status.phase === "AwaitingApproval");
    await h.pass(15_000);
    assert.deepEqual(outcomes(h), ["AwaitingApproval"]);
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual([outcomes(h), h.platform.log], [["SelfRecovered"], []]);
    await h.stop();
  });

  it("in Observe is on record once, and touches nothing", async () => {
    const { h, send } = await start({ mode: "Observe" });
    send();
    await h.pass(200_000);
    assert.deepEqual([outcomes(h), h.platform.log], [["Observed"], []]);
    await h.stop();
  });
});

describe("a hint that is not clear", () => {
  it("touches nothing, and a person is told what would make it clear", async () => {
    const { h, send } = await start({ escalation: { receivers: ["oncall"], blockedFor: "1m" } });
    send({ action: undefined, added: 3 });
    await h.pass(5_000);
    assert.deepEqual(outcomes(h), ["NoData"]);
    assert.match(
      h.only().status.message ?? "",
      /may be a sum of several additions; the sender should give the attribute remediation\.action/,
    );
    assert.ok(await h.until(() => h.ended(), 600_000));
    const { status } = h.only();
    assert.deepEqual([status.outcome, status.phase, h.platform.log], ["Inconclusive", "Escalated", []]);
    assert.match(status.message ?? "", /remediation\.action/);
    assert.match(h.pages[0]?.summary ?? "", /remediation\.action/);
    await h.pass(600_000);
    assert.equal(h.remediations().length, 1);
    await h.stop();
  });

  it("is answered by a clear one", async () => {
    const { h, send } = await start();
    send({ action: undefined, added: 3 });
    await h.pass(5_000);
    send();
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(outcomes(h), ["Remediated"]);
    await h.stop();
  });
});

describe("a hint and a restart of Nightshift", () => {
  it("an episode that waits for an answer does not count as recovered because its hint was forgotten", async () => {
    const { h, send } = await start({ mode: "Approve" });
    send();
    await h.until(() => h.remediations().length > 0 && h.only().status.phase === "AwaitingApproval");
    await h.stop();
    await h.start({}, { telemetry: new TelemetryStore(h.clock) });
    await h.pass(60_000);
    assert.equal(h.only().status.reason, "NoData");
    assert.match(h.only().status.message ?? "", /whether payments-2 repeats its hint is not known/);
    assert.ok(await h.until(() => h.ended(), 300_000));
    assert.deepEqual([outcomes(h), h.platform.log], [["SelfRecovered"], []], "it had the time to be repeated");
    await h.stop();
  });
});
