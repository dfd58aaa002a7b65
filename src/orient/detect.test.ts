import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { TargetRef } from "../api/meta.ts";
import { FAILED_REQUESTS } from "../observe/exemplars.ts";
import { TelemetryStore } from "../observe/store.ts";
import { detectSignals, targetsOf, undecidedText } from "./detect.ts";
import type { PromqlAnswer, PromqlProblem, PromqlQuery } from "../observe/promql.ts";
import { normal, seeded } from "./shapes.ts";
import { alert, NOW, policy, record, replica, requests, telemetryAt, workload } from "./testing.ts";

const payments = workload("payments");
const [first] = payments.replicas;
assert.ok(first);
const MB = 1e6;

describe("trend", () => {
  const leak = policy([{ name: "leak", trend: {} }]);
  test("fires for the replica that leaks, and says the numbers", () => {
    const telemetry = telemetryAt();
    record(telemetry, "uid-payments-1", "memory", () => 100 * MB);
    record(telemetry, "uid-payments-2", "memory", (t) => 100 * MB + 0.5 * MB * t);
    record(telemetry, "uid-payments-3", "memory", () => 100 * MB);
    const { signals, missing } = detectSignals(leak, payments, telemetry, [], NOW);
    assert.deepEqual(missing, []);
    assert.equal(signals.length, 1);
    const [signal] = signals;
    assert.equal(signal?.target.name, "payments-2");
    assert.equal(signal?.cause, "MemoryLeak");
    assert.equal(signal?.source, "HostProbe");
    assert.equal(signal?.seenAt, NOW);
    assert.equal(signal?.fingerprint, "policy-uid/leak/Process/default/payments-2#uid-payments-2");
    assert.ok((signal?.confidence ?? 0) >= 0.95);
    assert.match(signal?.evidence[0]?.message ?? "", /payments-2.*500\.0 kB\/s/);
  });
  test("is silent when the limit is further away than the horizon, or than growth has been seen", () => {
    const telemetry = telemetryAt();
    // 106 MB after ten minutes.
    for (const { ref } of payments.replicas) record(telemetry, ref.uid, "memory", (t) => 100 * MB + 0.01 * MB * t);
    const fires = (trend: object): number => detectSignals(policy([{ name: "leak", trend }]), payments, telemetry, [], NOW).signals.length;
    assert.equal(fires({ limit: "110M", horizon: "5m" }), 0, "400 s away");
    assert.equal(fires({ limit: "110M", horizon: "10m" }), 3);
    assert.equal(fires({ limit: "114M", horizon: "2d" }), 0, "800 s away, and seen for 600 s");
  });
  test("no readings, stale readings and no limit are missing, never a signal", () => {
    const telemetry = telemetryAt();
    record(telemetry, "uid-payments-1", "memory", (t) => 100 * MB + 0.3 * MB * t, { age: 31 });
    const unlimited = replica("payments", "payments-3", { memory: { bytes: 1e8 } });
    record(telemetry, "uid-payments-3", "memory", (t) => 100 * MB + 0.3 * MB * t);
    const { signals, missing } = detectSignals(
      leak,
      { ...payments, replicas: [...payments.replicas.slice(0, 2), unlimited] },
      telemetry,
      [],
      NOW,
    );
    assert.deepEqual(signals, []);
    assert.equal(missing.length, 3);
    assert.match(missing[0] ?? "", /no reading of memory of payments-1 since 31 s/);
    assert.match(missing[1] ?? "", /no reading of memory of payments-2 in the last 5 min|300 s/);
    assert.match(missing[2] ?? "", /no memory limit of payments-3/);
  });
  test("a replica that was never ready, and one's first seconds, are not looked at", () => {
    const telemetry = telemetryAt();
    const young = replica("payments", "young", { startedAt: NOW - 14_000 });
    const starting = replica("payments", "starting", { everReady: false, ready: false });
    record(telemetry, "uid-young", "memory", (t) => 100 * MB + 5 * MB * t, { span: 14, step: 1 });
    record(telemetry, "uid-starting", "memory", (t) => 100 * MB + 0.3 * MB * t);
    assert.deepEqual(detectSignals(leak, workload("payments", [young, starting]), telemetry, [], NOW), {
      signals: [],
      undecided: [],
      missing: [],
      blind: [],
    });
  });
});

