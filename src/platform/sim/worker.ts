import { parentPort } from "node:worker_threads";
import { sweep } from "./sweep.ts";

// A thread that runs the seeds that it is sent, and says what came of them. See `sweepInThreads`.
parentPort?.on("message", ({ from, to }: { readonly from: number; readonly to: number }) => {
  const seeds = Array.from({ length: to - from + 1 }, (_, i) => from + i);
  void sweep(seeds).then(
    (result) => parentPort?.postMessage({ result }),
    (error: unknown) =>
      parentPort?.postMessage({ error: error instanceof Error ? (error.stack ?? error.message) : String(error), from, to }),
  );
});
