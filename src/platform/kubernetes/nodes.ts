import { DO_NOT_REMEDIATE, type TargetRef } from "../../api/meta.ts";
import type { Markable, Replica, Workload } from "../../ports/platform.ts";
import { MARKS } from "./marks.ts";
import type { NodeRecord } from "./records.ts";

/** Labels that name the pool of a node, the most specific first. */
const POOL_LABELS = [
  "karpenter.sh/nodepool",
  "cloud.google.com/gke-nodepool",
  "eks.amazonaws.com/nodegroup",
  "kubernetes.azure.com/agentpool",
  "nightshift.dev/node-pool",
] as const;
const CONTROL_PLANE = "node-role.kubernetes.io/control-plane";

/** The zone that a node says that it is in (well-known label, set by every cloud provider). */
export function zoneOf(node: NodeRecord): string | undefined {
  const zone = node.labels["topology.kubernetes.io/zone"];
  return zone === "" ? undefined : zone;
}

/** Most of a pool that may be unavailable: the share above which Karpenter stops repairing, as then the nodes are not what is ill. */
export const MAX_UNAVAILABLE_SHARE = 0.2;
/** A node that was never ready is joining. Its first `Ready: False` comes within this time of its creation (ms). */
const JOINING_MS = 60_000;

/** The pool that a node belongs to. */
export function poolOf(node: NodeRecord): string {
  for (const label of POOL_LABELS) {
    const pool = node.labels[label];
    if (pool !== undefined && pool !== "") return pool;
  }
  return node.labels[CONTROL_PLANE] === undefined ? "nodes" : "control-plane";
}

/** How many nodes of a pool may be unavailable: a fifth, rounded up, but never the only node. */
export function allowedUnavailable(nodes: number): number {
  return nodes <= 1 ? 0 : Math.ceil(nodes * MAX_UNAVAILABLE_SHARE);
}

/**
 * A pool of nodes as a workload whose replicas are nodes, so that every gate can be asked about them. They belong to the
 * namespace that Nightshift runs in: only policies there reach them, which keeps nodes out of the teams' hands.
 *
 * @param marked what on a node carries a do-not-remediate mark.
 */
export function nodePool(
  namespace: string,
  pool: string,
  nodes: readonly NodeRecord[],
  marked: (node: NodeRecord) => Markable[],
): Workload {
  const ref = { kind: "NodePool", namespace, name: pool, uid: `nodepool/${pool}` };
  const allowed = allowedUnavailable(nodes.length);
  return {
    ref,
    desired: nodes.length,
    replicas: nodes.map((node) => nodeReplica(ref, node, marked(node))),
    labels: {},
    annotations: {},
    enclosing: [],
    minAvailable: {
      count: nodes.length - allowed,
      source: `NodePool ${pool}, of which at most ${MAX_UNAVAILABLE_SHARE * 100}% may be unavailable`,
    },
  };
}

function nodeReplica(workload: TargetRef, node: NodeRecord, marked: readonly Markable[]): Replica {
  const ready = node.ready === "True";
  const zone = zoneOf(node);
  return {
    ref: { kind: "Node", namespace: workload.namespace, name: node.name, uid: node.uid },
    workload,
    phase: "Running",
    ready,
    everReady: ready || node.readyChangedAt > node.createdAt + JOINING_MS,
    ...(ready ? {} : { unreadySince: node.readyChangedAt }),
    inTraffic: !node.unschedulable,
    startedAt: node.createdAt,
    restarts: 0,
    labels: node.labels,
    annotations: node.annotations,
    conditions: node.conditions,
    node: node.name,
    ...(zone === undefined ? {} : { zone }),
    ...(node.unschedulable && node.annotations[MARKS.cordonedBy] === undefined
      ? { busy: { reason: "Cordoned" as const, message: `Node ${node.name} was cordoned by somebody else (spec.unschedulable: true)` } }
      : {}),
    ...(marked.length === 0 ? {} : { around: marked }),
  };
}

/** Whether labels or annotations carry a do-not-remediate mark: any value but `false`. */
export function isMarked(thing: Pick<Markable, "labels" | "annotations"> | undefined): boolean {
  if (thing === undefined) return false;
  return [thing.labels, thing.annotations].some((values) => {
    const value = Object.hasOwn(values, DO_NOT_REMEDIATE) ? values[DO_NOT_REMEDIATE] : undefined;
    return value !== undefined && value.trim().toLowerCase() !== "false";
  });
}
