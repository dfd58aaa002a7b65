import type { TargetRef } from "../api/meta.ts";
import type { Capture, ObjectCondition, PodState } from "../api/policy.ts";
import type { Artifact } from "../api/remediation.ts";

/** Something that can carry a do-not-remediate mark. */
export interface Markable {
  readonly ref: TargetRef;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Something that somebody else is doing to a workload or a replica now, with the fields that show it. */
export interface Busy {
  readonly reason: "RolloutInProgress" | "Cordoned";
  readonly message: string;
}

/** What the platform says of a replica that does not run as it should. */
export interface ReplicaState {
  readonly state: PodState;
  /** When it began (ms); of `Terminating`, when the grace period ended; of `OOMKilled`, when it happened. */
  readonly since: number;
  /** When it is over unless it is told of again (ms); absent where only being told ends it. */
  readonly until?: number;
  /** The container that it is said of; absent where it is said of the replica. */
  readonly container?: string;
  /** The platform's own word for why. */
  readonly reason?: string;
  /** What the platform says about it, for people; empty where it says nothing. */
  readonly message: string;
}

/** A condition that the platform keeps of a node. */
export interface NodeCondition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  /** Since when its status is that (ms). */
  readonly since: number;
  readonly message: string;
}

/** One running copy of a workload: a pod, or a process. All times are milliseconds since the epoch. */
export interface Replica {
  readonly ref: TargetRef & { readonly uid: string };
  readonly workload: TargetRef;
  readonly phase: "Starting" | "Running" | "Stopping" | "Exited";
  /** Its readiness probe passes. */
  readonly ready: boolean;
  /** It was ready at some time in its life: a replica that never was is starting, not ill. */
  readonly everReady: boolean;
  /** When its readiness probe began to fail without a break; undefined while it passes or has never passed. */
  readonly unreadySince?: number;
  /** New requests are sent to it. */
  readonly inTraffic: boolean;
  /** Requests that it has not answered yet; undefined where that cannot be known. */
  readonly inFlight?: number;
  readonly startedAt: number;
  /** When it was made, where it may be started again in its place, as a pod's containers are; absent where that is `startedAt`. */
  readonly createdAt?: number;
  /** Times that its slot was started again after a crash. */
  readonly restarts: number;
  /** `bytes`: the working set, where the platform measures it itself. */
  readonly memory?: { readonly bytes?: number; readonly limitBytes?: number };
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Id of the effect that started it, where one did. */
  readonly startedBy?: string;
  /** Uid of the replica whose place it takes, where it is a replacement. */
  readonly replaces?: string;
  /**
   * Whether its owner has let it go so that another is started in its place; false where it has not, undefined on a
   * platform that knows no such state.
   */
  readonly detached?: boolean;
  /** Where it runs, where the platform tells: what else is there may share its fault. A node runs on itself. */
  readonly node?: string;
  /** The failure zone of that node. */
  readonly zone?: string;
  /** It serves actions (docs/hints.md), and the platform can ask it for them. Which ones, only it knows. */
  readonly servesActions?: true;
  /** What somebody else does to it now. */
  readonly busy?: Busy;
  /** What is wrong with it by the platform's own account; absent where nothing is. */
  readonly states?: readonly ReplicaState[];
  /** Of a node: its conditions. */
  readonly conditions?: readonly NodeCondition[];
  /** Whose do-not-remediate mark holds for it too: the node and the ReplicaSet of a pod; the pods on a node that carry one. */
  readonly around?: readonly Markable[];
}

