import type { Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import type { BackoffOptions } from "./backoff.ts";
import { Cache } from "./cache.ts";
import type { KubeClient } from "./client.ts";
import type { KubeApiError } from "./errors.ts";
import { Gate } from "./gate.ts";
import { Interner } from "./interner.ts";
import { RECORD_KINDS, RESOURCES, type RecordKind, type Records } from "./records.ts";
import { Reflector, type Listed } from "./reflector.ts";
import type { Tables } from "./table.ts";

/** Listings at once: the API server and this process' memory bear the largest two together. */
const LISTINGS = 2;

export interface CachesOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  /** Told of each failure, and how long that kind's reflector rests after it (ms). It goes on by itself. */
  readonly onError: (kind: RecordKind, error: KubeApiError, retryInMs: number) => void;
  /** Told of an object that cannot be read: it is left out, or stays as it was. */
  readonly onUnreadable: (kind: RecordKind, name: string, error: unknown) => void;
  readonly pageSize?: number;
  readonly backoff?: BackoffOptions;
}

/** What the loop reads of a cluster, in memory: a cache of each kind, kept in step by a reflector. */
export class Caches {
  readonly tables: Tables;
  readonly #reflectors: readonly Reflector<Listed>[];

  constructor(options: CachesOptions) {
    const { client, clock, random, onError, onUnreadable, pageSize, backoff } = options;
    const gate = new Gate(LISTINGS);
    const interner = new Interner();
    const made = RECORD_KINDS.map((kind) => {
      const { path, project } = RESOURCES[kind];
      const cache = new Cache<Listed, Records[RecordKind]>({
        project: project as (object: Listed, before: Records[RecordKind] | undefined) => Records[RecordKind],
        interner,
        onError: (object, error) => onUnreadable(kind, object.metadata.name, error),
      });
      const reflector = new Reflector<Listed>({
        client,
        clock,
        random,
        path,
        sink: cache,
        gate,
        onError: (error, retryInMs) => onError(kind, error, retryInMs),
        ...(pageSize === undefined ? {} : { pageSize }),
        ...(backoff === undefined ? {} : { backoff }),
      });
      return { kind, cache, reflector };
    });
    this.tables = Object.fromEntries(made.map(({ kind, cache }) => [kind, cache])) as unknown as Tables;
    this.#reflectors = made.map(({ reflector }) => reflector);
  }

  /** Resolves when everything that exists has been read once. */
  get synced(): Promise<void> {
    return Promise.all(this.#reflectors.map((reflector) => reflector.synced)).then(() => undefined);
  }

  /**
   * Whether every cache was in step with the API server at some time within the last `maxAgeMs`. Without it nothing
   * destructive may be done on what they say. See `Reflector.isFresh`.
   */
  isFresh(maxAgeMs: number): boolean {
    return this.#reflectors.every((reflector) => reflector.isFresh(maxAgeMs));
  }

  /** Works until `signal` aborts, then resolves. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#reflectors.map((reflector) => reflector.run(signal)));
  }
}
