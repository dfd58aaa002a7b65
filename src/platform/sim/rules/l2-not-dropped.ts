import { durationMs } from "../../../api/units.ts";
import { type FaultKind, workloadKey } from "../scenario.ts";
import type { Rule } from "./rule.ts";

/** What keeps operators or monitoring from seeing a fault, so that its time cannot be told. */
const BLINDS: ReadonlySet<FaultKind> = new Set([
  "ApiErrors",
  "ApiOutage",
  "ApiSlow",
  "Stop",
  "Crash",
  "CrashBeforeWrite",
  "CrashAfterWrite",
  "LeaseCut",
  "LeaseDeleted",
  "WatchDrops",
  "WatchLag",
  "DeletePolicy",
  "EditMode",
  "AuditFails",
  "NodeDown",
  "NodeGone",
  "ZoneDown",
  "DeletePod",
  "Rollout",
  "BadRollout",
  "ScaleByPerson",
  "ClockJump",
]);
/** How much longer than the policy's own times it may take (ms). */
const SLACK_MS = 180_000;

/** Nothing is dropped. */
export const l2NotDropped: Rule = {
  name: "L2",
  doc: "A persistent fault that a policy covers is acted on or escalated, never dropped silently: of each replica that hangs for long, an episode or a decision is on record, and it acted, observed, was answered or paged.",
  watch: (truth) => {
    /** When one pod was first seen to hang by a fault, and last without a break (ms since the epoch). */
    const hung = new Map<number, { readonly uid: string; readonly from: number; until: number }>();
    return {
      checked() {
        for (const { pods } of truth.world.workloads)
          for (const { uid, illness, everReady, phase } of pods) {
            if (illness?.kind !== "Hang" || !everReady || phase !== "Running") continue;
            const known = hung.get(illness.fault);
            if (known?.uid === uid) known.until = truth.now;
            else if (known === undefined) hung.set(illness.fault, { uid, from: truth.now, until: truth.now });
          }
        return undefined;
      },
      ended() {
        const { scenario } = truth;
        if (scenario.faults.some(({ kind }) => BLINDS.has(kind))) return [];
        return scenario.faults.flatMap((fault) => {
          if (fault.kind !== "PodHang") return [];
          return scenario.policies.flatMap(({ metadata, spec }) => {
            const probe = spec.signals.find((signal) => signal.probe !== undefined)?.probe;
            if (probe === undefined || !spec.targets.some(({ name }) => isOf(fault.workload, metadata.namespace, name))) return [];
            const long = durationMs(probe.failingFor) + SLACK_MS;
            const seen = hung.get(fault.id);
            if (seen === undefined || seen.until - seen.from < long) return [];
            const { from } = seen;
            const until = from + long;
            const told = truth.records.some(
              ({ at, record }) =>
                at >= from - 60_000 &&
                at <= until &&
                record.policy === `${metadata.namespace}/${metadata.name}` &&
                (record.type === "Decision" || record.type === "Phase"),
            );
            const live = truth.api
              .list("Remediation")
              .some(
                (each) =>
                  each.spec.policy.name === metadata.name &&
                  Date.parse(each.metadata.creationTimestamp ?? "") <= until &&
                  (each.status.endedAt === undefined || Date.parse(each.status.endedAt) >= from),
              );
            return told || live
              ? []
              : [`a replica of ${fault.workload ?? ""} hung for ${fault.for / 1000} s, and ${metadata.name} has nothing on record`];
          });
        });
      },
    };
  },
};

/** Whether a fault is about the workload of a name that a policy has as its target. */
function isOf(key: string | undefined, namespace: string, name: string | undefined): boolean {
  return name !== undefined && (key === name || key === workloadKey({ namespace, name }));
}
