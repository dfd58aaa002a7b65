import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Replica } from "../ports/platform.ts";
import {
  budgetOf,
  contextOf,
  episodeOf,
  HOUR,
  MINUTE,
  NOW,
  policyOf,
  processRef,
  replicaOf,
  selfEpisode,
  workloadLevel,
  workloadOf,
} from "../../test/support/gate-context.ts";
import { allowedBy, budgetExhausted, unavailableAfter } from "./budget-exhausted.ts";
import type { GateContext } from "./gate.ts";

type Entry = Record<string, unknown>;
const budgets = (...entries: Entry[]): GateContext => contextOf({ policy: policyOf({ budgets: entries }) });
const verdictOf = (context: GateContext): string => budgetExhausted.check(context).verdict;
const replicas = (...overs: Partial<Replica>[]): Replica[] => overs.map((over, i) => replicaOf(i, over));
const of = (list: readonly Replica[], desired = 3, over: Partial<GateContext> = {}): GateContext =>
  contextOf({ workload: workloadOf(desired, { replicas: list }), ...over });

test("passes with room, blocks without, and names the strictest limit", () => {
  assert.equal(verdictOf(budgets({ maxUnavailable: 1 })), "Pass");
  const down = of(replicas({}, { ready: false }, {}));
  const verdict = budgetExhausted.check(down);
  assert.equal(verdict.verdict, "Block");
  assert.equal(verdict.message, "2 of 3 replicas would be unavailable; policy payments (maxUnavailable 1) allows 1");
  const stricter = budgetOf({ budgets: [{ maxUnavailable: "20%" }] });
  assert.match(
    budgetExhausted.check({ ...down, budgets: [stricter] }).message,
    /RemediationBudget platform \(maxUnavailable 20% of 3\) allows 0/,
  );
});

test("counts whatever is unavailable, for any reason", () => {
  const others: [string, Partial<Replica>][] = [
    ["not ready", { ready: false }],
    ["out of traffic", { inTraffic: false }],
    ["starting", { phase: "Starting" }],
    ["stopping", { phase: "Stopping" }],
    ["exited", { phase: "Exited" }],
  ];
  assert.equal(verdictOf(of(replicas({}, {}, {}))), "Pass");
  for (const [what, over] of others) assert.equal(verdictOf(of(replicas({}, over, {}))), "Block", what);
  assert.equal(verdictOf(of(replicas({}, {}))), "Block", "missing");
});

test("an action that the replica itself does makes it no less available: only a freeze holds it", () => {
  const down = of(replicas({}, { ready: false }, {}));
  const invoking = { ...down, effects: new Set(["InvokeAction"] as const) };
  assert.equal(verdictOf(down), "Block");
  assert.equal(verdictOf(invoking), "Pass");
  assert.equal(verdictOf({ ...down, effects: new Set(["InvokeAction", "Stop"] as const) }), "Block");
  assert.equal(verdictOf({ ...down, effects: new Set<never>() }), "Block", "where nothing is known of it, it counts");
  assert.equal(verdictOf({ ...invoking, budgets: [budgetOf({ budgets: [{ maxUnavailable: 0 }] })] }), "Block");
});

test("counts a target that is down once", () => {
  const list = replicas({ ready: false }, {}, {});
  assert.equal(verdictOf(of(list)), "Pass");
  assert.equal(unavailableAfter(of(list), workloadOf(3, { replicas: list })), 1);
});

test("a replacement that is ready makes up for its replica; one that is not does not", () => {
  const replacement = (ready: boolean): Replica => replicaOf(3, { ready, inTraffic: ready, replaces: "r0" });
  assert.equal(verdictOf(of([...replicas({}, { ready: false }, {}), replacement(false)])), "Block");
  assert.equal(verdictOf(of([...replicas({}, { ready: false }, {}), replacement(true)])), "Pass");
});

test("the targets of other episodes that are at work count, unless they count already", () => {
  const at = (phase: "Executing" | "Verifying" | "Blocked", target = processRef(1)): GateContext =>
    contextOf({ remediations: [selfEpisode(), episodeOf({ target, status: { phase } })] });
  assert.equal(verdictOf(at("Executing")), "Block");
  assert.equal(verdictOf(at("Verifying")), "Pass");
  assert.equal(verdictOf(at("Blocked")), "Pass");
  assert.equal(verdictOf(at("Executing", processRef(0))), "Pass");
  // This episode's own target counts once, also while it executes.
  assert.equal(verdictOf(contextOf({ remediations: [selfEpisode({ status: { phase: "Executing" } })] })), "Pass");
});

test("percentages are rounded down, exactly", () => {
  const of100 = (maxUnavailable: string): number => allowedBy({ maxUnavailable, whenRoundsToZero: "Block" }, 100);
  for (let p = 0; p <= 100; p += 1) assert.equal(of100(`${p}%`), p);
  assert.equal(of100("12.5%"), 12);
  assert.equal(allowedBy({ maxUnavailable: "33%", whenRoundsToZero: "Block" }, 3), 0);
  assert.equal(allowedBy({ maxUnavailable: "34%", whenRoundsToZero: "Block" }, 3), 1);
});

