import { Interner } from "./interner.ts";
import type { BaseRecord } from "./records.ts";
import type { Listed, ReflectorSink } from "./reflector.ts";
import { Progress, type Table } from "./table.ts";

export interface CacheOptions<T extends Listed, R extends BaseRecord, I extends string> {
  /**
   * What is kept of an object. `before` is the record that it takes the place of. Must not hold on to `object`. Strings
   * and nested values that are equal are stored once, also across caches that share an interner, and frozen.
   */
  readonly project: (object: T, before: R | undefined) => R;
  /** Ways to find records: each gives the values under which a record is found, such as its node's name. */
  readonly indexes?: Readonly<Record<I, (record: R) => readonly (string | undefined)[]>>;
  /** Shared by caches whose records have much in common. */
  readonly interner?: Interner;
  /** Told when an object cannot be projected: it is then left out, or stays as it was. */
  readonly onError?: (object: T, error: unknown) => void;
}

/** Records under one value of an index; one alone is kept without a set around it, which most owners' would be. */
type Bucket<R> = R | Set<R>;

/** Records by the values of one index. */
class Index<R extends BaseRecord> {
  readonly #valuesOf: (record: R) => readonly (string | undefined)[];
  readonly #buckets = new Map<string, Bucket<R>>();

  constructor(valuesOf: (record: R) => readonly (string | undefined)[]) {
    this.#valuesOf = valuesOf;
  }

  add(record: R): void {
    for (const value of this.#valuesOf(record)) {
      if (value === undefined) continue;
      const bucket = this.#buckets.get(value);
      if (bucket === undefined || bucket === record) this.#buckets.set(value, record);
      else if (bucket instanceof Set) bucket.add(record);
      else this.#buckets.set(value, new Set([bucket, record]));
    }
  }

  remove(record: R): void {
    for (const value of this.#valuesOf(record)) {
      const bucket = value === undefined ? undefined : this.#buckets.get(value);
      if (value === undefined || bucket === undefined) continue;
      if (bucket === record) this.#buckets.delete(value);
      else if (bucket instanceof Set && bucket.delete(record) && bucket.size === 0) this.#buckets.delete(value);
    }
  }

  find(value: string): readonly R[] {
    const bucket = this.#buckets.get(value);
    return bucket === undefined ? [] : bucket instanceof Set ? [...bucket] : [bucket];
  }
}

/**
 * Records of the objects of one collection, kept by a `Reflector`. A listing is compared with what is there, object by
 * object, so that there are never two copies of everything.
 */
export class Cache<T extends Listed, R extends BaseRecord, I extends string = never> implements ReflectorSink<T>, Table<R> {
  readonly #project: (object: T, before: R | undefined) => R;
  readonly #interner: Interner;
  readonly #onError: (object: T, error: unknown) => void;
  /** By namespace, then name: no key of its own for each record. */
  readonly #records = new Map<string, Map<string, R>>();
  readonly #indexes: Readonly<Record<string, Index<R>>>;
  readonly #listeners = new Set<(before: R | undefined, after: R | undefined) => void>();
  readonly #progress = new Progress();
  /** While a listing is under way: what it has not come to yet. */
  #unseen: Set<R> | undefined;
  #size = 0;

  constructor(options: CacheOptions<T, R, I>) {
    this.#project = options.project;
    this.#interner = options.interner ?? new Interner();
    this.#onError = options.onError ?? (() => {});
    const indexes: [string, (record: R) => readonly (string | undefined)[]][] = Object.entries(options.indexes ?? {});
    this.#indexes = Object.fromEntries(indexes.map(([name, valuesOf]) => [name, new Index<R>(valuesOf)]));
  }

  /** How many records there are. */
  get size(): number {
    return this.#size;
  }

  /** The record, or undefined. `namespace` is empty for what belongs to none. */
  get(namespace: string, name: string): R | undefined {
    return this.#records.get(namespace)?.get(name);
  }

  /** Every record, or those of one namespace, in no order. Live: do not change the cache while going through it. */
  *values(namespace?: string): Generator<R> {
    if (namespace !== undefined) yield* this.#records.get(namespace)?.values() ?? [];
    else for (const records of this.#records.values()) yield* records.values();
  }

  /** The records under a value of an index, in no order. */
  find(index: I, value: string): readonly R[] {
    return this.#indexes[index]?.find(value) ?? [];
  }

  /**
   * Calls back after a record came, changed or went, until the returned function is called. One that takes the name of
   * another comes after that has gone.
   */
  onChange(listener: (before: R | undefined, after: R | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  get resourceVersion(): string | undefined {
    return this.#progress.resourceVersion;
  }

  onProgress(listener: () => void): () => void {
    return this.#progress.listen(listener);
  }

  progress(resourceVersion: string): void {
    this.#progress.set(resourceVersion);
  }

  startListing(): void {
    this.#unseen = new Set(this.values());
  }

  put(object: T): void {
    const { namespace = "", name, uid, resourceVersion } = object.metadata;
    const old = this.get(namespace, name);
    if (old !== undefined) {
      this.#unseen?.delete(old);
      // Told again what is known, as by most of a listing.
      if (old.resourceVersion === resourceVersion && old.uid === uid) return;
    }
    let record: R;
    try {
      record = this.#interner.compact(this.#project(object, old));
    } catch (error) {
      this.#onError(object, error);
      return;
    }
    // Deleted, and made anew under the same name.
    if (old !== undefined && old.uid !== uid) this.#remove(old);
    this.#store(record, old !== undefined && old.uid === uid ? old : undefined);
  }

  delete(object: T): void {
    const { namespace = "", name, uid } = object.metadata;
    const old = this.get(namespace, name);
    if (old === undefined) return;
    this.#unseen?.delete(old);
    // A late word of the one that had this name before.
    if (old.uid === uid) this.#remove(old);
  }

  endListing(): void {
    for (const record of this.#unseen ?? []) this.#remove(record);
    this.#unseen = undefined;
  }

  #store(record: R, old: R | undefined): void {
    let records = this.#records.get(record.namespace);
    if (records === undefined) this.#records.set(record.namespace, (records = new Map()));
    records.set(record.name, record);
    for (const index of Object.values(this.#indexes)) {
      if (old !== undefined) index.remove(old);
      index.add(record);
    }
    if (old === undefined) this.#size += 1;
    this.#tell(old, record);
  }

  #remove(record: R): void {
    const records = this.#records.get(record.namespace);
    records?.delete(record.name);
    if (records?.size === 0) this.#records.delete(record.namespace);
    for (const index of Object.values(this.#indexes)) index.remove(record);
    this.#size -= 1;
    this.#tell(record, undefined);
  }

  #tell(before: R | undefined, after: R | undefined): void {
    for (const listener of this.#listeners) listener(before, after);
  }
}
