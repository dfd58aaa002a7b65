import { fork, type ChildProcess } from "node:child_process";
import type { LoadSample } from "../../../examples/shop/load.ts";

/** What customers saw over a span of time. */
export interface LoadStats {
  readonly requests: number;
  /** Answered with a server error, cut off, or not answered in time. */
  readonly errors: number;
  /** 99th percentile (nearest rank) of all requests, a failed one with the time until it failed. Undefined without requests. */
  readonly p99Ms: number | undefined;
}

/** The statistics of the requests that ended from `from` (inclusive) to `to` (exclusive), in ms since the epoch. */
export function statsOf(samples: readonly LoadSample[], from: number, to: number): LoadStats {
  const inside = samples.filter(([endedAt]) => endedAt >= from && endedAt < to);
  const latencies = inside.map(([, ms]) => ms).sort((a, b) => a - b);
  return {
    requests: inside.length,
    errors: inside.filter(([, , status]) => failed(status)).length,
    p99Ms: latencies[Math.ceil(latencies.length * 0.99) - 1],
  };
}

function failed(status: number): boolean {
  return status === 0 || status >= 500;
}

/** The load generator, in a process of its own, and everything that it measured. */
export class Load {
  readonly #child: ChildProcess;
  readonly #samples: LoadSample[] = [];
  readonly #exited: Promise<void>;
  #stopping = false;

  /** Starts it. `onDeath` is called when it ends before `stop`. */
  constructor(program: string, url: string, requestsPerSecond: number, onDeath: (error: Error) => void) {
    this.#child = fork(program, [url, String(requestsPerSecond)], { stdio: ["ignore", "ignore", "pipe", "ipc"] });
    this.#child.on("message", (batch: LoadSample[]) => this.#samples.push(...batch));
    let complaint = "";
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (complaint = (complaint + text).slice(-2_000)));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#exited = promise;
    this.#child.once("error", onDeath);
    this.#child.once("exit", (code, signal) => {
      resolve();
      if (!this.#stopping) onDeath(new Error(`the load generator ended (${signal ?? `status ${code}`}) ${complaint}`));
    });
  }

  /** Everything so far, in order of arrival. */
  get samples(): readonly LoadSample[] {
    return this.#samples;
  }

  /** See `statsOf`. */
  stats(from: number, to: number): LoadStats {
    return statsOf(this.#samples, from, to);
  }

  /** Ends it, and waits until its last measurements are in. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 3_000);
    await this.#exited;
    clearTimeout(timer);
  }
}
