import type { TargetRef } from "../../api/meta.ts";
import type { Matchable } from "../../api/targets.ts";
import { timestamp } from "../../api/time.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Markable, Replica, Workload } from "../../ports/platform.ts";
import { minAvailableOf } from "./budgets.ts";
import type { ConfigMaps } from "./config-maps.ts";
import { HealthHistory } from "./health-history.ts";
import { actionsPort, MARKS } from "./marks.ts";
import { isMarked, nodePool, poolOf, zoneOf } from "./nodes.ts";
import {
  type BaseRecord,
  isAtLeast,
  type HpaRecord,
  type NodeRecord,
  type OwnerKind,
  type OwnerRecord,
  OWNER_KINDS,
  type PdbRecord,
  type PodRecord,
  RECORD_KINDS,
  type RecordKind,
  type Records,
  recordKey,
  type RevisionRecord,
  type SliceRecord,
} from "./records.ts";
import { byRevision, progressOf, rolloutOf } from "./rollout.ts";
import { selects } from "./selector.ts";
import type { Tables } from "./table.ts";

/** Sets by key that vanish when they are empty. */
class Groups<V> {
  readonly #groups = new Map<string, Set<V>>();

  get(key: string): ReadonlySet<V> {
    return this.#groups.get(key) ?? EMPTY_SET;
  }

  keys(): Iterable<string> {
    return this.#groups.keys();
  }

  add(key: string, value: V): void {
    const group = this.#groups.get(key);
    if (group === undefined) this.#groups.set(key, new Set([value]));
    else group.add(value);
  }

  delete(key: string, value: V): void {
    const group = this.#groups.get(key);
    group?.delete(value);
    if (group?.size === 0) this.#groups.delete(key);
  }
}
const EMPTY_SET: ReadonlySet<never> = new Set();

/** An API server restored from a backup never tells of what was written before: after this time it is given up (ms). */
const OWED_MS = 300_000;

/**
 * What a pod belongs to, of what it says itself: the ReplicaSet that it was detached from, its controller, or nothing.
 * The rest of the way up is looked for when it is needed, so that it does not matter in which order objects come in.
 */
function parentOf(pod: PodRecord): string {
  const from = pod.annotations[MARKS.detachedFrom];
  if (from !== undefined) return `detached:${pod.namespace}/${from.slice(0, from.lastIndexOf("/"))}`;
  return pod.controller === undefined ? `bare:${pod.uid}` : `owned:${pod.controller.uid}`;
}

/** A revision that was wholly available since `since` (ms). */
export interface HealthyRevision {
  readonly kind: "ReplicaSet" | "ControllerRevision";
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** What it is a revision of. */
  readonly workload: Matchable;
  readonly since: number;
}

/**
 * The cluster as the caches have it: workloads and replicas, made of pods, owners, nodes, budgets, autoscalers and
 * endpoint slices. Kept ready: a change makes anew what it is about, and nothing else.
 */
export class ClusterView {
  readonly #tables: Tables;
  readonly #clock: Clock;
  readonly #nodeNamespace: string;
  readonly #history = new HealthHistory();

  /** Pods by parent, and by node. Values are keys of the table. */
  readonly #pods = new Groups<PodRecord>();
  readonly #podsOnNode = new Groups<PodRecord>();
  readonly #ownersByUid = new Map<string, OwnerRecord>();
  /** ReplicaSets by the uid of their controller. */
  readonly #replicaSets = new Groups<OwnerRecord>();
  readonly #revisions = new Groups<RevisionRecord>();
  readonly #pdbs = new Groups<PdbRecord>();
  /** HorizontalPodAutoscalers by what they scale. */
  readonly #hpas = new Groups<HpaRecord>();
  /** Owners by the ConfigMaps that their templates name. */
  readonly #configured = new Groups<OwnerRecord>();
  readonly #configMaps: ConfigMaps | undefined;
  /** What each EndpointSlice says of a pod, by the pod's key. */
  readonly #endpoints = new Map<string, Map<string, boolean>>();
  readonly #nodesOfPool = new Groups<NodeRecord>();

