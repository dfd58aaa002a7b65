import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { DO_NOT_REMEDIATE, targetKey } from "../api/meta.ts";
import { BLOCK_REASONS, type BlockReason } from "../api/remediation.ts";
import { timestamp } from "../api/time.ts";
import {
  approvalOf,
  attemptOf,
  budgetOf,
  contextOf,
  domainOf,
  episodeOf,
  HOUR,
  MINUTE,
  NOW,
  policyOf,
  processRef,
  replicaOf,
  selfEpisode,
  WORKLOAD,
  workloadOf,
} from "../../test/support/gate-context.ts";
import { strikes } from "./circuit-open.ts";
import { decide } from "./decide.ts";
import type { GateContext } from "./gate.ts";
import { GATES } from "./gates.ts";

const base = contextOf();
const ineffective = [1, 2, 3].map((i) =>
  episodeOf({
    name: `e${i}`,
    workload: WORKLOAD,
    status: {
      phase: "Failed",
      outcome: "Ineffective",
      endedAt: timestamp(NOW - i * 10 * MINUTE),
      attempts: [attemptOf("Ineffective", NOW - i * 10 * MINUTE)],
    },
  }),
);

/** For each gate a case that only this gate stops. */
const CASES: Readonly<Record<BlockReason, GateContext>> = {
  Paused: contextOf({ policy: policyOf({ paused: { reason: "x" } }) }),
  Unmanaged: contextOf({ replica: replicaOf(0, { labels: { [DO_NOT_REMEDIATE]: "true" } }) }),
  StaleSignal: { ...base, signal: { ...base.signal, state: "Resolved" } },
  NoData: { ...base, diagnosis: { ...base.diagnosis, missing: ["memory"] } },
  DependencyUnhealthy: {
    ...base,
    diagnosis: { ...base.diagnosis, dependency: { workload: { ...WORKLOAD, name: "bank" }, message: "fails" } },
  },
  StormBrake: contextOf({ domains: [domainOf("Namespace", 4, 3)] }),
  InProgress: contextOf({ remediations: [selfEpisode(), episodeOf({ rootCauseKey: "leak payments", status: { phase: "Verifying" } })] }),
  RecentlyRemediated: contextOf({
    remediations: [
      selfEpisode(),
      episodeOf({
        workload: WORKLOAD,
        status: {
          phase: "Succeeded",
          outcome: "Remediated",
          endedAt: timestamp(NOW - MINUTE),
          attempts: [attemptOf("Effective", NOW - MINUTE)],
        },
      }),
    ],
  }),
  CircuitOpen: contextOf({ policy: policyOf({ cooldown: "1m" }), remediations: [selfEpisode(), ...ineffective] }),
  BudgetExhausted: contextOf({ workload: workloadOf(3, { replicas: [replicaOf(0), replicaOf(1, { ready: false }), replicaOf(2)] }) }),
  OutsideWindow: contextOf({ policy: policyOf({ windows: [{ schedule: "0 22 * * *", duration: "1h" }] }) }),
  AwaitingApproval: contextOf({ policy: policyOf({ mode: "Approve" }), remediations: [selfEpisode({ mode: "Approve" })] }),
};

test("the gates stand in the order of the block reasons, each once, each with a sentence", () => {
  assert.deepEqual(
    GATES.map((gate) => gate.name),
    [...BLOCK_REASONS],
  );
  for (const gate of GATES) assert.match(gate.doc, /^[A-Z].*\.$/s);
});

test("those that are asked again before every step", () => {
  assert.deepEqual(
    GATES.filter((gate) => gate.onEveryStep).map((gate) => gate.name),
    ["Paused", "Unmanaged", "DependencyUnhealthy", "StormBrake", "BudgetExhausted", "OutsideWindow", "AwaitingApproval"],
  );
});

test("acts when nothing stands against it, and records every gate's verdict", () => {
  const decision = decide(base, "Start");
  assert.equal(decision.action, "Act");
  assert.equal(decision.reason, undefined);
  assert.deepEqual(
    decision.verdicts.map(({ gate, verdict }) => [gate, verdict]),
    BLOCK_REASONS.map((gate) => [gate, "Pass"]),
  );
  assert.equal(decide(base, "Step").action, "Act");
});

