import type { Logger } from "pino";
import { NightshiftError, messageOf } from "../../api/errors.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { RouterService } from "./router/protocol.ts";

/** What this needs of the router's client. */
export interface RouterControl {
  /** Starts the router where it does not run. */
  ensureRunning(): Promise<unknown>;
  /** Resolves when the router goes by it. */
  configure(services: RouterService[]): Promise<unknown>;
}

interface Waiter {
  readonly for: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const RETRY_MS = 250;

/** Keeps the router at the wanted configuration, one change after the other, the newest only. */
export class Traffic {
  readonly #router: RouterControl;
  readonly #wanted: () => RouterService[];
  readonly #clock: Clock;
  readonly #log: Logger;
  #asked = 0;
  #confirmed = 0;
  #running: Promise<void> | undefined;
  #waiting: Waiter[] = [];
  readonly #end = new AbortController();
  #last = "";

  constructor(options: {
    readonly router: RouterControl;
    /** What should be, now. */
    readonly wanted: () => RouterService[];
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    this.#router = options.router;
    this.#wanted = options.wanted;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /**
   * Resolves when the router has confirmed a configuration that is at least as new as this call. While the router cannot
   * be reached it is started and asked again; rejects with what it refuses, such as `PORT_IN_USE`, and with `STOPPING`.
   * A configuration that was refused is tried again all the same.
   */
  sync(): Promise<void> {
    if (this.#end.signal.aborted) return Promise.reject(closed());
    const generation = ++this.#asked;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ for: generation, resolve, reject });
      this.#running ??= this.#work().finally(() => (this.#running = undefined));
    });
  }

  /** The router may have lost its configuration: it is sent again. */
  resend(): void {
    this.#last = "";
    this.sync().catch(() => undefined);
  }

  /** Ends it; what waits is rejected. Resolves when no call to the router is under way. */
  async close(): Promise<void> {
    this.#end.abort();
    for (const { reject } of this.#waiting) reject(closed());
    this.#waiting = [];
    await this.#running;
  }

  async #work(): Promise<void> {
    // Changes of one turn are one configuration.
    await Promise.resolve();
    while (this.#confirmed < this.#asked && !this.#end.signal.aborted) {
      const generation = this.#asked;
      try {
        const services = this.#wanted();
        const text = JSON.stringify(services);
        if (text !== this.#last) await this.#router.configure(services);
        this.#last = text;
        this.#confirmed = generation;
        this.#settle(generation, (waiter) => waiter.resolve());
      } catch (error) {
        this.#last = "";
        this.#log.warn(`the router cannot be configured: ${messageOf(error)}`);
        const refused = !(error instanceof NightshiftError && error.code === "ROUTER_UNREACHABLE");
        if (refused) this.#settle(generation, (waiter) => waiter.reject(error));
        await sleep(this.#clock, RETRY_MS, this.#end.signal);
        if (!refused && !this.#end.signal.aborted)
          await this.#router
            .ensureRunning()
            .catch((cause: unknown) => this.#log.error(`the router cannot be started: ${messageOf(cause)}`));
      }
    }
  }

  /** Ends the wait of those that asked for this configuration or an older one. */
  #settle(generation: number, end: (waiter: Waiter) => void): void {
    const done = this.#waiting.filter((waiter) => waiter.for <= generation);
    this.#waiting = this.#waiting.filter((waiter) => waiter.for > generation);
    for (const waiter of done) end(waiter);
  }
}

function closed(): NightshiftError {
  return new NightshiftError("STOPPING", "Nightshift is being stopped");
}
