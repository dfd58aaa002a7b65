import { durationMs } from "../../../api/units.ts";
import { alertNewsMs, attemptOf, isAct, isFirstOfAttempt, keyOf, Moments, NEWS_MS, standsMs, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** For how long what was measured or said before speaks for a workload (ms), at least. */
const MEASURED_MS = 60_000;

/** The next rung is for what is ill. */
export const s25NotOverWell: Rule = {
  name: "S25",
  doc: "A rung after the first is not begun over what is well: when a later attempt of an episode was stored, something was wrong with its workload no longer ago than news and measurements take (replicas that are missing or not ready, an illness, requests that fail, an alert that fires about it).",
  watch: (truth) => {
    const well = new Moments();
    /** How long the workload had been well when a later attempt was stored (ms), by episode and attempt. */
    const wellBefore = new Map<string, number>();
    return {
      checked() {
        const { world, traffic, monitoring, now } = truth;
        const named = new Set([...monitoring.firing().keys()].flatMap((fingerprint) => fingerprint.split("|").slice(1)));
        for (const workload of world.workloads) {
          const { uid, pods, desired, spec } = workload;
          const isWell =
            pods.filter(({ serving }) => serving).length >= desired &&
            pods.every((pod) => (pod.ready || !pod.everReady) && pod.illness === undefined && !named.has(pod.name)) &&
            !named.has(spec.name) &&
            traffic.errorRate(workload) === 0;
          well.holds(uid, isWell, now);
        }
        return undefined;
      },
      stored({ object, before }) {
        if (object.kind !== "Remediation") return undefined;
        const had = before?.kind === "Remediation" ? before.status.attempts.length : 0;
        const has = object.status.attempts.length;
        const since = well.since(object.spec.workload.uid ?? "");
        if (has > had && has > 1) wellBefore.set(`${keyOf(object)}/${has - 1}`, since === undefined ? 0 : truth.now - since);
        return undefined;
      },
      mutated(mutation) {
        if (!isAct(mutation) || !isFirstOfAttempt(truth, mutation)) return undefined;
        const found = stepOf(truth, mutation.effect.id);
        const wellFor = wellBefore.get(attemptOf(mutation.effect.id)) ?? 0;
        if (found === undefined) return undefined;
        const { spec, metadata } = found.remediation;
        const policy = truth.api.get("RemediationPolicy", metadata.namespace, spec.policy.name);
        if (policy === undefined) return undefined;
        const stands = Math.max(MEASURED_MS, durationMs(policy.spec.verify.stableFor), standsMs(policy, spec.signal.name));
        const news = spec.signal.condition === "alert" ? alertNewsMs(truth, policy) : 0;
        return wellFor > NEWS_MS + mutation.viewAgeMs + stands + news
          ? `${metadata.name} begins attempt ${found.remediation.status.attempts.length} over ${spec.workload.name}, which has been well for ${Math.round(wellFor / 1000)} s`
          : undefined;
      },
    };
  },
};
