import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkResources } from "./check.ts";
import { parseResources } from "./parse.ts";
import { timeMs } from "./time.ts";

const NOW = timeMs("2026-06-03T12:00:00Z");
const HEAD = "apiVersion: nightshift.dev/v1alpha1\n";
const policy = (more = "", name = "p"): string => `${HEAD}kind: RemediationPolicy
metadata: { name: ${name} }
spec:
  targets: [{ name: payments }]
${more.includes("signals:") ? "" : "  signals: [{ name: leak, trend: {} }]\n"}${more.includes("ladder:") ? "" : "  ladder: [{ strategy: RestartPod }]\n"}${more}`;
const runbook = (steps: string, name = "r", namespace = "default"): string =>
  `${HEAD}kind: Runbook\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec:\n  steps:\n${steps}`;
const budget = (spec: string): string => `${HEAD}kind: RemediationBudget\nmetadata: { name: platform }\nspec: ${spec}\n`;
const edge = (from: string, to: string): string =>
  `${HEAD}kind: ServiceDependency\nmetadata: { name: ${from}-${to} }\nspec: { from: { name: ${from} }, to: { name: ${to} } }\n`;

/** What is wrong, as `severity CODE path`. */
function check(...documents: string[]): string[] {
  const { resources, errors } = parseResources(documents.join("---\n"), "f.yaml");
  assert.deepEqual(errors, [], "the documents themselves are well-formed");
  return checkResources(resources, NOW).map((p) => `${p.severity} ${p.code} ${p.path}`);
}

test("nothing is wrong with what is right", () => {
  assert.deepEqual(check(policy(), runbook("    - wait: { for: 5s }\n"), budget("{ maxConcurrent: 1 }"), edge("a", "b")), []);
});

describe("names", () => {
  test("taken twice, in one kind and namespace", () => {
    assert.deepEqual(check(policy(), policy()), ["error DUPLICATE_NAME metadata.name"]);
    assert.deepEqual(check(budget("{}"), budget("{}")), ["error DUPLICATE_NAME metadata.name"]);
    assert.deepEqual(check(runbook("    - wait: { for: 5s }\n", "p"), policy(), policy("", "q")), []);
    assert.deepEqual(check(runbook("    - wait: { for: 5s }\n"), runbook("    - wait: { for: 5s }\n", "r", "other")), []);
  });
  test("the later one is at fault, and the earlier is named", () => {
    const { resources } = parseResources(`${policy()}---\n${policy()}`, "f.yaml");
    const [problem] = checkResources(resources, NOW);
    assert.equal(problem?.line, 11);
    assert.match(problem?.message ?? "", /stands at f\.yaml:1 already/);
  });
});

test("two signals for one hint are warned of", () => {
  const signals = (...hints: string[]): string =>
    policy(`  signals: [${hints.map((hint, i) => `{ name: h${i}, hint: ${hint} }`).join(", ")}]\n`);
  const overlap = ["warning OVERLAPPING_SIGNALS spec.signals[1].hint"];
  assert.deepEqual(check(signals("{ action: restart }", "{ action: restart }")), overlap);
  assert.deepEqual(check(signals("{ action: restart, saturationType: pool }", "{ action: restart }")), overlap);
  assert.deepEqual(check(signals("{ action: restart }", "{ action: restart, saturationType: pool }")), overlap);
  assert.deepEqual(check(signals("{ action: restart, saturationType: pool }", "{ action: restart, saturationType: heap }")), []);
  assert.deepEqual(check(signals("{ action: restart }", "{ action: pool-reset }")), []);
});

