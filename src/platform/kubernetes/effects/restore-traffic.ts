import { MARKS } from "../marks.ts";
import type { Pod } from "../objects.ts";
import { annotation, gone, type Handler, patchPod, read, retryOnConflict, seen } from "./shared.ts";
import { removedLabels } from "./traffic.ts";

/** Puts the labels back that took the pod out of its Services. */
export const restoreTraffic: Handler<"RestoreTraffic"> = {
  type: "RestoreTraffic",

  async apply({ id, replica }, deps, signal) {
    const pod = await retryOnConflict(deps, signal, async () => {
      const found = await read<Pod>(deps, "Pod", replica, signal);
      if (found === undefined) throw gone("Pod", replica);
      const labels = removedLabels(found);
      if (labels === undefined) return found;
      return patchPod(deps, found, id, { labels, annotations: { [MARKS.removedLabels]: null, [MARKS.restoredBy]: id } });
    });
    await seen(deps, "Pod", pod, signal);
    return { message: `${replica.name} gets requests again` };
  },

  async observe({ replica }, deps) {
    const pod = await read<Pod>(deps, "Pod", replica);
    return pod === undefined || annotation(pod, MARKS.removedLabels) !== undefined
      ? { state: "NotApplied" }
      : { state: "Applied", result: { message: `${replica.name} gets requests again` } };
  },
};
