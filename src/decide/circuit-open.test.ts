import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Attempt, Remediation } from "../api/remediation.ts";
import { timestamp } from "../api/time.ts";
import {
  approvalOf,
  attemptOf,
  contextOf,
  episodeOf,
  HOUR,
  MINUTE,
  NOW,
  policyOf,
  selfEpisode,
  WORKLOAD,
} from "../../test/support/gate-context.ts";
import { circuitOpen, strikes } from "./circuit-open.ts";
import type { GateContext } from "./gate.ts";

const failed = (at: number, name: string, outcome: Attempt["outcome"] | "None" = "Ineffective"): Remediation =>
  episodeOf({
    name,
    workload: WORKLOAD,
    created: at - MINUTE,
    status: {
      phase: "Failed",
      outcome: "Ineffective",
      endedAt: timestamp(at),
      attempts: [attemptOf(outcome === "None" ? undefined : outcome, at)],
    },
  });
const healed = (at: number): Remediation =>
  episodeOf({ name: "healed", workload: WORKLOAD, status: { phase: "Succeeded", outcome: "Remediated", endedAt: timestamp(at) } });
const with_ = (remediations: readonly Remediation[], attempts: Record<string, unknown> = {}): GateContext =>
  contextOf({ policy: policyOf({ attempts: { max: 3, window: "1h", ...attempts } }), remediations });
const ago = (...minutes: number[]): Remediation[] => minutes.map((m, i) => failed(NOW - m * MINUTE, `e${i}`));

test("passes with fewer strikes than allowed", () => {
  assert.equal(circuitOpen.check(with_([])).verdict, "Pass");
  assert.equal(circuitOpen.check(with_(ago(10, 20))).verdict, "Pass");
  assert.deepEqual(strikes(with_(ago(10, 20))), { count: 2, max: 3, open: false });
});

test("blocks at the last one allowed, until the window has passed since it", () => {
  const verdict = circuitOpen.check(with_(ago(30, 20, 10)));
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, NOW + 50 * MINUTE);
});

test("closes by itself, at reset after the last strike", () => {
  const last = NOW - 10 * MINUTE;
  const context = with_(ago(30, 20, 10), { reset: "2h" });
  const atLast = circuitOpen.check({ ...context, now: last + 2 * HOUR - 1 });
  assert.equal(atLast.verdict, "Block");
  assert.match(atLast.message, /^3 attempts without success within 1h/, "also when the strikes have left the window");
  assert.equal(circuitOpen.check({ ...context, now: last + 2 * HOUR }).verdict, "Pass");
  // Shorter than the window: one more try, and one more strike opens it again.
  const short = with_(ago(30, 20, 10), { reset: "5m" });
  assert.equal(circuitOpen.check(short).verdict, "Pass");
  assert.equal(circuitOpen.check(with_([...ago(30, 20, 10), failed(NOW - MINUTE, "again")], { reset: "5m" })).verdict, "Block");
});

test("strikes that are further apart than the window do not add up", () => {
  assert.equal(circuitOpen.check(with_(ago(0, 59, 59.99))).verdict, "Block");
  assert.equal(circuitOpen.check(with_(ago(0, 59, 60))).verdict, "Pass");
});

test("a success wipes out the strikes before it, not those after it", () => {
  assert.equal(circuitOpen.check(with_([...ago(30, 20, 10), healed(NOW - 5 * MINUTE)])).verdict, "Pass");
  assert.equal(circuitOpen.check(with_([...ago(30, 20, 10), healed(NOW - 40 * MINUTE)])).verdict, "Block");
  assert.equal(circuitOpen.check(with_([...ago(30, 20, 10), failed(NOW - 15 * MINUTE, "rung", "Effective")])).verdict, "Pass");
});

test("failed, ineffective and abandoned attempts are strikes; cancelled ones are not", () => {
  assert.equal(circuitOpen.check(with_([...ago(30, 20), failed(NOW, "f", "Failed")])).verdict, "Block");
  assert.equal(circuitOpen.check(with_([...ago(30, 20), failed(NOW, "a", "None")])).verdict, "Block");
  assert.equal(circuitOpen.check(with_([...ago(30, 20), failed(NOW, "c", "Cancelled")])).verdict, "Pass");
  const running = episodeOf({ workload: WORKLOAD, status: { phase: "Executing", attempts: [attemptOf(undefined, NOW)] } });
  assert.equal(circuitOpen.check(with_([...ago(30, 20), running])).verdict, "Pass");
});

test("the episode's own rungs count", () => {
  const attempts = [attemptOf("Ineffective", NOW - 2), attemptOf("Failed", NOW - 1), attemptOf("Ineffective", NOW)];
  assert.equal(circuitOpen.check(with_([selfEpisode({ status: { phase: "Executing", attempts } })])).verdict, "Block");
  assert.equal(circuitOpen.check(with_([selfEpisode({ status: { phase: "Executing", attempts: attempts.slice(1) } })])).verdict, "Pass");
});

