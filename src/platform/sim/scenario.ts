import type { ServiceDependency } from "../../api/dependency.ts";
import type { RemediationBudget } from "../../api/budget.ts";
import type { RemediationPolicy } from "../../api/policy.ts";
import type { Runbook } from "../../api/runbook.ts";

// A scenario is data: it can be written by hand, generated from a seed, shrunk and printed. Times are milliseconds since
// its beginning.

/** What can go wrong, or be done by others, and is drawn from a seed. The names are what coverage counts. */
export const FAULT_KINDS = [
  // what runs
  "PodHang",
  "PodErrors",
  "PodLeak",
  "PodCrash",
  "CrashLoop",
  "SlowStart",
  "NodeDown",
  "NodeIll",
  "NodeGone",
  "ZoneDown",
  "ResizeRefused",
  "ServiceErrors",
  // people and their tools
  "DeletePod",
  "CordonByPerson",
  "ScaleByPerson",
  "ResizeByPerson",
  "Rollout",
  "BadRollout",
  "Mark",
  "PausePolicy",
  "PauseAll",
  "FreezeBudget",
  "EditBudget",
  "EditMode",
  "EditPolicy",
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
export type DrawnKind = (typeof FAULT_KINDS)[number];

/**
 * What only scenarios have that are written: they speak of what users' own monitoring knows. `PoolExhausted` is drawn besides,
 * where pods tell of it themselves.
 */
export const WRITTEN_KINDS = ["DiskFull", "PoolExhausted", "Overload", "PodCondition", "WorkloadCondition"] as const;
export type FaultKind = DrawnKind | (typeof WRITTEN_KINDS)[number];

/** One fault. What a kind reads of it stands with its kind in `faults.ts`. */
export interface Fault {
  /** Its number in the scenario: it stays the same when others are left out. */
  readonly id: number;
  readonly kind: FaultKind;
  readonly at: number;
  /** How long it lasts (ms); 0 for what happens at once. */
  readonly for: number;
  /** Which workload, as `workloadKey` has it. */
  readonly workload?: string;
  /** Which node, by its name. */
  readonly node?: string;
  /** Which zone, by its name. */
  readonly zone?: string;
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
  /** What ends it, besides what ends every fault of its kind. */
  readonly endedBy?: readonly Ending[];
}

/**
 * A job that completes; of what a pod has also an action that it served, and of a `WorkloadCondition` that every pod was
 * started since, or that more pods serve than when it began.
 */
export const ENDINGS = ["Job", "Action", "Restart", "Scale"] as const;
export type Ending = (typeof ENDINGS)[number];

/** A workload as it is at the beginning. */
export interface WorkloadSpec {
  readonly kind: "Deployment" | "StatefulSet";
  /** Default: `default`. */
  readonly namespace?: string;
  readonly name: string;
  /** Its own labels, and those of its pods. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly podLabels?: Readonly<Record<string, string>>;
  /** Memory limit of each pod. Default: `LIMIT_BYTES`. */
  readonly limitBytes?: number;
  /** Its pods serve actions. */
  readonly servesActions?: boolean;
  /** Its pods send hints while their connections are used up: with the action's name, or with a number alone that may be a sum. */
  readonly hints?: "Named" | "Bare";
  /** Its pods send their logs: what they serve, and errors while they are ill. One that hangs logs nothing. */
  readonly logs?: boolean;
  /** It carries a do-not-remediate mark. */
  readonly marked?: boolean;
  /** The GitOps tool that owns its replicas and its template. */
  readonly gitOps?: string;
  /** Names of the nodes that its first pods are on. Default: spread over all. */
  readonly on?: readonly string[];
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
  /** The workloads that it calls, as `workloadKey` has them. */
  readonly calls: readonly string[];
}

/** By what faults and calls name a workload: its name, after `namespace/` where it says one. */
export function workloadKey({ namespace, name }: Pick<WorkloadSpec, "namespace" | "name">): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** A node that operators can tell from the others. */
export interface NodeSpec {
  readonly name: string;
  readonly zone?: string;
  /** Default: `nodes`. */
  readonly pool?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** What monitoring can see of an illness. */
export const SYMPTOMS = ["NotReady", "CrashLooping", "Memory", "Errors", "RolloutStuck", "DiskFull", "PoolExhausted"] as const;
/** A symptom that a fault names itself: what only users' own monitoring knows, seen on pods or on a workload as a whole. */
export type Condition = `${"Pod" | "Workload"}Condition/${string}`;
export type Symptom = (typeof SYMPTOMS)[number] | Condition;

/** An OTLP metric that pods send, or what Prometheus answers to a query. */
export interface SymptomMetric {
  readonly symptom: Symptom;
  /** The metric's name, or the query. */
  readonly name: string;
  /** It is a query of Prometheus: a row a workload for `Errors`, `RolloutStuck` and a `WorkloadCondition`, else one a pod. */
  readonly isQuery?: boolean;
  /** Its value while a pod shows the symptom, and while it does not. Default: the pod's memory in bytes. */
  readonly values?: { readonly ill: number; readonly well: number };
}

/** An alerting rule of Prometheus. */
export interface AlertRule {
  readonly alertname: string;
  /** `Errors`, `RolloutStuck` and a `WorkloadCondition` are about workloads, the others about pods. */
  readonly condition: Symptom;
  /** Labels that its alerts have besides those of their target. */
  readonly labels?: Readonly<Record<string, string>>;
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
  /** How often operators ask Alertmanager what fires (ms). Default: they do not. */
  readonly askedMs?: number;
}

/**
 * How people answer: once; twice; the opposite a while later; later than they may; about another target; or when the target
 * has just been replaced.
 */
export type Habit = "Once" | "Twice" | "Contradicts" | "TooLate" | "Elsewhere" | "Replaced";

/** A whole run. */
export interface Scenario {
  readonly seed: number;
  /** Until when faults may begin, and last (ms). */
  readonly faultsUntil: number;
  readonly operators: number;
  /** How many there are, or which: only those that have names are known to operators, and share faults. */
  readonly nodes: number | readonly NodeSpec[];
  /** The namespace that pools of nodes are targets in. Default: they are none. */
  readonly nodesIn?: string;
  readonly workloads: readonly WorkloadSpec[];
  readonly policies: readonly RemediationPolicy[];
  readonly budgets: readonly RemediationBudget[];
  readonly dependencies: readonly ServiceDependency[];
  readonly runbooks?: readonly Runbook[];
  /** Requests are traced, so that operators see who calls whom. Default: they know what is declared alone. */
  readonly tracing?: boolean;
  /** What pods measure of their symptoms. Default: nothing. */
  readonly metrics?: readonly SymptomMetric[];
  /** When it begins (ms since the epoch). Default: as every simulation does. */
  readonly startsAt?: number;
  /** Autoscalers ask for as many replicas as requests need. Default: they ask for one more or fewer at random, as from a seed. */
  readonly autoscaleByLoad?: boolean;
  /** How likely a job is to fail. Default 0.15. */
  readonly jobFailures?: number;
  readonly monitoring: Monitoring;
  /** How people answer when approval is asked for: after how long (ms), or not at all. */
  readonly approver: {
    readonly afterMs: number;
    readonly approves: number;
    readonly denies: number;
    /** Each as likely as it is often here. Default: once. */
    readonly habits?: readonly Habit[];
  };
  readonly faults: readonly Fault[];
}
