import { NightshiftError } from "../../../api/errors.ts";
import type { TargetRef } from "../../../api/meta.ts";
import type { EffectResult } from "../../../ports/platform.ts";
import { isConflict } from "../errors.ts";
import { MARKS, POD_TEMPLATE_HASH } from "../marks.ts";
import type { Owner, Pod } from "../objects.ts";
import { selectorText } from "../selector.ts";
import {
  annotation,
  type Deps,
  gone,
  type Handler,
  list,
  nameOf,
  patchPod,
  read,
  readPod,
  retryOnConflict,
  seen,
  until,
} from "./shared.ts";

/**
 * Takes `pod-template-hash` off the pod, so that its ReplicaSet lets it go and starts another while it still serves; and
 * claims the pod that is started, by marking it.
 */
export const startReplacement: Handler<"StartReplacement"> = {
  type: "StartReplacement",

  async apply({ id, replaces }, deps, signal) {
    const { pod, set } = await retryOnConflict(deps, signal, () => detach(id, replaces, deps, signal));
    const replacement = await until(
      deps,
      signal,
      () => `ReplicaSet ${set.metadata.name} has started no other pod in the place of ${replaces.name}`,
      () => claim(id, pod, set, deps, signal),
    );
    await Promise.all([seen(deps, "Pod", pod, signal), seen(deps, "Pod", replacement, signal)]);
    return startedResult(replacement, replaces);
  },

  async observe({ id, replaces }, deps) {
    const pod = await read<Pod>(deps, "Pod", replaces);
    const from = annotation(pod, MARKS.detachedFrom) ?? "";
    const hash = pod === undefined ? undefined : (from.split("/")[1] ?? pod.metadata.labels?.[POD_TEMPLATE_HASH]);
    // Without the pod there is nothing to say which others are its ReplicaSet's.
    const query = hash === undefined || hash === "" ? {} : { labelSelector: `${POD_TEMPLATE_HASH}=${hash}` };
    const pods = await list<Pod>(deps, "Pod", replaces.namespace, query);
    const started = pods.find((candidate) => annotation(candidate, MARKS.startedBy) === id);
    return started === undefined ? { state: "NotApplied" } : { state: "Applied", result: startedResult(started, replaces) };
  },
};

function startedResult(replacement: Pod, replaces: TargetRef): EffectResult {
  const { namespace = "", name, uid } = replacement.metadata;
  return { message: `started ${name} in the place of ${replaces.name}`, replica: { kind: "Pod", namespace, name, uid } };
}

/** Takes the pod off its ReplicaSet, unless this effect has done so already. */
async function detach(id: string, ref: TargetRef, deps: Deps, signal: AbortSignal): Promise<{ pod: Pod; set: Owner }> {
  const pod = await readPod(deps, ref, signal);
  const from = annotation(pod, MARKS.detachedFrom);
  const by = annotation(pod, MARKS.detachedBy);
  if (by === id) {
    if (from === undefined) throw new NightshiftError("EFFECT_FAILED", `${ref.name} was put back since: the start was taken back`);
    return { pod, set: await replicaSet(deps, ref.namespace, from.slice(0, from.lastIndexOf("/")), undefined, signal) };
  }
  if (from !== undefined)
    throw new NightshiftError("CONFLICTING_EFFECT", `${nameOf("Pod", pod)} was detached by ${by ?? "another effect"}`);
  const hash = pod.metadata.labels?.[POD_TEMPLATE_HASH];
  const controller = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
  if (controller?.kind !== "ReplicaSet" || hash === undefined)
    throw new NightshiftError(
      "NOT_REPLACEABLE",
      `${nameOf("Pod", pod)} ${controller === undefined ? "has no owner" : `belongs to ${controller.kind} ${controller.name}`}: no other is started while it exists`,
      { fix: "Use a strategy that evicts, such as EvictPod." },
    );
  if (pod.metadata.deletionTimestamp !== undefined) throw new NightshiftError("NOT_FOUND", `${nameOf("Pod", pod)} is being deleted`);
  const set = await replicaSet(deps, ref.namespace, controller.name, controller.uid, signal);
  if (set.spec.selector?.matchLabels?.[POD_TEMPLATE_HASH] !== hash || (set.spec.replicas ?? 0) === 0)
    throw new NightshiftError("NOT_REPLACEABLE", `ReplicaSet ${set.metadata.name} would start no other pod: it is scaled down`);
  const siblings = await podsOf(set, deps, signal);
  const newest =
    siblings
      .map((sibling) => sibling.metadata.creationTimestamp ?? "")
      .toSorted()
      .at(-1) ?? "";
  const had = siblings.filter((sibling) => sibling.metadata.creationTimestamp === newest).map((sibling) => sibling.metadata.uid);
  const detached = await patchPod(deps, pod, id, {
    labels: { [POD_TEMPLATE_HASH]: null },
    annotations: {
      [MARKS.detachedFrom]: `${set.metadata.name}/${hash}`,
      [MARKS.detachedBy]: id,
      [MARKS.detachedAfter]: [newest, ...had].join(" "),
    },
  });
  return { pod: detached, set };
}

/** The replacement once it is there and marked; undefined while it is not. */
async function claim(id: string, pod: Pod, set: Owner, deps: Deps, signal: AbortSignal): Promise<Pod | undefined> {
  const [after = "", ...had] = (annotation(pod, MARKS.detachedAfter) ?? "").split(" ");
  const pods = await podsOf(set, deps, signal);
  const claimed = pods.find((candidate) => annotation(candidate, MARKS.startedBy) === id);
  if (claimed !== undefined) return claimed;
  const [candidate] = pods
    .filter(({ metadata }) => {
      const created = metadata.creationTimestamp ?? "";
      return (
        metadata.deletionTimestamp === undefined &&
        metadata.annotations?.[MARKS.startedBy] === undefined &&
        metadata.ownerReferences?.some((reference) => reference.controller === true && reference.uid === set.metadata.uid) === true &&
        (created > after || (created === after && !had.includes(metadata.uid)))
      );
    })
    .toSorted((a, b) => ((a.metadata.creationTimestamp ?? "") < (b.metadata.creationTimestamp ?? "") ? -1 : 1));
  if (candidate === undefined) return undefined;
  try {
    return await patchPod(deps, candidate, id, {
      annotations: {
        [MARKS.startedBy]: id,
        [MARKS.replaces]: pod.metadata.uid,
        [MARKS.replacesPod]: pod.metadata.name,
      },
    });
  } catch (error) {
    // A pod that has just been made is written by the scheduler and its kubelet: look again.
    if (isConflict(error)) return undefined;
    throw error;
  }
}

function podsOf(set: Owner, deps: Deps, signal: AbortSignal): Promise<readonly Pod[]> {
  return list<Pod>(deps, "Pod", set.metadata.namespace, { labelSelector: selectorText(set.spec.selector ?? {}) }, signal);
}

async function replicaSet(deps: Deps, namespace: string, name: string, uid: string | undefined, signal: AbortSignal): Promise<Owner> {
  const ref = { kind: "ReplicaSet", namespace, name, ...(uid === undefined ? {} : { uid }) };
  const set = await read<Owner>(deps, "ReplicaSet", ref, signal);
  if (set === undefined) throw gone("ReplicaSet", ref);
  return set;
}
