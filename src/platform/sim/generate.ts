import { API_VERSION } from "../../api/meta.ts";
import type { RemediationBudget } from "../../api/budget.ts";
import type { ServiceDependency } from "../../api/dependency.ts";
import { policySpecSchema, type RemediationPolicy } from "../../api/policy.ts";
import { type SimRandom, streamOf } from "./random.ts";
import { type AlertRule, type DrawnKind, type Fault, FAULT_KINDS, type Scenario, type WorkloadSpec } from "./scenario.ts";
import { NAMESPACE } from "./world.ts";

const MINUTE = 60_000;

/** The scenario of a seed. */
export function generateScenario(seed: number): Scenario {
  const random = streamOf(seed, "scenario");
  const faultsUntil = random.pick([5, 6, 8, 8, 10, 12, 15, 25]) * MINUTE;
  const operators = random.pick([1, 2, 2, 3]);
  const nodes = random.int(2, 6);
  const workloads = someWorkloads(streamOf(seed, "scenario/workloads"));
  const rules: AlertRule[] = [
    { alertname: "PodNotReady", condition: "NotReady", for: random.pick([0, 15_000, 30_000]) },
    { alertname: "HighErrorRate", condition: "Errors", for: random.pick([15_000, 60_000]) },
    { alertname: "PodMemory", condition: "Memory", for: 30_000 },
  ];
  const policyRandom = streamOf(seed, "scenario/policies");
  const policies = workloads.flatMap((workload) =>
    Array.from({ length: policyRandom.pick([0, 1, 1, 1, 1, 2]) }, (_, i) => policyFor(workload, i, policyRandom)),
  );
  if (policies.length === 0) policies.push(policyFor(workloads[0] as WorkloadSpec, 0, policyRandom));
  return {
    seed,
    faultsUntil,
    operators,
    nodes,
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
    approver: { afterMs: random.pick([10_000, MINUTE, 4 * MINUTE]), approves: 0.6, denies: 0.2 },
    faults: someFaults(streamOf(seed, "scenario/faults"), { faultsUntil, operators, workloads, policies: policies.length }),
  };
}

function someWorkloads(random: SimRandom): WorkloadSpec[] {
  const count = random.pick([1, 1, 2, 2, 3, 4]);
  const names = ["payments", "orders", "search", "mail"].slice(0, count);
  return names.map((name, i) => {
    const replicas = random.pick([1, 2, 2, 3, 3, 4, 5, 8, 12, 20]);
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
      rps: random.pick([0, 5, 50, 200]),
      // Only those after it: no cycle.
      calls: names.slice(i + 1).filter(() => random.chance(0.4)),
    };
  });
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

function policyFor({ name, replicas }: WorkloadSpec, index: number, random: SimRandom): RemediationPolicy {
  const signals: PolicyInput[] = [
    { name: "unready", alert: { alertname: "PodNotReady" } },
    { name: "probe", probe: { failingFor: random.pick(["5s", "10s", "30s"]) } },
    { name: "errors", errorRate: { above: random.pick(["5%", "20%"]), for: random.pick(["10s", "30s"]) } },
    { name: "error-alert", alert: { alertname: "HighErrorRate" } },
    { name: "leak", trend: { horizon: random.pick(["5m", "15m"]) } },
    { name: "memory", alert: { alertname: "PodMemory" } },
    { name: "hot", metric: { name: "memory", above: 400_000_000, for: "20s" } },
  ];
  const chosen = signals.filter(() => random.chance(0.5));
  const stableFor = random.pick([10, 30, 60]);
  const window = random.pick(["5m", "10m", "1h"]);
  const spec: PolicyInput = {
    mode: random.pick(["Enforce", "Enforce", "Enforce", "Enforce", "Enforce", "Enforce", "Approve", "Observe"]),
    targets: [{ name }],
    signals: chosen.length > 0 ? chosen : [random.pick(signals)],
    maxSignalAge: random.pick(["1m", "5m", "10m"]),
    ladder: someLadder(replicas, random),
    verify: { stableFor: `${stableFor}s`, timeout: random.pick([`${stableFor * 2}s`, "2m", "4m"]) },
    budgets: random.pick<PolicyInput[]>([
      [{ maxUnavailable: 1 }],
      [{ maxUnavailable: 1 }],
      [{ maxUnavailable: 2 }],
      [{ maxUnavailable: "10%", whenRoundsToZero: "AllowOne" }],
      [{ maxUnavailable: "25%", whenRoundsToZero: "AllowOne" }],
      [{ maxUnavailable: "25%" }],
      [{ maxUnavailable: 1 }, { maxUnavailable: 0, schedule: "*/20 * * * *", duration: "5m" }],
    ]),
    cooldown: random.pick(["0s", "30s", "30s", "2m", "5m"]),
    attempts: { max: random.int(1, 3), window, ...(random.chance(0.5) ? { reset: random.pick(["1m", "5m"]) } : {}) },
    approval: { timeout: random.pick(["2m", "5m"]) },
    escalation: { blockedFor: random.pick(["1m", "2m", "5m"]) },
    ...(random.chance(0.1) ? { windows: [{ schedule: "*/30 * * * *", duration: "20m" }] } : {}),
  };
  return {
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name: `${name}-${index}`, namespace: NAMESPACE },
    spec: policySpecSchema.parse(spec),
  };
}