  /** Workloads as they were made last, by root. */
  readonly #workloads = new Map<string, Workload>();
  readonly #rootsOfNamespace = new Groups<string>();
  readonly #dirty = new Set<string>();
  #list: readonly Workload[] | undefined;
  readonly #listeners = new Set<(workload: TargetRef) => void>();
  /** What waits of `reached` were cut off from, or was known before, and since when it is not known (monotonic ms). */
  readonly #owed = new Map<RecordKind, { readonly resourceVersion: string; readonly since: number }>();
  /** The newest that each kind was seen at. */
  readonly #newest = new Map<RecordKind, string>();
  /** Roots that listeners were not told of yet. */
  readonly #untold = new Set<string>();
  #telling = false;

  constructor(options: {
    readonly tables: Tables;
    readonly clock: Clock;
    /** Namespace that nodes, as targets, belong to. */
    readonly nodeNamespace: string;
    /** Default: they are not followed. */
    readonly configMaps?: ConfigMaps | undefined;
  }) {
    const { tables, clock, nodeNamespace, configMaps } = options;
    this.#configMaps = configMaps;
    this.#tables = tables;
    this.#clock = clock;
    this.#nodeNamespace = nodeNamespace;
    this.#index();
  }

  /** Every workload. The same array as long as nothing has changed. */
  workloads(): readonly Workload[] {
    if (this.#dirty.size === 0 && this.#list !== undefined) return this.#list;
    for (const root of this.#dirty) this.#remake(root);
    this.#dirty.clear();
    this.#list = [...this.#workloads.values()];
    return this.#list;
  }

  /** Calls back with each workload that has changed, once for a burst of changes, until the returned function is called. */
  onChange(listener: (workload: TargetRef) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** What is kept of an object. */
  record<K extends RecordKind>(kind: K, namespace: string, name: string): Records[K] | undefined {
    return this.#tables[kind].get(namespace, name);
  }

  /** Pods on a node. */
  podsOn(node: string): ReadonlySet<PodRecord> {
    return this.#podsOnNode.get(node);
  }

  /** Uids of what else is meant by a uid that an event names: the Deployment of a ReplicaSet, the node of a node's name. */
  aboutWhom(uid: string): string[] {
    const owner = this.#ownersByUid.get(uid);
    const node = this.#tables.Node.get("", uid);
    return [...(owner?.controller === undefined ? [] : [owner.controller.uid]), ...(node === undefined ? [] : [node.uid])];
  }

  /** The workload that a pod belongs to. */
  workloadOf(pod: PodRecord): Workload | undefined {
    this.workloads();
    return this.#workloads.get(this.#rootOfPod(pod));
  }

  /**
   * Resolves when everything of a kind is known up to a resourceVersion, so that what follows sees what was just written:
   * an object that is not there then has gone since, and is not one that the watch has yet to tell of. Rejects with the
   * signal's reason when it aborts first: the view owes it from then on. See `owed`.
   */
  reached(kind: RecordKind, resourceVersion: string, signal: AbortSignal): Promise<void> {
    const isKnown = (): boolean => this.#isKnown(kind, resourceVersion);
    if (isKnown()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const end = (): void => {
        unsubscribe();
        signal.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        end();
        this.#owe(kind, resourceVersion);
        reject(signal.reason instanceof Error ? signal.reason : new Error("aborted"));
      };
      const unsubscribe = this.#tables[kind].onProgress(() => {
        if (!isKnown()) return;
        end();
        resolve();
      });
      if (signal.aborted) abort();
      else signal.addEventListener("abort", abort, { once: true });
    });
  }

