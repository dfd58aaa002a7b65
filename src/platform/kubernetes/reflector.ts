import { messageOf } from "../../api/errors.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import { Backoff, type BackoffOptions } from "./backoff.ts";
import type { KubeClient } from "./client.ts";
import { isGone, KubeApiError } from "./errors.ts";
import type { Gate } from "./gate.ts";

/** Objects a page, as client-go. */
const PAGE_SIZE = 500;
/** Longest time for one page (ms). */
const PAGE_TIMEOUT_MS = 60_000;
/** Times that a listing whose pages have expired is begun anew in pages, before it is asked for in one piece. */
const PAGED_TRIES = 2;
/** A watch lasts at least this long (s), and up to twice that, so that not all end together; as client-go. */
const WATCH_SECONDS = 300;
/** A watch that ends sooner than this counts as a failure (ms): whatever ends it would end the next one, too. */
const SHORT_WATCH_MS = 1_000;
/** Failures in a row of a watch that the API server refuses, after which its resourceVersion is given up. */
const REFUSED_WATCHES = 5;

/** The part of an object that the reflector itself reads. */
export interface Listed {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly uid: string; readonly resourceVersion: string };
}

/** Who keeps what the reflector finds. Its methods must not throw. */
export interface ReflectorSink<T> {
  /** A whole listing begins, also one that follows another that never came to its end. Nothing is gone yet. */
  startListing(): void;
  /** The object exists, as it is here. May be told again what it knows. */
  put(object: T): void;
  /** The object is gone; `object` is its last state. May be told of one that it never knew. */
  delete(object: T): void;
  /** The listing is whole: what was not put since it began is gone. */
  endListing(): void;
  /** Everything up to this resourceVersion has been told: by a listing that is whole, an event, or a bookmark. */
  progress?(resourceVersion: string): void;
}

interface List<T> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items?: readonly T[] | null;
}

export interface ReflectorOptions<T extends Listed> {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  /** Path of the collection, such as `/api/v1/pods`. */
  readonly path: string;
  /** `labelSelector`, `fieldSelector`. */
  readonly query?: { readonly labelSelector?: string; readonly fieldSelector?: string };
  /** Which form of the objects is taken. Default: all of them. */
  readonly accept?: { readonly list: string; readonly watch: string };
  readonly sink: ReflectorSink<T>;
  /** Shared by the reflectors of a process, so that they do not all list at once when the API server comes back. */
  readonly gate?: Gate;
  /** Default 500. */
  readonly pageSize?: number;
  /** Default 300. */
  readonly watchSeconds?: number;
  readonly backoff?: BackoffOptions;
  /** Told of each failure, and how long the reflector rests after it (ms). */
  readonly onError?: (error: KubeApiError, retryInMs: number) => void;
}

/**
 * Keeps a sink in step with a collection of the API server: lists it in pages, then watches it from where the listing
 * was, and goes on from there when a watch ends or breaks. Only when the API server no longer knows that place is it
 * listed again; what was deleted in between is found by that.
 *
 * A listing is a consistent read, so it is never older than what was delivered before. resourceVersions are opaque: they
 * are sent back, never compared by order.
 */
