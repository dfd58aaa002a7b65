import { NightshiftError } from "../../../api/errors.ts";
import type { TargetRef } from "../../../api/meta.ts";
import { sleep } from "../../../ports/clock.ts";
import type { Effect, EffectType } from "../../../ports/platform.ts";
import { applyStatement, type Statement } from "../apply.ts";
import type { KubeRequest } from "../client.ts";
import { isConflict, isNotFound } from "../errors.ts";
import { declared } from "../managed-fields.ts";
import { MARKS } from "../marks.ts";
import { isMarked } from "../nodes.ts";
import type { KubeList, KubeObject, Pod } from "../objects.ts";
import { collectionPath, objectPath, type RecordKind } from "../records.ts";
import type { ClusterView } from "../view.ts";
import type { EffectDeps, EffectHandler } from "./effect.ts";

export type Deps = EffectDeps<ClusterView>;
export type Handler<T extends EffectType> = EffectHandler<T, ClusterView>;
export type EffectOf<T extends EffectType> = Extract<Effect, { type: T }>;

/** How often a write that met a conflict is tried again, on what was read anew. */
const CONFLICT_TRIES = 10;
/** First and longest pause between two looks at the API server (ms). */
const FIRST_POLL_MS = 200;
const MAX_POLL_MS = 1_000;

/** The object as the API server has it; undefined where there is none of that name, or it is another of the same name. */
export async function read<T extends KubeObject>(
  deps: Deps,
  kind: RecordKind,
  ref: TargetRef,
  signal?: AbortSignal,
): Promise<T | undefined> {
  try {
    const object = await deps.client.request<T>({
      method: "GET",
      path: objectPath(kind, ref.namespace, ref.name),
      ...(signal === undefined ? {} : { signal }),
    });
    return ref.uid === undefined || ref.uid === object.metadata.uid ? object : undefined;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** The objects of a kind in a namespace, or of all; `query` may select among them. */
export async function list<T>(
  deps: Deps,
  kind: RecordKind,
  namespace: string | undefined,
  query: NonNullable<KubeRequest["query"]> = {},
  signal?: AbortSignal,
): Promise<readonly T[]> {
  const { items } = await deps.client.request<KubeList<T>>({
    method: "GET",
    path: collectionPath(kind, namespace),
    query,
    ...(signal === undefined ? {} : { signal }),
  });
  return items ?? [];
}

/** What is changed of an object. `null` takes away. */
export interface Change {
  readonly annotations?: Readonly<Record<string, string | null>>;
  readonly spec?: unknown;
}

/**
 * Changes labels and annotations of a pod that was read, if it still is as it was: the patch carries its resourceVersion, and
 * the epoch and the effect's id go on the pod with it. Rejects with `KUBE_CONFLICT` when it has changed.
 *
 * A merge patch and no apply: labels are taken off here that the pod's owner has stated, and an apply takes off only what it
 * has stated itself.
 */
export async function patchPod(
  deps: Deps,
  { metadata }: Pod,
  effectId: string,
  change: { readonly labels?: Readonly<Record<string, string | null>>; readonly annotations?: Change["annotations"] },
): Promise<Pod> {
  return deps.client.request<Pod>({
    method: "PATCH",
    path: objectPath("Pod", metadata.namespace ?? "", metadata.name),
    contentType: "application/merge-patch+json",
    body: {
      metadata: {
        resourceVersion: metadata.resourceVersion,
        ...(change.labels === undefined ? {} : { labels: change.labels }),
        annotations: { ...change.annotations, ...signed(deps, effectId) },
      },
    },
  });
}

/**
 * States fields of an object that others own, by server-side apply: what Nightshift has stated of it before, with the change.
 * `null` takes out of what is stated; a list's entries are told apart by their names.
 *
 * See `applyStatement` for whose fields are taken over and whose are not. Rejects with `KUBE_CONFLICT` when the object has
 * changed since it was read, or `FIELD_OWNED`.
 */
export async function apply<T extends KubeObject>(
  deps: Deps,
  kind: RecordKind,
  object: T,
  effectId: string,
  change: Change,
  signal?: AbortSignal,
): Promise<T> {
  const { spec, annotations } = change;
  const changes = { metadata: { annotations: { ...annotations, ...signed(deps, effectId) } }, ...(spec === undefined ? {} : { spec }) };
  return applyStatement<T>(deps.client, kind, object.metadata, merged(declared(object), changes) as Statement, signal);
}

function merged(base: unknown, change: unknown): unknown {
  if (Array.isArray(change)) {
    const entries = new Map((Array.isArray(base) ? base : []).map((entry: { readonly name: string }) => [entry.name, entry]));
    for (const entry of change as readonly { readonly name: string }[])
      entries.set(entry.name, merged(entries.get(entry.name), entry) as typeof entry);
    return [...entries.values()];
  }
  if (typeof change !== "object" || change === null) return change;
  const result: Record<string, unknown> = { ...(base as object | undefined) };
  for (const [key, value] of Object.entries(change)) {
    const next = value === null ? undefined : merged(result[key], value);
    if (next === undefined) delete result[key];
    else result[key] = next;
  }
  // An empty object would be a statement, too: of all that is in it.
  return Object.keys(result).length === 0 ? undefined : result;
}

/** The annotations that every write of an effect carries. */
export function signed(deps: Deps, effectId: string): Record<string, string> {
  return { [MARKS.epoch]: String(deps.epoch()), [MARKS.effect]: effectId };
}

/** Does what reads and then writes, again from the reading when it met a conflict. */
export async function retryOnConflict<T>(deps: Deps, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (!isConflict(error) || tries >= CONFLICT_TRIES || signal.aborted) throw error;
      await sleep(deps.clock, 10 * tries, signal);
    }
  }
}

