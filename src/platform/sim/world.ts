import type { ActionState } from "../../../hints/protocol.ts";
import { DO_NOT_REMEDIATE, type TargetRef } from "../../api/meta.ts";
import type { Busy, Markable, Replica, ReplicaState, Workload } from "../../ports/platform.ts";
import { MARKS } from "../kubernetes/marks.ts";
import { nodePool } from "../kubernetes/nodes.ts";
import type { NodeRecord } from "../kubernetes/records.ts";
import { type Ending, type NodeSpec, type Symptom, workloadKey, type WorkloadSpec } from "./scenario.ts";
import type { SimRandom } from "./random.ts";
import type { Simulation } from "./simulation.ts";
import type { Traffic } from "./traffic.ts";

/** The namespace that a simulated workload is in, where it names none. */
export const NAMESPACE = "default";
/** Memory limit of a pod whose workload says none. */
export const LIMIT_BYTES = 512 * 2 ** 20;
/** How long after its node was lost a pod is deleted: Kubernetes' default toleration (ms). */
const NODE_LOST_MS = 300_000;
/** How long a controller takes to see a change (ms). */
const CONTROLLER_MS = 150;
/** How long after a node is gone its pods are (ms): the pod garbage collector's quarantine, and its period. */
const NODE_GONE_MS = 60_000;
/** Share of its limit above which a pod's memory counts as high. */
const HIGH_MEMORY = 0.85;
/** How long a rollout makes no progress until it counts as stuck (ms). `progressDeadlineSeconds` is ten minutes; monitoring is set up to see it earlier. */
const STUCK_MS = 120_000;
/** How long a kubelet takes at most to carry a resize out, and after what time it tries one again that it has put off (ms). */
const RESIZE_MS = 1_500;
const RESIZE_AGAIN_MS = 5_000;
/** How often the autoscaler looks (ms). */
const AUTOSCALER_MS = 60_000;

/** How long nodes have been there at the beginning (ms). */
const OLD_MS = 24 * 3_600_000;

/** What a pod suffers from. */
export interface Illness {
  readonly fault: number;
  readonly kind: "Hang" | "Errors" | "Leak" | "CrashLoop" | "DiskFull" | "PoolExhausted" | "PodCondition";
  readonly since: number;
  /** Leak: how long until the limit is reached that its workload began with. CrashLoop: from one crash to the next (ms). */
  readonly ms: number;
  /** PodCondition: its name. */
  readonly what?: string;
  /** Errors, DiskFull, PoolExhausted, PodCondition: share of its requests that fail. */
  readonly rate: number;
  readonly endedBy?: readonly Ending[];
}

/** What a workload suffers from as a whole. */
export interface WorkloadIllness {
  readonly fault: number;
  readonly what: string;
  readonly since: number;
  /** Share of its requests that fail. */
  readonly rate: number;
  /** How many pods served when it began. */
  readonly served: number;
  readonly endedBy: readonly Ending[];
}

/** A pod as it truly is. */
export interface Pod {
  readonly uid: string;
  readonly name: string;
  readonly workload: SimWorkload;
  readonly node: SimNode;
  readonly revision: number;
  readonly createdAt: number;
  startedAt: number;
  phase: "Pending" | "Running" | "Stopping";
  ready: boolean;
  everReady: boolean;
  readyChangedAt: number;
  restarts: number;
  /** When its container was ended for its memory, where that was its last end (ms since the epoch). */
  killedForMemoryAt: number | undefined;
  illness: Illness | undefined;
  /** Its ReplicaSet has it: false for a pod that was let go. */
  owned: boolean;
  /** The labels by which its Services select it were taken off. */
  removed: boolean;
  deletionCost: number;
  /** Its memory limit: in force, and as it is asked for (bytes). */
  limitBytes: number;
  askedBytes: number;
  /** Its kubelet has said that its node cannot give what is asked for. */
  resizeIsInfeasible: boolean;
  /** What an effect has changed its limit from and to (bytes), for the way back. */
  resized: Resized | undefined;
  /** What effects wrote on it: their ids, by what they did. */
  readonly effects: Map<string, string>;
  /** Ids of the actions that its process has done; it remembers no longer than it lives. */
  readonly actions: Set<string>;
  /** Uid of the pod whose place it takes. */
  replaces: string | undefined;
  marked: boolean;
  /** Changes with every write. */
  version: number;
  /** Since when it has (not) served (ms). */
  servingChangedAt: number;
  serving: boolean;
}

/** What a memory limit was raised from and to (bytes). */
export interface Resized {
  readonly from: number;
  readonly to: number;
}

/** A workload as it truly is. */
export interface SimWorkload {
  readonly spec: WorkloadSpec;
  readonly uid: string;
  readonly ref: TargetRef & { readonly uid: string };
  pods: Pod[];
  desired: number;
  floor: number;
  revision: number;
  /** Revisions whose pods never become ready. */
  readonly bad: Set<number>;
  /** The newest revision that was wholly available, by revision it is older than. */
  readonly healthy: number[];
  rollingOut: boolean;
  /** Id of the effect that began its newest rollout; undefined where somebody else did. */
  rolledOutBy: string | undefined;
  /** When its present template was given to it (ms since the epoch). */
  rolledOutAt: number;
  /** What pods of a revision fall ill of as soon as they are ready. */
  readonly illRevisions: Map<number, Illness>;
  /** Requests that come in, as a multiple of what its replicas are enough for. */
  surge: number;
  marked: boolean;
  /** Who owns `spec.replicas` and the template in Git. */
  gitOps: string | undefined;
  /** Illnesses that new pods get, too. */
  readonly sticky: Illness[];
  /** What it suffers from as a whole. */
  readonly conditions: WorkloadIllness[];
  /** Share of requests that fail whatever the pods do. */
  errors: number;
  slowStartMs: number;
  readonly effects: Map<string, string>;
  /** Memory limit in its template (bytes). */
  limitBytes: number;
  /** What an effect has changed that from and to. */
  resized: Resized | undefined;
  /** Replicas before an effect scaled it. */
  scaledFrom: number | undefined;
  scaledTo: number | undefined;
  version: number;
  nextPod: number;
}