describe("each gate alone stops its case", () => {
  for (const gate of GATES)
    test(gate.name, () => {
      const context = CASES[gate.name];
      const decision = decide(context, "Start");
      assert.equal(decision.action, gate.name === "AwaitingApproval" ? "AwaitApproval" : "Block");
      assert.equal(decision.reason, gate.name);
      // The same case would act without the gate: no other one blocks.
      assert.deepEqual(
        decision.verdicts.filter(({ verdict }) => verdict === "Block").map((verdict) => verdict.gate),
        [gate.name],
      );
      const step = decide(context, "Step");
      assert.equal(step.action === "Act", !gate.onEveryStep);
      assert.equal(
        step.verdicts.some((verdict) => verdict.gate === gate.name),
        gate.onEveryStep,
      );
    });
});

test("the first gate that blocks is the reason; the others are asked all the same", () => {
  const context = contextOf({
    policy: policyOf({ windows: [{ schedule: "0 22 * * *", duration: "1h" }] }),
    budgets: [budgetOf({ budgets: [{ maxUnavailable: 0 }] })],
  });
  const decision = decide(context, "Start");
  assert.equal(decision.reason, "BudgetExhausted");
  assert.equal(decision.verdicts.length, GATES.length);
  const window = decision.verdicts.find((verdict) => verdict.gate === "OutsideWindow");
  assert.deepEqual([window?.verdict, window?.until], ["Block", timestamp(NOW + 10 * HOUR)]);
});

test("until is the reason's, and in the verdict as text", () => {
  const decision = decide(CASES.OutsideWindow, "Start");
  assert.equal(decision.until, NOW + 10 * HOUR);
  assert.equal(decision.verdicts.find((verdict) => verdict.gate === "OutsideWindow")?.until, timestamp(NOW + 10 * HOUR));
});

test("in Observe nothing is done, whether the mode was so from the start, lowered or raised", () => {
  const mode = (now: string, then: "Observe" | "Enforce"): string =>
    decide(contextOf({ policy: policyOf({ mode: now }), remediations: [selfEpisode({ mode: then })] }), "Start").action;
  assert.equal(mode("Observe", "Observe"), "Observe");
  assert.equal(mode("Observe", "Enforce"), "Observe");
  assert.equal(mode("Enforce", "Observe"), "Observe");
  assert.equal(mode("Enforce", "Enforce"), "Act");
  assert.equal(decide(contextOf({ policy: policyOf({ mode: "Observe" }), self: undefined, remediations: [] }), "Start").action, "Observe");
});

test("a yes leads to the action, a no to a block", () => {
  const answered = (decision: string) => decide({ ...CASES.AwaitingApproval, approvals: [approvalOf({ decision })] }, "Start");
  assert.equal(answered("Approved").action, "Act");
  const denied = answered("Denied");
  assert.deepEqual([denied.action, denied.reason], ["Block", "AwaitingApproval"]);
});

test("approval is not asked for what another gate blocks", () => {
  const paused = contextOf({
    policy: policyOf({ mode: "Approve", paused: { reason: "x" } }),
    remediations: [selfEpisode({ mode: "Approve" })],
  });
  assert.deepEqual([decide(paused, "Start").action, decide(paused, "Start").reason], ["Block", "Paused"]);
});

test("between rungs the episode does not stand in its own way, but its strikes count", () => {
  const attempts = [attemptOf("Ineffective", NOW - MINUTE)];
  const climbing = (n: number): GateContext =>
    contextOf({ remediations: [selfEpisode({ status: { phase: "Executing", attempts: Array.from({ length: n }, () => attempts[0]!) } })] });
  assert.equal(decide(climbing(2), "Start").action, "Act");
  assert.equal(decide(climbing(3), "Start").reason, "CircuitOpen");
  assert.equal(strikes(climbing(2)).count, 2);
});

test("a deleted policy blocks as Paused, a vanished workload at the start and before every step", () => {
  assert.equal(decide(contextOf({ policy: undefined }), "Start").reason, "Paused");
  assert.equal(decide(contextOf({ policy: undefined }), "Step").reason, "Paused");
  const gone = { ...contextOf(), workload: undefined, replica: undefined };
  assert.equal(decide(gone, "Start").reason, "NoData");
  assert.equal(decide(gone, "Step").reason, "BudgetExhausted");
});

