// Every block reason on the simulated platform: the gate holds the episode back and its target is not touched; and the same case,
// but for what the gate blocks on, acts. What blocks only for a while is seen to act in the same run, too.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { API_VERSION } from "../../api/meta.ts";
import { policySpecSchema } from "../../api/policy.ts";
import type { BlockReason } from "../../api/remediation.ts";
import { GATES } from "../../decide/gates.ts";
import { Loop } from "../../loop/loop.ts";
import { runScenario } from "./run.ts";
import type { Fault, Scenario, WorkloadSpec } from "./scenario.ts";
import { NAMESPACE } from "./world.ts";

const MINUTE = 60_000;

/** What a case makes of the scenario that acts. */
interface Changes extends Partial<Omit<Scenario, "faults" | "policies">> {
  readonly policy?: Record<string, unknown>;
  readonly faults?: readonly Omit<Fault, "id">[];
}

interface Case {
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

const workload = (name: string, more: Partial<WorkloadSpec> = {}): WorkloadSpec => ({
  kind: "Deployment",
  name,
  replicas: 5,
  startMs: 5_000,
  graceMs: 500,
  rps: 50,
  calls: [],
  ...more,
});

const hang = (more: Partial<Fault> = {}): Omit<Fault, "id"> => ({
  kind: "PodHang",
  at: MINUTE,
  for: 4 * MINUTE,
  workload: "payments",
  index: 0,
  count: 1,
  ...more,
});

/** One pod of five hangs, and its policy restarts it. */
function scenario({ policy, faults, ...more }: Changes): Scenario {
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

const merged = (both: Changes = {}, own: Changes = {}): Changes => ({ ...both, ...own, policy: { ...both.policy, ...own.policy } });

/** In the order in which it happened: what was decided about which target, and what was done to which pod. */
type Happened =
  | { readonly what: "Decision"; readonly action: unknown; readonly reason: unknown; readonly target: string; readonly message: string }
  | { readonly what: "Effect"; readonly pod: string };

async function play(changes: Changes): Promise<{ happened: Happened[]; outcomes: Readonly<Record<string, number>> }> {
  const happened: Happened[] = [];
  const { violations, coverage } = await runScenario(scenario(changes), {
    trace: (line) => {
      const pod = /^ *[\d.]+ operator-0 effect \S+ \S+ (\S+) id /.exec(line)?.[1];
      if (pod !== undefined) happened.push({ what: "Effect", pod });
    },
    createLoop: (options) =>
      new Loop({
        ...options,
        onRecord: ({ type, data, target = "", message }) => {
          if (type === "Decision") happened.push({ what: "Decision", action: data?.["action"], reason: data?.["reason"], target, message });
        },
      }),
  });
  assert.deepEqual(violations, []);
  return { happened, outcomes: coverage.outcome };
}

const story = (happened: readonly Happened[]): string => `\n${happened.map((each) => JSON.stringify(each)).join("\n")}`;

const CASES: readonly Case[] = [
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

describe("every gate on the simulated platform", () => {
  for (const { reason, both, blocked, free, says, passes = false } of CASES) {
    it(`${reason} blocks, and its target is not touched`, async () => {
      const { happened } = await play(merged(both, blocked));
      const at = happened.findIndex((each) => each.what === "Decision" && each.reason === reason);
      const decision = happened[at];
      assert.ok(decision?.what === "Decision", story(happened));
      assert.equal(decision.action, reason === "AwaitingApproval" ? "AwaitApproval" : "Block", story(happened));
      assert.match(decision.message, says);
      const isOn = (each: Happened): boolean => each.what === "Effect" && decision.target.endsWith(`/${each.pod}`);
      const acts = happened.findIndex((each) => each.what === "Decision" && each.target === decision.target && each.action === "Act");
      assert.equal(acts > at, passes, story(happened));
      assert.ok(acts === -1 || acts > at, story(happened));
      assert.equal(happened.slice(0, acts === -1 ? undefined : acts).some(isOn), false, story(happened));
      assert.equal(happened.some(isOn), passes, story(happened));
    });

    it(`without ${reason} the same case acts`, async () => {
      const { happened, outcomes } = await play(merged(both, free));
      const acts = happened.flatMap((each, i) => (each.what === "Decision" && each.action === "Act" ? [{ ...each, i }] : []));
      // Of CircuitOpen it is the next attempt after one that did not help.
      const act = acts[reason === "CircuitOpen" ? 1 : 0];
      assert.ok(act !== undefined, story(happened));
      assert.ok(!happened.slice(0, act.i).some((each) => each.what === "Decision" && each.reason === reason && each.action === "Block"));
      assert.ok(
        happened.slice(act.i).some((each) => each.what === "Effect" && act.target.endsWith(`/${each.pod}`)),
        story(happened),
      );
      if (reason !== "CircuitOpen") assert.ok((outcomes["Remediated"] ?? 0) > 0, story(happened));
    });
  }

  it("there is a case for each gate", () => {
    assert.deepEqual(GATES.map(({ name }) => name).toSorted(), CASES.map((each) => each.reason).toSorted());
  });
});
