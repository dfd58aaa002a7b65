import assert from "node:assert/strict";
import { test } from "node:test";
import type { RemediationApproval } from "../api/approval.ts";
import { timestamp } from "../api/time.ts";
import { approvalOf, contextOf, MINUTE, NOW, policyOf, selfEpisode } from "../../test/support/gate-context.ts";
import { awaitingApproval, denial } from "./awaiting-approval.ts";
import type { GateContext } from "./gate.ts";

const CREATED = NOW - 20 * MINUTE;
const asking = (...approvals: RemediationApproval[]): GateContext =>
  contextOf({
    policy: policyOf({ mode: "Approve", approval: { timeout: "30m" } }),
    remediations: [selfEpisode({ mode: "Approve", created: CREATED })],
    approvals,
  });
const verdictOf = (...approvals: RemediationApproval[]): string => awaitingApproval.check(asking(...approvals)).verdict;

test("asks nobody in the other modes", () => {
  assert.equal(awaitingApproval.check(contextOf()).verdict, "Pass");
  const observing = contextOf({ policy: policyOf({ mode: "Observe" }), remediations: [selfEpisode({ mode: "Observe" })] });
  assert.equal(awaitingApproval.check(observing).verdict, "Pass");
});

test("blocks without an answer, passes with a yes", () => {
  assert.equal(verdictOf(), "Block");
  assert.equal(verdictOf(approvalOf()), "Pass");
});

test("a yes to another episode, namespace or target is none", () => {
  assert.equal(verdictOf(approvalOf({ remediation: "another" })), "Block");
  assert.equal(verdictOf(approvalOf({}, "other")), "Block");
  assert.equal(verdictOf(approvalOf({ targetUid: "r1" })), "Block");
  assert.equal(verdictOf(approvalOf({ targetUid: "r0" })), "Pass");
});

test("a yes counts from the episode's beginning to its timeout", () => {
  const deadline = CREATED + 30 * MINUTE;
  const later = (at: number): string =>
    awaitingApproval.check({ ...asking(approvalOf({ at: timestamp(at) })), now: deadline + MINUTE }).verdict;
  assert.equal(later(deadline), "Pass");
  assert.equal(later(deadline + 1), "Block");
  assert.equal(later(CREATED), "Pass");
  assert.equal(later(CREATED - 60_000), "Pass", "a clock may be a minute slow");
  assert.equal(later(CREATED - 60_001), "Block");
});

test("a yes from the future is none, so that a no can follow it", () => {
  assert.equal(verdictOf(approvalOf({ at: timestamp(NOW + 60_000) })), "Pass");
  assert.equal(verdictOf(approvalOf({ at: timestamp(NOW + 60_001) })), "Block");
  assert.equal(verdictOf(approvalOf({ at: timestamp(NOW + 5 * MINUTE) }), approvalOf({ decision: "Denied" })), "Block");
});

test("the newest answer counts; at the same time a no does", () => {
  const yes = (at: number): RemediationApproval => approvalOf({ at: timestamp(at) });
  const no = (at: number): RemediationApproval => approvalOf({ at: timestamp(at), decision: "Denied", by: "bob", reason: "deploying" });
  assert.equal(verdictOf(yes(NOW - 2), no(NOW - 1)), "Block");
  assert.equal(verdictOf(no(NOW - 1), yes(NOW - 2)), "Block");
  assert.equal(verdictOf(no(NOW - 2), yes(NOW - 1)), "Pass");
  assert.equal(verdictOf(yes(NOW), no(NOW)), "Block");
  assert.equal(verdictOf(no(NOW), yes(NOW)), "Block");
});

test("a no is named, with its reason, in every mode and however late", () => {
  const no = approvalOf({ decision: "Denied", by: "bob", reason: "deploying", at: timestamp(CREATED - MINUTE) });
  assert.deepEqual(awaitingApproval.check(asking(no)), { verdict: "Block", message: "denied by bob: deploying" });
  assert.equal(denial(asking(no)), no);
  const enforced = contextOf({ approvals: [no] });
  assert.equal(awaitingApproval.check(enforced).verdict, "Block");
  assert.equal(denial(enforced), no);
});

test("there is no denial where the newest answer is a yes, or the no is about something else", () => {
  assert.equal(denial(asking()), undefined);
  assert.equal(denial(asking(approvalOf({ decision: "Denied", at: timestamp(NOW - 1) }), approvalOf())), undefined);
  assert.equal(denial(asking(approvalOf({ decision: "Denied", remediation: "another" }))), undefined);
  assert.equal(denial(asking(approvalOf({ decision: "Denied", targetUid: "r1" }))), undefined);
});

test("nothing can be approved that is not stored yet", () => {
  assert.equal(awaitingApproval.check({ ...asking(approvalOf()), self: undefined }).verdict, "Block");
  assert.equal(awaitingApproval.check({ ...asking(approvalOf()), remediations: [] }).verdict, "Block");
});

test("a policy lowered to Approve during an episode asks from then on", () => {
  const lowered = contextOf({ policy: policyOf({ mode: "Approve" }), remediations: [selfEpisode({ mode: "Enforce" })] });
  assert.equal(awaitingApproval.check(lowered).verdict, "Block");
  const raised = contextOf({ policy: policyOf({ mode: "Enforce" }), remediations: [selfEpisode({ mode: "Approve" })] });
  assert.equal(awaitingApproval.check(raised).verdict, "Block");
});

test("blocks without a policy", () => {
  assert.equal(awaitingApproval.check(contextOf({ policy: undefined })).verdict, "Block");
});
