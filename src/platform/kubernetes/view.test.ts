import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { at, KubeWorld, START } from "../../../test/support/kube-world.ts";
import type { TargetRef } from "../../api/meta.ts";
import { MARKS } from "./marks.ts";
import type { MemoryTable } from "./table.ts";

describe("workloads", () => {
  it("are made of Deployments with their ReplicaSets' pods", () => {
    const world = new KubeWorld();
    world.deployment();
    const { ref, desired, replicas, labels, renewedBy, rollsOut, busy } = world.workload("payments");
    assert.deepEqual([ref.kind, ref.namespace, desired, replicas.length], ["Deployment", "shop", 3, 3]);
    assert.deepEqual(labels, { app: "payments" });
    assert.deepEqual([renewedBy, rollsOut, busy], ["Replacement", true, undefined]);
    const [first] = replicas;
    assert.deepEqual(
      [first?.ref.kind, first?.phase, first?.ready, first?.everReady, first?.inTraffic, first?.detached],
      ["Pod", "Running", true, true, true, false],
    );
  });

  it("are made of StatefulSets and DaemonSets, whose pods are renewed by an eviction", () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db");
    world.owned("DaemonSet", "agent", 2);
    for (const [name, kind] of [
      ["db", "StatefulSet"],
      ["agent", "DaemonSet"],
    ] as const) {
      const workload = world.workload(name);
      assert.deepEqual(
        [workload.ref.kind, workload.desired, workload.replicas.length, workload.renewedBy, workload.rollsOut],
        [kind, 2, 2, "Eviction", true],
      );
    }
  });

  it("are made of what owns pods and is not read, and of pods that have no owner", () => {
    const world = new KubeWorld();
    const ownerReferences = [{ apiVersion: "batch/v1", kind: "Job", name: "nightly", uid: "job", controller: true }];
    world.pod("nightly-x", { ownerReferences });
    world.pod("alone", { labels: { app: "alone" } });
    world.pod("etcd", { annotations: { "kubernetes.io/config.mirror": "x" } });
    assert.deepEqual(
      world.kube.view
        .workloads()
        .filter((w) => w.ref.kind !== "NodePool")
        .map((w) => [w.ref.kind, w.ref.name, w.desired, w.renewedBy]),
      [
        ["Job", "nightly", 1, "Eviction"],
        ["BarePod", "alone", 1, "Eviction"],
      ],
    );
    assert.deepEqual(world.workload("alone").labels, { app: "alone" });
    assert.notEqual(world.workload("alone").ref.uid, world.workload("alone").replicas[0]?.ref.uid);
  });

  it("do not depend on the order in which objects come in", () => {
    const world = new KubeWorld();
    world.kube.feeding = false;
    world.deployment();
    const kinds = ["Pod", "EndpointSlice", "ReplicaSet", "Deployment"] as const;
    for (const order of [kinds, kinds.toReversed()]) {
      const other = new KubeWorld();
      for (const kind of order)
        for (const object of world.kube.all(kind)) {
          other.kube.settle = () => {};
          other.kube.put(kind, object as never);
          other.kube.view.workloads();
        }
      assert.deepEqual(
        other.kube.view
          .workloads()
          .filter((w) => w.ref.kind !== "NodePool")
          .map((w) => [w.ref.kind, w.ref.name, w.replicas.length]),
        [["Deployment", "payments", 3]],
      );
    }
  });

  it("go when their owner goes", () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db", 1);
    world.kube.remove("StatefulSet", "shop", "db");
    // Its pod is left for the garbage collector, and belongs to an owner that is not there.
    assert.equal(world.workload("db").rollsOut, undefined);
    world.kube.remove("Pod", "shop", "db-0");
    assert.ok(world.kube.view.workloads().every((w) => w.ref.name !== "db"));
  });

  it("are the same array until something changes, and the same object unless it is about it", () => {
    const world = new KubeWorld();
    world.deployment();
    world.owned("StatefulSet", "db");
    const before = world.kube.view.workloads();
    const db = world.workload("db");
    assert.equal(world.kube.view.workloads(), before);
    world.kube.change("Pod", "shop", world.target().name, { metadata: { labels: { x: "y" } } });
    assert.notEqual(world.kube.view.workloads(), before);
    assert.equal(world.workload("db"), db);
  });

  it("are told of once for a burst of changes", async () => {
    const world = new KubeWorld();
    world.deployment();
    const told: TargetRef[] = [];
    const stop = world.kube.view.onChange((ref) => told.push(ref));
    for (const i of [0, 1, 2]) world.kube.change("Pod", "shop", world.target(i).name, { metadata: { labels: { x: String(i) } } });
    await world.clock.advance(1);
    assert.deepEqual(
      told.map((ref) => ref.name),
      ["payments"],
    );
    stop();
    world.kube.change("Pod", "shop", world.target().name, { metadata: { labels: { x: "z" } } });
    await world.clock.advance(1);
    assert.equal(told.length, 1);
  });
});

