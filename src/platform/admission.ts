import { isDeepStrictEqual } from "node:util";
import type { z } from "zod";
import { NightshiftError } from "../api/errors.ts";
import { CLUSTER_SCOPED, type Kind } from "../api/meta.ts";
import { SCHEMAS, type Resource } from "../api/resources.ts";

/** What the rules need to know of an object. */
type Named = { readonly kind: Kind; readonly metadata: { readonly name: string; readonly namespace: string } };

/** The namespace under which objects of a kind are stored: `default` for kinds that belong to none. */
export function effectiveNamespace(kind: Kind, namespace: string): string {
  return CLUSTER_SCOPED.has(kind) ? "default" : namespace;
}

/** Key of an object among those of its kind. Sorts by namespace, then name: NUL is below every character of a name. */
export function resourceKey(kind: Kind, namespace: string, name: string): string {
  return `${effectiveNamespace(kind, namespace)}\0${name}`;
}

/** `Kind namespace/name`, for messages. */
function describe(object: Named): string {
  return describeKey(object.kind, object.metadata.namespace, object.metadata.name);
}

/** `Kind namespace/name`, for messages. */
export function describeKey(kind: Kind, namespace: string, name: string): string {
  return CLUSTER_SCOPED.has(kind) ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}

/** `NOT_FOUND`, for the object. */
function notFound(kind: Kind, namespace: string, name: string): NightshiftError {
  return new NightshiftError("NOT_FOUND", `${describeKey(kind, namespace, name)} does not exist`, {
    fix: "It was deleted, or never created: read again what exists.",
  });
}

/** `CONFLICT`, for the object. */
function conflict(kind: Kind, namespace: string, name: string, why: string): NightshiftError {
  return new NightshiftError("CONFLICT", `${describeKey(kind, namespace, name)} ${why}`, {
    fix: "Read it again, apply the change to what was read, and retry.",
  });
}

/** Freezes a tree of plain JSON in place. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const child of Object.values(value)) deepFreeze(child);
  }
  return value;
}

function pathText(path: readonly PropertyKey[]): string {
  return path.map((part, i) => (typeof part === "number" ? `[${part}]` : `${i === 0 ? "" : "."}${String(part)}`)).join("");
}

/**
 * A copy of the object as its schema has it, defaults filled in, and as JSON can hold it.
 * @throws NightshiftError `INVALID`, naming each path that is wrong.
 */
export function validated<R extends Resource>(object: R): R {
  const schema: z.ZodType | undefined = Object.hasOwn(SCHEMAS, object.kind) ? SCHEMAS[object.kind] : undefined;
  if (schema === undefined) throw new NightshiftError("INVALID", `kind: ${JSON.stringify(object.kind)} is no kind of Nightshift's`);
  const parsed = schema.safeParse(object);
  if (!parsed.success) {
    const issues = parsed.error.issues.slice(0, 5).map((issue) => `${pathText(issue.path) || "(object)"}: ${issue.message.slice(0, 300)}`);
    const more = parsed.error.issues.length - issues.length;
    throw new NightshiftError(
      "INVALID",
      `${describe(namedOrUnknown(object))} is invalid: ${issues.join("; ")}${more > 0 ? `; and ${more} more` : ""}`,
      {
        cause: parsed.error,
      },
    );
  }
  try {
    return JSON.parse(JSON.stringify(parsed.data)) as R;
  } catch (error) {
    throw new NightshiftError("INVALID", `${describe(object)} is invalid: it cannot be written as JSON`, { cause: error });
  }
}

/** The object's name where it has one: what is refused may lack anything. */
function namedOrUnknown(object: Resource): Named {
  const metadata = (object as { metadata?: Partial<Record<"name" | "namespace", unknown>> | null }).metadata;
  // A name may be what is wrong.
  const text = (given: unknown, otherwise: string): string => (typeof given === "string" ? given.slice(0, 253) : otherwise);
  return { kind: object.kind, metadata: { name: text(metadata?.name, "(unnamed)"), namespace: text(metadata?.namespace, "default") } };
}

