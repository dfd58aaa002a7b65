import { isDeepStrictEqual } from "node:util";
import type { KubeObject, ManagedFields } from "../../src/platform/kubernetes/objects.ts";

type Json = Record<string, unknown>;
/** A field by the keys of `fieldsV1`, as JSON. */
type Path = string;

/** What server-side apply refuses: the fields that others have otherwise. */
export interface Conflict {
  readonly field: string;
  readonly message: string;
}

/** Metadata that belongs to nobody. */
const SYSTEM = new Set([
  "name",
  "namespace",
  "uid",
  "resourceVersion",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "managedFields",
]);

/** The object after an Update by `manager`: what it changed is its own, and nobody else's. */
export function managedUpdate<T extends KubeObject>(before: KubeObject | undefined, after: T, manager: string): T {
  const [old, now] = [leaves(before ?? {}), leaves(after)];
  const changed = [...now].filter(([path, value]) => !isDeepStrictEqual(old.get(path), value)).map(([path]) => path);
  const gone = [...old.keys()].filter((path) => !now.has(path));
  const entries = ownersOf(before);
  if (changed.length === 0 && gone.length === 0) return withOwners(after, entries);
  for (const entry of entries) for (const path of [...changed, ...gone]) entry.paths.delete(path);
  const own = entryOf(entries, manager, "Update");
  for (const path of changed) own.paths.add(path);
  return withOwners(after, entries);
}

/**
 * The object after a server-side apply by `manager`, or the conflicts that it is refused for: as structured-merge-diff has it,
 * for maps and for lists whose entries have names.
 */
export function managedApply<T extends KubeObject>(
  live: T,
  config: Json,
  manager: string,
  force: boolean,
): { readonly object: T } | { readonly conflicts: readonly Conflict[] } {
  const stated = leaves(config);
  const now = leaves(live);
  const entries = ownersOf(live);
  const own = entryOf(entries, manager, "Apply");
  const others = entries.filter((entry) => entry !== own);
  const conflicts: Conflict[] = [];
  for (const [path, value] of stated) {
    if (isDeepStrictEqual(now.get(path), value)) continue;
    for (const other of others.filter(({ paths }) => paths.has(path))) {
      if (force) other.paths.delete(path);
      const using = other.entry.operation === "Update" ? " using v1 at 2026-01-01T00:00:00Z" : "";
      conflicts.push({ field: dotted(path), message: `conflict with ${JSON.stringify(other.entry.manager)}${using}` });
    }
  }
  if (conflicts.length > 0 && !force) return { conflicts };
  const object = structuredClone(live) as T & Json;
  for (const path of own.paths) if (!stated.has(path) && !others.some(({ paths }) => paths.has(path))) remove(object, keysOf(path));
  for (const [path, value] of stated) set(object, keysOf(path), value);
  own.paths = new Set(stated.keys());
  return { object: withOwners(object, entries) };
}

interface Owner {
  readonly entry: ManagedFields;
  paths: Set<Path>;
}

function ownersOf(object: KubeObject | undefined): Owner[] {
  return (object?.metadata.managedFields ?? []).map((entry) => ({ entry, paths: new Set(pathsOf(entry.fieldsV1 ?? {}, [])) }));
}

function entryOf(owners: Owner[], manager: string, operation: string): Owner {
  const found = owners.find(({ entry }) => entry.manager === manager && entry.operation === operation && entry.subresource === undefined);
  if (found !== undefined) return found;
  const made = { entry: { manager, operation }, paths: new Set<Path>() };
  owners.push(made);
  return made;
}

function withOwners<T extends KubeObject>(object: T, owners: readonly Owner[]): T {
  const managedFields = owners
    .filter(({ paths }) => paths.size > 0)
    .map(({ entry, paths }) => {
      const fieldsV1: Json = {};
      for (const path of paths) keysOf(path).reduce((at, key) => (at[key] ??= {}) as Json, fieldsV1);
      return { ...entry, fieldsV1 };
    });
  return { ...object, metadata: { ...object.metadata, managedFields } };
}

function pathsOf(fields: Readonly<Json>, at: readonly string[]): Path[] {
  const keys = Object.keys(fields).filter((key) => key !== ".");
  if (keys.length === 0) return at.length === 0 ? [] : [JSON.stringify(at)];
  return keys.flatMap((key) => pathsOf(fields[key] as Json, [...at, key]));
}

const keysOf = (path: Path): string[] => JSON.parse(path) as string[];

/** What of an object can be owned, by its path. */
function leaves(object: Partial<KubeObject>): Map<Path, unknown> {
  const { metadata, apiVersion: _v, kind: _k, status: _s, ...rest } = object as Json;
  const own = Object.fromEntries(Object.entries((metadata ?? {}) as Json).filter(([key]) => !SYSTEM.has(key)));
  const found = new Map<Path, unknown>();
  const walk = (value: unknown, at: readonly string[]): void => {
    if (isNamedList(value))
      for (const entry of value) {
        const { name, ...fields } = entry;
        const key = [...at, `k:${JSON.stringify({ name })}`];
        found.set(JSON.stringify([...key, "f:name"]), name);
        for (const [field, inner] of Object.entries(fields)) walk(inner, [...key, `f:${field}`]);
      }
    else if (typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length > 0)
      for (const [field, inner] of Object.entries(value)) walk(inner, [...at, `f:${field}`]);
    else if (value !== undefined) found.set(JSON.stringify(at), value);
  };
  for (const [field, value] of Object.entries({ metadata: own, ...rest })) walk(value, [`f:${field}`]);
  found.delete(JSON.stringify(["f:metadata"]));
  return found;
}

function isNamedList(value: unknown): value is readonly (Json & { name: string })[] {
  return Array.isArray(value) && value.length > 0 && value.every((entry) => typeof entry === "object" && entry !== null && "name" in entry);
}

function set(object: Json, keys: readonly string[], value: unknown): void {
  let at: unknown = object;
  for (const [i, key] of keys.entries()) {
    const isLast = i === keys.length - 1;
    if (key.startsWith("k:")) {
      const { name } = JSON.parse(key.slice(2)) as { name: string };
      const list = at as Json[];
      let entry = list.find((candidate) => candidate["name"] === name);
      if (entry === undefined) list.push((entry = { name }));
      at = entry;
    } else {
      const fields = at as Json;
      const field = key.slice(2);
      if (isLast) fields[field] = value;
      else at = fields[field] ??= keys[i + 1]?.startsWith("k:") ? [] : {};
    }
  }
}

function remove(object: Json, keys: readonly string[]): void {
  let at: unknown = object;
  for (const [i, key] of keys.entries()) {
    if (at === undefined) return;
    if (key.startsWith("k:")) {
      const { name } = JSON.parse(key.slice(2)) as { name: string };
      at = (at as Json[]).find((candidate) => candidate["name"] === name);
    } else if (i === keys.length - 1) delete (at as Json)[key.slice(2)];
    else at = (at as Json)[key.slice(2)];
  }
}

function dotted(path: Path): string {
  return keysOf(path)
    .map((key) => (key.startsWith("k:") ? `[${key.slice(3, -1).replace(/^"name":/, "name=")}]` : `.${key.slice(2)}`))
    .join("");
}
