import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { at, KubeWorld, START } from "../../../test/support/kube-world.ts";
import type { ReplicaState } from "../../ports/platform.ts";
import type { ContainerStatus } from "./objects.ts";

const MINUTE = 60_000;
const end = (from: number, to: number, exitCode = 1, reason = "Error"): object => ({
  terminated: { exitCode, reason, startedAt: at(from), finishedAt: at(to) },
});
const waiting = (reason: string, message?: string): object => ({ waiting: { reason, message } });

/** A pod with one container, whose status is changed. */
function pod(status: object = {}, metadata: object = {}) {
  const world = new KubeWorld();
  world.pod("one", { labels: { app: "one" }, creationTimestamp: at(0), ...metadata }, {}, status);
  const states = (): readonly ReplicaState[] => world.workload("one").replicas[0]?.states ?? [];
  return {
    world,
    states,
    names: () => states().map(({ state }) => state),
    container(container: Partial<ContainerStatus> | object, init = false) {
      const statuses = [{ name: init ? "init" : "main", restartCount: 0, ...container }];
      world.kube.change("Pod", "shop", "one", { status: init ? { initContainerStatuses: statuses } : { containerStatuses: statuses } });
    },
  };
}

describe("a pod's states", () => {
  it("are none of one that runs, and nothing is kept of it then", () => {
    const { world } = pod();
    assert.equal("states" in (world.workload("one").replicas[0] ?? {}), false);
    assert.equal(world.kube.view.record("Pod", "shop", "one")?.states, undefined);
  });

  it("a crash loop lasts through the tries between, and is over with a container that is ready", () => {
    const one = pod();
    one.container({ restartCount: 3, ready: false, state: waiting("CrashLoopBackOff"), lastState: end(1_000, 5_000, 137) });
    assert.deepEqual(one.states(), [
      {
        state: "CrashLoopBackOff",
        since: START + 5_000,
        container: "main",
        reason: "CrashLoopBackOff",
        message: "it ended with exit code 137 (Error)",
      },
    ]);
    one.container({ restartCount: 4, ready: false, state: { running: { startedAt: at(45_000) } }, lastState: end(1_000, 5_000) });
    assert.partialDeepStrictEqual(one.states(), [{ since: START + 5_000, until: START + 45_000 + 10 * MINUTE }]);
    one.container({ restartCount: 4, ready: true, state: { running: { startedAt: at(45_000) } }, lastState: end(1_000, 5_000) });
    assert.deepEqual(one.states(), []);
    // It was ready for a moment between two ends: the loop began when it began.
    one.container({ restartCount: 4, ready: false, state: end(45_000, 47_000), lastState: end(1_000, 5_000) });
    one.container({ restartCount: 4, ready: false, state: waiting("CrashLoopBackOff"), lastState: end(45_000, 47_000) });
    assert.partialDeepStrictEqual(one.states(), [{ since: START + 5_000 }]);
    // The kubelet takes one that has run for ten minutes for recovered.
    one.container({ restartCount: 5, ready: false, state: waiting("CrashLoopBackOff"), lastState: end(80_000, 80_000 + 11 * MINUTE) });
    assert.partialDeepStrictEqual(one.states(), [{ since: START + 80_000 + 11 * MINUTE }]);
  });

  it("a time that the kubelet does not know (null) does not hide a crash loop for the rest of the pod's life", () => {
    const one = pod();
    const unknown = { terminated: { exitCode: 137, reason: "ContainerStatusUnknown", startedAt: null, finishedAt: null } };
    one.container({ restartCount: 1, ready: false, state: waiting("CrashLoopBackOff"), lastState: unknown });
    assert.deepEqual(one.states(), []);
    one.container({ restartCount: 2, ready: false, state: waiting("CrashLoopBackOff"), lastState: end(20_000, 25_000) });
    assert.partialDeepStrictEqual(one.states(), [{ state: "CrashLoopBackOff", since: START + 25_000 }]);
    one.container({ restartCount: 2, ready: false, state: waiting("ErrImagePull"), lastState: unknown });
    assert.equal(Number.isNaN(one.states()[0]?.since), false);
  });

  it("one restart is no crash loop, nor is a container that has done its work", () => {
    const one = pod();
    one.container({ restartCount: 1, ready: false, state: { running: { startedAt: at(9_000) } }, lastState: end(1_000, 5_000) });
    assert.deepEqual(one.states(), []);
    one.container({ restartCount: 1, state: waiting("CrashLoopBackOff"), lastState: end(1_000, 5_000) }, true);
    assert.deepEqual(one.names(), ["CrashLoopBackOff"]);
    one.container({ restartCount: 1, state: end(8_000, 9_000, 0, "Completed"), lastState: end(1_000, 5_000) }, true);
    assert.deepEqual(one.states(), []);
  });

  it("that another pod of the name was in are not its own", () => {
    const { world, states } = pod();
    world.kube.change("Pod", "shop", "one", {
      status: { containerStatuses: [{ name: "main", state: waiting("ErrImagePull"), lastState: end(0, 3_000) }] },
    });
    assert.equal(states()[0]?.since, START + 3_000);
    world.kube.remove("Pod", "shop", "one");
    world.pod(
      "one",
      { labels: { app: "one" } },
      {},
      {
        startTime: at(90_000),
        containerStatuses: [{ name: "main", state: waiting("ErrImagePull") }],
      },
    );
    assert.equal(states()[0]?.since, START + 90_000);
  });

  it("OOMKilled is the end of the last run, however it goes on", () => {
    const one = pod();
    one.container({
      restartCount: 1,
      ready: true,
      state: { running: { startedAt: at(9_000) } },
      lastState: end(1_000, 5_000, 137, "OOMKilled"),
    });
    assert.partialDeepStrictEqual(one.states(), [{ state: "OOMKilled", since: START + 5_000, container: "main" }]);
    one.container({ restartCount: 2, ready: true, state: { running: { startedAt: at(20_000) } }, lastState: end(9_000, 15_000) });
    assert.deepEqual(one.states(), []);
  });

  for (const reason of ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"])
    it(`${reason} is an image that cannot be pulled, since the pod waits for it`, () => {
      const one = pod({ phase: "Pending", startTime: at(2_000) });
      one.container({ state: waiting(reason, "not found") });
      assert.partialDeepStrictEqual(one.states(), [
        { state: "ImagePullBackOff", since: START + 2_000, reason, message: "not found" },
        { state: "Pending", since: START, reason },
      ]);
    });

  it("CreateContainerConfigError has the kubelet's reason", () => {
    const one = pod({ phase: "Pending" });
    one.container({ state: waiting("CreateContainerConfigError", 'configmap "web" not found') });
    assert.partialDeepStrictEqual(one.states(), [
      { state: "CreateContainerConfigError", message: 'configmap "web" not found' },
      { state: "Pending" },
    ]);
  });

  it("Pending has the scheduler's reason until it has a node", () => {
    const one = pod({
      phase: "Pending",
      conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/2 nodes are available" }],
      containerStatuses: [],
    });
    assert.deepEqual(one.states(), [{ state: "Pending", since: START, reason: "Unschedulable", message: "0/2 nodes are available" }]);
  });

  it("Terminating counts from the end of the grace period, and names finalizers", () => {
    const one = pod({}, { deletionTimestamp: at(30_000), finalizers: ["example.org/slow"] });
    assert.deepEqual(one.states(), [{ state: "Terminating", since: START + 30_000, message: "its finalizers are example.org/slow" }]);
  });
});

describe("a node's conditions", () => {
  it("are those of its status, without heartbeats", () => {
    const world = new KubeWorld();
    world.node("n3", {
      status: {
        conditions: [
          { type: "Ready", status: "True", lastTransitionTime: at(0), lastHeartbeatTime: at(9) },
          { type: "DiskPressure", status: "True", lastTransitionTime: at(5_000), message: "disk is full" },
        ],
      },
    });
    const node = world.workload("nodes").replicas.find(({ ref }) => ref.name === "n3");
    assert.deepEqual(node?.conditions, [
      { type: "Ready", status: "True", since: START, message: "" },
      { type: "DiskPressure", status: "True", since: START + 5_000, message: "disk is full" },
    ]);
  });
});

it("a node's condition of which it is not known since when it is so (null) is none", () => {
  const world = new KubeWorld();
  world.node("n3", {
    status: {
      conditions: [
        { type: "Ready", status: "False", lastTransitionTime: at(9_000) },
        { type: "KernelDeadlock", status: "True", lastTransitionTime: null },
        { type: "DiskPressure", status: "True" },
      ],
    },
  });
  const node = world.workload("nodes").replicas.find(({ ref }) => ref.name === "n3");
  assert.deepEqual(node?.conditions, [{ type: "Ready", status: "False", since: START + 9_000, message: "" }]);
});

describe("a rollout that makes no progress", () => {
  it("is what a Deployment's controller says, of the template that it has looked at", () => {
    const world = new KubeWorld();
    world.deployment();
    assert.equal(world.workload("payments").rollout, undefined);
    const failed = {
      type: "Progressing",
      status: "False",
      reason: "ProgressDeadlineExceeded",
      message: "timed out",
      lastTransitionTime: at(600_000),
    };
    world.kube.change("Deployment", "shop", "payments", { status: { conditions: [failed] } });
    assert.deepEqual(world.workload("payments").rollout, {
      progressAt: START + 600_000,
      deadline: START + 600_000,
      message: "Deployment shop/payments: timed out",
    });
    world.kube.change("Deployment", "shop", "payments", { spec: { template: { metadata: { labels: { app: "payments", v: "2" } } } } });
    assert.equal(world.workload("payments").rollout, undefined, "what it says is of the template before");
  });

  it("is not said at once of a Deployment whose ReplicaSet could not be made: what runs is the version before, and is not rolled back", () => {
    const world = new KubeWorld();
    world.deployment();
    const uid = world.kube.get("Deployment", "shop", "payments")?.metadata.uid ?? "";
    world.replicaSet("payments", "b2", uid, 2, 3, { metadata: { labels: { app: "payments" } }, spec: { containers: [{ name: "main" }] } });
    assert.equal(world.workload("payments").lastHealthy?.revision, "payments-a1");
    const failed = {
      type: "Progressing",
      status: "False",
      reason: "ReplicaSetCreateError",
      message: "exceeded quota",
      lastTransitionTime: at(600_000),
    };
    world.kube.change("Deployment", "shop", "payments", { status: { conditions: [failed] } });
    assert.deepEqual(world.workload("payments").rollout, {
      progressAt: START + 600_000,
      message: "Deployment shop/payments: exceeded quota",
    });
    assert.equal(world.workload("payments").lastHealthy, undefined);
  });

  it("of a StatefulSet counts from the last pod that was updated or became available", () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db", 3);
    assert.equal(world.workload("db").rollout, undefined);
    const status = (changed: object, t: number): void => {
      world.kube.change("StatefulSet", "shop", "db", {
        metadata: { managedFields: [{ manager: "kube-controller-manager", subresource: "status", time: at(t) }] },
        status: changed,
      });
    };
    status({ updateRevision: "db-2", updatedReplicas: 1, availableReplicas: 2 }, 10_000);
    assert.partialDeepStrictEqual(world.workload("db").rollout, { progressAt: START + 10_000 });
    status({ availableReplicas: 1 }, 20_000);
    assert.partialDeepStrictEqual(world.workload("db").rollout, { progressAt: START + 10_000 }, "fewer are no progress");
    status({ availableReplicas: 2 }, 30_000);
    assert.partialDeepStrictEqual(world.workload("db").rollout, { progressAt: START + 30_000 });
    // All are updated, and the last is not available yet.
    status({ updatedReplicas: 3 }, 40_000);
    assert.partialDeepStrictEqual(world.workload("db").rollout, { progressAt: START + 40_000 });
    status({ availableReplicas: 3, currentRevision: "db-2" }, 50_000);
    assert.equal(world.workload("db").rollout, undefined);
  });

  it("of a StatefulSet's canary is over when it has come as far as its partition: a pod that is ill later is none", () => {
    const world = new KubeWorld();
    world.owned("StatefulSet", "db", 3);
    world.kube.change("StatefulSet", "shop", "db", { spec: { updateStrategy: { rollingUpdate: { partition: 2 } } } });
    const status = (changed: object): void =>
      world.kube.change("StatefulSet", "shop", "db", { status: { observedGeneration: 2, ...changed } });
    status({ updateRevision: "db-2", updatedReplicas: 0, availableReplicas: 2 });
    assert.notEqual(world.workload("db").rollout, undefined);
    status({ updatedReplicas: 1 });
    assert.notEqual(world.workload("db").rollout, undefined, "the canary is not available yet");
    status({ availableReplicas: 3 });
    assert.equal(world.workload("db").rollout, undefined);
    status({ availableReplicas: 2 });
    assert.equal(world.workload("db").rollout, undefined);
    // The next pods are let go.
    world.kube.change("StatefulSet", "shop", "db", { spec: { updateStrategy: { rollingUpdate: { partition: 1 } } } });
    status({ observedGeneration: 3 });
    assert.notEqual(world.workload("db").rollout, undefined);
  });

  it("of a DaemonSet is over when its template was available everywhere: a pod that is ill later is none", () => {
    const world = new KubeWorld();
    world.owned("DaemonSet", "agent", 2);
    world.kube.change("DaemonSet", "shop", "agent", { status: { numberAvailable: 1 } });
    assert.equal(world.workload("agent").rollout, undefined);
    const template = { metadata: { labels: { app: "agent", v: "2" } } };
    world.kube.change("DaemonSet", "shop", "agent", { spec: { template } });
    world.kube.change("DaemonSet", "shop", "agent", { status: { observedGeneration: 2, updatedNumberScheduled: 1 } });
    assert.match(world.workload("agent").rollout?.message ?? "", /1 of 2 updated, 1 of 2 available/);
    world.kube.change("DaemonSet", "shop", "agent", { status: { updatedNumberScheduled: 2 } });
    assert.notEqual(world.workload("agent").rollout, undefined);
    world.kube.change("DaemonSet", "shop", "agent", { status: { numberAvailable: 2 } });
    assert.equal(world.workload("agent").rollout, undefined);
    world.kube.change("DaemonSet", "shop", "agent", { status: { numberAvailable: 1 } });
    assert.equal(world.workload("agent").rollout, undefined);
  });
});