export interface SimNode {
  readonly name: string;
  /** Of the machine: another one under the same name has another. */
  uid: string;
  readonly pool: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Operators know its name: only then can it be told that pods share it. */
  readonly known: boolean;
  readonly zone: string | undefined;
  up: boolean;
  /** Its `Ready` condition is false, though its kubelet is heard of, and what is on it runs on. */
  ill: boolean;
  /** What its kubelet says to a resize of a pod. */
  resizes: "CarriedOut" | "Infeasible" | "Deferred";
  createdAt: number;
  /** When it became ready or ceased to be (ms since the epoch). */
  readyChangedAt: number;
  /** Its machine is no more: whatever comes under its name is another. */
  gone: boolean;
  marked: boolean;
  /** Id of the effect that has cordoned it. */
  cordonedBy: string | undefined;
  cordonedByOthers: boolean;
  /** Id of the effect whose cordon a person has opened, and when that was (ms since the epoch). */
  opened: { readonly of: string; readonly at: number } | undefined;
  /** Id of the effect whose cordon was taken back last. */
  uncordoned: string | undefined;
  /** Changes with every write. */
  version: number;
}

/** A pool of nodes. */
export interface SimPool {
  readonly name: string;
  readonly uid: string;
  /** Changes with each of its nodes. */
  version: number;
}

/** The cluster as it truly is: workloads, pods and nodes, and Kubernetes' own controllers. Changes by nobody else than these and the methods' callers. */
export class SimWorld {
  readonly workloads: SimWorkload[] = [];
  readonly nodes: SimNode[] = [];
  /** Those that operators see as targets. */
  readonly pools: SimPool[] = [];
  readonly #simulation: Simulation;
  readonly #random: SimRandom;
  readonly #byLoad: boolean;
  readonly #dirty = new Set<SimWorkload>();
  readonly #dirtyPools = new Set<SimPool>();
  readonly #nodesIn: string | undefined;
  #machines = 0;
  readonly #reconciling = new Set<SimWorkload>();
  namespaceMarked = false;
  /** Counts the changes. */
  version = 0;

  constructor(options: {
    readonly simulation: Simulation;
    readonly random: SimRandom;
    readonly workloads: readonly WorkloadSpec[];
    readonly nodes: number | readonly NodeSpec[];
    /** See `Scenario.nodesIn`. */
    readonly nodesIn?: string | undefined;
    readonly autoscaleByLoad?: boolean | undefined;
  }) {
    this.#simulation = options.simulation;
    this.#random = options.random;
    this.#byLoad = options.autoscaleByLoad ?? false;
    const { nodes } = options;
    const known = typeof nodes !== "number";
    const specs: readonly NodeSpec[] = known ? nodes : Array.from({ length: Math.max(1, nodes) }, (_, i) => ({ name: `node-${i}` }));
    for (const { name, zone, pool = "nodes", labels = {} } of specs)
      this.nodes.push({
        name,
        uid: this.#machine(name),
        pool,
        labels,
        zone,
        known,
        up: true,
        ill: false,
        resizes: "CarriedOut",
        createdAt: this.#simulation.epoch - OLD_MS,
        readyChangedAt: this.#simulation.epoch - OLD_MS,
        gone: false,
        marked: false,
        cordonedBy: undefined,
        cordonedByOthers: false,
        opened: undefined,
        uncordoned: undefined,
        version: 1,
      });
    this.#nodesIn = options.nodesIn;
    if (options.nodesIn !== undefined)
      for (const name of new Set(this.nodes.map(({ pool }) => pool))) this.pools.push({ name, uid: `nodepool/${name}`, version: 1 });
    for (const spec of options.workloads) this.#add(spec);
    const scale = (): void => {
      this.#autoscale();
      this.#simulation.schedule(AUTOSCALER_MS, scale);
    };
    if (this.workloads.some(({ spec }) => spec.autoscaler !== undefined)) this.#simulation.schedule(AUTOSCALER_MS, scale);
  }