describe("the first quarter of an hour of a replica, looked at every ten seconds", () => {
  const leak = policy([{ name: "leak", trend: {} }]);
  const SPAN = 900;
  /** Seconds into its life at which the signal fires first; undefined when it never does. `limit` in bytes. */
  const firesAt = (life: (t: number) => number, limit: number): number | undefined => {
    const telemetry = telemetryAt();
    const one = replica("payments", "one", { startedAt: NOW - SPAN * 1000, memory: { bytes: 1e8, limitBytes: limit } });
    record(telemetry, one.ref.uid, "memory", life, { span: SPAN, step: 2 });
    const w = workload("payments", [one]);
    for (let t = 20; t <= SPAN; t += 10) if (detectSignals(leak, w, telemetry, [], NOW - (SPAN - t) * 1000).signals.length > 0) return t;
    return undefined;
  };
  const lives = (make: (random: () => number, base: number) => (t: number) => number, limitOf: number): number[] =>
    Array.from({ length: 20 }, (_, seed) => {
      const random = seeded(seed * 7919 + 3);
      const base = 40 * MB * 10 ** random();
      const f = make(random, base);
      const noise = 0.003 * base;
      return firesAt((t) => base + f(t) + noise * normal(random), limitOf * base) ?? Infinity;
    });
  const rare = (fired: readonly number[]): void =>
    assert.ok(fired.filter(Number.isFinite).length <= 2, `fired at ${fired.filter(Number.isFinite).join(", ")} s`);
  test("teeth are no leak, also while the first is all there is to see", () =>
    rare(
      lives((random, base) => {
        const period = 10 * 30 ** random();
        return (t) => 0.6 * base * ((t / period) % 1);
      }, 2.5),
    ));
  test("a warm-up is none, also while it is a line", () =>
    rare(
      lives((random, base) => {
        const tau = 10 * 60 ** random();
        return (t) => base * (1 - Math.exp(-t / tau));
      }, 3),
    ));
  test("a leak is found with a third of its life left, however fast", () => {
    for (const full of [120, 900]) {
      const fired = lives((_, base) => (t) => (base * t) / full, 2);
      assert.ok(
        fired.every((t) => t <= (2 / 3) * full),
        `full after ${full} s, found after ${fired.join(", ")} s`,
      );
    }
  });
});

describe("probe", () => {
  const hung = policy([{ name: "hung", probe: { failingFor: "10s" } }]);
  const at = (more: object) =>
    detectSignals(hung, workload("payments", [replica("payments", "payments-1", more)]), telemetryAt(), [], NOW).signals;
  test("fires from failingFor on", () => {
    assert.equal(at({ ready: false, unreadySince: NOW - 9_999 }).length, 0);
    const [signal] = at({ ready: false, unreadySince: NOW - 10_000 });
    assert.equal(signal?.cause, "Unresponsive");
    assert.equal(signal?.startsAt, NOW - 10_000);
  });
  test("not for what was never ready, is stopping or has no break recorded", () => {
    assert.equal(at({ ready: false, everReady: false, unreadySince: NOW - 60_000 }).length, 0);
    assert.equal(at({ ready: false, phase: "Stopping", unreadySince: NOW - 60_000 }).length, 0);
    assert.equal(at({ ready: false }).length, 0);
  });
});

describe("errorRate", () => {
  const errors = policy([{ name: "errors", errorRate: { above: "20%", for: "30s" } }]);
  const at = (failing: (age: number) => number, more: { span?: number; perSecond?: number; age?: number } = {}) => {
    const telemetry = telemetryAt();
    requests(telemetry, "payments", failing, more);
    return detectSignals(errors, payments, telemetry, [], NOW);
  };
  test("fires for the workload when every part of the span is above", () => {
    const [signal] = at(() => 0.5).signals;
    assert.equal(signal?.target.name, "payments");
    assert.match(signal?.evidence[0]?.message ?? "", /150 of 300 requests to payments failed in 30 s: 50%, above 20%/);
  });
  test("began when it did, at whatever time it is looked at", () => {
    const telemetry = telemetryAt();
    requests(telemetry, "payments", (age) => (age <= 300 ? 0.5 : 0), { span: 900 });
    const began = [0, 1_100, 3_700, 9_900, 60_000].map(
      (ago) => detectSignals(errors, payments, telemetry, [], NOW - ago).signals[0]?.startsAt ?? NaN,
    );
    assert.equal(new Set(began).size, 1, String(began));
    assert.ok(Math.abs(NOW - 300_000 - (began[0] ?? NaN)) <= 10_000, `${NOW - (began[0] ?? NaN)} ms ago`);
    const [short] = at(() => 0.5, { span: 32 }).signals;
    assert.ok(short !== undefined && short.startsAt <= NOW - 20_000);
  });
  test("not at the threshold, and not for a burst", () => {
    assert.equal(at(() => 0.2).signals.length, 0);
    assert.equal(at((age) => (age <= 10 ? 1 : 0)).signals.length, 0);
    assert.equal(at((age) => (age > 10 && age <= 20 ? 0 : 1)).signals.length, 0);
  });
  test("not before the span is over", () => assert.equal(at(() => 1, { span: 15 }).signals.length, 0));
  test("too few requests are no evidence; none at all is missing", () => {
    assert.deepEqual(at(() => 1, { perSecond: 0 }).signals, []);
    const silent = at(() => 1, { age: 60 });
    assert.deepEqual(silent.signals, []);
    assert.match(silent.missing[0] ?? "", /nothing was heard of requests to payments in the last 30 s/);
  });
});