export class Reflector<T extends Listed> {
  readonly #options: ReflectorOptions<T>;
  readonly #backoff: Backoff;
  readonly #synced: Promise<void>;
  #resolveSynced: () => void = () => {};
  /** Where to go on from; undefined when it must be listed. */
  #resourceVersion: string | undefined;
  /** Monotonic ms at which the sink is known to have been in step with the API server. */
  #provenAt: number | undefined;
  #refused = 0;
  /** Whether the last watch lasted for a while. */
  #lasted = false;
  #listings = 0;
  #watches = 0;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, options.backoff);
    this.#synced = new Promise((resolve) => {
      this.#resolveSynced = resolve;
    });
  }

  /** Resolves when the first listing is whole. */
  get synced(): Promise<void> {
    return this.#synced;
  }

  get hasSynced(): boolean {
    return this.#provenAt !== undefined;
  }

  /** When the sink was last known to be in step (monotonic ms): the beginning of a listing, an event or a bookmark. */
  get lastSyncedAt(): number | undefined {
    return this.#provenAt;
  }

  /** How many listings and watches were begun, for metrics. */
  get counts(): { readonly listings: number; readonly watches: number } {
    return { listings: this.#listings, watches: this.#watches };
  }

  /**
   * Whether the sink was in step with the API server at some time within the last `maxAgeMs`. In a quiet collection the
   * API server's bookmarks prove it, about once a minute: a shorter time than 90 s is not fair to ask for.
   */
  isFresh(maxAgeMs: number): boolean {
    return this.#provenAt !== undefined && this.#options.clock.monotonic() - this.#provenAt <= maxAgeMs;
  }

  /** Works until `signal` aborts, then resolves. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, onError } = this.#options;
    while (!signal.aborted) {
      let pause: number;
      try {
        this.#lasted = false;
        if (this.#resourceVersion === undefined) await (this.#options.gate?.run(() => this.#list(signal)) ?? this.#list(signal));
        const begunAt = clock.monotonic();
        try {
          await this.#watch(signal);
        } finally {
          this.#lasted = clock.monotonic() - begunAt >= SHORT_WATCH_MS;
        }
        pause = this.#rest(this.#lasted);
      } catch (thrown) {
        if (signal.aborted) return;
        const error = thrown instanceof KubeApiError ? thrown : new KubeApiError("KUBE_PROTOCOL", messageOf(thrown), { cause: thrown });
        this.#decide(error);
        const rest = this.#rest(this.#lasted && error.code === "KUBE_CONNECTION_LOST");
        pause = Math.max(rest, error.retryAfterMs === undefined ? 0 : error.retryAfterMs * (1 + random.next() * 0.1));
        onError?.(error, pause);
      }
      await sleep(clock, pause, signal);
    }
  }

  /**
   * How long to rest (ms). A watch that worked for a while and came to the server's time limit, or lost its connection,
   * goes on at once, only not at the same moment as all others; if it cannot, that is a first failure. One that breaks
   * after its first event, again and again, does not work.
   */
  #rest(hasWorked: boolean): number {
    if (!hasWorked) return this.#backoff.next();
    this.#backoff.reset();
    return this.#options.random.next() * 100;
  }

  /** Whether the next try may go on from where it was, or must list. */
  #decide(error: KubeApiError): void {
    const isRefused = error.statusCode !== undefined && !error.isTransient;
    this.#refused = isRefused ? this.#refused + 1 : 0;
    // An API server restored from a backup may never reach the version that was seen before, nor call it gone.
    const isAhead = error.status?.details?.causes?.some((cause) => cause.reason === "ResourceVersionTooLarge") ?? false;
    const isLost = error.code === "KUBE_GONE" || error.code === "KUBE_BAD_REQUEST" || isAhead;
    if (isLost || this.#refused >= REFUSED_WATCHES) this.#resourceVersion = undefined;
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { clock, sink, pageSize = PAGE_SIZE } = this.#options;
    this.#listings += 1;
    for (let tries = 1; !signal.aborted; tries += 1) {
      const begunAt = clock.monotonic();
      sink.startListing();
      try {
        const resourceVersion = await this.#pages(tries > PAGED_TRIES ? undefined : pageSize, signal);
        sink.endListing();
        sink.progress?.(resourceVersion);
        this.#resourceVersion = resourceVersion;
        this.#provenAt = begunAt;
        this.#resolveSynced();
        return;
      } catch (error) {
        // The pages' snapshot was compacted away: from the beginning, and at last in one piece.
        if (!isGone(error) || tries > PAGED_TRIES) throw error;
      }
    }
  }

  /** Every page of a listing. Returns the resourceVersion that they are of. */
  async #pages(limit: number | undefined, signal: AbortSignal): Promise<string> {
    const { client, path, query, accept, sink } = this.#options;
    let size = limit;
    let token: string | undefined;
    for (;;) {
      let page: List<T>;
      try {
        page = await client.request<List<T>>({
          method: "GET",
          path,
          query: { ...query, limit: size, continue: token },
          ...(accept === undefined ? {} : { accept: accept.list }),
          timeoutMs: PAGE_TIMEOUT_MS,
          signal,
        });
      } catch (error) {
        // Objects that are very large: fewer at once.
        const isTooLarge = error instanceof KubeApiError && error.code === "KUBE_RESPONSE_TOO_LARGE";
        if (!isTooLarge || size === undefined || size === 1) throw error;
        size = Math.ceil(size / 4);
        continue;
      }
      for (const item of page.items ?? []) sink.put(item);
      token = page.metadata.continue;
      if (token === undefined || token === "") return page.metadata.resourceVersion;
    }
  }

  /** Watches until the watch ends. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { client, clock, random, path, query, accept, sink, watchSeconds = WATCH_SECONDS } = this.#options;
    this.#watches += 1;
    const watch = client.watch<T>(
      path,
      {
        ...query,
        resourceVersion: this.#resourceVersion,
        allowWatchBookmarks: true,
        timeoutSeconds: Math.ceil(watchSeconds * (1 + random.next())),
      },
      signal,
      accept?.watch,
    );
    for await (const { type, object } of watch) {
      if (type === "DELETED") sink.delete(object);
      else if (type !== "BOOKMARK") sink.put(object);
      sink.progress?.(object.metadata.resourceVersion);
      this.#resourceVersion = object.metadata.resourceVersion;
      this.#provenAt = clock.monotonic();
      this.#refused = 0;
    }
  }
}
