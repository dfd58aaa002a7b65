import type { Remediation } from "../../../api/remediation.ts";
import { policyKeyOf, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Nobody is left outside. */
export const l3NotForgotten: Rule = {
  name: "L3",
  doc: "A pod taken out of traffic is replaced or put back, never forgotten: when everything is over, no pod is out of its Services, or let go by its owner, and still there; no node is cordoned by an episode that no person was told of, and none has left memory that it gave and that did not help.",
  watch: (truth) => {
    const isTold = (episode: Remediation): boolean =>
      truth.pages.some(({ page }) => page.severity === "Page" && page.policy === policyKeyOf(episode));
    return {
      ended: () => [
        ...truth.world.workloads.flatMap(({ pods }) =>
          pods
            .filter((pod) => pod.phase !== "Stopping" && (pod.removed || !pod.owned))
            .map((pod) => `${pod.name} is ${pod.removed ? "out of traffic" : "let go by its owner"}, and nobody is at it`),
        ),
        ...truth.world.workloads.flatMap((workload) =>
          [workload, ...workload.pods].flatMap(({ resized, effects }) => {
            const found = resized === undefined ? undefined : stepOf(truth, effects.get("resized") ?? "");
            if (found === undefined || found.attempt.outcome === "Effective" || isTold(found.remediation)) return [];
            return [`what ${workload.spec.name} was given by ${found.step.effectId} did not help, and was not taken back`];
          }),
        ),
        ...truth.world.nodes.flatMap(({ name, cordonedBy, gone }) => {
          if (gone || cordonedBy === undefined) return [];
          const episode = stepOf(truth, cordonedBy)?.remediation;
          return episode !== undefined && isTold(episode) ? [] : [`node ${name} is cordoned by ${cordonedBy}, and nobody knows`];
        }),
      ],
    };
  },
};
