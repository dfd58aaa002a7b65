import { API_VERSION } from "../../src/api/meta.ts";
import type { AlertRule, Fault, Scenario } from "../../src/platform/sim/scenario.ts";
import { NAMESPACE } from "../../src/platform/sim/world.ts";
import { type Changes, hang, scenarioWith, workload } from "../support/gate-scenarios.ts";

const MINUTE = 60_000;
const LONG = 60 * MINUTE;

/** A fault of an operator, of people or of who is told. */
const fault = (kind: Fault["kind"], at: number, more: Partial<Fault> = {}): Omit<Fault, "id"> => ({ kind, at, for: 0, ...more });

const UNREADY: readonly AlertRule[] = [{ alertname: "PodNotReady", condition: "NotReady", for: 0 }];
const MONITORING = { scrapeMs: 5_000, evaluateMs: 5_000, groupWaitMs: 1_000, groupIntervalMs: 15_000, repeatMs: 60 * MINUTE };
/** What takes a job that does not help. */
const HOPELESS = { ladder: [{ strategy: "RunJob", command: ["flush"], timeout: "1m" }], verify: { stableFor: "10s", timeout: "30s" } };
/** Replacements take long: whatever comes meanwhile comes in the midst of an episode. */
const SLOW = [workload("payments", { startMs: 90_000 })];

/** The policy comes when everybody knows what is wrong. */
const LATE = fault("DeletePolicy", 1_000, { for: 2 * MINUTE + 30_000, index: 0 });
/** What takes a replica away before another is there. */
const EVICT = { ladder: [{ strategy: "EvictPod", timeout: "3m" }] };

/** So many that one ill replica of each is a storm in the cluster. */
const MANY = ["payments", "orders", "search", "mail", "bank", "stock"];

const of = (name: string, doc: string, changes: Changes): { name: string; doc: string; scenario: Scenario } => ({
  name,
  doc,
  scenario: scenarioWith(changes),
});

