import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { CallGraph } from "./call-graph.ts";
import { unhealthyDependency } from "./graph.ts";
import { dependency, NOW, replica, requests, telemetryAt, workload } from "./testing.ts";

const names = ["storefront", "payments", "bank", "ledger"];
const workloads = names.map((name) => workload(name));
const chain = [dependency("storefront", "payments"), dependency("payments", "bank"), dependency("bank", "ledger")];
const storefront = { kind: "Workload", namespace: "default", name: "storefront" };

function verdict(rates: Record<string, number>, dependencies = chain, of = workloads) {
  const telemetry = telemetryAt();
  for (const [name, rate] of Object.entries(rates)) requests(telemetry, name, () => rate);
  return unhealthyDependency(storefront, new CallGraph(dependencies, [], of), telemetry, NOW, NOW);
}

test("the deepest unhealthy one on the path is the cause, with its numbers and the way to it", () => {
  const { state, cause, evidence } = verdict({ storefront: 0.5, payments: 0.5, bank: 0.6, ledger: 0 });
  assert.equal(state, "Unhealthy");
  assert.equal(cause?.workload.uid, "uid-bank");
  assert.deepEqual(cause?.path, ["payments", "bank"]);
  assert.match(cause?.message ?? "", /bank is unhealthy: 180 of 300 requests to it failed in 30 s \(60%, at most 10% is well\)/);
  assert.equal(evidence.length, 3);
});
test("all well is healthy", () => assert.equal(verdict({ payments: 0, bank: 0.1, ledger: 0 }).state, "Healthy"));
test("a healthy one in between shields what lies behind it", () => {
  assert.equal(verdict({ payments: 0, bank: 0.9, ledger: 0.9 }).state, "Healthy");
});
test("no data is unknown: it is passed, and it is recorded", () => {
  assert.deepEqual([verdict({}).state, verdict({}).cause], ["Unknown", undefined]);
  const through = verdict({ bank: 0.9, ledger: 0 });
  assert.equal(through.cause?.workload.name, "bank");
  assert.match(through.evidence[0]?.message ?? "", /payments is unknown: no requests/);
});
test("a service of which no replica is ready is unhealthy without any request; one that never was is not", () => {
  const down = (everReady: boolean) =>
    workloads.map((w) => (w.ref.name === "bank" ? workload("bank", [replica("bank", "bank-1", { ready: false, everReady })]) : w));
  assert.match(verdict({ payments: 0.5 }, chain, down(true)).cause?.message ?? "", /none of its 1 replicas is ready/);
  assert.equal(verdict({ payments: 0 }, [dependency("storefront", "bank")], down(false)).state, "Unknown");
});
test("the edge says what unhealthy is", () => {
  const tolerant = [dependency("storefront", "payments", { unhealthyAbove: "60%" })];
  assert.equal(verdict({ payments: 0.5 }, tolerant).state, "Healthy");
  assert.equal(verdict({ payments: 0.7 }, tolerant).state, "Unhealthy");
});
test("a dependency that is no workload here can be the cause by its requests", () => {
  assert.equal(verdict({ visa: 0.5 }, [dependency("storefront", "visa")]).cause?.workload.name, "visa");
});
test("cycles end, and a workload is never its own dependency", () => {
  const cycle = [...chain, dependency("ledger", "storefront"), dependency("bank", "payments")];
  assert.equal(verdict({ storefront: 1, payments: 0.5, bank: 0.5, ledger: 0.5 }, cycle).cause?.workload.name, "ledger");
  assert.equal(verdict({ storefront: 1 }, [dependency("storefront", "storefront")]).state, "Healthy");
});
test("of any graph the walk ends, and names only what is unhealthy", () => {
  const edge = fc.tuple(fc.nat(5), fc.nat(5)).map(([a, b]) => dependency(`s${a}`, `s${b}`));
  fc.assert(
    fc.property(
      fc.array(edge, { maxLength: 20 }),
      fc.array(fc.constantFrom(0, 0.05, 0.5, undefined), { minLength: 6, maxLength: 6 }),
      (edges, rates) => {
        const telemetry = telemetryAt();
        rates.forEach((rate, i) => rate !== undefined && requests(telemetry, `s${i}`, () => rate, { span: 20 }));
        const { cause } = unhealthyDependency(
          { kind: "Workload", namespace: "default", name: "s0" },
          new CallGraph(edges, [], []),
          telemetry,
          NOW,
          NOW,
        );
        if (cause !== undefined) assert.equal(rates[Number(cause.workload.name.slice(1))], 0.5);
      },
    ),
    { numRuns: 50 },
  );
});
