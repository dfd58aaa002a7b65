import { API_VERSION } from "../../api/meta.ts";
import type { RemediationBudget } from "../../api/budget.ts";
import type { ServiceDependency } from "../../api/dependency.ts";
import { policySpecSchema, type RemediationPolicy } from "../../api/policy.ts";
import { type SimRandom, streamOf } from "./random.ts";
import {
  type AlertRule,
  type DrawnKind,
  type Fault,
  FAULT_KINDS,
  type Habit,
  type NodeSpec,
  type Scenario,
  type WorkloadSpec,
} from "./scenario.ts";
import { NAMESPACE } from "./world.ts";

const MINUTE = 60_000;
/** Where nodes are targets. */
const SYSTEM = "nightshift-system";

/** The scenario of a seed. */
export function generateScenario(seed: number): Scenario {
  const random = streamOf(seed, "scenario");
  const faultsUntil = random.pick([5, 6, 8, 8, 10, 12, 15, 25]) * MINUTE;
  const operators = random.pick([1, 2, 2, 3]);
  const nodeRandom = streamOf(seed, "scenario/nodes");
  const nodes = someNodes(nodeRandom);
  const nodesIn = typeof nodes !== "number" && nodeRandom.chance(0.6) ? SYSTEM : undefined;
  const workloads = someWorkloads(streamOf(seed, "scenario/workloads"));
  const rules: AlertRule[] = [
    { alertname: "PodNotReady", condition: "NotReady", for: random.pick([0, 15_000, 30_000]) },
    { alertname: "HighErrorRate", condition: "Errors", for: random.pick([15_000, 60_000]) },
    { alertname: "PodMemory", condition: "Memory", for: 30_000 },
    { alertname: "RolloutStuck", condition: "RolloutStuck", for: 0 },
  ];
  const policyRandom = streamOf(seed, "scenario/policies");
  const policies = workloads.flatMap((workload) =>
    Array.from({ length: policyRandom.pick([0, 1, 1, 1, 1, 1, 1, 1, 1, 2]) }, (_, i) => policyFor(workload, i, policyRandom)),
  );
  if (policies.length === 0) policies.push(policyFor(workloads[0] as WorkloadSpec, 0, policyRandom));
  if (nodesIn !== undefined && nodeRandom.chance(0.85)) policies.push(nodePolicy(nodeRandom));
  const scenario: Scenario = {
    seed,
    faultsUntil,
    operators,
    nodes,
    ...(nodesIn === undefined ? {} : { nodesIn }),
    workloads,
    policies,
    budgets: someBudgets(streamOf(seed, "scenario/budgets")),
    tracing: streamOf(seed, "scenario/tracing").chance(0.5),
    dependencies: workloads.flatMap(({ name, calls }) => calls.filter(() => policyRandom.chance(0.8)).map((to) => dependency(name, to))),
    monitoring: {
      scrapeMs: random.pick([5_000, 15_000, 15_000]),
      evaluateMs: random.pick([5_000, 15_000]),
      rules,
      groupWaitMs: random.pick([1_000, 10_000, 30_000]),
      groupIntervalMs: random.pick([15_000, 60_000]),
      repeatMs: random.pick([2 * MINUTE, 4 * MINUTE, 60 * MINUTE]),
    },
    approver: { afterMs: random.pick([5_000, 20_000, MINUTE, 4 * MINUTE]), approves: 0.7, denies: 0.15, habits: HABITS },
    faults: someFaults(streamOf(seed, "scenario/faults"), { faultsUntil, operators, workloads, nodes, policies }),
  };
  const telling = streamOf(seed, "scenario/telling");
  return telling.chance(0.25) ? withTelling(scenario, telling) : scenario;
}

/**
 * Pods that tell themselves what is wrong: by hints, which may be unclear, and by logs; and their connections are used up. Drawn
 * from a stream of its own, so that all other scenarios are what they would be without.
 */
