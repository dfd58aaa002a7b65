import { BASE_SCENARIOS } from "../../src/platform/sim/base-scenarios.ts";
import { generateScenario } from "../../src/platform/sim/generate.ts";
import { parsePerturbation, PERTURBATIONS, type Perturbation, perturbationText } from "../../src/platform/sim/points.ts";
import { runScenario } from "../../src/platform/sim/run.ts";
import type { Scenario } from "../../src/platform/sim/scenario.ts";
import { GATE_CASES, merged, scenarioWith } from "../support/gate-scenarios.ts";
import { CASES } from "./cases.ts";

// What mutants are tried on, by names that the table can have: `gate/Paused`, `base/leak`, `case/reset`, `seed/12`, and `base/leak
// write:4:CrashAfter` for one of them with a point perturbed.

const NAMED: ReadonlyMap<string, Scenario> = new Map([
  ...GATE_CASES.flatMap(({ reason, both, blocked, free }): [string, Scenario][] => [
    [`gate/${reason}`, scenarioWith(merged(both, blocked))],
    [`gate/${reason}/free`, scenarioWith(merged(both, free))],
  ]),
  ...CASES.map(({ name, scenario }): [string, Scenario] => [`case/${name}`, scenario]),
  ...BASE_SCENARIOS.map(({ name, scenario }): [string, Scenario] => [`base/${name}`, scenario]),
]);

/** Names of the scenarios that were made by hand. */
export const SCENARIOS: readonly string[] = [...NAMED.keys()];

/** The first rule that a run breaks. */
export interface Broken {
  readonly rule: string;
  readonly message: string;
}

export function scenarioOf(name: string): Scenario {
  const seed = /^seed\/(\d+)$/.exec(name)?.[1];
  const scenario = seed === undefined ? NAMED.get(name) : generateScenario(Number(seed));
  if (scenario === undefined) throw new Error(`there is no run ${name}`);
  return scenario;
}

/** Plays a run until a rule is broken. */
export async function play(run: string): Promise<Broken | undefined> {
  const [name = "", point] = run.split(" ");
  const perturbation = point === undefined ? undefined : parsePerturbation(point);
  if (point !== undefined && perturbation === undefined) throw new Error(`there is no run ${run}: ${point} is no point`);
  return (await runScenario(scenarioOf(name), perturbation === undefined ? {} : { perturbation })).violations[0];
}

/** Every base scenario with each of its writes perturbed in each way, as runs; numbered as the code that is loaded has them. */
export async function* writes(): AsyncGenerator<string> {
  for (const { name, scenario } of BASE_SCENARIOS) {
    const perturbations: Perturbation[] = [];
    await runScenario(scenario, {
      onPoint: ({ kind, number }) => {
        if (kind === "write") for (const how of PERTURBATIONS.write) perturbations.push({ kind, number, how });
      },
    });
    for (const perturbation of perturbations) yield `base/${name} ${perturbationText(perturbation)}`;
  }
}
