import assert from "node:assert/strict";
import { test } from "node:test";
import { API_VERSION } from "../api/meta.ts";
import type { Signal } from "../api/signal.ts";
import type { ServiceDependency } from "../api/dependency.ts";
import type { Replica, Workload } from "../ports/platform.ts";
import { contextOf, HOUR, MINUTE, NOW, replicaOf, SECOND, workloadOf } from "../../test/support/gate-context.ts";
import { failureDomains } from "./failure-domains.ts";

function service(name: string, replicas: readonly Partial<Replica>[], over: Partial<Workload> = {}): Workload {
  const ref = { kind: "Workload", namespace: "shop", name, uid: name };
  return workloadOf(replicas.length, {
    ref,
    replicas: replicas.map((each, i) =>
      replicaOf(i, { ref: { kind: "Pod", namespace: "shop", name: `${name}-${i}`, uid: `${name}-${i}` }, workload: ref, ...each }),
    ),
    ...over,
  });
}
const down = (since = NOW - 30 * SECOND): Partial<Replica> => ({ ready: false, unreadySince: since });
const on = (node: string, over: Partial<Replica> = {}): Partial<Replica> => ({ node, zone: `z-${node.slice(0, 1)}`, ...over });
const about = (workload: Workload, i: number | undefined = 0, over: Partial<Signal> = {}): Signal => ({
  ...contextOf().signal,
  condition: "probe",
  startsAt: NOW - 30 * SECOND,
  fingerprint: `${workload.ref.name}/${i ?? ""}`,
  target: i === undefined ? workload.ref : (workload.replicas[i]?.ref ?? workload.ref),
  ...over,
});

function domains(
  workloads: readonly Workload[],
  options: { firing?: readonly Signal[]; signal?: Signal; dependencies?: readonly ServiceDependency[]; replica?: number } = {},
): Record<string, { ill: string; shared: readonly string[] }> {
  const [workload] = workloads;
  assert.ok(workload);
  const { firing = [], signal = about(workload), dependencies = [], replica = 0 } = options;
  const found = failureDomains({ signal, workload, replica: workload.replicas[replica], workloads, firing, dependencies });
  return Object.fromEntries(found.map((d) => [d.key, { ill: `${d.ill.length}/${d.size} ${d.unit}`, shared: d.shared }]));
}
const ills = (found: ReturnType<typeof domains>): Record<string, string> =>
  Object.fromEntries(Object.entries(found).map(([key, { ill }]) => [key, ill]));

test("counts in each domain what is not ready or what a signal fires about, the target among it", () => {
  const workloads = [
    service("a", [on("n1", down()), on("n2"), on("m1")]),
    service("b", [on("n1", down()), on("n2")]),
    service("c", [on("m1"), on("m1")]),
  ];
  assert.deepEqual(ills(domains(workloads)), {
    "Workload/shop/a": "1/3 replicas",
    "Node/n1": "2/2 replicas",
    "Zone/z-n": "2/4 replicas",
    "Namespace/shop": "2/3 workloads",
    Cluster: "2/3 workloads",
  });
  const [, , c] = workloads;
  assert.ok(c);
  const firing = [about(c, undefined, { condition: "alert" }), about(c, 0, { condition: "alert" })];
  assert.equal(ills(domains(workloads, { firing }))["Namespace/shop"], "3/3 workloads");
});

test("what starts, stops or has never been ready is not ill; neither is a leak another's fault", () => {
  const workloads = [service("a", [down(), { ready: false, everReady: false }, { ...down(), phase: "Stopping" }]), service("b", [{}, {}])];
  const [, b] = workloads;
  assert.ok(b);
  const found = ills(domains(workloads, { firing: [about(b, 0, { condition: "trend" })] }));
  assert.deepEqual([found["Workload/shop/a"], found["Cluster"]], ["1/3 replicas", "1/2 workloads"]);
});

test("what was ill long before is not ill at once; what follows later is", () => {
  const of = (since: number): string | undefined => ills(domains([service("a", [down()]), service("b", [down(since)])]))["Cluster"];
  assert.equal(of(NOW - 24 * HOUR), "1/2 workloads");
  assert.equal(of(NOW - 30 * SECOND - 10 * MINUTE), "2/2 workloads");
  assert.equal(of(NOW - 31 * SECOND - 10 * MINUTE), "1/2 workloads");
  assert.equal(of(NOW), "2/2 workloads");
});

test("names what the ill ones share: a node that is not ready, a zone, a dependency, a rollout", () => {
  const pool = service("pool", [], {
    ref: { kind: "NodePool", namespace: "ops", name: "pool", uid: "pool" },
    replicas: [replicaOf(9, { ref: { kind: "Node", namespace: "ops", name: "n1", uid: "n1" }, ...on("n1", down()) })],
  });
  const elsewhere = service("c", [on("m1")]);
  const onNode = [service("a", [on("n1", down()), on("n2")]), service("b", [on("n1", down())]), elsewhere, pool];
  assert.deepEqual(domains(onNode)["Cluster"]?.shared, ["node n1, which is not ready", "zone z-n"]);
  const inZone = [service("a", [on("n1", down())]), service("b", [on("n2", down())]), elsewhere];
  assert.deepEqual(domains(inZone)["Cluster"]?.shared, ["zone z-n"]);
  assert.deepEqual(domains(inZone.slice(0, 2))["Cluster"]?.shared, [], "what everything shares tells nothing");
  const edge = (from: string, to: string): ServiceDependency => ({
    apiVersion: API_VERSION,
    kind: "ServiceDependency",
    metadata: { name: `${from}-${to}`, namespace: "shop" },
    spec: { from: { name: from }, to: { name: to }, unhealthyAbove: "10%", window: "30s" },
  });
  const dependencies = [edge("a", "db"), edge("b", "db"), edge("a", "mail")];
  assert.deepEqual(domains([service("a", [down()]), service("b", [down()])], { dependencies })["Namespace/shop"]?.shared, [
    "the dependency shop/db",
  ]);
  const busy = { busy: { reason: "RolloutInProgress" as const, message: "" } };
  assert.deepEqual(domains([service("a", [down()], busy), service("b", [down()], busy)])["Cluster"]?.shared, [
    "a rollout that is under way in each of them",
  ]);
});

test("nodes are counted among nodes, in all pools, and pods do not hold back the cure of their node", () => {
  const node = (name: string, over: Partial<Replica> = {}): Replica =>
    replicaOf(0, { ref: { kind: "Node", namespace: "ops", name, uid: name }, ...on(name), ...over });
  const pools = ["p", "q"].map((name) =>
    service(name, [], {
      ref: { kind: "NodePool", namespace: "ops", name, uid: name },
      desired: 2,
      replicas: [node(`n-${name}1`, name === "p" ? down() : {}), node(`n-${name}2`)],
    }),
  );
  const pods = ["a", "b", "c"].map((name) => service(name, [on("n-p1", down())]));
  assert.deepEqual(ills(domains([...pools, ...pods])), {
    "Workload/ops/p": "1/2 nodes",
    "Zone/z-n": "1/4 nodes",
    "Cluster/nodes": "1/4 nodes",
  });
});

test("a workload that does not exist has no domain", () => {
  const workload = service("a", [down()]);
  assert.deepEqual(
    failureDomains({ signal: about(workload), workload: undefined, replica: undefined, workloads: [], firing: [], dependencies: [] }),
    [],
  );
});
