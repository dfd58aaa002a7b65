import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeTelemetry } from "../../test/support/harness.ts";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { dependency, workload } from "../orient/testing.ts";
import { Causes } from "./causes.ts";

const shop = workload("shop");
const workloads = [shop, workload("bank")];
const edges = [dependency("shop", "bank")];

function causes() {
  const clock = new ManualClock();
  const telemetry = new FakeTelemetry(clock);
  return { clock, telemetry, causes: new Causes(telemetry, clock) };
}

test("the graph is made anew when a workload, a declared edge or a call came or went, and not before", () => {
  const { causes: of, telemetry, clock } = causes();
  const first = of.graph(edges, workloads);
  assert.equal(of.graph([...edges], workloads), first);
  assert.notEqual(of.graph([], workloads), first);
  assert.notEqual(of.graph(edges, [...workloads]), first);
  const again = of.graph(edges, workloads);
  const call = { client: { name: "bank" }, server: { name: "visa" }, kind: "Request", t: clock.now(), requests: 1 } as const;
  telemetry.graph.recordCalls("Otlp", call);
  assert.notEqual(of.graph(edges, workloads), again);
});

test("an answer holds for ten seconds", async () => {
  const { causes: of, clock } = causes();
  const graph = of.graph(edges, workloads);
  const first = of.search(shop.ref, graph, 0);
  assert.ok(first !== undefined && first !== "Later");
  await clock.advance(9_000);
  assert.equal(of.search(shop.ref, graph, 0), first);
  await clock.advance(1_000);
  assert.notEqual(of.search(shop.ref, graph, 0), first);
});

test("fifty are looked for in a second; the others have their turn later", async () => {
  const { causes: of, clock } = causes();
  const many = Array.from({ length: 60 }, (_, i) => workload(`shop-${i}`));
  const graph = of.graph(
    many.map(({ ref }) => dependency(ref.name, "bank")),
    [...many, workload("bank")],
  );
  const asked = (): number => many.filter(({ ref }) => of.search(ref, graph, 0) === "Later").length;
  assert.equal(asked(), 10);
  await clock.advance(1_000);
  assert.equal(asked(), 0);
});

test("a symptom began when it was first said to, for as long as it lasts", async () => {
  const { causes: of, clock } = causes();
  assert.equal(of.onset("errors", 1_000), 1_000);
  for (let i = 0; i < 10; i++) {
    await clock.advance(60_000);
    assert.equal(of.onset("errors", 1_000 + 60_000 * i), 1_000);
  }
  await clock.advance(120_000);
  assert.equal(of.onset("errors", 900_000), 900_000);
});
