import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { STRATEGY_DEFINITIONS } from "../../act/strategies/index.ts";
import { STRATEGIES } from "../../api/policy.ts";
import { SIM_EFFECTS } from "./effects.ts";
import { generateScenario } from "./generate.ts";
import { type Fault, FAULT_KINDS, type Scenario } from "./scenario.ts";

const SCENARIOS = Array.from({ length: 1_000 }, (_, i) => generateScenario(i + 1));
const FAULTS = SCENARIOS.flatMap(({ faults }) => faults);

/** In how many runs there is such a fault. */
const runsWith = (matches: (fault: Fault, scenario: Scenario) => boolean): number =>
  SCENARIOS.filter((scenario) => scenario.faults.some((fault) => matches(fault, scenario))).length;

describe("what is drawn in 1,000 seeds", () => {
  it("is each kind of fault", () => {
    assert.deepEqual(
      FAULT_KINDS.filter((kind) => runsWith((fault) => fault.kind === kind) < 50),
      [],
    );
  });

  it("ends with the faults, and has each fault numbered by its place", () => {
    for (const { faults, faultsUntil } of SCENARIOS)
      faults.forEach((fault, i) => {
        assert.equal(fault.id, i);
        assert.ok(fault.at + fault.for <= faultsUntil, JSON.stringify(fault));
      });
  });

  it("is each strategy that the simulated cluster knows", () => {
    const drawn = new Set(SCENARIOS.flatMap(({ policies }) => policies.flatMap(({ spec }) => spec.ladder.map(({ strategy }) => strategy))));
    const known = STRATEGIES.filter((strategy) => STRATEGY_DEFINITIONS[strategy].needs.every((effect) => SIM_EFFECTS.has(effect)));
    assert.ok(known.length >= 7);
    assert.deepEqual(
      known.filter((strategy) => !drawn.has(strategy)),
      [],
    );
  });

  it("are memory limits that are raised in place and by a rollout, and nodes that have none to give, or none yet", () => {
    const resizes = SCENARIOS.flatMap(({ policies }) => policies.flatMap(({ spec }) => spec.ladder.flatMap(({ resize }) => resize ?? [])));
    for (const whenRefused of ["Fail", "Rollout"]) assert.ok(resizes.filter((each) => each.whenRefused === whenRefused).length > 50);
    for (const what of ["Infeasible", "Deferred"])
      assert.ok(runsWith((fault) => fault.kind === "ResizeRefused" && fault.what === what) > 10, what);
  });

  it("are pods that ask for an action themselves, clearly and not, and that log; and policies that go by that", () => {
    const runs = (matches: (scenario: Scenario) => boolean): number => SCENARIOS.filter(matches).length;
    for (const hints of ["Named", "Bare"] as const)
      assert.ok(runs(({ workloads }) => workloads.some((workload) => workload.hints === hints)) > 20, hints);
    assert.ok(runs(({ workloads }) => workloads.some(({ logs }) => logs === true)) > 50);
    for (const condition of ["hint", "log"] as const)
      assert.ok(runs(({ policies }) => policies.some(({ spec }) => spec.signals.some((each) => each[condition] !== undefined))) > 50);
    for (const ends of [true, false])
      assert.ok(runsWith(({ kind, endedBy }) => kind === "PoolExhausted" && (endedBy?.includes("Action") ?? false) === ends) > 20);
  });

  it("are pauses without an end, with one, and with one before they are lifted, of a policy, of a namespace and of all", () => {
    for (const kind of ["PausePolicy", "PauseAll"] as const) {
      const of = FAULTS.filter((fault) => fault.kind === kind);
      assert.ok(of.some(({ what }) => what === "Open"));
      assert.ok(of.some(({ what, ms }) => what === undefined && ms === undefined));
      assert.ok(of.some((fault) => fault.ms !== undefined && fault.ms < fault.for));
    }
    for (const isNamed of [true, false])
      assert.ok(runsWith((fault) => fault.kind === "PauseAll" && (fault.workload !== undefined) === isNamed) > 20);
  });

  it("is each part of a policy that is edited, and each mode that it is lowered to", () => {
    for (const what of ["Budgets", "Windows", "Cooldown", "Attempts", "Ladder"])
      assert.ok(runsWith((fault) => fault.kind === "EditPolicy" && fault.what === what) > 10, what);
    for (const what of ["Observe", "Approve"]) assert.ok(runsWith((fault) => fault.kind === "EditMode" && fault.what === what) > 10, what);
  });

  it("are windows and freezes that open and close in the midst of the run", () => {
    const policies = SCENARIOS.flatMap((scenario) => scenario.policies);
    assert.ok(policies.filter(({ spec }) => spec.windows?.some(({ schedule }) => /^(\*\/5|4) /.test(schedule))).length > 50);
    assert.ok(policies.filter(({ spec }) => spec.budgets.some(({ schedule }) => schedule?.startsWith("*/6 "))).length > 50);
  });

  it("are storms in workloads of one, two and three replicas, and of more; on nodes and in zones that operators know", () => {
    for (const [least, most] of [
      [1, 1],
      [2, 2],
      [3, 3],
      [4, Infinity],
    ] as const)
      assert.ok(
        runsWith(({ kind, workload, count = 1 }, { workloads }) => {
          const of = workloads.find(({ name }) => name === workload);
          return kind === "PodHang" && of !== undefined && of.replicas >= least && of.replicas <= most && count >= of.replicas;
        }) > 10,
        `${least}`,
      );
    for (const kind of ["NodeDown", "NodeGone", "ZoneDown"] as const)
      assert.ok(runsWith((fault, { nodes }) => fault.kind === kind && typeof nodes !== "number") > 20, kind);
    assert.ok(runsWith(({ kind, zone }) => kind === "ZoneDown" && zone !== undefined) > 10);
  });
});
