import type { Clock } from "../../src/ports/clock.ts";

interface Timer {
  readonly at: number;
  readonly fn: () => void;
}

/**
 * Lets everything that is ready run: promises that have settled, and I/O callbacks that are due.
 * `rounds` turns of the event loop, so that a chain of awaits over real I/O gets somewhere, too.
 */
export async function flush(rounds = 3): Promise<void> {
  for (let i = 0; i < rounds; i += 1) await new Promise<void>((resolve) => void setImmediate(resolve));
}

/** Time that stands still until it is told to move. Begins on 2026-01-01T00:00:00Z unless told otherwise. */
export class ManualClock implements Clock {
  #now: number;
  #monotonic = 0;
  /** In order of time, then of request. */
  readonly #timers: Timer[] = [];

  constructor(start: number = Date.UTC(2026, 0, 1)) {
    this.#now = start;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  after(ms: number, fn: () => void): () => void {
    const timer: Timer = { at: this.#monotonic + Math.max(0, ms), fn };
    const index = this.#timers.findIndex((other) => other.at > timer.at);
    this.#timers.splice(index === -1 ? this.#timers.length : index, 0, timer);
    return () => {
      const at = this.#timers.indexOf(timer);
      if (at !== -1) this.#timers.splice(at, 1);
    };
  }

  /** Timers that have not run. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Moves time on by `ms`, running each timer at its time, in order, and what follows from it before the next one. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    await flush();
    for (;;) {
      const next = this.#timers[0];
      if (next === undefined || next.at > end) break;
      this.#timers.shift();
      this.#moveTo(next.at);
      next.fn();
      await flush();
    }
    this.#moveTo(end);
    await flush();
  }

  /** Sets the wall clock, as an administrator or NTP does; the monotonic clock and the timers go on undisturbed. */
  jump(now: number): void {
    this.#now = now;
  }

  #moveTo(monotonic: number): void {
    this.#now += monotonic - this.#monotonic;
    this.#monotonic = monotonic;
  }
}