describe("metric", () => {
  const at = (condition: object, f: (t: number) => number, more: { span?: number; step?: number; age?: number } = {}) => {
    const telemetry = telemetryAt();
    record(telemetry, "uid-payments-1", "queue", f, more);
    return detectSignals(
      policy([{ name: "queue", metric: { name: "queue", ...condition } }]),
      workload("payments", [first]),
      telemetry,
      [],
      NOW,
    );
  };
  test("fires when beyond for the whole span", () => {
    assert.equal(at({ above: 100 }, () => 101).signals.length, 1);
    assert.equal(at({ below: 5 }, () => 1).signals.length, 1);
    assert.match(at({ above: 100 }, () => 101).signals[0]?.evidence[0]?.message ?? "", /queue of payments-1 is 101, above 100/);
  });
  test("not at the threshold, after a dip, or before the span is over", () => {
    assert.equal(at({ above: 100 }, () => 100).signals.length, 0);
    assert.equal(at({ above: 100 }, (t) => (t === 585 ? 99 : 101)).signals.length, 0);
    assert.equal(at({ above: 100 }, () => 101, { span: 20 }).signals.length, 0);
  });
  const readAt = (condition: object, readings: readonly (readonly [number, number])[], more: Partial<typeof first> = {}) => {
    const telemetry = telemetryAt();
    for (const [age, v] of readings) telemetry.recordReplica("uid-payments-1", "queue", "", { t: NOW - age * 1000, v });
    const spec = policy([{ name: "queue", metric: { name: "queue", ...condition } }]);
    return detectSignals(spec, workload("payments", [{ ...first, ...more }]), telemetry, [], NOW);
  };
  const every5s = (from: number, to: number, v: number): [number, number][] =>
    Array.from({ length: (from - to) / 5 + 1 }, (_, i) => [from - 5 * i, v]);
  test("a gap is no time in which it was beyond: that is missing, unless it was well before", () => {
    const gap = readAt({ above: 100, for: "60s" }, [...every5s(300, 200, 101), ...every5s(20, 0, 101)]);
    assert.deepEqual([gap.signals, gap.blind], [[], ["queue"]]);
    assert.match(gap.missing[0] ?? "", /queue of payments-1 is known for 20 s without a break.*which takes 60 s/);
    const better = readAt({ above: 100, for: "60s" }, [...every5s(300, 200, 99), ...every5s(20, 0, 101)]);
    assert.deepEqual([better.signals, better.missing], [[], []]);
    assert.equal(readAt({ above: 100, for: "60s" }, every5s(60, 0, 101)).signals.length, 1);
  });
  test("what was started again and is as it was is not well, also before it has been beyond for long enough", () => {
    const again = { startedAt: NOW - 60_000 };
    const readings = every5s(600, 0, 101);
    const { signals, missing } = readAt({ above: 100, for: "5m" }, readings, again);
    assert.equal(signals.length, 0);
    assert.match(missing[0] ?? "", /is known for 60 s without a break/);
    const healed = readAt({ above: 100, for: "5m" }, [...every5s(600, 65, 101), ...every5s(60, 0, 50)], again);
    assert.deepEqual([healed.signals, healed.missing], [[], []]);
  });
  test("what a process said before it was started again is no part of a sum", () => {
    const telemetry = telemetryAt();
    for (let age = 290; age >= 0; age -= 10)
      telemetry.recordReplica("uid-payments-1", "queue", age > 120 ? '"pid":1' : '"pid":2', { t: NOW - age * 1000, v: 60 });
    const spec = policy([{ name: "queue", metric: { name: "queue", above: 100, for: "60s" } }]);
    const look = (startedAt: number) =>
      detectSignals(spec, workload("payments", [{ ...first, startedAt }]), telemetry, [], NOW).signals.length;
    assert.equal(look(NOW - 125_000), 0);
    assert.equal(look(NOW - 600_000), 1, "two processes of one replica are both there");
  });
  test("one reading is not enough, and a stale one is missing", () => {
    assert.equal(at({ above: 100, for: "0s" }, () => 101, { span: 0 }).signals.length, 0);
    const stale = at({ above: 100 }, () => 101, { age: 40 });
    assert.deepEqual([stale.signals.length, stale.missing.length], [0, 1]);
  });
});

