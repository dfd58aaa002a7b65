import { API_VERSION } from "../../src/api/meta.ts";
import { policySpecSchema } from "../../src/api/policy.ts";
import type { BlockReason } from "../../src/api/remediation.ts";
import type { Fault, Scenario, WorkloadSpec } from "../../src/platform/sim/scenario.ts";
import { NAMESPACE } from "../../src/platform/sim/world.ts";

// The scenarios that show each gate block, and the same without what it blocks on: tests ask what happens in them, and mutants of the
// gates are tried on them.

const MINUTE = 60_000;

/** What a case makes of the scenario that acts. */
export interface Changes extends Partial<Omit<Scenario, "faults" | "policies">> {
  readonly policy?: Record<string, unknown>;
  readonly faults?: readonly Omit<Fault, "id">[];
}

/** A run for one gate, with what the gate blocks on and without. */
export interface GateCase {
  readonly reason: BlockReason;
  /** What the two have in common. */
  readonly both?: Changes;
  /** What the gate blocks on. */
  readonly blocked: Changes;
  /** What is there in its place, where it is not only left out. */
  readonly free?: Changes;
  /** What the verdict says. */
  readonly says: RegExp;
  /** It passes by itself, and the target is healed then. */
  readonly passes?: boolean;
}

export const workload = (name: string, more: Partial<WorkloadSpec> = {}): WorkloadSpec => ({
  kind: "Deployment",
  name,
  replicas: 5,
  startMs: 5_000,
  graceMs: 500,
  rps: 50,
  calls: [],
  ...more,
});

export const hang = (more: Partial<Fault> = {}): Omit<Fault, "id"> => ({
  kind: "PodHang",
  at: MINUTE,
  for: 4 * MINUTE,
  workload: "payments",
  index: 0,
  count: 1,
  ...more,
});

/** One pod of five hangs, and its policy restarts it; and what `changes` make of that. */
export function scenarioWith({ policy, faults, ...more }: Changes): Scenario {
  return {
    seed: 1,
    faultsUntil: 7 * MINUTE,
    operators: 1,
    nodes: 5,
    workloads: [workload("payments")],
    policies: [
      {
        apiVersion: API_VERSION,
        kind: "RemediationPolicy",
        metadata: { name: "payments", namespace: NAMESPACE },
        spec: policySpecSchema.parse({
          mode: "Enforce",
          targets: [{ name: "payments" }],
          signals: [{ name: "probe", probe: { failingFor: "10s" } }],
          ladder: [{ strategy: "RestartPod", timeout: "5m" }],
          verify: { stableFor: "10s", timeout: "3m" },
          cooldown: "10s",
          ...policy,
        }),
      },
    ],
    budgets: [],
    dependencies: [],
    monitoring: { scrapeMs: 5_000, evaluateMs: 5_000, rules: [], groupWaitMs: 1_000, groupIntervalMs: 15_000, repeatMs: 60 * MINUTE },
    approver: { afterMs: 10_000, approves: 1, denies: 0 },
    ...more,
    faults: (faults ?? [hang()]).map((fault, id) => ({ ...fault, id })),
  };
}

/** What both runs of a case have in common, and what one of them has. */
export const merged = (both: Changes = {}, own: Changes = {}): Changes => ({ ...both, ...own, policy: { ...both.policy, ...own.policy } });