function withTelling(scenario: Scenario, random: SimRandom): Scenario {
  const workloads = scenario.workloads.map((workload) => ({
    ...workload,
    ...(random.chance(0.7) ? { hints: random.pick(["Named", "Named", "Named", "Bare"] as const) } : {}),
    ...(random.chance(0.6) ? { logs: true } : {}),
  }));
  const policies = scenario.policies.map((policy) => {
    const { signals, ladder } = policy.spec;
    const of = workloads.find(({ name }) => policy.spec.targets.some((target) => target.name === name));
    const told: PolicyInput[] = [
      ...(of?.hints === undefined ? [] : [{ name: "asks", hint: { action: "pool-reset", activeFor: random.pick(["30s", "2m"]) } }]),
      ...(of?.logs === undefined
        ? []
        : [{ name: "logs", log: { body: "pool exhausted", above: random.pick([0, 5]), window: random.pick(["15s", "1m"]) } }]),
    ];
    // Those that are about the workload as a whole stay so.
    if (told.length === 0 || signals.every(({ name }) => WHOLLY.includes(name))) return policy;
    const first = random.chance(0.6) ? [{ strategy: "ResetConnectionPool", timeout: "2m" }] : [];
    const kept = random.chance(0.5) ? signals : [];
    return { ...policy, spec: policySpecSchema.parse({ ...policy.spec, signals: [...told, ...kept], ladder: [...first, ...ladder] }) };
  });
  const faults = [...scenario.faults];
  for (let i = random.int(1, 3); i > 0; i--) {
    const at = random.int(MINUTE, scenario.faultsUntil - MINUTE);
    faults.push({
      id: faults.length,
      kind: "PoolExhausted",
      at,
      for: Math.min(scenario.faultsUntil - at, random.int(MINUTE, 10 * MINUTE)),
      workload: random.pick(workloads).name,
      index: random.int(0, 20),
      count: random.pick([1, 1, 2]),
      rate: random.pick([0.5, 1]),
      sticky: random.chance(0.2),
      // Of some only a restart rids them.
      ...(random.chance(0.7) ? { endedBy: ["Action"] as const } : {}),
    });
  }
  return { ...scenario, workloads, policies, faults };
}

/** Most people answer once. */
const HABITS: readonly Habit[] = ["Once", "Once", "Once", "Twice", "Contradicts", "TooLate", "Elsewhere", "Replaced"];

/** Nodes that nobody can tell apart, or one to six with names, in up to three zones. */
function someNodes(random: SimRandom): number | readonly NodeSpec[] {
  const count = random.pick([1, 2, 3, 3, 4, 6]);
  if (random.chance(0.4)) return count + 1;
  const zones = random.pick([0, 1, 2, 3]);
  const pools = random.chance(0.2) ? 2 : 1;
  return Array.from({ length: count }, (_, i) => ({
    name: `node-${i}`,
    ...(zones === 0 ? {} : { zone: `zone-${i % zones}` }),
    ...(pools === 1 ? {} : { pool: `pool-${i % pools}` }),
  }));
}

function someWorkloads(random: SimRandom): WorkloadSpec[] {
  const count = random.pick([1, 1, 2, 2, 3, 3, 4, 6]);
  const names = ["payments", "orders", "search", "mail", "billing", "ledger"].slice(0, count);
  /** All of them call the last. */
  const shared = random.chance(0.15) ? names.at(-1) : undefined;
  return names.map((name, i) => {
    const replicas = random.pick(count > 4 ? [1, 1, 2, 2, 3, 3, 4] : [1, 2, 2, 3, 3, 4, 5, 8, 12, 20]);
    const kind = random.chance(0.2) ? "StatefulSet" : "Deployment";
    const startMs = random.pick([1_000, 5_000, 20_000, 60_000]);
    const autoscaler = kind === "Deployment" && random.chance(0.15) ? { min: replicas, max: replicas + random.int(1, 4) } : undefined;
    return {
      kind,
      name,
      replicas,
      startMs,
      graceMs: random.pick([500, 5_000, 20_000]),
      ...(random.chance(0.4) ? { minAvailable: Math.max(0, replicas - random.int(0, 2)) } : {}),
      ...(autoscaler === undefined ? {} : { autoscaler }),
      servesActions: random.chance(0.7),
      rps: random.pick([0, 5, 50, 200]),
      // Only those after it: no cycle.
      calls: names.slice(i + 1).filter((called) => random.chance(0.3) || called === shared),
    };
  });
}