  /** What changed since the last call. */
  takeChanged(): readonly SimWorkload[] {
    const changed = [...this.#dirty];
    this.#dirty.clear();
    return changed;
  }

  /** The pools that changed since the last call. */
  takeChangedPools(): readonly SimPool[] {
    const changed = [...this.#dirtyPools];
    this.#dirtyPools.clear();
    return changed;
  }

  /** The workload of a key (`workloadKey`). */
  workload(key: string | undefined): SimWorkload | undefined {
    return this.workloads.find(({ spec }) => workloadKey(spec) === key);
  }

  workloadOf(ref: TargetRef): SimWorkload | undefined {
    return this.workloads.find((each) =>
      ref.uid === undefined ? each.ref.name === ref.name && each.ref.namespace === ref.namespace : each.uid === ref.uid,
    );
  }

  pod(uid: string | undefined): Pod | undefined {
    for (const { pods } of this.workloads) for (const pod of pods) if (pod.uid === uid) return pod;
    return undefined;
  }

  /** Something of a workload has changed: its controller and everybody who watches hears of it. */
  changed(workload: SimWorkload, pod?: Pod): void {
    this.version += 1;
    workload.version += 1;
    if (pod !== undefined) pod.version += 1;
    const now = this.#simulation.now;
    for (const each of workload.pods) {
      const serving = isServing(each);
      if (serving !== each.serving) {
        each.serving = serving;
        each.servingChangedAt = now;
      }
    }
    this.#dirty.add(workload);
    // What is marked holds for the node that it is on.
    if (this.pools.length > 0 && (workload.marked || this.namespaceMarked || workload.pods.some(({ marked }) => marked)))
      this.poolsChanged();
    if (this.#reconciling.has(workload)) return;
    this.#reconciling.add(workload);
    this.#simulation.schedule(CONTROLLER_MS * (0.5 + this.#random.next()), () => {
      this.#reconciling.delete(workload);
      this.#reconcile(workload);
    });
  }

  /** Everything is announced anew: a mark on a node or on the namespace is seen with every workload. */
  allChanged(): void {
    for (const workload of this.workloads) this.changed(workload);
  }

  // ---- pods ----------------------------------------------------------------------------------------------------

  /** Deletes a pod; it ends after its grace period. */
  deletePod(pod: Pod, graceMs?: number): void {
    if (pod.phase === "Stopping") return;
    pod.phase = "Stopping";
    this.changed(pod.workload, pod);
    const grace = Math.min(graceMs ?? Infinity, pod.workload.spec.graceMs) * (0.3 + 0.7 * this.#random.next());
    this.#endPod(pod, grace);
  }

  #endPod(pod: Pod, after: number): void {
    this.#simulation.schedule(after, () => {
      // Its kubelet must confirm it.
      if (!pod.node.up && !pod.node.gone) return this.#endPod(pod, 10_000);
      pod.workload.pods = pod.workload.pods.filter((other) => other !== pod);
      this.changed(pod.workload);
    });
  }

  /** Its readiness changes. */
  setReady(pod: Pod, ready: boolean): void {
    if (pod.ready === ready || !pod.workload.pods.includes(pod)) return;
    pod.ready = ready;
    pod.everReady ||= ready;
    pod.readyChangedAt = this.#simulation.now;
    this.changed(pod.workload, pod);
  }

  /** Its container ends and is started again by its kubelet. */
  restartContainer(pod: Pod): void {
    if (pod.phase !== "Running" || !pod.node.up) return;
    pod.restarts += 1;
    pod.killedForMemoryAt = pod.illness?.kind === "Leak" ? this.#simulation.now : undefined;
    pod.startedAt = this.#simulation.now;
    pod.actions.clear();
    // What is in the image, and on a disk, is there again.
    if (pod.illness?.kind !== "CrashLoop" && pod.illness?.kind !== "DiskFull") pod.illness = undefined;
    this.setReady(pod, false);
    this.#becomeReady(pod);
  }

  /** A pod falls ill. */
  fallIll(pod: Pod, illness: Illness): void {
    if (!pod.workload.pods.includes(pod) || pod.phase !== "Running") return;
    pod.illness = illness;
    if (illness.kind === "Hang") this.setReady(pod, false);
    if (illness.kind === "Leak") this.#leak(pod, illness);
    if (illness.kind === "CrashLoop") this.#crashLoop(pod, illness);
    this.changed(pod.workload, pod);
  }

  /** A pod that leaks is ended as soon as it uses what it may. */
  #leak(pod: Pod, illness: Illness): void {
    const { restarts } = pod;
    const left = illness.since + leaksFor(pod, illness) - this.#simulation.now;
    this.#simulation.schedule(Math.max(0, left), () => {
      if (pod.illness !== illness || pod.restarts !== restarts) return;
      // It may have been given more meanwhile.
      if (this.#simulation.now + 1 < illness.since + leaksFor(pod, illness)) this.#leak(pod, illness);
      else this.restartContainer(pod);
    });
  }

  /** Another memory limit is asked for: its kubelet carries that out, puts it off, or says that it cannot. */
  askLimit(pod: Pod, bytes: number): void {
    pod.askedBytes = bytes;
    pod.resizeIsInfeasible = false;
    this.changed(pod.workload, pod);
    const carryOut = (): void => {
      const { node, illness } = pod;
      if (pod.askedBytes !== bytes || pod.limitBytes === bytes || pod.phase === "Stopping" || !pod.workload.pods.includes(pod)) return;
      if (node.resizes === "Infeasible" && bytes > pod.limitBytes) {
        pod.resizeIsInfeasible = true;
        this.changed(pod.workload, pod);
        return;
      }
      // A kubelet does not lower a limit below what is in use.
      const isUsed = bytes < pod.limitBytes && usedBytes(pod, this.#simulation.now) >= bytes;
      if (!node.up || isUsed || (node.resizes === "Deferred" && bytes > pod.limitBytes))
        return void this.#simulation.schedule(RESIZE_AGAIN_MS, carryOut);
      pod.limitBytes = bytes;
      this.changed(pod.workload, pod);
      if (illness?.kind === "Leak") this.#leak(pod, illness);
    };
    this.#simulation.schedule(RESIZE_MS * (0.1 + 0.9 * this.#random.next()), carryOut);
  }

  /** A workload falls ill as a whole. */
  fallIllAsWhole(workload: SimWorkload, illness: Omit<WorkloadIllness, "served">): void {
    workload.conditions.push({ ...illness, served: workload.pods.filter(isServing).length });
    this.changed(workload);
  }

  /** An illness ends by itself, and nobody gets it any more. */
  cure(fault: number): void {
    for (const workload of this.workloads) {
      for (const [revision, illness] of workload.illRevisions) if (illness.fault === fault) workload.illRevisions.delete(revision);
      for (const list of [workload.sticky, workload.conditions])
        for (let i = list.length - 1; i >= 0; i--) if (list[i]?.fault === fault) list.splice(i, 1);
      for (const pod of workload.pods) {
        if (pod.illness?.fault !== fault) continue;
        const { kind } = pod.illness;
        pod.illness = undefined;
        if (kind === "Hang" && pod.phase === "Running" && pod.node.up) this.setReady(pod, true);
        this.changed(workload, pod);
      }
    }
  }

  /** A job of a workload has completed: what it is for is over. */
  jobCompleted(workload: SimWorkload): void {
    const ill = [...workload.sticky, ...workload.conditions, ...workload.pods.map(({ illness }) => illness)];
    const ended = new Set(ill.flatMap((each) => (each?.endedBy?.includes("Job") === true ? [each.fault] : [])));
    for (const fault of ended) this.cure(fault);
  }

  /**
   * What a pod answers that is asked for an action, or what became of one that was decided `ageMs` ago. A process that hangs,
   * or whose node is down, answers nobody.
   */
  actionOf(pod: Pod, id: string, ageMs: number): ActionState | "NoAnswer" {
    if (!pod.workload.pods.includes(pod) || pod.phase === "Pending") return "NotApplied";
    if (!pod.node.up || pod.illness?.kind === "Hang") return "NoAnswer";
    if (pod.actions.has(id)) return "Applied";
    return this.#simulation.now - ageMs < pod.startedAt ? "Unknown" : "NotApplied";
  }

  /** A pod does an action. */
  act(pod: Pod, id: string): void {
    pod.actions.add(id);
    if (pod.illness?.endedBy?.includes("Action") === true) pod.illness = undefined;
    this.changed(pod.workload, pod);
  }

  /** How long ago by its clock a pod was sent what says that it was sent at `at` (ms). */
  lateness(at: number): number {
    return this.#simulation.now - at;
  }

  /** Whatever is ill becomes well, and what was marked is not any more. */
  healAll(): void {
    for (const workload of this.workloads) {
      workload.sticky.length = 0;
      workload.conditions.length = 0;
      workload.errors = 0;
      workload.slowStartMs = 0;
      workload.surge = 1;
      workload.bad.clear();
      workload.illRevisions.clear();
      for (const pod of workload.pods) {
        const never = pod.phase === "Running" && !pod.ready && !pod.everReady;
        const hung = pod.illness?.kind === "Hang" || never;
        pod.illness = undefined;
        if (hung && pod.node.up) this.setReady(pod, true);
      }
    }
    for (const node of this.nodes) {
      node.resizes = "CarriedOut";
      this.setNode(node, true);
      this.setNodeIll(node, false);
    }
    this.allChanged();
  }

  #crashLoop(pod: Pod, illness: Illness): void {
    if (pod.illness !== illness || !pod.workload.pods.includes(pod)) return;
    this.restartContainer(pod);
    this.#simulation.schedule(illness.ms, () => this.#crashLoop(pod, illness));
  }

  #becomeReady(pod: Pod): void {
    const { spec, bad, slowStartMs } = pod.workload;
    const { restarts } = pod;
    this.#simulation.schedule(spec.startMs * (0.7 + 0.6 * this.#random.next()) + slowStartMs, () => {
      if (pod.phase === "Stopping" || pod.restarts !== restarts || !pod.workload.pods.includes(pod)) return;
      if (!pod.node.up) return;
      pod.phase = "Running";
      if (!bad.has(pod.revision) && pod.illness?.kind !== "Hang") this.setReady(pod, true);
      else this.changed(pod.workload, pod);
      const illOf = pod.workload.illRevisions.get(pod.revision);
      if (illOf !== undefined && pod.illness === undefined) this.fallIll(pod, { ...illOf, since: this.#simulation.now });
      for (const illness of pod.workload.sticky)
        this.#simulation.schedule(5_000 + this.#random.next() * 20_000, () => {
          if (pod.workload.sticky.includes(illness) && pod.illness === undefined)
            this.fallIll(pod, { ...illness, since: this.#simulation.now });
        });
    });
  }

  /** Where the scheduler puts a pod: anywhere, or spread over the nodes where these are known. */
  #nodeFor(workload: SimWorkload): SimNode {
    const open = this.nodes.filter((node) => !isClosed(node) && !node.ill);
    const up = open.filter((node) => node.up);
    const nodes = up.length > 0 ? up : open.length > 0 ? open : this.nodes;
    if (nodes[0]?.known !== true) return this.#random.pick(nodes);
    const all = this.workloads.flatMap(({ pods }) => pods);
    const load = (node: SimNode): number =>
      1_000 * workload.pods.filter((pod) => pod.node === node).length + all.filter((pod) => pod.node === node).length;
    return nodes.reduce((least, node) => (load(node) < load(least) ? node : least));
  }

  #create(workload: SimWorkload, name?: string, node?: SimNode): Pod {
    const now = this.#simulation.now;
    const pod: Pod = {
      uid: this.#random.uuid(),
      name: name ?? `${workload.spec.name}-${workload.revision}-${(workload.nextPod++).toString(36).padStart(3, "0")}`,
      workload,
      node: node ?? this.#nodeFor(workload),
      revision: workload.revision,
      createdAt: now,
      startedAt: now,
      phase: "Pending",
      ready: false,
      everReady: false,
      readyChangedAt: now,
      restarts: 0,
      killedForMemoryAt: undefined,
      illness: undefined,
      owned: true,
      removed: false,
      deletionCost: 0,
      limitBytes: workload.limitBytes,
      askedBytes: workload.limitBytes,
      resizeIsInfeasible: false,
      resized: undefined,
      effects: new Map(),
      actions: new Set(),
      replaces: undefined,
      marked: false,
      version: 1,
      serving: false,
      servingChangedAt: now,
    };
    workload.pods.push(pod);
    this.changed(workload, pod);
    this.#becomeReady(pod);
    return pod;
  }

  // ---- nodes ---------------------------------------------------------------------------------------------------

  /** The pool of a node; undefined where operators do not see it as a target. */
  poolOf(node: SimNode): SimPool | undefined {
    return this.pools.find(({ name }) => name === node.pool);
  }

  /** Something of a node has changed. */
  nodeChanged(node: SimNode): void {
    this.version += 1;
    node.version += 1;
    const pool = this.poolOf(node);
    if (pool === undefined) return;
    pool.version += 1;
    this.#dirtyPools.add(pool);
  }

  /** What is on nodes, and marked, has changed. */
  poolsChanged(): void {
    for (const pool of this.pools) {
      pool.version += 1;
      this.#dirtyPools.add(pool);
    }
  }

  #machine(name: string): string {
    return `node/${name}/${this.#machines++}`;
  }

  /** Its kubelet says that it is ill, or well again. */
  setNodeIll(node: SimNode, ill: boolean): void {
    if (node.ill === ill) return;
    node.ill = ill;
    if (node.up) node.readyChangedAt = this.#simulation.now;
    this.nodeChanged(node);
  }

  setNode(node: SimNode, up: boolean): void {
    if (node.up === up) return;
    node.up = up;
    if (!node.ill) node.readyChangedAt = this.#simulation.now;
    this.nodeChanged(node);
    for (const workload of this.workloads)
      for (const pod of workload.pods) {
        if (pod.node !== node) continue;
        if (up) {
          // Its kubelet has started everything on it anew.
          if (pod.phase === "Pending") this.#becomeReady(pod);
          else if (pod.phase === "Running") this.restartContainer(pod);
          continue;
        }
        this.setReady(pod, false);
        this.#simulation.schedule(NODE_LOST_MS, () => {
          if (!node.up && workload.pods.includes(pod)) this.deletePod(pod);
        });
      }
  }

  /** A node's machine is no more: its pods are let go without its kubelet. */
  removeNode(node: SimNode): void {
    node.gone = true;
    // It may have been down before: that it is gone is news all the same.
    this.nodeChanged(node);
    this.setNode(node, false);
    this.#simulation.schedule(NODE_GONE_MS, () => {
      if (!node.gone) return;
      for (const workload of this.workloads) for (const pod of workload.pods) if (pod.node === node) this.deletePod(pod, 0);
    });
  }

  /** A node of the same name as one that is gone takes its place. */
  addNode(node: SimNode): void {
    if (!node.gone) return;
    for (const workload of this.workloads) {
      const lost = workload.pods.filter((pod) => pod.node === node);
      if (lost.length === 0) continue;
      workload.pods = workload.pods.filter((pod) => pod.node !== node);
      this.changed(workload);
    }
    node.gone = false;
    node.up = true;
    node.ill = false;
    node.uid = this.#machine(node.name);
    node.cordonedBy = node.uncordoned = undefined;
    node.cordonedByOthers = false;
    node.opened = undefined;
    node.createdAt = node.readyChangedAt = this.#simulation.now;
    this.nodeChanged(node);
  }

  // ---- controllers ---------------------------------------------------------------------------------------------

  /** Another template: its pods replace those of the old one. `by` is the effect that gave it; undefined where somebody else did. */
  rollOut(workload: SimWorkload, bad = false, ill?: Illness, by?: string): void {
    const { revision } = workload;
    if (!workload.rollingOut && !workload.bad.has(revision) && !workload.illRevisions.has(revision)) workload.healthy.push(revision);
    workload.revision = Math.max(workload.revision, ...workload.pods.map((pod) => pod.revision)) + 1;
    if (bad) workload.bad.add(workload.revision);
    if (ill !== undefined) workload.illRevisions.set(workload.revision, ill);
    workload.rollingOut = true;
    workload.rolledOutBy = by;
    workload.rolledOutAt = this.#simulation.now;
    this.changed(workload);
  }

  /** Sets how many replicas it should have. */
  scale(workload: SimWorkload, replicas: number): void {
    if (workload.desired === replicas) return;
    workload.desired = replicas;
    this.changed(workload);
  }

  #reconcile(workload: SimWorkload): void {
    if (workload.spec.kind === "StatefulSet") this.#reconcileSet(workload);
    else this.#reconcileDeployment(workload);
  }

  #reconcileDeployment(workload: SimWorkload): void {
    const owned = workload.pods.filter((pod) => pod.owned && pod.phase !== "Stopping");
    const old = owned.filter((pod) => pod.revision !== workload.revision);
    const current = owned.filter((pod) => pod.revision === workload.revision);
    if (workload.rollingOut && old.length === 0 && current.length >= workload.desired && current.every((pod) => pod.ready)) {
      workload.rollingOut = false;
      this.changed(workload);
      return;
    }
    // maxSurge 1, maxUnavailable 0.
    const most = workload.desired + (old.length > 0 ? 1 : 0);
    if (owned.length < most && current.length < workload.desired) {
      const missing = Math.min(most - owned.length, workload.desired - current.length);
      for (let i = 0; i < missing; i++) this.#create(workload);
      return;
    }
    const ready = owned.filter((pod) => pod.ready).length;
    const victim =
      old.length > 0
        ? (old.find((pod) => !pod.ready) ?? (ready > workload.desired ? old[0] : undefined))
        : current.length > workload.desired
          ? surplus(current)
          : undefined;
    if (victim !== undefined) this.deletePod(victim);
  }

  #reconcileSet(workload: SimWorkload): void {
    const { pods, spec, desired } = workload;
    const nameOf = (ordinal: number): string => `${spec.name}-${ordinal}`;
    for (let ordinal = 0; ordinal < desired; ordinal++)
      if (!pods.some((pod) => pod.name === nameOf(ordinal))) {
        this.#create(workload, nameOf(ordinal));
        return;
      }
    const beyond = pods.filter((pod) => pod.phase !== "Stopping" && Number(pod.name.slice(spec.name.length + 1)) >= desired);
    const [last] = beyond.toSorted((a, b) => b.name.localeCompare(a.name));
    if (last !== undefined) return this.deletePod(last);
    if (!workload.rollingOut) return;
    const old = pods.filter((pod) => pod.revision !== workload.revision && pod.phase !== "Stopping");
    if (old.length === 0 && pods.every((pod) => pod.ready)) {
      workload.rollingOut = false;
      this.changed(workload);
    } else if (old.length > 0 && pods.every((pod) => pod.ready || old.includes(pod))) {
      const next = old.find((pod) => !pod.ready) ?? old.at(-1);
      if (next !== undefined && pods.every((pod) => pod.ready || pod === next)) this.deletePod(next);
    }
  }

  #autoscale(): void {
    for (const workload of this.workloads) {
      const { autoscaler } = workload.spec;
      if (autoscaler === undefined) continue;
      const least = Math.max(autoscaler.min, workload.floor);
      if (this.#byLoad) {
        const needed = Math.ceil(workload.surge * workload.spec.replicas);
        this.scale(workload, Math.min(autoscaler.max, Math.max(least, needed)));
        continue;
      }
      if (this.#random.next() < 0.6) continue;
      this.scale(workload, Math.min(autoscaler.max, Math.max(least, workload.desired + this.#random.int(-1, 1))));
    }
  }

  #add(spec: WorkloadSpec): void {
    const uid = this.#random.uuid();
    const workload: SimWorkload = {
      spec,
      uid,
      ref: { kind: spec.kind, namespace: spec.namespace ?? NAMESPACE, name: spec.name, uid },
      pods: [],
      desired: spec.replicas,
      floor: spec.autoscaler?.min ?? 0,
      revision: 1,
      bad: new Set(),
      healthy: [],
      rollingOut: false,
      rolledOutBy: undefined,
      rolledOutAt: -Infinity,
      illRevisions: new Map(),
      surge: 1,
      marked: spec.marked ?? false,
      gitOps: spec.gitOps,
      sticky: [],
      conditions: [],
      errors: 0,
      slowStartMs: 0,
      effects: new Map(),
      limitBytes: spec.limitBytes ?? LIMIT_BYTES,
      resized: undefined,
      scaledFrom: undefined,
      scaledTo: undefined,
      version: 1,
      nextPod: 0,
    };
    this.workloads.push(workload);
    for (let i = 0; i < spec.replicas; i++) {
      const node = this.nodes.find(({ name }) => name === spec.on?.[i]);
      const pod = this.#create(workload, spec.kind === "StatefulSet" ? `${spec.name}-${i}` : undefined, node);
      pod.phase = "Running";
      pod.ready = pod.everReady = true;
    }
    this.changed(workload);
  }

  // ---- what can be seen ----------------------------------------------------------------------------------------

  /** The workload as the API server shows it now. */
  describe(workload: SimWorkload): Workload {
    const { spec, ref, desired, marked, gitOps } = workload;
    const enclosing: Markable[] = [{ ref: { kind: "Namespace", namespace: "", name: ref.namespace }, ...marksOf(this.namespaceMarked) }];
    const healthy = workload.healthy.findLast((revision) => revision !== workload.revision);
    const busy: Busy | undefined = workload.rollingOut
      ? { reason: "RolloutInProgress", message: `${spec.kind} ${spec.name} is rolling out revision ${workload.revision}` }
      : undefined;
    return {
      ref,
      desired,
      replicas: workload.pods.map((pod) => this.#replica(pod)),
      ...marksOf(marked, spec.labels),
      enclosing,
      ...(spec.minAvailable === undefined
        ? {}
        : { minAvailable: { count: Math.min(spec.minAvailable, desired), source: `PodDisruptionBudget ${spec.name}` } }),
      renewedBy: spec.kind === "StatefulSet" ? "Eviction" : "Replacement",
      rollsOut: true,
      ...(busy === undefined ? {} : { busy }),
      ...(isUnfinished(workload)
        ? {
            rollout: {
              progressAt: progressAt(workload),
              deadline: progressAt(workload) + STUCK_MS,
              message: `${spec.kind} ${spec.name}: pods of revision ${workload.revision} do not become ready`,
            },
          }
        : {}),
      revision: String(workload.revision),
      ...(healthy === undefined ? {} : { lastHealthy: { revision: String(healthy), why: `revision ${healthy} was wholly available` } }),
      ...(spec.autoscaler === undefined
        ? {}
        : { maxReplicas: { count: spec.autoscaler.max, source: `HorizontalPodAutoscaler ${spec.name}` } }),
      ...(gitOps === undefined
        ? {}
        : {
            gitOps: [
              { field: "replicas", path: "spec.replicas", owner: gitOps },
              { field: "template", path: "spec.template", owner: gitOps },
              { field: "resources", path: "spec.template.spec.containers", owner: gitOps },
            ],
          }),
    };
  }

  /** The pool as the API server shows its nodes now. */
  describePool({ name }: SimPool): Workload {
    const nodes = this.nodes.filter(({ pool, gone }) => pool === name && !gone);
    const marked = new Map(nodes.map((node) => [node.uid, this.#markedOn(node)]));
    return nodePool(this.#nodesIn ?? NAMESPACE, name, nodes.map(recordOf), ({ uid }) => marked.get(uid) ?? []);
  }

  /** What on a node carries a mark. */
  #markedOn(node: SimNode): Markable[] {
    const found: Markable[] = [];
    for (const workload of this.workloads) {
      const pods = workload.pods.filter((pod) => pod.node === node);
      if (pods.length === 0) continue;
      if (workload.marked) found.push({ ref: workload.ref, ...marksOf(true) });
      if (this.namespaceMarked) found.push({ ref: { kind: "Namespace", namespace: "", name: workload.ref.namespace }, ...marksOf(true) });
      for (const { name, uid, marked } of pods)
        if (marked) found.push({ ref: { kind: "Pod", namespace: workload.ref.namespace, name, uid }, ...marksOf(true) });
    }
    return found;
  }

  #replica(pod: Pod): Replica {
    const startedBy = pod.effects.get("claimed");
    const states = statesOf(pod);
    return {
      ref: { kind: "Pod", namespace: pod.workload.ref.namespace, name: pod.name, uid: pod.uid },
      workload: pod.workload.ref,
      phase: pod.phase === "Pending" ? "Starting" : pod.phase,
      ready: pod.ready,
      everReady: pod.everReady,
      ...(pod.ready || !pod.everReady ? {} : { unreadySince: pod.readyChangedAt }),
      inTraffic: pod.ready && !pod.removed && pod.phase === "Running",
      startedAt: pod.startedAt,
      createdAt: pod.createdAt,
      restarts: pod.restarts,
      memory: { limitBytes: pod.limitBytes },
      ...marksOf(pod.marked, pod.workload.spec.podLabels),
      ...(startedBy === undefined ? {} : { startedBy }),
      ...(pod.replaces === undefined ? {} : { replaces: pod.replaces }),
      detached: !pod.owned,
      ...(states.length === 0 ? {} : { states }),
      ...(pod.workload.spec.servesActions === true ? { servesActions: true } : {}),
      ...(pod.node.known ? { node: pod.node.name } : {}),
      ...(pod.node.zone === undefined ? {} : { zone: pod.node.zone }),
      ...(pod.node.marked ? { around: [{ ref: { kind: "Node", namespace: "", name: pod.node.name }, ...marksOf(true) }] } : {}),
    };
  }
}

/** Nothing new is scheduled on it. */
export function isClosed({ cordonedBy, cordonedByOthers }: SimNode): boolean {
  return cordonedBy !== undefined || cordonedByOthers;
}

/** A node as `platform/kubernetes` keeps it. */
function recordOf(node: SimNode): NodeRecord {
  const { name, uid, zone, labels, up, ill, cordonedBy, marked, createdAt, readyChangedAt, version } = node;
  const ready = up ? (ill ? "False" : "True") : "Unknown";
  return {
    namespace: "",
    name,
    uid,
    resourceVersion: String(version),
    labels: { "kubernetes.io/os": "linux", ...labels, ...(zone === undefined ? {} : { "topology.kubernetes.io/zone": zone }) },
    annotations: {
      ...(cordonedBy === undefined ? {} : { [MARKS.cordonedBy]: cordonedBy }),
      ...marksOf(marked).annotations,
    },
    unschedulable: isClosed(node),
    ready,
    readyChangedAt,
    readyMessage: "",
    conditions: [{ type: "Ready", status: ready, since: readyChangedAt, message: "" }],
    createdAt,
  };
}

/** It gets requests and can answer them. */
export function isServing(pod: Pod): boolean {
  return pod.phase === "Running" && pod.ready && !pod.removed;
}

/** What the share of a pod's memory that is in use while it is well, and by how much a leak adds to that, are shares of (bytes): how much it needs has nothing to do with how much it is given. */
function naturalBytes({ workload }: Pod): number {
  return workload.spec.limitBytes ?? LIMIT_BYTES;
}

/** Shares that a pod uses while it is well, and that a leak has added to it after its time. */
const WELL_SHARE = 0.3;
const LEAKED_SHARE = 0.7;

/** How long a pod leaks until it uses what it may (ms). */
function leaksFor(pod: Pod, { ms }: Illness): number {
  return (ms * (pod.limitBytes / naturalBytes(pod) - WELL_SHARE)) / LEAKED_SHARE;
}

/** Memory that a pod uses (bytes), `now` in ms since the epoch; `noise` from 0 to 1. */
export function usedBytes(pod: Pod, now: number, noise = 0): number {
  const { illness } = pod;
  const grown = illness?.kind === "Leak" ? (LEAKED_SHARE * (now - illness.since)) / illness.ms : 0;
  return Math.min(pod.limitBytes, naturalBytes(pod) * (WELL_SHARE + 0.02 * noise + Math.max(0, grown)));
}

/** What its kubelet says is wrong with a pod. */
export function statesOf(pod: Pod): ReplicaState[] {
  const { illness, restarts, killedForMemoryAt, phase, createdAt } = pod;
  const states: ReplicaState[] = [];
  if (illness?.kind === "CrashLoop" && restarts > 0)
    states.push({ state: "CrashLoopBackOff", since: illness.since, container: "main", message: "it ended with exit code 1 (Error)" });
  if (killedForMemoryAt !== undefined)
    states.push({ state: "OOMKilled", since: killedForMemoryAt, container: "main", message: "it ended with exit code 137 (OOMKilled)" });
  if (phase === "Pending") states.push({ state: "Pending", since: createdAt, reason: "ContainerCreating", message: "" });
  return states;
}

/** Whether a rollout is under way whose pods do not become ready. */
function isUnfinished({ rollingOut, pods, revision }: SimWorkload): boolean {
  return rollingOut && pods.some((pod) => pod.revision === revision && !pod.everReady);
}

/** When the rollout of a workload last made progress, which is another pod that became ready (ms since the epoch). */
function progressAt({ rolledOutAt, pods, revision }: SimWorkload): number {
  return pods.reduce(
    (latest, pod) => (pod.revision === revision && pod.everReady ? Math.max(latest, pod.readyChangedAt) : latest),
    rolledOutAt,
  );
}

/** Whether a rollout of a workload makes no progress, `now` in ms since the epoch. */
function isStuck(workload: SimWorkload, now: number): boolean {
  return isUnfinished(workload) && now - progressAt(workload) > STUCK_MS;
}

/** Whether a workload still suffers from something, seen from what ends it. */
export function suffers({ pods }: Pick<SimWorkload, "pods">, { since, served, endedBy }: WorkloadIllness): boolean {
  const serving = pods.filter(isServing);
  if (endedBy.includes("Scale") && serving.length > served) return false;
  return !endedBy.includes("Restart") || serving.length === 0 || serving.some(({ startedAt }) => startedAt <= since);
}

/** What a symptom names, where it is a condition of pods or of workloads as a whole. */
function conditionOf(symptom: Symptom, of: "Pod" | "Workload"): string | undefined {
  const prefix = `${of}Condition/`;
  return symptom.startsWith(prefix) ? symptom.slice(prefix.length) : undefined;
}

/** Share of requests above which `Errors` holds. */
const HIGH_ERRORS = 0.2;

/** Whether monitoring sees a symptom on a workload as a whole, `now` in ms since the epoch; undefined where it is seen on pods. */
export function showsAsWhole(
  symptom: Symptom,
  workload: SimWorkload,
  traffic: Pick<Traffic, "errorRate">,
  now: number,
): boolean | undefined {
  const condition = conditionOf(symptom, "Workload");
  if (condition !== undefined) return workload.conditions.some((each) => each.what === condition && suffers(workload, each));
  if (symptom === "Errors") return workload.spec.rps > 0 && traffic.errorRate(workload) > HIGH_ERRORS;
  return symptom === "RolloutStuck" ? isStuck(workload, now) : undefined;
}

/** Whether monitoring sees a symptom on a pod. */
export function shows(symptom: Symptom, pod: Pod, traffic: Pick<Traffic, "memoryShare">): boolean {
  switch (symptom) {
    case "NotReady":
      return pod.phase !== "Stopping" && pod.everReady && !pod.ready;
    case "Memory":
      return traffic.memoryShare(pod) > HIGH_MEMORY;
    case "CrashLooping":
      return pod.illness?.kind === "CrashLoop";
    case "Errors":
      return pod.illness?.kind === "Errors" || pod.workload.errors > 0 || pod.workload.surge > 1;
    case "DiskFull":
    case "PoolExhausted":
      return pod.illness?.kind === symptom;
    case "RolloutStuck":
      return false;
    default: {
      const condition = conditionOf(symptom, "Pod");
      return condition !== undefined && pod.illness?.kind === "PodCondition" && pod.illness.what === condition;
    }
  }
}

/** The pod that a ReplicaSet with one too many lets go. */
function surplus(pods: readonly Pod[]): Pod | undefined {
  return pods.toSorted(
    (a, b) =>
      Number(a.ready) - Number(b.ready) || a.deletionCost - b.deletionCost || b.createdAt - a.createdAt || (a.name < b.name ? -1 : 1),
  )[0];
}

const NOT_MARKED = { labels: {}, annotations: {} };
const MARKED = { labels: {}, annotations: { [DO_NOT_REMEDIATE]: "true" } };

function marksOf(marked: boolean, labels?: Readonly<Record<string, string>>): Pick<Markable, "labels" | "annotations"> {
  const marks = marked ? MARKED : NOT_MARKED;
  return labels === undefined ? marks : { ...marks, labels };
}