describe("alert", () => {
  const hot = policy([{ name: "hot", alert: { alertname: "TooHot", matchLabels: { severity: "page" } } }]);
  const at = (labels: Record<string, string>, more = {}) =>
    detectSignals(hot, payments, telemetryAt(), [alert({ severity: "page", ...labels }, more)], NOW).signals;
  test("names a replica by its name or uid", () => {
    for (const [key, value] of [
      ["pod", "payments-2"],
      ["replica", "payments-2"],
      ["instance", "uid-payments-2"],
      ["service_instance_id", "uid-payments-2"],
    ] as const)
      assert.equal(at({ [key]: value })[0]?.target.uid, "uid-payments-2");
  });
  test("names a workload", () => {
    for (const key of ["deployment", "statefulset", "daemonset", "workload", "service", "service_name", "job"])
      assert.equal(at({ [key]: "payments" })[0]?.target.uid, "uid-payments", key);
    assert.equal(at({ job: "payments", instance: "10.0.0.1:80" })[0]?.target.name, "payments");
  });
  test("names a Deployment or a StatefulSet, and never the other of the same name", () => {
    const of = (kind: string, labels: Record<string, string>) =>
      detectSignals(hot, { ...payments, ref: { ...payments.ref, kind } }, telemetryAt(), [alert({ severity: "page", ...labels })], NOW)
        .signals;
    assert.equal(of("Deployment", { deployment: "payments" }).length, 1);
    assert.equal(of("StatefulSet", { statefulset: "payments", service: "payments" }).length, 1);
    assert.equal(of("StatefulSet", { deployment: "payments" }).length, 0);
    assert.equal(of("StatefulSet", { deployment: "payments", service: "payments" }).length, 0);
    assert.equal(of("DaemonSet", { deployment: "payments" }).length, 0);
    assert.equal(of("Deployment", { statefulset: "payments" }).length, 0);
    assert.equal(of("DaemonSet", { service: "payments" }).length, 1);
    assert.equal(of("DaemonSet", { daemonset: "payments" }).length, 1);
    assert.equal(of("Deployment", { daemonset: "payments", service: "payments" }).length, 0);
  });
  test("of an exporter that tells of others is about them, and never about the exporter", () => {
    // kube-state-metrics without honor_labels: `pod`, `namespace` and the like are its own.
    const own = { namespace: "monitoring", pod: "payments-3", job: "payments", service: "payments", instance: "uid-payments-3" };
    const of = (labels: Record<string, string>) => at({ ...own, ...labels }).map(({ target }) => target.name);
    assert.deepEqual(of({ exported_namespace: "default", exported_pod: "payments-2" }), ["payments-2"]);
    assert.deepEqual(of({ namespace: "default", exported_pod: "payments-2" }), ["payments-2"]);
    assert.deepEqual(of({ exported_namespace: "default", deployment: "payments" }), ["payments"]);
    assert.deepEqual(of({ exported_namespace: "other", exported_pod: "payments-2" }), []);
    assert.deepEqual(of({ namespace: "default", exported_node: "n1" }), []);
    // An application that has such a label itself is still who it is.
    assert.deepEqual(of({ namespace: "default", exported_service: "bank", exported_job: "nightly" }), ["payments-3"]);
  });
  test("what names no namespace is nobody's where another namespace has that name, too", () => {
    const graph = (): never => assert.fail("nobody asks for it");
    const names = { graph, hasNamesake: ({ name }: TargetRef) => name !== "payments-1" };
    const look = (labels: Record<string, string>) => {
      const { signals, missing } = detectSignals(hot, payments, telemetryAt(), [alert({ severity: "page", ...labels })], NOW, names);
      return [signals.map(({ target }) => target.name), missing.length];
    };
    assert.deepEqual(look({ pod: "payments-2" }), [[], 1]);
    assert.deepEqual(look({ deployment: "payments" }), [[], 1]);
    assert.deepEqual(look({ pod: "payments-2", namespace: "default" }), [["payments-2"], 0]);
    assert.deepEqual(look({ pod: "payments-1" }), [["payments-1"], 0]);
    assert.deepEqual(look({ instance: "uid-payments-2" }), [["payments-2"], 0]);
  });
  test("a replica that is not there is named, and never widened to the workload", () => {
    assert.deepEqual(at({ deployment: "payments", pod: "payments-9" })[0]?.target, {
      kind: "Process",
      namespace: "default",
      name: "payments-9",
    });
  });
  test("other names, other namespaces, other labels and inherited ones give nothing", () => {
    assert.deepEqual(at({}), []);
    assert.deepEqual(at({ deployment: "storefront" }), []);
    assert.deepEqual(at({ deployment: "payments", namespace: "other" }), []);
    assert.deepEqual(detectSignals(hot, payments, telemetryAt(), [alert({ deployment: "payments" })], NOW).signals, []);
    assert.deepEqual(at({ deployment: "payments" }, { alertname: "TooCold" }), []);
  });
  test("one that is silenced is no signal, and nothing that is missing; where another fires for the same, that one counts", () => {
    const silenced = alert({ severity: "page", pod: "payments-2" }, { suppressed: true });
    const seen = detectSignals(hot, payments, telemetryAt(), [silenced], NOW);
    assert.deepEqual([seen.signals, seen.missing, seen.blind], [[], [], []]);
    assert.deepEqual(
      [seen.undecided[0]?.target.name, seen.undecided[0]?.evidence[0]?.message],
      ["payments-2", "alert TooHot is silenced or inhibited for payments-2"],
    );
    const both = detectSignals(hot, payments, telemetryAt(), [silenced, alert({ severity: "page", pod: "payments-2", x: "1" })], NOW);
    assert.deepEqual([both.signals.length, both.undecided], [1, []]);
    const over = detectSignals(hot, payments, telemetryAt(), [{ ...silenced, status: "resolved" }], NOW);
    assert.deepEqual([over.signals[0]?.state, over.undecided], ["Resolved", []]);
  });
  test("one that began before its replica was made may be about another of that name: for two minutes that is missing", () => {
    const look = (made: Partial<typeof first>, labels: Record<string, string> = {}) => {
      const told = alert({ severity: "page", pod: "payments-1", ...labels });
      const of = workload("payments", [{ ...first, ...made }]);
      const [signal] = detectSignals(hot, of, telemetryAt(), [told], NOW).signals;
      return [signal?.state, signal?.missing?.[0]];
    };
    const why = "the alert of hot began before payments-1 was made: it may be about the one before it";
    assert.deepEqual(look({ startedAt: NOW - 10_000 }), ["Firing", why]);
    assert.deepEqual(look({ startedAt: NOW - 10_000, createdAt: NOW - 61_000 }), ["Firing", undefined], "it was there when it began");
    assert.deepEqual(look({ startedAt: NOW - 10_000 }, { uid: "uid-payments-1" }), ["Firing", undefined]);
    const old = alert({ severity: "page", pod: "payments-1" }, { startsAt: NOW - 600_000 });
    const [signal] = detectSignals(hot, workload("payments", [{ ...first, startedAt: NOW - 120_000 }]), telemetryAt(), [old], NOW).signals;
    assert.equal(signal?.missing, undefined, "by now its end would have been told");
  });
  test("one that ended as nobody repeated it is neither a signal nor over", () => {
    const expired = alert({ severity: "page", pod: "payments-2" }, { status: "resolved", endsAt: NOW, expired: true });
    const { signals, undecided } = detectSignals(hot, payments, telemetryAt(), [expired], NOW);
    assert.deepEqual([signals, undecided.map(({ target, state }) => [target.name, state])], [[], [["payments-2", "Resolved"]]]);
    assert.match(undecidedText(undecided[0] ?? assert.fail()), /nobody has said that it is over: its Prometheus may be down/);
  });
  test("a resolved alert is a resolved signal; one that fires outranks it", () => {
    assert.equal(at({ pod: "payments-2" }, { status: "resolved" })[0]?.state, "Resolved");
    const both = detectSignals(
      hot,
      payments,
      telemetryAt(),
      [
        alert({ severity: "page", pod: "payments-2" }),
        alert({ severity: "page", pod: "payments-2", x: "1" }, { status: "resolved", receivedAt: NOW }),
      ],
      NOW,
    ).signals;
    assert.deepEqual(
      both.map((s) => s.state),
      ["Firing"],
    );
  });
});