describe("runbooks", () => {
  const using = policy("  ladder: [{ runbook: restart }]\n");
  test("that are not there, or in another namespace", () => {
    assert.deepEqual(check(using), ["error UNKNOWN_RUNBOOK spec.ladder[0].runbook"]);
    assert.deepEqual(check(using, runbook("    - wait: { for: 5s }\n", "restart", "other")), [
      "error UNKNOWN_RUNBOOK spec.ladder[0].runbook",
    ]);
    assert.deepEqual(check(using, runbook("    - wait: { for: 5s }\n", "restart")), []);
  });
  test("say what was meant", () => {
    const { resources } = parseResources(`${using}---\n${runbook("    - wait: { for: 5s }\n", "restrat")}`, "f");
    assert.match(checkResources(resources, NOW)[0]?.fix ?? "", /did you mean restrat/);
  });
  test("that take longer than their rung", () => {
    const steps = "    - wait: { for: 4m }\n    - wait: { for: 6m }\n";
    assert.deepEqual(check(using, runbook(steps, "restart")), ["error RUNG_TOO_SHORT spec.ladder[0].timeout"]);
    assert.deepEqual(check(policy("  ladder: [{ runbook: restart, timeout: 11m }]\n"), runbook(steps, "restart")), []);
  });
  test("with a step that ends before it is done", () => {
    assert.deepEqual(check(runbook("    - wait: { for: 2h }\n")), ["error RUNG_TOO_SHORT spec.steps[0]"]);
    assert.deepEqual(check(runbook("    - wait: { for: 2h }\n      timeout: 3h\n")), []);
    assert.deepEqual(check(runbook("    - stop: { allowCapacityDrop: true, gracePeriod: 30s }\n      timeout: 20s\n")), [
      "error RUNG_TOO_SHORT spec.steps[0]",
    ]);
    assert.deepEqual(check(runbook("    - capture: { type: CpuProfile }\n      timeout: 10s\n")), ["error RUNG_TOO_SHORT spec.steps[0]"]);
    assert.deepEqual(check(runbook("    - capture: { type: HeapSnapshot }\n      timeout: 10s\n")), []);
  });
  test("captures of a strategy need their time", () => {
    assert.deepEqual(check(policy("  ladder: [{ strategy: RestartPod, captures: [{ type: CpuProfile }], timeout: 10s }]\n")), [
      "error RUNG_TOO_SHORT spec.ladder[0].timeout",
    ]);
  });
});

describe("budgets under which nothing ever happens", () => {
  const one = "    - maxUnavailable: 1\n";
  const budgets = (text: string): string => policy(`  budgets:\n${text}`);
  test("zero without a schedule", () => {
    assert.deepEqual(check(budgets(`${one}    - maxUnavailable: 0\n`)), ["error IMPOSSIBLE_BUDGET spec.budgets[1]"]);
    assert.deepEqual(check(budgets(`${one}    - maxUnavailable: 0%\n`)), ["error IMPOSSIBLE_BUDGET spec.budgets[1]"]);
  });
  test("zero for all causes that the policy can have, not for some", () => {
    assert.deepEqual(check(budgets(`${one}    - { maxUnavailable: 0, reasons: [MemoryLeak] }\n`)), [
      "error IMPOSSIBLE_BUDGET spec.budgets[1]",
    ]);
    assert.deepEqual(check(budgets(`${one}    - { maxUnavailable: 0, reasons: [Alert] }\n`)), []);
  });
  test("zero on a schedule is a freeze, unless it has no gap", () => {
    assert.deepEqual(check(budgets(`${one}    - { maxUnavailable: 0, schedule: "0 18 * * *", duration: 3h }\n`)), []);
    assert.deepEqual(check(budgets(`${one}    - { maxUnavailable: 0, schedule: "0 18 * * *", duration: 24h }\n`)), [
      "error IMPOSSIBLE_BUDGET spec.budgets[1]",
    ]);
  });
  test("a freeze over every window", () => {
    const windows = '  windows: [{ schedule: "0 19 * * *", duration: 1h }]\n';
    const frozen = (duration: string): string =>
      `${one}    - { maxUnavailable: 0, schedule: "0 18 * * *", duration: ${duration} }\n${windows}`;
    assert.deepEqual(check(budgets(frozen("2h"))), ["error ALWAYS_FROZEN spec.windows"]);
    assert.deepEqual(check(budgets(frozen("119m"))), []);
    const relay = `${one}    - { maxUnavailable: 0, schedule: "0 18 * * *", duration: 90m }\n    - { maxUnavailable: 0, schedule: "30 19 * * *", duration: 1h }\n${windows}`;
    assert.deepEqual(check(budgets(relay)), ["error ALWAYS_FROZEN spec.windows"]);
    const platform = budget('{ budgets: [{ maxUnavailable: 0, schedule: "0 18 * * *", duration: 2h }] }');
    assert.deepEqual(check(policy(windows), platform), ["warning ALWAYS_FROZEN spec.windows"]);
  });
  test("of the platform team: warned of, as it may be meant", () => {
    assert.deepEqual(check(budget("{ budgets: [{ maxUnavailable: 0 }], maxConcurrent: 0 }")), [
      "warning IMPOSSIBLE_BUDGET spec.budgets[0]",
      "warning IMPOSSIBLE_BUDGET spec.maxConcurrent",
    ]);
  });
  test("causes that no diagnosis has", () => {
    assert.deepEqual(check(budgets(`${one}    - { maxUnavailable: 2, reasons: [MemoryLeek] }\n`)), [
      "error INVALID_VALUE spec.budgets[1].reasons[0]",
    ]);
    assert.deepEqual(check(budget("{ budgets: [{ maxUnavailable: 1, reasons: [Leak] }] }")), [
      "error INVALID_VALUE spec.budgets[0].reasons[0]",
    ]);
  });
  test("times that none covers", () => {
    assert.deepEqual(check(budgets('    - { maxUnavailable: 1, schedule: "0 18 * * *", duration: 3h }\n')), [
      "warning UNBUDGETED spec.budgets",
    ]);
    assert.deepEqual(check(budgets("    - { maxUnavailable: 1, reasons: [Alert] }\n")), ["warning UNBUDGETED spec.budgets"]);
  });
});

