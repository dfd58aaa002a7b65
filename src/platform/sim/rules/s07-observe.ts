import { NEWS_MS, sinceIntent, Moments, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Who observes touches nothing. */
export const s07Observe: Rule = {
  name: "S7",
  doc: "`Observe` writes nothing but its own records: no write to the cluster for an episode or a policy in that mode, other than to take back what was done before.",
  watch: (truth) => {
    const observing = new Moments();
    return {
      checked() {
        for (const { metadata, spec } of truth.api.list("RemediationPolicy"))
          observing.holds(metadata.name, spec.mode === "Observe", truth.now);
        return undefined;
      },
      mutated({ effect, wallMs, viewAgeMs }) {
        const found = stepOf(truth, effect.id);
        if (found === undefined || found.undoes) return undefined;
        const { name } = found.remediation.spec.policy;
        if (found.remediation.spec.mode === "Observe") return `${effect.type} ${effect.id} in an episode that only observes`;
        const since = observing.since(name);
        const known = truth.now - NEWS_MS - viewAgeMs - sinceIntent(found.step, wallMs);
        return since !== undefined && since < known ? `${effect.type} ${effect.id}, though policy ${name} only observes by now` : undefined;
      },
    };
  },
};
