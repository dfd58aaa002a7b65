import type { Clock } from "../../ports/clock.ts";
import type { Simulation } from "./simulation.ts";

/** A process in the simulation: a clock of its own, which may be wrong, and an end at which everything that it waits for dies. */
export class SimProcess implements Clock {
  readonly name: string;
  readonly #simulation: Simulation;
  readonly #startedAt: number;
  readonly #onKill: (() => void)[] = [];
  #alive = true;
  #stoppedUntil = -1;
  /** How far its wall clock is ahead of the true time (ms). May change, as by NTP. */
  skewMs = 0;

  constructor(simulation: Simulation, name: string) {
    this.#simulation = simulation;
    this.name = name;
    this.#startedAt = simulation.elapsed;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Until when nothing of it runs (ms since the beginning of the simulation), as after SIGSTOP. */
  get stoppedUntil(): number {
    return this.#stoppedUntil;
  }

  now(): number {
    return Math.floor(this.#simulation.now + this.skewMs);
  }

  monotonic(): number {
    return this.#simulation.elapsed - this.#startedAt;
  }

  after(ms: number, fn: () => void): () => void {
    if (!this.#alive) return () => undefined;
    return this.#simulation.schedule(ms, fn, this);
  }

  /** Stops it for a while; then everything that was due runs. */
  stopFor(ms: number): void {
    this.#stoppedUntil = Math.max(this.#stoppedUntil, this.#simulation.elapsed + ms);
  }

  /** `kill -9`: what it waits for never comes, and nothing that it still does leaves it. */
  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const end of this.#onKill.splice(0)) end();
  }

  /** Calls back when it is killed: for what has listeners outside. */
  onKill(end: () => void): void {
    this.#onKill.push(end);
  }
}
