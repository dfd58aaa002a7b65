// Each rule holds in a world in which it is kept, and is found broken in one in which it is not.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, it } from "node:test";
import { SimTruth } from "../../../../test/support/sim-truth.ts";
import { policy } from "../../../../test/support/harness.ts";
import { API_VERSION } from "../../../api/meta.ts";
import type { ServiceDependency } from "../../../api/dependency.ts";
import { RULES } from "./index.ts";
import type { Rule } from "./rule.ts";

const rule = (name: string): Rule => RULES.find((each) => each.name === name)!;
const ONE = "default/payments-0/0/0";
const DOWN = { verb: "delete" as const };

it("are those of the architecture, each with its own name", () => {
  const text = readFileSync(resolve(import.meta.dirname, "../../../../docs/architecture.md"), "utf8");
  const named = [...text.matchAll(/^- ([SL]\d+) /gm)].map((match) => match[1]);
  assert.deepEqual(
    RULES.map(({ name }) => name),
    named,
  );
});

describe("S1", () => {
  it("holds for one that acts and another that waits", () => {
    const t = new SimTruth(rule("S1"));
    t.episode({ phase: "Verifying" });
    t.episode({ phase: "Blocked" });
    assert.deepEqual(t.broken, []);
  });
  it("is broken by two that act on one workload", () => {
    const t = new SimTruth(rule("S1"));
    t.episode({ phase: "Verifying" });
    t.episode({ phase: "Executing" });
    assert.match(t.broken[0] ?? "", /both act on Deployment\/default\/payments/);
  });
  it("is broken by two that act on one root cause, and by two for one signal", () => {
    const t = new SimTruth(rule("S1"));
    t.episode({ phase: "Executing" });
    t.episode({ phase: "Executing" }, { workload: { kind: "Deployment", namespace: "default", name: "orders" } });
    assert.match(t.broken[0] ?? "", /both act on k/);
    const signal = { ...t.api.list("Remediation")[0]!.spec.signal };
    t.episode({ phase: "Blocked" }, { signal });
    assert.match(t.broken.at(-1) ?? "", /both live for/);
  });
});

describe("S2", () => {
  it("holds for the writes of one effect, and marks that are written again", () => {
    const t = new SimTruth(rule("S2"));
    for (const verb of ["markStopped", "markStopped", "delete"]) t.mutate(ONE, verb, { pod: t.pod() });
    t.mutate("default/payments-0/1/0", "delete", { pod: t.pod() });
    assert.deepEqual(t.broken, []);
  });
  it("is broken by a write that takes place twice", () => {
    const t = new SimTruth(rule("S2"));
    t.mutate(ONE, "delete", { pod: t.pod() });
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.match(t.broken[0] ?? "", /took effect twice/);
  });
  it("is broken by a step that takes effect again under another id, and not by the way back", () => {
    const t = new SimTruth(rule("S2"));
    const undo = t.attempt({ name: "payments-0" }, { effectId: `${ONE}/undo0` }).steps;
    const episode = t.episode({ attempts: [{ ...t.attempt({ name: "payments-0" }, {}), undo }] });
    t.mutate(ONE, "delete", { pod: t.pod() });
    t.mutate(`${ONE}/undo0`, "delete", { pod: t.pod() });
    assert.deepEqual(t.broken, []);
    t.change(episode, { attempts: [t.attempt({ name: "payments-0" }, { effectId: `${ONE}+` })] });
    t.mutate(`${ONE}+`, "delete", { pod: t.pod() });
    assert.match(t.broken[0] ?? "", /took effect twice/);
  });
});

describe("S3", () => {
  const takeDown = (t: SimTruth, index: number): void => {
    const name = `payments-${index}`;
    const pod = t.pod(index);
    t.episode({ attempts: [t.attempt({ name }, {})] });
    t.mutate(`default/${name}/0/0`, DOWN.verb, { pod, change: () => t.world.deletePod(pod) });
    t.check();
  };
  it("holds for one of four where one is allowed", async () => {
    const t = new SimTruth(rule("S3"));
    t.policy();
    await t.pass(100_000);
    takeDown(t, 0);
    assert.deepEqual(t.broken, []);
  });
  it("is broken by a second one, through us", async () => {
    const t = new SimTruth(rule("S3"));
    t.policy();
    await t.pass(100_000);
    takeDown(t, 0);
    takeDown(t, 1);
    assert.match(t.broken[0] ?? "", /2 of 4 replicas of payments unavailable \(2 through us\), policy payments allows 1/);
  });
  it("is broken by one beside another that has been down for long, and not by one beside another that has just gone", async () => {
    for (const known of [true, false]) {
      const t = new SimTruth(rule("S3"));
      t.policy();
      await t.pass(100_000);
      t.world.fallIll(t.pod(3), { fault: 0, kind: "Hang", since: 0, ms: 0, rate: 0 });
      t.check();
      if (known) await t.pass(60_000);
      takeDown(t, 0);
      assert.equal(t.broken.length, known ? 1 : 0);
    }
  });
  it("is broken where the platform team allows less, and where a PodDisruptionBudget does", async () => {
    const t = new SimTruth(rule("S3"));
    t.policy({ budgets: [{ maxUnavailable: 3 }] });
    t.api.create<"RemediationBudget">({
      apiVersion: API_VERSION,
      kind: "RemediationBudget",
      metadata: { name: "platform", namespace: "default" },
      spec: { budgets: [{ maxUnavailable: "10%", timeZone: "UTC", whenRoundsToZero: "Block" }] },
    });
    await t.pass(100_000);
    takeDown(t, 0);
    assert.match(t.broken[0] ?? "", /RemediationBudget platform allows 0/);
    const p = new SimTruth(rule("S3"));
    p.policy({ budgets: [{ maxUnavailable: 3 }] });
    Object.assign(p.payments.spec, { minAvailable: 4 });
    await p.pass(100_000);
    takeDown(p, 0);
    Object.assign(p.payments.spec, { minAvailable: undefined });
    assert.match(p.broken[0] ?? "", /PodDisruptionBudget payments allows 0/);
  });
  it("counts a RemediationBudget in the namespaces that it covers, and in no others", async () => {
    for (const [namespaces, broken] of [
      [["mail"], 0],
      [["mail", "default"], 1],
    ] as const) {
      const t = new SimTruth(rule("S3"));
      t.policy();
      t.api.create<"RemediationBudget">({
        apiVersion: API_VERSION,
        kind: "RemediationBudget",
        metadata: { name: "frozen", namespace: "default" },
        spec: { namespaces: [...namespaces], budgets: [{ maxUnavailable: 0, timeZone: "UTC", whenRoundsToZero: "Block" }] },
      });
      await t.pass(100_000);
      takeDown(t, 0);
      assert.equal(t.broken.length, broken);
    }
  });
});

