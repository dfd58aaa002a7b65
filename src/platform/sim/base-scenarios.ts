import { API_VERSION } from "../../api/meta.ts";
import { policySpecSchema } from "../../api/policy.ts";
import type { AlertRule, Fault, NodeSpec, Scenario, WorkloadSpec } from "./scenario.ts";
import { NAMESPACE } from "./world.ts";

/** What is played once without a fault of the API and of operators, and then once for each point and each way to perturb it. */
export interface BaseScenario {
  readonly name: string;
  /** What happens in it. */
  readonly doc: string;
  readonly scenario: Scenario;
}

const MINUTE = 60_000;
/** Where nodes are targets. */
const SYSTEM = "nightshift-system";
/** Nobody reaches it, and each base scenario is a stream of random numbers of its own. */
const SEED = 1_000_000_000;

/** A Deployment of three that answers requests. */
function workload(name: string, more: Partial<WorkloadSpec> = {}): WorkloadSpec {
  return { kind: "Deployment", name, replicas: 3, startMs: 5_000, graceMs: 2_000, rps: 20, calls: [], ...more };
}

interface Made {
  readonly faultsUntil: number;
  readonly workloads: readonly WorkloadSpec[];
  /** Of a policy for the first workload. */
  readonly policy: Record<string, unknown>;
  readonly faults: readonly Omit<Fault, "id">[];
  readonly operators?: number;
  readonly alerts?: readonly AlertRule[];
  /** See `Monitoring.askedMs`. */
  readonly askedMs?: number;
  /** The first workload depends on the second. */
  readonly depends?: boolean;
  /** The policy is for these, not for the first workload. */
  readonly nodes?: readonly NodeSpec[];
}

function scenario(
  index: number,
  { faultsUntil, workloads, policy, faults, operators = 1, alerts = [], askedMs, depends = false, nodes }: Made,
): Scenario {
  const [name = "", other = ""] = workloads.map((each) => each.name);
  return {
    seed: SEED + index,
    faultsUntil,
    operators,
    nodes: nodes ?? 3,
    ...(nodes === undefined ? {} : { nodesIn: SYSTEM }),
    workloads,
    policies: [
      {
        apiVersion: API_VERSION,
        kind: "RemediationPolicy",
        metadata: nodes === undefined ? { name, namespace: NAMESPACE } : { name: "nodes", namespace: SYSTEM },
        spec: policySpecSchema.parse({
          mode: "Enforce",
          targets: nodes === undefined ? [{ name }] : [{ kind: "Node", selector: { matchLabels: { "kubernetes.io/os": "linux" } } }],
          maxSignalAge: "5m",
          verify: { stableFor: "10s", timeout: "1m" },
          budgets: [{ maxUnavailable: 1 }],
          cooldown: "30s",
          attempts: { max: 3, window: "10m" },
          approval: { timeout: "5m" },
          escalation: { blockedFor: "2m" },
          ...policy,
        }),
      },
    ],
    budgets: [],
    dependencies: depends
      ? [
          {
            apiVersion: API_VERSION,
            kind: "ServiceDependency",
            metadata: { name: `${name}-${other}`, namespace: NAMESPACE },
            spec: { from: { name }, to: { name: other }, unhealthyAbove: "10%", window: "30s" },
          },
        ]
      : [],
    monitoring: {
      scrapeMs: 15_000,
      evaluateMs: 15_000,
      rules: alerts,
      groupWaitMs: 10_000,
      groupIntervalMs: 60_000,
      repeatMs: 2 * MINUTE,
      ...(askedMs === undefined ? {} : { askedMs }),
    },
    approver: { afterMs: 10_000, approves: 1, denies: 0 },
    faults: faults.map((fault, id) => ({ id, ...fault })),
  };
}

/** What an illness that does not end by itself says of its time: the end of the faults comes first. */
const LASTING = 60 * MINUTE;
const UNREADY = [{ name: "probe", probe: { failingFor: "5s" } }];
const ERRORS = [{ name: "errors", errorRate: { above: "5%", for: "10s" } }];
/** What of its limit a pod uses: that, and no trend, is the same to one who begins to look in the midst of it. */
const MEMORY = [{ name: "memory", alert: { alertname: "PodMemory" } }];
const LEAKS = { faultsUntil: 22 * MINUTE, alerts: [{ alertname: "PodMemory", condition: "Memory", for: 0 }], askedMs: 10_000 } as const;
/** That an alert is over is told within its group's interval. */
const TOLD_OF = { stableFor: "10s", timeout: "3m" };
/** So slow that minutes lie between the alert and its end. */
const LEAK = { kind: "PodLeak", at: MINUTE, for: LASTING, workload: "payments", index: 0, ms: 20 * MINUTE } as const;
const RESTART = { strategy: "RestartPod", timeout: "5m" };

