import assert from "node:assert/strict";
import { test } from "node:test";
import type { Remediation } from "../api/remediation.ts";
import { timestamp } from "../api/time.ts";
import {
  attemptOf,
  budgetOf,
  contextOf,
  domainOf,
  episodeOf,
  MINUTE,
  NOW,
  policyOf,
  SECOND,
  selfEpisode,
  workloadLevel,
  WORKLOAD,
} from "../../test/support/gate-context.ts";
import { RELEASE_MS, sameStorm, stormBrake, stormOf } from "./storm-brake.ts";
import type { GateContext } from "./gate.ts";

const verdictOf = (context: GateContext): string => stormBrake.check(context).verdict;
const of = (...domains: GateContext["domains"]): GateContext => contextOf({ domains });

/** Most ill ones that pass in a domain of each size. */
function passing(kind: Parameters<typeof domainOf>[0], size: number): number {
  for (let ill = size; ill > 0; ill -= 1) if (verdictOf(of(domainOf(kind, size, ill))) === "Pass") return ill;
  return 0;
}

test("is right in pools of 1, 2 and 3, and in large ones", () => {
  const at = (kind: Parameters<typeof domainOf>[0]): number[] => [1, 2, 3, 4, 10, 100].map((size) => passing(kind, size));
  assert.deepEqual(at("Workload"), [1, 1, 2, 2, 6, 67]);
  assert.deepEqual(at("Node"), [1, 2, 2, 2, 5, 50]);
  assert.deepEqual(at("Zone"), [1, 2, 2, 2, 5, 50]);
  assert.deepEqual(at("Namespace"), [1, 2, 2, 2, 5, 50]);
  assert.deepEqual(at("Cluster"), [1, 2, 2, 2, 2, 25]);
});

test("names how much is ill, where, and what it shares; the widest domain stands for the group", () => {
  const context = of(
    domainOf("Node", 4, 4),
    domainOf("Namespace", 4, 3, { shared: ["node n1, which is not ready"] }),
    domainOf("Cluster", 40, 3),
  );
  assert.equal(
    stormBrake.check(context).message,
    "3 of 4 workloads in Namespace/shop are ill at once, more than 2; what they share: node n1, which is not ready",
  );
  assert.match(stormBrake.check(of(domainOf("Cluster", 4, 3))).message, /what they share: nothing that is known of$/);
});

test("what is done to a workload as a whole is not held by how many of its replicas are ill, but by a wider storm", () => {
  assert.equal(verdictOf(workloadLevel({ domains: [domainOf("Workload", 3, 3)] })), "Pass");
  assert.equal(verdictOf(workloadLevel({ domains: [domainOf("Workload", 3, 3), domainOf("Namespace", 3, 3)] })), "Block");
});

test("the platform team's limits count, the strictest of those that cover the namespace", () => {
  const domains = [domainOf("Namespace", 10, 5)];
  const limited = (...limits: (string | number)[]): string =>
    verdictOf(contextOf({ domains, budgets: limits.map((namespace, i) => budgetOf({ stormBrake: { namespace } }, `b${i}`)) }));
  assert.equal(limited(), "Pass");
  assert.equal(limited(4), "Block");
  assert.equal(limited("40%"), "Block");
  assert.equal(limited("90%", 4), "Block");
  assert.equal(
    verdictOf(contextOf({ domains: [domainOf("Namespace", 10, 10)], budgets: [budgetOf({ stormBrake: { namespace: "100%" } })] })),
    "Pass",
  );
  const elsewhere = budgetOf({ namespaces: ["other"], stormBrake: { namespace: 1 } });
  assert.equal(verdictOf(contextOf({ domains, budgets: [elsewhere] })), "Pass");
  assert.equal(
    verdictOf(contextOf({ domains: [domainOf("Namespace", 10, 1)], budgets: [budgetOf({ stormBrake: { namespace: 0 } })] })),
    "Pass",
  );
});

const storm = (over: Partial<Remediation["status"]> = {}, mode: "Enforce" | "Observe" = "Enforce"): Remediation =>
  episodeOf({
    name: "storm",
    mode,
    created: NOW - 5 * MINUTE,
    status: {
      phase: "Blocked",
      reason: "StormBrake",
      decidedAt: timestamp(NOW - 5 * MINUTE),
      storm: { domain: "Namespace/shop", message: "", since: timestamp(NOW - 5 * MINUTE) },
      ...over,
    },
  });