describe("S3, of nodes", () => {
  const cordon = (t: SimTruth, index = 0): void => {
    const node = t.node(index);
    t.nodeEpisode({ attempts: [t.attempt({ name: "payments-0" }, { type: "cordon" })] });
    t.mutate(ONE, "cordon", { node, effect: { id: ONE, type: "Cordon", replica: t.payments.ref }, change: () => (node.cordonedBy = ONE) });
    t.check();
  };
  it("holds for one of two, and is broken by one beside another that has been ill for long", async () => {
    for (const known of [false, true]) {
      const t = new SimTruth(rule("S3"));
      t.policy({ budgets: [{ maxUnavailable: 5 }] });
      await t.pass(100_000);
      t.world.setNode(t.node(1), false);
      t.check();
      await t.pass(known ? 60_000 : 1_000);
      cordon(t);
      assert.equal(t.broken.length, known ? 1 : 0);
      if (known) assert.match(t.broken[0] ?? "", /2 of 2 nodes unavailable, 1 allowed/);
    }
  });
  it("is broken by one where the platform team allows none", async () => {
    const t = new SimTruth(rule("S3"));
    t.policy({ budgets: [{ maxUnavailable: 0 }] });
    await t.pass(100_000);
    cordon(t);
    assert.match(t.broken[0] ?? "", /1 of 2 nodes unavailable, 0 allowed/);
  });
  it("is broken by two of a workload that are moved away from a node at once, and not by one after the other", async () => {
    for (const atOnce of [true, false]) {
      const t = new SimTruth(rule("S3"));
      t.policy({ budgets: [{ maxUnavailable: 4 }] });
      await t.pass(100_000);
      t.nodeEpisode({ attempts: [t.attempt({ name: "payments-0" }, { type: "drain" })] });
      for (const pod of [t.pod(0), t.pod(1)]) {
        t.mutate(ONE, "delete", {
          pod,
          effect: { id: ONE, type: "Drain", replica: pod.workload.ref },
          change: () => t.world.deletePod(pod),
        });
        t.check();
        if (!atOnce) await t.pass(60_000);
      }
      assert.equal(t.broken.length, atOnce ? 1 : 0, t.broken[0]);
    }
  });
});

describe("S4", () => {
  const begin = (t: SimTruth): void => {
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
    t.mutate(ONE, "delete", { pod: t.pod() });
  };
  it("holds while the alert fires, and shortly after", async () => {
    const t = new SimTruth(rule("S4"));
    t.policy({ maxSignalAge: "10s" });
    t.firing.set(`0|${t.pod().name}|payments`, t.now);
    await t.pass(1_000);
    t.firing.clear();
    await t.pass(60_000);
    begin(t);
    assert.deepEqual(t.broken, []);
  });
  it("is broken by an action on what never was, and on what was long ago", async () => {
    const never = new SimTruth(rule("S4"));
    never.policy();
    begin(never);
    assert.match(never.broken[0] ?? "", /never held/);
    const t = new SimTruth(rule("S4"));
    t.policy({ maxSignalAge: "10s" });
    t.firing.set(`0|${t.pod().name}|payments`, t.now);
    await t.pass(1_000);
    t.firing.clear();
    await t.pass(200_000);
    begin(t);
    assert.match(t.broken[0] ?? "", /was over for/);
  });
  it("is broken by an action on a metric that nobody sends", async () => {
    const t = new SimTruth(rule("S4"));
    t.policy({ signals: [{ name: "ill", trend: {} }] });
    t.telemetryGapSince = t.now;
    await t.pass(90_000);
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] }, { signal: { ...sig, condition: "trend" } });
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.match(t.broken[0] ?? "", /nothing was measured/);
  });
});
const sig = {
  name: "ill",
  condition: "alert",
  source: "Kubernetes",
  startsAt: "2026-01-01T00:00:00Z",
  receivedAt: "2026-01-01T00:00:00Z",
  fingerprint: "x",
};

describe("S5", () => {
  const dependency: ServiceDependency = {
    apiVersion: API_VERSION,
    kind: "ServiceDependency",
    metadata: { name: "d", namespace: "default" },
    spec: { from: { name: "payments" }, to: { name: "orders" }, unhealthyAbove: "10%", window: "30s" },
  };
  for (const [how, errors, seconds, broken, namespace, tracing = false] of [
    ["is broken while orders fails", 0.5, 200, 1, "default"],
    ["holds while orders is well", 0, 200, 0, "default"],
    ["holds where orders has just begun to fail", 0.5, 20, 0, "default"],
    ["holds while orders of another namespace is declared", 0.5, 200, 0, "mail"],
    ["is broken where requests to orders are traced", 0.5, 200, 1, "mail", true],
    ["holds where they are traced and well", 0, 200, 0, "mail", true],
  ] as const)
    it(how, async () => {
      const to = { ...dependency.spec.to, namespace };
      const t = new SimTruth(rule("S5"), { tracing, dependencies: [{ ...dependency, spec: { ...dependency.spec, to } }] });
      t.policy();
      await t.pass(10_000);
      t.world.workloads[1]!.errors = errors;
      t.check();
      await t.pass(seconds * 1_000);
      t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] }, { signal: { ...sig, condition: "errorRate" } });
      t.mutate(ONE, "delete", { pod: t.pod() });
      assert.equal(t.broken.length, broken);
    });
});

