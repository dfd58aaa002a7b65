import { FIELD_MANAGER } from "./marks.ts";
import type { KubeObject, ManagedFields } from "./objects.ts";

type Fields = Readonly<Record<string, unknown>>;

/**
 * What Nightshift states of an object by server-side apply, with the values of now. The next apply states it again: what an
 * apply leaves out is given up, and is gone where nobody else states it.
 */
export function declared(object: KubeObject): Record<string, unknown> {
  const entry = (object.metadata.managedFields ?? []).find(
    ({ manager, operation, subresource }) => manager === FIELD_MANAGER && operation === "Apply" && subresource === undefined,
  );
  return entry?.fieldsV1 === undefined ? {} : (extract(entry.fieldsV1, object) as Record<string, unknown>);
}

/**
 * Whether Nightshift wrote the field last, and nobody else states it: also a field that has the value that Nightshift gave
 * it may have been changed and changed back. True where the object says nothing of who wrote it.
 *
 * @param path - as in `fieldsV1`, such as `["f:spec", "f:replicas"]`
 */
export function isOwn(object: KubeObject, path: readonly string[]): boolean {
  const entries = object.metadata.managedFields;
  if (entries === undefined) return true;
  const writers = entries.filter(({ fieldsV1 }) => has(fieldsV1, path));
  return writers.length > 0 && writers.every(({ manager }) => manager === FIELD_MANAGER);
}

function has(fields: ManagedFields["fieldsV1"], path: readonly string[]): boolean {
  let at: unknown = fields;
  for (const key of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return false;
    at = (at as Fields)[key];
  }
  return true;
}

/**
 * The part of a value that a set of fields names: `f:` a field, `k:` an entry of a list by its keys, `v:` one by its value.
 * Only scalars are stated by Nightshift: what is named as a whole and is none is left out.
 */
function extract(fields: Fields, value: unknown): unknown {
  const keys = Object.keys(fields).filter((key) => key !== ".");
  if (keys.length === 0) return typeof value === "object" ? undefined : value;
  if (Array.isArray(value)) return keys.flatMap((key) => entryOf(key, fields[key] as Fields, value as readonly unknown[]));
  const from = (value ?? {}) as Fields;
  const parts = keys.map((key) => [key.slice("f:".length), extract(fields[key] as Fields, from[key.slice("f:".length)])] as const);
  return Object.fromEntries(parts.filter(([, part]) => part !== undefined));
}

function entryOf(key: string, fields: Fields, list: readonly unknown[]): unknown[] {
  const named = JSON.parse(key.slice(2)) as unknown;
  if (key.startsWith("v:")) return list.includes(named) ? [named] : [];
  const entry = list.find((item) => Object.entries(named as Fields).every(([name, value]) => (item as Fields)[name] === value));
  return entry === undefined ? [] : [{ ...(named as Fields), ...(extract(fields, entry) as Fields) }];
}