test("where a percentage rounds to zero, the policy says whether one is allowed", () => {
  assert.equal(verdictOf(budgets({ maxUnavailable: "10%" })), "Block");
  assert.equal(verdictOf(budgets({ maxUnavailable: "10%", whenRoundsToZero: "AllowOne" })), "Pass");
  assert.equal(allowedBy({ maxUnavailable: "10%", whenRoundsToZero: "AllowOne" }, 0), 0);
  assert.equal(allowedBy({ maxUnavailable: "10%", whenRoundsToZero: "AllowOne" }, 30), 3);
});

test("zero freezes, also when a replacement has made the count whole, and the workload as a whole", () => {
  const whole = [...replicas({}, {}, {}), replicaOf(3, { replaces: "r0" })];
  for (const maxUnavailable of [0, "0%"]) {
    const policy = policyOf({ budgets: [{ maxUnavailable }] });
    const verdict = budgetExhausted.check(of(whole, 3, { policy }));
    assert.equal(verdict.verdict, "Block");
    assert.match(verdict.message, /frozen/);
    assert.equal(verdictOf(workloadLevel({ policy })), "Block");
  }
  assert.equal(verdictOf(of(whole, 3, { policy: policyOf({ budgets: [{ maxUnavailable: "10%" }] }) })), "Block");
});

test("what is done to the workload as a whole makes no replica unavailable", () => {
  const down = workloadOf(3, { replicas: replicas({ ready: false }, { ready: false }, {}), minAvailable: { count: 3, source: "pdb" } });
  assert.equal(verdictOf(workloadLevel({ workload: down })), "Pass");
  assert.equal(verdictOf(workloadLevel({ policy: policyOf({ budgets: [{ maxUnavailable: "10%" }] }) })), "Pass");
  assert.equal(verdictOf(contextOf({ workload: down })), "Block");
});

test("a budget for some causes applies to those", () => {
  const context = (reasons: string[]): GateContext => budgets({ maxUnavailable: 1 }, { maxUnavailable: 0, reasons });
  assert.equal(verdictOf(context(["Unresponsive"])), "Pass");
  assert.equal(verdictOf(context(["Unresponsive", "MemoryLeak"])), "Block");
});

test("a scheduled budget applies in its window, and says when it ends", () => {
  // NOW is Wednesday, 12:00 UTC.
  const context = (schedule: string, duration: string): GateContext =>
    budgets({ maxUnavailable: 1 }, { maxUnavailable: 0, schedule, duration });
  const verdict = budgetExhausted.check(context("0 11 * * 3", "2h"));
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, NOW + HOUR);
  assert.equal(verdictOf(context("0 12 * * 3", "1m")), "Block");
  assert.equal(verdictOf(context("0 11 * * 3", "1h")), "Pass");
  assert.equal(verdictOf(context("1 12 * * 3", "1h")), "Pass");
  const both = budgetExhausted.check(
    budgets({ maxUnavailable: 0, schedule: "0 11 * * 3", duration: "2h" }, { maxUnavailable: 0, reasons: ["MemoryLeak"] }),
  );
  assert.ok(both.verdict === "Block");
  assert.equal(both.until, undefined, "what never ends has no end");
});

test("budgets of the platform team apply in their namespaces", () => {
  const strict = { budgets: [{ maxUnavailable: 0 }] };
  assert.equal(verdictOf(contextOf({ budgets: [budgetOf(strict)] })), "Block");
  assert.equal(verdictOf(contextOf({ budgets: [budgetOf({ ...strict, namespaces: ["default"] })] })), "Block");
  assert.equal(verdictOf(contextOf({ budgets: [budgetOf({ ...strict, namespaces: ["other"] })] })), "Pass");
});

test("the platform's own least is kept", () => {
  const least = (count: number): GateContext =>
    contextOf({ workload: workloadOf(3, { minAvailable: { count, source: "PodDisruptionBudget payments" } }) });
  assert.equal(verdictOf(least(2)), "Pass");
  const verdict = budgetExhausted.check(least(3));
  assert.equal(verdict.verdict, "Block");
  assert.match(verdict.message, /PodDisruptionBudget payments/);
});

test("never more at once than maxConcurrent, dry runs and other namespaces apart", () => {
  const at = (
    max: number,
    others: Parameters<typeof episodeOf>[0][],
    namespaces?: string[],
    self: Parameters<typeof selfEpisode>[0] = {},
  ): string =>
    verdictOf(
      contextOf({
        budgets: [budgetOf({ maxConcurrent: max, ...(namespaces === undefined ? {} : { namespaces }) })],
        remediations: [selfEpisode(self), ...others.map((options, i) => episodeOf({ name: `e${i}`, ...options }))],
      }),
    );
  const other = { workload: { kind: "Workload", namespace: "other", name: "w" } };
  assert.equal(at(1, []), "Pass");
  assert.equal(at(0, []), "Block");
  assert.equal(at(1, [{}]), "Block");
  assert.equal(at(2, [{}]), "Pass");
  assert.equal(at(1, [{ status: { phase: "Verifying" } }]), "Block");
  assert.equal(at(1, [{ status: { phase: "Succeeded" } }]), "Pass");
  assert.equal(at(1, [{ status: { phase: "Blocked" } }]), "Pass");
  assert.equal(at(1, [{ mode: "Observe" }]), "Pass");
  assert.equal(at(1, [other]), "Block", "a budget for all namespaces counts all");
  assert.equal(at(1, [other], ["default"]), "Pass");
  // Two that are decided at the same moment: the older goes.
  assert.equal(at(1, [{ created: NOW - 2 * MINUTE, status: { phase: "Pending" } }]), "Block");
  assert.equal(at(1, [{ created: NOW, status: { phase: "Pending" } }]), "Pass");
  // Of those at work already, the older goes on when the limit was lowered.
  assert.equal(at(1, [{ created: NOW }], undefined, { status: { phase: "Executing" } }), "Pass");
  assert.equal(at(1, [{ created: NOW - 2 * MINUTE }], undefined, { status: { phase: "Executing" } }), "Block");
});