describe("S6", () => {
  const strike = (t: SimTruth): void => {
    const attempt = { ...t.attempt({ name: "x" }, {}), outcome: "Ineffective" as const, endedAt: new Date(t.now).toISOString() };
    const episode = t.episode({ attempts: [t.attempt({ name: "x" }, {})] });
    t.change(episode, { attempts: [attempt], phase: "Failed" });
  };
  it("holds for as many attempts as are allowed, and after the circuit's time", async () => {
    const t = new SimTruth(rule("S6"));
    t.policy({ attempts: { max: 2, window: "10m", reset: "5m" } });
    strike(t);
    strike(t);
    await t.pass(301_000);
    strike(t);
    assert.deepEqual(t.broken, []);
  });
  it("is broken by one more", () => {
    const t = new SimTruth(rule("S6"));
    t.policy({ attempts: { max: 2, window: "10m" } });
    for (let i = 0; i < 3; i++) strike(t);
    assert.match(t.broken[0] ?? "", /another attempt after 2/);
  });
  it("is broken by a second page for an incident, and not by one that is delivered twice, nor after it was healed", () => {
    const t = new SimTruth(rule("S6"));
    t.policy();
    t.page();
    t.page();
    assert.deepEqual(t.broken, []);
    t.page({ remediation: "default/payments-1" });
    assert.match(t.broken[0] ?? "", /paged for default\/payments-0 and again for default\/payments-1/);
    const healed = t.episode({ phase: "Verifying" });
    t.change(healed, { phase: "Succeeded", outcome: "Remediated" });
    t.page({ remediation: "default/payments-2" });
    assert.equal(t.broken.length, 1);
  });
});

describe("S7", () => {
  it("is broken by a write of an episode that only observes", () => {
    const t = new SimTruth(rule("S7"));
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] }, { mode: "Observe" });
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.match(t.broken[0] ?? "", /only observes/);
  });
  it("is broken by a write long after the policy was lowered to it, and not by one right after", async () => {
    for (const seconds of [1, 60]) {
      const t = new SimTruth(rule("S7"));
      t.policy({ mode: "Observe" });
      t.check();
      await t.pass(seconds * 1_000);
      t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
      t.mutate(ONE, "delete", { pod: t.pod() });
      assert.equal(t.broken.length, seconds === 60 ? 1 : 0);
    }
  });
});

describe("S8", () => {
  for (const [state, required, broken] of [
    ["Done", true, 0],
    ["Failed", true, 1],
    ["Failed", false, 0],
    [undefined, true, 1],
  ] as const)
    it(`${broken === 1 ? "is broken" : "holds"} where a ${required ? "required" : "voluntary"} capture is ${state ?? "not answered"}`, () => {
      const t = new SimTruth(rule("S8"));
      const answer = { effectId: ONE, node: "node-0", startedAt: "2026-01-01T00:00:00Z" };
      t.episode({
        attempts: [
          t.attempt({ name: "payments-0" }, { type: "capture", params: { required }, state: state === "Done" ? "Done" : "Skipped" }, {}),
        ],
        captures: state === undefined ? [] : [{ ...answer, state }],
      });
      t.mutate("default/payments-0/0/1", "delete", { pod: t.pod() });
      assert.equal(t.broken.length, broken);
    });
  it("is broken where what an agent has put on record is written over", () => {
    const t = new SimTruth(rule("S8"));
    const capture = { effectId: ONE, state: "Done" as const, node: "node-0", startedAt: "2026-01-01T00:00:00Z" };
    const episode = t.episode({ captures: [capture] });
    t.change(episode, { phase: "Verifying" });
    assert.deepEqual(t.broken, []);
    t.change(episode, { captures: [] });
    assert.match(t.broken[0] ?? "", /was written over/);
  });
});

describe("S9", () => {
  const intent = (t: SimTruth): void => t.record({ type: "Intent", at: t.now, message: "", data: { effectId: ONE } });
  it("holds for a step whose intent is stored and on the trail", () => {
    const t = new SimTruth(rule("S9"));
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
    intent(t);
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.deepEqual(t.broken, []);
  });
  it("is broken without a record on the trail, without a step, and by a step that is over", () => {
    const t = new SimTruth(rule("S9"));
    t.mutate(ONE, "delete", { pod: t.pod() });
    const episode = t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
    t.mutate(ONE, "delete", { pod: t.pod() });
    intent(t);
    t.change(episode, { attempts: [t.attempt({ name: "payments-0" }, { state: "Done" })] });
    t.mutate(ONE, "delete", { pod: t.pod() });
    t.change(episode, { attempts: [t.attempt({ name: "payments-0" }, { state: "Failed", message: "it cannot be known whether it was" })] });
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.equal(t.broken.length, 4);
    [/without a step/, /without its intent/, /is Done/, /was tried again/].forEach((pattern, i) =>
      assert.match(t.broken[i] ?? "", pattern),
    );
  });
  it("is broken by an episode that ends without a step's result", () => {
    const t = new SimTruth(rule("S9"));
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})], phase: "Failed", endedAt: "2026-01-01T00:00:00Z" });
    t.end();
    assert.match(t.broken[0] ?? "", /has no result/);
  });
});

describe("S10", () => {
  it("holds for who leads", () => {
    const t = new SimTruth(rule("S10"));
    t.episode();
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.deepEqual(t.broken, []);
  });
  it("is broken by an episode that a deposed leader begins", () => {
    const t = new SimTruth(rule("S10"));
    t.leaderEpoch = 2;
    t.episode({ epoch: 1 });
    assert.equal(t.broken.length, 1);
    assert.match(t.broken[0] ?? "", /begun under epoch 1, while the Lease is at 2/);
  });
  it("is broken by who was deposed, in the cluster, and on the record of an episode that its successor has", () => {
    const t = new SimTruth(rule("S10"));
    const [old, taken] = [t.episode(), t.episode()];
    t.change(taken, { epoch: 2 });
    t.leaderEpoch = 2;
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.equal(t.broken.length, 1);
    t.change(old, { phase: "Verifying" });
    assert.equal(t.broken.length, 1, "nobody has taken it over yet");
    assert.throws(() => t.change(taken, { phase: "Verifying", epoch: 1 }), /deposed/, "the API server refuses it");
  });
});

