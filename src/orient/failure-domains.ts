import type { ServiceDependency } from "../api/dependency.ts";
import { sameTarget, targetKey, type TargetRef } from "../api/meta.ts";
import type { DomainKind } from "../api/remediation.ts";
import type { Signal } from "../api/signal.ts";
import type { Replica, Workload } from "../ports/platform.ts";

/** Something that targets share, and can be ill of together. */
export interface FailureDomain {
  readonly kind: DomainKind;
  /** `Namespace/shop`, `Node/n1`, `Workload/shop/payments`, `Cluster`. */
  readonly key: string;
  /** What `size` counts. */
  readonly unit: "replicas" | "nodes" | "workloads";
  readonly size: number;
  /** Those of it that are ill at once with the target, by name, the target among them. */
  readonly ill: readonly string[];
  /** Keys (`targetKey`) of the workloads that have something in it. */
  readonly workloads: ReadonlySet<string>;
  /** What the ill ones have in common besides, where that is known: a node, a zone, a dependency, a rollout. */
  readonly shared: readonly string[];
}

/**
 * What was ill this much earlier than the target is not ill at once with it (ms): what has been broken for days must not
 * hold back what falls ill today.
 */
const AT_ONCE_MS = 600_000;
/** Most names that a domain lists as shared. */
const MAX_SHARED = 5;

interface IllReplica {
  readonly replica: Replica;
  readonly workload: Workload;
  /** Since when (ms). */
  readonly since: number;
}

/** What is counted of a workload, which depends on nothing else: views keep a workload's object while it does not change. */
interface Census {
  readonly unready: readonly IllReplica[];
  readonly byNode: ReadonlyMap<string, number>;
  readonly byZone: ReadonlyMap<string, number>;
}
const censuses = new WeakMap<Workload, Census>();

function censusOf(workload: Workload): Census {
  const known = censuses.get(workload);
  if (known !== undefined) return known;
  const unready: IllReplica[] = [];
  const byNode = new Map<string, number>();
  const byZone = new Map<string, number>();
  for (const replica of workload.replicas) {
    if (replica.phase !== "Running") continue;
    if (replica.node !== undefined) byNode.set(replica.node, (byNode.get(replica.node) ?? 0) + 1);
    if (replica.zone !== undefined) byZone.set(replica.zone, (byZone.get(replica.zone) ?? 0) + 1);
    // One that was never ready starts: a rollout that fails is a change of its own workload.
    if (replica.everReady && !replica.ready && replica.unreadySince !== undefined)
      unready.push({ replica, workload, since: replica.unreadySince });
  }
  const census = { unready, byNode, byZone };
  censuses.set(workload, census);
  return census;
}

/**
 * The failure domains that a target is in, from the narrowest to the widest, and who is ill there at once with it: replicas
 * that were ready and are not, and what signals fire about. Leaks do not count: a leak never is another's fault, and
 * replicas of one age reach their limits together. A node shares its fault with nodes only.
 *
 * @param firing signals of all policies that fire now.
 */
export function failureDomains(of: {
  readonly signal: Signal;
  readonly workload: Workload | undefined;
  readonly replica: Replica | undefined;
  readonly workloads: readonly Workload[];
  readonly firing: Iterable<Signal>;
  readonly dependencies: readonly ServiceDependency[];
}): FailureDomain[] {
  const { signal, workload, replica } = of;
  if (workload === undefined) return [];
  const isNode = (w: Workload): boolean => w.ref.kind === "NodePool";
  const peers = of.workloads.filter((w) => isNode(w) === isNode(workload));
  const onset = Math.min(signal.startsAt, replica?.unreadySince ?? Infinity);
  const atOnce = (since: number): boolean => since >= onset - AT_ONCE_MS;

  const illReplicas = new Map<string, IllReplica>();
  const illWorkloads = new Map<string, Workload>();
  const note = (ill: IllReplica): void => {
    illReplicas.set(ill.replica.ref.uid, ill);
    illWorkloads.set(targetKey(ill.workload.ref), ill.workload);
  };
  for (const peer of peers) for (const ill of censusOf(peer).unready) if (atOnce(ill.since)) note(ill);
  const signals = [signal, ...of.firing].filter((s) => s.condition !== "trend" && s.state === "Firing" && atOnce(s.startsAt));
  if (signals.length > 0) {
    const places = placesOf(peers);
    for (const { target, startsAt } of signals) {
      const place = places(target);
      if (place === undefined) continue;
      if (place.replica !== undefined && place.replica.phase === "Running")
        note({ replica: place.replica, workload: place.workload, since: startsAt });
      else if (place.replica === undefined) illWorkloads.set(targetKey(place.workload.ref), place.workload);
    }
  }

  const domains: FailureDomain[] = [];
  const add = (
    kind: DomainKind,
    key: string,
    unit: FailureDomain["unit"],
    size: number,
    within: readonly Workload[],
    ill: readonly (IllReplica | Workload)[],
  ): void => {
    domains.push({
      kind,
      key,
      unit,
      size,
      ill: ill.map((each) => ("replica" in each ? each.replica.ref.name : each.ref.name)),
      workloads: new Set(within.map((w) => targetKey(w.ref))),
      shared: ill.length < 2 ? [] : sharedBy(ill, illReplicas, of),
    });
  };
  const all = [...illReplicas.values()];
  const running = workload.replicas.filter((r) => r.phase === "Running").length;
  const own = all.filter((ill) => ill.workload === workload || sameTarget(ill.workload.ref, workload.ref));
  const unit = isNode(workload) ? "nodes" : "replicas";
  add("Workload", targetKey(workload.ref).replace(/^[^/]+/, "Workload"), unit, Math.max(workload.desired, running), [workload], own);
  const places = [
    ...(isNode(workload) || replica?.node === undefined ? [] : [["Node", replica.node, "byNode", "node"] as const]),
    ...(replica?.zone === undefined ? [] : [["Zone", replica.zone, "byZone", "zone"] as const]),
  ];
  for (const [kind, name, count, field] of places) {
    const within = peers.filter((peer) => censusOf(peer)[count].has(name));
    const size = within.reduce((sum, peer) => sum + (censusOf(peer)[count].get(name) ?? 0), 0);
    add(
      kind,
      `${kind}/${name}`,
      unit,
      size,
      within,
      all.filter((ill) => ill.replica[field] === name),
    );
  }
  if (isNode(workload)) {
    const nodes = peers.reduce((sum, pool) => sum + pool.replicas.length, 0);
    add("Cluster", "Cluster/nodes", "nodes", nodes, peers, all);
    return domains;
  }
  const inNamespace = (w: Workload): boolean => w.ref.namespace === workload.ref.namespace;
  const populated = peers.filter((peer) => peer.desired > 0);
  const ill = [...illWorkloads.values()];
  const neighbours = populated.filter(inNamespace);
  add("Namespace", `Namespace/${workload.ref.namespace}`, "workloads", neighbours.length, neighbours, ill.filter(inNamespace));
  add("Cluster", "Cluster", "workloads", populated.length, populated, ill);
  return domains;
}

