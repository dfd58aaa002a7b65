import type { Rule } from "./rule.ts";

/** Nobody is left outside. */
export const l3NotForgotten: Rule = {
  name: "L3",
  doc: "A pod taken out of traffic is replaced or put back, never forgotten: when everything is over, no pod is out of its Services, or let go by its owner, and still there.",
  watch: (truth) => ({
    ended: () =>
      truth.world.workloads.flatMap(({ pods }) =>
        pods
          .filter((pod) => pod.phase !== "Stopping" && (pod.removed || !pod.owned))
          .map((pod) => `${pod.name} is ${pod.removed ? "out of traffic" : "let go by its owner"}, and nobody is at it`),
      ),
  }),
};