describe("S11", () => {
  for (const [how, seconds, broken] of [
    ["holds where what was held back still holds", 0, 0],
    ["is broken by an episode that begins long after its fault has gone", 300, 1],
  ] as const)
    it(how, async () => {
      const t = new SimTruth(rule("S11"));
      t.policy({ maxSignalAge: "10s" });
      t.firing.set(`0|${t.pod().name}|payments`, t.now);
      await t.pass(1_000);
      const episode = t.episode({ phase: "Blocked", reason: "CircuitOpen" });
      if (seconds > 0) t.firing.clear();
      await t.pass(seconds * 1_000);
      t.change(episode, { phase: "Executing", attempts: [t.attempt({ name: "payments-0" }, {})] });
      assert.equal(t.broken.length, broken);
    });
});

describe("S11, the rest after an episode", () => {
  for (const [seconds, broken] of [
    [30, 1],
    [61, 0],
  ] as const)
    it(`${broken === 1 ? "is broken" : "holds"} where the next begins ${seconds} s after one that acted, of a cooldown of a minute`, async () => {
      const t = new SimTruth(rule("S11"));
      t.policy({ cooldown: "1m", maxSignalAge: "24h" });
      t.firing.set(`0|${t.pod().name}|payments`, t.now);
      t.check();
      const first = t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
      t.mutate(ONE, "delete", { pod: t.pod() });
      t.change(first, { phase: "Failed" });
      await t.pass(seconds * 1_000);
      t.episode({ attempts: [t.attempt({ name: "payments-1" }, {})] });
      assert.equal(t.broken.length, broken, t.broken[0]);
    });
});

describe("S12", () => {
  const marks: Record<string, (t: SimTruth) => void> = {
    pod: (t) => void (t.pod().marked = true),
    workload: (t) => void (t.payments.marked = true),
    node: (t) => void (t.pod().node.marked = true),
    namespace: (t) => void (t.world.namespaceMarked = true),
  };
  for (const [what, mark] of Object.entries(marks))
    it(`is broken by a write to what is marked, by ${what}, and not by one that could not know yet`, async () => {
      for (const seconds of [1, 60]) {
        const t = new SimTruth(rule("S12"));
        mark(t);
        t.check();
        await t.pass(seconds * 1_000);
        t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
        t.mutate(ONE, "delete", { pod: t.pod() });
        assert.equal(t.broken.length, seconds === 60 ? 1 : 0);
        t.mutate(ONE, "restoreTraffic", { pod: t.pod() });
        assert.equal(t.broken.length, seconds === 60 ? 1 : 0, "what was done may be taken back");
      }
    });
});

describe("S12, of nodes", () => {
  for (const what of ["node", "pod", "namespace"] as const)
    it(`is broken by a cordon of a node that is marked, or that what is marked is on: ${what}`, async () => {
      for (const seconds of [1, 60]) {
        const t = new SimTruth(rule("S12"));
        await t.pass(1_000);
        const on = t.pod().node;
        if (what === "node") on.marked = true;
        else if (what === "pod") t.pod().marked = true;
        else t.world.namespaceMarked = true;
        t.check();
        await t.pass(seconds * 1_000);
        t.nodeEpisode({ attempts: [t.attempt({ name: "payments-0" }, { type: "cordon" })] });
        t.mutate(ONE, "cordon", { node: on, effect: { id: ONE, type: "Cordon", replica: t.payments.ref } });
        assert.equal(t.broken.length, seconds === 60 ? 1 : 0, t.broken[0]);
      }
    });
});

describe("S13", () => {
  it("is broken by who has heard nothing of the API server for minutes", () => {
    const t = new SimTruth(rule("S13"));
    t.mutate(ONE, "delete", { pod: t.pod(), viewAgeMs: 100_000 });
    assert.deepEqual(t.broken, []);
    t.mutate(ONE, "delete", { pod: t.pod(), viewAgeMs: 300_000 });
    assert.match(t.broken[0] ?? "", /has heard nothing/);
  });
  it("is broken by a burst after an outage, and not by two episodes at another time", async () => {
    for (const outage of [false, true]) {
      const t = new SimTruth(rule("S13"));
      t.policy({ cooldown: "1m" });
      await t.pass(1_000);
      if (outage) t.outageEndedAt = t.now + 60_000;
      t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
      await t.pass(5_000);
      t.episode({ attempts: [t.attempt({ name: "payments-1" }, {})] });
      assert.equal(t.broken.length, outage ? 1 : 0);
    }
  });
});

describe("S14", () => {
  const act = (t: SimTruth): void => {
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
    t.mutate(ONE, "delete", { pod: t.pod() });
  };
  const pauses: Record<string, (t: SimTruth) => void> = {
    "a policy that is paused": (t) => void t.policy({ paused: { reason: "audit" } }),
    "a pause that has an end": (t) => void t.policy({ paused: { reason: "audit", until: new Date(t.now + 3_600_000).toISOString() } }),
    "a policy that was deleted": () => undefined,
    "a pause of everything": (t) => {
      t.policy();
      t.api.create<"RemediationBudget">({
        apiVersion: API_VERSION,
        kind: "RemediationBudget",
        metadata: { name: "platform", namespace: "default" },
        spec: { budgets: [], paused: { reason: "audit" } },
      });
    },
  };
  for (const [what, pause] of Object.entries(pauses))
    it(`is broken under ${what}, and not before that can be known, nor by taking back what was done`, async () => {
      for (const seconds of [1, 60]) {
        const t = new SimTruth(rule("S14"));
        pause(t);
        t.check();
        await t.pass(seconds * 1_000);
        act(t);
        assert.equal(t.broken.length, seconds === 60 ? 1 : 0);
        t.mutate(ONE, "restoreTraffic", { pod: t.pod() });
        assert.equal(t.broken.length, seconds === 60 ? 1 : 0);
      }
    });
  it("holds under a policy that is not paused, and after a pause", async () => {
    const t = new SimTruth(rule("S14"));
    t.policy({ paused: { reason: "audit", until: new Date(t.now + 1_000).toISOString() } });
    await t.pass(60_000);
    act(t);
    assert.deepEqual(t.broken, []);
  });
});

