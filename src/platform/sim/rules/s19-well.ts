import { targetKey } from "../../../api/meta.ts";
import { durationMs } from "../../../api/units.ts";
import { Moments, NEWS_MS } from "./facts.ts";
import type { FaultKind } from "../scenario.ts";
import type { Rule } from "./rule.ts";

/** How long the last measurements speak for a workload (ms). */
const MEASURED_MS = 60_000;
/** What keeps an operator from hearing of the cluster for longer than news take. */
const BLINDS: ReadonlySet<FaultKind> = new Set(["ApiOutage", "WatchDrops", "Stop"]);

/** Success is not claimed. */
export const s19Well: Rule = {
  name: "S19",
  doc: "An episode counts as `Remediated` only when its workload is well: it has not lacked replicas for longer than news take, and where the signal is measured, measurements came in.",
  watch: (truth) => {
    const lacking = new Moments();
    const isBlind = truth.scenario.faults.some(({ kind }) => BLINDS.has(kind));
    return {
      checked() {
        for (const { uid, pods, desired } of truth.world.workloads)
          lacking.holds(uid, pods.filter(({ serving }) => serving).length < desired, truth.now);
        return undefined;
      },
      stored({ object, before }) {
        if (object.kind !== "Remediation" || object.status.outcome !== "Remediated") return undefined;
        if (before?.kind === "Remediation" && before.status.outcome === "Remediated") return undefined;
        const { condition } = object.spec.signal;
        const gap = truth.telemetryGapSince;
        const policy = truth.api.get("RemediationPolicy", object.metadata.namespace, object.spec.policy.name);
        const stable = policy === undefined ? 0 : durationMs(policy.spec.verify.stableFor);
        if ((condition === "errorRate" || condition === "metric") && gap !== undefined && truth.now - gap > MEASURED_MS + stable)
          return `${object.metadata.name} counts as remediated, and nothing was measured for ${Math.round((truth.now - gap) / 1000)} s`;
        const workload = truth.world.workloads.find(({ uid }) => uid === object.spec.workload.uid);
        if (isBlind || workload === undefined) return undefined;
        const short = truth.now - (lacking.since(workload.uid) ?? truth.now);
        return short > NEWS_MS
          ? `${object.metadata.name} counts as remediated, and ${targetKey(object.spec.workload)} has lacked replicas for ${Math.round(short / 1000)} s`
          : undefined;
      },
    };
  },
};
