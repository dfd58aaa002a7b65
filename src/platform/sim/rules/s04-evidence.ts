import { Evidence } from "./evidence.ts";
import { alertNewsMs, isAct, isFirstOfAttempt, NEWS_MS, policyKeyOf, standsMs, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Without a reading for this long nothing that was measured speaks for anything (ms): as `orient` has it, and some more. */
const SILENT_MS = 60_000;

/** No action without evidence. */
export const s04Evidence: Rule = {
  name: "S4",
  doc: "An empty result, an absent metric, an empty selector, a stale or resolved signal: no action. At the first write of an episode its condition truly held, no longer ago than `maxSignalAge` and what news take; and where it is measured, measurements come in.",
  watch: (truth) => {
    const evidence = new Evidence(truth);
    const knownSince = new Map<string, number>();
    return {
      checked() {
        evidence.look();
        return undefined;
      },
      stored({ object, before }) {
        if (object.kind !== "Remediation") return undefined;
        const had = before?.kind === "Remediation" ? before.status.attempts.length : 0;
        if (object.status.attempts.length > had) knownSince.set(`${object.metadata.name}/${object.status.attempts.length - 1}`, truth.now);
        return undefined;
      },
      mutated(mutation) {
        if (!isAct(mutation) || !isFirstOfAttempt(truth, mutation)) return undefined;
        const found = stepOf(truth, mutation.effect.id);
        if (found === undefined || found.remediation.status.attempts.length > 1) return undefined;
        const { remediation } = found;
        const policy = truth.api
          .list("RemediationPolicy")
          .find((each) => `${each.metadata.namespace}/${each.metadata.name}` === policyKeyOf(remediation));
        if (policy === undefined) return undefined;
        const { condition, name } = remediation.spec.signal;
        const begun = knownSince.get(`${remediation.metadata.name}/0`) ?? truth.now;
        const what = `${mutation.effect.type} ${mutation.effect.id} for ${name}`;
        if (condition === "errorRate" || condition === "trend" || condition === "metric" || condition === "log") {
          const { telemetryGapSince } = truth;
          if (telemetryGapSince !== undefined && begun - telemetryGapSince > SILENT_MS)
            return `${what}: nothing was measured for ${Math.round((begun - telemetryGapSince) / 1000)} s`;
        }
        const held = evidence.lastHeld(remediation, policy);
        if (held === undefined) return undefined;
        const news = condition === "alert" ? alertNewsMs(truth, policy) : NEWS_MS + mutation.viewAgeMs;
        const spans = condition === "errorRate" ? SILENT_MS + NEWS_MS : news + standsMs(policy, name);
        if (begun - held <= spans) return undefined;
        return `${what}: it ${held === -Infinity ? "never held" : `was over for ${Math.round((begun - held) / 1000)} s`}`;
      },
    };
  },
};
