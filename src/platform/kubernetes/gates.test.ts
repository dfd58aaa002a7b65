// The gates' answers to real objects: what the view says is what they need.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { at, KubeWorld } from "../../../test/support/kube-world.ts";
import { API_VERSION } from "../../api/meta.ts";
import { policySpecSchema, type RemediationPolicy } from "../../api/policy.ts";
import { effectsOf } from "../../act/plan.ts";
import { decide } from "../../decide/decide.ts";
import type { Decision } from "../../decide/gate.ts";
import { CallGraph } from "../../orient/call-graph.ts";
import { diagnose } from "../../orient/diagnose.ts";
import { failureDomains } from "../../orient/failure-domains.ts";
import { detectSignals, targetsOf } from "../../orient/detect.ts";
import type { Telemetry } from "../../observe/telemetry.ts";

const NO_TELEMETRY: Telemetry = { replicaSeries: () => [], requests: () => undefined, requestSeries: () => [] };
const MARK = { metadata: { annotations: { "nightshift.dev/do-not-remediate": "on purpose" } } };

/** What the loop would decide about a pod of `payments` (or a node) that has failed its readiness probe. */
function decided(
  world: KubeWorld,
  ladder: object = { strategy: "RestartPod" },
  target: object = { name: "payments" },
  namespace = "shop",
): Decision {
  const spec = policySpecSchema.parse({
    mode: "Enforce",
    targets: [target],
    signals: [{ name: "ill", probe: { failingFor: "10s" } }],
    ladder: [ladder],
    budgets: [{ maxUnavailable: 5 }],
  });
  const policy: RemediationPolicy = {
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name: "p", namespace, uid: "p" },
    spec,
  };
  const workloads = world.kube.view.workloads();
  const now = world.clock.now();
  const [workload] = targetsOf(policy, workloads);
  assert.ok(workload !== undefined, "the policy covers nothing");
  const [signal] = detectSignals(policy, workload, NO_TELEMETRY, [], now).signals;
  assert.ok(signal !== undefined, "nothing fires");
  const diagnosis = diagnose(signal, policy, workloads, new CallGraph([], [], workloads), NO_TELEMETRY, now);
  const replica = workload.replicas.find((each) => each.ref.uid === diagnosis.remediationTarget.uid);
  return decide(
    {
      now,
      policy,
      signal,
      diagnosis,
      workload,
      replica,
      self: undefined,
      remediations: [],
      budgets: [],
      approvals: [],
      domains: failureDomains({ signal, workload, replica, workloads, firing: [], dependencies: [] }),
      effects: effectsOf(spec.ladder[0]!, namespace, () => undefined),
    },
    "Start",
  );
}

async function ill() {
  const world = new KubeWorld();
  world.deployment();
  const { name } = world.target();
  world.kube.change("Pod", "shop", name, {
    spec: { nodeName: "n1" },
    status: { conditions: [{ type: "Ready", status: "False", lastTransitionTime: at(5_000) }] },
  });
  await world.clock.advance(60_000);
  return { world, name };
}