describe("replicas", () => {
  const NOT_READY = [{ type: "Ready", status: "False", lastTransitionTime: at(60_000) }];

  it("say since when readiness fails, of a pod that was ready once", () => {
    const world = new KubeWorld();
    world.pod("a", {}, {}, { conditions: NOT_READY });
    const [replica] = world.workload("a").replicas;
    assert.deepEqual([replica?.ready, replica?.everReady, replica?.unreadySince], [false, true, START + 60_000]);
  });

  it("that were never ready are starting, not ill", () => {
    const world = new KubeWorld();
    world.pod("a", {}, {}, { conditions: [{ type: "Ready", status: "False", lastTransitionTime: at(1_000) }] });
    const [replica] = world.workload("a").replicas;
    assert.deepEqual([replica?.ready, replica?.everReady, replica?.unreadySince], [false, false, undefined]);
  });

  it("that were seen ready stay so, however soon they failed", () => {
    const world = new KubeWorld();
    world.pod("a");
    world.kube.change("Pod", "shop", "a", { status: { conditions: [{ type: "Ready", status: "False", lastTransitionTime: at(1_000) }] } });
    assert.equal(world.workload("a").replicas[0]?.everReady, true);
  });

  it("have the phase of their pod", () => {
    const world = new KubeWorld();
    world.pod("pending", {}, {}, { phase: "Pending" });
    world.pod("done", {}, {}, { phase: "Succeeded" });
    world.pod("ending", { deletionTimestamp: at(0) });
    assert.deepEqual(
      ["pending", "done", "ending"].map((name) => world.workload(name).replicas[0]?.phase),
      ["Starting", "Exited", "Stopping"],
    );
  });

  it("have the memory limit that the kubelet has carried out, of the container that they are about", () => {
    const world = new KubeWorld();
    world.pod(
      "a",
      { annotations: { "kubectl.kubernetes.io/default-container": "app" } },
      {
        containers: [
          { name: "proxy", resources: { limits: { memory: "64Mi" } } },
          { name: "app", resources: { limits: { memory: "1Gi" } } },
        ],
      },
      {
        containerStatuses: [
          { name: "proxy", restartCount: 1 },
          { name: "app", restartCount: 2, state: { running: { startedAt: at(5_000) } }, resources: { limits: { memory: "512Mi" } } },
        ],
      },
    );
    const [replica] = world.workload("a").replicas;
    assert.deepEqual([replica?.memory, replica?.restarts, replica?.startedAt], [{ limitBytes: 512 * 2 ** 20 }, 3, START + 5_000]);
  });

  it("are in traffic as the EndpointSlices say", () => {
    const world = new KubeWorld();
    world.deployment();
    const name = world.target().name;
    world.kube.change("Pod", "shop", name, { status: { conditions: NOT_READY } });
    assert.deepEqual(
      world
        .workload("payments")
        .replicas.map((r) => [r.ref.name === name, r.inTraffic])
        .filter(([is, inTraffic]) => is === inTraffic),
      [],
    );
    // Taken out by its label: no slice has it, though those of its siblings are there.
    world.kube.change("Pod", "shop", world.target(1).name, { metadata: { labels: { app: null } } });
    assert.equal(world.workload("payments").replicas.filter((r) => r.inTraffic).length, 2);
  });

  it("without a Service are in traffic while they are ready", () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "worker");
    assert.deepEqual(
      world.workload("worker").replicas.map((r) => r.inTraffic),
      [true, true],
    );
  });

  it("that were detached still belong to their workload", () => {
    const world = new KubeWorld();
    world.deployment();
    const { name, uid } = world.target();
    world.kube.change("Pod", "shop", name, {
      metadata: { labels: { "pod-template-hash": null }, annotations: { [MARKS.detachedFrom]: "payments-a1/a1" } },
    });
    assert.equal(world.workload("payments").replicas.length, 4);
    assert.equal(world.workload("payments").replicas.find((r) => r.ref.uid === uid)?.detached, true);
  });
});

