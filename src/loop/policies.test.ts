import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Harness, policy } from "../../test/support/harness.ts";
import type { Condition } from "../api/meta.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { Platform } from "../ports/platform.ts";

const ladder = [{ runbook: "wiki" }];
const signals = [{ name: "ill", alert: { alertname: "Ill" } }];

async function accepted(h: Harness, name = "payments"): Promise<{ status: string; reason: string; message: string; since: string }> {
  const found = (await h.store.get("RemediationPolicy", "default", name)) as RemediationPolicy;
  const condition = found.status?.conditions.find((c) => c.type === "Accepted");
  assert.ok(condition !== undefined, JSON.stringify(found.status));
  assert.equal(found.status?.observedGeneration, found.metadata.generation);
  assert.equal(condition.observedGeneration, found.metadata.generation);
  const { status, reason, message, lastTransitionTime } = condition;
  return { status, reason, message, since: lastTransitionTime };
}

describe("a policy's status", () => {
  it("says that it is accepted, and is not written again for nothing", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 2);
    const { metadata } = await h.policy({ signals });
    await h.start();
    await h.pass(1_000);
    assert.partialDeepStrictEqual(await accepted(h), { status: "True", reason: "Accepted" });
    const before = (await h.store.get("RemediationPolicy", "default", "payments"))?.metadata;
    assert.equal(before?.generation, metadata.generation);
    await h.pass(60_000, 5_000);
    assert.equal((await h.store.get("RemediationPolicy", "default", "payments"))?.metadata.resourceVersion, before?.resourceVersion);
    await h.stop();
  });

  it("says where an expression is wrong, and nothing begins; and that one without a value is blind, and nothing begins", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 2);
    const of = (when: string): object[] => [{ name: "ill", alert: { alertname: "Ill" }, when }];
    await h.policy({ signals: of("target.restart > 3") });
    await h.start();
    h.fire("Ill", { workload: "payments" });
    await h.pass(5_000);
    const refused = await accepted(h);
    assert.partialDeepStrictEqual(refused, { status: "False", reason: "InvalidExpression" });
    assert.match(refused.message, /signals\[0\].when: at 1:7 of the expression: target has no field restart; did you mean restarts\?/);
    assert.deepEqual(h.remediations(), []);
    const known = (await h.store.get("RemediationPolicy", "default", "payments")) as RemediationPolicy;
    await h.store.update({ ...known, spec: { ...known.spec, signals: of("kernel.stalled == true") as never } });
    await h.pass(5_000);
    assert.equal((await accepted(h)).status, "True");
    const blind = (await h.store.get("RemediationPolicy", "default", "payments")) as RemediationPolicy;
    assert.partialDeepStrictEqual(
      blind.status?.conditions.find((c) => c.type === "Ready"),
      { status: "False", reason: "NoData" },
    );
    assert.deepEqual(h.remediations(), []);
    await h.store.update({ ...blind, spec: { ...blind.spec, signals: of("target.workload.desired == 2") as never } });
    await h.until(() => h.remediations().length > 0);
    await h.stop();
  });

  it("says why it is refused; a refused policy begins nothing, and one whose runbook arrives is taken up", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 2);
    await h.policy({ signals, ladder });
    await h.start();
    h.fire("Ill", { workload: "payments" });
    await h.pass(5_000);
    const refused = await accepted(h);
    assert.partialDeepStrictEqual(refused, { status: "False", reason: "UnknownRunbook" });
    assert.match(refused.message, /there is no Runbook default\/wiki/);
    assert.deepEqual(h.remediations(), []);
    assert.deepEqual(h.said("Policy").length, 1);
    await h.store.create({
      apiVersion: "nightshift.dev/v1alpha1",
      kind: "Runbook",
      metadata: { name: "wiki", namespace: "default" },
      spec: { steps: [{ notify: { message: "look at it" } }] },
    } as never);
    await h.until(() => h.remediations().length > 0);
    assert.equal((await accepted(h)).status, "True");
    assert.equal(h.remediations().length, 1);
    await h.stop();
  });
});

