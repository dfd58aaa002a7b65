import type { Kind } from "../api/meta.ts";
import type { ResourceOf } from "../api/resources.ts";
import { messageOf } from "../api/errors.ts";
import { sleep, type Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";

/** Key of an object in its kind. */
export function objectKey(object: { readonly metadata: { readonly namespace: string; readonly name: string } }): string {
  return `${object.metadata.namespace}/${object.metadata.name}`;
}

/** How long after a broken watch the next one begins (ms). */
const REWATCH_MS = 500;

/**
 * Every object of one kind, kept in step with the store by a watch. What the loop itself wrote is put in at once, so
 * that it reads its own writes.
 */
export class Cache<K extends Kind> {
  readonly #kind: K;
  readonly #objects = new Map<string, ResourceOf[K]>();
  #list: readonly ResourceOf[K][] | undefined;
  #synced: (() => void) | undefined;
  readonly ready: Promise<void>;

  constructor(kind: K) {
    this.#kind = kind;
    this.ready = new Promise((resolve) => {
      this.#synced = resolve;
    });
  }

  get(key: string): ResourceOf[K] | undefined {
    return this.#objects.get(key);
  }

  /** All objects, ordered by key. The same array until something changes. */
  list(): readonly ResourceOf[K][] {
    this.#list ??= [...this.#objects.entries()].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, object]) => object);
    return this.#list;
  }

  /** Takes what a write of the loop's own returned. */
  put(object: ResourceOf[K]): void {
    this.#objects.set(objectKey(object), object);
    this.#list = undefined;
  }

  /** Follows the store until `stop` aborts; a watch that breaks is begun again. Calls back after each change, also those of the first listing. */
  async follow(
    store: Store,
    clock: Clock,
    stop: AbortSignal,
    onChange: (key: string) => void,
    onError: (message: string) => void,
  ): Promise<void> {
    while (!stop.aborted) {
      const before = new Set(this.#objects.keys());
      let listing = true;
      try {
        for await (const event of store.watch(this.#kind, stop)) {
          if (event.type === "Synced") {
            // What a new listing no longer has was deleted while nobody watched.
            for (const key of before) this.#remove(key, onChange);
            listing = false;
            this.#synced?.();
            continue;
          }
          const key = objectKey(event.object);
          if (event.type === "Deleted") {
            this.#remove(key, onChange);
            continue;
          }
          if (listing) before.delete(key);
          if (this.#isOlder(event.object, key)) continue;
          this.put(event.object);
          onChange(key);
        }
      } catch (error) {
        onError(`the watch of ${this.#kind} broke: ${messageOf(error)}`);
      }
      await sleep(clock, REWATCH_MS, stop);
    }
  }

  #remove(key: string, onChange: (key: string) => void): void {
    if (!this.#objects.delete(key)) return;
    this.#list = undefined;
    onChange(key);
  }

  /**
   * Whether the cache already has a later state than a watch event, because the loop wrote it. Resource versions are
   * opaque, so lateness is not read off them: a status only ever grows.
   */
  #isOlder(object: ResourceOf[K], key: string): boolean {
    const known = this.#objects.get(key);
    if (known === undefined || known.kind !== "Remediation" || object.kind !== "Remediation") return false;
    return known.metadata.resourceVersion !== object.metadata.resourceVersion && progress(known) > progress(object);
  }
}

/** A number that grows with every write that the loop makes to an episode; a late watch event has a smaller one. */
function progress(remediation: ResourceOf["Remediation"]): number {
  return remediation.status.revision;
}