/** Nodes that are not ready are emptied. */
function nodePolicy(random: SimRandom): RemediationPolicy {
  const spec: PolicyInput = {
    mode: random.pick(["Enforce", "Enforce", "Enforce", "Enforce", "Approve", "Observe"]),
    targets: [{ kind: "Node", selector: { matchLabels: { "kubernetes.io/os": "linux" } } }],
    signals: [{ name: "not-ready", probe: { failingFor: random.pick(["10s", "30s", "1m"]) } }],
    ladder: [{ strategy: "CordonAndDrainNode", drain: { healWithin: random.pick(["1m", "3m"]) }, timeout: random.pick(["5m", "15m"]) }],
    verify: { stableFor: "10s", timeout: "2m" },
    budgets: [{ maxUnavailable: random.pick([1, 1, 2]) }],
    cooldown: random.pick(["0s", "30s", "2m"]),
    attempts: { max: random.int(1, 3), window: random.pick(["10m", "1h"]), reset: "5m" },
    approval: { timeout: "2m" },
    escalation: { blockedFor: random.pick(["1m", "2m", "5m"]) },
  };
  return {
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name: "nodes", namespace: SYSTEM },
    spec: policySpecSchema.parse(spec),
  };
}

function dependency(from: string, to: string): ServiceDependency {
  return {
    apiVersion: API_VERSION,
    kind: "ServiceDependency",
    metadata: { name: `${from}-${to}`, namespace: NAMESPACE },
    spec: { from: { name: from }, to: { name: to }, unhealthyAbove: "10%", window: "30s" },
  };
}

type PolicyInput = Record<string, unknown>;

/** Signals that are about pods, and those about workloads. */
const PODS = ["unready", "probe", "leak", "memory", "hot"];
const WHOLLY = ["errors", "error-alert", "stuck"];

