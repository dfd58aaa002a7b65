import { recordKey, type BaseRecord, type RecordKind, type Records } from "./records.ts";

/** The records of one kind, as a cache keeps them. */
export interface Table<R> {
  get(namespace: string, name: string): R | undefined;
  values(): Iterable<R>;
  /** Calls back after a record came, changed or went, until the returned function is called. */
  onChange(listener: (before: R | undefined, after: R | undefined) => void): () => void;
  /**
   * Everything up to this resourceVersion is known: what was written at it and is not there has gone since. Undefined
   * before everything was read once.
   */
  readonly resourceVersion: string | undefined;
  /** Calls back after `resourceVersion` has moved on, until the returned function is called. */
  onProgress(listener: () => void): () => void;
}

export type Tables = { readonly [K in RecordKind]: Table<Records[K]> };

/** How far the records of a kind are known, and who waits for more. */
export class Progress {
  readonly #listeners = new Set<() => void>();
  #resourceVersion: string | undefined;

  get resourceVersion(): string | undefined {
    return this.#resourceVersion;
  }

  set(resourceVersion: string): void {
    this.#resourceVersion = resourceVersion;
    for (const listener of this.#listeners) listener();
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

/** Records in a map. */
export class MemoryTable<R extends BaseRecord> implements Table<R> {
  readonly #records = new Map<string, R>();
  readonly #listeners = new Set<(before: R | undefined, after: R | undefined) => void>();
  readonly #progress = new Progress();

  get size(): number {
    return this.#records.size;
  }

  get(namespace: string, name: string): R | undefined {
    return this.#records.get(recordKey(namespace, name));
  }

  values(): Iterable<R> {
    return this.#records.values();
  }

  put(record: R): void {
    const key = recordKey(record.namespace, record.name);
    const before = this.#records.get(key);
    this.#records.set(key, record);
    for (const listener of this.#listeners) listener(before, record);
  }

  delete(namespace: string, name: string): void {
    const key = recordKey(namespace, name);
    const before = this.#records.get(key);
    if (before === undefined) return;
    this.#records.delete(key);
    for (const listener of this.#listeners) listener(before, undefined);
  }

  onChange(listener: (before: R | undefined, after: R | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  get resourceVersion(): string | undefined {
    return this.#progress.resourceVersion;
  }

  progress(resourceVersion: string): void {
    this.#progress.set(resourceVersion);
  }

  onProgress(listener: () => void): () => void {
    return this.#progress.listen(listener);
  }
}