function someLadder(replicas: number, random: SimRandom): PolicyInput[] {
  const captures = random.chance(0.3) ? [{ type: "HeapSnapshot", required: random.chance(0.7) }] : [];
  const timeout = random.pick(["2m", "5m", "10m"]);
  const rungs: PolicyInput[] = [
    { strategy: "RestartPod", captures, timeout },
    { strategy: "RestartPod", timeout },
    { strategy: "EvictPod", timeout },
    { strategy: "EvictPod", captures, timeout },
    { strategy: "RollingRestart", timeout },
    { strategy: "RollingRestart", captures, timeout },
    { strategy: "ScaleUp", scale: { by: 1, max: replicas + 2, ...(random.chance(0.5) ? { for: "1m" } : {}) }, timeout },
    { strategy: "RollbackRollout", timeout },
    { strategy: "RunJob", command: ["flush"], timeout },
    { strategy: "Notify", message: "look at it" },
  ];
  const count = random.pick([1, 1, 2, 3]);
  return Array.from({ length: count }, (_, i) => (i === 0 && random.chance(0.6) ? random.pick(rungs.slice(0, 4)) : random.pick(rungs)));
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

/** Faults that are what Nightshift is there for: every run has some. */
const ILLNESSES: readonly DrawnKind[] = [
  "PodHang",
  "PodHang",
  "PodErrors",
  "PodLeak",
  "CrashLoop",
  "ServiceErrors",
  "PodCrash",
  "BadRollout",
];

function someFaults(
  random: SimRandom,
  {
    faultsUntil,
    operators,
    workloads,
    policies,
  }: { faultsUntil: number; operators: number; workloads: readonly WorkloadSpec[]; policies: number },
): Fault[] {
  const faults: Fault[] = [];
  const add = (kind: DrawnKind): void => {
    // Not before monitoring and operators have begun.
    const at = random.int(40_000, faultsUntil - MINUTE);
    const longest = faultsUntil - at;
    const lasting = (least: number, most: number): number => Math.min(longest, random.int(least, most));
    faults.push({
      id: faults.length,
      kind,
      at,
      ...detailsOf(kind, random, lasting, { operators, policies, workload: random.pick(workloads).name }),
    });
  };
  const ills = random.int(3, 9);
  for (let i = 0; i < ills; i++) add(random.pick(ILLNESSES));
  const others = random.pick([0, 2, 4, 6, 8, 12]);
  for (let i = 0; i < others; i++) add(random.pick(FAULT_KINDS));
  return faults;
}

function detailsOf(
  kind: DrawnKind,
  random: SimRandom,
  lasting: (least: number, most: number) => number,
  { operators, policies, workload }: { operators: number; policies: number; workload: string },
): Omit<Fault, "id" | "kind" | "at"> {
  const index = random.int(0, 20);
  const operator = random.chance(0.5) ? {} : { index: random.int(0, operators - 1) };
  const long = lasting(2 * MINUTE, 25 * MINUTE);
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
      return { index, for: lasting(30_000, 10 * MINUTE) };
    case "ServiceErrors":
      return { workload, for: long, rate: random.pick([0.3, 0.8]) };
    case "ScaleByPerson":
      return { workload, for: 0, count: random.pick([-1, 1, 2]) };
    case "Rollout":
      return { workload, for: 0 };
    case "BadRollout":
      return { workload, for: long };
    case "Mark":
      return { workload, index, for: long, what: random.pick(["Pod", "Workload", "Namespace", "Node"]) };
    case "PausePolicy":
    case "FreezeBudget":
    case "EditMode":
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

/** The watch of one kind alone, or of all. */
function someKind(random: SimRandom): { readonly what?: string } {
  const what = random.pick([undefined, "Workload", "Remediation", "RemediationPolicy"]);
  return what === undefined ? {} : { what };
}
