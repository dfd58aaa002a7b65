import { policyKeyOf, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Nobody is left outside. */
export const l3NotForgotten: Rule = {
  name: "L3",
  doc: "A pod taken out of traffic is replaced or put back, never forgotten: when everything is over, no pod is out of its Services, or let go by its owner, and still there; and no node is cordoned by an episode that no person was told of.",
  watch: (truth) => ({
    ended: () => [
      ...truth.world.workloads.flatMap(({ pods }) =>
        pods
          .filter((pod) => pod.phase !== "Stopping" && (pod.removed || !pod.owned))
          .map((pod) => `${pod.name} is ${pod.removed ? "out of traffic" : "let go by its owner"}, and nobody is at it`),
      ),
      ...truth.world.nodes.flatMap(({ name, cordonedBy, gone }) => {
        if (gone || cordonedBy === undefined) return [];
        const episode = stepOf(truth, cordonedBy)?.remediation;
        const told = truth.pages.some(({ page }) => page.severity === "Page" && page.policy === (episode && policyKeyOf(episode)));
        return told ? [] : [`node ${name} is cordoned by ${cordonedBy}, and nobody knows`];
      }),
    ],
  }),
};
