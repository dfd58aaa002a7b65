import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { attemptOf } from "../../test/support/gate-context.ts";
import { remediationObject } from "../../test/support/objects.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import type { Phase } from "../api/remediation.ts";
import { answerEpisode } from "./answer.ts";

const NOW = Date.UTC(2026, 0, 1, 3, 14);

async function storeWith(phase: Phase, name = "payments-leak-4c1f"): Promise<MemoryStore> {
  const store = new MemoryStore();
  const object = remediationObject(name);
  await store.create<"Remediation">({ ...object, status: { ...object.status, phase } });
  return store;
}
const answer = { namespace: "default", name: "payments-leak-4c1f", by: "ada@night", now: NOW } as const;

describe("an answer", () => {
  it("is a RemediationApproval for the target that the episode names, by whom and when", async () => {
    const store = await storeWith("AwaitingApproval");
    const stored = await answerEpisode(store, { ...answer, decision: "Approved" });
    assert.deepEqual(stored.spec, {
      remediation: answer.name,
      targetUid: "u-1",
      decision: "Approved",
      by: "ada@night",
      at: "2026-01-01T03:14:00.000Z",
    });
    const denied = await answerEpisode(store, { ...answer, decision: "Denied", reason: "release in ten minutes", now: NOW + 1 });
    assert.deepEqual([denied.spec.decision, denied.spec.reason], ["Denied", "release in ten minutes"]);
    assert.equal((await store.list("RemediationApproval")).length, 2);
  });

  it("a yes only where one is waited for, a no until the episode is over", async () => {
    for (const phase of [
      "Pending",
      "Blocked",
      "AwaitingApproval",
      "Executing",
      "Verifying",
      "Succeeded",
      "Failed",
      "Escalated",
      "Cancelled",
    ] as const)
      for (const decision of ["Approved", "Denied"] as const) {
        const store = await storeWith(phase);
        const over = ["Succeeded", "Failed", "Escalated", "Cancelled"].includes(phase);
        const may = decision === "Approved" ? phase === "AwaitingApproval" : !over;
        const given = answerEpisode(store, { ...answer, decision });
        if (may) await given;
        else await assert.rejects(given, { code: "NOT_AWAITING_APPROVAL" }, `${decision} in ${phase}`);
        assert.equal((await store.list("RemediationApproval")).length, may ? 1 : 0);
      }
  });

  it("to what is not there names what waits", async () => {
    const store = await storeWith("AwaitingApproval");
    await assert.rejects(answerEpisode(store, { ...answer, name: "payments-leak-4c1", decision: "Approved" }), {
      code: "NOT_FOUND",
      fix: "These wait for approval: payments-leak-4c1f.",
    });
    await assert.rejects(answerEpisode(await storeWith("Blocked"), { ...answer, name: "x", decision: "Denied" }), {
      code: "NOT_FOUND",
      fix: /None waits/,
    });
  });

  it("the longest name that an episode may have can be answered", async () => {
    const name = "x".repeat(253);
    const store = await storeWith("AwaitingApproval", name);
    await answerEpisode(store, { ...answer, name, decision: "Approved" });
  });

  it("that a circuit is closed, of an episode that waits for it or has failed, about its whole workload", async () => {
    const attempts = [attemptOf("Ineffective", NOW)];
    for (const [status, may] of [
      [{ phase: "Blocked", reason: "CircuitOpen" }, true],
      [{ phase: "Escalated", attempts }, true],
      [{ phase: "Failed", attempts }, true],
      [{ phase: "Blocked", reason: "BudgetExhausted" }, false],
      [{ phase: "Escalated", attempts: [] }, false],
      [{ phase: "Succeeded", attempts }, false],
    ] as const) {
      const store = new MemoryStore();
      const object = remediationObject(answer.name);
      await store.create<"Remediation">({
        ...object,
        status: { ...object.status, ...status, attempts: [...(status.attempts ?? [])] },
      });
      const given = answerEpisode(store, { ...answer, decision: "CircuitClosed", reason: "fixed" });
      if (!may) await assert.rejects(given, { code: "NO_OPEN_CIRCUIT" }, JSON.stringify(status));
      else
        assert.deepEqual((await given).spec, {
          remediation: answer.name,
          decision: "CircuitClosed",
          by: "ada@night",
          at: "2026-01-01T03:14:00.000Z",
          reason: "fixed",
        });
    }
  });
});