describe("S15", () => {
  for (const [minute, broken] of [
    [1, 0],
    [5, 1],
  ] as const)
    it(`${broken === 1 ? "is broken" : "holds"} ${minute} minutes into a window of two`, async () => {
      const t = new SimTruth(rule("S15"));
      t.policy({ windows: [{ schedule: "0 0 * * *", duration: "2m" }] });
      await t.pass(minute * 60_000);
      t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
      await t.pass(1_000);
      t.mutate(ONE, "delete", { pod: t.pod() });
      assert.equal(t.broken.length, broken, t.broken[0]);
    });
});

describe("S16", () => {
  const answer = (t: SimTruth, decision: "Approved" | "Denied", name: string, targetUid = t.pod().uid): void =>
    void t.api.create<"RemediationApproval">({
      apiVersion: API_VERSION,
      kind: "RemediationApproval",
      metadata: { name, namespace: "default" },
      spec: { remediation: "payments-0", decision, by: "ann", at: new Date(t.now).toISOString(), targetUid },
    });
  const act = (t: SimTruth): void => {
    const [episode] = t.api.list("Remediation");
    t.change(episode!, { phase: "Executing", attempts: [t.attempt({ name: "payments-0" }, {})] });
    t.mutate(ONE, "delete", { pod: t.pod() });
  };
  const truth = (mode: string): SimTruth => {
    const t = new SimTruth(rule("S16"));
    t.policy({ approval: { timeout: "1m" } });
    t.episode({ phase: "AwaitingApproval" }, { mode });
    return t;
  };
  it("holds with a yes, and where nobody is asked", () => {
    const asked = truth("Approve");
    answer(asked, "Approved", "yes");
    act(asked);
    const enforced = truth("Enforce");
    act(enforced);
    assert.deepEqual([...asked.broken, ...enforced.broken], []);
  });
  it("is broken without one, by one for another target, and by one that came late", async () => {
    const none = truth("Approve");
    act(none);
    const other = truth("Approve");
    answer(other, "Approved", "yes", "another");
    act(other);
    const late = truth("Approve");
    await late.pass(10 * 60_000);
    answer(late, "Approved", "yes");
    act(late);
    assert.match(none.broken[0] ?? "", /nobody has said yes/);
    assert.match(other.broken[0] ?? "", /nobody has said yes/);
    assert.match(late.broken[0] ?? "", /came 600 s late/);
  });
  it("is broken after a no that can be known, in every mode", async () => {
    for (const [seconds, broken] of [
      [1, 0],
      [60, 1],
    ] as const) {
      const t = truth("Enforce");
      answer(t, "Denied", "no");
      await t.pass(seconds * 1_000);
      act(t);
      assert.equal(t.broken.length, broken);
    }
  });
});

describe("S17", () => {
  const truth = async (ills: readonly number[], seconds: number): Promise<SimTruth> => {
    const t = new SimTruth(rule("S17"));
    t.policy();
    await t.pass(100_000);
    for (const index of ills) t.world.fallIll(t.pod(index), { fault: 0, kind: "Hang", since: 0, ms: 0, rate: 0 });
    t.check();
    await t.pass(seconds * 1_000);
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
    t.mutate(ONE, "delete", { pod: t.pod() });
    return t;
  };
  it("is broken while three of four are ill, for long enough to be known", async () => {
    assert.match((await truth([0, 1, 2], 60)).broken[0] ?? "", /3 of 4 replicas of payments are ill at once/);
    assert.deepEqual((await truth([0, 1, 2], 10)).broken, []);
  });
  it("holds while two are", async () => {
    assert.deepEqual((await truth([0, 1], 60)).broken, []);
  });
  it("is broken by a cordon while three of four nodes are ill, and not while two are", async () => {
    for (const ill of [2, 3]) {
      const t = new SimTruth(rule("S17"));
      for (const name of ["node-2", "node-3"]) t.world.nodes.push({ ...t.node(), name, uid: name });
      await t.pass(100_000);
      for (let i = 0; i < ill; i++) t.world.setNode(t.node(i), false);
      await t.pass(60_000);
      t.nodeEpisode({ attempts: [t.attempt({ name: "payments-0" }, { type: "cordon" })] });
      t.mutate(ONE, "cordon", { node: t.node(), effect: { id: ONE, type: "Cordon", replica: t.payments.ref } });
      assert.equal(t.broken.length, ill === 3 ? 1 : 0, t.broken[0]);
    }
  });
});

describe("S18", () => {
  const dedupKey = "default/payments/Deployment/default/payments/Alert";
  const page = { state: "Sent" as const, dedupKey, summary: "", tries: 1 };
  it("holds for one that is sent again before it is confirmed, and for the next after that is over", () => {
    const t = new SimTruth(rule("S18"));
    const episode = t.episode({ phase: "Escalated", page: { ...page, state: "Pending" } });
    t.page();
    t.page();
    t.change(episode, { page });
    t.change(episode, { page: { ...page, state: "Resolving" } });
    t.page();
    assert.deepEqual(t.broken, []);
  });
  it("is broken by another for what was confirmed, whatever its key, also by a receiver of several", () => {
    for (const confirmed of [page, { ...page, state: "Pending" as const, confirmedBy: ["oncall"] }]) {
      const t = new SimTruth(rule("S18"));
      t.episode({ phase: "Escalated", page: confirmed });
      t.page({ dedupKey: "another" });
      assert.match(t.broken[0] ?? "", /pages again/);
    }
  });
  it("is not asked where what is stored may be lost", () => {
    const t = new SimTruth(rule("S18"), { faults: [{ id: 0, kind: "ApiErrors", at: 0, for: 1 }] });
    t.episode({ phase: "Escalated", page });
    t.page();
    assert.deepEqual(t.broken, []);
  });
});

