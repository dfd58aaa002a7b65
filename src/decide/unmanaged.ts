import { DO_NOT_REMEDIATE, targetKey } from "../api/meta.ts";
import { covers } from "../api/targets.ts";
import type { Markable } from "../ports/platform.ts";
import { block, isWorkloadLevel, NO_POLICY, pass } from "./episode.ts";
import type { Gate } from "./gate.ts";

/** Where the mark is, if it is there with any value but `false`. An empty value is a mark too. */
function markOf(thing: Markable): string | undefined {
  for (const [where, values] of [
    ["label", thing.labels],
    ["annotation", thing.annotations],
  ] as const) {
    const value = Object.hasOwn(values, DO_NOT_REMEDIATE) ? values[DO_NOT_REMEDIATE] : undefined;
    if (value !== undefined && value.trim().toLowerCase() !== "false")
      return `${targetKey(thing.ref)} carries the ${where} ${DO_NOT_REMEDIATE}: ${JSON.stringify(value)}`;
  }
  return undefined;
}

/**
 * Blocks what its owner has marked, and what the policy does not cover. For an action on a whole workload, which may touch
 * any of its replicas, a mark on one of them is enough. A workload that does not exist passes here: NoData and
 * BudgetExhausted block it.
 */
export const unmanaged: Gate = {
  name: "Unmanaged",
  doc: `What carries \`${DO_NOT_REMEDIATE}\`, itself or around it, and what no target of the policy names, is never touched.`,
  onEveryStep: true,
  check(context) {
    const { policy, workload, replica } = context;
    if (policy === undefined) return NO_POLICY;
    if (workload === undefined) return pass("the workload does not exist, so nothing there can be marked");
    const touched: Markable[] = [workload, ...workload.enclosing];
    const replicas = isWorkloadLevel(context) ? workload.replicas : replica === undefined ? [] : [replica];
    for (const each of replicas) touched.push(each, ...(each.around ?? []));
    for (const thing of touched) {
      const mark = markOf(thing);
      if (mark !== undefined) return block(mark);
    }
    if (!covers(policy, workload, replica))
      return block(`${targetKey((replica ?? workload).ref)} is no target of policy ${policy.metadata.namespace}/${policy.metadata.name}`);
    return pass("covered by the policy, and not marked do-not-remediate");
  },
};