describe("schedules that never come round", () => {
  const never = '{ schedule: "0 0 30 2 *", duration: 1h }';
  test("the only window: error; one of several: warning", () => {
    assert.deepEqual(check(policy(`  windows: [${never}]\n`)), ["error NEVER_OPENS spec.windows[0].schedule"]);
    assert.deepEqual(check(policy(`  windows: [{ schedule: "0 1 * * *", duration: 1h }, ${never}]\n`)), [
      "warning NEVER_OPENS spec.windows[1].schedule",
    ]);
  });
  test("a budget", () => {
    assert.deepEqual(check(policy(`  budgets: [{ maxUnavailable: 1 }, { maxUnavailable: 0, schedule: "0 0 30 2 *", duration: 1h }]\n`)), [
      "warning NEVER_OPENS spec.budgets[1].schedule",
    ]);
  });
});

describe("numbers that cannot hold together", () => {
  test("verification", () => {
    assert.deepEqual(check(policy("  verify: { stableFor: 1m, timeout: 1m }\n")), ["error NEVER_VERIFIES spec.verify.timeout"]);
    assert.deepEqual(check(policy("  verify: { stableFor: 1m, timeout: 61s }\n")), []);
    const rung = (verify: string): string => policy(`  ladder: [{ strategy: RestartPod, verify: ${verify} }]\n`);
    assert.deepEqual(check(rung("{ stableFor: 5m }")), ["error NEVER_VERIFIES spec.ladder[0].verify"]);
    assert.deepEqual(check(rung("{ stableFor: 5m, timeout: 6m }")), []);
  });
  test("scaling", () => {
    const scale = (text: string): string => policy(`  ladder: [{ strategy: ScaleUp, scale: ${text} }]\n`);
    assert.deepEqual(check(scale("{ by: 3, max: 2 }")), ["error INVALID_VALUE spec.ladder[0].scale.by"]);
    assert.deepEqual(check(scale("{ max: 1 }")), ["error INVALID_VALUE spec.ladder[0].scale.max"]);
    assert.deepEqual(check(scale("{ by: 2, max: 2 }")), []);
    assert.deepEqual(check(runbook("    - scale: { by: 3, max: 2 }\n")), ["error INVALID_VALUE spec.steps[0].scale.by"]);
  });
  test("signals", () => {
    assert.deepEqual(check(policy("  signals: [{ name: e, errorRate: { above: 100% } }]\n")), [
      "error CANNOT_FIRE spec.signals[0].errorRate.above",
    ]);
    assert.deepEqual(check(policy("  signals: [{ name: l, trend: { horizon: 2h, window: 1h } }]\n")), [
      "warning CANNOT_FIRE spec.signals[0].trend.horizon",
    ]);
  });
  test("expressions of signals, with where they are wrong", () => {
    const when = (text: string): string => policy(`  signals: [{ name: l, trend: {}, when: "${text}" }]\n`);
    assert.deepEqual(check(when("target.restarts > 3")), []);
    assert.deepEqual(check(when("target.restart > 3 && targt.name == 'a'")), [
      "error INVALID_EXPRESSION spec.signals[0].when",
      "error INVALID_EXPRESSION spec.signals[0].when",
    ]);
  });
  test("rest and strikes", () => {
    assert.deepEqual(check(policy("  cooldown: 0s\n")), ["warning NO_REST spec.cooldown"]);
    assert.deepEqual(check(policy("  attempts: { reset: 10m }\n")), ["warning NO_REST spec.attempts.reset"]);
    assert.deepEqual(check(policy("  attempts: { max: 3, window: 30m }\n")), ["warning CIRCUIT_NEVER_OPENS spec.attempts.window"]);
    assert.deepEqual(check(policy("  attempts: { max: 3, window: 31m }\n")), []);
    assert.deepEqual(check(policy("  attempts: { max: 1, window: 1m }\n")), []);
  });
});

test("dependencies on itself, and in a circle", () => {
  assert.deepEqual(check(edge("a", "a")), ["error DEPENDENCY_CYCLE spec.to"]);
  assert.deepEqual(
    check(edge("a", "b"), edge("b", "c"), edge("c", "a")),
    Array.from({ length: 3 }, () => "warning DEPENDENCY_CYCLE spec.to"),
  );
  assert.deepEqual(check(edge("a", "b"), edge("a", "c"), edge("b", "c")), []);
});
