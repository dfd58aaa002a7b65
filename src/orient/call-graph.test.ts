import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CallKind, ObservedCall, ServiceName } from "../observe/service-graph.ts";
import { CallGraph } from "./call-graph.ts";
import { dependency, NOW, workload } from "./testing.ts";

const observed = (client: ServiceName, server: ServiceName, kind: CallKind = "Request"): ObservedCall => ({
  client,
  server,
  kind,
  source: "Otlp",
  seenAt: NOW,
  points: () => [],
});
const shop = workload("shop");
const bank = workload("bank");
const names = (graph: CallGraph, of: { name: string; namespace: string }): string[] => {
  const node = graph.of(of);
  return node === undefined ? [] : graph.callees(node).map(({ to, declared }) => `${to.key}${declared ? "!" : ""}`);
};

describe("the call graph", () => {
  test("has what is declared and what was seen, each once, and what is declared keeps its limit", () => {
    const graph = new CallGraph(
      [dependency("shop", "bank", { unhealthyAbove: "60%" })],
      [observed({ name: "shop" }, { name: "bank" }), observed({ name: "shop" }, { name: "api.stripe.com" }, "External")],
      [shop, bank],
    );
    assert.deepEqual(names(graph, shop.ref), ["default/bank!", "api.stripe.com"]);
    const [edge] = graph.callees(graph.of(shop.ref) as never);
    assert.deepEqual([edge?.unhealthyAbove, edge?.observed.length], [0.6, 1]);
    assert.equal(graph.callees(graph.of(shop.ref) as never)[1]?.to.ref.kind, "Service");
  });
  test("takes a name without a namespace for the one workload that has it, or that is labelled so, and for none of several", () => {
    const other = workload("bank", [], { ref: { kind: "Deployment", namespace: "test", name: "bank", uid: "other" } });
    const seen = [observed({ name: "shop" }, { name: "bank" })];
    assert.deepEqual(names(new CallGraph([], seen, [shop, bank]), shop.ref), ["default/bank"]);
    assert.deepEqual(names(new CallGraph([], seen, [shop, bank, other]), shop.ref), []);
    const told = [observed({ name: "shop" }, { name: "bank", namespace: "test" })];
    assert.deepEqual(names(new CallGraph([], told, [shop, bank, other]), shop.ref), ["test/bank"]);
    const labelled = workload("bank-v2", [], { labels: { "app.kubernetes.io/name": "bank" } });
    assert.deepEqual(names(new CallGraph([], seen, [shop, labelled]), shop.ref), ["default/bank-v2"]);
  });
  test("does not wait for what goes through a queue", () => {
    const graph = new CallGraph([], [observed({ name: "shop" }, { name: "bank" }, "Queue")], [shop, bank]);
    assert.deepEqual(names(graph, shop.ref), []);
    assert.equal(graph.callers(graph.of(bank.ref) as never).length, 1);
  });
  test("has a queue that is declared, too, as a dependency", () => {
    const graph = new CallGraph([dependency("shop", "bank")], [observed({ name: "shop" }, { name: "bank" }, "Queue")], [shop, bank]);
    assert.deepEqual(names(graph, shop.ref), ["default/bank!"]);
  });
});
