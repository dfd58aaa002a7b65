import assert from "node:assert/strict";
import { test } from "node:test";
import { timestamp } from "../api/time.ts";
import type { Remediation, StepRecord } from "../api/remediation.ts";
import {
  attemptOf,
  contextOf,
  episodeOf,
  HOUR,
  MINUTE,
  NOW,
  policyOf,
  selfEpisode,
  WORKLOAD,
  type EpisodeOptions,
} from "../../test/support/gate-context.ts";
import { recentlyRemediated } from "./recently-remediated.ts";

const ended = (endedAt: number, status: Partial<Remediation["status"]> = {}): Partial<Remediation["status"]> => ({
  phase: "Succeeded",
  outcome: "Remediated",
  endedAt: timestamp(endedAt),
  attempts: [attemptOf("Effective", endedAt)],
  ...status,
});
const check = (options: EpisodeOptions, spec: Record<string, unknown> = {}) =>
  recentlyRemediated.check(
    contextOf({
      policy: policyOf({ cooldown: "10m", ...spec }),
      remediations: [selfEpisode(), episodeOf({ workload: WORKLOAD, ...options })],
    }),
  );
const step = (state: StepRecord["state"]): StepRecord => ({ name: "stop", type: "stop", params: {}, timeoutMs: 1, state, effectId: "e" });

test("passes without history, and once the cooldown is over", () => {
  assert.equal(recentlyRemediated.check(contextOf()).verdict, "Pass");
  assert.equal(check({ status: ended(NOW - 10 * MINUTE) }).verdict, "Pass");
});

test("blocks within the cooldown, and says until when", () => {
  const verdict = check({ status: ended(NOW - 10 * MINUTE + 1) });
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, NOW + 1);
});

test("of several episodes the latest counts", () => {
  const remediations = [NOW - 9 * MINUTE, NOW - 2 * MINUTE, NOW - 5 * MINUTE].map((at, i) =>
    episodeOf({ name: `e${i}`, workload: WORKLOAD, status: ended(at) }),
  );
  const verdict = recentlyRemediated.check(contextOf({ remediations }));
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, NOW + 8 * MINUTE);
});

test("other workloads, policies and namespaces have their own rest", () => {
  const status = ended(NOW);
  assert.equal(check({ status }).verdict, "Block");
  assert.equal(check({ status, workload: { kind: "Workload", namespace: "default", name: "bank" } }).verdict, "Pass");
  assert.equal(check({ status, policy: "another" }).verdict, "Pass");
  assert.equal(check({ status, namespace: "other" }).verdict, "Pass");
});

test("itself, and what is not over, do not count", () => {
  assert.equal(recentlyRemediated.check(contextOf({ remediations: [selfEpisode({ status: ended(NOW) })] })).verdict, "Pass");
  assert.equal(check({ status: ended(NOW, { phase: "Verifying" }) }).verdict, "Pass");
});

test("only what did something needs a rest", () => {
  for (const [status, verdict] of [
    [{ phase: "Failed", outcome: "Ineffective" }, "Block"],
    [{ phase: "Escalated", outcome: "Escalated" }, "Block"],
    [{ phase: "Escalated", outcome: "Escalated", attempts: [] }, "Pass"],
    [{ phase: "Succeeded", outcome: "SelfRecovered", attempts: [] }, "Pass"],
    [{ phase: "Succeeded", outcome: "SelfRecovered", attempts: [attemptOf("Cancelled", NOW, { steps: [step("Pending")] })] }, "Pass"],
    [{ phase: "Cancelled", outcome: undefined, attempts: [attemptOf("Cancelled", NOW, { steps: [step("Skipped")] })] }, "Pass"],
    [{ phase: "Cancelled", outcome: undefined, attempts: [attemptOf("Cancelled", NOW, { steps: [step("Done")] })] }, "Block"],
    [{ phase: "Cancelled", outcome: undefined, attempts: [attemptOf("Cancelled", NOW, { steps: [step("Intended")] })] }, "Block"],
    [
      { phase: "Cancelled", outcome: undefined, attempts: [attemptOf("Cancelled", NOW, { steps: [step("Done"), step("Pending")] })] },
      "Block",
    ],
  ] as const)
    assert.equal(check({ status: ended(NOW, status as Partial<Remediation["status"]>) }).verdict, verdict, JSON.stringify(status));
});

test("what was only observed counts in a dry run, as it would have counted for real", () => {
  const observed = { mode: "Observe", status: ended(NOW, { outcome: "Observed", attempts: [] }) } as const;
  assert.equal(check(observed).verdict, "Pass");
  const dry = contextOf({
    policy: policyOf({ mode: "Observe" }),
    remediations: [selfEpisode({ mode: "Observe" }), episodeOf({ workload: WORKLOAD, ...observed })],
  });
  assert.equal(recentlyRemediated.check(dry).verdict, "Block");
});

test("a clock that was set back does not stretch the cooldown", () => {
  const verdict = check({ status: ended(NOW + HOUR) });
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, NOW + 10 * MINUTE);
});

test("no cooldown, no rest", () => {
  assert.equal(check({ status: ended(NOW) }, { cooldown: "0s" }).verdict, "Pass");
});

test("blocks without a policy", () => {
  assert.equal(recentlyRemediated.check(contextOf({ policy: undefined })).verdict, "Block");
});

test("an episode that became a dry run in its midst counts where it had acted", () => {
  const acted = [{ ...attemptOf("Ineffective", NOW), steps: [step("Done")] }];
  const planned = [{ ...attemptOf("Ineffective", NOW), steps: [step("Pending")] }];
  assert.equal(check({ status: ended(NOW, { outcome: "Observed", attempts: acted }) }).verdict, "Block");
  assert.equal(check({ status: ended(NOW, { outcome: "Observed", attempts: planned }) }).verdict, "Pass");
});