function policyFor({ name, replicas }: WorkloadSpec, index: number, random: SimRandom): RemediationPolicy {
  const signals: PolicyInput[] = [
    { name: "unready", alert: { alertname: "PodNotReady" } },
    { name: "probe", probe: { failingFor: random.pick(["5s", "10s", "30s"]) } },
    { name: "errors", errorRate: { above: random.pick(["5%", "20%"]), for: random.pick(["10s", "30s"]) } },
    { name: "error-alert", alert: { alertname: "HighErrorRate" } },
    { name: "leak", trend: { horizon: random.pick(["5m", "15m"]) } },
    { name: "memory", alert: { alertname: "PodMemory" } },
    { name: "hot", metric: { name: "memory", above: 400_000_000, for: "20s" } },
    { name: "stuck", alert: { alertname: "RolloutStuck" } },
  ];
  // Of pods or of the whole workload, or of both.
  const kinds = random.pick([[PODS], [PODS], [WHOLLY], [PODS, WHOLLY]]).flat();
  const chosen = signals.filter(({ name: signal }) => kinds.includes(String(signal)) && random.chance(0.7));
  const stableFor = random.pick([10, 30, 60]);
  const window = random.pick(["5m", "10m", "1h"]);
  const spec: PolicyInput = {
    mode: random.pick(["Enforce", "Enforce", "Enforce", "Enforce", "Enforce", "Enforce", "Enforce", "Approve", "Approve", "Observe"]),
    targets: [{ name }],
    signals: chosen.length > 0 ? chosen : [random.pick(signals)],
    maxSignalAge: random.pick(["1m", "5m", "10m"]),
    ladder: someLadder(
      replicas,
      chosen.every(({ name: signal }) => WHOLLY.includes(String(signal))),
      random,
    ),
    verify: { stableFor: `${stableFor}s`, timeout: random.pick([`${stableFor * 2}s`, "2m", "4m"]) },
    budgets: random.pick<PolicyInput[]>([
      [{ maxUnavailable: 1 }],
      [{ maxUnavailable: 1 }],
      [{ maxUnavailable: 2 }],
      [{ maxUnavailable: "10%", whenRoundsToZero: "AllowOne" }],
      [{ maxUnavailable: "25%", whenRoundsToZero: "AllowOne" }],
      [{ maxUnavailable: "25%" }],
      [{ maxUnavailable: 1 }, { maxUnavailable: 0, schedule: "*/20 * * * *", duration: "5m" }],
      [{ maxUnavailable: 2 }, { maxUnavailable: 0, schedule: "*/6 * * * *", duration: "2m" }],
    ]),
    cooldown: random.pick(["0s", "30s", "30s", "2m", "5m"]),
    attempts: { max: random.int(1, 3), window, ...(random.chance(0.5) ? { reset: random.pick(["1m", "5m"]) } : {}) },
    approval: { timeout: random.pick(["2m", "5m"]) },
    escalation: { blockedFor: random.pick(["1m", "2m", "5m"]) },
    ...(random.chance(0.15)
      ? {
          windows: random.pick([
            [{ schedule: "*/30 * * * *", duration: "20m" }],
            [{ schedule: "*/5 * * * *", duration: "2m" }],
            [{ schedule: "4 0 * * *", duration: "3m" }],
          ]),
        }
      : {}),
  };
  return {
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name: `${name}-${index}`, namespace: NAMESPACE },
    spec: policySpecSchema.parse(spec),
  };
}

/** `wholly`: what the policy goes by is seen on workloads, not on pods. */
function someLadder(replicas: number, wholly: boolean, random: SimRandom): PolicyInput[] {
  const captures = random.chance(0.3) ? [{ type: "HeapSnapshot", required: random.chance(0.7) }] : [];
  const timeout = random.pick(["2m", "5m", "10m"]);
  const rungs: PolicyInput[] = [
    { strategy: "RestartPod", captures, timeout },
    { strategy: "RestartPod", timeout },
    { strategy: "EvictPod", timeout },
    { strategy: "EvictPod", captures, timeout },
    { strategy: "ResetConnectionPool", timeout },
    { strategy: "FlushCache", timeout },
    {
      strategy: "ResizeResources",
      resize: {
        memory: { ...random.pick([{ factor: 1.5 }, { factor: 3 }, { by: "64Mi" }]), max: random.pick(["700Mi", "1Gi", "4Gi"]) },
        whenRefused: random.pick(["Fail", "Rollout"]),
      },
      timeout,
    },
    { strategy: "RollingRestart", timeout },
    { strategy: "RollingRestart", captures, timeout },
    { strategy: "ScaleUp", scale: { by: 1, max: replicas + 2, ...(random.chance(0.5) ? { for: "1m" } : {}) }, timeout },
    { strategy: "RollbackRollout", timeout },
    { strategy: "RunJob", command: ["flush"], timeout },
    { strategy: "Notify", message: "look at it" },
  ];
  const ofPods = rungs.slice(0, 7);
  const ofAll = rungs.slice(6, -1);
  const rollback = rungs.filter(({ strategy }) => strategy === "RollbackRollout");
  const count = random.pick([1, 1, 2, 2, 3]);
  return Array.from({ length: count }, (_, i) =>
    random.pick(i > 0 || random.chance(0.3) ? rungs : random.chance(0.3) && wholly ? rollback : wholly ? ofAll : ofPods),
  );
}