describe("PodDisruptionBudgets", () => {
  const of = (spec: object, desired = 3): number | undefined => {
    const world = new KubeWorld();
    world.deployment("payments", desired);
    world.pdb("payments", "payments", spec);
    return world.workload("payments").minAvailable?.count;
  };

  it("are counted over the pods that the workload should have, rounded as Kubernetes does", () => {
    assert.equal(of({ minAvailable: 2 }), 2);
    assert.equal(of({ minAvailable: "50%" }), 2);
    assert.equal(of({ maxUnavailable: 1 }), 2);
    assert.equal(of({ maxUnavailable: "10%" }, 5), 4);
    assert.equal(of({ maxUnavailable: 0 }), 3);
    assert.equal(of({ minAvailable: 9 }), 3);
  });

  it("say what they say, and the strictest counts", () => {
    const world = new KubeWorld();
    world.deployment();
    world.pdb("loose", "payments", { minAvailable: 1 }, 2);
    world.pdb("strict", "payments", { minAvailable: 3 });
    assert.deepEqual(world.workload("payments").minAvailable, {
      count: 3,
      source: "PodDisruptionBudget shop/strict, minAvailable 3, disruptionsAllowed 0 (currentHealthy 3, desiredHealthy 3)",
    });
    world.kube.remove("PodDisruptionBudget", "shop", "strict");
    assert.equal(world.workload("payments").minAvailable?.count, 1);
  });

  it("over several workloads allow what the API server says that they allow", () => {
    const world = new KubeWorld();
    world.deployment();
    world.kube.put("PodDisruptionBudget", {
      metadata: { name: "all", namespace: "shop" },
      spec: { selector: {}, minAvailable: 10 },
      status: { disruptionsAllowed: 1, expectedPods: 11, currentHealthy: 11, desiredHealthy: 10 },
    });
    assert.equal(world.workload("payments").minAvailable?.count, 2);
  });
});

