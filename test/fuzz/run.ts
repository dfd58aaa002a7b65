import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { messageOf } from "../../src/api/errors.ts";
import { MAX_INPUT } from "./bytes.ts";
import { ROOT } from "./target.ts";
import { HEAD, type Report, type Task } from "./work.ts";

/** An input that takes longer than this never ends (ms). All of them are at most 64 KiB; on a machine that is busy each takes far less. */
const STUCK_MS = 60_000;
/** Memory of a target's thread (MiB): what one input takes must not depend on what it says about itself. */
const HEAP_MIB = 512;

/** What came of a target. */
export interface TargetResult extends Omit<Report, "failure"> {
  readonly target: string;
  readonly seed: number;
  readonly seconds: number;
  readonly failure?: { readonly message: string; readonly file: string; readonly replay: string };
}

/**
 * Runs a target in a thread. One seed gives the same inputs, byte for byte. Where a property breaks, the input that breaks it, as small as it was found, is stored under `directory`.
 */
export async function runTarget(
  options: Omit<Task, "hand"> & { readonly directory?: string; readonly stuckMs?: number; readonly worker?: URL },
): Promise<TargetResult> {
  const {
    directory = join(ROOT, "fuzz-failures"),
    stuckMs = STUCK_MS,
    worker: file = new URL("worker.ts", import.meta.url),
    ...task
  } = options;
  const { target, seed } = task;
  const hand = new SharedArrayBuffer(HEAD + 2 * MAX_INPUT);
  const begun = performance.now();
  const worker = new Worker(file, { workerData: { ...task, hand } satisfies Task, resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB } });
  const report = await new Promise<Report>((resolve) => {
    const lost = (message: string): void =>
      resolve({
        runs: Atomics.load(new Int32Array(hand), 0) - 1,
        bytes: 0,
        outcomes: {},
        failure: { message, input: handed(hand), shrinks: 0 },
      });
    let last = -1;
    const watch = setInterval(() => {
      const now = Atomics.load(new Int32Array(hand), 0);
      // Before the first one, modules are loaded.
      if (now === last && now > 0) lost(`this input did not come to its end in ${stuckMs / 1_000} s`);
      last = now;
    }, stuckMs);
    worker.once("message", resolve);
    worker.once("error", (error) => lost(messageOf(error)));
    worker.once("exit", (code) => lost(`the thread ended with ${code}`));
    worker.once("exit", () => clearInterval(watch));
  });
  worker.removeAllListeners("error");
  await worker.terminate();
  const { failure, ...rest } = report;
  const result = { target, seed, seconds: (performance.now() - begun) / 1_000, ...rest };
  if (failure === undefined) return result;
  const path = join(directory, target, `${createHash("sha256").update(failure.input).digest("hex").slice(0, 16)}.bin`);
  mkdirSync(join(directory, target), { recursive: true });
  writeFileSync(path, failure.input);
  return { ...result, failure: { message: failure.message, file: path, replay: `npm run fuzz -- --target ${target} --replay ${path}` } };
}

/** The input that the thread had in hand. */
function handed(hand: SharedArrayBuffer): Uint8Array {
  return Uint8Array.from(new Uint8Array(hand, HEAD, new Int32Array(hand)[1] ?? 0));
}