test("targets: name or labels, in the policy's namespace only", () => {
  const elsewhere = { ...payments, ref: { ...payments.ref, namespace: "other" } };
  const bank = workload("bank");
  assert.deepEqual(targetsOf(policy([{ name: "p", probe: {} }]), [payments, bank, elsewhere]), [payments]);
  assert.deepEqual(
    targetsOf(policy([{ name: "p", probe: {} }], { targets: [{ selector: { matchLabels: { app: "bank" } } }] }), [payments, bank]),
    [bank],
  );
  assert.deepEqual(targetsOf(policy([{ name: "p", probe: {} }], { targets: [{ kind: "StatefulSet", name: "payments" }] }), [payments]), []);
});

test("a policy for single pods says nothing of their siblings", () => {
  const pods = ["payments-1", "payments-2"].map((name) =>
    replica("payments", name, {
      ref: { kind: "Pod", namespace: "default", name, uid: `uid-${name}` },
      ready: false,
      unreadySince: NOW - 60_000,
    }),
  );
  const one = policy([{ name: "hung", probe: {} }], { targets: [{ kind: "Pod", name: "payments-2" }] });
  assert.deepEqual(
    detectSignals(one, workload("payments", pods), telemetryAt(), [], NOW).signals.map((s) => s.target.name),
    ["payments-2"],
  );
});