const MADE: readonly (Made & { readonly name: string; readonly doc: string })[] = [
  {
    name: "leak",
    doc: "A pod leaks memory: a job does not help, its heap is captured, and it is restarted.",
    faultsUntil: 8 * MINUTE,
    workloads: [workload("payments")],
    policy: {
      signals: [{ name: "leak", trend: { horizon: "15m" } }],
      ladder: [
        { strategy: "RunJob", command: ["flush"], timeout: "1m" },
        { ...RESTART, captures: [{ type: "HeapSnapshot", required: true }] },
      ],
    },
    faults: [{ kind: "PodLeak", at: MINUTE, for: LASTING, workload: "payments", index: 0, ms: 6 * MINUTE }],
  },
  {
    name: "approval",
    doc: "A pod hangs, a person is asked, says yes, and it is restarted.",
    faultsUntil: 5 * MINUTE,
    workloads: [workload("payments")],
    policy: { mode: "Approve", signals: UNREADY, ladder: [RESTART] },
    faults: [{ kind: "PodHang", at: MINUTE, for: LASTING, workload: "payments", index: 0 }],
  },
  {
    name: "storm",
    doc: "Many hang at once, whose number the storm brake holds; most become well by themselves, the rest is restarted.",
    faultsUntil: 10 * MINUTE,
    workloads: [workload("payments", { replicas: 6 }), workload("orders"), workload("search")],
    policy: { signals: UNREADY, ladder: [RESTART] },
    faults: [
      { kind: "PodHang", at: MINUTE, for: 90_000, workload: "payments", index: 0, count: 4 },
      { kind: "PodHang", at: MINUTE, for: 90_000, workload: "orders", index: 0, count: 2 },
      { kind: "PodHang", at: MINUTE, for: LASTING, workload: "payments", index: 4, count: 1 },
    ],
  },
  {
    name: "circuit",
    doc: "A pod hangs, and the job that should help it does not: after two strikes the circuit opens, and a person is paged.",
    faultsUntil: 8 * MINUTE,
    workloads: [workload("payments")],
    policy: {
      signals: UNREADY,
      ladder: [{ strategy: "RunJob", command: ["flush"], timeout: "1m" }],
      attempts: { max: 2, window: "1h" },
      verify: { stableFor: "10s", timeout: "30s" },
    },
    faults: [{ kind: "PodHang", at: MINUTE, for: LASTING, workload: "payments", index: 0 }],
  },
  {
    name: "rollback",
    doc: "A rollout does not become ready, and is rolled back.",
    faultsUntil: 6 * MINUTE,
    workloads: [workload("payments", { kind: "StatefulSet", replicas: 1 })],
    policy: { signals: ERRORS, ladder: [{ strategy: "RollbackRollout", timeout: "3m" }] },
    faults: [
      { kind: "Rollout", at: 20_000, for: 0, workload: "payments" },
      { kind: "BadRollout", at: 90_000, for: LASTING, workload: "payments" },
    ],
  },
  {
    name: "scale",
    doc: "Requests fail, replicas are added, and taken back when it is over.",
    faultsUntil: 7 * MINUTE,
    workloads: [workload("payments")],
    policy: { signals: ERRORS, ladder: [{ strategy: "ScaleUp", scale: { by: 1, max: 5, for: "1m" }, timeout: "2m" }] },
    faults: [{ kind: "ServiceErrors", at: MINUTE, for: 45_000, workload: "payments", rate: 0.5 }],
  },
  {
    name: "evict",
    doc: "A pod of a StatefulSet with a PodDisruptionBudget hangs, and is evicted.",
    faultsUntil: 5 * MINUTE,
    workloads: [workload("payments", { kind: "StatefulSet", minAvailable: 2 })],
    policy: { signals: UNREADY, ladder: [{ strategy: "EvictPod", timeout: "3m" }] },
    faults: [{ kind: "PodHang", at: MINUTE, for: LASTING, workload: "payments", index: 1 }],
  },
  {
    name: "rolling",
    doc: "All pods of a workload answer with errors after a while, and are restarted by a rollout.",
    faultsUntil: 6 * MINUTE,
    workloads: [workload("payments", { minAvailable: 2 })],
    policy: { signals: ERRORS, ladder: [{ strategy: "RollingRestart", timeout: "4m" }] },
    faults: [{ kind: "PodErrors", at: MINUTE, for: LASTING, workload: "payments", index: 0, count: 3, rate: 0.5 }],
  },
  {
    name: "alert",
    doc: "A pod hangs, Alertmanager tells of it, and it is restarted.",
    faultsUntil: 8 * MINUTE,
    workloads: [workload("payments")],
    policy: { signals: [{ name: "unready", alert: { alertname: "PodNotReady" } }], ladder: [RESTART] },
    faults: [{ kind: "PodHang", at: MINUTE, for: LASTING, workload: "payments", index: 0 }],
    alerts: [{ alertname: "PodNotReady", condition: "NotReady", for: 15_000 }],
  },
  {
    name: "dependency",
    doc: "Requests fail because of what the workload calls: it is left alone until that is well.",
    faultsUntil: 5 * MINUTE,
    workloads: [workload("payments", { calls: ["orders"] }), workload("orders")],
    policy: { signals: ERRORS, ladder: [{ strategy: "RollingRestart", timeout: "4m" }] },
    faults: [{ kind: "ServiceErrors", at: MINUTE, for: 90_000, workload: "orders", rate: 0.5 }],
    depends: true,
  },
  {
    name: "leaders",
    doc: "A pod hangs and is restarted; a second operator stands by.",
    faultsUntil: 5 * MINUTE,
    workloads: [workload("payments")],
    policy: { signals: UNREADY, ladder: [RESTART] },
    faults: [{ kind: "PodHang", at: MINUTE, for: LASTING, workload: "payments", index: 0 }],
    operators: 2,
  },
  {
    name: "action",
    doc: "A pod's connections are used up, and it resets its pool itself; a second operator stands by.",
    faultsUntil: 5 * MINUTE,
    workloads: [workload("payments", { servesActions: true })],
    policy: { signals: ERRORS, ladder: [{ strategy: "ResetConnectionPool", timeout: "1m" }, RESTART] },
    faults: [{ kind: "PoolExhausted", at: MINUTE, for: LASTING, workload: "payments", index: 0, rate: 0.9, endedBy: ["Action"] }],
    operators: 2,
  },
  {
    name: "node",
    doc: "A node is not ready, and what is on it runs on: it is cordoned and emptied under a PodDisruptionBudget, and used again when it is well.",
    faultsUntil: 6 * MINUTE,
    workloads: [workload("payments", { replicas: 4, minAvailable: 3, startMs: 3_000 })],
    policy: {
      signals: UNREADY,
      ladder: [{ strategy: "CordonAndDrainNode", drain: { healWithin: "3m" }, timeout: "10m" }],
    },
    faults: [{ kind: "NodeIll", at: MINUTE, for: 2 * MINUTE, index: 0 }],
    nodes: [{ name: "node-0" }, { name: "node-1" }],
  },
  {
    name: "resize",
    doc: "A pod leaks memory: it is given more of it in place, which leaves it the time that it needs.",
    ...LEAKS,
    workloads: [workload("payments")],
    policy: {
      signals: MEMORY,
      ladder: [{ strategy: "ResizeResources", resize: { memory: { factor: 3, max: "2Gi" } }, timeout: "2m" }, RESTART],
      verify: TOLD_OF,
    },
    faults: [LEAK],
  },
  {
    name: "resize-back",
    doc: "A pod hangs, and more memory does not help: that is taken back, and it is restarted.",
    faultsUntil: 6 * MINUTE,
    workloads: [workload("payments")],
    policy: {
      signals: UNREADY,
      ladder: [
        { strategy: "ResizeResources", resize: { memory: { by: "64Mi", max: "1Gi" } }, timeout: "2m", verify: { timeout: "30s" } },
        RESTART,
      ],
    },
    faults: [{ kind: "PodHang", at: MINUTE, for: LASTING, workload: "payments", index: 0 }],
  },
  {
    name: "resize-by-rollout",
    doc: "A pod leaks memory, and its node has no more to give: the workload is rolled out with a higher limit instead.",
    ...LEAKS,
    workloads: [workload("payments", { kind: "StatefulSet" })],
    policy: {
      signals: MEMORY,
      ladder: [{ strategy: "ResizeResources", resize: { memory: { by: "512Mi", max: "2Gi" }, whenRefused: "Rollout" }, timeout: "5m" }],
      verify: TOLD_OF,
    },
    faults: [...[0, 1, 2].map((index) => ({ kind: "ResizeRefused" as const, at: 1_000, for: LASTING, index, what: "Infeasible" })), LEAK],
  },
  {
    name: "hint",
    doc: "A pod's connections are used up: it asks itself for them to be reset, which is done; a second operator stands by.",
    faultsUntil: 5 * MINUTE,
    workloads: [workload("payments", { servesActions: true, hints: "Named", logs: true })],
    policy: {
      signals: [
        { name: "asks", hint: { action: "pool-reset" } },
        { name: "logs", log: { body: "pool exhausted", above: 100, window: "30s" } },
      ],
      ladder: [{ strategy: "ResetConnectionPool", timeout: "1m" }, RESTART],
    },
    faults: [{ kind: "PoolExhausted", at: MINUTE, for: LASTING, workload: "payments", index: 0, rate: 0.9, endedBy: ["Action"] }],
    operators: 2,
  },
];

/** The base scenarios of the exhaustive lane. */
export const BASE_SCENARIOS: readonly BaseScenario[] = MADE.map(({ name, doc, ...made }, index) => ({
  name,
  doc,
  scenario: scenario(index, made),
}));
