import { NightshiftError } from "../../../api/errors.ts";
import type { EffectResult } from "../../../ports/platform.ts";
import { isForbidden, isInvalid, isNotFound } from "../errors.ts";
import { MARKS } from "../marks.ts";
import type { Container, Owner, Pod, Resources } from "../objects.ts";
import { quantityNumber, quantityText } from "../quantity.ts";
import { mainContainer, objectPath, templateHash } from "../records.ts";
import { readOwner, refuseOwned, refuseUnrollable, templatedKind } from "./owner.ts";
import {
  annotation,
  apply,
  type Deps,
  type EffectOf,
  type Handler,
  nameOf,
  patchPod,
  read,
  readPod,
  retryOnConflict,
  seen,
  until,
} from "./shared.ts";

/** What was changed, and what there was before: kept on the object for the way back. */
export interface ResizedFrom {
  readonly container: string;
  readonly resources: Resources;
}

/**
 * Raises the memory limit of a pod's main container in place, through `pods/resize`. Where the cluster or the node cannot,
 * or the container would be restarted for it, nothing is left changed, and the workload's template is given the limit
 * instead, if that is asked for.
 */
export const resize: Handler<"Resize"> = {
  type: "Resize",

  async apply(effect, deps, signal) {
    const refusal = await inPlace(effect, deps, signal);
    if (refusal === undefined) return inPlaceResult(effect);
    if (!effect.rollout) throw new NightshiftError("RESIZE_REFUSED", `${effect.replica.name} cannot be resized: ${refusal}`);
    const { owner, kind } = await byRollout(effect, deps, signal);
    await seen(deps, kind, owner, signal);
    return rolloutResult(effect, owner);
  },

  async observe(effect, deps) {
    const pod = await read<Pod>(deps, "Pod", effect.replica);
    if (pod !== undefined && annotation(pod, MARKS.resizedBy) === effect.id && carriedOut(pod, mainContainer(pod)) === effect.memoryBytes)
      return { state: "Applied", result: inPlaceResult(effect) };
    if (!effect.rollout) return { state: "NotApplied" };
    const owner = await read<Owner>(deps, templatedKind(effect.workload, "a rollout"), effect.workload);
    return owner !== undefined && annotation(owner, MARKS.resizedBy) === effect.id
      ? { state: "Applied", result: rolloutResult(effect, owner) }
      : { state: "NotApplied" };
  },
};

function inPlaceResult({ replica, memoryBytes }: EffectOf<"Resize">): EffectResult {
  return { message: `${replica.name} has a memory limit of ${quantityText(memoryBytes)}` };
}

function rolloutResult({ workload, memoryBytes }: EffectOf<"Resize">, owner: Owner): EffectResult {
  return {
    message: `${nameOf(workload.kind, workload)} rolls out with a memory limit of ${quantityText(memoryBytes)}`,
    revision: templateHash(owner.spec.template),
  };
}

/** Resizes the pod; why not, where it cannot be, with nothing left changed. */
async function inPlace(effect: EffectOf<"Resize">, deps: Deps, signal: AbortSignal): Promise<string | undefined> {
  const { id, replica, memoryBytes } = effect;
  const pod = await readPod(deps, replica, signal);
  const name = mainContainer(pod);
  const container = containerOf(pod.spec.containers, name);
  if (annotation(pod, MARKS.resizedBy) !== id) {
    if ((limitOf(container.resources) ?? Infinity) >= memoryBytes)
      return `its memory limit is ${String(container.resources?.limits?.["memory"] ?? "none")} already`;
    const policies = (container["resizePolicy"] ?? []) as readonly { resourceName?: string; restartPolicy?: string }[];
    if (policies.some((p) => p.resourceName === "memory" && p.restartPolicy === "RestartContainer"))
      return `its container ${name} would be restarted for it (resizePolicy)`;
  }
  const refusal = await retryOnConflict(deps, signal, () => ask(effect, name, deps, signal));
  if (refusal !== undefined) {
    await takeBack(effect, deps, signal);
    return refusal;
  }
  let last = "the kubelet has not carried it out";
  try {
    const end = await until<{ readonly pod: Pod } | { readonly refusal: string }>(
      deps,
      signal,
      () => last,
      async () => {
        const now = await readPod(deps, replica, signal);
        if (carriedOut(now, name) === memoryBytes) return { pod: now };
        const pending = now.status?.conditions?.find((condition) => condition.type === "PodResizePending");
        if (pending?.reason === "Infeasible") return { refusal: `its node cannot: ${pending.message ?? pending.reason}` };
        if (pending !== undefined) last = `it is put off: ${pending.message ?? pending.reason ?? ""}`;
        return undefined;
      },
    );
    if ("pod" in end) {
      await seen(deps, "Pod", end.pod, signal);
      return undefined;
    }
    await takeBack(effect, deps, signal);
    return end.refusal;
  } catch (error) {
    // What is wished for and was not carried out must not be carried out at some later time.
    await takeBack(effect, deps, new AbortController().signal);
    throw error;
  }
}

