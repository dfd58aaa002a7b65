import assert from "node:assert/strict";
import { test } from "node:test";
import { contextOf, replicaOf, workloadLevel, workloadOf } from "../../test/support/gate-context.ts";
import { noData } from "./no-data.ts";

test("passes when everything is there", () => {
  assert.equal(noData.check(contextOf()).verdict, "Pass");
  assert.equal(noData.check(workloadLevel()).verdict, "Pass");
});

test("blocks when the diagnosis missed something, and names it", () => {
  const context = contextOf();
  const verdict = noData.check({ ...context, diagnosis: { ...context.diagnosis, missing: ["error rate of payments"] } });
  assert.equal(verdict.verdict, "Block");
  assert.match(verdict.message, /error rate of payments/);
});

test("blocks when the workload, or all of its replicas, are gone", () => {
  assert.equal(noData.check({ ...contextOf(), workload: undefined }).verdict, "Block");
  assert.equal(noData.check({ ...workloadLevel(), workload: undefined }).verdict, "Block");
  assert.equal(noData.check(workloadLevel({ workload: workloadOf(3, { replicas: [] }) })).verdict, "Block");
});

test("blocks when the target replica is gone, or on its way", () => {
  assert.equal(noData.check({ ...contextOf(), replica: undefined }).verdict, "Block");
  assert.match(noData.check(contextOf({ replica: replicaOf(0, { phase: "Exited" }) })).message, /is gone already/);
  assert.equal(noData.check(contextOf({ replica: replicaOf(0, { phase: "Exited" }) })).verdict, "Block");
  assert.match(noData.check(contextOf({ replica: replicaOf(0, { phase: "Stopping" }) })).message, /is stopping already/);
  assert.equal(noData.check(contextOf({ replica: replicaOf(0, { phase: "Stopping" }) })).verdict, "Block");
  assert.equal(noData.check(contextOf({ replica: replicaOf(0, { phase: "Starting" }) })).verdict, "Pass");
});

test("a replica that does not go away is there to be cured of that", () => {
  const context = contextOf({ replica: replicaOf(0, { phase: "Stopping" }) });
  const stuck = { ...context, diagnosis: { ...context.diagnosis, cause: "StuckTerminating" as const } };
  assert.equal(noData.check(stuck).verdict, "Pass");
  assert.equal(noData.check({ ...stuck, replica: replicaOf(0, { phase: "Exited" }) }).verdict, "Pass");
});