function someBudgets(random: SimRandom): RemediationBudget[] {
  if (!random.chance(0.4)) return [];
  const maxUnavailable = random.pick([1, 2, "20%"]);
  return [
    {
      apiVersion: API_VERSION,
      kind: "RemediationBudget",
      metadata: { name: "platform", namespace: NAMESPACE },
      spec: {
        budgets: [
          {
            maxUnavailable,
            timeZone: "UTC",
            whenRoundsToZero: typeof maxUnavailable === "string" && random.chance(0.5) ? "AllowOne" : "Block",
          },
        ],
        ...(random.chance(0.5) ? { maxConcurrent: random.int(1, 3) } : {}),
      },
    },
  ];
}

const STORMS = ["Replicas", "Replicas", "Workloads", "Workloads", "Node", "Zone", "Dependency"] as const;

/**
 * Much that falls ill at once: replicas of one workload or of several, what is on a node or in a zone, what calls the one that
 * all call. As many as it takes to be a storm, or one fewer.
 */
function someStorm(
  random: SimRandom,
  faultsUntil: number,
  workloads: readonly WorkloadSpec[],
  nodes: number | readonly NodeSpec[],
): Omit<Fault, "id">[] {
  const at = random.int(60_000, faultsUntil - MINUTE);
  const lasts = Math.min(faultsUntil - at, random.int(MINUTE, 10 * MINUTE));
  const hang = (workload: WorkloadSpec, count: number): Omit<Fault, "id"> => {
    const later = random.int(0, 8_000);
    const sticky = random.chance(0.3);
    return { kind: "PodHang", at: at + later, for: lasts - later, workload: workload.name, index: 0, count, sticky };
  };
  switch (random.pick(STORMS)) {
    case "Replicas": {
      const workload = random.pick(workloads);
      return [hang(workload, Math.max(1, workload.replicas - random.int(0, 1)))];
    }
    case "Workloads":
      return workloads
        .slice(random.int(0, 1))
        .map((workload) => hang(workload, random.pick([1, Math.ceil(workload.replicas / 2), workload.replicas])));
    case "Node":
      return [{ kind: random.pick(["NodeDown", "NodeGone"]), at, for: lasts, index: random.int(0, 5) }];
    case "Zone": {
      return [{ kind: "ZoneDown", at, for: lasts, ...someZone(random, nodes) }];
    }
    case "Dependency":
      return [{ kind: "ServiceErrors", at, for: lasts, workload: workloads.at(-1)?.name ?? "", rate: 0.8 }];
  }
}

/** Faults that are what Nightshift is there for: every run has some. */
const ILLNESSES: readonly DrawnKind[] = [
  "PodHang",
  "PodHang",
  "PodHang",
  "PodErrors",
  "PodErrors",
  "PodLeak",
  "PodLeak",
  "CrashLoop",
  "ServiceErrors",
  "PodCrash",
  "BadRollout",
  "BadRollout",
];

/** What befalls nodes where they are targets. */
const OF_NODES: readonly DrawnKind[] = ["NodeIll", "NodeIll", "NodeIll", "NodeDown", "NodeGone", "CordonByPerson"];

/** What people say and change in the midst of it. */
const BY_PEOPLE: readonly DrawnKind[] = [
  "Mark",
  "PausePolicy",
  "PauseAll",
  "FreezeBudget",
  "EditBudget",
  "EditMode",
  "EditPolicy",
  "EditPolicy",
  "DeletePolicy",
  "Rollout",
];