/** Marks the pod and asks for the resize; says why it is refused. */
async function ask(
  { id, replica, memoryBytes }: EffectOf<"Resize">,
  name: string,
  deps: Deps,
  signal: AbortSignal,
): Promise<string | undefined> {
  const pod = await readPod(deps, replica, signal);
  const { resources = {} } = containerOf(pod.spec.containers, name);
  if (limitOf(resources) === memoryBytes) return undefined;
  const from: ResizedFrom = { container: name, resources };
  const marked =
    annotation(pod, MARKS.resizedBy) === id
      ? pod
      : await patchPod(deps, pod, id, {
          annotations: {
            [MARKS.resizedBy]: id,
            [MARKS.resizedFrom]: JSON.stringify(from),
            [MARKS.resizedTo]: String(memoryBytes),
            [MARKS.resizedBackBy]: null,
          },
        });
  try {
    await sendResize(marked, name, raisedResources(pod, resources, memoryBytes), deps, signal);
    return undefined;
  } catch (error) {
    if (isNotFound(error)) return "the API server has no pods/resize";
    // The API server itself forbids what the node has not: whoever was deposed meets the next write, too.
    if (isInvalid(error) || isForbidden(error)) return error.message;
    throw error;
  }
}

/** Sets the resources of a pod's container through the subresource, if the pod is as it was read. */
export async function sendResize(pod: Pod, container: string, resources: Resources, deps: Deps, signal: AbortSignal): Promise<Pod> {
  const { namespace = "", name, resourceVersion } = pod.metadata;
  deps.epoch();
  return deps.client.request<Pod>({
    method: "PATCH",
    path: `${objectPath("Pod", namespace, name)}/resize`,
    contentType: "application/strategic-merge-patch+json",
    body: { metadata: { resourceVersion }, spec: { containers: [{ name: container, resources }] } },
    signal,
  });
}

/** The quality of service of a pod must stay: of one whose requests are its limits, both are raised. */
function raisedResources(pod: Pod, { limits, requests }: Resources, memoryBytes: number): Resources {
  const memory = quantityText(memoryBytes);
  return {
    limits: { ...limits, memory },
    ...(pod.status?.qosClass === "Guaranteed" ? { requests: { ...requests, memory } } : {}),
  };
}

/** Wishes for what the pod had before, and forgets that anything else was wished for. */
async function takeBack({ id, replica, memoryBytes }: EffectOf<"Resize">, deps: Deps, signal: AbortSignal): Promise<void> {
  await retryOnConflict(deps, signal, async () => {
    const pod = await read<Pod>(deps, "Pod", replica, signal);
    const from = resizedFrom(pod);
    if (pod === undefined || from === undefined || annotation(pod, MARKS.resizedBy) !== id) return;
    const isWished = limitOf(containerOf(pod.spec.containers, from.container).resources) === memoryBytes;
    const back = isWished ? await sendResize(pod, from.container, from.resources, deps, signal) : pod;
    await patchPod(deps, back, id, {
      annotations: { [MARKS.resizedBy]: null, [MARKS.resizedFrom]: null, [MARKS.resizedTo]: null },
    });
  });
}

async function byRollout(
  effect: EffectOf<"Resize">,
  deps: Deps,
  signal: AbortSignal,
): Promise<{ owner: Owner; kind: "Deployment" | "StatefulSet" | "DaemonSet" }> {
  const { id, workload, memoryBytes } = effect;
  const kind = templatedKind(workload, "a rollout");
  const owner = await retryOnConflict(deps, signal, async () => {
    const found = await readOwner(deps, kind, workload, signal);
    if (annotation(found, MARKS.resizedBy) === id) return found;
    const spec = found.spec.template?.spec;
    const name = spec === undefined ? "" : mainContainer({ spec, metadata: found.spec.template?.metadata ?? {} });
    const { resources = {} } = containerOf(spec?.containers ?? [], name);
    if ((limitOf(resources) ?? Infinity) >= memoryBytes) return found;
    refuseUnrollable(kind, found);
    refuseOwned(kind, found, ["resources"]);
    const isEqual = resources.requests?.["memory"] !== undefined && limitOf(resources) === quantityNumber(resources.requests["memory"]);
    const memory = quantityText(memoryBytes);
    const raised: Resources = { limits: { memory }, ...(isEqual ? { requests: { memory } } : {}) };
    const from: ResizedFrom = { container: name, resources };
    return apply(
      deps,
      kind,
      found,
      id,
      {
        annotations: {
          [MARKS.resizedBy]: id,
          [MARKS.resizedFrom]: JSON.stringify(from),
          [MARKS.resizedTo]: String(memoryBytes),
          [MARKS.resizedBackBy]: null,
        },
        spec: { template: { spec: { containers: [{ name, resources: raised }] } } },
      },
      signal,
    );
  });
  return { owner, kind };
}

/** What was kept for the way back; undefined where nothing was, or it was taken back. */
export function resizedFrom(object: Pod | Owner | undefined): ResizedFrom | undefined {
  const text = annotation(object, MARKS.resizedFrom);
  return text === undefined ? undefined : (JSON.parse(text) as ResizedFrom);
}

/** The memory limit in force, as the kubelet says. */
function carriedOut(pod: Pod, container: string): number | undefined {
  return limitOf(pod.status?.containerStatuses?.find((status) => status.name === container)?.resources);
}

export function limitOf(resources: Resources | undefined): number | undefined {
  return quantityNumber(resources?.limits?.["memory"]);
}

export function containerOf(containers: readonly Container[], name: string): Container {
  const found = containers.find((container) => container.name === name);
  if (found === undefined) throw new NightshiftError("NOT_FOUND", `there is no container ${name}`);
  return found;
}
