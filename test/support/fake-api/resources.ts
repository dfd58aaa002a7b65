import { CLUSTER_SCOPED, KINDS, type Kind } from "../../../src/api/meta.ts";
import { isDeepStrictEqual } from "node:util";
import type { KubeObject, ResourceType } from "./types.ts";

export const PODS: ResourceType = { group: "", version: "v1", plural: "pods", kind: "Pod", namespaced: true, status: true };
export const NODES: ResourceType = { group: "", version: "v1", plural: "nodes", kind: "Node", namespaced: false, status: true };
export const EVENTS: ResourceType = { group: "events.k8s.io", version: "v1", plural: "events", kind: "Event", namespaced: true };
export const LEASES: ResourceType = { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease", namespaced: true };

const PLURALS: Readonly<Record<Kind, string>> = {
  RemediationPolicy: "remediationpolicies",
  Runbook: "runbooks",
  Remediation: "remediations",
  RemediationBudget: "remediationbudgets",
  RemediationApproval: "remediationapprovals",
  ServiceDependency: "servicedependencies",
};

/** What the CRD's CEL rules refuse of a Remediation: another spec, and an epoch below the stored one. */
function remediationRules(object: KubeObject, old: KubeObject | undefined): string | undefined {
  if (old === undefined) return undefined;
  if (!isDeepStrictEqual(object["spec"], old["spec"])) return "spec: Invalid value: spec cannot be changed";
  const epoch = (of: KubeObject): number | undefined => (of["status"] as { epoch?: number } | undefined)?.epoch;
  const [before, after] = [epoch(old), epoch(object)];
  return before !== undefined && (after === undefined || after < before)
    ? "status.epoch: Invalid value: a later leader has taken over"
    : undefined;
}

/** Nightshift's own resources. */
export const CUSTOM: readonly ResourceType[] = KINDS.map((kind) => ({
  group: "nightshift.dev",
  version: "v1alpha1",
  plural: PLURALS[kind],
  kind,
  namespaced: !CLUSTER_SCOPED.has(kind),
  custom: true,
  ...(kind === "Remediation" ? { status: true, validate: remediationRules } : {}),
}));
