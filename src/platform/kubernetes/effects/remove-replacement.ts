import { isNotFound } from "../errors.ts";
import { DELETION_COST, MARKS, POD_TEMPLATE_HASH } from "../marks.ts";
import type { Pod } from "../objects.ts";
import { objectPath } from "../records.ts";
import { annotation, type Deps, type EffectOf, type Handler, isReady, patchPod, read, retryOnConflict, seen, until } from "./shared.ts";

/** The lowest cost there is (int32): of pods that are equally well, this one goes first. */
const LOWEST_COST = "-2147483648";

/**
 * Puts the pod back under its ReplicaSet, which then has one too many and lets the replacement go.
 *
 * A ReplicaSet lets a pod that is not ready go before one that is, whatever they cost. Where that would be the pod that is
 * put back, which may be the one with the evidence, the replacement is deleted first.
 */
export const removeReplacement: Handler<"RemoveReplacement"> = {
  type: "RemoveReplacement",

  async apply(effect, deps, signal) {
    const put = await retryOnConflict(deps, signal, () => putBack(effect, deps, signal));
    if (put === undefined) return { message: `${effect.replaces?.name ?? "the pod"} is gone: its replacement stays` };
    await seen(deps, "Pod", put, signal);
    await until(
      deps,
      signal,
      () => `${effect.replica?.name ?? "the replacement"} was not let go`,
      async () => ((await isLeaving(effect, deps, signal)) ? true : undefined),
    );
    return { message: `put ${put.metadata.name} back${effect.replica === undefined ? "" : `, and removed ${effect.replica.name}`}` };
  },

  async observe(effect, deps) {
    const pod = effect.replaces === undefined ? undefined : await read<Pod>(deps, "Pod", effect.replaces);
    const applied = annotation(pod, MARKS.detachedFrom) === undefined && (await isLeaving(effect, deps));
    return applied ? { state: "Applied", result: { message: `${effect.replaces?.name ?? "the pod"} is back` } } : { state: "NotApplied" };
  },
};

/** The pod, put back; undefined where it is gone. */
async function putBack(effect: EffectOf<"RemoveReplacement">, deps: Deps, signal: AbortSignal): Promise<Pod | undefined> {
  const { id, replaces, replica } = effect;
  const pod = replaces === undefined ? undefined : await read<Pod>(deps, "Pod", replaces, signal);
  if (pod === undefined) return undefined;
  const from = annotation(pod, MARKS.detachedFrom);
  if (from === undefined) return pod;
  const replacement = replica === undefined ? undefined : await read<Pod>(deps, "Pod", replica, signal);
  if (replacement !== undefined && replacement.metadata.deletionTimestamp === undefined) {
    // Also where it is marked so already: its deletion goes by the epoch that it carries.
    const cheap = await patchPod(deps, replacement, id, { annotations: { [DELETION_COST]: LOWEST_COST } });
    if (!isReady(pod)) await remove(cheap, deps, signal);
  }
  return patchPod(deps, pod, id, {
    labels: { [POD_TEMPLATE_HASH]: from.slice(from.lastIndexOf("/") + 1) },
    // Who detached it stays: the same effect does not detach it again.
    annotations: { [MARKS.detachedFrom]: null, [MARKS.detachedAfter]: null, [MARKS.reattachedBy]: id },
  });
}

async function remove({ metadata }: Pod, deps: Deps, signal: AbortSignal): Promise<void> {
  const { namespace = "", name, uid, resourceVersion } = metadata;
  try {
    await deps.client.request({
      method: "DELETE",
      path: objectPath("Pod", namespace, name),
      body: { apiVersion: "v1", kind: "DeleteOptions", preconditions: { uid, resourceVersion } },
      signal,
    });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/** Whether the replacement is gone or on its way out. */
async function isLeaving({ replica }: EffectOf<"RemoveReplacement">, deps: Deps, signal?: AbortSignal): Promise<boolean> {
  const replacement = replica === undefined ? undefined : await read<Pod>(deps, "Pod", replica, signal);
  return replacement === undefined || replacement.metadata.deletionTimestamp !== undefined;
}
