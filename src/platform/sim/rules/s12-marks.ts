import { isAct, Moments, NEWS_MS, sinceIntent, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Hands off means hands off. */
export const s12Marks: Rule = {
  name: "S12",
  doc: "`nightshift.dev/do-not-remediate` on a pod, workload, node or namespace is always obeyed: no write to what has been marked, or a node that what is marked is on, for long enough to be known, other than to take back what was done before.",
  watch: (truth) => {
    const marks = new Moments();
    return {
      checked() {
        marks.holds("namespace", truth.world.namespaceMarked, truth.now);
        for (const workload of truth.world.workloads) {
          marks.holds(workload.uid, workload.marked, truth.now);
          for (const pod of workload.pods) {
            marks.holds(pod.uid, pod.marked, truth.now);
            marks.holds(`${pod.uid}/node`, pod.node.marked, truth.now);
          }
        }
        for (const node of truth.world.nodes) marks.holds(node.uid, node.marked, truth.now);
        return undefined;
      },
      mutated(mutation) {
        if (!isAct(mutation)) return undefined;
        const { effect, workload, pod, node, viewAgeMs, wallMs } = mutation;
        const found = stepOf(truth, effect.id);
        const known = truth.now - NEWS_MS - viewAgeMs - (found === undefined ? 0 : sinceIntent(found.step, wallMs));
        const marked = [
          ...(node === undefined
            ? [["namespace", "its namespace"]]
            : [
                [node.uid, `node ${node.name}`],
                // It could not be emptied.
                ...truth.world.workloads.flatMap(({ uid, spec, pods }) =>
                  pods.flatMap((on) => {
                    if (on.node !== node || on.createdAt >= known) return [];
                    return [
                      [on.uid, on.name],
                      [uid, spec.name],
                      ["namespace", "a namespace of what is on it"],
                    ];
                  }),
                ),
              ]),
          ...(workload === undefined ? [] : [[workload.uid, workload.spec.name]]),
          ...(pod === undefined
            ? []
            : [
                [pod.uid, pod.name],
                [`${pod.uid}/node`, `node ${pod.node.name}`],
              ]),
        ].find(([key = ""]) => (marks.since(key) ?? Infinity) < known);
        return marked === undefined
          ? undefined
          : `${effect.type} ${effect.id} on ${pod?.name ?? workload?.spec.name ?? node?.name ?? ""}, though ${marked[1]} is marked do-not-remediate`;
      },
    };
  },
};