/** What owns replicas. */
export interface Workload {
  readonly ref: TargetRef & { readonly uid: string };
  /** How many replicas it should have, replacements not counted. */
  readonly desired: number;
  readonly replicas: readonly Replica[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Annotations and labels of what encloses it (its namespace), for do-not-remediate. */
  readonly enclosing: readonly Markable[];
  /** Least replicas that must stay available by the platform's own rule (PodDisruptionBudget), where there is one. */
  readonly minAvailable?: { readonly count: number; readonly source: string };
  /**
   * How one of its replicas is renewed: by a replacement that serves before it leaves (default), or by an eviction, after
   * which its owner starts another, as two of a kind may not exist at once.
   */
  readonly renewedBy?: "Replacement" | "Eviction";
  /** The platform can replace all of its replicas by a rollout of its own. */
  readonly rollsOut?: true;
  /** What somebody else does to it now. */
  readonly busy?: Busy;
  /**
   * A rollout that is under way: when it last got further (ms), and, where the platform has a deadline for that, when it
   * passes or has passed. Absent where none is under way.
   */
  readonly rollout?: { readonly progressAt: number; readonly deadline?: number; readonly message: string };
  /** Identity of what its replicas are made from. Another one during an episode means that somebody rolled it out. */
  readonly revision?: string;
  /**
   * Versions of what its replicas are configured by and is no part of `revision`, by name, such as `ConfigMap app-config`: only what there
   * is. Absent where the platform does not follow it.
   */
  readonly configuration?: Readonly<Record<string, string>>;
  /** The newest earlier revision that was healthy, where one is known; `why` says how that is known. */
  readonly lastHealthy?: { readonly revision: string; readonly why: string };
  /** The most replicas that something else allows it, such as a HorizontalPodAutoscaler. */
  readonly maxReplicas?: { readonly count: number; readonly source: string };
  /** Fields that a GitOps tool keeps as they are in Git: a change of them would be taken back. */
  readonly gitOps?: readonly { readonly field: GitOpsField; readonly path: string; readonly owner: string }[];
}

/** Fields that effects change and a GitOps tool may own. */
export type GitOpsField = "replicas" | "template" | "resources";

/** Something done to the world. `id` is its identity: one id takes effect at most once, however often it is applied. */
export type Effect = { readonly id: string } & (
  | { readonly type: "StartReplacement"; readonly workload: TargetRef; readonly replaces: TargetRef }
  /** `replica`: the replacement; undefined where none was seen, so that only what led to it is taken back. */
  | { readonly type: "RemoveReplacement"; readonly replica?: TargetRef; readonly replaces?: TargetRef }
  | { readonly type: "RemoveFromTraffic"; readonly replica: TargetRef }
  | { readonly type: "RestoreTraffic"; readonly replica: TargetRef }
  | { readonly type: "Capture"; readonly replica: TargetRef; readonly capture: Capture }
  | { readonly type: "Stop"; readonly replica: TargetRef; readonly gracePeriodMs: number }
  /**
   * Stops it by way of the platform's own budgets, and leaves it to its owner to start another. `gracePeriodMs`: by default
   * what the replica asks for.
   */
  | { readonly type: "Evict"; readonly replica: TargetRef; readonly gracePeriodMs?: number }
  /** Never fewer replicas than there are; of a workload that is scaled by another, the least that it may be given. */
  | { readonly type: "Scale"; readonly workload: TargetRef; readonly replicas: number }
  /** Takes back the effect `of`, unless somebody has changed it since. So do `ResizeBack` and `Uncordon`. */
  | { readonly type: "ScaleBack"; readonly workload: TargetRef; readonly of: string }
  | { readonly type: "RolloutRestart"; readonly workload: TargetRef }
  /** `revision` as in `Workload.lastHealthy`. */
  | { readonly type: "Rollback"; readonly workload: TargetRef; readonly revision: string }
  /** `rollout`: where the replica cannot be given it in place, all replicas of its workload are, by a rollout. */
  | {
      readonly type: "Resize";
      readonly workload: TargetRef;
      readonly replica: TargetRef;
      readonly memoryBytes: number;
      readonly rollout: boolean;
    }
  | { readonly type: "ResizeBack"; readonly workload: TargetRef; readonly replica: TargetRef; readonly of: string }
  | { readonly type: "Cordon"; readonly replica: TargetRef }
  | { readonly type: "Uncordon"; readonly replica: TargetRef; readonly of: string }
  /** Moves everything that can be moved away from a node, one after the other. */
  | { readonly type: "Drain"; readonly replica: TargetRef }
  /**
   * Asks the replica itself for an action that it serves, such as `pool-reset`. `intendedAt`: when it was decided (ms since
   * the epoch), so that a process that began later does not take itself for the one that was asked.
   */
  | { readonly type: "InvokeAction"; readonly replica: TargetRef; readonly action: string; readonly intendedAt: number }
  | { readonly type: "RunJob"; readonly workload: TargetRef; readonly command: readonly string[] }
);
export type EffectType = Effect["type"];

/** What an effect brought about. */
export interface EffectResult {
  /** For people. */
  readonly message: string;
  /** StartReplacement: the new replica. */
  readonly replica?: Replica["ref"];
  /** Capture: what was saved. */
  readonly artifact?: Artifact;
  /** Stop: requests that were still in flight. */
  readonly cut?: number;
  /** The workload's revision after it, where it made another. */
  readonly revision?: string;
}

/** What the world says about an effect whose result was not recorded. */
export type EffectState =
  | { readonly state: "Applied"; readonly result: EffectResult }
  | { readonly state: "NotApplied" }
  /** It cannot be known. It is escalated, never retried (design rule S9). */
  | { readonly state: "Unknown"; readonly why: string };

/** An object of a kind that only policies name, with the versions of it that were seen: the oldest that is kept first. */
export interface ObservedObject {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Uids of what it is owned by; of an event, of what it is about. */
  readonly owners: readonly string[];
  /** `object`: as JSON; undefined where it is too large to be kept. `seenAt` in ms since the epoch. */
  readonly versions: readonly { readonly seenAt: number; readonly object: object | undefined }[];
}

/** The objects of a kind, or why they are not known. */
export type ObservedObjects = readonly ObservedObject[] | { readonly problem: string };

/** What the loop may read of the world, and do to it. */
export interface Platform {
  /** `host`, `kubernetes` or `sim`. */
  readonly name: string;
  /** Effects that it can carry out. A policy that needs another is refused when it is loaded. */
  readonly effects: ReadonlySet<EffectType>;
  /** Conditions of signals that it reports, of those that not every platform does. A policy that has another is refused when it is loaded. Default: none. */
  readonly reports?: ReadonlySet<ObjectCondition>;
  /**
   * The objects of a kind that a policy of `namespace` may look at: those of that namespace. From memory: never waits; a kind
   * is followed from when it is first asked for until it is not asked for any more. No such method where there are none.
   */
  resources?(of: { readonly apiVersion: string; readonly kind: string }, namespace: string): ObservedObjects;
  /** A snapshot of every workload, from memory: never waits on the network. After a change it is another array. */
  workloads(): readonly Workload[];
  /** Calls back after any change of any workload, until the returned function is called. May coalesce. */
  onChange(listener: (workload: TargetRef) => void): () => void;
  /**
   * Brings the effect about and resolves when it has (Stop: the process is gone; Capture: the file is durable).
   * Rejects with a `NightshiftError` when it has not; `EFFECT_UNKNOWN` when that cannot be known.
   */
  apply(effect: Effect, signal: AbortSignal): Promise<EffectResult>;
  /** Looks at the world for what became of an effect. Used after a crash between intent and result. */
  observe(effect: Effect): Promise<EffectState>;
  /** Why its snapshot may be out of date, where it may be: then nothing is begun (design rule S13). */
  staleness?(): string | undefined;
}
