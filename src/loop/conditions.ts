import type { Condition } from "../api/meta.ts";
import { isTerminal, type Remediation } from "../api/remediation.ts";
import { timestamp } from "../api/time.ts";

/** What a condition says now; since when is worked out from what it said before. */
export type Finding = Pick<Condition, "type" | "status" | "reason" | "message">;

/**
 * The conditions that findings make of earlier ones, as Kubernetes has them: `lastTransitionTime` moves only when the
 * status changes.
 */
export function nextConditions(
  before: readonly Condition[],
  findings: readonly Finding[],
  generation: number | undefined,
  now: number,
): Condition[] {
  return findings.map((finding) => {
    const known = before.find((condition) => condition.type === finding.type);
    return {
      ...finding,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      lastTransitionTime: known?.status === finding.status ? known.lastTransitionTime : timestamp(now),
    };
  });
}

/** An episode's conditions, for `kubectl wait --for=condition=Complete` and for tools that read conditions only. */
export function remediationConditions(remediation: Remediation, now: number): Condition[] {
  const { status, metadata } = remediation;
  const over = isTerminal(remediation);
  const held = status.phase === "Blocked" || status.phase === "AwaitingApproval";
  const message = status.message ?? "";
  const findings: Finding[] = [
    { type: "Complete", status: over ? "True" : "False", reason: over ? (status.outcome ?? status.phase) : status.phase, message },
    { type: "Blocked", status: held ? "True" : "False", reason: held ? (status.reason ?? status.phase) : status.phase, message },
  ];
  if (status.page !== undefined)
    findings.push({
      type: "Paged",
      status: ["Sent", "Resolving", "Resolved"].includes(status.page.state) ? "True" : "False",
      reason: status.page.state,
      message: status.page.lastError ?? status.page.summary,
    });
  // The first write comes before the store has given a generation, which is 1; an immutable spec keeps it.
  return nextConditions(status.conditions, findings, metadata.generation ?? 1, now);
}
