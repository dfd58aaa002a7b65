import { durationMs } from "../../../api/units.ts";
import { isAct, isFirstOfAttempt, Moments, NEWS_MS, policyKeyOf, stepOf } from "./facts.ts";
import { ALERT_NEWS_MS } from "./s04-evidence.ts";
import type { Rule } from "./rule.ts";

/** For how long what was measured or said before speaks for a workload (ms), at least. */
const MEASURED_MS = 60_000;

/** The next rung is for what is ill. */
export const s25NotOverWell: Rule = {
  name: "S25",
  doc: "A rung after the first is not begun over what is well: when a later attempt of an episode was stored, something was wrong with its workload no longer ago than news and measurements take (replicas that are missing or not ready, an illness, requests that fail, an alert that fires about it).",
  watch: (truth) => {
    const well = new Moments();
    const begun = new Map<string, { readonly at: number; readonly wellFor: number }>();
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
        if (has > had && has > 1)
          begun.set(`${object.metadata.namespace}/${object.metadata.name}/${has - 1}`, {
            at: truth.now,
            wellFor: since === undefined ? 0 : truth.now - since,
          });
        return undefined;
      },
      mutated(mutation) {
        if (!isAct(mutation) || !isFirstOfAttempt(truth, mutation)) return undefined;
        const found = stepOf(truth, mutation.effect.id);
        const { wellFor = 0 } = begun.get(mutation.effect.id.split("/").slice(0, 3).join("/")) ?? {};
        if (found === undefined) return undefined;
        const { spec, metadata } = found.remediation;
        const policy = truth.api
          .list("RemediationPolicy")
          .find((each) => `${each.metadata.namespace}/${each.metadata.name}` === policyKeyOf(found.remediation));
        if (policy === undefined) return undefined;
        const { verify, maxSignalAge, signals } = policy.spec;
        const { hint, log } = signals.find(({ name }) => name === spec.signal.name) ?? {};
        const stands = Math.max(
          MEASURED_MS,
          ...[verify.stableFor, hint?.activeFor, log?.window].map((time) => (time === undefined ? 0 : durationMs(time))),
        );
        const { groupIntervalMs } = truth.scenario.monitoring;
        const news = spec.signal.condition === "alert" ? durationMs(maxSignalAge) + groupIntervalMs + ALERT_NEWS_MS : 0;
        return wellFor > NEWS_MS + mutation.viewAgeMs + stands + news
          ? `${metadata.name} begins attempt ${found.remediation.status.attempts.length} over ${spec.workload.name}, which has been well for ${Math.round(wellFor / 1000)} s`
          : undefined;
      },
    };
  },
};
