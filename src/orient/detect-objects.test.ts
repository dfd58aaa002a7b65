import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ReplicaState, Workload } from "../ports/platform.ts";
import { CallGraph } from "./call-graph.ts";
import { detectSignals } from "./detect.ts";
import { diagnose } from "./diagnose.ts";
import { dependency, NOW, policy, replica, telemetryAt, workload } from "./testing.ts";

const stateOf = (more: Partial<ReplicaState> = {}): ReplicaState => ({
  state: "CrashLoopBackOff",
  since: NOW - 90_000,
  container: "main",
  message: "it ended with exit code 1 (Error)",
  ...more,
});
const one = (states: readonly ReplicaState[], more: object = {}): Workload =>
  workload("payments", [
    replica("payments", "payments-1"),
    replica("payments", "payments-2", { states, ready: false, everReady: false, phase: "Starting", ...more }),
  ]);
const look = (condition: object, on: Workload, at = NOW) =>
  detectSignals(policy([{ name: "s", ...condition }]), on, telemetryAt(at), [], at);

describe("podState", () => {
  test("fires for the pod in the state, also one that was never ready, and says what the cluster says", () => {
    const { signals, missing } = look({ podState: { state: "CrashLoopBackOff" } }, one([stateOf()], { restarts: 4 }));
    assert.deepEqual(missing, []);
    const [signal] = signals;
    assert.equal(signals.length, 1);
    assert.deepEqual(
      [signal?.target.name, signal?.condition, signal?.cause, signal?.source, signal?.startsAt, signal?.seenAt],
      ["payments-2", "podState", "CrashLoop", "Kubernetes", NOW - 90_000, NOW],
    );
    assert.match(
      signal?.evidence[0]?.message ?? "",
      /container main of payments-2 is CrashLoopBackOff for 90 s, started again 4 times: .*exit code 1/,
    );
  });

  test("not before it has lasted, not after it is over, and not of another state, container or reason", () => {
    const fires = (condition: object, state: Partial<ReplicaState>, more: object = {}): boolean =>
      look({ podState: { state: "CrashLoopBackOff", ...condition } }, one([stateOf(state)], more)).signals.length > 0;
    assert.equal(fires({}, { since: NOW - 59_999 }), false);
    assert.equal(fires({}, { since: NOW - 60_000 }), true);
    assert.equal(fires({ for: "0s" }, { since: NOW }), true);
    assert.equal(fires({}, { until: NOW }), false);
    assert.equal(fires({}, { until: NOW + 1 }), true);
    assert.equal(fires({}, { state: "ImagePullBackOff" }), false);
    assert.equal(fires({ container: "side" }, {}), false);
    assert.equal(fires({ container: "main" }, {}), true);
    assert.equal(fires({ minRestarts: 5 }, {}, { restarts: 4 }), false);
    assert.equal(fires({ minRestarts: 5 }, {}, { restarts: 5 }), true);
    assert.equal(fires({}, {}, { phase: "Exited" }), false);
    assert.equal(fires({ state: "Pending", reason: "Unschedulable" }, { state: "Pending", reason: "ContainerCreating" }), false);
    assert.equal(fires({ state: "Pending", reason: "Unschedulable" }, { state: "Pending", reason: "Unschedulable" }), true);
  });

  test("Terminating is said of a pod whose containers have ended, too", () => {
    const held = one([stateOf({ state: "Terminating" })], { phase: "Exited" });
    assert.equal(look({ podState: { state: "Terminating" } }, held).signals.length, 1);
    assert.equal(look({ podState: { state: "CrashLoopBackOff" } }, one([stateOf()], { phase: "Exited" })).signals.length, 0);
  });

  test("OOMKilled holds for as long as it is recent", () => {
    const fires = (condition: object, ago: number): boolean =>
      look({ podState: { state: "OOMKilled", ...condition } }, one([stateOf({ state: "OOMKilled", since: NOW - ago })])).signals.length > 0;
    assert.equal(fires({}, 1_000), true);
    assert.equal(fires({}, 600_000), true);
    assert.equal(fires({}, 600_001), false);
    assert.equal(fires({ within: "5s" }, 6_000), false);
  });

  test("is diagnosed as the pod's own, but for crashes of most of a workload whose dependency is ill", () => {
    const crashing = (n: number): Workload =>
      workload(
        "payments",
        [1, 2, 3].map((i) => replica("payments", `payments-${i}`, i <= n ? { states: [stateOf()], ready: false } : {})),
      );
    const bank = workload("bank", [replica("bank", "bank-1", { ready: false, unreadySince: NOW - 60_000 })]);
    const own = policy([
      { name: "s", podState: { state: "CrashLoopBackOff" } },
      { name: "leak", trend: {} },
    ]);
    const diagnosisOf = (on: Workload) => {
      const [signal] = detectSignals(own, on, telemetryAt(), [], NOW).signals;
      assert.ok(signal);
      return diagnose(signal, own, [on, bank], new CallGraph([dependency("payments", "bank")], [], [on, bank]), telemetryAt(), NOW);
    };
    assert.deepEqual([diagnosisOf(crashing(1)).cause, diagnosisOf(crashing(3)).cause], ["CrashLoop", "DependencyFailure"]);
    assert.deepEqual(diagnosisOf(crashing(1)).missing, [], "what crashes sends no metrics");
  });
});

