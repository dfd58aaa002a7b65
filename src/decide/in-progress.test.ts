import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PHASES, TERMINAL_PHASES } from "../api/remediation.ts";
import {
  contextOf,
  episodeOf,
  MINUTE,
  NOW,
  policyOf,
  processRef,
  selfEpisode,
  WORKLOAD,
  type EpisodeOptions,
} from "../../test/support/gate-context.ts";
import { inProgress } from "./in-progress.ts";

const verdictOf = (other: EpisodeOptions, self: EpisodeOptions = {}): string =>
  inProgress.check(contextOf({ remediations: [selfEpisode(self), episodeOf(other)] })).verdict;

test("passes when nothing else is live here", () => {
  assert.equal(inProgress.check(contextOf()).verdict, "Pass");
  assert.equal(inProgress.check(contextOf({ remediations: [] })).verdict, "Pass");
  assert.equal(verdictOf({}), "Pass");
});

test("does not block itself, whatever its phase", () => {
  for (const phase of PHASES)
    assert.equal(inProgress.check(contextOf({ remediations: [selfEpisode({ status: { phase } })] })).verdict, "Pass");
});

test("an episode of the same name in another namespace is another one", () => {
  assert.equal(verdictOf({ name: "self", namespace: "other", target: processRef(0) }), "Block");
});

test("blocks on the same target, root cause or workload", () => {
  assert.equal(verdictOf({ target: processRef(0) }), "Block");
  assert.equal(verdictOf({ rootCauseKey: "leak payments" }), "Block");
  assert.equal(verdictOf({ workload: WORKLOAD }), "Block");
  assert.equal(verdictOf({ workload: { ...WORKLOAD, uid: "made-anew" } }), "Block");
  assert.equal(verdictOf({ target: processRef(1) }), "Pass");
});

test("blocks whichever policy the other belongs to", () => {
  assert.equal(verdictOf({ policy: "another", workload: WORKLOAD }), "Block");
});

describe("by phase of the other", () => {
  for (const phase of PHASES)
    test(phase, () => {
      const expected = TERMINAL_PHASES.has(phase) ? "Pass" : "Block";
      assert.equal(verdictOf({ workload: WORKLOAD, created: NOW - 2 * MINUTE, status: { phase } }), expected);
    });
});

test("of two that are blocked the older goes first; at the same moment the name decides", () => {
  const blocked = (created: number, name = "other"): EpisodeOptions => ({
    name,
    created,
    workload: WORKLOAD,
    status: { phase: "Blocked" },
  });
  const self = { created: NOW - MINUTE };
  assert.equal(verdictOf(blocked(NOW - MINUTE - 1), self), "Block");
  assert.equal(verdictOf(blocked(NOW - MINUTE + 1), self), "Pass");
  assert.equal(verdictOf(blocked(NOW - MINUTE, "a"), self), "Block");
  assert.equal(verdictOf(blocked(NOW - MINUTE, "z"), self), "Pass");
});

test("one that is not stored yet comes after every blocked one", () => {
  const other = episodeOf({ created: NOW + MINUTE, workload: WORKLOAD, status: { phase: "Blocked" } });
  assert.equal(inProgress.check(contextOf({ self: undefined, remediations: [other] })).verdict, "Block");
});

test("an episode of a dry run blocks dry runs only", () => {
  const dry: EpisodeOptions = { mode: "Observe", workload: WORKLOAD };
  assert.equal(verdictOf(dry), "Pass");
  const observing = contextOf({ policy: policyOf({ mode: "Observe" }), remediations: [selfEpisode({ mode: "Observe" }), episodeOf(dry)] });
  assert.equal(inProgress.check(observing).verdict, "Block");
});

test("a dry run waits for a real one", () => {
  const observing = contextOf({
    policy: policyOf({ mode: "Observe" }),
    remediations: [selfEpisode({ mode: "Observe" }), episodeOf({ workload: WORKLOAD })],
  });
  assert.equal(inProgress.check(observing).verdict, "Block");
});
