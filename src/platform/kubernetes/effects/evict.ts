import type { Pod } from "../objects.ts";
import { removePod } from "./removal.ts";
import { type Handler, read } from "./shared.ts";

/** Evicts the pod, which its owner then starts anew, where it has one. */
export const evict: Handler<"Evict"> = {
  type: "Evict",

  async apply({ id, replica, gracePeriodMs }, deps, signal) {
    await removePod(id, replica, { by: "Evict", gracePeriodMs }, deps, signal);
    return { message: `evicted ${replica.name}` };
  },

  async observe({ replica }, deps) {
    const pod = await read<Pod>(deps, "Pod", replica);
    return pod === undefined ? { state: "Applied", result: { message: `${replica.name} is gone` } } : { state: "NotApplied" };
  },
};
