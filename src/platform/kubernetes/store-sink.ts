import { messageOf } from "../../api/errors.ts";
import type { Kind } from "../../api/meta.ts";
import type { ResourceOf } from "../../api/resources.ts";
import { resourceKey } from "../admission.ts";
import type { ResourceCache } from "../resource-cache.ts";
import { OwnWrites } from "./own-writes.ts";
import type { ReflectorSink } from "./reflector.ts";
import { foreignMetadata, readResource, type ForeignMetadata, type RawResource } from "./store-objects.ts";

/** An object that must be read again. `uid` is that of the one that was listed, if any. */
export interface Doubt {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string | undefined;
}

/**
 * Puts what a reflector finds of one kind into the cache, and what the store writes before that comes back by the watch.
 * An object that does not fit its schema is reported once and kept out: what is not understood is not acted on.
 */
export class StoreSink implements ReflectorSink<RawResource> {
  readonly #cache: ResourceCache;
  readonly #kind: Kind;
  readonly #onError: (message: string) => void;
  readonly #own = new OwnWrites();
  /** Versions of objects that are there and could not be read, by key. */
  readonly #unreadable = new Map<string, string>();
  readonly #foreign = new Map<string, ForeignMetadata>();
  /** Keys that exist, as far as this part of the resources goes. */
  readonly #keys = new Set<string>();
  /** Keys of which nothing is shown until a request has ended, with what is to be shown of them then. */
  readonly #held = new Map<string, (() => void) | undefined>();
  /** While a listing is under way: what it has come to, and what was written here meanwhile. */
  #listing: { readonly listed: Map<string, RawResource>; readonly written: Set<string> } | undefined;
  readonly #onDoubt: (about: Doubt) => void;

  /**
   * @param on.error - told of what cannot be read.
   * @param on.doubt - to read an object anew that was written while everything was listed: the request has begun, as by
   * `begin`.
   */
  constructor(
    cache: ResourceCache,
    kind: Kind,
    on: {
      readonly error: (message: string) => void;
      readonly doubt: (about: Doubt) => void;
    },
  ) {
    this.#cache = cache;
    this.#kind = kind;
    this.#onError = on.error;
    this.#onDoubt = on.doubt;
  }

  startListing(): void {
    this.#own.startListing();
    this.#listing = { listed: new Map(), written: new Set() };
  }

  put(raw: RawResource): void {
    const key = this.#keyOf(raw);
    const { uid, resourceVersion } = raw.metadata;
    this.#listing?.listed.set(key, raw);
    // It may be older than what was written; that is found out at the end.
    if (this.#listing?.written.has(key)) return;
    if (this.#own.admits(key, { uid, resourceVersion, isDeleted: false })) this.#whenWhole(key, () => this.#store(key, raw));
  }

  delete(raw: RawResource): void {
    const key = this.#keyOf(raw);
    const { uid, resourceVersion } = raw.metadata;
    if (!this.#own.admits(key, { uid, resourceVersion, isDeleted: true })) return;
    this.#whenWhole(key, () => {
      const known = this.#cache.get(this.#kind, key);
      // A late word of the one that had this name before.
      if (known === undefined || known.metadata.uid === uid) this.#remove(key, resourceVersion);
    });
  }

  endListing(): void {
    const { listed, written } = this.#listing ?? { listed: new Map<string, RawResource>(), written: new Set<string>() };
    this.#listing = undefined;
    this.#own.endListing();
    for (const key of this.#keys) if (!listed.has(key) && !written.has(key)) this.#remove(key);
    for (const key of written) {
      const raw = listed.get(key);
      this.#own.begin(key, raw?.metadata.resourceVersion);
      this.#held.set(key, () => (raw === undefined ? this.#remove(key) : this.#store(key, raw)));
      const [namespace = "", name = ""] = key.split("\0");
      this.#onDoubt({ namespace, name, uid: raw?.metadata.uid });
    }
  }

  /** A request about an object begins. With `hold`, nothing is told of it until the request has ended. */
  begin(key: string, hold = false): void {
    this.#own.begin(key, this.#cache.get(this.#kind, key)?.metadata.resourceVersion ?? this.#unreadable.get(key));
    if (hold) this.#held.set(key, undefined);
  }

  /** The request came to nothing, or nobody knows what it came to. */
  failed(key: string): void {
    this.#own.failed(key);
    this.#release(key, true);
  }

  /** The API server answered with the object. True when it must be read again before it is known what is newest. */
  answered(raw: RawResource): boolean {
    const key = this.#keyOf(raw);
    const { uid, resourceVersion } = raw.metadata;
    const verdict = this.#own.answered(key, { uid, resourceVersion, isDeleted: false });
    this.#release(key, verdict !== "News");
    if (verdict === "News") {
      this.#listing?.written.add(key);
      this.#store(key, raw);
    }
    return verdict === "Doubtful";
  }

  /** The API server answered that the object of this uid is gone. True when it must be read again. */
  gone(key: string, uid: string): boolean {
    const verdict = this.#own.answered(key, { uid, resourceVersion: "", isDeleted: true });
    this.#release(key, verdict !== "News");
    if (verdict === "News" && this.#cache.get(this.#kind, key)?.metadata.uid === uid) {
      this.#listing?.written.add(key);
      this.#remove(key);
    }
    return verdict === "Doubtful";
  }

  /** What is not the loop's in an object's metadata. */
  foreign(key: string): ForeignMetadata | undefined {
    return this.#foreign.get(key);
  }

  #keyOf({ metadata: { namespace = "default", name } }: RawResource): string {
    return resourceKey(this.#kind, namespace, name);
  }

  #whenWhole(key: string, take: () => void): void {
    if (this.#held.has(key)) this.#held.set(key, take);
    else take();
  }

  #release(key: string, take: boolean): void {
    const held = this.#held.get(key);
    this.#held.delete(key);
    if (take) held?.();
  }

  #store(key: string, raw: RawResource): void {
    const { uid, resourceVersion, name, namespace } = raw.metadata;
    const known = this.#cache.get(this.#kind, key);
    const version = known?.metadata.resourceVersion ?? this.#unreadable.get(key);
    if (version === resourceVersion && (known === undefined || known.metadata.uid === uid)) return;
    let resource: ResourceOf[Kind];
    try {
      resource = readResource(this.#kind, raw);
    } catch (error) {
      this.#remove(key);
      this.#keys.add(key);
      this.#unreadable.set(key, resourceVersion);
      this.#onError(`${this.#kind} ${namespace === undefined ? "" : `${namespace}/`}${name} is left out: ${messageOf(error)}`);
      return;
    }
    // Deleted, and made anew under the same name.
    if (known !== undefined && known.metadata.uid !== uid) this.#remove(key);
    this.#keys.add(key);
    this.#unreadable.delete(key);
    const foreign = foreignMetadata(raw);
    if (foreign === undefined) this.#foreign.delete(key);
    else this.#foreign.set(key, foreign);
    this.#cache.put(resource);
  }

  #remove(key: string, resourceVersion?: string): void {
    this.#keys.delete(key);
    this.#unreadable.delete(key);
    this.#foreign.delete(key);
    const known = this.#cache.get(this.#kind, key);
    if (known !== undefined) this.#cache.delete(this.#kind, key, resourceVersion ?? known.metadata.resourceVersion ?? "");
  }
}
