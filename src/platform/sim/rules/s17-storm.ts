import { NEWS_MS, isAct, isFirstOfAttempt, isWorkloadLevel, sinceIntent, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Share of a workload's replicas, and of the cluster's workloads or nodes, that is more than the storm brake lets be ill; and the fewest that are a storm. */
const REPLICAS = 0.67;
const WORKLOADS = 0.25;
const FEWEST_WORKLOADS = 2;
/** What has been ill for longer is not ill at once with the target (ms): as `orient` has it, and less. */
const AT_ONCE_MS = 540_000;

/** In a storm nobody is restarted for it. */
export const s17Storm: Rule = {
  name: "S17",
  doc: "While so much is ill at once that the cause is shared, none of it is touched: no attempt begins on a replica while more of its workload's replicas, or of the cluster's workloads, or on a node while more of the cluster's nodes, than the storm brake allows have been unready by a fault, for long enough to be known.",
  watch: (truth) => {
    /** Since when a pod that had been ready is not, by its uid (ms since the epoch). */
    const unready = new Map<string, number>();
    return {
      checked() {
        const seen = new Set<string>();
        for (const { pods } of truth.world.workloads)
          for (const { uid, everReady, ready, phase, illness } of pods) {
            if (!everReady || ready || phase !== "Running" || illness === undefined) continue;
            seen.add(uid);
            if (!unready.has(uid)) unready.set(uid, truth.now);
          }
        for (const uid of unready.keys()) if (!seen.has(uid)) unready.delete(uid);
        return undefined;
      },
      mutated(mutation) {
        if (!isAct(mutation) || !isFirstOfAttempt(truth, mutation)) return undefined;
        const { effect, workload, node, wallMs, viewAgeMs } = mutation;
        const found = stepOf(truth, effect.id);
        if (found === undefined || isWorkloadLevel(found.remediation)) return undefined;
        // Other limits are the platform team's own; what one of them says is the gate's to know.
        if (truth.api.list("RemediationBudget").some(({ spec }) => spec.stormBrake !== undefined)) return undefined;
        const known = truth.now - NEWS_MS - viewAgeMs - sinceIntent(found.step, wallMs);
        if (node !== undefined) {
          const nodes = truth.world.nodes.filter(({ gone }) => !gone);
          const illNodes = nodes.filter(
            ({ up, ill, readyChangedAt }) => (!up || ill) && readyChangedAt < known && readyChangedAt > truth.now - AT_ONCE_MS,
          ).length;
          return illNodes > Math.max(FEWEST_WORKLOADS, Math.floor(WORKLOADS * nodes.length))
            ? `${effect.type} ${effect.id} while ${illNodes} of ${nodes.length} nodes are ill at once`
            : undefined;
        }
        // What is on a node is not held back by what else is ill, and neither is its node.
        if (workload === undefined || effect.type === "Drain") return undefined;
        const illOf = (pods: typeof workload.pods): number =>
          pods.filter(({ uid }) => {
            const since = unready.get(uid);
            return since !== undefined && since < known && since > truth.now - AT_ONCE_MS;
          }).length;
        const size = Math.max(workload.desired, workload.pods.filter(({ phase }) => phase === "Running").length);
        const ill = illOf(workload.pods);
        if (ill > Math.max(1, Math.floor(REPLICAS * size)))
          return `${effect.type} ${effect.id} while ${ill} of ${size} replicas of ${workload.spec.name} are ill at once`;
        const workloads = truth.world.workloads.filter(({ desired }) => desired > 0);
        const illWorkloads = workloads.filter(({ pods }) => illOf(pods) > 0).length;
        return illWorkloads > Math.max(FEWEST_WORKLOADS, Math.floor(WORKLOADS * workloads.length))
          ? `${effect.type} ${effect.id} while ${illWorkloads} of ${workloads.length} workloads are ill at once`
          : undefined;
      },
    };
  },
};
