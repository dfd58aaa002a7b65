import type { Random } from "../../ports/random.ts";

/** How long to wait between tries. */
export interface BackoffOptions {
  /** First wait (ms). Default 800. */
  readonly baseMs?: number;
  /** Longest wait before jitter (ms). Default 30 s. */
  readonly maxMs?: number;
  /** What the wait grows by. Default 2. */
  readonly factor?: number;
  /** Up to this much of the wait is added, at random. Default 1. */
  readonly jitter?: number;
}

/** Waits that grow with each failure in a row. Its defaults are those of client-go's reflector. */
export class Backoff {
  readonly #base: number;
  readonly #max: number;
  readonly #factor: number;
  readonly #jitter: number;
  readonly #random: Random;
  #next: number;

  constructor(random: Random, options: BackoffOptions = {}) {
    const { baseMs = 800, maxMs = 30_000, factor = 2, jitter = 1 } = options;
    this.#base = baseMs;
    this.#max = maxMs;
    this.#factor = factor;
    this.#jitter = jitter;
    this.#random = random;
    this.#next = baseMs;
  }

  /** How long to wait now (ms); the next wait is longer. */
  next(): number {
    const wait = Math.min(this.#next, this.#max);
    this.#next = wait * this.#factor;
    return wait * (1 + this.#random.next() * this.#jitter);
  }

  /** It went well: the next failure is a first one. */
  reset(): void {
    this.#next = this.#base;
  }
}
