import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { NightshiftError } from "../../api/errors.ts";

/** Room for what lives for one event only (MB): with Node's default a twentieth more of the time goes to collecting it. */
const YOUNG_MB = 192;

/** What a thread answers. */
interface Answer {
  readonly result?: unknown;
  readonly error?: string;
}

/**
 * Has tasks done by the module `worker` beside this one in `jobs` threads, each one after the other, and hands over each result
 * as it comes.
 * @param next the next task; undefined when there is none left.
 * @throws NightshiftError `SIMULATION_FAILED` where a run ended with an error of its own, which is a bug in the simulator or the loop.
 */
export async function inThreads(worker: string, jobs: number, next: () => unknown, take: (result: unknown) => void): Promise<void> {
  const run = (thread: Worker): Promise<void> =>
    new Promise((resolve, reject) => {
      const send = (): void => {
        const task = next();
        if (task === undefined) return resolve();
        thread.postMessage(task);
      };
      thread.on("error", reject);
      thread.on("message", ({ result, error }: Answer) => {
        if (result === undefined) return reject(new NightshiftError("SIMULATION_FAILED", error ?? "a thread gave no answer"));
        take(result);
        send();
      });
      send();
    });
  // The module has the same ending in the sources and in the package.
  const module = new URL(`./${worker}${extname(import.meta.filename)}`, import.meta.url);
  const threads = Array.from(
    { length: Math.max(1, jobs) },
    () => new Worker(module, { resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB } }),
  );
  try {
    await Promise.all(threads.map(run));
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}
