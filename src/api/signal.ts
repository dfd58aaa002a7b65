import type { SIGNAL_CONDITIONS } from "./policy.ts";
import type { Cause, Evidence, SignalRecord } from "./remediation.ts";
import type { TargetRef } from "./meta.ts";

export type SignalCondition = (typeof SIGNAL_CONDITIONS)[number];

/**
 * An alert as Alertmanager's webhook (version 4) delivers it, cut down to what the loop reads.
 * All times are milliseconds since the epoch.
 */
export interface Alert {
  readonly status: "firing" | "resolved";
  readonly alertname: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAt: number;
  /** Undefined while it fires (Alertmanager writes the year 1). */
  readonly endsAt: number | undefined;
  readonly fingerprint: string;
  /** When it reached Nightshift. */
  readonly receivedAt: number;
  /** Alertmanager says that it is silenced or inhibited: it fires, and is not acted on. */
  readonly suppressed?: true;
  /** When Alertmanager takes it for over where nobody repeats it (ms); only its API says so, of what fires. */
  readonly expiresAt?: number;
  /** Resolved because nobody repeated it, and not because anybody said that it is over: its Prometheus may be down. */
  readonly expired?: true;
}

/** A condition of a policy that holds, or has ceased to hold, on a target. */
export interface Signal {
  /** Name of the policy's signal. */
  readonly name: string;
  readonly condition: SignalCondition;
  readonly source: SignalRecord["source"];
  readonly state: "Firing" | "Resolved";
  /** What the signal is about. A replica where the evidence names one, else a workload. */
  readonly target: TargetRef;
  /** When the condition began to hold, by its source's clock (ms). */
  readonly startsAt: number;
  /** When the newest evidence for it was seen (ms). Staleness is counted from here. */
  readonly seenAt: number;
  /** When it reached Nightshift (ms). */
  readonly receivedAt: number;
  /** The same for the same condition on the same target. */
  readonly fingerprint: string;
  readonly cause: Cause;
  readonly confidence: number;
  readonly evidence: readonly Evidence[];
  /** What the signal itself leaves open. Non-empty means: no action (design rule S4). Default: nothing. */
  readonly missing?: readonly string[];
}

/** What is really wrong. */
export interface Diagnosis {
  readonly signalTarget: TargetRef;
  /** What an action would act on: a replica, or a workload. */
  readonly remediationTarget: TargetRef;
  /** The workload that the remediation target belongs to, or is. */
  readonly workload: TargetRef;
  readonly cause: Cause;
  /** The same for every episode with the same root cause. */
  readonly rootCauseKey: string;
  readonly confidence: number;
  /** One sentence for people. */
  readonly summary: string;
  readonly evidence: readonly Evidence[];
  /** Set when another service is the cause: then this target must not be touched (design rule S5). */
  readonly dependency?: { readonly workload: TargetRef; readonly message: string };
  /** What was looked for and is not there. Non-empty means: no action (design rule S4). */
  readonly missing: readonly string[];
}
