import { durationMs } from "../../../api/units.ts";
import { Evidence } from "./evidence.ts";
import { NEWS_MS } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** What was held back is not made up for. */
export const s11NoBacklog: Rule = {
  name: "S11",
  doc: "Breakers never block healing events, and a closed breaker does not replay its backlog: an episode that was held back begins only while its condition truly holds, and one whose condition has ceased ends.",
  watch: (truth) => {
    const evidence = new Evidence(truth);
    return {
      checked() {
        evidence.look();
        return undefined;
      },
      stored({ object, before }) {
        if (object.kind !== "Remediation" || before?.kind !== "Remediation") return undefined;
        const held = before.status.phase === "Blocked" && before.status.attempts.length === 0;
        if (!held || object.status.attempts.length === 0) return undefined;
        const policy = truth.api.get("RemediationPolicy", object.metadata.namespace, object.spec.policy.name);
        const last = policy === undefined ? undefined : evidence.lastHeld(object, policy);
        if (policy === undefined || last === undefined) return undefined;
        const { groupIntervalMs } = truth.scenario.monitoring;
        const news =
          object.spec.signal.condition === "probe" ? 2 * NEWS_MS : durationMs(policy.spec.maxSignalAge) + groupIntervalMs + 4 * NEWS_MS;
        if (truth.now - last <= news) return undefined;
        return `${object.metadata.name} was held back (${before.status.reason ?? ""}) and begins, ${Math.round((truth.now - last) / 1000)} s after ${object.spec.signal.name} ceased`;
      },
    };
  },
};
