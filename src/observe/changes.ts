import { targetKey, type TargetRef } from "../api/meta.ts";
import type { Clock } from "../ports/clock.ts";
import type { Workload } from "../ports/platform.ts";

/**
 * What changed. A rollout is another template: an image, or configuration that the template names or carries a checksum of. Configuration is a
 * new version of what the template names, where the platform follows that.
 */
export type ChangeKind =
  | "Created"
  | "Deleted"
  | "Rollout"
  | "Configuration"
  | "Scaling"
  | "NodeAdded"
  | "NodeRemoved"
  | "NodeCordoned"
  | "NodeNotReady";

/** One change of the cluster or the stack. */
export interface Change {
  /** When it was seen (ms since the epoch). */
  readonly at: number;
  readonly kind: ChangeKind;
  /** The workload, or the node. */
  readonly target: TargetRef;
  /** It, in a sentence. */
  readonly message: string;
  /** Nightshift did it, in an episode. */
  readonly ours: boolean;
}

/** Most changes that are kept; then the oldest of the kind that has the most makes place: what an autoscaler does all day hides no rollout. */
const MAX_CHANGES = 1_000;
/** How long they are kept (ms). */
const KEEP_MS = 6 * 3_600_000;

/** A node as it was seen last. */
interface NodeState {
  readonly ref: TargetRef;
  readonly ready: boolean;
  readonly cordoned: boolean;
}

interface Seen {
  readonly workload: Workload;
  readonly nodes: ReadonlyMap<string, NodeState>;
}

/**
 * What has changed since Nightshift began to look: rollouts, scalings, workloads that came and went, nodes. It is read off what the
 * platform shows in any case: no Secret is read for it, and of ConfigMaps their versions only, where that is let be. Else a change of configuration
 * shows where the template of the pods changes with it (a name with a hash, or a checksum in an annotation, as Kustomize and Helm have it).
 */
export class ChangeLog {
  readonly #clock: Clock;
  readonly #changes: Change[] = [];
  #known: Map<string, Seen> | undefined;
  #workloads: readonly Workload[] | undefined;
  #knownSince: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Compares with what was seen last. `isOurs`: whether an episode is at work on a workload. The first look finds nothing. */
  look(workloads: readonly Workload[], isOurs: (workload: TargetRef) => boolean): void {
    if (workloads === this.#workloads) return;
    this.#workloads = workloads;
    this.#knownSince ??= this.#clock.now();
    const before = this.#known;
    const now = new Map<string, Seen>();
    for (const workload of workloads) {
      const key = workload.ref.uid;
      const known = before?.get(key);
      if (known?.workload === workload) {
        now.set(key, known);
        continue;
      }
      const seen = { workload, nodes: nodesOf(workload) };
      now.set(key, seen);
      if (before === undefined) continue;
      if (known === undefined) this.#add("Created", workload.ref, `${label(workload.ref)} was created`, isOurs(workload.ref));
      else this.#compare(known, seen, isOurs);
    }
    if (before !== undefined)
      for (const [key, { workload }] of before)
        if (!now.has(key)) this.#add("Deleted", workload.ref, `${label(workload.ref)} was deleted`, isOurs(workload.ref));
    this.#known = now;
  }

  /** The changes of the last six hours, oldest first; at most a thousand. */
  list(): readonly Change[] {
    return this.#changes;
  }

  /** From when on every change is in the list (ms); undefined before the first look. What came before may not have been seen. */
  get knownSince(): number | undefined {
    return this.#knownSince;
  }

  #compare(before: Seen, after: Seen, isOurs: (workload: TargetRef) => boolean): void {
    const { ref, revision, desired } = after.workload;
    const known = before.workload;
    const ours = isOurs(ref);
    if (revision !== known.revision && revision !== undefined && known.revision !== undefined)
      this.#add("Rollout", ref, `${label(ref)} was rolled out: revision ${known.revision} became ${revision}`, ours);
    else this.#compareConfiguration(known, after.workload);
    for (const [uid, node] of after.nodes) {
      const was = before.nodes.get(uid);
      if (was === undefined) this.#add("NodeAdded", node.ref, `node ${node.ref.name} was added`, ours);
      else if (node.cordoned && !was.cordoned) this.#add("NodeCordoned", node.ref, `node ${node.ref.name} was cordoned`, ours);
      else if (!node.ready && was.ready) this.#add("NodeNotReady", node.ref, `node ${node.ref.name} became unready`, ours);
    }
    for (const [uid, { ref: node }] of before.nodes)
      if (!after.nodes.has(uid)) this.#add("NodeRemoved", node, `node ${node.name} was removed`, ours);
    if (ref.kind !== "NodePool" && desired !== known.desired)
      this.#add("Scaling", ref, `${label(ref)} was scaled from ${known.desired} to ${desired} replicas`, ours);
  }

  /** Nobody but others changes it. What another template names first, or not any more, is the rollout's. */
  #compareConfiguration({ configuration: before }: Workload, { ref, configuration: after }: Workload): void {
    if (before === undefined || after === undefined) return;
    const added = Object.keys(after).filter((name) => before[name] === undefined);
    for (const name of [...Object.keys(before), ...added]) {
      const [was, is] = [before[name], after[name]];
      const what = is === undefined ? "was deleted" : was === undefined ? "was created" : "has a new version";
      if (was !== is) this.#add("Configuration", ref, `${name}, which ${label(ref)} is given, ${what}`, false);
    }
  }

  #add(kind: ChangeKind, target: TargetRef, message: string, ours: boolean): void {
    const at = this.#clock.now();
    this.#changes.push({ at, kind, target, message, ours });
    const kept = this.#changes.findIndex((change) => change.at >= at - KEEP_MS);
    this.#changes.splice(0, kept);
    this.#knownSince = Math.max(this.#knownSince ?? at, at - KEEP_MS);
    if (this.#changes.length <= MAX_CHANGES) return;
    const byKind = Map.groupBy(this.#changes, (change) => change.kind);
    const [dropped, next] = [...byKind.values()].reduce((most, each) => (each.length > most.length ? each : most));
    if (dropped !== undefined) this.#changes.splice(this.#changes.indexOf(dropped), 1);
    this.#knownSince = Math.max(this.#knownSince, next?.at ?? at);
  }
}

const label = ({ kind, namespace, name }: TargetRef): string => targetKey({ kind, namespace, name });

function nodesOf({ ref, replicas }: Workload): ReadonlyMap<string, NodeState> {
  if (ref.kind !== "NodePool") return new Map();
  return new Map(replicas.map((node) => [node.ref.uid, { ref: node.ref, ready: node.ready, cordoned: !node.inTraffic }]));
}
