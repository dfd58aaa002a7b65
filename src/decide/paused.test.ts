import assert from "node:assert/strict";
import { test } from "node:test";
import { timestamp } from "../api/time.ts";
import { budgetOf, contextOf, HOUR, NOW, policyOf } from "../../test/support/gate-context.ts";
import { paused } from "./paused.ts";

test("passes when nothing is paused", () => {
  assert.equal(paused.check(contextOf({ budgets: [budgetOf({})] })).verdict, "Pass");
});

test("blocks without a policy, and says that it was deleted", () => {
  const verdict = paused.check(contextOf({ policy: undefined }));
  assert.equal(verdict.verdict, "Block");
  assert.match(verdict.message, /deleted/);
});

test("blocks a paused policy for good, with the reason", () => {
  const verdict = paused.check(contextOf({ policy: policyOf({ paused: { reason: "migration" } }) }));
  assert.deepEqual(verdict, { verdict: "Block", message: "policy payments is paused: migration" });
});

test("a pause ends at its end, not before", () => {
  const until = timestamp(NOW);
  const context = contextOf({ policy: policyOf({ paused: { reason: "x", until } }) });
  assert.equal(paused.check({ ...context, now: NOW - 1 }).verdict, "Block");
  assert.equal(paused.check({ ...context, now: NOW }).verdict, "Pass");
});

test("a budget's pause blocks the namespaces that it covers, and no others", () => {
  const pause = { paused: { reason: "incident" } };
  assert.equal(paused.check(contextOf({ budgets: [budgetOf(pause)] })).verdict, "Block");
  assert.equal(paused.check(contextOf({ budgets: [budgetOf({ ...pause, namespaces: ["default"] })] })).verdict, "Block");
  assert.equal(paused.check(contextOf({ budgets: [budgetOf({ ...pause, namespaces: ["other"] })] })).verdict, "Pass");
});

test("of several pauses the longest holds, and all are named", () => {
  const policy = policyOf({ paused: { reason: "a", until: timestamp(NOW + HOUR) } });
  const longer = budgetOf({ paused: { reason: "b", until: timestamp(NOW + 2 * HOUR) } });
  const verdict = paused.check(contextOf({ policy, budgets: [longer] }));
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, NOW + 2 * HOUR);
  assert.match(verdict.message, /policy payments .*: a; RemediationBudget platform .*: b/);
  const endless = paused.check(contextOf({ policy, budgets: [longer, budgetOf({ paused: { reason: "c" } }, "brake")] }));
  assert.ok(endless.verdict === "Block");
  assert.equal(endless.until, undefined);
});