describe("promql", () => {
  const full = policy([{ name: "full", promql: { query: "in_use / size", above: 0.9, for: "30s" } }]);
  const STEPS = [NOW - 30_000, NOW - 15_000, NOW];
  const row = (labels: Record<string, string>, ...values: (number | undefined)[]) => ({
    labels,
    samples: STEPS.flatMap((t, index) => (values[index] === undefined ? [] : [{ t, v: values[index] }])),
  });
  const look = (answer: PromqlAnswer | PromqlProblem | undefined, of = full) => {
    const telemetry = telemetryAt();
    const asked: PromqlQuery[] = [];
    telemetry.promql = (query) => {
      asked.push(query);
      return answer;
    };
    const { signals, missing, blind } = detectSignals(of, payments, telemetry, [], NOW);
    return { signals, missing, blind, asked, targets: signals.map(({ target }) => target.name) };
  };
  const rows = (...all: ReturnType<typeof row>[]): PromqlAnswer => ({ steps: STEPS, rows: all });
  const well = row({ workload: "payments" }, 0.1, 0.1, 0.1);

  test("fires for what a row names that is beyond the threshold at every step, with the numbers", () => {
    const { signals, missing, asked } = look(
      rows(
        row({ pod: "payments-1" }, 0.95, 0.96, 0.97),
        row({ pod: "payments-2" }, 0.2, 0.95, 0.95),
        row({ pod: "payments-3" }, 1, 1, 0.9),
      ),
    );
    assert.deepEqual(missing, []);
    assert.deepEqual(asked, [{ query: "in_use / size", rangeMs: 30_000, everyMs: 30_000 }]);
    const [signal, ...others] = signals;
    assert.deepEqual(
      [signal?.target.name, signal?.source, signal?.cause, others.length],
      ["payments-1", "Prometheus", "MetricThreshold", 0],
    );
    assert.deepEqual([signal?.startsAt, signal?.seenAt], [NOW - 30_000, NOW]);
    assert.deepEqual(signal?.evidence[0]?.values, { query: "in_use / size", value: 0.97, threshold: 0.9, readings: 3, forSeconds: 30 });
  });

  test("below works the other way round, and a workload is named by its own label", () => {
    const slow = policy([{ name: "slow", promql: { query: "rate", below: 5, for: "30s" } }]);
    assert.deepEqual(look(rows(row({ deployment: "payments" }, 4, 4, 4.9)), slow).targets, ["payments"]);
    assert.deepEqual(look(rows(row({ deployment: "payments" }, 4, 4, 5)), slow).targets, []);
    assert.deepEqual(look(rows(row({ deployment: "payments", namespace: "elsewhere" }, 4, 4, 4)), slow).targets, []);
  });

  test("a gap in what is beyond is missing data, never a run and never well; and so is a row without its newest value", () => {
    for (const values of [
      [1, undefined, 1],
      [undefined, 1, 1],
    ]) {
      const gap = look(rows(row({ workload: "payments" }, ...values)));
      assert.deepEqual([gap.targets, gap.blind], [[], ["full"]]);
      assert.match(gap.missing[0] ?? "", /2 of the 3 readings of payments that 30 s take/);
    }
    for (const values of [
      [1, undefined, 0.5],
      [0.5, undefined, 1],
    ]) {
      const better = look(rows(row({ workload: "payments" }, ...values)));
      assert.deepEqual([better.targets, better.missing], [[], []], "it was well within that time");
    }
    const ended = look(rows(row({ workload: "payments" }, 1, 1, undefined)));
    assert.deepEqual([ended.targets, ended.blind], [[], ["full"]]);
    assert.match(ended.missing[0] ?? "", /no row for payments/);
  });

  test("no rows, rows of others and no answer are missing data, never ill and never well", () => {
    for (const answer of [rows(), rows(row({ pod: "ledger-1" }, 1, 1, 1)), rows(row({}, 1, 1, 1))])
      assert.match(look(answer).missing.join(), /has no row for payments/);
    assert.match(look({ problem: "it answered 503" }).missing.join(), /without an answer: it answered 503/);
    assert.match(look(undefined).missing.join(), /not answered yet/);
    assert.match(detectSignals(full, payments, telemetryAt(), [], NOW).missing.join(), /no Prometheus is configured/);
  });

  test("a replica without a row among others with one is missing; one that is gone is not looked at", () => {
    const { targets, missing } = look(rows(row({ pod: "payments-1" }, 1, 1, 1), row({ pod: "payments-gone" }, 1, 1, 1)));
    assert.deepEqual(targets, ["payments-1"]);
    assert.deepEqual(
      missing.map((text) => text.split(" ").at(-1)),
      ["payments-2", "payments-3"],
    );
    assert.deepEqual(look(rows(well, row({ pod: "payments-1" }, 1, 1, 1))).missing, []);
  });

  test("what was before a replica was made is of another that had its name: it is missing, neither ill nor well", () => {
    const lookAt = (made: Partial<typeof first>, ...values: number[]) => {
      const telemetry = telemetryAt();
      telemetry.promql = () => rows(row({ pod: "payments-1" }, ...values));
      return detectSignals(full, workload("payments", [{ ...first, ...made }]), telemetry, [], NOW);
    };
    const fresh = lookAt({ startedAt: NOW - 20_000 }, 1, 1, 1);
    assert.deepEqual([fresh.signals, fresh.blind], [[], ["full"]]);
    assert.match(fresh.missing[0] ?? "", /only 2 of the 3 readings of payments-1/);
    const better = lookAt({ startedAt: NOW - 20_000 }, 1, 0.5, 0.5);
    assert.deepEqual([better.signals, better.missing], [[], []]);
    assert.match(lookAt({ startedAt: NOW + 1 }, 1, 1, 1).missing[0] ?? "", /no row for payments/, "the answer is older than it");
    const inPlace = lookAt({ startedAt: NOW - 20_000, createdAt: NOW - 3_600_000 }, 1, 1, 1);
    assert.equal(inPlace.signals.length, 1, "a container that was started again is of the same pod");
  });

  test("of two rows for one target one that is beyond suffices", () => {
    const { targets } = look(rows(well, row({ workload: "payments", container: "b" }, 1, 1, 1)));
    assert.deepEqual(targets, ["payments"]);
  });
});

