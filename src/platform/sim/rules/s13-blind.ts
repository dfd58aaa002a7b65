import { targetKey } from "../../../api/meta.ts";
import { durationMs } from "../../../api/units.ts";
import { isAct, knownBefore } from "./facts.ts";
import type { Rule } from "./rule.ts";
import { Versions } from "./versions.ts";

/** How old what an operator knows may be (ms): as the Kubernetes platform has it, and the requests that were under way. */
const MAX_AGE_MS = 180_000 + 10_000;

/** The blind do not act. */
export const s13Blind: Rule = {
  name: "S13",
  doc: "Without Prometheus, API server or agent: no destructive action, and no burst when they return: no write by whom has heard nothing of the API server for minutes, and right after an outage one episode a workload begins within its cooldown.",
  watch: (truth) => {
    const versions = new Versions(truth);
    const begun = new Map<string, number>();
    return {
      mutated(mutation) {
        if (!isAct(mutation) || mutation.viewAgeMs <= MAX_AGE_MS) return undefined;
        return `${mutation.effect.type} ${mutation.effect.id} by an operator that has heard nothing of the API server for ${Math.round(mutation.viewAgeMs / 1000)} s`;
      },
      stored(change) {
        versions.changed(change);
        const { object, before } = change;
        if (object.kind !== "Remediation" || object.spec.mode === "Observe") return undefined;
        const had = before?.kind === "Remediation" ? before.status.attempts.length : 0;
        if (had > 0 || object.status.attempts.length === 0) return undefined;
        const key = `${object.spec.policy.name} ${targetKey(object.spec.workload)}`;
        const last = begun.get(key);
        begun.set(key, truth.now);
        const policy = truth.api.get("RemediationPolicy", object.metadata.namespace, object.spec.policy.name);
        if (truth.outageEndedAt === undefined || truth.now > truth.outageEndedAt || last === undefined || policy === undefined)
          return undefined;
        const known = knownBefore(truth, { viewAgeMs: 0, wallMs: truth.now }, {}, { kind: "RemediationPolicy" });
        const said = versions.policiesSince(object.metadata.namespace, object.spec.policy.name, known);
        const rest = said.reduce((least, each) => Math.min(least, durationMs(each.spec.cooldown)), 60_000);
        return truth.now - last < rest - 5_000
          ? `a burst after an outage: episodes of ${key} begin within ${Math.round((truth.now - last) / 1000)} s`
          : undefined;
      },
    };
  },
};
