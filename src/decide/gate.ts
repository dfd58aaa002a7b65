import type { RemediationApproval } from "../api/approval.ts";
import type { RemediationBudget } from "../api/budget.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { BlockReason, GateVerdict, Remediation } from "../api/remediation.ts";
import type { Diagnosis, Signal } from "../api/signal.ts";
import type { FailureDomain } from "../orient/failure-domains.ts";
import type { EffectType, Replica, Workload } from "../ports/platform.ts";

/** Everything that a gate may look at. Times are milliseconds since the epoch. */
export interface GateContext {
  readonly now: number;
  /** The policy as it is now, not as it was when the episode began; undefined once it was deleted. */
  readonly policy: RemediationPolicy | undefined;
  readonly signal: Signal;
  readonly diagnosis: Diagnosis;
  /** The workload of the diagnosis' remediation target as it is now; undefined when it does not exist. */
  readonly workload: Workload | undefined;
  /** The remediation target where that is a replica; undefined when it is a workload, or no longer exists. */
  readonly replica: Replica | undefined;
  /** The replica that the step would act on, where the episode is about its whole workload and takes one after the other. */
  readonly stepReplica?: Replica;
  /** Name and namespace of the episode that is being decided, so that it does not block itself. */
  readonly self: { readonly namespace: string; readonly name: string } | undefined;
  /** Every remediation that the store has, this one included. */
  readonly remediations: readonly Remediation[];
  readonly budgets: readonly RemediationBudget[];
  /** Answers that people gave to this episode, and every word that a circuit is closed. */
  readonly approvals: readonly RemediationApproval[];
  /** What the target shares with others, and who is ill there; empty where the workload does not exist. */
  readonly domains: readonly FailureDomain[];
  /** Kinds of effect that the rung, or the step, needs which would be begun; undefined where there is none. */
  readonly effects?: ReadonlySet<EffectType>;
  /** Why what is known of the world may be out of date; undefined where it is not. */
  readonly staleness?: string;
}

/** What a gate says. */
export type Verdict =
  | { readonly verdict: "Pass"; readonly message: string }
  /** `until`: when it may pass (ms), where that is known. */
  | { readonly verdict: "Block"; readonly message: string; readonly until?: number };

/** One question that must be answered with yes before anything is touched. Pure. */
export interface Gate {
  readonly name: BlockReason;
  /** What it protects from, in a sentence; the documentation is generated from it. */
  readonly doc: string;
  /**
   * Whether it is asked again before every step, not only when the episode begins. Gates about the signal and about
   * history are not: a target out of traffic stops showing its symptom, and the episode is itself its latest history.
   */
  readonly onEveryStep: boolean;
  check(context: GateContext): Verdict;
}

/** What comes out of the gates. */
export interface Decision {
  readonly action: "Act" | "Observe" | "AwaitApproval" | "Block";
  /** The first gate that blocked. */
  readonly reason?: BlockReason;
  readonly message: string;
  /** When to ask again (ms), where that is known. */
  readonly until?: number;
  /** The storm that the target is in, where the reason is one that no other episode stands for. */
  readonly storm?: { readonly domain: string; readonly message: string };
  /** Every gate's verdict, in order, also those after the first that blocked. */
  readonly verdicts: readonly GateVerdict[];
}
