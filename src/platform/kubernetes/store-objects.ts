import { PLURALS } from "../../api/crd.ts";
import { API_VERSION, CLUSTER_SCOPED, type Kind, type Metadata } from "../../api/meta.ts";
import type { Resource, ResourceOf } from "../../api/resources.ts";
import { deepFreeze, validated } from "../admission.ts";
import type { KubeRequest } from "./client.ts";
import type { Listed } from "./reflector.ts";

/** One of Nightshift's resources, as the API server has it. */
export interface RawResource extends Listed {
  readonly spec?: unknown;
  readonly status?: unknown;
}

/** Metadata that belongs to Kubernetes and its users, and must come back as it was with an object that is replaced. */
export type ForeignMetadata = Readonly<Partial<Record<"finalizers" | "ownerReferences", unknown>>>;

/** Path of the objects of a kind, in one namespace or everywhere. */
export function collectionOf(kind: Kind, namespace?: string): string {
  const within = namespace === undefined || CLUSTER_SCOPED.has(kind) ? "" : `/namespaces/${namespace}`;
  return `/apis/${API_VERSION}${within}/${PLURALS[kind]}`;
}

/** How many objects are asked for at once. */
const PAGE_SIZE = 500;

/** Asks for one page of a collection. */
type AskPage<T> = (
  page: KubeRequest,
) => Promise<{ readonly metadata?: { readonly continue?: string }; readonly items?: readonly T[] | null }>;

/** All objects of a kind, in one namespace or everywhere, page by page. Rejects as `request` does. */
export function listAll(request: AskPage<RawResource>, kind: Kind, namespace?: string): Promise<RawResource[]> {
  return listPath(request, collectionOf(kind, namespace));
}

/** All objects of a collection, page by page. Rejects as `request` does. */
export async function listPath<T>(request: AskPage<T>, path: string): Promise<T[]> {
  const all: T[] = [];
  let token: string | undefined;
  do {
    const page = await request({ method: "GET", path, query: { limit: PAGE_SIZE, continue: token } });
    all.push(...(page.items ?? []));
    token = page.metadata?.continue === "" ? undefined : page.metadata?.continue;
  } while (token !== undefined);
  return all;
}

/** Path of one object. */
export function pathOf(kind: Kind, namespace: string, name: string): string {
  return `${collectionOf(kind, namespace)}/${name}`;
}

/**
 * The resource as the loop reads it, frozen: of metadata what its schema knows; a Remediation whose status was not
 * written yet is `Pending`, with revision 0.
 * @throws NightshiftError `INVALID` when it does not fit the schema, as one that another version wrote may not.
 */
export function readResource<K extends Kind>(kind: K, raw: RawResource): ResourceOf[K] {
  const { name, namespace, labels, annotations, uid, resourceVersion, generation, creationTimestamp } = raw.metadata as Metadata;
  const status = raw.status ?? (kind === "Remediation" ? { phase: "Pending" } : undefined);
  const resource = {
    apiVersion: API_VERSION,
    kind,
    metadata: defined({ name, namespace, labels, annotations, uid, resourceVersion, generation, creationTimestamp }),
    spec: raw.spec,
    ...(status === undefined ? {} : { status }),
  };
  return deepFreeze(validated(resource as unknown as ResourceOf[K]));
}

/** What is not the loop's in an object's metadata; undefined when there is nothing. */
export function foreignMetadata(raw: RawResource): ForeignMetadata | undefined {
  const { finalizers, ownerReferences } = raw.metadata as { finalizers?: unknown; ownerReferences?: unknown };
  return finalizers === undefined && ownerReferences === undefined ? undefined : defined({ finalizers, ownerReferences });
}

/** What is sent to the API server for a resource: a kind of the whole cluster has no namespace there. */
export function writtenResource(resource: Resource, foreign: ForeignMetadata | undefined): object {
  const { namespace, ...metadata } = resource.metadata;
  return {
    ...resource,
    metadata: { ...foreign, ...metadata, ...(CLUSTER_SCOPED.has(resource.kind) ? {} : { namespace }) },
  };
}

function defined<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as ReturnType<typeof defined<T>>;
}
