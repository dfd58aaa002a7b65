import type { ServiceDependency } from "../../api/dependency.ts";
import type { RemediationBudget } from "../../api/budget.ts";
import type { RemediationPolicy } from "../../api/policy.ts";

// A scenario is data: it can be written by hand, generated from a seed, shrunk and printed. Times are milliseconds since
// its beginning.

/** What can go wrong, or be done by others. The names are what coverage counts. */
export const FAULT_KINDS = [
  // what runs
  "PodHang",
  "PodErrors",
  "PodLeak",
  "PodCrash",
  "CrashLoop",
  "SlowStart",
  "NodeDown",
  "ServiceErrors",
  // people and their tools
  "DeletePod",
  "ScaleByPerson",
  "Rollout",
  "BadRollout",
  "Mark",
  "PausePolicy",
  "FreezeBudget",
  "EditMode",
  "DeletePolicy",
  "GitOpsReverts",
  // the API
  "ApiErrors",
  "ApiLostReplies",
  "ApiConflicts",
  "ApiSlow",
  "ApiOutage",
  "StaleReads",
  "WatchLag",
  "WatchDuplicates",
  "WatchDrops",
  "WatchReorders",
  "WatchGone",
  // the operators
  "Crash",
  "CrashBeforeWrite",
  "CrashAfterWrite",
  "Stop",
  "ClockJump",
  "LeaseCut",
  "LeaseDeleted",
  // what is heard, and who is told
  "TelemetryGap",
  "ScrapeGap",
  "AlertDuplicates",
  "AlertDelay",
  "AlertReplay",
  "AlertFlapping",
  "ReceiverDown",
  "AuditFails",
  "CaptureFails",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** One fault. What a kind reads of it stands with its kind in `faults.ts`. */
export interface Fault {
  /** Its number in the scenario: it stays the same when others are left out. */
  readonly id: number;
  readonly kind: FaultKind;
  readonly at: number;
  /** How long it lasts (ms); 0 for what happens at once. */
  readonly for: number;
  /** Name of the workload. */
  readonly workload?: string;
  /** Which of its replicas, or which operator: the index, modulo how many there are. */
  readonly index?: number;
  /** How likely it is at each occasion (0 to 1), or how large a share. */
  readonly rate?: number;
  /** How much, in milliseconds. */
  readonly ms?: number;
  /** How many. */
  readonly count?: number;
  /** It befalls also what takes the place of what had it, as a fault in the code does. */
  readonly sticky?: boolean;
  /** What is meant, where the kind has several. */
  readonly what?: string;
}

/** A workload as it is at the beginning. */
export interface WorkloadSpec {
  readonly kind: "Deployment" | "StatefulSet";
  readonly name: string;
  readonly replicas: number;
  /** From a pod's creation to its readiness (ms). */
  readonly startMs: number;
  /** From its deletion to its end (ms). */
  readonly graceMs: number;
  /** PodDisruptionBudget: `minAvailable`. */
  readonly minAvailable?: number;
  /** HorizontalPodAutoscaler. */
  readonly autoscaler?: { readonly min: number; readonly max: number };
  /** Requests a second. */
  readonly rps: number;
  /** Names of the workloads that it calls. */
  readonly calls: readonly string[];
}

/** An alerting rule of Prometheus. */
export interface AlertRule {
  readonly alertname: string;
  /** `PodNotReady` and `PodMemory` are about pods, `HighErrorRate` about workloads. */
  readonly condition: "PodNotReady" | "PodMemory" | "HighErrorRate";
  /** For how long it must hold (ms). */
  readonly for: number;
}

/** How monitoring is set up. */
export interface Monitoring {
  readonly scrapeMs: number;
  readonly evaluateMs: number;
  readonly rules: readonly AlertRule[];
  readonly groupWaitMs: number;
  readonly groupIntervalMs: number;
  readonly repeatMs: number;
}

/** A whole run. */
export interface Scenario {
  readonly seed: number;
  /** Until when faults may begin, and last (ms). */
  readonly faultsUntil: number;
  readonly operators: number;
  readonly nodes: number;
  readonly workloads: readonly WorkloadSpec[];
  readonly policies: readonly RemediationPolicy[];
  readonly budgets: readonly RemediationBudget[];
  readonly dependencies: readonly ServiceDependency[];
  readonly monitoring: Monitoring;
  /** How people answer when approval is asked for: after how long (ms), or not at all. */
  readonly approver: { readonly afterMs: number; readonly approves: number; readonly denies: number };
  readonly faults: readonly Fault[];
}
