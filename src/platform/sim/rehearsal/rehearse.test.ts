// The scenarios that come with Nightshift do what they say, with the policies of examples/rehearsal, and not without them.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, it } from "node:test";
import { clusterSchema } from "../../../api/cluster.ts";
import { API_VERSION } from "../../../api/meta.ts";
import { parseDocument, parseResources } from "../../../api/parse.ts";
import { policySpecSchema, type RemediationPolicy } from "../../../api/policy.ts";
import { clusterFor, type Resources, targetsOf } from "./cast.ts";
import { rehearse, type RehearsalReport, remarks } from "./rehearse.ts";
import { type Result, type ScenarioFile, scenarioFileSchema } from "./scenario-file.ts";
import { monitoringOf, type Naming } from "./symptoms.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../../../examples");
const SCENARIOS = join(EXAMPLES, "scenarios");
const TARGET = "shop/payments";

function scenario(name: string): ScenarioFile {
  const path = join(SCENARIOS, `${name}.yaml`);
  const { value, errors } = parseDocument(readFileSync(path, "utf8"), path, scenarioFileSchema);
  assert.deepEqual(errors, []);
  return value!;
}

function written(file: Record<string, unknown>): ScenarioFile {
  return scenarioFileSchema.parse({ description: "made up", ...file });
}

const path = join(EXAMPLES, "rehearsal/policies.yaml");
const authored = parseResources(readFileSync(path, "utf8"), path).resources.map(({ resource }) => resource);
const examples: Resources = {
  policies: authored.filter((each) => each.kind === "RemediationPolicy"),
  budgets: authored.filter((each) => each.kind === "RemediationBudget"),
  runbooks: [],
  dependencies: authored.filter((each) => each.kind === "ServiceDependency"),
};
const cluster = clusterFor(examples);

function policy(name: string, spec: Record<string, unknown>): RemediationPolicy {
  const defaults = { mode: "Enforce", targets: [{ name: "payments" }], verify: { stableFor: "30s" }, cooldown: "1m" };
  return {
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name, namespace: "shop" },
    spec: policySpecSchema.parse({ ...defaults, ...spec }),
  };
}

/** A policy that covers the target, and listens to nothing that ever fires. */
const DEAF: Resources = {
  ...examples,
  policies: [policy("deaf", { signals: [{ name: "never", alert: { alertname: "Never" } }], ladder: [{ strategy: "RestartPod" }] })],
};

function play(file: ScenarioFile, resources: Resources, namings: readonly Naming[] = []): Promise<RehearsalReport> {
  return rehearse({ name: "test", file, cluster, resources, target: TARGET, seed: 1, namings });
}

const resultOf = ({ faults }: RehearsalReport): Result | undefined => faults.find(({ workload }) => workload === TARGET)?.result;