describe("nodeCondition", () => {
  const node = (name: string, conditions: readonly object[] | undefined, more: object = {}) =>
    replica("nodes", name, {
      ref: { kind: "Node", namespace: "default", name, uid: `uid-${name}` },
      ...(conditions === undefined ? {} : { conditions: conditions as never }),
      ...more,
    });
  const pool = (...nodes: ReturnType<typeof node>[]): Workload =>
    workload("nodes", nodes, { ref: { kind: "NodePool", namespace: "default", name: "nodes", uid: "uid-nodes" } });
  const seen = (condition: object, ...nodes: ReturnType<typeof node>[]) => {
    const of = policy([{ name: "s", nodeCondition: condition }], {
      targets: [{ kind: "Node", selector: { matchLabels: { os: "linux" } } }],
      ladder: [{ strategy: "CordonAndDrainNode" }],
    });
    const { signals, missing } = detectSignals(
      of,
      pool(...nodes.map((each) => ({ ...each, labels: { os: "linux" } }))),
      telemetryAt(),
      [],
      NOW,
    );
    return { signals, targets: signals.map(({ target }) => target.name), missing };
  };
  const of = (type: string, status: string, ago = 90_000): object => ({ type, status, since: NOW - ago, message: "kubelet says so" });

  test("fires for the nodes whose condition holds for long enough", () => {
    const { targets, missing, signals } = seen(
      { type: "DiskPressure" },
      node("n1", [of("DiskPressure", "True")]),
      node("n2", [of("DiskPressure", "False")]),
      node("n3", [of("DiskPressure", "True", 59_000)]),
    );
    assert.deepEqual([targets, missing], [["n1"], []]);
    assert.deepEqual([signals[0]?.cause, signals[0]?.startsAt], ["NodeCondition", NOW - 90_000]);
    assert.match(signals[0]?.evidence[0]?.message ?? "", /DiskPressure of node n1 is True for 90 s: kubelet says so/);
  });

  test("what is not there, and what a node has not been heard of for, is missing data", () => {
    const { targets, missing } = seen(
      { type: "KernelDeadlock" },
      node("n1", []),
      node("n2", undefined),
      node("n3", [of("KernelDeadlock", "Unknown")]),
    );
    assert.deepEqual(targets, []);
    assert.deepEqual(missing, [
      "the condition KernelDeadlock of node n1 is not there",
      "the condition KernelDeadlock of node n2 is not there",
      "the condition KernelDeadlock of node n3 is Unknown",
    ]);
  });

  test("NotReady is Ready with any status but True, of a node that was ready", () => {
    const { targets } = seen(
      { type: "NotReady" },
      node("n1", [of("Ready", "Unknown")]),
      node("n2", [of("Ready", "False")]),
      node("n3", [of("Ready", "True")]),
      node("joining", [of("Ready", "False")], { everReady: false }),
    );
    assert.deepEqual(targets, ["n1", "n2"]);
    assert.deepEqual(seen({ type: "Synced", status: "False" }, node("n1", [of("Synced", "False")])).targets, ["n1"]);
  });
});

describe("rollout", () => {
  const rolling = (rollout: Workload["rollout"]): Workload => workload("payments", undefined, rollout === undefined ? {} : { rollout });
  const fires = (rollout: Workload["rollout"]) => look({ rollout: { stuckFor: "5m" } }, rolling(rollout)).signals;

  test("fires for the workload when the deadline has passed, or it has not got further for long enough", () => {
    assert.deepEqual(fires(undefined), []);
    assert.deepEqual(fires({ progressAt: NOW - 299_999, message: "" }), []);
    assert.deepEqual(fires({ progressAt: NOW - 900_000, deadline: NOW + 1, message: "" }), [], "its own deadline counts");
    const [stuck] = fires({ progressAt: NOW - 310_000, message: "1 of 3 updated" });
    assert.deepEqual(
      [stuck?.target.name, stuck?.target.kind, stuck?.cause, stuck?.startsAt],
      ["payments", "Workload", "RolloutStuck", NOW - 10_000],
    );
    assert.equal(fires({ progressAt: NOW - 10_000, deadline: NOW - 10_000, message: "timed out" })[0]?.startsAt, NOW - 10_000);
  });
});
