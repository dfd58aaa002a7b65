/** Values of each sort that are remembered. */
const LIMIT = 200_000;
/** Values whose text is longer than this are seldom equal to another. */
const LONGEST = 512;
/** Fields whose values are an object's own. */
const UNIQUE: ReadonlySet<string> = new Set(["name", "uid", "resourceVersion"]);

/** Values by their text. What was not asked for in a long time is forgotten: when one half is full, the older one goes. */
class Memory<V> {
  readonly #half: number;
  #young = new Map<string, V>();
  #old = new Map<string, V>();

  constructor(limit: number) {
    this.#half = Math.max(1, limit / 2);
  }

  get(text: string, make: () => V): V {
    const known = this.#young.get(text);
    if (known !== undefined) return known;
    const value = this.#old.get(text) ?? make();
    if (this.#young.size >= this.#half) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(text, value);
    return value;
  }
}

/**
 * Stores equal strings and equal nested values once: pods of one workload share labels, owner, node and phase.
 *
 * It forgets what has not been asked for in a long time, so that it does not grow with a cluster's history. What was
 * forgotten and comes again is stored a second time, which costs memory but is never wrong.
 */
export class Interner {
  readonly #texts: Memory<string>;
  readonly #values: Memory<unknown>;

  /** @param limit - strings, and nested values, that are remembered. Default 200,000 of each. */
  constructor(limit = LIMIT) {
    this.#texts = new Memory(limit);
    this.#values = new Memory(limit);
  }

  /**
   * A frozen copy of the record in which each value is one that is known already, where there is an equal one. The
   * record's own name, uid and resourceVersion are taken as they are. It holds on to nothing that the record was made of.
   */
  compact<R extends object>(record: R): R {
    const result: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(record)) {
      const kept = UNIQUE.has(key) ? value : this.#known(value);
      // Assigned, it would be the prototype and no field.
      if (key === "__proto__") Object.defineProperty(result, key, { value: kept, enumerable: true });
      else result[key] = kept;
    }
    return Object.freeze(result) as R;
  }

  #known(value: unknown): unknown {
    if (typeof value === "string") return value.length > LONGEST ? value : this.#texts.get(value, () => value);
    if (typeof value !== "object" || value === null) return value;
    const text = JSON.stringify(value);
    return text.length > LONGEST ? this.#nested(value) : this.#values.get(text, () => this.#nested(value));
  }

  #nested(value: object): unknown {
    if (Array.isArray(value)) return Object.freeze(value.map((item) => this.#known(item)));
    return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, child]) => [key, this.#known(child)])));
  }
}