describe("rollouts", () => {
  function rolling() {
    const world = new KubeWorld();
    world.deployment();
    const deployment = world.kube.get("Deployment", "shop", "payments");
    const template = { metadata: { labels: { app: "payments" } }, spec: { containers: [{ name: "main", image: "payments:2" }] } };
    world.kube.change("Deployment", "shop", "payments", { spec: { template } });
    return { world, template, uid: deployment?.metadata.uid ?? "" };
  }

  it("that the controller has not looked at yet are under way", () => {
    const { world } = rolling();
    assert.match(world.workload("payments").busy?.message ?? "", /generation 2 was not looked at yet \(status.observedGeneration 1\)/);
  });

  it("are under way while an older revision has pods", () => {
    const { world, template, uid } = rolling();
    world.kube.change("Deployment", "shop", "payments", { status: { observedGeneration: 2, updatedReplicas: 1 } });
    world.replicaSet("payments", "b2", uid, 2, 1, template);
    assert.match(
      world.workload("payments").busy?.message ?? "",
      /rollout of revision 2 in progress: 1 of 3 updated, 3 of older revisions left/,
    );
    world.kube.change("Deployment", "shop", "payments", {
      status: { conditions: [{ type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded", message: "it has timed out" }] },
    });
    assert.match(world.workload("payments").busy?.message ?? "", /stalled: it has timed out/);
    world.kube.change("ReplicaSet", "shop", "payments-b2", { spec: { replicas: 3 } });
    world.kube.change("ReplicaSet", "shop", "payments-a1", { spec: { replicas: 0 }, status: { replicas: 0, availableReplicas: 0 } });
    assert.equal(world.workload("payments").busy, undefined);
  });

  it("are no pods that are missing or not ready", () => {
    const world = new KubeWorld();
    world.deployment();
    world.kube.change("Deployment", "shop", "payments", { status: { replicas: 2, updatedReplicas: 2, availableReplicas: 1 } });
    assert.equal(world.workload("payments").busy, undefined);
  });

  it("of StatefulSets and DaemonSets are told by their status", () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db", 3);
    world.owned("DaemonSet", "agent", 3);
    world.kube.change("StatefulSet", "shop", "db", { status: { updateRevision: "db-2", updatedReplicas: 1 } });
    world.kube.change("DaemonSet", "shop", "agent", { status: { updatedNumberScheduled: 2 } });
    assert.match(world.workload("db").busy?.message ?? "", /rollout of db-2 in progress: 1 of 3 updated/);
    assert.match(world.workload("agent").busy?.message ?? "", /2 of 3 updated/);
    // A partition is where its owner stopped it.
    world.kube.change("StatefulSet", "shop", "db", {
      spec: { updateStrategy: { rollingUpdate: { partition: 2 } } },
      status: { observedGeneration: 2 },
    });
    assert.equal(world.workload("db").busy, undefined);
  });

  it("make another revision, whatever the order of the template's fields", () => {
    const world = new KubeWorld();
    world.deployment();
    const before = world.workload("payments").revision;
    const template = world.kube.get("Deployment", "shop", "payments") as unknown as {
      spec: { template: { metadata: object; spec: object } };
    };
    const { metadata, spec } = template.spec.template;
    world.kube.change("Deployment", "shop", "payments", { spec: { template: null } });
    world.kube.change("Deployment", "shop", "payments", { spec: { template: { spec, metadata } } });
    assert.equal(world.workload("payments").revision, before);
    world.kube.change("Deployment", "shop", "payments", { spec: { template: { metadata: { annotations: { a: "b" } } } } });
    assert.notEqual(world.workload("payments").revision, before);
  });
});

describe("the newest revision that was healthy", () => {
  /** Revision 2 has replaced revision 1, and is not available. */
  function replaced(marks: Record<string, string> = {}) {
    const world = new KubeWorld();
    world.deployment();
    const uid = world.kube.get("Deployment", "shop", "payments")?.metadata.uid ?? "";
    return {
      world,
      rollOut: () => {
        world.replicaSet("payments", "b2", uid, 2, 3, {
          metadata: { labels: { app: "payments" } },
          spec: { containers: [{ name: "main" }] },
        });
        world.kube.change("ReplicaSet", "shop", "payments-b2", { status: { availableReplicas: 0 } });
        world.kube.change("ReplicaSet", "shop", "payments-a1", {
          metadata: { annotations: marks },
          spec: { replicas: 0 },
          status: { replicas: 0, availableReplicas: 0 },
        });
      },
    };
  }

  it("is one that was seen wholly available for a minute", async () => {
    const { world, rollOut } = replaced();
    await world.clock.advance(61_000);
    rollOut();
    assert.deepEqual(world.workload("payments").lastHealthy, {
      revision: "payments-a1",
      why: "revision 1: all of its replicas were available since 2026-01-01T00:00:00.000Z",
    });
  });

  it("is none that was seen for less, and none that nothing is known of", async () => {
    const { world, rollOut } = replaced();
    await world.clock.advance(30_000);
    rollOut();
    assert.equal(world.workload("payments").lastHealthy, undefined);
  });

  it("is one that is marked", () => {
    const { world, rollOut } = replaced({ [MARKS.healthySince]: "2025-12-24T00:00:00Z" });
    rollOut();
    assert.equal(world.workload("payments").lastHealthy?.revision, "payments-a1");
  });

  it("is one of which replicas are available still", () => {
    const { world, rollOut } = replaced();
    rollOut();
    world.kube.change("ReplicaSet", "shop", "payments-a1", { status: { availableReplicas: 2 } });
    assert.match(world.workload("payments").lastHealthy?.why ?? "", /2 of its replicas are available now/);
  });

  it("is none that was rolled back from", () => {
    const { world, rollOut } = replaced({ [MARKS.healthySince]: "2025-12-24T00:00:00Z" });
    rollOut();
    world.kube.change("Deployment", "shop", "payments", {
      metadata: { annotations: { [MARKS.rolledBackFrom]: "payments-x,payments-a1" } },
    });
    assert.equal(world.workload("payments").lastHealthy, undefined);
  });

  it("is none that somebody else went back from: kubectl rollout undo takes an older ReplicaSet up again", () => {
    const { world, rollOut } = replaced({ [MARKS.healthySince]: at(0) });
    rollOut();
    assert.equal(world.workload("payments").lastHealthy?.revision, "payments-a1");
    const made = world.kube.get("ReplicaSet", "shop", "payments-a1");
    const left = world.kube.all("ReplicaSet").find(({ metadata }) => metadata.name !== "payments-a1");
    world.kube.change("ReplicaSet", "shop", left?.metadata.name ?? "", {
      metadata: { creationTimestamp: at(60_000), annotations: { [MARKS.healthySince]: at(61_000) } },
    });
    assert.ok(made !== undefined && left !== undefined);
    world.kube.change("ReplicaSet", "shop", "payments-a1", {
      metadata: { creationTimestamp: at(0), annotations: { "deployment.kubernetes.io/revision": "9" } },
    });
    assert.equal(world.workload("payments").lastHealthy, undefined);
  });

  it("of a StatefulSet is the one before a rollout that has not finished", () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db");
    const owner = world.kube.get("StatefulSet", "shop", "db")?.metadata.uid ?? "";
    for (const revision of [1, 2])
      world.kube.put("ControllerRevision", {
        metadata: {
          name: `db-${revision}`,
          namespace: "shop",
          ownerReferences: [{ apiVersion: "apps/v1", kind: "StatefulSet", name: "db", uid: owner, controller: true }],
        },
        revision,
      });
    assert.equal(world.workload("db").lastHealthy, undefined);
    world.kube.change("StatefulSet", "shop", "db", { status: { updateRevision: "db-2", updatedReplicas: 1 } });
    assert.equal(world.workload("db").lastHealthy?.revision, "db-1");
  });

  it("is offered for marking once it is known to be healthy", async () => {
    const world = new KubeWorld();
    world.deployment();
    assert.deepEqual([...world.kube.view.unmarkedHealthy()], []);
    await world.clock.advance(61_000);
    assert.deepEqual(
      [...world.kube.view.unmarkedHealthy()].map((r) => [r.kind, r.name, r.workload.ref.name]),
      [["ReplicaSet", "payments-a1", "payments"]],
    );
    world.kube.change("ReplicaSet", "shop", "payments-a1", { metadata: { annotations: { [MARKS.healthySince]: at(0) } } });
    assert.deepEqual([...world.kube.view.unmarkedHealthy()], []);
  });
});

describe("autoscalers, GitOps and nodes", () => {
  it("a HorizontalPodAutoscaler bounds the replicas, and its floor is what may be owned", () => {
    const world = new KubeWorld();
    world.deployment();
    const managedFields = [
      {
        manager: "argocd-controller",
        operation: "Apply",
        fieldsV1: { "f:spec": { "f:replicas": {}, "f:template": { "f:spec": { "f:containers": {} } } } },
      },
    ];
    world.kube.change("Deployment", "shop", "payments", {
      metadata: { annotations: { "argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/payments" }, managedFields },
    });
    assert.deepEqual(
      world.workload("payments").gitOps?.map((f) => f.path),
      ["spec.replicas", "spec.template"],
    );
    world.kube.put("HorizontalPodAutoscaler", {
      metadata: { name: "payments", namespace: "shop" },
      spec: { scaleTargetRef: { kind: "Deployment", name: "payments" }, minReplicas: 2, maxReplicas: 5 },
    });
    assert.deepEqual(world.workload("payments").maxReplicas, {
      count: 5,
      source: "HorizontalPodAutoscaler shop/payments (spec.maxReplicas 5)",
    });
    assert.deepEqual(
      world.workload("payments").gitOps?.map((f) => f.path),
      ["spec.template"],
    );
  });

  it("a pool of nodes is a workload of Nightshift's own namespace", () => {
    const world = new KubeWorld();
    world.node("n3", {
      status: { conditions: [{ type: "Ready", status: "Unknown", lastTransitionTime: at(-1_000), message: "kubelet stopped" }] },
    });
    const pool = world.workload("nodes");
    assert.deepEqual([pool.ref.kind, pool.ref.namespace, pool.desired], ["NodePool", "nightshift-system", 3]);
    assert.deepEqual([pool.minAvailable?.count, pool.replicas[2]?.unreadySince], [2, START - 1_000]);
  });

  it("a node's heartbeat changes no workload; its readiness does", () => {
    const world = new KubeWorld();
    const before = world.kube.view.workloads();
    const beat = (status: "True" | "False", lastHeartbeatTime: string): void =>
      world.node("n1", { status: { conditions: [{ type: "Ready", status, lastHeartbeatTime, lastTransitionTime: at(-86_000_000) }] } });
    beat("True", at(1_000));
    assert.equal(world.kube.view.workloads(), before);
    beat("False", at(2_000));
    assert.deepEqual(
      world.workload("nodes").replicas.map((node) => node.ready),
      [false, true],
    );
    beat("False", at(3_000));
    beat("True", at(4_000));
    assert.deepEqual(
      world.workload("nodes").replicas.map((node) => node.ready),
      [true, true],
    );
  });
  it("pools are told apart by the labels of those who make them, and the only node is never to go", () => {
    const world = new KubeWorld();
    world.node("gpu", { metadata: { name: "gpu", labels: { "karpenter.sh/nodepool": "gpu" } } });
    world.node("cp", { metadata: { name: "cp", labels: { "node-role.kubernetes.io/control-plane": "" } } });
    assert.deepEqual(
      world.kube.view.workloads().map((w) => [w.ref.name, w.desired, w.minAvailable?.count]),
      [
        ["nodes", 2, 1],
        ["gpu", 1, 1],
        ["control-plane", 1, 1],
      ],
    );
  });

  it("a node that somebody cordoned is busy, and so are the pods on it", () => {
    const world = new KubeWorld();
    world.pod("a");
    world.kube.change("Node", "", "n1", { spec: { unschedulable: true } });
    assert.match(world.workload("a").replicas[0]?.busy?.message ?? "", /Node n1 is cordoned \(spec.unschedulable: true\)/);
    const node = () => world.workload("nodes").replicas.find((r) => r.ref.name === "n1");
    assert.equal(node()?.busy?.reason, "Cordoned");
    assert.equal(node()?.inTraffic, false);
    world.kube.change("Node", "", "n1", { metadata: { annotations: { [MARKS.cordonedBy]: "ours" } } });
    assert.equal(node()?.busy, undefined);
  });

  it("a mark around a pod is seen: on its namespace, its node and its ReplicaSet", () => {
    const world = new KubeWorld();
    world.deployment();
    const mark = { metadata: { annotations: { "nightshift.dev/do-not-remediate": "true" } } };
    const { name } = world.target();
    const around = (): string[] | undefined =>
      world
        .workload("payments")
        .replicas.find((r) => r.ref.name === name)
        ?.around?.map((m) => m.ref.kind);
    assert.equal(around(), undefined);
    world.kube.change("ReplicaSet", "shop", "payments-a1", mark);
    assert.deepEqual(around(), ["ReplicaSet"]);
    world.kube.change("Pod", "shop", name, { spec: { nodeName: "n2" } });
    world.kube.change("Node", "", "n2", mark);
    assert.deepEqual(around(), ["Node", "ReplicaSet"]);
    world.kube.change("Namespace", "", "shop", mark);
    assert.deepEqual(world.workload("payments").enclosing[0]?.annotations, mark.metadata.annotations);
    // For whoever wants to empty the node, what is marked on it counts.
    assert.deepEqual(
      world
        .workload("nodes")
        .replicas.find((r) => r.ref.name === "n2")
        ?.around?.map((m) => m.ref.kind),
      ["Namespace"],
    );
  });

  it("waits until the view knows what was written", async () => {
    const world = new KubeWorld();
    world.pod("a");
    world.kube.feeding = false;
    world.kube.change("Pod", "shop", "a", { metadata: { labels: { x: "y" } } });
    const { resourceVersion } = world.kube.get("Pod", "shop", "a")!.metadata;
    let known = false;
    const wait = world.kube.view.reached("Pod", resourceVersion, new AbortController().signal).then(() => (known = true));
    await world.clock.advance(10);
    assert.equal(known, false);
    world.kube.catchUp();
    await wait;
    await assert.rejects(world.kube.view.reached("Pod", `${resourceVersion}0`, AbortSignal.abort()));
  });

  it("takes nothing that the watch has yet to tell of for gone, and waits for nothing that has gone since", async () => {
    const world = new KubeWorld();
    world.pod("a");
    world.kube.feeding = false;
    const { resourceVersion } = world.pod("b").metadata;
    let known = false;
    const wait = world.kube.view.reached("Pod", resourceVersion, new AbortController().signal).then(() => (known = true));
    await world.clock.advance(10);
    assert.equal(known, false);
    world.kube.remove("Pod", "shop", "b");
    world.kube.catchUp();
    await wait;
    await world.kube.view.reached("Pod", resourceVersion, new AbortController().signal);
  });

  it("owes what a wait was cut off from, until it is known or a server that lost its history can never tell of it", async () => {
    const world = new KubeWorld();
    world.pod("a");
    world.kube.feeding = false;
    world.kube.change("Pod", "shop", "a", { metadata: { labels: { x: "y" } } });
    const { resourceVersion } = world.kube.get("Pod", "shop", "a")!.metadata;
    assert.deepEqual(world.kube.view.owed(), []);
    await assert.rejects(world.kube.view.reached("Pod", resourceVersion, AbortSignal.abort()));
    assert.deepEqual(world.kube.view.owed(), ["Pod"]);
    world.kube.catchUp();
    assert.deepEqual(world.kube.view.owed(), []);
    await assert.rejects(world.kube.view.reached("Pod", `${resourceVersion}0`, AbortSignal.abort()));
    assert.deepEqual(world.kube.view.owed(), ["Pod"]);
    await world.clock.advance(300_000);
    assert.deepEqual(world.kube.view.owed(), []);
  });

  it("owes what it knew before a listing of an earlier time", () => {
    const world = new KubeWorld();
    world.pod("a");
    const before = world.kube.tables.Pod.resourceVersion ?? assert.fail();
    world.pod("b");
    assert.deepEqual(world.kube.view.owed(), []);
    const table = world.kube.tables.Pod as MemoryTable<never>;
    table.progress(before);
    assert.deepEqual(world.kube.view.owed(), ["Pod"]);
    assert.deepEqual(world.kube.view.owed(), ["Pod"], "until it is known again");
    world.kube.catchUp();
    assert.deepEqual(world.kube.view.owed(), []);
  });
});
