import { MARKS } from "../marks.ts";
import type { Pod } from "../objects.ts";
import { annotation, type Deps, type EffectOf, type Handler, patchPod, read, readPod, retryOnConflict, seen, until } from "./shared.ts";
import { labelsToRemove, removedLabels, servedBy, servicesOf } from "./traffic.ts";

/** Takes off the labels that its Services select the pod by, and waits until no EndpointSlice has it any more. */
export const removeFromTraffic: Handler<"RemoveFromTraffic"> = {
  type: "RemoveFromTraffic",

  async apply(effect, deps, signal) {
    const pod = await retryOnConflict(deps, signal, () => takeOff(effect, deps, signal));
    // It was put back since: this effect has had its time.
    if (removedLabels(pod) === undefined) return { message: `${pod.metadata.name} was taken out of traffic, and put back since` };
    let left: string[] = [];
    await until(
      deps,
      signal,
      () => `the EndpointSlices of ${left.join(", ")} still have ${pod.metadata.name}`,
      async () => {
        left = await servedBy(pod, deps, signal);
        return left.length === 0 ? true : undefined;
      },
    );
    await seen(deps, "Pod", pod, signal);
    return { message: `${pod.metadata.name} gets no new requests` };
  },

  async observe({ id, replica }, deps) {
    const pod = await read<Pod>(deps, "Pod", replica);
    if (pod === undefined || annotation(pod, MARKS.removedBy) !== id || (await servedBy(pod, deps)).length > 0)
      return { state: "NotApplied" };
    return { state: "Applied", result: { message: `${replica.name} gets no new requests` } };
  },
};

async function takeOff({ id, replica }: EffectOf<"RemoveFromTraffic">, deps: Deps, signal: AbortSignal): Promise<Pod> {
  const pod = await readPod(deps, replica, signal);
  if (annotation(pod, MARKS.removedBy) === id) return pod;
  const removed = await labelsToRemove(pod, await servicesOf(pod, deps, signal), deps, signal);
  return patchPod(deps, pod, id, {
    labels: Object.fromEntries(Object.keys(removed).map((key) => [key, null])),
    annotations: {
      [MARKS.removedBy]: id,
      // What an earlier effect took off is off still, and must come back with the rest.
      [MARKS.removedLabels]: JSON.stringify({ ...removedLabels(pod), ...removed }),
    },
  });
}