describe("S19", () => {
  it("is broken by success while replicas have been missing for long, and not by one that could not know", async () => {
    for (const seconds of [0, 1, 60]) {
      const t = new SimTruth(rule("S19"));
      t.policy();
      await t.pass(100_000);
      const episode = t.episode({ phase: "Verifying" });
      if (seconds > 0) t.world.fallIll(t.pod(3), { fault: 0, kind: "Hang", since: 0, ms: 0, rate: 0 });
      t.check();
      await t.pass(seconds * 1_000);
      t.change(episode, { phase: "Succeeded", outcome: "Remediated" });
      assert.equal(t.broken.length, seconds === 60 ? 1 : 0, t.broken[0]);
    }
  });
  it("is broken by success for errors that were not measured", () => {
    const t = new SimTruth(rule("S19"));
    t.policy();
    const signal = { ...t.episode().spec.signal, condition: "errorRate" as const, fingerprint: "errors" };
    const episode = t.episode({ phase: "Verifying" }, { signal });
    t.telemetryGapSince = t.now - 600_000;
    t.change(episode, { phase: "Succeeded", outcome: "Remediated" });
    assert.match(t.broken[0] ?? "", /nothing was measured for 600 s/);
  });
});

describe("S20", () => {
  it("is broken by what takes a replica away whose replacement has never been ready", () => {
    const t = new SimTruth(rule("S20"));
    t.mutate(ONE, "delete", { pod: t.pod() });
    t.pod(1).replaces = t.pod().uid;
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.deepEqual(t.broken, []);
    t.pod(1).everReady = false;
    t.mutate(ONE, "markStopped", { pod: t.pod() });
    assert.deepEqual(t.broken, []);
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.match(t.broken[0] ?? "", /has never been ready/);
  });
});

describe("S21", () => {
  it("is broken by two operators under one epoch, and not by one after the other", () => {
    const t = new SimTruth(rule("S21"));
    t.mutate(ONE, "detach", { operator: 0, epoch: 1 });
    t.mutate(ONE, "delete", { operator: 1, epoch: 2 });
    t.mutate(ONE, "delete", { operator: 0, epoch: 3 });
    assert.deepEqual(t.broken, []);
    t.mutate(ONE, "delete", { operator: 0, epoch: 2 });
    assert.match(t.broken[0] ?? "", /under epoch 2, which was operator 1's/);
  });
});

describe("S22", () => {
  for (const [seconds, broken] of [
    [10, 0],
    [60, 1],
  ] as const)
    it(`is broken by a write over a rollout of others of ${seconds} s: ${broken}`, async () => {
      const t = new SimTruth(rule("S22"));
      t.world.rollOut(t.payments, true);
      t.check();
      await t.pass(seconds * 1_000);
      t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
      t.mutate(ONE, "restoreTraffic", { pod: t.pod() });
      assert.deepEqual(t.broken, [], "what was done may be taken back");
      t.mutate(ONE, "rollback", { effect: { id: ONE, type: "Rollback", workload: t.payments.ref, revision: "1" } });
      assert.deepEqual(t.broken, [], "the cure may be");
      t.mutate(ONE, "delete", { pod: t.pod() });
      assert.equal(t.broken.length, broken);
      if (broken > 0) assert.match(t.broken[0] ?? "", /somebody else has been rolling out for 60 s/);
    });
  it("is not broken in a rollout that an effect has begun, and by what was decided before", async () => {
    const t = new SimTruth(rule("S22"));
    t.world.rollOut(t.payments, true, undefined, "default/payments-0/0/0");
    await t.pass(60_000);
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
    t.world.rollOut(t.payments, true);
    t.check();
    await t.pass(60_000);
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.deepEqual(t.broken, []);
  });
  it("is broken by a leader that takes up what another decided before the rollout", async () => {
    const t = new SimTruth(rule("S22"));
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
    t.world.rollOut(t.payments, true);
    await t.pass(60_000);
    t.leaderEpoch = 2;
    t.check();
    t.mutate(ONE, "delete", { pod: t.pod(), epoch: 2 });
    assert.match(t.broken[0] ?? "", /rolling out/);
  });
  it("is not broken by who could not hear of the rollout, as the watch had lost it", async () => {
    const t = new SimTruth(rule("S22"), { faults: [{ id: 0, kind: "WatchDrops", at: 0, for: 100_000, what: "Workload" }] });
    await t.pass(1_000);
    t.world.rollOut(t.payments, true);
    await t.pass(90_000);
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, {})] });
    t.mutate(ONE, "delete", { pod: t.pod() });
    assert.deepEqual(t.broken, []);
  });
});

describe("S23", () => {
  const rung = (max: string): readonly Record<string, unknown>[] => [
    { strategy: "ResizeResources", timeout: "2m", captures: [], resize: { memory: { factor: 2, max }, whenRefused: "Fail" } },
  ];
  const MIB = 2 ** 20;
  const made = (
    max: string,
  ): { readonly t: SimTruth; readonly gives: (mib: number) => void; readonly takesBack: (mib: number) => void } => {
    const t = new SimTruth(rule("S23"));
    t.episode({ attempts: [t.attempt({ name: "payments-0" }, { type: "resize" })] }, { ladder: rung(max) });
    const [workload, pod] = [t.payments.ref, t.pod()];
    const sets = (mib: number) => (): void => void (pod.askedBytes = mib * MIB);
    return {
      t,
      gives: (mib) =>
        t.mutate(ONE, "resize", {
          pod,
          change: sets(mib),
          effect: { id: ONE, type: "Resize", workload, replica: workload, memoryBytes: mib * MIB, rollout: false },
        }),
      takesBack: (mib) =>
        t.mutate(`${ONE}/undo0`, "resizeBack", {
          pod,
          change: sets(mib),
          effect: { id: `${ONE}/undo0`, type: "ResizeBack", workload, replica: workload, of: ONE },
        }),
    };
  };
  it("is kept by a limit within the bound that is taken back as it was", () => {
    const { t, gives, takesBack } = made("1Gi");
    gives(1_024);
    takesBack(512);
    assert.deepEqual(t.broken, []);
  });
  it("is broken by a limit beyond the bound, and by one that is lower than before", () => {
    const { t, gives } = made("600Mi");
    gives(601);
    gives(400);
    assert.equal(t.broken.length, 2);
    assert.match(t.broken[0] ?? "", /600Mi is the most that is allowed/);
    assert.match(t.broken[1] ?? "", /and it had/);
  });
  it("is broken by what is taken back as it was not, over what somebody else has set, or without having been given", () => {
    const other = made("1Gi");
    other.gives(1_024);
    other.takesBack(700);
    assert.match(other.t.broken[0] ?? "", /and it had 536870912/);
    const theirs = made("1Gi");
    theirs.gives(1_024);
    theirs.t.pod().askedBytes = 2_048 * MIB;
    theirs.t.check();
    theirs.takesBack(512);
    assert.match(theirs.t.broken[0] ?? "", /somebody else has set/);
    const never = made("1Gi");
    never.takesBack(256);
    assert.match(never.t.broken[0] ?? "", /did not give/);
  });
});

