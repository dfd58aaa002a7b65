import type { Kind } from "../api/meta.ts";
import type { Resource, ResourceOf } from "../api/resources.ts";
import type { WatchEvent } from "../ports/store.ts";
import { effectiveNamespace, resourceKey } from "./admission.ts";

/** What a watcher has yet to be told about one object. Never more than these two, whatever happened meanwhile. */
interface Pending<K extends Kind> {
  /** The object that the watcher knows is gone. */
  deleted?: ResourceOf[K];
  /** What stands in its place, or is new, or has changed. */
  put?: { type: "Added" | "Modified"; object: ResourceOf[K] };
}

/**
 * One watch. Changes that were not taken yet are coalesced by object, so a slow reader costs at most two events an object
 * that it knows or that exists; a coalesced change takes the place of its newest part, so versions are delivered ascending.
 */
class Watcher<K extends Kind> implements AsyncIterableIterator<WatchEvent<K>> {
  /** What existed at the start and was not delivered yet. Changes of it are made in place: `Synced` comes after it. */
  readonly #initial = new Map<string, ResourceOf[K]>();
  readonly #pending = new Map<string, Pending<K>>();
  readonly #waiting: ((result: IteratorResult<WatchEvent<K>>) => void)[] = [];
  readonly #onEnd: () => void;
  #synced = false;
  #ended = false;

  constructor(initial: Iterable<[string, ResourceOf[K]]>, onEnd: () => void) {
    for (const [key, object] of initial) this.#initial.set(key, object);
    this.#onEnd = onEnd;
  }

  put(key: string, type: "Added" | "Modified", object: ResourceOf[K]): void {
    if (this.#initial.has(key)) this.#initial.set(key, object);
    else {
      const pending = this.#pending.get(key) ?? {};
      this.#pending.delete(key);
      this.#pending.set(key, { ...pending, put: { type: pending.put?.type ?? type, object } });
    }
    this.#deliver();
  }

  delete(key: string, object: ResourceOf[K]): void {
    if (this.#initial.delete(key)) return this.#deliver();
    const pending = this.#pending.get(key);
    this.#pending.delete(key);
    // What the watcher never heard of need not be taken back.
    if (pending?.put?.type === "Added") {
      if (pending.deleted !== undefined) this.#pending.set(key, { deleted: pending.deleted });
    } else this.#pending.set(key, { deleted: object });
    this.#deliver();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#initial.clear();
    this.#pending.clear();
    this.#onEnd();
    for (const resolve of this.#waiting.splice(0)) resolve({ done: true, value: undefined });
  }

  next(): Promise<IteratorResult<WatchEvent<K>>> {
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#deliver();
    });
  }

  return(): Promise<IteratorResult<WatchEvent<K>>> {
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #deliver(): void {
    while (this.#waiting.length > 0) {
      const value = this.#take();
      if (value === undefined) return;
      this.#waiting.shift()?.({ done: false, value });
    }
  }

  #take(): WatchEvent<K> | undefined {
    for (const [key, object] of this.#initial) {
      this.#initial.delete(key);
      return { type: "Added", object };
    }
    if (!this.#synced) {
      this.#synced = true;
      return { type: "Synced" };
    }
    for (const [key, { deleted, put }] of this.#pending) {
      if (deleted !== undefined && put !== undefined) this.#pending.set(key, { put });
      else this.#pending.delete(key);
      if (deleted !== undefined) return { type: "Deleted", object: deleted };
      if (put !== undefined) return put;
    }
    return undefined;
  }
}

/** The objects of one kind, in order. */
class Shelf<K extends Kind> {
  readonly objects = new Map<string, ResourceOf[K]>();
  /** Keys of `objects`, sorted. */
  readonly keys: string[] = [];
  /** Lists that were asked for since the last change, by namespace; `undefined` is all. */
  readonly lists = new Map<string | undefined, readonly ResourceOf[K][]>();
  readonly watchers = new Set<Watcher<K>>();
}

/** First index of a sorted array whose element is not below `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] ?? "") < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The objects that a store has, in memory, with the watches on them. It takes what it is given: the store decides what
 * may be written. Objects must be frozen, as they are handed out without a copy.
 */
export class ResourceCache {
  readonly #shelves = new Map<Kind, Shelf<Kind>>();

  /** The object under a key of `resourceKey`, or undefined. */
  get<K extends Kind>(kind: K, key: string): ResourceOf[K] | undefined {
    return this.#shelf(kind).objects.get(key);
  }

  /** All objects of a kind, of one namespace or all, ordered by namespace and name. Frozen. */
  list<K extends Kind>(kind: K, namespace?: string): readonly ResourceOf[K][] {
    const shelf = this.#shelf(kind);
    const only = namespace === undefined ? undefined : effectiveNamespace(kind, namespace);
    let list = shelf.lists.get(only);
    if (list === undefined) {
      const from = only === undefined ? 0 : lowerBound(shelf.keys, `${only}\0`);
      const to = only === undefined ? shelf.keys.length : lowerBound(shelf.keys, `${only}\x01`);
      list = Object.freeze(shelf.keys.slice(from, to).flatMap((key) => shelf.objects.get(key) ?? []));
      shelf.lists.set(only, list);
    }
    return list;
  }

  /** Adds or replaces an object and tells the watchers. */
  put(object: Resource): void {
    const shelf = this.#shelf(object.kind);
    const key = resourceKey(object.kind, object.metadata.namespace, object.metadata.name);
    const known = shelf.objects.has(key);
    shelf.objects.set(key, object);
    if (!known) shelf.keys.splice(lowerBound(shelf.keys, key), 0, key);
    shelf.lists.clear();
    for (const watcher of shelf.watchers) watcher.put(key, known ? "Modified" : "Added", object);
  }

  /** Removes an object, where there is one, and tells the watchers, with the version of the deletion as Kubernetes does. */
  delete(kind: Kind, key: string, resourceVersion: string): void {
    const shelf = this.#shelf(kind);
    const object = shelf.objects.get(key);
    if (object === undefined) return;
    shelf.objects.delete(key);
    shelf.keys.splice(lowerBound(shelf.keys, key), 1);
    shelf.lists.clear();
    const last = Object.freeze({ ...object, metadata: Object.freeze({ ...object.metadata, resourceVersion }) });
    for (const watcher of shelf.watchers) watcher.delete(key, last);
  }

  /** See `Store.watch`. The watch begins with this call, not with the first `next()`. */
  watch<K extends Kind>(kind: K, signal: AbortSignal): AsyncIterableIterator<WatchEvent<K>> {
    const shelf = this.#shelf(kind);
    const initial = shelf.keys.flatMap((key): [string, ResourceOf[K]][] => {
      const object = shelf.objects.get(key);
      return object === undefined ? [] : [[key, object]];
    });
    const abort = (): void => watcher.end();
    const watcher = new Watcher<K>(initial, () => {
      shelf.watchers.delete(watcher);
      signal.removeEventListener("abort", abort);
    });
    shelf.watchers.add(watcher);
    if (signal.aborted) watcher.end();
    else signal.addEventListener("abort", abort, { once: true });
    return watcher;
  }

  /** Ends every watch. */
  close(): void {
    for (const shelf of this.#shelves.values()) for (const watcher of shelf.watchers) watcher.end();
  }

  #shelf<K extends Kind>(kind: K): Shelf<K> {
    let shelf = this.#shelves.get(kind);
    if (shelf === undefined) {
      shelf = new Shelf<Kind>();
      this.#shelves.set(kind, shelf);
    }
    return shelf as unknown as Shelf<K>;
  }
}
