import type { Kind } from "../../api/meta.ts";
import type { Resource, ResourceOf } from "../../api/resources.ts";
import { admitCreate, admitDelete, admitUpdate, resourceKey, validated, type Lookup } from "../admission.ts";
import { KubeApiError } from "../kubernetes/errors.ts";
import { ResourceCache } from "../resource-cache.ts";
import type { SimRandom } from "./random.ts";
import type { Simulation } from "./simulation.ts";

/** A change of a resource, as it took effect. */
export interface Change {
  readonly type: "Added" | "Modified" | "Deleted";
  readonly object: Resource;
  readonly before: Resource | undefined;
}

/** Nightshift's resources as they truly are, with the rules of the Kubernetes API and of the CRDs. */
export class ApiServer {
  readonly #cache = new ResourceCache();
  readonly #simulation: Simulation;
  readonly #random: SimRandom;
  readonly #listeners = new Set<(change: Change) => void>();
  #version = 0;

  constructor(simulation: Simulation, random: SimRandom) {
    this.#simulation = simulation;
    this.#random = random;
  }

  /** Counts the changes. */
  get version(): number {
    return this.#version;
  }

  /** Calls back at the moment of each change. */
  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  get<K extends Kind>(kind: K, namespace: string, name: string): ResourceOf[K] | undefined {
    return this.#cache.get(kind, resourceKey(kind, namespace, name));
  }

  list<K extends Kind>(kind: K, namespace?: string): readonly ResourceOf[K][] {
    return this.#cache.list(kind, namespace);
  }

  create<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): ResourceOf[K] {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    const stored = admitCreate(this.#lookup, copy, () => ({
      uid: this.#random.uuid(),
      resourceVersion: String(++this.#version),
      now: this.#simulation.now,
    }));
    this.#cache.put(stored);
    this.#tell({ type: "Added", object: stored, before: undefined });
    return stored;
  }

  update<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): ResourceOf[K] {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    const before = this.get<Kind>(object.kind, object.metadata.namespace, object.metadata.name);
    const version = this.#version;
    const stored = admitUpdate(this.#lookup, copy, () => {
      refuseOlder(copy, before);
      return String(++this.#version);
    });
    if (this.#version !== version) {
      this.#cache.put(stored);
      this.#tell({ type: "Modified", object: stored, before });
    }
    return stored;
  }

  delete(kind: Kind, namespace: string, name: string, resourceVersion?: string): void {
    const before = admitDelete(this.#lookup, kind, namespace, name, resourceVersion);
    this.#cache.delete(kind, resourceKey(kind, namespace, name), String(++this.#version));
    this.#tell({ type: "Deleted", object: before, before });
  }

  readonly #lookup: Lookup = (kind, key) => this.#cache.get(kind, key);

  #tell(change: Change): void {
    for (const listener of this.#listeners) listener(change);
  }
}

/** The rules of the Remediation's CRD that look at what was stored before (see `remediationStatusSchema`). */
function refuseOlder(copy: Resource, before: Resource | undefined): void {
  if (copy.kind !== "Remediation" || before?.kind !== "Remediation") return;
  const [old, now] = [before.status, copy.status];
  if (old.epoch !== undefined && (now.epoch ?? -1) < old.epoch)
    throw new KubeApiError("KUBE_INVALID", "a later leader has written this status: the writer was deposed", { statusCode: 422 });
  if (now.revision < old.revision)
    throw new KubeApiError("KUBE_INVALID", "the status was written again since: its revision never goes back", { statusCode: 422 });
}