const released = (at: number, over: Partial<Remediation["status"]> = {}): Remediation =>
  storm({
    storm: { domain: "Namespace/shop", message: "", since: timestamp(NOW - 30 * MINUTE), releasedAt: timestamp(at) },
    phase: "Executing",
    ...over,
  });
const quiet = (...remediations: Remediation[]): GateContext =>
  contextOf({ domains: [domainOf("Namespace", 10, 1)], remediations: [selfEpisode(), ...remediations] });

test("while an episode stands for a storm, all that is in its domain waits, and nothing else does", () => {
  assert.equal(verdictOf(quiet(storm())), "Block");
  assert.match(stormBrake.check(quiet(storm())).message, /default\/storm stands for it/);
  assert.equal(verdictOf({ ...quiet(storm()), domains: [domainOf("Namespace", 10, 1, { key: "Namespace/other" })] }), "Pass");
  assert.equal(verdictOf(quiet(storm({}, "Observe"))), "Pass", "a dry run holds nothing");
  assert.equal(
    verdictOf({ ...quiet(storm({}, "Observe")), policy: policyOf({ mode: "Observe" }) }),
    "Block",
    "but it holds a dry run, as it would have for real",
  );
});

test("it does not latch: the episode that stands for a storm goes by what is ill now, and one that ended or waits for something else holds nobody", () => {
  const self = { namespace: "default", name: "storm" };
  assert.equal(verdictOf({ ...quiet(storm()), self }), "Pass");
  assert.equal(verdictOf({ ...quiet(storm()), self, domains: [domainOf("Namespace", 10, 6)] }), "Block");
  const two = [storm(), { ...storm(), metadata: { ...storm().metadata, name: "storm2" } }];
  assert.equal(verdictOf({ ...quiet(...two), self }), "Pass", "two that stand for the same do not wait for each other");
  assert.equal(verdictOf(quiet(storm({ phase: "Succeeded", endedAt: timestamp(NOW) }))), "Pass");
  assert.equal(verdictOf(quiet(storm({ reason: "NoData" }))), "Pass");
});

test("it does not stampede: after a storm a twentieth of its domain, at least one, is begun in 30 s, for ten minutes", () => {
  const begun = (name: string, at: number): Remediation =>
    episodeOf({ name, status: { phase: "Verifying", attempts: [attemptOf(undefined, at, { startedAt: timestamp(at) })] } });
  const over = released(NOW - MINUTE, { phase: "Succeeded", endedAt: timestamp(NOW - MINUTE) });
  assert.equal(verdictOf(quiet(over)), "Pass");
  const verdict = stormBrake.check(quiet(over, begun("a", NOW - 20 * SECOND)));
  assert.ok(verdict.verdict === "Block");
  assert.equal(verdict.until, NOW + 10 * SECOND);
  assert.equal(verdictOf(quiet(over, begun("a", NOW - 30 * SECOND))), "Pass");
  const large = { domains: [domainOf("Namespace", 40, 1)] };
  assert.equal(verdictOf({ ...quiet(over, begun("a", NOW - SECOND)), ...large }), "Pass");
  assert.equal(verdictOf({ ...quiet(over, begun("a", NOW - SECOND), begun("b", NOW)), ...large }), "Block");
  assert.equal(verdictOf(quiet(released(NOW - RELEASE_MS), begun("a", NOW))), "Pass", "only for a time");
  assert.equal(verdictOf(quiet(begun("a", NOW))), "Pass", "only after a storm");
  const elsewhere = { ...begun("a", NOW), spec: { ...begun("a", NOW).spec, workload: { ...WORKLOAD, name: "third" } } };
  assert.equal(verdictOf(quiet(over, elsewhere)), "Pass", "only in its domain");
  const underWay = selfEpisode({ status: { phase: "Blocked", attempts: [attemptOf("Ineffective", NOW - SECOND)] } });
  assert.equal(verdictOf({ ...quiet(), remediations: [underWay, over, begun("a", NOW)] }), "Pass", "what has begun goes on");
});

test("a storm is the same while it is on and shortly after", () => {
  assert.equal(sameStorm("Namespace/shop", [storm()], NOW)?.metadata.name, "storm");
  assert.equal(sameStorm("Namespace/other", [storm()], NOW), undefined);
  assert.ok(sameStorm("Namespace/shop", [released(NOW - RELEASE_MS + 1)], NOW));
  assert.equal(sameStorm("Namespace/shop", [released(NOW - RELEASE_MS)], NOW), undefined);
});

test("blocks without a policy; no domain is no storm", () => {
  assert.equal(verdictOf(contextOf({ policy: undefined })), "Block");
  assert.equal(stormOf(contextOf()), undefined);
});