describe("example traces", () => {
  test("of a metric that fires, and of requests that fail, are in the evidence; nothing is decided by them", () => {
    const telemetry = telemetryAt();
    const busy = policy([
      { name: "busy", metric: { name: "queue", above: 5, for: "30s" } },
      { name: "errors", errorRate: { above: "5%", for: "30s" } },
    ]);
    const look = () => detectSignals(busy, payments, telemetry, [], NOW).signals.map(({ evidence }) => evidence[0]?.values["traceIds"]);
    record(telemetry, "uid-payments-1", "queue", () => 9, { span: 60 });
    requests(telemetry, "payments", () => 0.5);
    assert.deepEqual(look(), [undefined, undefined]);
    telemetry.recordTraces("uid-payments-1", "queue", ["old"], NOW - 600_000);
    telemetry.recordTraces("uid-payments-1", "queue", ["a", "b"], NOW - 1_000);
    for (const i of [1, 2, 3]) telemetry.recordTraces(`uid-payments-${i}`, FAILED_REQUESTS, [`e${i}`, `f${i}`], NOW - 1_000);
    assert.deepEqual(look(), ["a,b", "e1,f1,e2"]);
  });
});

describe("log", () => {
  const pool = policy([{ name: "pool", log: { body: "pool (exhausted|timed out)", above: 2, window: "1m" } }]);
  const line = (t: number, body = "connection pool exhausted: 50 of 50", severity = 17, traceId = "") => ({
    t,
    severity,
    body,
    attributes: new Map<string, string>(),
    traceId,
  });
  /** A store that has counted for ten minutes, and replicas that were heard of. */
  const counting = () => {
    const time = { now: NOW - 600_000 };
    const telemetry = new TelemetryStore({ now: () => time.now, monotonic: () => time.now, after: () => () => undefined });
    detectSignals(pool, payments, telemetry, [], time.now);
    time.now = NOW;
    for (const { ref } of payments.replicas) telemetry.recordLog(ref.uid, line(time.now, "hello", 9));
    return { telemetry, time, look: () => detectSignals(pool, payments, telemetry, [], time.now) };
  };

  test("fires for the replica that logs more than the number, and says how many, with traces and without the text", () => {
    const { telemetry, look } = counting();
    const trace = "0af7651916cd43dd8448eb211c80319c";
    for (let i = 0; i < 3; i++) telemetry.recordLog("uid-payments-2", line(NOW - 30_000 + i * 1_000, undefined, 17, trace));
    telemetry.recordLog("uid-payments-3", line(NOW - 1_000));
    const { signals, missing } = look();
    assert.deepEqual(missing, []);
    assert.deepEqual(
      signals.map(({ target, source, cause, startsAt, seenAt }) => [target.name, source, cause, NOW - startsAt, NOW - seenAt]),
      [["payments-2", "OpenTelemetry", "LogPattern", 30_000, 28_000]],
    );
    assert.deepEqual(signals[0]?.evidence[0]?.values, {
      replica: "payments-2",
      severity: "ERROR",
      body: "pool (exhausted|timed out)",
      count: 3,
      above: 2,
      windowSeconds: 60,
      traceIds: trace,
    });
    assert.doesNotMatch(JSON.stringify(signals), /50 of 50/);
  });

  test("what is less severe, of other words or too old does not count", () => {
    const { telemetry, look } = counting();
    for (let i = 0; i < 9; i++) {
      telemetry.recordLog("uid-payments-2", line(NOW - 1_000, undefined, 13));
      telemetry.recordLog("uid-payments-2", line(NOW - 1_000, "pool is fine"));
      telemetry.recordLog("uid-payments-2", line(NOW - 62_000));
    }
    assert.deepEqual([look().signals, look().missing], [[], []]);
  });

  test("a replica that never logged, and a time before it was counted, are missing data", () => {
    const telemetry = telemetryAt();
    assert.match(detectSignals(pool, payments, telemetry, [], NOW).missing.join(), /no log record of payments-1 has come over OTLP/);
    for (const { ref } of payments.replicas) telemetry.recordLog(ref.uid, line(NOW));
    const started = detectSignals(pool, payments, telemetry, [], NOW + 20_000);
    assert.deepEqual([started.signals, started.blind], [[], ["pool"]]);
    assert.match(started.missing.join(), /the logs of payments-1 have been counted for 20 s only/);
    for (let i = 0; i < 3; i++) telemetry.recordLog("uid-payments-1", line(NOW));
    assert.equal(detectSignals(pool, payments, telemetry, [], NOW + 20_000).signals.length, 1, "what is there fires at once");
  });

  test("a replica that has ceased to log anything is missing data, and not well", () => {
    const { telemetry, time, look } = counting();
    for (let i = 0; i < 3; i++) telemetry.recordLog("uid-payments-1", line(NOW));
    assert.equal(look().signals.length, 1);
    time.now += 61_000;
    for (const uid of ["uid-payments-2", "uid-payments-3"]) telemetry.recordLog(uid, line(time.now, "hello", 9));
    assert.deepEqual([look().signals, look().missing], [[], ["no log record of payments-1 has come for 61 s"]]);
    telemetry.recordLog("uid-payments-1", line(time.now, "hello", 9));
    assert.deepEqual(look().missing, []);
  });
});