/** Asks until there is an answer. Rejects with `EFFECT_TIMEOUT`, saying what was waited for, when `signal` aborts. */
export async function until<T>(deps: Deps, signal: AbortSignal, what: () => string, ask: () => Promise<T | undefined>): Promise<T> {
  for (let pause = FIRST_POLL_MS; ; pause = Math.min(pause * 1.5, MAX_POLL_MS)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (signal.aborted) throw timedOut(what());
    await sleep(deps.clock, pause, signal);
    if (signal.aborted) throw timedOut(what());
  }
}

export function timedOut(what: string): NightshiftError {
  return new NightshiftError("EFFECT_TIMEOUT", `not done in the time that it had: ${what}`);
}

/** `Pod prod/payments-1`, for messages. */
export function nameOf(kind: string, object: KubeObject | TargetRef): string {
  const { namespace, name } = "metadata" in object ? object.metadata : object;
  return `${kind} ${namespace === undefined || namespace === "" ? "" : `${namespace}/`}${name}`;
}

export function gone(kind: string, ref: TargetRef): NightshiftError {
  return new NightshiftError("NOT_FOUND", `${nameOf(kind, ref)} is gone`);
}

/** The mark of an object, or undefined. */
export function annotation(object: KubeObject | undefined, key: string): string | undefined {
  return object?.metadata.annotations?.[key];
}

/** Refuses what carries a do-not-remediate mark, as the API server has it now (design rule S12). */
export function refuseMarked(kind: string, object: KubeObject): void {
  if (!isMarked({ labels: object.metadata.labels ?? {}, annotations: object.metadata.annotations ?? {} })) return;
  throw new NightshiftError("DO_NOT_REMEDIATE", `${nameOf(kind, object)} carries a do-not-remediate mark`);
}

/** The pod that an effect acts on. Rejects with `NOT_FOUND` or `DO_NOT_REMEDIATE`. */
export async function readPod(deps: Deps, ref: TargetRef, signal: AbortSignal): Promise<Pod> {
  const pod = await read<Pod>(deps, "Pod", ref, signal);
  if (pod === undefined) throw gone("Pod", ref);
  refuseMarked("Pod", pod);
  return pod;
}

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True") ?? false;
}

/** Waits until the caches know what was written, so that the next look at them sees it. */
export async function seen(deps: Deps, kind: RecordKind, { metadata }: KubeObject, signal: AbortSignal): Promise<void> {
  await deps.view.reached(kind, metadata.resourceVersion, signal);
}
