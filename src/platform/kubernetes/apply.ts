import { NightshiftError } from "../../api/errors.ts";
import type { KubeClient, KubeRequest } from "./client.ts";
import { fieldConflicts } from "./errors.ts";
import { FIELD_MANAGER } from "./marks.ts";
import type { KubeObject } from "./objects.ts";
import { apiVersionOf, objectPath, type RecordKind } from "./records.ts";

/** Whose an object is, and as which version it was read. */
export type ReadMeta = Pick<KubeObject["metadata"], "namespace" | "name" | "uid" | "resourceVersion">;

/** What an apply states: all that Nightshift wants to keep as its own on the object. */
export interface Statement {
  readonly metadata?: { readonly annotations?: Readonly<Record<string, string>>; readonly [other: string]: unknown };
  readonly [other: string]: unknown;
}

/**
 * States fields of an object by server-side apply, if it still is as it was read. Its uid and resourceVersion go with it, so
 * that nothing is made where it is gone.
 *
 * What others have written is taken over where they wrote it once, as `kubectl scale` does and is done to. What somebody
 * states by server-side apply is theirs, and would be taken back or be in their way: it is not forced.
 *
 * @throws KubeApiError `KUBE_CONFLICT` when it has changed.
 * @throws NightshiftError `FIELD_OWNED`, naming the field and its owner.
 */
export async function applyStatement<T extends KubeObject>(
  client: KubeClient,
  kind: RecordKind,
  read: ReadMeta,
  statement: Statement,
  signal?: AbortSignal,
): Promise<T> {
  const { namespace, name, uid, resourceVersion } = read;
  const request = (force: boolean): KubeRequest => ({
    method: "PATCH",
    path: objectPath(kind, namespace ?? "", name),
    query: { fieldManager: FIELD_MANAGER, force },
    contentType: "application/apply-patch+yaml",
    body: {
      ...statement,
      apiVersion: apiVersionOf(kind),
      kind,
      metadata: {
        ...statement.metadata,
        name,
        ...(namespace === undefined || namespace === "" ? {} : { namespace }),
        uid,
        resourceVersion,
      },
    },
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    return await client.request<T>(request(false));
  } catch (error) {
    const conflicts = fieldConflicts(error);
    if (conflicts.length === 0) throw error;
    const stated = conflicts.find(({ isStated }) => isStated);
    if (stated !== undefined)
      throw new NightshiftError(
        "FIELD_OWNED",
        `${stated.field} of ${kind} ${namespace === undefined || namespace === "" ? "" : `${namespace}/`}${name} is stated by the field manager ${stated.manager} (server-side apply), with which a change would be in conflict`,
        { fix: "Change it there, or leave the field out there.", cause: error },
      );
    // Bound to the version that was read: nobody else has come in between.
    return client.request<T>(request(true));
  }
}
