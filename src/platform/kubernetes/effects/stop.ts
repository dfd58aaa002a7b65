import type { Pod } from "../objects.ts";
import { removePod } from "./removal.ts";
import { type Handler, read } from "./shared.ts";

/** Deletes the pod; where a PodDisruptionBudget counts it, by an eviction. */
export const stop: Handler<"Stop"> = {
  type: "Stop",

  async apply({ id, replica, gracePeriodMs }, deps, signal) {
    await removePod(id, replica, { by: "Stop", gracePeriodMs }, deps, signal);
    return { message: `stopped ${replica.name}` };
  },

  async observe({ replica }, deps) {
    const pod = await read<Pod>(deps, "Pod", replica);
    return pod === undefined ? { state: "Applied", result: { message: `${replica.name} is gone` } } : { state: "NotApplied" };
  },
};
