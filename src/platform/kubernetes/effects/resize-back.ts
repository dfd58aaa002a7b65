import { isOwn } from "../managed-fields.ts";
import { MARKS } from "../marks.ts";
import type { Owner, Pod, Resources } from "../objects.ts";
import { templateHash } from "../records.ts";
import { templatedKind } from "./owner.ts";
import { containerOf, limitOf, resizedFrom, sendResize } from "./resize.ts";
import { annotation, apply, type Deps, type EffectOf, type Handler, nameOf, patchPod, read, retryOnConflict, seen } from "./shared.ts";

/**
 * Gives a pod, or the workload's template, the memory limit back that it had, unless somebody has set another since. A
 * kubelet does not lower a limit below what is in use: the pod then keeps the higher one until it is replaced.
 */
export const resizeBack: Handler<"ResizeBack"> = {
  type: "ResizeBack",

  async apply(effect, deps, signal) {
    const pod = await retryOnConflict(deps, signal, () => podBack(effect, deps, signal));
    if (pod !== undefined) await seen(deps, "Pod", pod, signal);
    const owner = await retryOnConflict(deps, signal, () => templateBack(effect, deps, signal));
    if (owner !== undefined) {
      await seen(deps, templatedKind(effect.workload, "a rollout"), owner, signal);
      return {
        message: `${nameOf(effect.workload.kind, effect.workload)} rolls out with the memory that it had before`,
        revision: templateHash(owner.spec.template),
      };
    }
    return {
      message: `${effect.replica.name} ${pod === undefined ? "has nothing to take back" : "asks for the memory that it had before"}`,
    };
  },

  async observe(effect, deps) {
    const isLeft = (object: Pod | Owner | undefined): boolean =>
      annotation(object, MARKS.resizedBy) === effect.of && resizedFrom(object) !== undefined;
    const pod = await read<Pod>(deps, "Pod", effect.replica);
    const owner = await readTemplate(effect, deps);
    return isLeft(pod) || isLeft(owner)
      ? { state: "NotApplied" }
      : { state: "Applied", result: { message: `${effect.replica.name}: the memory more is taken back` } };
  },
};

/** The memory of what there was before: the rest was not changed, and is not ours to state. */
function memoryOf({ limits, requests }: Resources): Resources {
  const memory = (list: Resources["limits"]): Record<string, string | number> | undefined =>
    list?.["memory"] === undefined ? undefined : { memory: list["memory"] };
  const [limit, request] = [memory(limits), memory(requests)];
  return { ...(limit && { limits: limit }), ...(request && { requests: request }) };
}

const DONE = (id: string): Record<string, string | null> => ({
  [MARKS.resizedFrom]: null,
  [MARKS.resizedTo]: null,
  [MARKS.resizedBackBy]: id,
});

async function podBack({ id, replica, of }: EffectOf<"ResizeBack">, deps: Deps, signal: AbortSignal): Promise<Pod | undefined> {
  const pod = await read<Pod>(deps, "Pod", replica, signal);
  const from = resizedFrom(pod);
  if (pod === undefined || from === undefined || annotation(pod, MARKS.resizedBy) !== of) return undefined;
  const now = limitOf(containerOf(pod.spec.containers, from.container).resources);
  if (now !== Number(annotation(pod, MARKS.resizedTo))) return patchPod(deps, pod, id, { annotations: DONE(id) });
  // Signed first, so that the resize itself is an authorised one.
  const marked = await patchPod(deps, pod, id, {});
  return patchPod(deps, await sendResize(marked, from.container, from.resources, deps, signal), id, { annotations: DONE(id) });
}

async function readTemplate({ workload }: EffectOf<"ResizeBack">, deps: Deps, signal?: AbortSignal): Promise<Owner | undefined> {
  const { kind } = workload;
  if (kind !== "Deployment" && kind !== "StatefulSet" && kind !== "DaemonSet") return undefined;
  return read<Owner>(deps, kind, workload, signal);
}

async function templateBack(effect: EffectOf<"ResizeBack">, deps: Deps, signal: AbortSignal): Promise<Owner | undefined> {
  const { id, workload, of } = effect;
  const owner = await readTemplate(effect, deps, signal);
  const from = resizedFrom(owner);
  if (owner === undefined || from === undefined || annotation(owner, MARKS.resizedBy) !== of) return undefined;
  const kind = templatedKind(workload, "a rollout");
  const now = limitOf(containerOf(owner.spec.template?.spec?.containers ?? [], from.container).resources);
  const path = ["f:spec", "f:template", "f:spec", "f:containers", `k:${JSON.stringify({ name: from.container })}`, "f:resources"];
  if (now !== Number(annotation(owner, MARKS.resizedTo)) || !isOwn(owner, [...path, "f:limits", "f:memory"]))
    return apply(deps, kind, owner, id, { annotations: DONE(id) }, signal);
  const spec = { template: { spec: { containers: [{ name: from.container, resources: memoryOf(from.resources) }] } } };
  return apply(deps, kind, owner, id, { annotations: DONE(id), spec }, signal);
}
