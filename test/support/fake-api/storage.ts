import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { deepFreeze } from "../../../src/platform/admission.ts";
import { jsonPatch, mergePatch } from "./patch.ts";
import { Refusal, type KubeObject, type ResourceType, type WatchEvent } from "./types.ts";

/** One change, as the history keeps it. */
export interface Change {
  readonly version: number;
  readonly typeKey: string;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: KubeObject;
  /** What stood there before; undefined for an addition. */
  readonly old: KubeObject | undefined;
}

export interface WriteOptions {
  readonly subresource?: string | undefined;
  readonly fieldManager?: string | undefined;
  readonly dryRun?: boolean;
}

export const typeKeyOf = (type: ResourceType): string => `${type.group}/${type.plural}`;
const keyOf = (namespace: string | undefined, name: string): string => `${namespace ?? ""}/${name}`;

/**
 * The objects of a fake API server with etcd's semantics: one counter for all, a history that can be compacted.
 * resourceVersions are scrambled, so that who compares them by order is found out.
 */
export class Storage {
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #history: Change[] = [];
  readonly #versions = new Map<string, number>();
  readonly #listeners = new Set<(change: Change) => void>();
  #version = 0;
  #compactedTo = 0;
  #names = 0;
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
    this.#advance();
  }

  /** The newest version, as clients see it. */
  get version(): string {
    return scramble(this.#version);
  }

  /** Forgets all history: who watches from before is answered 410. */
  compact(): void {
    this.#history.length = 0;
    this.#compactedTo = this.#version;
  }

  /** Makes a version that is no change of anything here, as other types' writes do. */
  touch(): void {
    this.#advance();
  }

  /** Calls back with each change, until the returned function is called. */
  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get(type: ResourceType, namespace: string | undefined, name: string): KubeObject {
    const object = this.#shelf(type).get(keyOf(namespace, name));
    if (object === undefined) throw new Refusal(404, "NotFound", `${type.plural} "${name}" not found`, { name, kind: type.plural });
    return object;
  }

  /** All of a type, in the order of their keys. */
  list(type: ResourceType, namespace?: string): KubeObject[] {
    return [...this.#shelf(type)]
      .filter(([, { metadata }]) => namespace === undefined || metadata.namespace === namespace)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => object);
  }

  /** Changes after a version; throws 410 where they were compacted away. */
  since(type: ResourceType, resourceVersion: string): Change[] {
    const version = this.#versions.get(resourceVersion);
    if (version === undefined) throw new Refusal(400, "BadRequest", `invalid resource version: ${resourceVersion}`);
    if (version < this.#compactedTo) throw new Refusal(410, "Expired", `too old resource version: ${version} (${this.#compactedTo})`);
    const typeKey = typeKeyOf(type);
    return this.#history.filter((change) => change.version > version && change.typeKey === typeKey);
  }

  create(type: ResourceType, namespace: string | undefined, body: KubeObject, options: WriteOptions = {}): KubeObject {
    const object = structuredClone(body);
    object.metadata ??= { name: "" };
    const { metadata } = object;
    if (metadata.resourceVersion) throw new Refusal(400, "BadRequest", "resourceVersion should not be set on objects to be created");
    if (!metadata.name && metadata.generateName)
      metadata.name = `${metadata.generateName}${(this.#names += 1).toString(36).padStart(5, "0")}`;
    if (!metadata.name) throw new Refusal(422, "Invalid", "metadata.name: Required value: name or generateName is required");
    if (type.namespaced) metadata.namespace = namespace ?? "default";
    else delete metadata.namespace;
    if (this.#shelf(type).has(keyOf(metadata.namespace, metadata.name)))
      throw new Refusal(409, "AlreadyExists", `${type.plural} "${metadata.name}" already exists`, { name: metadata.name });
    object.apiVersion = apiVersionOf(type);
    object.kind = type.kind;
    if (type.status) delete object["status"];
    metadata.uid = randomUUID();
    metadata.generation = 1;
    metadata.creationTimestamp = `${new Date(this.#now()).toISOString().slice(0, 19)}Z`;
    this.#manage(object, options, "Update");
    return this.#store(type, "ADDED", object, undefined, options);
  }

  update(type: ResourceType, namespace: string | undefined, name: string, body: KubeObject, options: WriteOptions = {}): KubeObject {
    if (body.metadata?.name !== name) throw new Refusal(400, "BadRequest", "the name of the object does not match the name on the URL");
    const old = this.get(type, namespace, name);
    const { resourceVersion, uid } = body.metadata;
    if (!resourceVersion && type.custom)
      throw new Refusal(422, "Invalid", "metadata.resourceVersion: Invalid value: 0: must be specified for an update");
    if (resourceVersion && resourceVersion !== old.metadata.resourceVersion)
      throw new Refusal(409, "Conflict", `Operation cannot be fulfilled on ${type.plural} "${name}": the object has been modified`);
    if (uid !== undefined && uid !== old.metadata.uid)
      throw new Refusal(
        409,
        "Conflict",
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${String(old.metadata.uid)}`,
      );
    return this.#replace(type, old, structuredClone(body), options, "Update");
  }

  patch(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    contentType: string,
    patch: unknown,
    options: WriteOptions = {},
  ): KubeObject {
    if (contentType === "application/apply-patch+yaml") return this.#apply(type, namespace, name, patch as KubeObject, options);
    const old = this.get(type, namespace, name);
    let fresh: KubeObject;
    if (contentType === "application/merge-patch+json") fresh = mergePatch(old, patch) as KubeObject;
    else if (contentType === "application/json-patch+json") fresh = jsonPatch(old, patch as Parameters<typeof jsonPatch>[1]) as KubeObject;
    else throw new Refusal(415, "UnsupportedMediaType", `the fake API server does not know ${contentType}`);
    return this.#replace(type, old, this.#checkVersion(type, old, fresh), options, "Update");
  }

  delete(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    preconditions: { uid?: string; resourceVersion?: string } = {},
  ): KubeObject | undefined {
    const old = this.get(type, namespace, name);
    for (const field of ["uid", "resourceVersion"] as const)
      if (preconditions[field] !== undefined && preconditions[field] !== old.metadata[field])
        throw new Refusal(
          409,
          "Conflict",
          `Precondition failed: ${field} in precondition: ${preconditions[field]}, in object: ${String(old.metadata[field])}`,
        );
    if ((old.metadata.finalizers ?? []).length > 0) {
      const marked = structuredClone(old);
      marked.metadata.deletionTimestamp ??= `${new Date(this.#now()).toISOString().slice(0, 19)}Z`;
      return isDeepStrictEqual(marked, old) ? old : this.#store(type, "MODIFIED", marked, old, {});
    }
    this.#remove(type, old);
    return undefined;
  }

  #apply(type: ResourceType, namespace: string | undefined, name: string, body: KubeObject, options: WriteOptions): KubeObject {
    if (options.fieldManager === undefined) throw new Refusal(400, "BadRequest", "fieldManager is required for apply patch");
    const old = this.#shelf(type).get(keyOf(namespace, name));
    if (old === undefined) {
      const created = this.create(type, namespace, { ...body, metadata: { ...body.metadata, name } }, { ...options, dryRun: true });
      created.metadata.managedFields = [{ manager: options.fieldManager, operation: "Apply" }];
      return this.#store(type, "ADDED", created, undefined, options);
    }
    return this.#replace(type, old, this.#checkVersion(type, old, mergePatch(old, body) as KubeObject), options, "Apply");
  }

  #checkVersion(type: ResourceType, old: KubeObject, fresh: KubeObject): KubeObject {
    const { resourceVersion } = fresh.metadata;
    if (resourceVersion !== undefined && resourceVersion !== "" && resourceVersion !== old.metadata.resourceVersion)
      throw new Refusal(
        409,
        "Conflict",
        `Operation cannot be fulfilled on ${type.plural} "${old.metadata.name}": the object has been modified`,
      );
    return structuredClone(fresh);
  }

  #replace(type: ResourceType, old: KubeObject, body: KubeObject, options: WriteOptions, operation: "Apply" | "Update"): KubeObject {
    let fresh: KubeObject;
    if (options.subresource === "status") {
      if (!type.status) throw new Refusal(404, "NotFound", `${type.plural} has no subresource status`);
      fresh = { ...structuredClone(old), status: body["status"] };
      if (body["status"] === undefined) delete fresh["status"];
    } else if (options.subresource === undefined) {
      fresh = body;
      if (type.status) {
        if (old["status"] === undefined) delete fresh["status"];
        else fresh["status"] = structuredClone(old["status"]);
      }
    } else throw new Refusal(404, "NotFound", `the fake API server has no subresource ${options.subresource}`);
    const { uid, creationTimestamp, deletionTimestamp, generation, managedFields, namespace, resourceVersion } = old.metadata;
    fresh.apiVersion = apiVersionOf(type);
    fresh.kind = type.kind;
    fresh.metadata = { ...fresh.metadata, ...definedOnly({ uid, creationTimestamp, namespace, resourceVersion, generation }) };
    if (deletionTimestamp !== undefined) fresh.metadata.deletionTimestamp = deletionTimestamp;
    else delete fresh.metadata.deletionTimestamp;
    const before = JSON.parse(JSON.stringify({ ...old, metadata: { ...old.metadata, managedFields: undefined } })) as unknown;
    const after = JSON.parse(JSON.stringify({ ...fresh, metadata: { ...fresh.metadata, managedFields: undefined } })) as unknown;
    if (isDeepStrictEqual(before, after)) return old;
    const content = ({ metadata: _m, status, ...rest }: KubeObject): unknown => (type.status ? rest : { ...rest, status });
    if (!isDeepStrictEqual(JSON.parse(JSON.stringify(content(old))), JSON.parse(JSON.stringify(content(fresh)))))
      fresh.metadata.generation = (generation ?? 1) + 1;
    if (managedFields !== undefined) fresh.metadata.managedFields = structuredClone(managedFields);
    this.#manage(fresh, options, operation);
    const stored = this.#store(type, "MODIFIED", fresh, old, options);
    if (stored.metadata.deletionTimestamp !== undefined && (stored.metadata.finalizers ?? []).length === 0 && !options.dryRun)
      this.#remove(type, stored);
    return stored;
  }

  #manage(object: KubeObject, options: WriteOptions, operation: "Apply" | "Update"): void {
    const manager = options.fieldManager ?? "unknown";
    const entry = { manager, operation, ...definedOnly({ subresource: options.subresource }) };
    const entries = (object.metadata.managedFields ?? []).filter((e) => !isDeepStrictEqual(e, entry));
    object.metadata.managedFields = [...entries, entry];
  }

  #store(
    type: ResourceType,
    change: "ADDED" | "MODIFIED",
    object: KubeObject,
    old: KubeObject | undefined,
    options: WriteOptions,
  ): KubeObject {
    const problem = type.validate?.(object, old);
    if (problem !== undefined)
      throw new Refusal(422, "Invalid", `${type.kind}.${type.group} "${object.metadata.name}" is invalid: ${problem}`);
    if (options.dryRun) return object;
    object.metadata.resourceVersion = scramble(this.#advance());
    deepFreeze(object);
    this.#shelf(type).set(keyOf(object.metadata.namespace, object.metadata.name), object);
    this.#tell({ version: this.#version, typeKey: typeKeyOf(type), type: change, object, old });
    return object;
  }

  #remove(type: ResourceType, old: KubeObject): void {
    this.#shelf(type).delete(keyOf(old.metadata.namespace, old.metadata.name));
    const object = deepFreeze({ ...old, metadata: { ...old.metadata, resourceVersion: scramble(this.#advance()) } });
    this.#tell({ version: this.#version, typeKey: typeKeyOf(type), type: "DELETED", object, old });
  }

  #tell(change: Change): void {
    this.#history.push(change);
    for (const listener of this.#listeners) listener(change);
  }

  #advance(): number {
    this.#version += 1;
    this.#versions.set(scramble(this.#version), this.#version);
    return this.#version;
  }

  #shelf(type: ResourceType): Map<string, KubeObject> {
    const key = typeKeyOf(type);
    let shelf = this.#objects.get(key);
    if (shelf === undefined) this.#objects.set(key, (shelf = new Map()));
    return shelf;
  }
}

/** What a watch with a selector says of a change: an object that is no longer selected is deleted to it. */
export function eventOf(change: Change, selected: (object: KubeObject) => boolean): WatchEvent | undefined {
  const before = change.old !== undefined && selected(change.old);
  const after = change.type !== "DELETED" && selected(change.object);
  if (after) return { type: before ? "MODIFIED" : "ADDED", object: change.object };
  return before ? { type: "DELETED", object: { ...change.old, metadata: change.object.metadata } } : undefined;
}

export function apiVersionOf(type: ResourceType): string {
  return type.group === "" ? type.version : `${type.group}/${type.version}`;
}

function definedOnly<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/** Another number for each number (an odd factor, modulo 2^32), in base 36. */
function scramble(version: number): string {
  return (Math.imul(version, 2_654_435_761) >>> 0).toString(36);
}