describe("signals from what the cluster says of its objects", () => {
  const of = (signal: object, rung: object): Resources => ({
    ...examples,
    policies: [policy("objects", { signals: [{ name: "seen", ...signal }], ladder: [rung] })],
  });
  const restart = { strategy: "EvictPod" };
  const rollback = { strategy: "RollbackRollout" };

  it("are played: a crash loop, and a rollout that is stuck", async () => {
    const crashes = await play(scenario("crash-loop"), of({ podState: { state: "CrashLoopBackOff", for: "30s" } }, restart));
    assert.equal(resultOf(crashes), "Healed");
    const rolls = await play(scenario("bad-rollout"), of({ rollout: {} }, rollback));
    assert.equal(resultOf(rolls), "Healed");
  });

  it("do nothing where the state is another", async () => {
    const report = await play(scenario("hang"), of({ podState: { state: "CrashLoopBackOff" } }, restart));
    assert.notEqual(resultOf(report), "Healed");
    assert.deepEqual(report.violations, []);
  });

  it("are played on the pool of nodes, which policies select by labels of a described cluster", async () => {
    const drains = policy("nodes", {
      targets: [{ kind: "Node", selector: { matchLabels: { heal: "yes" } } }],
      signals: [{ name: "ill", nodeCondition: { type: "NotReady", for: "1m" } }],
      ladder: [{ strategy: "CordonAndDrainNode", drain: { healWithin: "10m" }, timeout: "30m" }],
    });
    const resources: Resources = { ...examples, policies: [drains] };
    const made = clusterFor(resources);
    assert.deepEqual(targetsOf(made, [drains]), ["shop/nodes"]);
    const file = written({ lasts: "40m", faults: [{ kind: "NodeIll", for: "6m" }] });
    const on = (nodes: typeof made.nodes): Promise<RehearsalReport> =>
      rehearse({ name: "test", file, cluster: { ...made, nodes }, resources, target: "shop/nodes", seed: 1, namings: [] });
    const report = await on(made.nodes);
    assert.deepEqual(
      [report.faults.map(({ workload, result }) => [workload, result]), report.violations],
      [[["shop/nodes", "Healed"]], []],
    );
    assert.ok(report.effects.some(({ type, workload }) => type === "Cordon" && workload === "shop/nodes"));
    const others = await on(made.nodes.map(({ name }) => ({ name })));
    assert.deepEqual([others.effects, others.faults[0]?.result], [[], "Unheard"]);
    const pods = written({ faults: [{ kind: "PodHang" }] });
    const misplaced = rehearse({ name: "test", file: pods, cluster: made, resources, target: "shop/nodes", seed: 1, namings: [] });
    await assert.rejects(misplaced, { code: "NOT_PLAYABLE" });
  });

  it("that are not played are named as such", () => {
    const told = remarks({ cluster, resources: of({ podState: { state: "ImagePullBackOff" } }, restart), namings: [] }).join();
    assert.match(told, /pods that are ImagePullBackOff \(signal seen\), which the simulator does not play/);
    const nodes = policy("nodes", {
      targets: [{ kind: "Node", name: "n1" }],
      signals: [{ name: "full", nodeCondition: { type: "DiskPressure" } }],
      ladder: [{ strategy: "Notify" }],
    });
    const refused = remarks({ cluster, resources: { ...examples, policies: [nodes] }, namings: [] }).join();
    assert.match(refused, /the node condition DiskPressure \(signal full\), which the simulator does not play/);
  });
});

describe("more memory", () => {
  it("is given to a replica that leaks, and is not where its node has none", async () => {
    const rung = { strategy: "ResizeResources", resize: { memory: { factor: 2, max: "8Gi" } } };
    const grows: Resources = {
      ...examples,
      policies: [policy("grows", { signals: [{ name: "leak", trend: { horizon: "20m" } }], ladder: [rung] })],
    };
    const leak = { kind: "PodLeak", takes: "20m" };
    const given = await play(written({ lasts: "20m", faults: [leak] }), grows);
    assert.deepEqual([given.effects.map(({ verb }) => verb), given.violations], [["markResized", "resize"], []]);
    const refused = await play(written({ lasts: "20m", faults: [{ kind: "ResizeRefused", at: "1m" }, leak] }), grows);
    assert.deepEqual([refused.pages.length > 0, refused.violations], [true, []]);
  });
});

/** What comes of each scenario that is shipped, on its target. */
const OUTCOMES: Readonly<Record<string, Result>> = {
  "alert-storm": "Escalated",
  "api-outage": "Healed",
  "bad-rollout": "Healed",
  "bad-version": "Healed",
  "crash-in-code": "Escalated",
  "crash-loop": "Healed",
  "dependency-down": "Escalated",
  "disk-full": "Healed",
  "do-not-remediate": "HeldBack",
  "exhausted-pool": "Healed",
  flapping: "Escalated",
  freeze: "Escalated",
  hang: "Healed",
  leak: "Healed",
  "metrics-gone": "Untouched",
  "never-reconnects": "Healed",
  "node-down": "Escalated",
  "node-gone": "Healed",
  "owned-by-git": "Escalated",
  "pager-down": "Escalated",
  "slow-replacement": "Escalated",
  "thundering-herd": "Healed",
  "zone-down": "Escalated",
};