describe("whether a policy is ready", () => {
  const errorRate = [{ name: "errors", errorRate: { above: "5%", for: "10s" } }];
  const ready = async (h: Harness): Promise<Condition | undefined> => {
    const found = await h.store.get("RemediationPolicy", "default", "payments");
    return found?.status?.conditions.find(({ type }) => type === "Ready");
  };
  const version = async (h: Harness): Promise<string | undefined> =>
    (await h.store.get("RemediationPolicy", "default", "payments"))?.metadata.resourceVersion;

  it("is so where it covers a workload and sees what it looks at", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 2);
    const { metadata } = await h.policy({ signals });
    await h.start();
    await h.pass(1_000);
    assert.partialDeepStrictEqual(await ready(h), {
      status: "True",
      reason: "Watching",
      message: "watches 1 workload",
      observedGeneration: metadata.generation,
    });
    await h.stop();
  });

  it("is not so while it covers nothing, and is once it does; neither is written again for nothing", async () => {
    const h = new Harness();
    await h.policy({ signals });
    await h.start();
    await h.pass(1_000);
    const before = await ready(h);
    assert.partialDeepStrictEqual(before, { status: "False", reason: "NoTargets" });
    assert.match(before?.message ?? "", /no workload of the namespace default/);
    const first = await version(h);
    await h.pass(90_000, 5_000);
    assert.equal(await version(h), first);
    h.platform.addWorkload("payments", 2);
    await h.pass(8_000, 1_000);
    assert.equal(await version(h), first);
    await h.pass(5_000, 1_000);
    const after = await ready(h);
    assert.partialDeepStrictEqual(after, { status: "True", reason: "Watching" });
    assert.notEqual(after?.lastTransitionTime, before?.lastTransitionTime);
    const second = await version(h);
    await h.pass(90_000, 5_000);
    assert.equal(await version(h), second);
    await h.stop();
  });

  it("is not so where a signal has no data, with which of what; a gap that closes within a minute is not told", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 2);
    await h.policy({ signals: errorRate });
    await h.start();
    await h.pass(1_000);
    assert.partialDeepStrictEqual(await ready(h), {
      status: "False",
      reason: "NoData",
      message: "nothing is known for signal errors of Workload payments",
    });
    h.telemetry.rates.set("payments", { total: 10, failed: 0 });
    await h.pass(15_000, 1_000);
    assert.equal((await ready(h))?.status, "True");
    const since = await version(h);
    h.telemetry.rates.delete("payments");
    await h.pass(50_000, 1_000);
    h.telemetry.rates.set("payments", { total: 10, failed: 0 });
    await h.pass(30_000, 1_000);
    h.telemetry.rates.delete("payments");
    await h.pass(50_000, 1_000);
    assert.equal(await version(h), since);
    await h.pass(20_000, 1_000);
    assert.equal((await ready(h))?.reason, "NoData");
    await h.stop();
  });

  it("is told at once of a policy that is edited, and not so of one that is refused", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 2);
    await h.policy({ signals, ladder });
    await h.start();
    await h.pass(1_000);
    assert.partialDeepStrictEqual(await ready(h), { status: "False", reason: "NotAccepted" });
    const known = (await h.store.get("RemediationPolicy", "default", "payments")) as RemediationPolicy;
    await h.store.update({ ...known, spec: policy({ signals: errorRate }).spec });
    await h.pass(1_000);
    assert.equal((await ready(h))?.reason, "NoData");
    await h.stop();
  });

  it("is not known while the platform is not up to date, and what is known stays so meanwhile", async () => {
    const h = new Harness();
    let stale: string | undefined = "the API server has not been heard of for 90 s";
    const aging = (platform: Platform): Platform =>
      new Proxy(platform, { get: (target, key) => (key === "staleness" ? () => stale : bound(target, key)) });
    await h.policy({ signals });
    await h.start({ platform: aging });
    await h.pass(1_000);
    assert.partialDeepStrictEqual(await ready(h), { status: "Unknown", reason: "NoData" });
    stale = undefined;
    h.platform.addWorkload("payments", 2);
    await h.pass(5_000, 1_000);
    assert.equal((await ready(h))?.status, "True");
    stale = "the API server has not been heard of for 90 s";
    const before = await version(h);
    await h.pass(90_000, 5_000);
    assert.equal(await version(h), before);
    await h.stop();
  });
});

function bound(target: object, key: string | symbol): unknown {
  const value: unknown = Reflect.get(target, key, target);
  return typeof value === "function" ? (value.bind(target) as unknown) : value;
}

describe("an episode's conditions", () => {
  it("tell what is done and what holds it back, with times that move only with the status", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 2);
    await h.policy({ signals, ladder: [{ strategy: "Notify" }], budgets: [{ maxUnavailable: 0 }], escalation: { blockedFor: "20s" } });
    await h.start();
    h.fire("Ill", { workload: "payments" });
    await h.until(() => h.remediations().length > 0);
    const of = (type: string) => h.only().status.conditions.find((c) => c.type === type);
    assert.partialDeepStrictEqual(of("Blocked"), { status: "True", reason: "BudgetExhausted", observedGeneration: 1 });
    assert.partialDeepStrictEqual(of("Complete"), { status: "False", reason: "Blocked" });
    const since = of("Blocked")?.lastTransitionTime;
    await h.pass(10_000);
    assert.equal(of("Blocked")?.lastTransitionTime, since);
    assert.equal(of("Paged"), undefined);
    assert.ok(await h.until(() => of("Paged")?.status === "True"));
    await h.stop();
  });
});
