import { addCoverage, type Coverage, emptyCoverage } from "./coverage.ts";
import { generateScenario } from "./generate.ts";
import { runScenario } from "./run.ts";
import type { Violation } from "./rules/rule.ts";

/** What came of many seeds. */
export interface Sweep {
  readonly seeds: number;
  readonly simulatedSeconds: number;
  /** Seconds that the CPU of this process was busy with it. */
  readonly cpuSeconds: number;
  readonly violations: readonly (Violation & { readonly seed: number })[];
  readonly coverage: Coverage;
}

/** Runs seeds one after the other, and tells after each how many are done. */
export async function sweep(seeds: Iterable<number>, progress: (done: number, broken: number) => void = () => undefined): Promise<Sweep> {
  const coverage = emptyCoverage();
  const violations: (Violation & { seed: number })[] = [];
  const before = process.cpuUsage();
  let done = 0;
  let simulatedMs = 0;
  for (const seed of seeds) {
    const result = await runScenario(generateScenario(seed));
    simulatedMs += result.simulatedMs;
    addCoverage(coverage, result.coverage);
    for (const violation of result.violations) violations.push({ seed, ...violation });
    done += 1;
    progress(done, violations.length);
  }
  const { user, system } = process.cpuUsage(before);
  return { seeds: done, simulatedSeconds: simulatedMs / 1000, cpuSeconds: (user + system) / 1e6, violations, coverage };
}

/** One of several. */
export function addSweep(a: Sweep, b: Sweep): Sweep {
  const coverage = emptyCoverage();
  addCoverage(coverage, a.coverage);
  addCoverage(coverage, b.coverage);
  return {
    seeds: a.seeds + b.seeds,
    simulatedSeconds: a.simulatedSeconds + b.simulatedSeconds,
    cpuSeconds: a.cpuSeconds + b.cpuSeconds,
    violations: [...a.violations, ...b.violations],
    coverage,
  };
}