describe("scenarios that come with Nightshift", () => {
  const names = readdirSync(SCENARIOS).map((file) => file.replace(".yaml", ""));

  it("are each in the table of this test", () => {
    assert.deepEqual(names.toSorted(), Object.keys(OUTCOMES).toSorted());
  });

  for (const name of names)
    it(`${name}: ${OUTCOMES[name] ?? ""}`, async () => {
      const report = await play(scenario(name), examples);
      assert.deepEqual(report.violations, []);
      assert.deepEqual(report.unmet, []);
      assert.equal(resultOf(report), OUTCOMES[name], JSON.stringify(report.faults));
    });

  const healed = names.filter((name) => OUTCOMES[name] === "Healed");
  for (const name of healed)
    it(`${name} is not healed where no policy listens`, async () => {
      const report = await play(scenario(name), DEAF);
      assert.equal(resultOf(report), "Unheard");
      assert.match(report.faults[0]?.why ?? "", /a person would be left alone with it/);
      assert.equal(report.unmet.length, 1);
      assert.equal(
        report.unavailable.every(({ throughNightshift }) => throughNightshift === 0),
        true,
      );
    });
});

describe("a policy whose alert has a name of its own", () => {
  const resources: Resources = {
    ...examples,
    policies: [
      policy("disk", {
        signals: [{ name: "full", alert: { alertname: "PaymentsVolumeFull", matchLabels: { severity: "critical" } } }],
        ladder: [{ strategy: "RunJob", command: ["clean"] }],
      }),
    ],
  };

  it("hears nothing, and that is said", async () => {
    const report = await play(scenario("disk-full"), resources);
    assert.equal(resultOf(report), "Unheard");
    assert.match(report.faults[0]?.why ?? "", /listens to DiskFull \(an alert such as KubePersistentVolumeFillingUp\).*PaymentsVolumeFull/);
    assert.deepEqual(remarks({ cluster, resources, namings: [] }), [
      "shop/disk listens to the alert PaymentsVolumeFull (signal full), and nothing says what that stands for: --map SYMPTOM=PaymentsVolumeFull",
    ]);
  });

  it("hears its alert with the labels that it asks for, once somebody says what it stands for", async () => {
    const namings = [{ symptom: "DiskFull", name: "PaymentsVolumeFull" }] as const;
    assert.equal(resultOf(await play(scenario("disk-full"), resources, namings)), "Healed");
    assert.equal(resultOf(await play({ ...scenario("disk-full"), names: [...namings] }, resources)), "Healed");
    assert.deepEqual(remarks({ cluster, resources, namings }), []);
  });

  it("hears a metric below its threshold, and a trend by another name", async () => {
    const below = policy("disk", {
      signals: [{ name: "full", metric: { name: "volume.free", below: 10, for: "30s" } }],
      ladder: [{ strategy: "RunJob", command: ["clean"] }],
    });
    const namings = [{ symptom: "DiskFull", name: "volume.free" }] as const;
    assert.equal(resultOf(await play(scenario("disk-full"), { ...examples, policies: [below] }, namings)), "Healed");
    const heap = policy("heap", {
      signals: [{ name: "leak", trend: { metric: "process.memory.usage" } }],
      ladder: [{ strategy: "RestartPod" }],
    });
    assert.equal(resultOf(await play(scenario("leak"), { ...examples, policies: [heap] })), "Healed");
  });
});

it("an alert is stale in the end where neither Alertmanager repeats it nor operators ask for it, and not where they ask", async () => {
  const file = { ...scenario("crash-in-code"), monitoring: written({ faults: [{ kind: "PodHang" }] }).monitoring };
  const told = await play(file, examples);
  assert.equal(resultOf(told), "Failed");
  assert.ok(told.heldBack.some(({ gate }) => gate === "StaleSignal"));
  assert.equal(resultOf(await play({ ...file, monitoring: { ...file.monitoring, asked: true } }, examples)), "Escalated");
});

it("a metric goes beyond every threshold that policies have for it, and comes back within all of them", () => {
  const above = (name: string, threshold: number): RemediationPolicy =>
    policy(name, { signals: [{ name: "queue", metric: { name: "queue", above: threshold } }], ladder: [{ strategy: "RestartPod" }] });
  const { metrics } = monitoringOf([above("a", 10), above("b", 100)], [{ symptom: "Errors", name: "queue" }], 0);
  assert.deepEqual(metrics, [{ symptom: "Errors", name: "queue", values: { ill: 150, well: 5 } }]);
});

