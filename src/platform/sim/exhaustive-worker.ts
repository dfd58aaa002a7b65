import { parentPort } from "node:worker_threads";
import { perform, type Task } from "./exhaustive.ts";

// A thread that plays the perturbed runs that it is sent, and says what came of them. See `exhaust`.
parentPort?.on("message", (task: Task) => {
  void perform(task).then(
    (result) => parentPort?.postMessage({ result }),
    (error: unknown) => parentPort?.postMessage({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});
