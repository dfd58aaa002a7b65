import { targetKey } from "../../../api/meta.ts";
import type { PageRecord, Remediation } from "../../../api/remediation.ts";
import type { FaultKind } from "../scenario.ts";
import { ON_CALL } from "../surroundings.ts";
import { policyKeyOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** What may keep an operator from storing, or knowing, that a page was confirmed: then it must be sent again (design rule L4). */
const MAY_REPEAT: ReadonlySet<FaultKind> = new Set([
  "ApiErrors",
  "ApiLostReplies",
  "ApiConflicts",
  "ApiSlow",
  "ApiOutage",
  "StaleReads",
  "WatchLag",
  "WatchDrops",
  "WatchReorders",
  "WatchDuplicates",
  "CrashBeforeWrite",
  "CrashAfterWrite",
  "Crash",
  "Stop",
  "ClockJump",
  "LeaseCut",
  "LeaseDeleted",
  "AuditFails",
]);

const incidentOf = (remediation: Remediation): string =>
  `${policyKeyOf(remediation)}/${targetKey(remediation.spec.workload)}/${remediation.spec.diagnosis.cause}`;

/** One call a night. */
export const s18OnePage: Rule = {
  name: "S18",
  doc: "A person is paged once for an incident: once who is on call has confirmed a page and that is on record, no other comes for the same fault of the same workload until its receivers were to be told that it is over, or an episode has healed it. Asked where neither the API nor operators are disturbed, and so nothing has to be sent again.",
  watch: (truth) => {
    const confirmed = new Set<string>();
    const isJudged = !truth.scenario.faults.some(({ kind }) => MAY_REPEAT.has(kind));
    const isConfirmed = ({ state, confirmedBy }: PageRecord): boolean =>
      state === "Sent" || (state === "Pending" && confirmedBy?.includes(ON_CALL) === true);
    return {
      stored({ object, before, type }) {
        if (object.kind === "RemediationApproval" && object.spec.decision === "CircuitClosed") confirmed.clear();
        if (object.kind !== "Remediation" || type === "Deleted") return undefined;
        const incident = incidentOf(object);
        const { page, outcome } = object.status;
        const was = before?.kind === "Remediation" ? before.status : undefined;
        if (page?.state !== was?.page?.state && (page?.state === "Resolving" || page?.state === "Resolved")) confirmed.delete(incident);
        if (page !== undefined && isConfirmed(page)) confirmed.add(incident);
        if (outcome === "Remediated" && was?.outcome !== "Remediated")
          for (const each of confirmed)
            if (each.startsWith(`${policyKeyOf(object)}/${targetKey(object.spec.workload)}/`)) confirmed.delete(each);
        return undefined;
      },
      paged({ page }) {
        if (!isJudged || page.severity !== "Page" || page.dedupKey.startsWith("storm/")) return undefined;
        const [namespace = "", name = ""] = page.remediation.split("/");
        const remediation = truth.api.get("Remediation", namespace, name);
        if (remediation === undefined || !confirmed.has(incidentOf(remediation))) return undefined;
        return `${page.remediation} pages again for ${incidentOf(remediation)}, which was confirmed`;
      },
    };
  },
};
