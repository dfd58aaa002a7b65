import { runScenario, type RunOptions, type RunResult } from "./run.ts";
import type { Fault, Scenario } from "./scenario.ts";

/** A scenario that still breaks the rule, with as few faults as could be found. */
export interface Shrunk {
  readonly scenario: Scenario;
  readonly result: RunResult;
  /** Runs that it took. */
  readonly runs: number;
}

/** The scenario with those of its faults alone. */
export function withFaults(scenario: Scenario, ids: readonly number[]): Scenario {
  return { ...scenario, faults: scenario.faults.filter(({ id }) => ids.includes(id)) };
}

/**
 * Takes away faults as long as the same rule is still broken, by delta debugging (Zeller and Hildebrandt, 2002): of what
 * comes back none can be left out.
 */
export async function shrink(scenario: Scenario, rule: string, options: RunOptions = {}): Promise<Shrunk> {
  let runs = 0;
  const breaks = async (faults: readonly Fault[]): Promise<RunResult | undefined> => {
    runs += 1;
    const result = await runScenario({ ...scenario, faults }, options);
    return result.violations.some((violation) => violation.rule === rule) ? result : undefined;
  };
  let faults = scenario.faults;
  let result = await breaks(faults);
  if (result === undefined) throw new RangeError(`seed ${scenario.seed} does not break ${rule}`);
  let parts = 2;
  while (faults.length > 0) {
    const size = Math.ceil(faults.length / parts);
    let smaller: { readonly faults: readonly Fault[]; readonly result: RunResult } | undefined;
    for (let from = 0; from < faults.length && smaller === undefined; from += size) {
      const without = [...faults.slice(0, from), ...faults.slice(from + size)];
      const broken = await breaks(without);
      if (broken !== undefined) smaller = { faults: without, result: broken };
    }
    if (smaller !== undefined) {
      ({ faults, result } = smaller);
      parts = Math.max(parts - 1, 2);
    } else if (size === 1) break;
    else parts = Math.min(parts * 2, faults.length);
  }
  return { scenario: { ...scenario, faults }, result, runs };
}