function someFaults(
  random: SimRandom,
  {
    faultsUntil,
    operators,
    workloads,
    nodes,
    policies,
  }: {
    faultsUntil: number;
    operators: number;
    workloads: readonly WorkloadSpec[];
    nodes: number | readonly NodeSpec[];
    policies: readonly RemediationPolicy[];
  },
): Fault[] {
  const faults: Fault[] = [];
  const add = (kind: DrawnKind, of = workloads): void => {
    // Not before monitoring and operators have begun.
    const at = random.int(40_000, faultsUntil - MINUTE);
    const longest = faultsUntil - at;
    const lasting = (least: number, most: number): number => Math.min(longest, random.int(least, most));
    faults.push({
      id: faults.length,
      kind,
      at,
      ...detailsOf(kind, random, lasting, { operators, policies: policies.length, workload: random.pick(of).name, nodes }),
    });
  };
  const ills = random.int(2, 6);
  const covered = workloads.filter(({ name }) => policies.some(({ spec }) => spec.targets.some((target) => target.name === name)));
  for (let i = 0; i < ills; i++) add(random.pick(ILLNESSES), random.chance(0.7) ? covered : workloads);
  const others = random.pick([0, 2, 4, 6, 8, 12]);
  for (let i = 0; i < others; i++) add(random.pick(FAULT_KINDS));
  if (policies.some(({ metadata }) => metadata.namespace === SYSTEM)) for (let i = random.int(0, 2); i > 0; i--) add(random.pick(OF_NODES));
  const edits = random.pick([0, 0, 0, 0, 1, 2]);
  for (let i = 0; i < edits; i++) add(random.pick(BY_PEOPLE));
  if (random.chance(0.2))
    for (const fault of someStorm(random, faultsUntil, workloads, nodes)) faults.push({ ...fault, id: faults.length });
  return faults;
}

