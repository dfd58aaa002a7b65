import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { NightshiftError } from "../../api/errors.ts";
import { addSweep, type Sweep } from "./sweep.ts";
import { emptyCoverage } from "./coverage.ts";

/** Seeds that a thread is sent at a time: few, so that all have work to the end. */
const CHUNK = 10;
/** The same where there are few seeds. */
const chunkOf = (seeds: number, jobs: number): number => Math.max(1, Math.min(CHUNK, Math.floor(seeds / jobs)));

/** What a thread answers. */
interface Answer {
  readonly result?: Sweep;
  readonly error?: string;
}

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
  const run = (worker: Worker): Promise<void> =>
    new Promise((resolve, reject) => {
      const send = (): void => {
        if (next > to) return resolve();
        const last = Math.min(to, next + chunk - 1);
        worker.postMessage({ from: next, to: last });
        next = last + 1;
      };
      worker.on("error", reject);
      worker.on("message", ({ result, error }: Answer) => {
        if (result === undefined) return reject(new NightshiftError("SIMULATION_FAILED", error ?? "a thread gave no answer"));
        sum = addSweep(sum, result);
        progress(sum.seeds, sum.violations.length);
        send();
      });
      send();
    });
  // The same module beside this one, in the sources and in the package.
  const module = new URL(`./worker${extname(import.meta.filename)}`, import.meta.url);
  const workers = Array.from({ length: Math.max(1, jobs) }, () => new Worker(module));
  try {
    await Promise.all(workers.map(run));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  return { ...sum, violations: sum.violations.toSorted((a, b) => a.seed - b.seed) };
}
