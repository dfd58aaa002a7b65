import { timeMs } from "../../../api/time.ts";
import { isAct, knownBefore, Moments, policyKeyOf, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** The emergency brake brakes. */
export const s14Paused: Rule = {
  name: "S14",
  doc: "Nothing is done under a policy that is paused or deleted, or while the platform team has paused everything, or its namespace: no write for an episode of one that has been so long enough to be known, other than to take back what was done before.",
  watch: (truth) => {
    const paused = new Moments();
    /** Since when each epoch leads: who takes up what another began asks anew. */
    const reigns = new Moments();
    const namespaces = new Set([...truth.world.workloads.map(({ ref }) => ref.namespace), truth.scenario.nodesIn ?? "default"]);
    const isPaused = (pause: { readonly until?: string | undefined } | undefined): boolean =>
      pause !== undefined && (pause.until === undefined || timeMs(pause.until) > truth.now);
    // A pause that ends at a time ends by the operators' clocks.
    const clocksJump = truth.scenario.faults.some(({ kind }) => kind === "ClockJump");
    return {
      checked() {
        reigns.holds(String(truth.leaderEpoch), true, truth.now);
        const budgets = truth.api.list("RemediationBudget").filter(({ spec }) => isPaused(spec.paused));
        for (const namespace of namespaces)
          paused.holds(
            `all of ${namespace}`,
            budgets.some(({ spec }) => spec.namespaces?.includes(namespace) !== false),
            truth.now,
          );
        const names = new Set(truth.scenario.policies.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
        for (const { metadata, spec } of truth.api.list("RemediationPolicy")) {
          const key = `${metadata.namespace}/${metadata.name}`;
          names.delete(key);
          paused.holds(key, isPaused(spec.paused), truth.now);
        }
        for (const deleted of names) paused.holds(deleted, true, truth.now);
        return undefined;
      },
      mutated(mutation) {
        const { effect } = mutation;
        const found = stepOf(truth, effect.id);
        if (clocksJump || found === undefined || found.undoes || !isAct(mutation)) return undefined;
        const key = policyKeyOf(found.remediation);
        const { namespace } = found.remediation.spec.workload;
        const since = Math.min(paused.since(key) ?? Infinity, paused.since(`all of ${namespace}`) ?? Infinity);
        const reign = truth.now - (reigns.since(String(mutation.epoch)) ?? truth.now);
        if (since >= knownBefore(truth, mutation, found.step, { longestMs: reign })) return undefined;
        return `${effect.type} ${effect.id}, though ${key} has been paused or gone for ${Math.round((truth.now - since) / 1000)} s`;
      },
    };
  },
};