/** Situations that neither the gates' scenarios nor the base scenarios have, and that each a rule is about. */
export const CASES: readonly { readonly name: string; readonly doc: string; readonly scenario: Scenario }[] = [
  of("pause-midway", "A person pauses the policy while a replacement starts.", {
    workloads: SLOW,
    faults: [hang({ for: LONG }), fault("PausePolicy", MINUTE + 30_000, { for: 5 * MINUTE, index: 0 })],
  }),
  of("pause-while-down", "An operator dies between an intent and its effect, and a person pauses the policy before another can go on.", {
    faults: [
      hang({ for: LONG }),
      fault("CrashBeforeWrite", 65_000, { for: LONG, count: 2 }),
      fault("ApiOutage", 71_000, { for: 80_000 }),
      fault("PausePolicy", 85_000, { for: 5 * MINUTE, index: 0 }),
    ],
  }),
  of("mark-midway", "A person marks the workload while a replacement starts.", {
    workloads: SLOW,
    faults: [hang({ for: LONG }), fault("Mark", MINUTE + 30_000, { for: 5 * MINUTE, workload: "payments", index: 0, what: "Workload" })],
  }),
  of("freeze-midway", "The platform team freezes everything while a replacement starts.", {
    workloads: SLOW,
    faults: [hang({ for: LONG }), fault("FreezeBudget", MINUTE + 30_000, { for: 5 * MINUTE, index: 0 })],
  }),
  of("observe-midway", "A person lowers the policy to Observe while a replacement starts.", {
    workloads: SLOW,
    faults: [hang({ for: LONG }), fault("EditMode", MINUTE + 30_000, { for: 5 * MINUTE, index: 0 })],
  }),
  of("window-closes", "The policy's window closes while a replacement starts.", {
    workloads: SLOW,
    policy: { windows: [{ schedule: "0 0 * * *", timeZone: "UTC", duration: "2m" }] },
    faults: [hang({ for: LONG })],
  }),
  of("pause-with-an-end", "The policy is paused for an hour.", {
    policy: { paused: { reason: "audit week", until: "2026-01-01T01:00:00Z" } },
  }),
  of("namespace-marked", "A namespace is marked.", {
    faults: [fault("Mark", 0, { for: LONG, workload: "payments", what: "Namespace" }), hang({ for: LONG })],
  }),
  of("node-marked", "Each node is marked in turn.", {
    nodes: 1,
    faults: [fault("Mark", 0, { for: LONG, index: 0, what: "Node" }), hang({ for: LONG })],
  }),
  of("marked-later", "A replica hangs for minutes, and a person marks the workload in the end.", {
    faults: [hang({ for: LONG }), fault("Mark", 5 * MINUTE, { for: LONG, workload: "payments", index: 0, what: "Workload" })],
  }),
  of("denied", "A person says no.", {
    policy: { mode: "Approve", approval: { timeout: "20m" } },
    approver: { afterMs: 10_000, approves: 0, denies: 1 },
    faults: [hang({ for: LONG })],
  }),
  of("opens-late", "A replica is ill, and well again minutes before the window opens.", {
    policy: {
      windows: [{ schedule: "5 0 * * *", timeZone: "UTC", duration: "1h" }],
      maxSignalAge: "10m",
      escalation: { blockedFor: "30m" },
    },
    faults: [hang({ for: 90_000 })],
    faultsUntil: 10 * MINUTE,
  }),
  of("closes-again", "A circuit opens, and closes minutes after the replica has become well by itself.", {
    policy: { ...HOPELESS, attempts: { max: 1, window: "1h", reset: "5m" }, maxSignalAge: "10m" },
    faults: [hang({ for: 4 * MINUTE })],
    faultsUntil: 12 * MINUTE,
  }),
  of("resolved-late", "An alert is over, but Alertmanager says so minutes late, and the policy comes in between.", {
    monitoring: { ...MONITORING, rules: UNREADY },
    policy: { signals: [{ name: "unready", alert: { alertname: "PodNotReady" } }], maxSignalAge: "30s" },
    faults: [
      fault("DeletePolicy", 1_000, { for: 6 * MINUTE, index: 0 }),
      hang({ for: 40_000 }),
      fault("AlertDelay", 80_000, { for: LONG, ms: LONG }),
    ],
    faultsUntil: 12 * MINUTE,
  }),
  of("blind-errors", "Requests are no longer measured.", {
    policy: { signals: [{ name: "errors", errorRate: { above: "5%", for: "10s" } }], ladder: [{ strategy: "RollingRestart" }] },
    faults: [fault("TelemetryGap", MINUTE, { for: 5 * MINUTE })],
  }),
  of("blind-verify", "Requests fail, and are no longer measured once the cure has begun.", {
    policy: { signals: [{ name: "errors", errorRate: { above: "5%", for: "10s" } }], ladder: [{ strategy: "RollingRestart" }] },
    workloads: [workload("payments", { startMs: 40_000 })],
    faults: [
      fault("PodErrors", MINUTE, { for: LONG, workload: "payments", index: 0, count: 5, rate: 0.8 }),
      fault("TelemetryGap", 90_000, { for: 8 * MINUTE }),
    ],
    faultsUntil: 12 * MINUTE,
  }),
  of("cut-off", "The API server cannot be reached for minutes, right after a replica has fallen ill.", {
    faults: [hang({ at: MINUTE, for: LONG }), fault("ApiOutage", MINUTE + 5_000, { for: 6 * MINUTE })],
    faultsUntil: 12 * MINUTE,
  }),
  of("deaf", "Watches tell nothing for minutes, while everything that is asked is answered, and the policy comes in between.", {
    faults: [
      fault("DeletePolicy", 1_000, { for: 5 * MINUTE, index: 0 }),
      hang({ for: LONG }),
      fault("WatchDrops", 80_000, { for: 7 * MINUTE, rate: 1, what: "Workload" }),
    ],
    faultsUntil: 11 * MINUTE,
  }),
  of(
    "restart-midway",
    "The operator is started again while a replica is out of traffic, which has become well by itself: nothing else happens there.",
    {
      faults: [hang({ for: 20_000 }), fault("Crash", 90_000)],
      // Nothing of theirs wakes the next leader either.
      faultsUntil: 95_000,
    },
  ),
  of("crash-after-effect", "An operator dies right after it has started a job.", {
    policy: HOPELESS,
    faults: [hang({ for: LONG }), fault("CrashAfterWrite", 65_000, { for: LONG, count: 2 })],
  }),
  of("restart-in-cooldown", "The operator is started again while a workload rests.", {
    policy: { cooldown: "1h" },
    faults: [hang(), fault("Crash", 2 * MINUTE + 15_000), hang({ at: 2 * MINUTE + 30_000, index: 2 })],
  }),
  of("restart-while-open", "The operator is started again while a circuit is open.", {
    policy: { ...HOPELESS, attempts: { max: 1, window: "1h" } },
    faults: [hang({ for: LONG }), fault("Crash", 4 * MINUTE)],
    faultsUntil: 8 * MINUTE,
  }),
  of("tries-again", "A circuit closes and opens again while the fault goes on.", {
    policy: { ...HOPELESS, attempts: { max: 1, window: "1h", reset: "1m" } },
    faults: [hang({ for: LONG })],
    faultsUntil: 12 * MINUTE,
  }),
  of("one-receiver-down", "Whoever is on call is told, and now and then one of the receivers fails.", {
    policy: { ...HOPELESS, attempts: { max: 1, window: "1h" } },
    faults: [hang({ for: LONG }), fault("ReceiverDown", 0, { for: 11 * MINUTE, rate: 0.7 })],
    faultsUntil: 12 * MINUTE,
  }),
  of("receivers-down", "No receiver answers for minutes.", {
    seed: 3,
    policy: { ...HOPELESS, attempts: { max: 1, window: "1h" } },
    faults: [hang({ for: LONG }), fault("ReceiverDown", 0, { for: 6 * MINUTE, rate: 1 })],
    faultsUntil: 9 * MINUTE,
  }),
  of("capture-fails", "A heap cannot be captured, and has to be.", {
    policy: { ladder: [{ strategy: "RestartPod", captures: [{ type: "HeapSnapshot", required: true }] }] },
    faults: [hang({ for: LONG }), fault("CaptureFails", 0, { for: LONG, rate: 1 })],
  }),
  of("notify", "People are told that a replica hangs, which nothing else is done about.", {
    policy: { ladder: [{ strategy: "Notify", message: "look at it" }], verify: { stableFor: "10s", timeout: "30s" } },
    faults: [hang({ for: 2 * MINUTE })],
  }),
  of("silent-signal", "A person is paged, and another signal of the policy never has data.", {
    workloads: [workload("payments", { rps: 0 })],
    policy: {
      ...HOPELESS,
      attempts: { max: 1, window: "1h" },
      signals: [
        { name: "probe", probe: { failingFor: "10s" } },
        { name: "errors", errorRate: { above: "5%", for: "10s" } },
      ],
    },
    faults: [hang({ for: 3 * MINUTE })],
  }),
  of("policy-made-anew", "A person is paged, and the policy is deleted and made anew.", {
    policy: { ...HOPELESS, attempts: { max: 1, window: "1h" } },
    faults: [hang({ for: 4 * MINUTE }), fault("DeletePolicy", 4 * MINUTE, { for: 30_000, index: 0 })],
  }),
  of("storm-after-storm", "A storm of all workloads is over, and then one of the replicas of a single workload begins.", {
    workloads: [workload("payments"), workload("orders"), workload("search")],
    policy: {
      targets: [{ name: "payments" }, { name: "orders" }, { name: "search" }],
      budgets: [{ maxUnavailable: 0 }],
      escalation: { blockedFor: "1h" },
    },
    faults: [
      hang({ for: LONG }),
      hang({ workload: "orders", for: MINUTE }),
      hang({ workload: "search", for: MINUTE }),
      hang({ at: 2 * MINUTE + 4_000, index: 1, count: 4, for: LONG }),
    ],
  }),
  of("hint-is-old", "A pod asks for its connections to be reset, and the policy comes minutes after it has become well.", {
    workloads: [workload("payments", { servesActions: true, hints: "Named" })],
    policy: {
      signals: [{ name: "asks", hint: { action: "pool-reset", activeFor: "30s" } }],
      ladder: [{ strategy: "ResetConnectionPool", timeout: "1m" }],
      maxSignalAge: "10m",
    },
    faults: [
      fault("DeletePolicy", 1_000, { for: 4 * MINUTE, index: 0 }),
      fault("PoolExhausted", MINUTE, { for: 30_000, workload: "payments", index: 0, rate: 0.9, endedBy: ["Action"] }),
    ],
  }),
  of("memory-bound", "A pod leaks, and may be given a little more memory, which is less than would be asked for.", {
    policy: {
      signals: [{ name: "hot", metric: { name: "memory", above: 300 * 2 ** 20, for: "10s" } }],
      ladder: [{ strategy: "ResizeResources", resize: { memory: { factor: 3, max: "600Mi" } } }],
      verify: { stableFor: "10s", timeout: "30s" },
    },
    faults: [fault("PodLeak", MINUTE, { for: LONG, workload: "payments", index: 0, ms: 5 * MINUTE })],
  }),
  of("never-ready", "What takes the place of a replica does not become ready.", {
    policy: { ladder: [{ strategy: "RestartPod", timeout: "2m" }] },
    faults: [hang({ for: LONG }), fault("SlowStart", 50_000, { for: LONG, workload: "payments", ms: 30 * MINUTE })],
    faultsUntil: 9 * MINUTE,
  }),
  of("short-already", "Two of five replicas are ill, and one may be unavailable.", {
    policy: EVICT,
    faults: [LATE, hang({ for: LONG }), hang({ for: LONG, index: 2 })],
  }),
  of("small-share", "A tenth of five replicas is none.", {
    policy: { ...EVICT, budgets: [{ maxUnavailable: "10%" }] },
    faults: [LATE, hang({ for: LONG })],
  }),
  of("platform-budget", "The platform team allows none to be down.", {
    policy: EVICT,
    faults: [fault("FreezeBudget", 500, { for: LONG, index: 0 }), LATE, hang({ for: LONG })],
  }),
  of("disruption-budget", "A PodDisruptionBudget allows none to be down.", {
    workloads: [workload("payments", { minAvailable: 5 })],
    policy: EVICT,
    faults: [LATE, hang({ for: LONG })],
  }),
  of("all-ill", "All replicas are ill at once, and all of them may be unavailable.", {
    policy: { ...EVICT, budgets: [{ maxUnavailable: 5 }] },
    faults: [LATE, hang({ for: LONG, count: 5 })],
  }),
  of(
    "storm-while-the-trail-fails",
    "A replica of each workload is ill while everything is paused; when that ends the store is slow and the trail takes nothing.",
    {
      workloads: MANY.map((name) => workload(name)),
      policy: { ...EVICT, targets: MANY.map((name) => ({ name })), escalation: { blockedFor: "30m" } },
      faults: [
        fault("PauseAll", 1_000, { for: 5 * MINUTE }),
        ...MANY.map((name) => hang({ for: LONG, workload: name })),
        fault("AuditFails", 5 * MINUTE - 5_000, { for: MINUTE, rate: 1 }),
        fault("ApiSlow", 5 * MINUTE - 5_000, { for: MINUTE, ms: 2_000 }),
      ],
      faultsUntil: 12 * MINUTE,
    },
  ),
  of("dependency-ill", "Requests fail because of what the workload calls, and the policy comes later.", {
    workloads: [workload("payments", { calls: ["bank"] }), workload("bank")],
    policy: { signals: [{ name: "errors", errorRate: { above: "20%", for: "10s" } }], ladder: [{ strategy: "RollingRestart" }] },
    dependencies: [
      {
        apiVersion: API_VERSION,
        kind: "ServiceDependency",
        metadata: { name: "payments-bank", namespace: NAMESPACE },
        spec: { from: { name: "payments" }, to: { name: "bank" }, unhealthyAbove: "10%", window: "30s" },
      },
    ],
    monitoring: { ...MONITORING, rules: [{ alertname: "HighErrorRate", condition: "Errors", for: 15_000 }] },
    faults: [
      fault("DeletePolicy", 1_000, { for: 4 * MINUTE, index: 0 }),
      fault("ServiceErrors", MINUTE, { for: 5 * MINUTE, workload: "bank", rate: 0.8 }),
    ],
  }),
  of("two-policies", "Two policies are about the same replica.", {
    faults: [hang({ for: LONG })],
    policy: {
      signals: [
        { name: "probe", probe: { failingFor: "10s" } },
        { name: "unready", alert: { alertname: "PodNotReady" } },
      ],
    },
    monitoring: { ...MONITORING, rules: UNREADY },
  }),
  of("lease-deleted", "Somebody deletes the Lease in the midst of an episode.", {
    operators: 3,
    workloads: SLOW,
    faults: [hang({ for: LONG }), fault("LeaseDeleted", 100_000), fault("LeaseDeleted", 150_000)],
  }),
  of("lease-lost-with-all", "The Lease is deleted while every operator is started again, between one episode and the next.", {
    operators: 3,
    policy: { cooldown: "0s" },
    faults: [
      ...[1, 4, 7].map((minute, index) => hang({ at: minute * MINUTE, for: LONG, index })),
      ...[3.5, 6.5].flatMap((minute) => [fault("LeaseDeleted", minute * MINUTE), fault("Crash", minute * MINUTE + 1)]),
    ],
    faultsUntil: 10 * MINUTE,
  }),
  of("lease-deleted-alone", "Somebody deletes the Lease of the only operator in the midst of an episode.", {
    workloads: SLOW,
    faults: [hang({ for: LONG }), fault("LeaseDeleted", 100_000)],
  }),
  of("leaders-stop", "Operators freeze for half a minute, one after the other, in the midst of episodes.", {
    operators: 3,
    workloads: [workload("payments", { startMs: 20_000 })],
    policy: { cooldown: "0s", budgets: [{ maxUnavailable: 2 }] },
    faults: [
      hang(),
      hang({ at: 2 * MINUTE + 20_000, index: 2 }),
      ...[70, 82, 94, 145, 157, 170].map((s, i) => fault("Stop", s * 1_000, { index: i % 3, ms: 40_000 })),
    ],
    faultsUntil: 8 * MINUTE,
  }),
  of("lease-cut", "Operators cannot renew the Lease for a while, but reach everything else.", {
    operators: 3,
    workloads: SLOW,
    policy: { cooldown: "0s" },
    faults: [
      hang({ for: LONG }),
      fault("LeaseCut", 65_000, { for: 40_000, index: 0 }),
      fault("LeaseCut", 80_000, { for: 40_000, index: 1 }),
    ],
  }),
  of("conflicts", "Every other write meets a conflict, and answers are lost.", {
    faults: [
      hang({ for: LONG }),
      fault("ApiConflicts", 50_000, { for: 3 * MINUTE, rate: 0.4 }),
      fault("ApiLostReplies", 50_000, { for: 3 * MINUTE, rate: 0.3 }),
    ],
  }),
  of("lost-answers", "An episode is stored, its writer is not told so, and the watch is late.", {
    faults: [
      hang({ for: LONG }),
      fault("ApiLostReplies", 70_000, { for: 3_000, rate: 1 }),
      fault("WatchLag", 65_000, { for: MINUTE, ms: 200_000, what: "Remediation" }),
    ],
  }),
  of("capture", "A heap is captured, and its agent answers while others write.", {
    policy: { ladder: [{ strategy: "RestartPod", captures: [{ type: "HeapSnapshot", required: true }] }] },
    faults: [hang({ for: LONG }), fault("ApiSlow", 65_000, { for: 3 * MINUTE, ms: 3_000 })],
  }),
  of("late-news", "What the watches tell comes half a minute late, and twice.", {
    workloads: [workload("payments", { startMs: 20_000 })],
    policy: { cooldown: "0s", attempts: { max: 3, window: "1h" } },
    faults: [
      hang({ for: LONG, sticky: true }),
      fault("WatchLag", 50_000, { for: 6 * MINUTE, ms: 20_000, what: "Remediation" }),
      fault("WatchDuplicates", 50_000, { for: 6 * MINUTE, rate: 1 }),
    ],
    faultsUntil: 8 * MINUTE,
  }),
  of("trail-fails", "The audit trail cannot be written for a while.", {
    faults: [hang({ for: LONG }), fault("AuditFails", 60_000, { for: 3 * MINUTE, rate: 0.6 })],
  }),
  of("job-fails", "A job that an effect started fails, and what it did cannot be known.", {
    policy: { ladder: [{ strategy: "RunJob", command: ["flush"], timeout: "2m" }], attempts: { max: 10, window: "1h" }, cooldown: "0s" },
    faults: [hang({ for: LONG }), hang({ at: 5 * MINUTE, for: LONG, index: 2 })],
    faultsUntil: 20 * MINUTE,
  }),
  of("rollout-under-way", "A person rolls out, which takes minutes, and requests fail.", {
    workloads: SLOW,
    policy: { ...HOPELESS, signals: [{ name: "errors", errorRate: { above: "5%", for: "10s" } }] },
    faults: [
      fault("Rollout", 50_000, { workload: "payments" }),
      fault("ServiceErrors", 2 * MINUTE, { for: LONG, workload: "payments", rate: 0.8 }),
    ],
    faultsUntil: 12 * MINUTE,
  }),
  of("rollout-midway", "A person rolls out while all replicas are renewed one after the other.", {
    workloads: [workload("payments", { startMs: 30_000 })],
    policy: {
      signals: [{ name: "errors", errorRate: { above: "5%", for: "10s" } }],
      ladder: [{ strategy: "RollingRestart", captures: [{ type: "HeapSnapshot", required: false }], timeout: "10m" }],
      budgets: [{ maxUnavailable: 2 }],
    },
    faults: [
      fault("PodErrors", MINUTE, { for: LONG, workload: "payments", index: 0, count: 5, rate: 0.8 }),
      fault("Rollout", 2 * MINUTE + 10_000, { workload: "payments" }),
    ],
    faultsUntil: 12 * MINUTE,
  }),
  of("rollout-while-down", "An operator dies between an intent and its effect, and a person rolls out before another can go on.", {
    workloads: SLOW,
    policy: HOPELESS,
    faults: [
      hang({ for: LONG }),
      fault("CrashBeforeWrite", 65_000, { for: LONG, count: 2 }),
      fault("ApiOutage", 71_000, { for: 80_000 }),
      fault("Rollout", 85_000, { workload: "payments" }),
    ],
  }),
  of(
    "recovers-while-away",
    "A pod recovers while its attempt is verified and no operator is there, for longer than the verification may take.",
    {
      policy: { ...HOPELESS, ladder: [...HOPELESS.ladder, { strategy: "RestartPod", timeout: "5m" }] },
      faults: [hang({ for: MINUTE }), fault("ApiOutage", 105_000, { for: 4 * MINUTE })],
      jobFailures: 0,
      faultsUntil: 9 * MINUTE,
    },
  ),
  of("recovers-while-a-step-waits", "A pod recovers while its replacement, which never becomes ready, is waited for.", {
    workloads: [workload("payments", { startMs: 20 * MINUTE })],
    policy: {
      ladder: [
        { strategy: "RestartPod", timeout: "5m" },
        { strategy: "RunJob", command: ["flush"], timeout: "1m" },
      ],
    },
    faults: [hang({ for: MINUTE })],
    faultsUntil: 9 * MINUTE,
  }),
];