describe("gates on Kubernetes' objects", () => {
  it("pass where nothing stands against it", async () => {
    const { world } = await ill();
    assert.equal(decided(world).action, "Act");
  });

  for (const [what, prepare, reason, message] of [
    [
      "a PodDisruptionBudget that is exhausted",
      (w: KubeWorld) => w.pdb("payments", "payments", { minAvailable: 3 }),
      "BudgetExhausted",
      /PodDisruptionBudget shop\/payments, minAvailable 3, disruptionsAllowed 0 \(currentHealthy 3, desiredHealthy 3\)/,
    ],
    [
      "a rollout under way",
      (w: KubeWorld) => w.kube.change("Deployment", "shop", "payments", { spec: { template: { metadata: { labels: { v: "2" } } } } }),
      "InProgress",
      /generation 2 was not looked at yet \(status.observedGeneration 1\)/,
    ],
    [
      "a cordoned node",
      (w: KubeWorld) => w.kube.change("Node", "", "n1", { spec: { unschedulable: true } }),
      "InProgress",
      /Node n1 is cordoned/,
    ],
    ["a mark on the pod", (w: KubeWorld, name: string) => w.kube.change("Pod", "shop", name, MARK), "Unmanaged", /Pod\/shop\/payments-a1/],
    [
      "a mark on its ReplicaSet",
      (w: KubeWorld) => w.kube.change("ReplicaSet", "shop", "payments-a1", MARK),
      "Unmanaged",
      /ReplicaSet\/shop/,
    ],
    [
      "a mark on its Deployment",
      (w: KubeWorld) => w.kube.change("Deployment", "shop", "payments", MARK),
      "Unmanaged",
      /Deployment\/shop\/payments/,
    ],
    ["a mark on its node", (w: KubeWorld) => w.kube.change("Node", "", "n1", MARK), "Unmanaged", /Node\/\/n1/],
    ["a mark on its namespace", (w: KubeWorld) => w.kube.change("Namespace", "", "shop", MARK), "Unmanaged", /Namespace\/\/shop/],
  ] as const)
    it(`block on ${what}`, async () => {
      const { world, name } = await ill();
      prepare(world, name);
      const decision = decided(world);
      assert.deepEqual([decision.action, decision.reason], ["Block", reason], decision.message);
      assert.match(decision.message, message);
    });

  it("block where a node, or the zone that it is in, has taken others along", async () => {
    const { world } = await ill();
    for (const [node, zone] of [
      ["n1", "west"],
      ["n2", "east"],
    ] as const)
      world.kube.change("Node", "", node, { metadata: { labels: { "topology.kubernetes.io/zone": zone } } });
    const others = ["bank", "shop", "mail"];
    for (const name of others) {
      world.deployment(name, 2);
      const pods = world.kube.view.workloads().find((w) => w.ref.name === name)?.replicas ?? [];
      for (const [i, pod] of pods.entries()) world.kube.change("Pod", "shop", pod.ref.name, { spec: { nodeName: i === 0 ? "n1" : "n2" } });
    }
    assert.equal(decided(world).action, "Act");
    for (const name of others) {
      const pod = world.kube.view
        .workloads()
        .find((w) => w.ref.name === name)
        ?.replicas.find((r) => r.node === "n1");
      world.kube.change("Pod", "shop", pod?.ref.name ?? "", {
        status: { conditions: [{ type: "Ready", status: "False", lastTransitionTime: at(6_000) }] },
      });
    }
    const decision = decided(world);
    assert.deepEqual([decision.action, decision.reason], ["Block", "StormBrake"]);
    assert.match(decision.message, /4 of 4 workloads in Cluster are ill at once, more than 2; what they share: node n1; zone west$/);
  });

  it("let a rollback cure a rollout that hangs", async () => {
    const { world } = await ill();
    world.kube.change("Deployment", "shop", "payments", { spec: { template: { metadata: { labels: { v: "2" } } } } });
    assert.equal(decided(world, { strategy: "RollbackRollout" }).action, "Act");
  });

  it("block more replicas where the autoscaler is at its bound, and nothing else", async () => {
    const { world } = await ill();
    world.kube.put("HorizontalPodAutoscaler", {
      metadata: { name: "payments", namespace: "shop" },
      spec: { scaleTargetRef: { kind: "Deployment", name: "payments" }, maxReplicas: 3 },
    });
    const decision = decided(world, { strategy: "ScaleUp", scale: { max: 9 } });
    assert.equal(decision.reason, "BudgetExhausted");
    assert.match(decision.message, /HorizontalPodAutoscaler shop\/payments \(spec.maxReplicas 3\) allows no more/);
    assert.equal(decided(world).action, "Act");
  });
});

describe("gates on nodes", () => {
  const drain = { strategy: "CordonAndDrainNode" };
  const target = { kind: "Node", name: "n1" };

  /** Of `count` nodes, those named are not ready. */
  async function nodes(count: number, notReady: readonly string[]) {
    const world = new KubeWorld();
    for (let i = 3; i <= count; i++) world.node(`n${i}`);
    for (const name of notReady)
      world.kube.change("Node", "", name, { status: { conditions: [{ type: "Ready", status: "Unknown", lastTransitionTime: at(0) }] } });
    await world.clock.advance(60_000);
    return world;
  }

  it("pass while at most a fifth of the pool is ill", async () => {
    assert.equal(decided(await nodes(6, ["n1"]), drain, target, "nightshift-system").action, "Act");
    assert.equal(decided(await nodes(6, ["n1", "n2"]), drain, target, "nightshift-system").action, "Act");
  });

  it("block when more is: then the nodes are not what is ill", async () => {
    const decision = decided(await nodes(20, ["n1", "n2", "n3", "n4", "n5"]), drain, target, "nightshift-system");
    assert.equal(decision.reason, "BudgetExhausted");
    assert.match(decision.message, /5 of 20 replicas would be unavailable; NodePool nodes, of which at most 20% may be unavailable/);
  });

  it("block on a node that somebody else has cordoned, and on what is marked there", async () => {
    const world = await nodes(6, ["n1"]);
    world.deployment();
    world.kube.change("Node", "", "n1", { spec: { unschedulable: true } });
    assert.match(decided(world, drain, target, "nightshift-system").message, /n1 was cordoned by somebody else/);
    world.kube.change("Node", "", "n1", { spec: { unschedulable: null } });
    world.kube.change("Pod", "shop", world.target().name, { spec: { nodeName: "n1" }, ...MARK });
    assert.match(decided(world, drain, target, "nightshift-system").message, /Pod\/shop\/payments-a1-.* carries the annotation/);
  });

  it("are not asked at all by policies of other namespaces: those do not reach nodes", async () => {
    const world = await nodes(6, ["n1"]);
    assert.throws(() => decided(world, drain, target, "shop"), /the policy covers nothing/);
  });
});