export const GATE_CASES: readonly GateCase[] = [
  {
    reason: "Paused",
    blocked: { policy: { paused: { reason: "audit week" } } },
    says: /policy payments is paused: audit week/,
  },
  {
    reason: "Unmanaged",
    blocked: { faults: [{ kind: "Mark", at: 0, for: 6 * MINUTE, workload: "payments", index: 0, what: "Workload" }, hang()] },
    says: /do-not-remediate/,
  },
  {
    reason: "StaleSignal",
    // The alert is told of once, and the policy comes minutes later.
    both: {
      monitoring: {
        scrapeMs: 5_000,
        evaluateMs: 5_000,
        rules: [{ alertname: "PodNotReady", condition: "NotReady", for: 0 }],
        groupWaitMs: 1_000,
        groupIntervalMs: 15_000,
        repeatMs: 60 * MINUTE,
      },
      faults: [{ kind: "DeletePolicy", at: 1_000, for: 3 * MINUTE, index: 0 }, hang()],
    },
    blocked: { policy: { signals: [{ name: "unready", alert: { alertname: "PodNotReady" } }], maxSignalAge: "30s" } },
    free: { policy: { signals: [{ name: "unready", alert: { alertname: "PodNotReady" } }], maxSignalAge: "10m" } },
    says: /the signal was last seen \d+ s ago; maxSignalAge is 30s/,
  },
  {
    reason: "NoData",
    // The alert names the workload only, and nothing says which of its pods is ill.
    both: {
      monitoring: {
        scrapeMs: 5_000,
        evaluateMs: 5_000,
        rules: [{ alertname: "HighErrorRate", condition: "Errors", for: 15_000 }],
        groupWaitMs: 1_000,
        groupIntervalMs: 15_000,
        repeatMs: 60 * MINUTE,
      },
      policy: { signals: [{ name: "errors", alert: { alertname: "HighErrorRate" } }] },
    },
    blocked: { faults: [{ kind: "ServiceErrors", at: MINUTE, for: 90_000, workload: "payments", rate: 0.8 }] },
    free: { faults: [{ kind: "ServiceErrors", at: MINUTE, for: 90_000, workload: "payments", rate: 0.8 }, hang({ at: 30_000 })] },
    says: /which replica of payments is ill is not known/,
  },
  {
    reason: "DependencyUnhealthy",
    // Errors of a whole service, for which it would be restarted. They are the bank's.
    both: {
      workloads: [workload("payments", { calls: ["bank"] }), workload("bank")],
      faults: [{ kind: "ServiceErrors", at: MINUTE, for: 90_000, workload: "bank", rate: 0.8 }],
      policy: { signals: [{ name: "errors", errorRate: { above: "20%", for: "10s" } }], ladder: [{ strategy: "RollingRestart" }] },
    },
    blocked: {
      dependencies: [
        {
          apiVersion: API_VERSION,
          kind: "ServiceDependency",
          metadata: { name: "payments-bank", namespace: NAMESPACE },
          spec: { from: { name: "payments" }, to: { name: "bank" }, unhealthyAbove: "10%", window: "30s" },
        },
      ],
    },
    says: /bank/,
  },
  {
    reason: "StormBrake",
    blocked: { faults: [hang({ count: 5 })] },
    says: /5 of 5 .* are ill at once/,
  },
  {
    reason: "InProgress",
    // The replacement of the one takes long, and meanwhile the other falls ill.
    both: {
      workloads: [workload("payments", { startMs: 45_000 })],
      policy: { budgets: [{ maxUnavailable: 2 }], verify: { stableFor: "10s", timeout: "1m" } },
    },
    blocked: { faults: [hang(), hang({ at: MINUTE + 20_000, index: 2 })] },
    free: { faults: [hang({ at: MINUTE + 20_000, index: 2 })] },
    says: /is (Executing|Verifying) on the same/,
    passes: true,
  },
  {
    reason: "RecentlyRemediated",
    both: { faults: [hang(), hang({ at: 2 * MINUTE + 30_000, index: 2 })] },
    blocked: { policy: { cooldown: "1h" } },
    free: { policy: { cooldown: "1s" } },
    says: /ended less than 1h ago; rest until/,
  },
  {
    reason: "CircuitOpen",
    // What takes its place is ill, too.
    both: {
      faults: [hang({ sticky: true })],
      policy: { ladder: [{ strategy: "EvictPod" }], verify: { stableFor: "10s", timeout: "20s" } },
    },
    blocked: { policy: { attempts: { max: 1, window: "1h" } } },
    free: { policy: { attempts: { max: 3, window: "1h" } } },
    says: /1 attempts without success within 1h/,
  },
  {
    reason: "BudgetExhausted",
    // Both are ill; the other is for longer, so that there never is room for the first.
    both: { faults: [hang(), hang({ index: 2, for: 5 * MINUTE })] },
    blocked: { policy: { budgets: [{ maxUnavailable: 1 }] } },
    free: { policy: { budgets: [{ maxUnavailable: 2 }] } },
    says: /2 of 5 replicas would be unavailable; .* allows 1/,
  },
  {
    reason: "OutsideWindow",
    blocked: { policy: { windows: [{ schedule: "0 4 29 2 *", timeZone: "UTC", duration: "1m" }] } },
    says: /outside the policy's windows/,
  },
  {
    reason: "AwaitingApproval",
    both: { policy: { mode: "Approve", approval: { timeout: "20m" } } },
    blocked: { approver: { afterMs: 10_000, approves: 0, denies: 0 } },
    says: /waiting for a person's yes to RestartPod/,
  },
];
