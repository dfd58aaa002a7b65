import type { Kind } from "../../src/api/meta.ts";
import type { ResourceOf } from "../../src/api/resources.ts";
import { admitCreate, admitDelete, admitUpdate, resourceKey, validated, type Lookup } from "../../src/platform/admission.ts";
import { ResourceCache } from "../../src/platform/resource-cache.ts";
import type { Clock } from "../../src/ports/clock.ts";
import type { Random } from "../../src/ports/random.ts";
import type { Store, WatchEvent } from "../../src/ports/store.ts";
import { ManualClock } from "./manual-clock.ts";
import { seededRandom } from "./seeded-random.ts";

/** A write that is about to happen. */
export interface Write {
  readonly verb: "create" | "update" | "delete";
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
}

/** A store in memory: for unit tests, deterministic with a manual clock and a seeded random. */
export class MemoryStore implements Store {
  /** Called before each write. What it throws, the write rejects with; what it returns is awaited first. */
  beforeWrite: ((write: Write) => void | Promise<void>) | undefined;
  /** Writes that took effect, oldest first. */
  readonly writes: Write[] = [];
  readonly #cache = new ResourceCache();
  readonly #clock: Clock;
  readonly #random: Random;
  #version = 0;

  constructor(clock: Clock = new ManualClock(), random: Random = seededRandom()) {
    this.#clock = clock;
    this.#random = random;
  }

  async get<K extends Kind>(kind: K, namespace: string, name: string): Promise<ResourceOf[K] | undefined> {
    return this.#cache.get(kind, resourceKey(kind, namespace, name));
  }

  async list<K extends Kind>(kind: K, namespace?: string): Promise<readonly ResourceOf[K][]> {
    return this.#cache.list(kind, namespace);
  }

  async create<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    await this.#before("create", copy);
    const stored = admitCreate(this.#lookup, copy, () => ({
      uid: this.#random.uuid(),
      resourceVersion: this.#nextVersion(),
      now: this.#clock.now(),
    }));
    this.#put("create", stored);
    return stored;
  }

  async update<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    await this.#before("update", copy);
    const before = this.#version;
    const stored = admitUpdate(this.#lookup, copy, () => this.#nextVersion());
    if (this.#version !== before) this.#put("update", stored);
    return stored;
  }

  async delete(kind: Kind, namespace: string, name: string, resourceVersion?: string): Promise<void> {
    const write: Write = { verb: "delete", kind, namespace, name };
    await this.beforeWrite?.(write);
    admitDelete(this.#lookup, kind, namespace, name, resourceVersion);
    this.#cache.delete(kind, resourceKey(kind, namespace, name), this.#nextVersion());
    this.writes.push(write);
  }

  watch<K extends Kind>(kind: K, signal: AbortSignal): AsyncIterable<WatchEvent<K>> {
    return this.#cache.watch(kind, signal);
  }

  readonly #lookup: Lookup = (kind, key) => this.#cache.get(kind, key);

  async #before(verb: "create" | "update", object: ResourceOf[Kind]): Promise<void> {
    if (this.beforeWrite)
      await this.beforeWrite({ verb, kind: object.kind, namespace: object.metadata.namespace, name: object.metadata.name });
  }

  #put(verb: "create" | "update", stored: ResourceOf[Kind]): void {
    this.#cache.put(stored);
    this.writes.push({ verb, kind: stored.kind, namespace: stored.metadata.namespace, name: stored.metadata.name });
  }

  #nextVersion(): string {
    this.#version += 1;
    return String(this.#version);
  }
}
