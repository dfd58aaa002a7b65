import type { ServiceDependency } from "../api/dependency.ts";
import { sameTarget, targetKey } from "../api/meta.ts";
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
  const { signal, workload, replica, workloads } = of;
  if (workload === undefined) return [];
  const ofNodes = isNodePool(workload);
  const onset = Math.min(signal.startsAt, replica?.unreadySince ?? Infinity);
  const atOnce = (since: number): boolean => since >= onset - AT_ONCE_MS;
  const inNamespace = (w: Workload): boolean => w.ref.namespace === workload.ref.namespace;

  const illReplicas = new Map<string, IllReplica>();
  const illWorkloads = new Map<string, Workload>();
  const note = (ill: IllReplica): void => {
    illReplicas.set(ill.replica.ref.uid, ill);
    illWorkloads.set(ill.workload.ref.uid, ill.workload);
  };
  const sizes = { node: 0, zone: 0, namespace: 0, cluster: 0, nodes: 0 };
  // One walk: with thousands of workloads it is what a decision would spend its time on.
  for (const peer of workloads) {
    if (isNodePool(peer) !== ofNodes) continue;
    const { unready, byNode, byZone } = censusOf(peer);
    for (const ill of unready) if (atOnce(ill.since)) note(ill);
    if (replica?.node !== undefined) sizes.node += byNode.get(replica.node) ?? 0;
    if (replica?.zone !== undefined) sizes.zone += byZone.get(replica.zone) ?? 0;
    sizes.nodes += peer.replicas.length;
    if (peer.desired === 0) continue;
    sizes.cluster += 1;
    if (inNamespace(peer)) sizes.namespace += 1;
  }
  const noteSignal = ({ condition, state, startsAt }: Signal, place: Place | undefined): void => {
    if (place === undefined || condition === "trend" || state !== "Firing" || !atOnce(startsAt) || isNodePool(place.workload) !== ofNodes)
      return;
    if (place.replica?.phase === "Running") note({ replica: place.replica, workload: place.workload, since: startsAt });
    else if (place.replica === undefined) illWorkloads.set(place.workload.ref.uid, place.workload);
  };
  noteSignal(signal, { workload, replica: sameTarget(signal.target, workload.ref) ? undefined : replica });
  let places: ReadonlyMap<string, Place> | undefined;
  for (const each of of.firing) {
    if (each.fingerprint === signal.fingerprint) continue;
    places ??= placesOf(workloads);
    noteSignal(each, places.get(each.target.uid ?? targetKey(each.target)));
  }

  const domains: FailureDomain[] = [];
  const add = (
    kind: DomainKind,
    key: string,
    unit: FailureDomain["unit"],
    size: number,
    within: (peer: Workload) => boolean,
    ill: readonly (IllReplica | Workload)[],
  ): void => {
    domains.push({
      kind,
      key,
      unit,
      size,
      ill: ill.map((each) => ("replica" in each ? each.replica.ref.name : each.ref.name)),
      // Asked for after a storm only.
      get workloads() {
        return new Set(workloads.filter((peer) => isNodePool(peer) === ofNodes && within(peer)).map((peer) => targetKey(peer.ref)));
      },
      // Asked for where it is a storm only.
      get shared() {
        return ill.length < 2 ? [] : sharedBy(ill, illReplicas, of);
      },
    });
  };
  const all = [...illReplicas.values()];
  const running = workload.replicas.filter((r) => r.phase === "Running").length;
  const unit = ofNodes ? "nodes" : "replicas";
  const own = all.filter((ill) => ill.workload.ref.uid === workload.ref.uid);
  const { node, zone } = replica ?? {};
  const workloadKey = targetKey(workload.ref).replace(/^[^/]+/, "Workload");
  add("Workload", workloadKey, unit, Math.max(workload.desired, running), (peer) => peer.ref.uid === workload.ref.uid, own);
  if (node !== undefined && !ofNodes) {
    const onNode = all.filter((ill) => ill.replica.node === node);
    add("Node", `Node/${node}`, unit, sizes.node, (peer) => censusOf(peer).byNode.has(node), onNode);
  }
  if (zone !== undefined) {
    const inZone = all.filter((ill) => ill.replica.zone === zone);
    add("Zone", `Zone/${zone}`, unit, sizes.zone, (peer) => censusOf(peer).byZone.has(zone), inZone);
  }
  if (ofNodes) {
    add("Cluster", "Cluster/nodes", unit, sizes.nodes, () => true, all);
    return domains;
  }
  const ill = [...illWorkloads.values()];
  add("Namespace", `Namespace/${workload.ref.namespace}`, "workloads", sizes.namespace, inNamespace, ill.filter(inNamespace));
  add("Cluster", "Cluster", "workloads", sizes.cluster, () => true, ill);
  return domains;
}

const isNodePool = (workload: Workload): boolean => workload.ref.kind === "NodePool";

type Place = { readonly workload: Workload; readonly replica: Replica | undefined };

const indexes = new WeakMap<readonly Workload[], ReadonlyMap<string, Place>>();

/** Where targets are, by uid and by key. Made once for a snapshot of the world: a burst of signals is looked up in one. */
function placesOf(workloads: readonly Workload[]): ReadonlyMap<string, Place> {
  const known = indexes.get(workloads);
  if (known !== undefined) return known;
  const index = new Map<string, Place>();
  for (const workload of workloads) {
    const itself = { workload, replica: undefined };
    index.set(workload.ref.uid, itself).set(targetKey(workload.ref), itself);
    for (const replica of workload.replicas) {
      const place = { workload, replica };
      index.set(replica.ref.uid, place).set(targetKey(replica.ref), place);
    }
  }
  indexes.set(workloads, index);
  return index;
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
