import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { RemediationPolicy } from "../api/policy.ts";
import type { Alert, Signal } from "../api/signal.ts";
import type { TelemetryStore } from "../observe/store.ts";
import type { Workload } from "../ports/platform.ts";
import { CallGraph } from "./call-graph.ts";
import { detectSignals } from "./detect.ts";
import { diagnose } from "./diagnose.ts";
import { alert, dependency, NOW, policy, record, replica, requests, telemetryAt, workload } from "./testing.ts";

const MB = 1e6;
const payments = workload("payments");
const bank = workload("bank");
const edges = new CallGraph([dependency("payments", "bank")], [], [payments, bank]);
const NO_GRAPH = new CallGraph([], [], []);

function only(p: RemediationPolicy, w: Workload, telemetry: TelemetryStore, alerts: readonly Alert[] = []): Signal {
  const { signals } = detectSignals(p, w, telemetry, alerts, NOW);
  assert.equal(signals.length, 1);
  return signals[0] as Signal;
}
const allMemory = (telemetry: TelemetryStore, f: (i: number) => (t: number) => number, w: Workload = payments): void =>
  w.replicas.forEach(({ ref }, i) => record(telemetry, ref.uid, "memory", f(i)));

describe("a leak", () => {
  const leak = policy([{ name: "leak", trend: {} }]);
  const telemetry = telemetryAt();
  allMemory(telemetry, (i) => (t) => 100 * MB + (i === 1 ? 0.5 * MB * t : 0));
  const signal = only(leak, payments, telemetry);
  test("is the replica's, in one sentence with its numbers", () => {
    const d = diagnose(signal, leak, [payments, bank], edges, telemetry, NOW);
    assert.equal(d.cause, "MemoryLeak");
    assert.equal(d.remediationTarget.uid, "uid-payments-2");
    assert.equal(d.workload.uid, "uid-payments");
    assert.equal(d.rootCauseKey, "MemoryLeak/Workload/default/payments");
    assert.match(d.summary, /^payments-2 leaks: 500\.0 kB\/s over \d+ (s|min), 99\.9% confidence, memory limit in \d+ (s|min)$/);
    assert.deepEqual(d.missing, []);
  });
  test("is never a dependency's fault", () => {
    requests(telemetry, "bank", () => 1);
    assert.equal(diagnose(signal, leak, [payments, bank], edges, telemetry, NOW).dependency, undefined);
  });
  test("of a replica that is gone is missing", () => {
    const without = { ...payments, replicas: payments.replicas.filter((r) => r.ref.name !== "payments-2") };
    assert.deepEqual(diagnose(signal, leak, [without], NO_GRAPH, telemetry, NOW).missing, ["Process/default/payments-2 is not there"]);
    const exited = {
      ...payments,
      replicas: payments.replicas.map((r) => (r.ref.name === "payments-2" ? { ...r, phase: "Exited" as const } : r)),
    };
    assert.deepEqual(diagnose(signal, leak, [exited], NO_GRAPH, telemetry, NOW).missing, ["payments-2 has exited"]);
  });
});

describe("a dependency", () => {
  const errors = policy([{ name: "errors", errorRate: { above: "20%" } }]);
  const telemetry = telemetryAt();
  requests(telemetry, "payments", () => 0.5);
  requests(telemetry, "bank", () => 0.8);
  const signal = only(errors, payments, telemetry);
  test("that is unhealthy is the cause; the target stays where the policy does not cover it", () => {
    const d = diagnose(signal, errors, [payments, bank], edges, telemetry, NOW);
    assert.equal(d.cause, "DependencyFailure");
    assert.equal(d.dependency?.workload.uid, "uid-bank");
    assert.equal(d.remediationTarget.uid, "uid-payments");
    assert.equal(d.rootCauseKey, "DependencyFailure/Workload/default/bank");
    assert.match(d.summary, /150 of 300 requests to payments failed.*the cause is its dependency: bank is unhealthy: 240 of 300/);
  });
  test("is the target where the policy covers it, and still blocks", () => {
    const both = policy([{ name: "errors", errorRate: { above: "20%" } }], { targets: [{ name: "payments" }, { name: "bank" }] });
    const d = diagnose(signal, both, [payments, bank], edges, telemetry, NOW);
    assert.equal(d.remediationTarget.uid, "uid-bank");
    assert.equal(d.workload.uid, "uid-bank");
    assert.equal(d.dependency?.workload.uid, "uid-bank");
  });
  test("is the cause of a rollout that is stuck, too: new pods that wait for it never become ready", () => {
    const stuck = policy([{ name: "stuck", rollout: { stuckFor: "10m" } }], { ladder: [{ strategy: "RollbackRollout" }] });
    const rolling = { ...payments, rollout: { progressAt: NOW - 1_200_000, deadline: NOW - 600_000, message: "timed out" } };
    const rolled = only(stuck, rolling, telemetry);
    assert.equal(diagnose(rolled, stuck, [rolling, bank], edges, telemetry, NOW).dependency?.workload.uid, "uid-bank");
    assert.equal(diagnose(rolled, stuck, [rolling, bank], edges, telemetryAt(), NOW).dependency, undefined);
  });
  test("of which nothing is known is recorded, and no cause", () => {
    const quiet = telemetryAt();
    requests(quiet, "payments", () => 0.5);
    const d = diagnose(signal, errors, [payments, bank], edges, quiet, NOW);
    assert.equal(d.dependency, undefined);
    assert.equal(d.cause, "HighErrorRate");
    assert.ok(d.evidence.some((e) => e.kind === "Dependency" && e.message.includes("bank is unknown")));
  });
  test("is looked at for a hung replica only when most of its siblings hang too", () => {
    const hung = policy([{ name: "hung", probe: {} }]);
    for (const [count, blamed] of [
      [1, false],
      [2, true],
      [3, true],
    ] as const) {
      const w = workload(
        "payments",
        [1, 2, 3].map((i) => replica("payments", `payments-${i}`, i <= count ? { ready: false, unreadySince: NOW - 60_000 } : {})),
      );
      const [first] = detectSignals(hung, w, telemetry, [], NOW).signals;
      assert.equal(diagnose(first as Signal, hung, [w, bank], edges, telemetry, NOW).dependency !== undefined, blamed, `${count} of 3`);
    }
  });
});