test("a gate that throws counts as a block under its name", () => {
  const broken = contextOf();
  // A label map that cannot be read is a mark that cannot be seen.
  const replica = { ...replicaOf(0), labels: undefined as never };
  const decision = decide({ ...broken, replica }, "Start");
  assert.deepEqual([decision.action, decision.reason], ["Block", "Unmanaged"]);
  assert.match(decision.message, /the gate itself failed/);
  const approvals = [{ ...approvalOf(), metadata: undefined as never }];
  const last = decide({ ...CASES.AwaitingApproval, approvals }, "Start");
  assert.deepEqual([last.action, last.reason], ["Block", "AwaitingApproval"]);
});

/** Contexts of which most have a fault or two, and some are not even of the right shape. */
const arbitrary = fc
  .record({
    parts: fc.array(fc.constantFrom(...BLOCK_REASONS), { maxLength: 3 }),
    now: fc.oneof(fc.constant(NOW), fc.double(), fc.integer()),
    junk: fc.option(
      fc.tuple(
        fc.constantFrom("policy", "signal", "diagnosis", "workload", "replica", "self", "remediations", "budgets", "approvals"),
        fc.anything(),
      ),
    ),
    seenAt: fc.oneof(fc.constant(NOW), fc.double()),
    desired: fc.oneof(fc.constant(3), fc.double()),
  })
  .map(({ parts, now, junk, seenAt, desired }): GateContext => {
    let context: GateContext = { ...base, now, signal: { ...base.signal, seenAt }, workload: workloadOf(3, { desired }) };
    for (const part of parts) {
      const fault = CASES[part];
      const differing = Object.fromEntries(Object.entries(fault).filter(([key, value]) => value !== base[key as keyof GateContext]));
      context = { ...context, ...differing };
    }
    return junk === null ? context : { ...context, [junk[0]]: junk[1] };
  });

test("property: never throws, gives the same answer twice, and never acts against a block", () => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(arbitrary, fc.constantFrom("Start" as const, "Step" as const), (context, phase) => {
      const decision = decide(context, phase);
      assert.deepEqual(decide({ ...context }, phase), decision);
      const blocks = decision.verdicts.filter(({ verdict }) => verdict === "Block");
      seen.set(decision.action, (seen.get(decision.action) ?? 0) + 1);
      if (decision.action === "Act" || decision.action === "Observe") assert.deepEqual(blocks, []);
      else assert.equal(decision.reason, blocks[0]?.gate);
      if (decision.action === "AwaitApproval")
        assert.deepEqual(
          blocks.map(({ gate }) => gate),
          ["AwaitingApproval"],
        );
      assert.equal(decision.verdicts.length, phase === "Start" ? GATES.length : GATES.filter((gate) => gate.onEveryStep).length);
    }),
    { numRuns: 2_000 },
  );
  assert.ok((seen.get("Act") ?? 0) > 0 && (seen.get("Block") ?? 0) > 0, "the contexts reach both answers");
});

test("property: of episodes on one workload that are all waiting, exactly one may go", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 6 }), (ages) => {
      const all = ages.map((age, i) =>
        episodeOf({
          name: `e${i}`,
          created: NOW - age * MINUTE,
          target: processRef(i),
          workload: WORKLOAD,
          rootCauseKey: "k",
          status: { phase: "Blocked" },
        }),
      );
      const free = all.filter((self) => {
        const context = contextOf({ self: { namespace: "default", name: self.metadata.name }, remediations: all });
        return decide(context, "Start").reason !== "InProgress";
      });
      assert.equal(free.length, 1, targetKey(WORKLOAD));
    }),
  );
});

test("ten thousand episodes do not slow a decision to more than some milliseconds' work", () => {
  // Counted in visits, not in time: each episode is looked at once for all gates.
  let visits = 0;
  const remediations = Array.from({ length: 10_000 }, (_, i) => episodeOf({ name: `e${i}`, status: { phase: "Succeeded" } }));
  const counted = new Proxy(remediations, {
    get(target, key, receiver) {
      if (typeof key === "string" && /^\d+$/.test(key)) visits += 1;
      return Reflect.get(target, key, receiver) as unknown;
    },
  });
  assert.equal(decide(contextOf({ remediations: counted }), "Start").action, "Act");
  assert.equal(visits, 10_000);
});