it("a query of Prometheus is answered for pods and for workloads, once somebody says what it stands for", async () => {
  const asks = (above: object, strategy: object): Resources => ({
    ...examples,
    policies: [policy("asks", { signals: [{ name: "asked", promql: { query: "x / y", for: "1m", ...above } }], ladder: [strategy] })],
  });
  const full = asks({ above: 0.9 }, { strategy: "RunJob", command: ["clean"] });
  assert.equal(resultOf(await play(scenario("disk-full"), full)), "Unheard");
  assert.match(remarks({ cluster, resources: full, namings: [] })[0] ?? "", /listens to the query of asked .*--map SYMPTOM=asked/);
  assert.equal(resultOf(await play(scenario("disk-full"), full, [{ symptom: "DiskFull", name: "asked" }])), "Healed");
  const slow = asks({ below: 0.99 }, { strategy: "ScaleUp", scale: { by: 2, max: 8 } });
  assert.equal(resultOf(await play(scenario("thundering-herd"), slow, [{ symptom: "Errors", name: "asked" }])), "Healed");
});

describe("what only the users' own monitoring knows", () => {
  const ill = (fault: object): ScenarioFile =>
    written({ lasts: "25m", monitoring: { asked: true }, faults: [{ what: "Stuck", ...fault }] });
  const cures = (rung: object): Resources => ({
    ...examples,
    policies: [policy("stuck", { signals: [{ name: "stuck", alert: { alertname: "Stuck" } }], ladder: [rung], attempts: { max: 1 } })],
  });
  const cured = async (fault: object, rung: object): Promise<Result | undefined> => resultOf(await play(ill(fault), cures(rung)));
  const [restart, roll, job] = [{ strategy: "RestartPod" }, { strategy: "RollingRestart" }, { strategy: "RunJob", command: ["clean"] }];
  const scale = { strategy: "ScaleUp", scale: { by: 1, max: 8 } };

  it("ends with the replica that has it, unless it recurs", async () => {
    assert.equal(await cured({ kind: "PodCondition" }, restart), "Healed");
    assert.equal(await cured({ kind: "PodCondition", recurs: true }, restart), "Escalated");
  });

  it("ends, as a whole, by what the scenario says, and by nothing else", async () => {
    const whole = { kind: "WorkloadCondition" };
    assert.equal(await cured({ ...whole, endedBy: ["Restart"] }, roll), "Healed");
    assert.equal(await cured({ ...whole, endedBy: ["Scale"] }, scale), "Healed");
    assert.equal(await cured({ ...whole, endedBy: ["Job"] }, job), "Healed");
    assert.equal(await cured({ ...whole, endedBy: ["Scale", "Job"] }, roll), "Escalated");
    assert.equal(await cured(whole, scale), "Escalated");
  });

  it("ends by an action where its replicas serve actions; else the ladder goes on", async () => {
    const fault = { kind: "PodCondition", recurs: true, endedBy: ["Action"] };
    const reset = policy("reset", {
      signals: [{ name: "stuck", alert: { alertname: "Stuck" } }],
      ladder: [{ strategy: "ResetConnectionPool" }, { strategy: "RestartPod" }],
    });
    const on = (servesActions: boolean): Promise<RehearsalReport> => {
      const workloads = cluster.workloads.map((each) => (each.name === "payments" ? { ...each, servesActions } : each));
      const resources = { ...examples, policies: [reset] };
      return rehearse({
        name: "test",
        file: ill(fault),
        cluster: { ...cluster, workloads },
        resources,
        target: TARGET,
        seed: 1,
        namings: [],
      });
    };
    const [serving, mute] = [await on(true), await on(false)];
    assert.deepEqual(
      serving.effects.map(({ verb }) => verb),
      ["markInvoked", "invoke"],
    );
    assert.deepEqual([resultOf(serving), serving.violations, mute.violations], ["Healed", [], []]);
    assert.notEqual(resultOf(mute), "Healed");
    assert.equal(mute.faults[0]?.by[0], "shop/reset: ResetConnectionPool, then RestartPod");
  });

  it("shows as errors, too, where it has a share, and is unheard where nobody listens", async () => {
    const errors = { ...examples, policies: [policy("errors", { signals: [{ name: "e", errorRate: { above: "10%" } }], ladder: [roll] })] };
    const failing = { kind: "WorkloadCondition", share: 0.5, endedBy: ["Restart"] };
    assert.equal(resultOf(await play(ill(failing), errors)), "Healed");
    const report = await play(ill({ kind: "PodCondition" }), errors);
    assert.equal(resultOf(report), "Unheard");
    assert.match(report.faults[0]?.why ?? "", /listens to Stuck \(an alert, a metric or the signal of a query of this name\)/);
  });

  it("needs a name, and what one replica has is ended by no rollout", () => {
    const refused = (fault: object): boolean => !scenarioFileSchema.safeParse({ description: "x", faults: [fault] }).success;
    assert.equal(refused({ kind: "PodCondition" }), true);
    assert.equal(refused({ kind: "PodCondition", what: "X", endedBy: ["Restart"] }), true);
    assert.equal(refused({ kind: "WorkloadCondition", what: "X", endedBy: ["Action"] }), true);
    assert.equal(refused({ kind: "PodCondition", what: "X", endedBy: ["Job", "Action"] }), false);
  });
});

