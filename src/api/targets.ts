import type { TargetRef } from "./meta.ts";
import type { RemediationPolicy } from "./policy.ts";

/** What of a workload or replica a target entry is matched with. */
export interface Matchable {
  readonly ref: TargetRef;
  readonly labels: Readonly<Record<string, string>>;
}

function entryMatches(entry: RemediationPolicy["spec"]["targets"][number], candidate: Matchable): boolean {
  if (entry.name !== undefined) return candidate.ref.name === entry.name;
  const wanted = Object.entries(entry.selector?.matchLabels ?? {});
  // An empty selector selects nothing: missing data is never evidence.
  return wanted.length > 0 && wanted.every(([key, value]) => candidate.labels[key] === value);
}

/**
 * Whether a policy covers a workload, or the replica of it that is given. Policies reach no further than their own
 * namespace. `kind: Workload` is any owner of replicas but a pool of nodes; `kind: Pod` and `kind: Node` are replicas; every
 * other kind is that kind of workload.
 */
export function covers(policy: RemediationPolicy, workload: Matchable, replica?: Matchable): boolean {
  if (workload.ref.namespace !== policy.metadata.namespace) return false;
  return policy.spec.targets.some((entry) => {
    if (entry.kind === "Pod" || entry.kind === "Node")
      return replica !== undefined && replica.ref.kind === entry.kind && entryMatches(entry, replica);
    return (
      ((entry.kind === "Workload" && workload.ref.kind !== "NodePool") || entry.kind === workload.ref.kind) && entryMatches(entry, workload)
    );
  });
}