/** The newest object of a kind under a key of `resourceKey`. */
export type Lookup = (kind: Kind, key: string) => Resource | undefined;

function find(lookup: Lookup, object: Resource): Resource | undefined {
  return lookup(object.kind, resourceKey(object.kind, object.metadata.namespace, object.metadata.name));
}

/** What a store gives to an object that it creates. */
export interface Identity {
  readonly uid: string;
  readonly resourceVersion: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/**
 * Refuses an object as new that was stored before.
 * @throws NightshiftError `INVALID`.
 */
export function assertNew(object: Resource): void {
  if (object.metadata.resourceVersion !== undefined)
    throw new NightshiftError("INVALID", `${describe(object)} is invalid: metadata.resourceVersion: set by the store`, {
      fix: "Leave it out of what is created, or update what exists.",
    });
}

/**
 * The object that a create stores, frozen, of a copy that `validated` made. `identity` is asked only when it is acceptable.
 * @throws NightshiftError `INVALID` or `ALREADY_EXISTS`.
 */
export function admitCreate<R extends Resource>(lookup: Lookup, copy: R, identity: () => Identity): R {
  assertNew(copy);
  if (find(lookup, copy) !== undefined)
    throw new NightshiftError("ALREADY_EXISTS", `${describe(copy)} exists already`, { fix: "Update it, or take another name." });
  const { uid, resourceVersion, now } = identity();
  copy.metadata = {
    ...copy.metadata,
    namespace: effectiveNamespace(copy.kind, copy.metadata.namespace),
    uid,
    resourceVersion,
    generation: 1,
    creationTimestamp: new Date(now).toISOString(),
  };
  return deepFreeze(copy);
}

/**
 * The object that a delete removes.
 * @throws NightshiftError `NOT_FOUND` or `CONFLICT`.
 */
export function admitDelete(lookup: Lookup, kind: Kind, namespace: string, name: string, resourceVersion?: string): Resource {
  const current = lookup(kind, resourceKey(kind, namespace, name));
  if (current === undefined) throw notFound(kind, namespace, name);
  if (resourceVersion !== undefined && resourceVersion !== current.metadata.resourceVersion)
    throw conflict(kind, namespace, name, "has changed since it was read");
  return current;
}

/**
 * The object that an update stores, frozen, of a copy that `validated` made; the newest itself when nothing changes, as the Kubernetes API does.
 * @throws NightshiftError `INVALID`, `NOT_FOUND`, `CONFLICT` or `IMMUTABLE`.
 */
export function admitUpdate<R extends Resource>(lookup: Lookup, copy: R, nextVersion: () => string): R {
  const { kind, metadata } = copy;
  const current = find(lookup, copy);
  if (current === undefined) throw notFound(kind, metadata.namespace, metadata.name);
  const stored = current.metadata;
  if (metadata.resourceVersion === undefined)
    throw conflict(kind, metadata.namespace, metadata.name, "was to be updated without metadata.resourceVersion");
  if (metadata.resourceVersion !== stored.resourceVersion)
    throw conflict(
      kind,
      metadata.namespace,
      metadata.name,
      `has changed since it was read (read ${metadata.resourceVersion}, newest ${String(stored.resourceVersion)})`,
    );
  if (metadata.uid !== undefined && metadata.uid !== stored.uid)
    throw conflict(kind, metadata.namespace, metadata.name, "was deleted and created again since it was read");
  const specChanged = !isDeepStrictEqual(copy.spec, current.spec);
  if (specChanged && kind === "Remediation")
    throw new NightshiftError("IMMUTABLE", `${describe(copy)}: spec cannot be changed`, { fix: "Change the status only." });
  copy.metadata = {
    ...metadata,
    namespace: stored.namespace,
    uid: stored.uid,
    resourceVersion: stored.resourceVersion,
    generation: (stored.generation ?? 1) + (specChanged ? 1 : 0),
    creationTimestamp: stored.creationTimestamp,
  };
  if (isDeepStrictEqual(copy, current)) return current as R;
  copy.metadata.resourceVersion = nextVersion();
  return deepFreeze(copy);
}