function detailsOf(
  kind: DrawnKind,
  random: SimRandom,
  lasting: (least: number, most: number) => number,
  { operators, policies, workload, nodes }: { operators: number; policies: number; workload: string; nodes: number | readonly NodeSpec[] },
): Omit<Fault, "id" | "kind" | "at"> {
  const index = random.int(0, 20);
  const operator = random.chance(0.5) ? {} : { index: random.int(0, operators - 1) };
  const long = lasting(MINUTE, random.pick([8, 15, 25]) * MINUTE);
  const short = lasting(5_000, 4 * MINUTE);
  switch (kind) {
    case "PodHang":
    case "PodErrors":
      return { workload, index, for: long, rate: random.pick([0.5, 1]), count: random.pick([1, 1, 1, 2, 3]), sticky: random.chance(0.3) };
    case "PodLeak":
      return { workload, index, for: long, ms: random.int(3, 15) * MINUTE, count: random.pick([1, 1, 2]), sticky: random.chance(0.4) };
    case "CrashLoop":
      return { workload, index, for: long, ms: random.int(30_000, 120_000), count: 1, sticky: random.chance(0.5) };
    case "PodCrash":
    case "DeletePod":
      return { workload, index, for: 0 };
    case "SlowStart":
      return { workload, for: long, ms: random.int(10_000, 200_000) };
    case "NodeDown":
    case "NodeIll":
    case "CordonByPerson":
    case "NodeGone":
      return { index, for: lasting(30_000, 10 * MINUTE) };
    case "ResizeRefused":
      return { index, for: long, what: random.pick(["Infeasible", "Deferred"]) };
    case "ZoneDown":
      return { ...someZone(random, nodes), for: lasting(30_000, 10 * MINUTE) };
    case "ServiceErrors":
      return { workload, for: long, rate: random.pick([0.3, 0.8]) };
    case "ScaleByPerson":
      return { workload, for: 0, count: random.pick([-1, 1, 2]) };
    case "ResizeByPerson":
      return { workload, index, for: 0, rate: random.pick([0.8, 1.5, 3]) };
    case "Rollout":
      return { workload, for: 0 };
    case "BadRollout":
      return { workload, for: long, ...(random.chance(0.3) ? { what: "Errors", rate: 0.8 } : {}) };
    case "Mark":
      return { workload, index, for: random.chance(0.3) ? long : short, what: random.pick(["Pod", "Workload", "Namespace", "Node"]) };
    case "PausePolicy":
    case "PauseAll": {
      const lasts = random.chance(0.3) ? long : short;
      // Lifted, or over by itself before that.
      const end = random.pick([{ what: "Open" }, {}, { ms: random.int(1_000, Math.max(2_000, lasts)) }]);
      const of = kind === "PausePolicy" ? { index: random.int(0, policies - 1) } : random.chance(0.5) ? { workload } : {};
      return { ...of, ...end, for: lasts };
    }
    case "EditMode":
      return { index: random.int(0, policies - 1), for: random.chance(0.5) ? long : short, what: random.pick(["Observe", "Approve"]) };
    case "EditPolicy":
      return {
        index: random.int(0, policies - 1),
        for: random.chance(0.5) ? long : short,
        what: random.pick(["Budgets", "Budgets", "Windows", "Cooldown", "Attempts", "Ladder"]),
      };
    case "FreezeBudget":
    case "EditBudget":
    case "DeletePolicy":
      return { index: random.int(0, policies - 1), for: random.chance(0.5) ? long : short };
    case "GitOpsReverts":
      return { workload, for: long };
    case "ApiErrors":
    case "ApiLostReplies":
    case "ApiConflicts":
      return { ...operator, for: short, rate: random.pick([0.1, 0.3, 0.7]) };
    case "ApiSlow":
      return { ...operator, for: short, ms: random.pick([500, 3_000, 7_000]) };
    case "ApiOutage":
      return { ...operator, for: random.chance(0.3) ? lasting(3 * MINUTE, 10 * MINUTE) : short };
    case "StaleReads":
    case "WatchDuplicates":
      return { ...operator, for: short, rate: random.pick([0.3, 1]) };
    case "WatchLag":
      return { ...operator, for: short, ms: random.pick([500, 3_000, 20_000]), ...someKind(random) };
    case "WatchDrops":
      return { ...operator, for: lasting(5_000, 2 * MINUTE), rate: random.pick([0.3, 1]), ...someKind(random) };
    case "WatchReorders":
      return { ...operator, for: short };
    case "WatchGone":
    case "Crash":
      return { ...operator, for: 0 };
    case "CrashBeforeWrite":
    case "CrashAfterWrite":
      return { for: long, count: random.int(1, 25) };
    case "Stop":
      return { ...operator, for: 0, ms: random.pick([2_000, 12_000, 40_000, 200_000]) };
    case "ClockJump":
      return { ...operator, for: long, ms: random.pick([-3_600_000, -20_000, 20_000, 90_000, 3_600_000]) };
    case "LeaseCut":
      return { ...operator, for: lasting(5_000, 60_000) };
    case "LeaseDeleted":
      return { for: 0 };
    case "TelemetryGap":
    case "ScrapeGap":
      return { for: random.chance(0.3) ? lasting(5 * MINUTE, 10 * MINUTE) : short };
    case "AlertDuplicates":
      return { for: long, rate: 1, ms: 30_000 };
    case "AlertDelay":
      return { for: long, ms: random.pick([5_000, 60_000]) };
    case "AlertReplay":
      return { for: 0, count: random.int(1, 10) };
    case "AlertFlapping":
      return { workload, for: long, rate: 0.5 };
    case "ReceiverDown":
      return { for: random.chance(0.5) ? long : short, rate: random.pick([0.5, 1]) };
    case "AuditFails":
      return { for: short, rate: random.pick([0.3, 1]) };
    case "CaptureFails":
      return { for: long, rate: random.pick([0.5, 1]) };
  }
}

/** One of the zones, or a node where there are none. */
function someZone(random: SimRandom, nodes: number | readonly NodeSpec[]): { readonly zone: string } | { readonly index: number } {
  const zones = typeof nodes === "number" ? [] : nodes.flatMap(({ zone }) => zone ?? []);
  return zones.length > 0 ? { zone: random.pick(zones) } : { index: 0 };
}

/** The watch of one kind alone, or of all. */
function someKind(random: SimRandom): { readonly what?: string } {
  const what = random.pick([undefined, "Workload", "Remediation", "RemediationPolicy"]);
  return what === undefined ? {} : { what };
}
