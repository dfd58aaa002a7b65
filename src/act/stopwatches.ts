import type { Clock } from "../ports/clock.ts";

interface Running {
  /** When it began by the wall clock (ms), which names it: another beginning is another run. */
  readonly began: number;
  /** When it was first seen here, by the monotonic clock, and how long it had lasted then (ms). */
  readonly seenAt: number;
  readonly before: number;
}

/**
 * How long things have lasted that began at a stored time. The store knows wall clock times only, and wall clocks jump: an
 * hour ahead must not end every wait, a day back must not make one last a day. So what this process has seen of it is
 * counted by the monotonic clock, and the wall clock counts for what came before alone, as after a restart.
 */
export class Stopwatches {
  readonly #clock: Clock;
  readonly #running = new Map<string, Map<string, Running>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Milliseconds since `began` (ms since the epoch) of `what` of `owner`; never negative. NaN where `began` is no time. */
  elapsed(owner: string, what: string, began: number): number {
    let own = this.#running.get(owner);
    if (own === undefined) this.#running.set(owner, (own = new Map()));
    let running = own.get(what);
    if (running === undefined || running.began !== began) {
      running = { began, seenAt: this.#clock.monotonic(), before: Math.max(0, this.#clock.now() - began) };
      own.set(what, running);
    }
    return running.before + (this.#clock.monotonic() - running.seenAt);
  }

  /** How much of that was seen by this process (ms): what came before its start is not in it. */
  watched(owner: string, what: string, began: number): number {
    const running = this.#running.get(owner)?.get(what);
    return running?.began === began ? this.#clock.monotonic() - running.seenAt : 0;
  }

  /** Forgets everything of an owner. */
  forget(owner: string): void {
    this.#running.delete(owner);
  }
}
