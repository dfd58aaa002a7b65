import type { Kind } from "../../api/meta.ts";
import type { ResourceOf } from "../../api/resources.ts";
import type { WatchEvent } from "../../ports/store.ts";
import { resourceKey } from "../admission.ts";
import type { SimProcess } from "./process.ts";

/** How news travel to one operator. */
export interface Delivery {
  /** When news of a kind arrive (ms from now), once for each time; empty where they are lost. */
  delays(kind: string): readonly number[];
  /** News of different objects may overtake each other. Those of one object never do. */
  mayReorder(): boolean;
}

/** One watch: the news that have arrived and were not taken yet. */
export class WatchStream<K extends Kind> implements AsyncIterableIterator<WatchEvent<K>> {
  readonly kind: K;
  readonly #process: SimProcess;
  readonly #delivery: Delivery;
  readonly #arrived: WatchEvent<K>[] = [];
  readonly #waiting: { resolve: (result: IteratorResult<WatchEvent<K>>) => void; reject: (error: unknown) => void }[] = [];
  /** When the newest news of each object arrive, and of any (monotonic ms). */
  readonly #lastOf = new Map<string, number>();
  #last = 0;
  #error: Error | undefined;
  #ended = false;

  constructor(kind: K, process: SimProcess, delivery: Delivery) {
    this.kind = kind;
    this.#process = process;
    this.#delivery = delivery;
  }

  /** Something has changed: the news set out. */
  changed(type: "Added" | "Modified" | "Deleted", object: ResourceOf[Kind]): void {
    if (this.#ended) return;
    const now = this.#process.monotonic();
    const key = resourceKey(this.kind, object.metadata.namespace, object.metadata.name);
    for (const delay of this.#delivery.delays(this.kind)) {
      const after = this.#delivery.mayReorder() ? (this.#lastOf.get(key) ?? 0) : this.#last;
      const at = Math.max(now + delay, after + 0.001);
      this.#lastOf.set(key, at);
      this.#last = Math.max(this.#last, at);
      this.#process.after(at - now, () => this.#arrive({ type, object: object as ResourceOf[K] }));
    }
  }

  /** The connection breaks. */
  fail(error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    // Behind what has arrived; whoever waits has taken all of it.
    this.#process.after(0, () => {
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    });
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const { resolve } of this.#waiting.splice(0)) resolve({ done: true, value: undefined });
  }

  next(): Promise<IteratorResult<WatchEvent<K>>> {
    const arrived = this.#arrived.shift();
    if (arrived !== undefined) return Promise.resolve({ done: false, value: arrived });
    if (this.#error !== undefined) return Promise.reject(this.#error);
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => void this.#waiting.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<WatchEvent<K>>> {
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #arrive(event: WatchEvent<K>): void {
    if (this.#ended) return;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#arrived.push(event);
    else waiting.resolve({ done: false, value: event });
  }
}