describe("which replica", () => {
  const hot = (more: object[] = [], ladder: object[] = [{ strategy: "RestartPod" }]) =>
    policy([{ name: "hot", alert: { alertname: "TooHot" } }, ...more], { ladder });
  const about = (p: RemediationPolicy, w: Workload, telemetry = telemetryAt()) => {
    const signal = detectSignals(
      policy([{ name: "hot", alert: { alertname: "TooHot" } }]),
      w,
      telemetry,
      [alert({ deployment: "payments" })],
      NOW,
    ).signals[0];
    return diagnose(signal as Signal, p, [w], NO_GRAPH, telemetry, NOW);
  };
  test("is not known without evidence", () => {
    const d = about(hot(), payments);
    assert.equal(d.remediationTarget.uid, "uid-payments");
    assert.deepEqual(d.missing, ["which replica of payments is ill is not known"]);
  });
  test("does not matter to a ladder that begins with the workload", () => {
    assert.deepEqual(about(hot([], [{ strategy: "RollingRestart" }]), payments).missing, []);
    assert.deepEqual(about(hot([], [{ strategy: "Notify", message: "x" }, { strategy: "RollingRestart" }]), payments).missing, []);
    assert.equal(about(hot([], [{ strategy: "Notify", message: "x" }, { runbook: "fix" }]), payments).missing.length, 1);
  });
  test("is the only one that fails its probe", () => {
    const w = workload("payments", [
      replica("payments", "payments-1"),
      replica("payments", "payments-2", { ready: false, unreadySince: NOW - 5_000 }),
    ]);
    const d = about(hot(), w);
    assert.equal(d.remediationTarget.uid, "uid-payments-2");
    assert.deepEqual(d.missing, []);
    assert.match(d.summary, /payments-2 alone fails its readiness probe, for 5 s/);
  });
  test("is the only one that leaks", () => {
    const telemetry = telemetryAt();
    allMemory(telemetry, (i) => (t) => 100 * MB + (i === 2 ? 0.3 * MB * t : 0));
    assert.equal(about(hot([{ name: "leak", trend: {} }]), payments, telemetry).remediationTarget.uid, "uid-payments-3");
  });
  test("is the one whose metric is clearly the worst, and none when two are", () => {
    const telemetry = telemetryAt();
    allMemory(telemetry, (i) => () => (i === 0 ? 300 : 100) * MB);
    assert.equal(about(hot([{ name: "leak", trend: {} }]), payments, telemetry).remediationTarget.uid, "uid-payments-1");
    const even = telemetryAt();
    allMemory(even, (i) => () => (i === 0 ? 150 : 100) * MB);
    assert.equal(about(hot([{ name: "leak", trend: {} }]), payments, even).missing.length, 1);
  });
  test("is the only one there is", () => {
    const w = workload("payments", [replica("payments", "payments-1")]);
    assert.equal(about(hot(), w).remediationTarget.uid, "uid-payments-1");
  });
});

describe("telemetry that ceased", () => {
  const p = policy([
    { name: "hot", alert: { alertname: "TooHot" } },
    { name: "hung", probe: {} },
    { name: "leak", trend: {} },
  ]);
  const hung = workload("payments", [
    replica("payments", "payments-1", { ready: false, unreadySince: NOW - 60_000 }),
    replica("payments", "payments-2"),
  ]);
  const at = (age: number | undefined, step = 5) => {
    const telemetry = telemetryAt();
    if (age !== undefined) record(telemetry, "uid-payments-1", "memory", () => 100 * MB, { age, step });
    record(telemetry, "uid-payments-2", "memory", () => 100 * MB);
    const { signals } = detectSignals(p, hung, telemetry, [alert({ pod: "payments-1" })], NOW);
    return (condition: string) =>
      diagnose(signals.find((s) => s.condition === condition) as Signal, p, [hung], NO_GRAPH, telemetry, NOW).missing;
  };
  test("is missing for an alert: an old one, or one that never came", () => {
    assert.deepEqual(at(5)("alert"), []);
    assert.match(at(31)("alert")[0] ?? "", /no reading of memory of payments-1 since 31 s \(they came every 5 s\)/);
    assert.match(at(undefined)("alert")[0] ?? "", /no reading of memory of payments-1/);
  });
  test("is late only after five usual intervals", () => {
    assert.deepEqual(at(70, 15)("alert"), []);
    assert.equal(at(80, 15)("alert").length, 1);
  });
  test("is part of the symptom of a replica that hangs", () => assert.deepEqual(at(undefined)("probe"), []));
});