type Place = { readonly workload: Workload; readonly replica: Replica | undefined };

/** Looks targets up; the index is made at the first question. */
function placesOf(workloads: readonly Workload[]): (target: TargetRef) => Place | undefined {
  let index: Map<string, Place> | undefined;
  return (target) => {
    if (index === undefined) {
      index = new Map();
      for (const workload of workloads) {
        index.set(workload.ref.uid, { workload, replica: undefined }).set(targetKey(workload.ref), { workload, replica: undefined });
        for (const replica of workload.replicas)
          index.set(replica.ref.uid, { workload, replica }).set(targetKey(replica.ref), { workload, replica });
      }
    }
    return index.get(target.uid ?? targetKey(target));
  };
}

/** What the ill ones have in common. */
function sharedBy(
  ill: readonly (IllReplica | Workload)[],
  illReplicas: ReadonlyMap<string, IllReplica>,
  of: { readonly workloads: readonly Workload[]; readonly dependencies: readonly ServiceDependency[] },
): string[] {
  const workloads = [...new Set(ill.map((each) => ("replica" in each ? each.workload : each)))];
  const replicas = [...illReplicas.values()].filter((each) => workloads.includes(each.workload)).map((each) => each.replica);
  const shared: string[] = [];
  /** The one value that all of the ill replicas have, where others have another. */
  const one = (field: "node" | "zone"): string | undefined => {
    const values = new Set(replicas.map((replica) => replica[field]));
    const [value] = values;
    if (replicas.length < 2 || values.size !== 1 || value === undefined) return undefined;
    return of.workloads.some((w) => w.replicas.some((r) => r[field] !== undefined && r[field] !== value)) ? value : undefined;
  };
  const node = one("node");
  if (node !== undefined) {
    const known = of.workloads.flatMap((w) => (w.ref.kind === "NodePool" ? w.replicas : [])).find((r) => r.ref.name === node);
    shared.push(`node ${node}${known !== undefined && !known.ready ? ", which is not ready" : ""}`);
  }
  const zone = one("zone");
  if (zone !== undefined) shared.push(`zone ${zone}`);
  shared.push(...sharedDependencies(workloads, of.dependencies));
  const changing = workloads.filter((w) => w.busy?.reason === "RolloutInProgress");
  if (workloads.length > 1 && changing.length === workloads.length) shared.push("a rollout that is under way in each of them");
  return shared.slice(0, MAX_SHARED);
}

/** Services that every one of the ill workloads depends on, or is. */
function sharedDependencies(workloads: readonly Workload[], dependencies: readonly ServiceDependency[]): string[] {
  if (workloads.length < 2) return [];
  const name = (namespace: string, ref: string): string => `${namespace}/${ref}`;
  const needed = new Map<string, Set<string>>();
  for (const { metadata, spec } of dependencies) {
    const to = name(spec.to.namespace ?? metadata.namespace, spec.to.name);
    const callers = needed.get(to) ?? new Set([to]);
    needed.set(to, callers.add(name(spec.from.namespace ?? metadata.namespace, spec.from.name)));
  }
  return [...needed]
    .filter(([, callers]) => workloads.every((w) => callers.has(name(w.ref.namespace, w.ref.name))))
    .map(([to]) => `the dependency ${to}`);
}
