import type { Rule } from "./rule.ts";

/** The old one serves until the new one can. */
export const s20Capacity: Rule = {
  name: "S20",
  doc: "A replica that another takes the place of stays in traffic, and stays, until that one has been ready: no write takes it out of its Services or away before.",
  watch: () => ({
    mutated({ effect, verb, workload, pod }) {
      if (pod === undefined || workload === undefined || (effect.type !== "RemoveFromTraffic" && effect.type !== "Stop")) return undefined;
      if (verb !== "removeFromTraffic" && verb !== "delete") return undefined;
      const replacement = workload.pods.find(({ replaces }) => replaces === pod.uid);
      return replacement === undefined || replacement.everReady
        ? undefined
        : `${effect.type} of ${pod.name}, and ${replacement.name}, which takes its place, has never been ready`;
    },
  }),
};
