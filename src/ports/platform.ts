import type { TargetRef } from "../api/meta.ts";
import type { Capture } from "../api/policy.ts";
import type { Artifact } from "../api/remediation.ts";

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
  /** Times that its slot was started again after a crash. */
  readonly restarts: number;
  readonly memory?: { readonly bytes: number; readonly limitBytes?: number };
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Id of the effect that started it, where one did. */
  readonly startedBy?: string;
  /** Uid of the replica whose place it takes, where it is a replacement. */
  readonly replaces?: string;
}

/** What owns replicas. */
export interface Workload {
  readonly ref: TargetRef & { readonly uid: string };
  /** How many replicas it should have, replacements not counted. */
  readonly desired: number;
  readonly replicas: readonly Replica[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Annotations and labels of what encloses it (namespace, node), for do-not-remediate. */
  readonly enclosing: readonly {
    readonly ref: TargetRef;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  }[];
  /** Least replicas that must stay available by the platform's own rule (PodDisruptionBudget), where there is one. */
  readonly minAvailable?: { readonly count: number; readonly source: string };
}

/** Something done to the world. `id` is its identity: one id takes effect at most once, however often it is applied. */
export type Effect = { readonly id: string } & (
  | { readonly type: "StartReplacement"; readonly workload: TargetRef; readonly replaces: TargetRef }
  | { readonly type: "RemoveReplacement"; readonly replica: TargetRef }
  | { readonly type: "RemoveFromTraffic"; readonly replica: TargetRef }
  | { readonly type: "RestoreTraffic"; readonly replica: TargetRef }
  | { readonly type: "Capture"; readonly replica: TargetRef; readonly capture: Capture }
  | { readonly type: "Stop"; readonly replica: TargetRef; readonly gracePeriodMs: number }
  | { readonly type: "Scale"; readonly workload: TargetRef; readonly replicas: number }
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
}

/** What the world says about an effect whose result was not recorded. */
export type EffectState =
  | { readonly state: "Applied"; readonly result: EffectResult }
  | { readonly state: "NotApplied" }
  /** It cannot be known. It is escalated, never retried (design rule S9). */
  | { readonly state: "Unknown"; readonly why: string };

/** What the loop may read of the world, and do to it. */
export interface Platform {
  /** `host`, `kubernetes` or `sim`. */
  readonly name: string;
  /** Effects that it can carry out. A policy that needs another is refused when it is loaded. */
  readonly effects: ReadonlySet<EffectType>;
  /** A snapshot of every workload, from memory: never waits on the network. */
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
}
