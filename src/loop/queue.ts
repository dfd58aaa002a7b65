import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";

/** What a reconciler says when it is done with a key. */
export interface Requeue {
  /** Look at the key again after this long (ms). Undefined: when something happens to it. */
  readonly after?: number;
}

/** Back-off after errors: 5 ms doubling to 30 s a key, with up to 20% jitter (controller-runtime's base; its 1000 s ceiling is too late here). */
const BASE_MS = 5;
const MAX_MS = 30_000;

/**
 * A work queue in the manner of controller-runtime: a key that is added many times is worked on once, a key is never
 * worked on twice at once, one that is added while it is worked on is worked on again, and errors back off per key.
 */
export class WorkQueue {
  readonly #work: (key: string) => Promise<Requeue>;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #onError: (key: string, error: unknown) => void;
  readonly #concurrency: number;
  readonly #waiting = new Set<string>();
  /** How far `#waiting` has been taken from: going through it from its beginning each time would walk over all that is gone. */
  #next = this.#waiting.values();
  readonly #running = new Map<string, Promise<void>>();
  readonly #again = new Set<string>();
  readonly #delayed = new Map<string, { readonly at: number; readonly cancel: () => void }>();
  readonly #failures = new Map<string, number>();
  #stopped = false;

  constructor(options: {
    readonly work: (key: string) => Promise<Requeue>;
    readonly clock: Clock;
    readonly random: Random;
    readonly onError: (key: string, error: unknown) => void;
    /** Keys worked on at once. A worker that waits (for a capture, say) holds none of the others up. Default 64. */
    readonly concurrency?: number;
  }) {
    this.#work = options.work;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#onError = options.onError;
    this.#concurrency = options.concurrency ?? 64;
  }

  /** Keys that wait or are worked on. */
  get depth(): number {
    return this.#waiting.size + this.#running.size;
  }

  /** Works on the key as soon as there is room. */
  add(key: string): void {
    if (this.#stopped) return;
    this.#delayed.get(key)?.cancel();
    this.#delayed.delete(key);
    if (this.#running.has(key)) {
      this.#again.add(key);
      return;
    }
    this.#waiting.add(key);
    this.#pump();
  }

  /** Works on the key after `ms`, or earlier if something else asks for it earlier. */
  addAfter(key: string, ms: number): void {
    if (this.#stopped) return;
    if (ms <= 0) return this.add(key);
    const at = this.#clock.monotonic() + ms;
    const known = this.#delayed.get(key);
    if (known !== undefined && known.at <= at) return;
    known?.cancel();
    this.#delayed.set(key, {
      at,
      cancel: this.#clock.after(ms, () => {
        this.#delayed.delete(key);
        this.add(key);
      }),
    });
  }

  /** Takes no more work, and resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#waiting.clear();
    this.#again.clear();
    await Promise.all(this.#running.values());
  }

  #pump(): void {
    while (this.#waiting.size > 0 && this.#running.size < this.#concurrency) {
      const { done, value: key } = this.#next.next();
      if (done) {
        // One that has come to the end finds nothing that is added later.
        this.#next = this.#waiting.values();
        continue;
      }
      this.#waiting.delete(key);
      // Begun only once it counts as running: the work may add its own key before it first waits.
      this.#running.set(
        key,
        Promise.resolve().then(() => this.#run(key)),
      );
    }
  }

  async #run(key: string): Promise<void> {
    let requeue: Requeue = {};
    try {
      requeue = await this.#work(key);
      this.#failures.delete(key);
    } catch (error) {
      const failures = this.#failures.get(key) ?? 0;
      this.#failures.set(key, failures + 1);
      requeue = { after: Math.min(BASE_MS * 2 ** failures, MAX_MS) * (1 + this.#random.next() * 0.2) };
      this.#onError(key, error);
    }
    this.#running.delete(key);
    if (this.#stopped) return;
    if (this.#again.delete(key)) this.#waiting.add(key);
    else if (requeue.after !== undefined) this.addAfter(key, requeue.after);
    this.#pump();
  }
}
