import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { unusedPort } from "../../../test/support/ports.ts";
import { DO_NOT_REMEDIATE } from "../../api/meta.ts";
import { Bench, stackOf, until } from "./fixtures/harness.ts";

test("starts replicas, reports them ready, and leaves nothing behind", async () => {
  await using bench = new Bench();
  const port = unusedPort();
  await bench.start(stackOf([{ name: "web", replicas: 2, port, annotations: { [DO_NOT_REMEDIATE]: "true" }, minAvailable: 1 }]));
  const replicas = await bench.ready("web", 2);
  const workload = bench.workload("web");
  assert.equal(workload.desired, 2);
  assert.equal(workload.minAvailable?.count, 1);
  assert.equal(workload.annotations[DO_NOT_REMEDIATE], "true");
  for (const replica of replicas) {
    assert.match(replica.ref.name, /^web-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    assert.equal(replica.phase, "Running");
    assert.equal(replica.inTraffic, true);
    assert.equal(replica.unreadySince, undefined);
    assert.equal(await bench.ask(replica, "/"), replica.ref.uid);
  }
  const seen = new Set<string>();
  for (let i = 0; i < 20; i++) seen.add(await (await fetch(`http://127.0.0.1:${port}/`)).text());
  assert.deepEqual([...seen].sort(), replicas.map((replica) => replica.ref.uid).sort());
  await until("memory readings", () => replicas.every((r) => bench.telemetry.replicaSeries(r.ref.uid, "memory", 0).length >= 2));
  const requests = await until("requests in the telemetry", () => {
    const stats = bench.telemetry.requests(workload.ref, 0);
    return stats !== undefined && stats.total >= 20 && stats;
  });
  assert.equal(requests.total, 20);
  assert.equal(requests.failed, 0);
  assert.ok(existsSync(`${bench.stateDir}/router.sock`));
  await bench.platform?.stop({ workloads: "Stop" });
  assert.equal(existsSync(`${bench.stateDir}/router.sock`), false);
});
