import { MARKS } from "../marks.ts";
import type { Owner, Pod } from "../objects.ts";
import { templateHash } from "../records.ts";
import { templatedKind } from "./owner.ts";
import { containerOf, limitOf, resizedFrom, sendResize } from "./resize.ts";
import { annotation, type Deps, type EffectOf, type Handler, nameOf, patch, read, retryOnConflict, seen } from "./shared.ts";

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
  if (now !== Number(annotation(pod, MARKS.resizedTo))) return patch(deps, "Pod", pod, id, { annotations: DONE(id) });
  // Signed first, so that the resize itself is an authorised one.
  const marked = await patch(deps, "Pod", pod, id, {});
  return patch(deps, "Pod", await sendResize(marked, from.container, from.resources, deps, signal), id, { annotations: DONE(id) });
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
  if (now !== Number(annotation(owner, MARKS.resizedTo))) return patch(deps, kind, owner, id, { annotations: DONE(id) });
  const spec = { template: { spec: { containers: [{ name: from.container, resources: from.resources }] } } };
  return patch(deps, kind, owner, id, { annotations: DONE(id), spec }, { strategic: true, signal });
}