  /**
   * Kinds of which the view does not know yet what was certainly written: a wait of `reached` was cut off while a watch
   * rested, or a listing was of an earlier time than what was known before it. What is not there then may only not have been
   * heard of.
   */
  owed(): readonly RecordKind[] {
    const now = this.#clock.monotonic();
    for (const [kind, { resourceVersion }] of Object.entries(this.#tables) as [
      RecordKind,
      { readonly resourceVersion: string | undefined },
    ][]) {
      if (resourceVersion === undefined) continue;
      const newest = this.#newest.get(kind);
      this.#newest.set(kind, resourceVersion);
      if (newest !== undefined && !isAtLeast(resourceVersion, newest)) this.#owe(kind, newest);
    }
    for (const [kind, { resourceVersion, since }] of this.#owed)
      if (this.#isKnown(kind, resourceVersion) || now - since >= OWED_MS) this.#owed.delete(kind);
    return [...this.#owed.keys()];
  }

  #owe(kind: RecordKind, resourceVersion: string): void {
    const before = this.#owed.get(kind)?.resourceVersion;
    const newest = before !== undefined && isAtLeast(before, resourceVersion) ? before : resourceVersion;
    this.#owed.set(kind, { resourceVersion: newest, since: this.#clock.monotonic() });
  }

  #isKnown(kind: RecordKind, resourceVersion: string): boolean {
    const known = this.#tables[kind].resourceVersion;
    return known !== undefined && isAtLeast(known, resourceVersion);
  }

  /** Revisions that are healthy and not marked as such yet. */
  *unmarkedHealthy(): Iterable<HealthyRevision> {
    const now = this.#clock.now();
    for (const owner of this.#ownersByUid.values()) {
      const found = this.#currentRevision(owner);
      if (found === undefined || found.record.annotations[MARKS.healthySince] !== undefined) continue;
      const since = this.#history.since(found.key, now);
      if (since === undefined) continue;
      const { namespace, name, uid, resourceVersion } = found.record;
      const root = this.#ownersByUid.get(this.#rootOf(`owned:${owner.uid}`)) ?? owner;
      yield { kind: found.kind, namespace, name, uid, resourceVersion, workload: { ref: refOf(root), labels: root.labels }, since };
    }
  }

  // ---- indexes -------------------------------------------------------------------------------------------------

  #index(): void {
    const on = <K extends RecordKind>(kind: K, index: (before: Records[K] | undefined, after: Records[K] | undefined) => void): void => {
      const table = this.#tables[kind];
      for (const record of table.values()) index(undefined, record);
      table.onChange(index);
    };
    on("Pod", (before, after) => this.#onPod(before, after));
    for (const kind of OWNER_KINDS) on(kind, (before, after) => this.#onOwner(before, after));
    on("ControllerRevision", (before, after) => {
      for (const [revision, change] of changes(before, after)) {
        if (revision.controller === undefined) continue;
        this.#revisions[change](revision.controller.uid, revision);
        this.#mark(revision.controller.uid);
        if (after === undefined) this.#history.forget(`${revision.controller.uid}/${revision.name}`);
      }
    });
    on("EndpointSlice", (before, after) => this.#onSlice(before, after));
    on("PodDisruptionBudget", (before, after) => {
      for (const [pdb, change] of changes(before, after)) {
        this.#pdbs[change](pdb.namespace, pdb);
        for (const root of this.#rootsOfNamespace.get(pdb.namespace)) if (this.#isSelected(root, pdb)) this.#mark(root);
      }
    });
    on("HorizontalPodAutoscaler", (before, after) => {
      for (const [hpa, change] of changes(before, after)) {
        this.#hpas[change](targetOf(hpa.namespace, hpa.target.kind, hpa.target.name), hpa);
        const owner = this.#ownerOf(hpa.target.kind, hpa.namespace, hpa.target.name);
        if (owner !== undefined) this.#mark(owner.uid);
      }
    });
    this.#configMaps?.onChange((namespace, name) => {
      const owners =
        namespace === undefined || name === undefined ? this.#ownersByUid.values() : this.#configured.get(recordKey(namespace, name));
      for (const { uid, configMaps } of owners) if (configMaps !== undefined) this.#mark(uid);
    });
    on("Node", (before, after) => this.#onNode(before, after));
    on("Namespace", (before, after) => {
      const record = after ?? before;
      if (record === undefined || isMarked(before) === isMarked(after)) return;
      for (const root of this.#rootsOfNamespace.get(record.name)) this.#mark(root);
      this.#markPools();
    });
  }

  #onPod(before: PodRecord | undefined, after: PodRecord | undefined): void {
    for (const [pod, change] of changes(before, after)) {
      this.#pods[change](parentOf(pod), pod);
      if (pod.node !== undefined) this.#podsOnNode[change](pod.node, pod);
    }
    for (const pod of [before, after]) {
      if (pod === undefined) continue;
      this.#mark(this.#rootOfPod(pod));
      if (pod.node !== undefined && isMarked(pod)) this.#markPool(pod.node);
    }
  }

  #onOwner(before: OwnerRecord | undefined, after: OwnerRecord | undefined): void {
    for (const [owner, change] of changes(before, after)) {
      if (owner.controller !== undefined && owner.kind === "ReplicaSet") this.#replicaSets[change](owner.controller.uid, owner);
      if (this.#configMaps !== undefined)
        for (const name of owner.configMaps ?? []) this.#configured[change](recordKey(owner.namespace, name), owner);
      if (change === "add") this.#ownersByUid.set(owner.uid, owner);
      else this.#ownersByUid.delete(owner.uid);
    }
    for (const owner of [before, after]) {
      if (owner === undefined) continue;
      this.#mark(owner.uid);
      if (owner.kind === "ReplicaSet") this.#mark(`detached:${owner.namespace}/${owner.name}`);
      if (owner.controller !== undefined) this.#mark(owner.controller.uid);
      // Before their Deployment was known they stood for themselves.
      for (const set of this.#replicaSets.get(owner.uid)) this.#mark(set.uid);
    }
    if (isMarked(before) !== isMarked(after)) this.#markPools();
    if (after !== undefined) {
      const current = this.#currentRevision(after);
      if (current !== undefined) this.#history.note(current.key, after, this.#clock.now());
    } else if (before !== undefined) this.#history.forget(before.uid);
  }

  #onSlice(before: SliceRecord | undefined, after: SliceRecord | undefined): void {
    for (const [slice, change] of changes(before, after))
      for (const { pod, ready } of slice.endpoints) {
        const key = recordKey(slice.namespace, pod);
        const known = this.#endpoints.get(key) ?? new Map<string, boolean>();
        if (change === "add") known.set(slice.name, ready);
        else known.delete(slice.name);
        if (known.size === 0) this.#endpoints.delete(key);
        else this.#endpoints.set(key, known);
        const record = this.#tables.Pod.get(slice.namespace, pod);
        if (record !== undefined) this.#mark(this.#rootOfPod(record));
      }
  }

  #onNode(before: NodeRecord | undefined, after: NodeRecord | undefined): void {
    const isNews = !isUnchanged(before, after);
    for (const [node, change] of changes(before, after)) {
      this.#nodesOfPool[change](poolOf(node), node);
      // Heartbeats are not: a large pool takes a while to be looked at, and one of its nodes is always heard of.
      if (isNews) this.#mark(`pool:${poolOf(node)}`);
    }
    // Whatever else changes is nothing to the pods on it.
    const zoned = (node: NodeRecord | undefined): string | undefined => (node === undefined ? undefined : zoneOf(node));
    if (before?.unschedulable === after?.unschedulable && isMarked(before) === isMarked(after) && zoned(before) === zoned(after)) return;
    for (const pod of this.#podsOnNode.get((after ?? before)?.name ?? "")) this.#mark(this.#rootOfPod(pod));
  }

  // ---- roots: what a workload is made for: an owner, pods of an owner that is not read, a pod of its own, a pool of nodes

  #rootOfPod(pod: PodRecord): string {
    return this.#rootOf(parentOf(pod));
  }

  #rootOf(parent: string): string {
    if (parent.startsWith("bare:")) return parent;
    const owner = parent.startsWith("detached:") ? this.#detachedFrom(parent) : this.#ownersByUid.get(parent.slice("owned:".length));
    if (owner === undefined) return parent;
    return owner.controller !== undefined && this.#ownersByUid.has(owner.controller.uid) ? owner.controller.uid : owner.uid;
  }

  /** The ReplicaSet of a key of detached pods. */
  #detachedFrom(parent: string): OwnerRecord | undefined {
    const [namespace = "", name = ""] = parent.slice("detached:".length).split("/");
    return this.#tables.ReplicaSet.get(namespace, name);
  }

