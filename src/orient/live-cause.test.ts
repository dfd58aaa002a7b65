import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Signal } from "../api/signal.ts";
import { LatencyHistogram } from "../observe/latency.ts";
import type { TelemetryStore } from "../observe/store.ts";
import { CallGraph } from "./call-graph.ts";
import { detectSignals } from "./detect.ts";
import { diagnose } from "./diagnose.ts";
import { boundedEvidence, MAX_EVIDENCE, MAX_EVIDENCE_BYTES } from "./evidence.ts";
import { causeEvidence, liveCause } from "./live-cause.ts";
import { dependency, NOW, policy, telemetryAt, workload } from "./testing.ts";

const names = ["shop", "payments", "bank"];
const workloads = names.map((name) => workload(name));
const [shop, , bank] = workloads as [(typeof workloads)[0], (typeof workloads)[0], (typeof workloads)[0]];
const chain = new CallGraph([dependency("shop", "payments"), dependency("payments", "bank")], [], workloads);

type At = (age: number) => { readonly failing?: number; readonly ms?: number; readonly perSecond?: number };

/** An hour of requests, one reading in five seconds; `age` is in seconds. The latencies stray a little, as they do. */
function hour(telemetry: TelemetryStore, name: string, at: At): void {
  for (let age = 3_595; age > 0; age -= 5) {
    const { failing = 0.005, ms = 40, perSecond = 20 } = at(age);
    const total = 5 * perSecond;
    const latency = new LatencyHistogram();
    latency.add(ms * (1 + 0.05 * Math.sin(age)), total);
    telemetry.recordRequests({ kind: "Workload", namespace: "default", name }, "Otlp", {
      t: NOW - age * 1_000,
      total,
      failed: Math.round(total * failing),
      latency,
    });
  }
}
const since =
  (seconds: number, ill: ReturnType<At>, well: ReturnType<At> = {}, until = 0): At =>
  (age) =>
    age <= seconds && age > until ? ill : well;

function found(of: Readonly<Record<string, At>>, onset = 60) {
  const telemetry = telemetryAt();
  for (const [name, at] of Object.entries(of)) hour(telemetry, name, at);
  return liveCause(chain.of(shop.ref)!, chain, telemetry, NOW - onset * 1_000, NOW);
}

describe("the live search for the cause", () => {
  test("names the slow service at the bottom, though it fails no request", () => {
    const cause = found({
      shop: since(60, { failing: 0.3, ms: 900 }),
      payments: since(60, { failing: 0.3, ms: 850 }),
      bank: since(60, { ms: 800 }),
    });
    assert.equal(cause?.culprit?.ref.uid, bank.ref.uid);
    const [verdict, first] = causeEvidence(cause);
    assert.match(verdict?.message ?? "", /^cause: default\/bank is the likeliest cause, by its latency/);
    assert.deepEqual([first?.values["rank"], first?.values["service"], first?.values["metric"]], [1, "default/bank", "latency"]);
    assert.match(first?.message ?? "", /latency rose from 39.9 ms to 802 ms/);
  });
  test("names nobody else where the target alone is ill", () => {
    const cause = found({ shop: since(60, { failing: 0.3 }), payments: () => ({}), bank: () => ({}) });
    assert.equal(cause?.culprit, undefined);
    assert.equal(cause?.result.causes[0]?.service, "default/shop");
  });
  test("names nobody where only demand has risen, and says so", () => {
    const cause = found({ shop: since(60, { perSecond: 60 }), payments: since(60, { perSecond: 60 }), bank: since(60, { perSecond: 60 }) });
    assert.deepEqual([cause?.culprit, cause?.result.verdict], [undefined, "none"]);
  });
  test("says what it knows nothing of, which is neither blamed nor well", () => {
    const cause = found({ shop: since(60, { failing: 0.3 }) });
    assert.equal(cause?.culprit, undefined);
    assert.deepEqual(cause?.result.notLookedAt.map(({ service }) => service).sort(), ["default/bank", "default/payments"]);
    assert.match(causeEvidence(cause)[0]?.message ?? "", /nothing is known of default\/payments, default\/bank/);
  });
  test("no longer names what has been well for two minutes, however long the target stays ill", () => {
    const ill = { failing: 0.3, ms: 900 };
    const until = (seconds: number) =>
      found({ shop: since(900, ill), payments: since(900, ill, {}, seconds), bank: since(900, { ms: 800 }, {}, seconds) }, 900);
    assert.equal(until(0)?.culprit?.ref.uid, bank.ref.uid);
    assert.equal(until(150)?.culprit, undefined);
    assert.equal(until(150)?.result.causes[0]?.service, "default/shop");
  });
  test("is not asked where nothing downstream is known", () => {
    assert.equal(liveCause(chain.of(bank.ref)!, chain, telemetryAt(), NOW, NOW), undefined);
  });
});

