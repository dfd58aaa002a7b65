import assert from "node:assert/strict";
import { test } from "node:test";
import { contextOf } from "../../test/support/gate-context.ts";
import { dependencyUnhealthy } from "./dependency-unhealthy.ts";

test("passes when no dependency is the cause", () => {
  assert.equal(dependencyUnhealthy.check(contextOf()).verdict, "Pass");
});

test("blocks while a dependency is the cause, and names it", () => {
  const context = contextOf();
  const dependency = { workload: { kind: "Workload", namespace: "default", name: "bank" }, message: "40% of its answers are errors" };
  assert.deepEqual(dependencyUnhealthy.check({ ...context, diagnosis: { ...context.diagnosis, dependency } }), {
    verdict: "Block",
    message: "Workload/default/bank is the cause: 40% of its answers are errors",
  });
});
