import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Harness } from "../../test/support/harness.ts";
import type { RemediationPolicy } from "../api/policy.ts";

const ladder = [{ runbook: "wiki" }];
const signals = [{ name: "ill", alert: { alertname: "Ill" } }];

async function accepted(h: Harness, name = "payments"): Promise<{ status: string; reason: string; message: string; since: string }> {
  const policy = (await h.store.get("RemediationPolicy", "default", name)) as RemediationPolicy;
  const condition = policy.status?.conditions.find((c) => c.type === "Accepted");
  assert.ok(condition !== undefined, JSON.stringify(policy.status));
  assert.equal(policy.status?.observedGeneration, policy.metadata.generation);
  assert.equal(condition.observedGeneration, policy.metadata.generation);
  const { status, reason, message, lastTransitionTime } = condition;
  return { status, reason, message, since: lastTransitionTime };
}

describe("a policy's status", () => {
  it("says that it is accepted, and is not written again for nothing", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 2);
    const policy = await h.policy({ signals });
    await h.start();
    await h.pass(1_000);
    assert.partialDeepStrictEqual(await accepted(h), { status: "True", reason: "Accepted" });
    const before = (await h.store.get("RemediationPolicy", "default", "payments"))?.metadata;
    assert.equal(before?.generation, policy.metadata.generation);
    await h.pass(60_000, 5_000);
    assert.equal((await h.store.get("RemediationPolicy", "default", "payments"))?.metadata.resourceVersion, before?.resourceVersion);
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