describe("the diagnosis", () => {
  const errors = policy([{ name: "errors", errorRate: { above: "20%", for: "30s" } }], {
    targets: [{ name: "shop" }],
    ladder: [{ strategy: "RollingRestart" }],
  });
  const signalOf = (telemetry: TelemetryStore): Signal => detectSignals(errors, shop, telemetry, [], NOW).signals[0] as Signal;
  const searching = (telemetry: TelemetryStore, graph: CallGraph) => {
    const signal = signalOf(telemetry);
    return diagnose(signal, errors, workloads, graph, telemetry, NOW, {
      search: (ref) => liveCause(graph.of(ref)!, graph, telemetry, signal.startsAt, NOW),
    });
  };
  test("leaves the target alone while statistics name another, with the ranking as evidence", () => {
    const telemetry = telemetryAt();
    hour(telemetry, "shop", since(60, { failing: 0.3, ms: 900 }));
    hour(telemetry, "payments", since(60, { failing: 0.05, ms: 880 }));
    hour(telemetry, "bank", since(60, { ms: 870 }));
    const d = searching(telemetry, chain);
    assert.equal(d.dependency?.workload.uid, bank.ref.uid);
    assert.equal(d.remediationTarget.uid, shop.ref.uid);
    assert.match(d.dependency?.message ?? "", /bank is the likeliest cause, by its latency \(score 0\.\d+\)/);
    assert.ok(d.evidence.some(({ kind, values }) => kind === "RootCause" && values["rank"] === 1));
  });
  test("waits for a search that has not had its turn", () => {
    const telemetry = telemetryAt();
    hour(telemetry, "shop", since(60, { failing: 0.3 }));
    const d = diagnose(signalOf(telemetry), errors, workloads, chain, telemetry, NOW, { search: () => "Later" });
    assert.match(d.missing[0] ?? "", /has not been looked at yet/);
  });
  test("takes a service that calls were seen to for ill, but not for failing as it always does", () => {
    const at = (usual: number) => {
      const telemetry = telemetryAt();
      hour(telemetry, "shop", since(60, { failing: 0.3 }));
      for (let age = 3_595; age > 0; age -= 5)
        telemetry.graph.recordCalls("Spans", {
          client: { name: "shop" },
          server: { name: "api.stripe.com" },
          kind: "External",
          t: NOW - age * 1_000,
          requests: 50,
          failed: 50 * (age <= 90 ? 0.3 : usual),
        });
      return searching(telemetry, new CallGraph([], telemetry.graph.calls(), workloads)).dependency?.workload;
    };
    assert.deepEqual(at(0), { kind: "Service", namespace: "external", name: "api.stripe.com" });
    assert.equal(at(0.3), undefined);
  });
  test("of a target that no graph knows is as it always was", () => {
    const telemetry = telemetryAt();
    hour(telemetry, "shop", since(60, { failing: 0.3 }));
    const none = new CallGraph([], [], workloads);
    const signal = signalOf(telemetry);
    const d = diagnose(signal, errors, workloads, none, telemetry, NOW);
    assert.deepEqual([d.dependency, d.missing, d.evidence.length], [undefined, [], signal.evidence.length]);
  });
});

test("evidence is bounded in size, keeps what speaks for the diagnosis, and says how much is left out", () => {
  const piece = (i: number, state: string) => ({
    kind: "Dependency" as const,
    message: `${i} ${"é".repeat(2_000)}`,
    values: { state, ...Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`k${n}`, "v".repeat(1_000)])) },
  });
  const all = Array.from({ length: 1_000 }, (_, i) => piece(i, i === 999 ? "Unhealthy" : "Healthy"));
  const kept = boundedEvidence(all);
  assert.ok(Buffer.byteLength(JSON.stringify(kept)) <= MAX_EVIDENCE_BYTES, `${Buffer.byteLength(JSON.stringify(kept))} bytes`);
  assert.ok(kept.length <= MAX_EVIDENCE);
  assert.match(kept[0]?.message ?? "", /^999 /);
  assert.equal(kept.at(-1)?.values["leftOut"], 1_000 - (kept.length - 1));
  const few = [{ kind: "Alert" as const, message: "it fires", values: { v: 1 } }];
  assert.deepEqual(boundedEvidence(few), few);
});
