import type { Kind } from "../api/meta.ts";
import type { ResourceOf } from "../api/resources.ts";

export type WatchEvent<K extends Kind> =
  | { readonly type: "Added" | "Modified" | "Deleted"; readonly object: ResourceOf[K] }
  /** Everything that exists has been delivered; what follows is news. */
  | { readonly type: "Synced" };

/**
 * Where resources live, with the semantics of the Kubernetes API.
 *
 * Every method rejects with a `NightshiftError`: `NOT_FOUND`, `ALREADY_EXISTS`, `CONFLICT` (the resourceVersion is no
 * longer the newest), `IMMUTABLE` (a change of a Remediation's spec), `INVALID` (the schema refuses it) or
 * `STORE_UNAVAILABLE` (it may or may not have taken effect).
 * A write that resolved is durable: it survives `kill -9` and a loss of power.
 * Objects that are handed out are copies, or frozen: changing one changes nothing.
 */
export interface Store {
  /** The object, or undefined where there is none. */
  get<K extends Kind>(kind: K, namespace: string, name: string): Promise<ResourceOf[K] | undefined>;
  /** All objects of a kind, of one namespace or all, ordered by namespace and name. */
  list<K extends Kind>(kind: K, namespace?: string): Promise<readonly ResourceOf[K][]>;
  /** Stores a new object and returns it with uid, resourceVersion, generation 1 and creationTimestamp. */
  create<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]>;
  /** Replaces an object. Its metadata.resourceVersion must be the newest. `generation` grows when spec changes. */
  update<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]>;
  /** Deletes an object; with `resourceVersion`, only if that is the newest. */
  delete(kind: Kind, namespace: string, name: string, resourceVersion?: string): Promise<void>;
  /** What exists, then `Synced`, then every change in order, until `signal` aborts. May coalesce changes of one object. */
  watch<K extends Kind>(kind: K, signal: AbortSignal): AsyncIterable<WatchEvent<K>>;
}
