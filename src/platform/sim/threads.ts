import { emptyCoverage } from "./coverage.ts";
import { inThreads } from "./pool.ts";
import { addSweep, type Sweep } from "./sweep.ts";

/** Seeds that a thread is sent at a time: few, so that all have work to the end. */
const CHUNK = 10;
/** The same where there are few seeds. */
const chunkOf = (seeds: number, jobs: number): number => Math.max(1, Math.min(CHUNK, Math.floor(seeds / jobs)));

/**
 * Runs the seeds from `from` to `to` in `jobs` threads. What comes out does not depend on how many there are; violations are
 * in order of their seeds.
 * @throws NightshiftError `SIMULATION_FAILED` where a run ended with an error of its own, which is a bug in the simulator or the loop.
 */
export async function sweepInThreads(
  { from, to, jobs }: { readonly from: number; readonly to: number; readonly jobs: number },
  progress: (done: number, broken: number) => void,
): Promise<Sweep> {
  const chunk = chunkOf(to - from + 1, jobs);
  let next = from;
  let sum: Sweep = { seeds: 0, simulatedSeconds: 0, cpuSeconds: 0, violations: [], coverage: emptyCoverage() };
  await inThreads(
    "worker",
    jobs,
    () => {
      if (next > to) return undefined;
      const first = next;
      next = Math.min(to, first + chunk - 1) + 1;
      return { from: first, to: next - 1 };
    },
    (result) => {
      sum = addSweep(sum, result as Sweep);
      progress(sum.seeds, sum.violations.length);
    },
  );
  return { ...sum, violations: sum.violations.toSorted((a, b) => a.seed - b.seed) };
}