it("a policy that only observes is told as such, with what it would have done", async () => {
  const observing = policy("hung", { mode: "Observe", signals: [{ name: "hung", probe: {} }], ladder: [{ strategy: "RestartPod" }] });
  const report = await play(scenario("hang"), { ...examples, policies: [observing] });
  assert.equal(resultOf(report), "Observed");
  assert.deepEqual(report.faults[0]?.by, ["shop/hung: would RestartPod"]);
});

describe("two policies at one workload", () => {
  const probe = { name: "hung", probe: { failingFor: "20s" } };
  const restarts = policy("restarts", { signals: [probe], ladder: [{ strategy: "RestartPod" }] });

  it("are told as fighting, with what was held back", async () => {
    const rolls = policy("rolls", { signals: [probe], ladder: [{ strategy: "RollingRestart" }] });
    const report = await play(scenario("hang"), { ...examples, policies: [restarts, rolls] });
    assert.deepEqual(
      report.conflicts.map(({ workload, policies }) => [workload, ...policies]),
      [[TARGET, "shop/restarts", "shop/rolls"]],
    );
  });

  it("are not where each has its own fault", async () => {
    const leaks = policy("leaks", { signals: [{ name: "leak", trend: {} }], ladder: [{ strategy: "RestartPod" }] });
    assert.deepEqual((await play(scenario("hang"), { ...examples, policies: [restarts, leaks] })).conflicts, []);
  });
});

it("an autoscaler follows the load, within its bounds", async () => {
  const scaled = (max: number): Promise<RehearsalReport> => {
    const workloads = cluster.workloads.map((each) => (each.name === "payments" ? { ...each, autoscaler: { min: 3, max } } : each));
    const file = written({ lasts: "30m", faults: [{ kind: "Overload", share: 1.6, for: "20m" }] });
    return rehearse({ name: "test", file, cluster: { ...cluster, workloads }, resources: DEAF, target: TARGET, seed: 1, namings: [] });
  };
  const desired = async (max: number): Promise<number | undefined> => (await scaled(max)).unavailable[0]?.desired;
  assert.deepEqual([await desired(8), await desired(4)], [5, 4]);
});

it("what is begun only once a fault and its circumstances are over is no result of it", async () => {
  const marked = written({ lasts: "10m", faults: [{ kind: "Mark", at: "1m", what: "Workload" }, { kind: "PodHang" }] });
  const results = [1, 2, 3].map((seed) =>
    rehearse({ name: "test", file: marked, cluster, resources: examples, target: TARGET, seed, namings: [] }).then(resultOf),
  );
  assert.deepEqual(await Promise.all(results), ["HeldBack", "HeldBack", "HeldBack"]);
});

