import { PLURALS } from "../../../src/api/crd.ts";
import { CLUSTER_SCOPED, KINDS } from "../../../src/api/meta.ts";
import { isDeepStrictEqual } from "node:util";
import type { KubeObject, ResourceType } from "./types.ts";

export const PODS: ResourceType = { group: "", version: "v1", plural: "pods", kind: "Pod", namespaced: true, status: true };
export const NODES: ResourceType = { group: "", version: "v1", plural: "nodes", kind: "Node", namespaced: false, status: true };
export const EVENTS: ResourceType = { group: "events.k8s.io", version: "v1", plural: "events", kind: "Event", namespaced: true };
export const LEASES: ResourceType = { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease", namespaced: true };

/** What the CRD's CEL rules refuse of a Remediation. */
function remediationRules(object: KubeObject, old: KubeObject | undefined): string | undefined {
  if (old === undefined) return undefined;
  if (!isDeepStrictEqual(object["spec"], old["spec"])) return "spec: Invalid value: an episode's spec is immutable";
  type Status = { epoch?: number; revision: number } | undefined;
  const [before, after] = [old["status"] as Status, object["status"] as Status];
  if (before === undefined) return undefined;
  if (after === undefined) return "a status is never taken away";
  if (before.epoch !== undefined && (after.epoch ?? -1) < before.epoch)
    return "status: Invalid value: a later leader has written this status: the writer was deposed";
  return after.revision < before.revision ? "status: Invalid value: its revision never goes back" : undefined;
}

/** Nightshift's own resources. */
export const CUSTOM: readonly ResourceType[] = KINDS.map((kind) => ({
  group: "nightshift.dev",
  version: "v1alpha1",
  plural: PLURALS[kind],
  kind,
  namespaced: !CLUSTER_SCOPED.has(kind),
  custom: true,
  status: kind === "Remediation" || kind === "RemediationPolicy",
  ...(kind === "Remediation" ? { validate: remediationRules } : {}),
}));

const builtIn = (group: string, version: string, plural: string, kind: string, namespaced = true): ResourceType => ({
  group,
  version,
  plural,
  kind,
  namespaced,
  status: true,
});

/** What the loop reads of a cluster. */
export const CLUSTER: readonly ResourceType[] = [
  PODS,
  NODES,
  builtIn("", "v1", "namespaces", "Namespace", false),
  builtIn("", "v1", "services", "Service"),
  builtIn("apps", "v1", "deployments", "Deployment"),
  builtIn("apps", "v1", "replicasets", "ReplicaSet"),
  builtIn("apps", "v1", "statefulsets", "StatefulSet"),
  builtIn("apps", "v1", "daemonsets", "DaemonSet"),
  builtIn("apps", "v1", "controllerrevisions", "ControllerRevision"),
  builtIn("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
  builtIn("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
  builtIn("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
];