test("what cannot be counted blocks", () => {
  assert.equal(verdictOf({ ...contextOf(), workload: undefined }), "Block");
  assert.equal(verdictOf(contextOf({ policy: undefined })), "Block");
  assert.equal(verdictOf(contextOf({ workload: workloadOf(3, { desired: NaN }) })), "Block");
});

const entry = fc.oneof(
  fc.record({ maxUnavailable: fc.integer({ min: 0, max: 6 }) }),
  fc.record({
    maxUnavailable: fc.integer({ min: 0, max: 100 }).map((p) => `${p}%`),
    reasons: fc.constantFrom(["MemoryLeak"], ["Unresponsive"]),
  }),
  fc.record({
    maxUnavailable: fc.integer({ min: 1, max: 100 }).map((p) => `${p}%`),
    whenRoundsToZero: fc.constantFrom("Block", "AllowOne"),
    schedule: fc.constantFrom("0 11 * * *", "0 13 * * *"),
    duration: fc.constantFrom("30m", "3h"),
  }),
);
const state = fc.record({
  ready: fc.boolean(),
  inTraffic: fc.boolean(),
  phase: fc.constantFrom("Starting", "Running", "Stopping", "Exited"),
});
const states = fc.array(state, { minLength: 1, maxLength: 6 });

test("property: one budget more never allows more, whoever owns it", () => {
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 3 }), entry, states, fc.boolean(), (some, more, list, ours) => {
      const context = (own: Entry[], theirs: Entry[]): GateContext =>
        of(replicas(...list), list.length, { policy: policyOf({ budgets: own }), budgets: [budgetOf({ budgets: theirs })] });
      if (verdictOf(context(some, [])) === "Block")
        assert.equal(verdictOf(ours ? context([...some, more], []) : context(some, [more])), "Block");
    }),
  );
});

test("property: one replica more that is down never allows more", () => {
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 3 }), states, fc.nat(), (some, list, which) => {
      const policy = policyOf({ budgets: some });
      const fewer = list.map((s, i) => (i === which % list.length ? { ...s, ready: false } : s));
      if (verdictOf(of(replicas(...list), list.length, { policy })) === "Block")
        assert.equal(verdictOf(of(replicas(...fewer), list.length, { policy })), "Block");
    }),
  );
});

test("property: what passes leaves no more unavailable than the smallest whole number among the budgets", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 3 }), states, (limits, list) => {
      const context = of(replicas(...list), list.length, {
        policy: policyOf({ budgets: limits.map((maxUnavailable) => ({ maxUnavailable })) }),
      });
      const serving = list.filter((s, i) => i !== 0 && s.ready && s.inTraffic && s.phase === "Running").length;
      const expected = Math.min(...limits) > 0 && list.length - serving <= Math.min(...limits) ? "Pass" : "Block";
      assert.equal(verdictOf(context), expected);
    }),
  );
});

test("a freeze by the clock of a place is there in both nights in which that clock is set", () => {
  // From 22:00 in Berlin, for eight hours: UTC+1 in winter, UTC+2 in summer.
  const freeze = { maxUnavailable: 0, schedule: "0 22 * * *", timeZone: "Europe/Berlin", duration: "8h" };
  const at = (time: string): string => verdictOf({ ...budgets({ maxUnavailable: 1 }, freeze), now: Date.parse(time) });
  for (const [opens, closes] of [
    // Clocks go forward on 2026-03-29 at 01:00 UTC: eight hours of elapsed time end at 07:00 in Berlin.
    ["2026-03-28T21:00:00Z", "2026-03-29T05:00:00Z"],
    ["2026-03-29T20:00:00Z", "2026-03-30T04:00:00Z"],
    // And back on 2026-10-25 at 01:00 UTC: they end at 05:00.
    ["2026-10-24T20:00:00Z", "2026-10-25T04:00:00Z"],
    ["2026-10-25T21:00:00Z", "2026-10-26T05:00:00Z"],
  ] as const) {
    const before = (time: string): string => new Date(Date.parse(time) - 1).toISOString();
    assert.deepEqual([before(opens), opens, before(closes), closes].map(at), ["Pass", "Block", "Block", "Pass"], opens);
  }
});
