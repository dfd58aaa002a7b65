import { parsePercent } from "../../api/units.ts";
import type { Workload } from "../../ports/platform.ts";
import type { PdbRecord } from "./records.ts";

/** A number, or a share of `total` rounded up, as the disruption controller does for both of its fields. */
function scaled(value: number | string, total: number): number {
  if (typeof value === "number") return value;
  // 29% of 100 is 28.999999999999996 in binary; the tolerance is far below any percentage that can be written.
  return Math.ceil((parsePercent(value) ?? 1) * total - 1e-9);
}

/**
 * How many of a workload must stay available by its PodDisruptionBudgets, the strictest of them.
 *
 * @param expected how many pods the workload should have; `available` how many it has now.
 */
export function minAvailableOf(budgets: readonly PdbRecord[], expected: number, available: number): Pick<Workload, "minAvailable"> {
  let strictest: NonNullable<Workload["minAvailable"]> | undefined;
  for (const pdb of budgets) {
    const shared = pdb.expectedPods > expected;
    const written = pdb.minAvailable === undefined ? `maxUnavailable ${pdb.maxUnavailable ?? 0}` : `minAvailable ${pdb.minAvailable}`;
    const own = pdb.minAvailable === undefined ? expected - scaled(pdb.maxUnavailable ?? 0, expected) : scaled(pdb.minAvailable, expected);
    // A budget over several workloads is counted by the API server only: what it allows now is what may be taken here.
    const count = Math.min(expected, shared ? available - pdb.disruptionsAllowed : own);
    if (strictest !== undefined && strictest.count >= count) continue;
    strictest = {
      count: Math.max(0, count),
      source: `PodDisruptionBudget ${pdb.namespace}/${pdb.name}, ${written}, disruptionsAllowed ${pdb.disruptionsAllowed} (currentHealthy ${pdb.currentHealthy}, desiredHealthy ${pdb.desiredHealthy})`,
    };
  }
  return strictest === undefined ? {} : { minAvailable: strictest };
}