  #ownerOf(kind: string, namespace: string, name: string): OwnerRecord | undefined {
    return isOwnerKind(kind) ? this.#tables[kind].get(namespace, name) : undefined;
  }

  #mark(root: string): void {
    this.#dirty.add(root);
    // Before its owner was known it was one of its own.
    if (this.#ownersByUid.has(root)) this.#dirty.add(`owned:${root}`);
    if (this.#listeners.size === 0) return;
    this.#untold.add(root);
    if (this.#telling) return;
    this.#telling = true;
    this.#clock.after(0, () => this.#tell(), { background: true });
  }

  #markPool(node: string): void {
    const record = this.#tables.Node.get("", node);
    if (record !== undefined) this.#mark(`pool:${poolOf(record)}`);
  }

  #markPools(): void {
    for (const pool of this.#nodesOfPool.keys()) this.#mark(`pool:${pool}`);
  }

  #tell(): void {
    this.#telling = false;
    const roots = [...this.#untold];
    this.#untold.clear();
    const refs = roots.map((root) => this.#workloads.get(root)?.ref);
    this.workloads();
    for (const [i, root] of roots.entries()) {
      const ref = this.#workloads.get(root)?.ref ?? refs[i];
      if (ref !== undefined) for (const listener of this.#listeners) listener(ref);
    }
  }

  #isSelected(root: string, pdb: PdbRecord): boolean {
    const owner = this.#ownersByUid.get(root);
    if (owner !== undefined) return selects(pdb.selector, owner.templateLabels);
    return [...this.#pods.get(root)].some((pod) => selects(pdb.selector, pod.labels));
  }

  // ---- workloads -----------------------------------------------------------------------------------------------

  #remake(root: string): void {
    const before = this.#workloads.get(root);
    const workload = this.#make(root);
    if (before !== undefined && before.ref.namespace !== workload?.ref.namespace) this.#rootsOfNamespace.delete(before.ref.namespace, root);
    if (workload === undefined) {
      this.#workloads.delete(root);
      return;
    }
    this.#rootsOfNamespace.add(workload.ref.namespace, root);
    this.#workloads.set(root, workload);
  }

  #make(root: string): Workload | undefined {
    if (root.startsWith("pool:")) {
      const nodes = [...this.#nodesOfPool.get(root.slice("pool:".length))].sort((a, b) => (a.name < b.name ? -1 : 1));
      if (nodes.length === 0) return undefined;
      return nodePool(this.#nodeNamespace, root.slice("pool:".length), nodes, (node) => this.#markedOn(node));
    }
    const owner = this.#ownersByUid.get(root);
    if (owner !== undefined) return this.#rootOf(`owned:${root}`) === root ? this.#ownedWorkload(owner) : undefined;
    // What owns these pods may have become known meanwhile.
    return this.#rootOf(root) === root ? this.#ownerless(root) : undefined;
  }

  #ownedWorkload(owner: OwnerRecord): Workload {
    const replicaSets = owner.kind === "Deployment" ? [...this.#replicaSets.get(owner.uid)] : owner.kind === "ReplicaSet" ? [owner] : [];
    const pods = [
      ...this.#pods.get(`owned:${owner.uid}`),
      ...replicaSets.flatMap((set) => [
        ...(set === owner ? [] : this.#pods.get(`owned:${set.uid}`)),
        ...this.#pods.get(`detached:${set.namespace}/${set.name}`),
      ]),
    ];
    const ref = refOf(owner);
    const replicas = this.#replicas(ref, pods);
    const hpa = [...this.#hpas.get(targetOf(owner.namespace, owner.kind, owner.name))][0];
    const busy = rolloutOf(owner, replicaSets);
    const rollout = progressOf(owner);
    const available = replicas.filter((replica) => replica.ready && replica.phase === "Running").length;
    const pdbs = [...this.#pdbs.get(owner.namespace)].filter((pdb) => selects(pdb.selector, owner.templateLabels));
    // Where an autoscaler has the replicas, its floor is what is changed.
    const gitOps = hpa === undefined ? owner.gitOps : [...owner.gitOps.filter((f) => f.field !== "replicas"), ...hpa.gitOps];
    const lastHealthy = this.#lastHealthy(owner, replicaSets);
    const newest = byRevision(replicaSets)[0];
    return {
      ref,
      desired: owner.desired,
      replicas,
      labels: owner.labels,
      annotations: owner.annotations,
      enclosing: this.#namespace(owner.namespace),
      ...minAvailableOf(pdbs, owner.desired, available),
      renewedBy: newest?.podTemplateHash === undefined ? "Eviction" : "Replacement",
      ...(owner.kind !== "ReplicaSet" && owner.rolls && !owner.paused ? { rollsOut: true as const } : {}),
      ...(busy === undefined ? {} : { busy }),
      ...(rollout === undefined ? {} : { rollout }),
      revision: owner.templateHash,
      ...this.#configuration(owner),
      ...(lastHealthy === undefined ? {} : { lastHealthy }),
      ...(hpa === undefined
        ? {}
        : {
            maxReplicas: { count: hpa.max, source: `HorizontalPodAutoscaler ${hpa.namespace}/${hpa.name} (spec.maxReplicas ${hpa.max})` },
          }),
      ...(gitOps.length === 0 ? {} : { gitOps }),
    };
  }

  #configuration({ namespace, configMaps = [] }: OwnerRecord): Pick<Workload, "configuration"> {
    const versions = this.#configMaps;
    if (versions?.known !== true) return {};
    const known = configMaps.map((name) => [`ConfigMap ${name}`, versions.version(namespace, name)] as const);
    return { configuration: Object.fromEntries(known.flatMap(([name, version]) => (version === undefined ? [] : [[name, version]]))) };
  }

  /** Pods of an owner that is not read, or one pod that has none. */
  #ownerless(root: string): Workload | undefined {
    const pods = [...this.#pods.get(root)].filter((pod) => !pod.mirror);
    const [first] = pods;
    if (first === undefined) return undefined;
    const { namespace, controller } = first;
    const from = root.startsWith("detached:") ? root.split("/")[1] : undefined;
    const ref =
      from !== undefined
        ? { kind: "ReplicaSet", namespace, name: from, uid: root }
        : controller === undefined
          ? { kind: "BarePod", namespace, name: first.name, uid: root }
          : { kind: controller.kind, namespace, name: controller.name, uid: controller.uid };
    const replicas = this.#replicas(ref, pods);
    const live = replicas.filter((replica) => replica.phase !== "Exited" && replica.phase !== "Stopping");
    const pdbs = [...this.#pdbs.get(namespace)].filter((pdb) => pods.some((pod) => selects(pdb.selector, pod.labels)));
    return {
      ref,
      desired: live.length,
      replicas,
      labels: controller === undefined ? first.labels : {},
      annotations: controller === undefined ? first.annotations : {},
      enclosing: this.#namespace(namespace),
      ...minAvailableOf(pdbs, live.length, live.filter((replica) => replica.ready).length),
      renewedBy: "Eviction",
    };
  }

  #namespace(name: string): Markable[] {
    const record = this.#tables.Namespace.get("", name);
    if (record === undefined) return [];
    return [{ ref: { kind: "Namespace", namespace: "", name }, labels: record.labels, annotations: record.annotations }];
  }

  #replicas(workload: TargetRef, pods: readonly PodRecord[]): Replica[] {
    const served = pods.some((pod) => this.#endpoints.has(recordKey(pod.namespace, pod.name)));
    return pods
      .toSorted((a, b) => a.createdAt - b.createdAt || (a.name < b.name ? -1 : 1))
      .map((pod) => this.#replica(workload, pod, served));
  }

  /** @param served whether Services reach the workload at all. */
  #replica(workload: TargetRef, pod: PodRecord, served: boolean): Replica {
    const { annotations } = pod;
    const states = pod.states?.filter((state) => state.paused !== true) ?? [];
    const node = pod.node === undefined ? undefined : this.#tables.Node.get("", pod.node);
    const startedBy = annotations[MARKS.startedBy];
    const replaces = annotations[MARKS.replaces];
    const around = this.#around(pod, node);
    const zone = node === undefined ? undefined : zoneOf(node);
    return {
      ref: { kind: "Pod", namespace: pod.namespace, name: pod.name, uid: pod.uid },
      workload,
      phase: phaseOf(pod),
      ready: pod.ready,
      everReady: pod.everReady,
      ...(pod.ready || !pod.everReady ? {} : { unreadySince: pod.readyChangedAt }),
      inTraffic: this.#inTraffic(pod, served),
      startedAt: pod.startedAt,
      createdAt: pod.createdAt,
      restarts: pod.restarts,
      ...(pod.limitBytes === undefined ? {} : { memory: { limitBytes: pod.limitBytes } }),
      labels: pod.labels,
      annotations,
      ...(startedBy === undefined ? {} : { startedBy }),
      ...(replaces === undefined ? {} : { replaces }),
      detached: annotations[MARKS.detachedFrom] !== undefined,
      ...(pod.node === undefined ? {} : { node: pod.node }),
      ...(zone === undefined ? {} : { zone }),
      ...(actionsPort(annotations) === undefined ? {} : { servesActions: true }),
      ...(node?.unschedulable === true
        ? {
            busy: {
              reason: "Cordoned" as const,
              message: `Node ${node.name} is cordoned (spec.unschedulable: true): its pods are being moved`,
            },
          }
        : {}),
      ...(states.length === 0 ? {} : { states }),
      ...(around.length === 0 ? {} : { around }),
    };
  }

  /** A workload without a Service gets its work elsewhere: there, whoever is ready and was not taken out counts. */
  #inTraffic(pod: PodRecord, served: boolean): boolean {
    const endpoints = this.#endpoints.get(recordKey(pod.namespace, pod.name));
    if (endpoints !== undefined) return [...endpoints.values()].includes(true);
    return !served && pod.ready && pod.annotations[MARKS.removedLabels] === undefined;
  }

  /** What stands around a pod and may be marked: its node, and the ReplicaSet between it and its Deployment. */
  #around(pod: PodRecord, node: NodeRecord | undefined): Markable[] {
    const set = pod.controller?.kind === "ReplicaSet" ? this.#ownersByUid.get(pod.controller.uid) : undefined;
    return [
      ...(isMarked(node) && node !== undefined
        ? [{ ref: { kind: "Node", namespace: "", name: node.name }, labels: node.labels, annotations: node.annotations }]
        : []),
      ...(isMarked(set) && set !== undefined ? [{ ref: refOf(set), labels: set.labels, annotations: set.annotations }] : []),
    ];
  }

  /** What of the pods on a node is marked do-not-remediate: they, what owns them, or their namespace. */
  #markedOn(node: NodeRecord): Markable[] {
    const found = new Map<string, Markable>();
    for (const pod of this.#podsOnNode.get(node.name)) {
      const owner = this.#ownersByUid.get(this.#rootOfPod(pod));
      const candidates: Markable[] = [
        { ref: { kind: "Pod", namespace: pod.namespace, name: pod.name }, labels: pod.labels, annotations: pod.annotations },
        ...(owner === undefined ? [] : [{ ref: refOf(owner), labels: owner.labels, annotations: owner.annotations }]),
        ...this.#namespace(pod.namespace),
      ];
      for (const candidate of candidates)
        if (isMarked(candidate)) found.set(`${candidate.ref.kind}/${candidate.ref.namespace}/${candidate.ref.name}`, candidate);
    }
    return [...found.values()];
  }

  // ---- revisions -----------------------------------------------------------------------------------------------

  /** The revision that an owner's newest pods are of, with its key in the history. ReplicaSets are revisions of Deployments. */
  #currentRevision(
    owner: OwnerRecord,
  ):
    | { readonly kind: "ReplicaSet"; readonly key: string; readonly record: OwnerRecord }
    | { readonly kind: "ControllerRevision"; readonly key: string; readonly record: RevisionRecord }
    | undefined {
    if (owner.kind === "Deployment") return undefined;
    if (owner.kind === "ReplicaSet") {
      return owner.controller === undefined ? undefined : { kind: "ReplicaSet", key: owner.uid, record: owner };
    }
    const record = [...this.#revisions.get(owner.uid)].toSorted((a, b) => b.revision - a.revision)[0];
    if (record === undefined || rolloutOf(owner, []) !== undefined) return undefined;
    return { kind: "ControllerRevision", key: `${owner.uid}/${record.name}`, record };
  }

  #lastHealthy(owner: OwnerRecord, replicaSets: readonly OwnerRecord[]): Workload["lastHealthy"] {
    const now = this.#clock.now();
    /** Revisions that were rolled back from are not gone back to, however well they seemed. */
    const abandoned = new Set((owner.annotations[MARKS.rolledBackFrom] ?? "").split(","));
    // So are those that somebody else went back from: the newest revision keeps the time when it was first made.
    const isLeft = (older: Left, newest: Left | undefined): boolean =>
      abandoned.has(older.name) || older.createdAt > (newest?.createdAt ?? Infinity);
    const seen = (key: string, annotations: Readonly<Record<string, string>>): string | undefined => {
      const marked = annotations[MARKS.healthySince];
      if (marked !== undefined) return `all of its replicas were available since ${marked}`;
      const since = this.#history.since(key, now);
      return since === undefined ? undefined : `all of its replicas were available since ${timestamp(since)}`;
    };
    if (owner.kind === "Deployment") {
      // What runs is the newest revision then, and the one before it would be a rollback too far.
      if (owner.unmade === true) return undefined;
      const [newest, ...older] = byRevision(replicaSets);
      for (const set of older) {
        if (isLeft(set, newest)) continue;
        const why = set.available > 0 ? `${set.available} of its replicas are available now` : seen(set.uid, set.annotations);
        if (why !== undefined) return { revision: set.name, why: `revision ${set.revision}: ${why}` };
      }
      return undefined;
    }
    const [newest, ...older] = [...this.#revisions.get(owner.uid)].toSorted((a, b) => b.revision - a.revision);
    for (const revision of older) {
      if (isLeft(revision, newest)) continue;
      const why =
        owner.currentRevision === revision.name && owner.updateRevision === newest?.name
          ? "its pods were of it before a rollout that has not finished"
          : seen(`${owner.uid}/${revision.name}`, revision.annotations);
      if (why !== undefined) return { revision: revision.name, why: `revision ${revision.revision}: ${why}` };
    }
    return undefined;
  }
}

type Left = { readonly name: string; readonly createdAt: number };

/** Whether nothing but the resourceVersion is different: what the loop does not read has changed. */
function isUnchanged<R extends BaseRecord>(before: R | undefined, after: R | undefined): boolean {
  if (before === undefined || after === undefined) return false;
  const keys = Object.keys(after) as (keyof R)[];
  // Long values are not shared, such as a node's conditions.
  const isEqual = (a: unknown, b: unknown): boolean =>
    a === b || (typeof a === "object" && typeof b === "object" && JSON.stringify(a) === JSON.stringify(b));
  return keys.length === Object.keys(before).length && keys.every((key) => key === "resourceVersion" || isEqual(before[key], after[key]));
}

/** What a change takes away and what it adds. */
function changes<R>(before: R | undefined, after: R | undefined): [R, "add" | "delete"][] {
  return [
    ...(before === undefined ? [] : ([[before, "delete"]] as [R, "delete"][])),
    ...(after === undefined ? [] : ([[after, "add"]] as [R, "add"][])),
  ];
}

function refOf(owner: OwnerRecord): TargetRef & { readonly uid: string } {
  return { kind: owner.kind, namespace: owner.namespace, name: owner.name, uid: owner.uid };
}

function targetOf(namespace: string, kind: string, name: string): string {
  return `${kind}/${namespace}/${name}`;
}

function isOwnerKind(kind: string): kind is OwnerKind {
  return (OWNER_KINDS as readonly string[]).includes(kind);
}

function phaseOf(pod: PodRecord): Replica["phase"] {
  if (pod.phase === "Succeeded" || pod.phase === "Failed") return "Exited";
  if (pod.deletedAt !== undefined) return "Stopping";
  return pod.phase === "Pending" ? "Starting" : "Running";
}

export { RECORD_KINDS };