describe("S24", () => {
  const question = { namespace: "default", name: "payments-0", uid: "u" };
  const record = (state: "Pending" | "Sent" | "Resolved") => ({ state, dedupKey: "default/payments-0/approval", summary: "", tries: 1 });
  const asked = { question, dedupKey: "default/payments-0/approval", severity: "Info" as const };
  it("is kept by a question that is asked until it is on record, and closed", async () => {
    const t = new SimTruth(rule("S24"));
    const episode = t.episode({ phase: "AwaitingApproval", question: record("Pending") });
    t.page(asked);
    t.page(asked);
    await t.pass(1_000);
    t.change(episode, { phase: "Cancelled", question: record("Resolved") });
    t.resolved.push({ sentAt: t.now, at: t.now, page: t.pages[0]!.page });
    t.end();
    assert.deepEqual(t.broken, []);
  });
  it("is not broken by a question that was on its way as its episode ended", async () => {
    const t = new SimTruth(rule("S24"));
    const episode = t.episode({ phase: "AwaitingApproval", question: record("Pending") });
    const sentAt = t.now;
    await t.pass(100);
    t.change(episode, { phase: "Cancelled", question: record("Resolved") });
    t.page(asked, sentAt);
    assert.deepEqual(t.broken, []);
    t.page(asked);
    assert.match(t.broken.join(), /asks again for an answer: its question is Resolved/);
  });
  it("is broken by one that is asked again, and not where a leader may not have known", () => {
    for (const [kind, broken] of [
      ["Crash", 1],
      ["Stop", 0],
    ] as const) {
      const t = new SimTruth(rule("S24"), { faults: [{ id: 0, kind, at: 0, for: 0 }] });
      t.episode({ phase: "AwaitingApproval", question: record("Sent") });
      t.page(asked);
      assert.equal(t.broken.length, broken, kind);
    }
  });
  it("is not broken by a page for an alert whose end may have been told to the leader before", () => {
    for (const [epoch, broken] of [
      [1, 1],
      [2, 0],
    ] as const) {
      const t = new SimTruth(rule("S24"));
      t.page();
      t.episode({ phase: "Escalated", page: { ...record("Sent"), dedupKey: t.pages[0]!.page.dedupKey } });
      t.leaderEpoch = epoch;
      t.end();
      assert.equal(t.broken.length, broken, `epoch ${epoch}`);
    }
  });
  it("is broken by what is open in the end: a question, a notice, or a page that came again after it was over", async () => {
    const t = new SimTruth(rule("S24"));
    t.episode({ phase: "Cancelled", question: record("Sent"), notice: { ...record("Sent"), step: ONE } });
    t.page();
    t.resolved.push({ sentAt: t.now, at: t.now, page: t.pages[0]!.page });
    t.end();
    assert.deepEqual(
      t.broken.map((message) => message.replace(/ is .*/, "")),
      ["the question of default/payments-0", "the notice of default/payments-0"],
    );
    await t.pass(1_000);
    t.page();
    t.end();
    assert.match(t.broken.slice(2).join(), /Alert is open, and nobody is at it/);
  });
});

describe("S25", () => {
  const climb = (t: SimTruth): void => {
    const first = t.attempt({ name: "payments-0" }, { state: "Failed" });
    const episode = t.episode({ attempts: [first] });
    const second = t.attempt({ name: "payments-0", attempt: 1 }, {});
    t.change(episode, { attempts: [first, second] });
    t.mutate("default/payments-0/1/0", "delete", { pod: t.pod() });
  };
  it("is kept by a later rung over what is ill, or was a moment ago", async () => {
    const ill = new SimTruth(rule("S25"));
    ill.policy({ maxSignalAge: "10s" });
    ill.firing.set(`0|${ill.pod().name}|payments`, ill.now);
    await ill.pass(600_000);
    climb(ill);
    assert.deepEqual(ill.broken, []);
    const was = new SimTruth(rule("S25"));
    was.policy({ maxSignalAge: "10s" });
    was.check();
    await was.pass(60_000);
    climb(was);
    assert.deepEqual(was.broken, []);
  });
  it("is broken by one over what has been well for long", async () => {
    const t = new SimTruth(rule("S25"));
    t.policy({ maxSignalAge: "10s" });
    t.check();
    await t.pass(600_000);
    climb(t);
    assert.match(t.broken.join(), /begins attempt 2 over payments, which has been well for 600 s/);
  });
});