it("what Nightshift itself takes down is told beside the strictest budget", async () => {
  const evicts = policy("evicts", { signals: [{ name: "errors", alert: { alertname: "DiskFull" } }], ladder: [{ strategy: "EvictPod" }] });
  const report = await play(written({ lasts: "15m", faults: [{ kind: "DiskFull", share: 0.1 }] }), { ...examples, policies: [evicts] });
  const [target] = report.unavailable;
  assert.equal(resultOf(report), "Healed");
  assert.equal(target?.throughNightshift, 1);
  assert.deepEqual(target.budget, { allowed: 1, source: "policy shop/evicts" });
  const none = { ...written({ lasts: "15m", faults: [{ kind: "DiskFull", share: 0.1 }] }), expect: { maxUnavailable: 0 } };
  assert.match((await play(none, { ...examples, policies: [evicts] })).unmet[0] ?? "", /at most 0 unavailable through Nightshift, 1 of 3/);
});

describe("a described cluster", () => {
  const described = clusterSchema.parse({
    nodes: [
      { name: "a1", zone: "a" },
      { name: "b1", zone: "b" },
    ],
    workloads: [
      { namespace: "shop", name: "payments", replicas: 2, nodes: ["a1", "b1"], labels: { app: "payments" } },
      { namespace: "shop", name: "orders", replicas: 2, nodes: ["b1", "b1"], labels: { app: "payments" } },
      { namespace: "mail", name: "payments", replicas: 1, nodes: ["b1"] },
    ],
  });

  it("has a workload of each group that the same policies cover as its targets", () => {
    const selected = policy("selected", {
      targets: [{ selector: { matchLabels: { app: "payments" } } }],
      signals: [{ name: "hung", probe: {} }],
      ladder: [{ strategy: "RestartPod" }],
    });
    assert.deepEqual(targetsOf(described, [selected]), ["shop/payments"]);
    const named = policy("named", { signals: [{ name: "hung", probe: {} }], ladder: [{ strategy: "RestartPod" }] });
    assert.deepEqual(targetsOf(described, [selected, named]), ["shop/payments", "shop/orders"]);
    assert.deepEqual(targetsOf(described, []), []);
  });

  it("has faults of nodes befall what is on the target's first node", async () => {
    const node = written({ lasts: "10m", faults: [{ kind: "NodeDown", for: "5m" }] });
    const common = { name: "test", cluster: described, resources: examples, seed: 1, namings: [] };
    const first = await rehearse({ ...common, file: node, target: TARGET });
    assert.deepEqual([first.faults.map(({ workload }) => workload), first.uncovered], [[TARGET], []]);
    const second = await rehearse({ ...common, file: node, target: "shop/orders" });
    assert.deepEqual(second.faults.map(({ workload }) => workload).toSorted(), ["shop/orders", TARGET]);
    assert.deepEqual(second.uncovered, ["mail/payments"]);
  });

  it("keeps workloads of one name in two namespaces apart", async () => {
    const file = written({ lasts: "10m", faults: [{ kind: "PodHang", on: "mail/payments" }] });
    const report = await rehearse({ name: "test", file, cluster: described, resources: examples, target: TARGET, seed: 1, namings: [] });
    assert.deepEqual([report.faults, report.uncovered, report.pages], [[], ["mail/payments"], []]);
    assert.equal(report.unavailable[0]?.most, 0);
  });

  it("is not played on where it has not what the scenario speaks of", async () => {
    const on = (fault: object): Promise<RehearsalReport> =>
      rehearse({
        name: "test",
        file: written({ faults: [fault] }),
        cluster: { ...described, nodes: [{ name: "a1" }, { name: "b1" }] },
        resources: { ...examples, dependencies: [] },
        target: TARGET,
        seed: 1,
        namings: [],
      });
    await assert.rejects(on({ kind: "ServiceErrors", on: "Dependency" }), { code: "NOT_PLAYABLE", message: /calls nothing/ });
    await assert.rejects(on({ kind: "PodHang", on: "shop/nobody" }), { code: "UNKNOWN_WORKLOAD", message: /no workload shop\/nobody/ });
    await assert.rejects(on({ kind: "ZoneDown" }), { code: "NOT_PLAYABLE", message: /no zone of node a1/ });
  });
});
