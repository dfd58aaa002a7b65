import type { SimRandom } from "./random.ts";
import { SimProcess } from "./process.ts";

/** The shortest wait that is one (ms): time must move on, or a loop that waits for the rest of a millisecond never ends. */
const SHORTEST_MS = 1e-6;

/** When a simulation begins by default, by the true clock: 2026-01-01T00:00:00Z. */
export const EPOCH_MS = Date.UTC(2026, 0, 1);

// Taken before anything can replace the globals: a run must reach none of the real ones.
const turn = setImmediate;

interface Event {
  /** Milliseconds since the simulation began. */
  at: number;
  tie: number;
  readonly seq: number;
  readonly fn: () => void;
  readonly process: SimProcess | undefined;
  cancelled: boolean;
}

/**
 * Virtual time: events in order of their time. Those of the same time come in a seeded order, so that no run depends on
 * which was asked for first.
 *
 * After each event of a process everything that follows from it runs before the next event. Code of the loop waits only
 * for promises that events settle; when Node's event loop has turned once, no microtask is left, however long the chain.
 */
export class Simulation {
  readonly #heap: Event[] = [];
  readonly #ties: SimRandom;
  /** When it begins, by the true clock (ms since the epoch). */
  readonly epoch: number;
  #elapsed = 0;
  #seq = 0;
  #events = 0;
  #ended = false;

  constructor(ties: SimRandom, epoch = EPOCH_MS) {
    this.#ties = ties;
    this.epoch = epoch;
  }

  /** Milliseconds since the beginning. */
  get elapsed(): number {
    return this.#elapsed;
  }

  /** The true time (ms since the epoch), which no process knows. */
  get now(): number {
    return this.epoch + this.#elapsed;
  }

  /** Events that have run. */
  get events(): number {
    return this.#events;
  }

  /** Runs `fn` after `ms`; as part of `process`, where one is given: it dies with it and waits while it is stopped. Returns what cancels it. */
  schedule(ms: number, fn: () => void, process?: SimProcess): () => void {
    const wait = ms > 0 ? Math.max(SHORTEST_MS, ms) : 0;
    const event: Event = {
      at: this.#elapsed + (Number.isFinite(wait) ? wait : 0),
      tie: this.#ties.next(),
      seq: this.#seq++,
      fn,
      process,
      cancelled: false,
    };
    if (wait === Infinity) return () => undefined;
    this.#push(event);
    return () => {
      event.cancelled = true;
    };
  }

  /** A process of its own clock. */
  process(name: string): SimProcess {
    return new SimProcess(this, name);
  }

  /** Whether `end` was called. */
  get ended(): boolean {
    return this.#ended;
  }

  /** No further event runs. */
  end(): void {
    this.#ended = true;
  }

  /** Runs every event up to `end` (ms since the beginning), `after` after each that was not cancelled, until `end()` is called. */
  async runUntil(end: number, after: () => void): Promise<void> {
    while (!this.#ended) {
      const next = this.#heap[0];
      if (next === undefined || next.at > end) break;
      this.#pop();
      const { process } = next;
      if (next.cancelled || process?.alive === false) continue;
      if (process !== undefined && process.stoppedUntil > this.#elapsed && process.stoppedUntil > next.at) {
        // Those that wait for the process to go on keep their order, and come before what is due then.
        next.tie = next.tie < 0 ? next.tie : next.at - Number.MAX_SAFE_INTEGER;
        next.at = process.stoppedUntil;
        this.#push(next);
        continue;
      }
      this.#elapsed = Math.max(this.#elapsed, next.at);
      this.#events += 1;
      next.fn();
      if (process !== undefined) await settled();
      after();
    }
    if (!this.#ended) this.#elapsed = Math.max(this.#elapsed, end);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = heap[parent] as Event;
      if (!precedes(event, above)) break;
      heap[i] = above;
      i = parent;
    }
    heap[i] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && precedes(heap[child + 1] as Event, heap[child] as Event)) child += 1;
      if (!precedes(heap[child] as Event, last)) break;
      heap[i] = heap[child] as Event;
      i = child;
    }
    heap[i] = last;
  }
}

function precedes(a: Event, b: Event): boolean {
  if (a.at !== b.at) return a.at < b.at;
  return a.tie === b.tie ? a.seq < b.seq : a.tie < b.tie;
}

/** Turns that are asked for at once: Node runs them one after the other, and every microtask between two, without asking the system. */
const TURNS = 64;
let turnsLeft = 0;
let waiting: (() => void)[] = [];

function turned(): void {
  turnsLeft -= 1;
  const due = waiting;
  waiting = [];
  for (const resolve of due) resolve();
}

/** Resolves when no microtask is left. */
export function settled(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (turnsLeft > 0) return;
    turnsLeft = TURNS;
    for (let i = 0; i < TURNS; i++) turn(turned);
  });
}