describe("S22, of nodes that are opened again", () => {
  it("is broken by an eviction from a node that a person has opened half a minute ago, and by none right after it", async () => {
    const t = new SimTruth(rule("S22"));
    t.nodeEpisode({ attempts: [t.attempt({ name: "payments-0" }, { type: "cordon" }, { type: "drain" })] });
    const pod = t.pod();
    const drain = { id: "default/payments-0/0/1", type: "Drain" as const, replica: t.payments.ref };
    pod.node.opened = { of: ONE, at: t.now };
    t.mutate(drain.id, "delete", { pod, effect: drain });
    assert.deepEqual(t.broken, []);
    await t.pass(40_000);
    t.mutate(drain.id, "delete", { pod, effect: drain });
    assert.match(t.broken[0] ?? "", /somebody has uncordoned node-\d 40 s ago/);
    pod.node.opened = { of: "default/payments-7/0/0", at: t.now - 40_000 };
    t.mutate(drain.id, "delete", { pod, effect: drain });
    assert.equal(t.broken.length, 1, "another attempt's cordon");
  });
});

describe("S22, of nodes", () => {
  it("is broken by a cordon where somebody else has cordoned the node, and not where they did so after it", async () => {
    for (const first of [true, false]) {
      const t = new SimTruth(rule("S22"));
      const node = t.node();
      if (!first) node.cordonedBy = ONE;
      node.cordonedByOthers = true;
      t.check();
      await t.pass(60_000);
      t.nodeEpisode({ attempts: [t.attempt({ name: "payments-0" }, { type: "drain" })] });
      const pod = t.world.workloads.flatMap(({ pods }) => pods).find((each) => each.node === node)!;
      t.mutate(ONE, "delete", { pod, workload: pod.workload, effect: { id: ONE, type: "Drain", replica: t.payments.ref } });
      assert.equal(t.broken.length, first ? 1 : 0, t.broken[0]);
      if (first) assert.match(t.broken[0] ?? "", /somebody else has been emptying for 60 s/);
    }
  });
});

describe("L1", () => {
  it("is broken by an episode that does not end, and by writes when everything is over", async () => {
    const t = new SimTruth(rule("L1"));
    const episode = t.episode({ phase: "Blocked" });
    await t.pass(600_000);
    t.end();
    assert.match(t.broken[0] ?? "", /is still Blocked/);
    t.change(episode, { phase: "Cancelled" });
    t.end();
    assert.equal(t.broken.length, 1);
    t.writes.push({ at: t.now, what: "update RemediationPolicy default/payments" });
    t.end();
    assert.equal(t.broken.length, 1);
    t.writes.push({ at: t.now, what: "update Remediation default/payments-0" });
    t.end();
    assert.match(t.broken[1] ?? "", /writes when everything was over/);
  });
});

describe("L2", () => {
  const hang = { id: 0, kind: "PodHang" as const, at: 60_000, for: 600_000, workload: "payments" };
  const made = (): SimTruth =>
    new SimTruth(rule("L2"), { faults: [hang], policies: [policy({ signals: [{ name: "probe", probe: { failingFor: "10s" } }] })] });
  const strike = async (t: SimTruth): Promise<void> => {
    t.world.fallIll(t.pod(), { fault: 0, kind: "Hang", since: 0, ms: 0, rate: 0 });
    t.check();
    await t.pass(600_000);
  };
  it("is broken by a fault of which nothing is on record, and not by one that never struck", async () => {
    const never = made();
    await never.pass(600_000);
    never.end();
    assert.deepEqual(never.broken, []);
    const t = made();
    await strike(t);
    t.end();
    assert.match(t.broken[0] ?? "", /nothing on record/);
  });
  it("holds for a decision in time, and for an episode", async () => {
    const decided = made();
    decided.record({ type: "Decision", at: decided.now, policy: "default/payments", message: "no action" });
    await strike(decided);
    decided.end();
    assert.deepEqual(decided.broken, []);
    const acted = made();
    acted.episode();
    await strike(acted);
    acted.end();
    assert.deepEqual(acted.broken, []);
  });
});

describe("L3", () => {
  it("is broken by a pod that is out of traffic, or let go, in the end", () => {
    const t = new SimTruth(rule("L3"));
    t.end();
    assert.deepEqual(t.broken, []);
    t.pod(0).removed = true;
    t.pod(1).owned = false;
    t.end();
    assert.equal(t.broken.length, 2);
  });
  it("is broken by memory that did not help and is left, and no person was told", () => {
    const t = new SimTruth(rule("L3"));
    const episode = t.episode({ phase: "Failed", attempts: [t.attempt({ name: "payments-0" }, { type: "resize" })] });
    t.pod().resized = { from: 1, to: 2 };
    t.pod().effects.set("resized", ONE);
    t.end();
    assert.match(t.broken[0] ?? "", /payments was given by default\/payments-0\/0\/0 did not help/);
    t.change(episode, { attempts: [{ ...t.attempt({ name: "payments-0" }, { type: "resize" }), outcome: "Effective" }] });
    t.end();
    assert.equal(t.broken.length, 1);
  });
  it("is broken by a node that is cordoned in the end, and no person was told", () => {
    const t = new SimTruth(rule("L3"));
    t.nodeEpisode({ phase: "Failed", attempts: [t.attempt({ name: "payments-0" }, { type: "cordon" })] });
    t.node().cordonedBy = ONE;
    t.end();
    assert.match(t.broken[0] ?? "", /node node-0 is cordoned by default\/payments-0\/0\/0, and nobody knows/);
    t.page();
    t.end();
    assert.equal(t.broken.length, 1);
  });
});

describe("L4", () => {
  const page = { state: "Sent" as const, dedupKey: "default/payments/Deployment/default/payments/Alert", summary: "", tries: 1 };
  it("holds for a page that arrived, and for an escalation of an incident that was paged before", () => {
    const t = new SimTruth(rule("L4"));
    t.page();
    t.episode({ phase: "Escalated", page });
    t.episode({ phase: "Escalated" });
    t.end();
    assert.deepEqual(t.broken, []);
  });
  it("is broken by one that waits, one that never arrived, and an escalation that nobody was told of", () => {
    const t = new SimTruth(rule("L4"));
    t.episode({ phase: "Escalated", page: { ...page, state: "Pending" } });
    t.episode({ phase: "Escalated", page });
    t.episode({ phase: "Escalated" });
    t.end();
    assert.equal(t.broken.length, 3);
  });
});