test("other policies and workloads have strikes of their own; a workload made anew has not", () => {
  const three = (options: Parameters<typeof episodeOf>[0]): Remediation[] =>
    [1, 2, 3].map((i) => episodeOf({ workload: WORKLOAD, ...options, name: `e${i}`, status: failed(NOW - i * MINUTE, "e").status }));
  assert.equal(circuitOpen.check(with_(three({}))).verdict, "Block");
  assert.equal(circuitOpen.check(with_(three({ policy: "another" }))).verdict, "Pass");
  assert.equal(circuitOpen.check(with_(three({ namespace: "other" }))).verdict, "Pass");
  assert.equal(circuitOpen.check(with_(three({ workload: { ...WORKLOAD, name: "bank", uid: "b" } }))).verdict, "Pass");
  assert.equal(circuitOpen.check(with_(three({ workload: { ...WORKLOAD, uid: "before" } }))).verdict, "Block");
});

test("strikes from the future are taken as now, and a success from the future forgives none of today's", () => {
  const verdict = circuitOpen.check(with_(ago(-90, -80, 10)));
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, NOW + HOUR);
  assert.equal(circuitOpen.check(with_([...ago(30, 20, 10), healed(NOW + HOUR)])).verdict, "Block");
  assert.equal(circuitOpen.check(with_([...ago(0, 20, 10), healed(NOW + HOUR)])).verdict, "Block");
  assert.equal(circuitOpen.check(with_([...ago(0, 20, 10), healed(NOW)])).verdict, "Pass");
  assert.equal(circuitOpen.check(with_([...ago(-5, -10, -20), healed(NOW + HOUR)])).verdict, "Pass");
});

test("blocks without a policy", () => {
  assert.equal(circuitOpen.check(contextOf({ policy: undefined })).verdict, "Block");
  assert.equal(strikes(contextOf({ policy: undefined })).open, true);
});

test("property: one strike more never opens the way, and a circuit that is open closes after reset without strikes", () => {
  const minutes = fc.array(fc.integer({ min: -60, max: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(
      minutes,
      fc.integer({ min: -60, max: 300 }),
      fc.integer({ min: 1, max: 4 }),
      fc.constantFrom("10m", "1h", "3h"),
      (m, more, max, reset) => {
        const before = circuitOpen.check(with_(ago(...m), { max, reset })).verdict;
        const after = circuitOpen.check(with_(ago(...m, more), { max, reset }));
        if (before === "Block") assert.equal(after.verdict, "Block");
        if (after.verdict === "Block") {
          assert.ok(after.until !== undefined && after.until > NOW && after.until <= NOW + 3 * HOUR);
          const later = NOW + 5 * HOUR;
          assert.equal(circuitOpen.check({ ...with_(ago(...m, more), { max, reset }), now: later }).verdict, "Pass");
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("property: never more attempts inside a window than max when reset is the window", () => {
  // Plays a fault that nothing cures: an attempt whenever the gate lets one through.
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 20, maxLength: 40 }),
      (max, gaps) => {
        const done: number[] = [];
        let now = NOW;
        for (const gap of gaps) {
          now += gap * MINUTE;
          const context = {
            ...with_(
              done.map((at, i) => failed(at, `e${i}`)),
              { max },
            ),
            now,
          };
          if (circuitOpen.check(context).verdict === "Pass") done.push(now);
        }
        for (const at of done) assert.ok(done.filter((other) => other > at - HOUR && other <= at).length <= max);
      },
    ),
    { numRuns: 100 },
  );
});

test("an episode that was handed to a person after it had acted opens it by itself", () => {
  const escalated = (at: number, attempts: Attempt[]): Remediation =>
    episodeOf({
      name: "handed",
      workload: WORKLOAD,
      status: { phase: "Escalated", outcome: "Escalated", endedAt: timestamp(at), attempts },
    });
  const at = NOW - 10 * MINUTE;
  const verdict = circuitOpen.check(with_([escalated(at, [attemptOf("Failed", at)])]));
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, at + HOUR);
  assert.match(verdict.message, /handed to a person/);
  // One that never acted (nobody answered, say) leaves it closed; a success since then closes it.
  assert.equal(circuitOpen.check(with_([escalated(at, [])])).verdict, "Pass");
  assert.equal(circuitOpen.check(with_([escalated(at, [attemptOf("Failed", at)]), healed(NOW - MINUTE)])).verdict, "Pass");
});

test("a person closes it: what failed before is forgiven, what fails after counts", () => {
  const closed = (over: Record<string, unknown> = {}, namespace = "default"): GateContext =>
    contextOf({
      remediations: [selfEpisode(), ...ago(0, 1, 2)],
      approvals: [approvalOf({ remediation: "e1", decision: "CircuitClosed", at: timestamp(NOW), ...over }, namespace)],
    });
  assert.equal(circuitOpen.check({ ...closed(), approvals: [] }).verdict, "Block");
  assert.equal(circuitOpen.check(closed()).verdict, "Pass");
  assert.equal(strikes(closed({ at: timestamp(NOW - 30 * 1_000) })).count, 1, "one came after it");
  assert.equal(circuitOpen.check(closed({ remediation: "elsewhere" })).verdict, "Block");
  assert.equal(circuitOpen.check(closed({}, "other")).verdict, "Block");
  assert.equal(circuitOpen.check(closed({ decision: "Approved" })).verdict, "Block");
  assert.equal(circuitOpen.check(closed({ at: timestamp(NOW + MINUTE) })).verdict, "Block", "not before its time");
});
