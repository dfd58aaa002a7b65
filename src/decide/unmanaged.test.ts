import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DO_NOT_REMEDIATE } from "../api/meta.ts";
import { contextOf, NOW, policyOf, replicaOf, workloadLevel, WORKLOAD, workloadOf } from "../../test/support/gate-context.ts";
import { unmanaged } from "./unmanaged.ts";

const mark = { [DO_NOT_REMEDIATE]: "true" };
const namespace = { kind: "Namespace", namespace: "default", name: "default" };

test("passes what the policy covers and nobody marked", () => {
  assert.equal(unmanaged.check(contextOf()).verdict, "Pass");
});

describe("a mark blocks", () => {
  for (const where of ["labels", "annotations"] as const) {
    test(`in the ${where} of the replica`, () => {
      assert.equal(unmanaged.check(contextOf({ replica: replicaOf(0, { [where]: mark }) })).verdict, "Block");
    });
    test(`in the ${where} of the workload`, () => {
      assert.equal(unmanaged.check(contextOf({ workload: workloadOf(3, { [where]: mark }) })).verdict, "Block");
    });
    test(`in the ${where} of what encloses it`, () => {
      const around = { ref: namespace, labels: {}, annotations: {} };
      const workload = workloadOf(3, { enclosing: [around, { ...around, [where]: mark }] });
      const verdict = unmanaged.check(contextOf({ workload }));
      assert.equal(verdict.verdict, "Block");
      assert.match(verdict.message, /Namespace\/default\/default/);
    });
  }
});

test("any value but false is a mark, in any letter case", () => {
  const verdictOf = (value: string): string =>
    unmanaged.check(contextOf({ replica: replicaOf(0, { labels: { [DO_NOT_REMEDIATE]: value } }) })).verdict;
  for (const value of ["", "true", "no", "0", "falsey", "FALSE?"]) assert.equal(verdictOf(value), "Block", JSON.stringify(value));
  for (const value of ["false", "False", "FALSE", " false "]) assert.equal(verdictOf(value), "Pass", JSON.stringify(value));
});

test("a mark on another replica protects that one, and the workload as a whole", () => {
  const workload = workloadOf(2, { replicas: [replicaOf(0), replicaOf(1, { labels: mark })] });
  assert.equal(unmanaged.check(contextOf({ workload })).verdict, "Pass");
  assert.equal(unmanaged.check(workloadLevel({ workload })).verdict, "Block");
});

test("blocks what no target of the policy names", () => {
  for (const [targets, verdict] of [
    [[{ name: "payments" }], "Pass"],
    [[{ name: "bank" }, { name: "payments" }], "Pass"],
    [[{ name: "bank" }], "Block"],
    [[{ selector: { matchLabels: { team: "shop" } } }], "Pass"],
    [[{ selector: { matchLabels: { team: "shop", tier: "1" } } }], "Block"],
    [[{ kind: "Deployment", name: "payments" }], "Block"],
    [[{ kind: "Pod", name: "payments-0" }], "Block"],
  ] as const)
    assert.equal(unmanaged.check(contextOf({ policy: policyOf({ targets }) })).verdict, verdict, JSON.stringify(targets));
});

test("a policy reaches no further than its namespace", () => {
  const workload = workloadOf(3, { ref: { ...WORKLOAD, namespace: "other" } });
  assert.equal(unmanaged.check(contextOf({ workload })).verdict, "Block");
});

test("a pod is covered by its own name or labels", () => {
  const pod = replicaOf(0, { ref: { kind: "Pod", namespace: "default", name: "payments-0", uid: "r0" }, labels: { app: "payments" } });
  const verdictOf = (target: Record<string, unknown>): string =>
    unmanaged.check(contextOf({ replica: pod, policy: policyOf({ targets: [{ kind: "Pod", ...target }] }) })).verdict;
  assert.equal(verdictOf({ name: "payments-0" }), "Pass");
  assert.equal(verdictOf({ selector: { matchLabels: { app: "payments" } } }), "Pass");
  assert.equal(verdictOf({ name: "payments-1" }), "Block");
});

test("blocks without a policy; a workload that is gone is left to NoData", () => {
  assert.equal(unmanaged.check(contextOf({ policy: undefined })).verdict, "Block");
  assert.equal(unmanaged.check({ ...contextOf(), workload: undefined, now: NOW }).verdict, "Pass");
});
