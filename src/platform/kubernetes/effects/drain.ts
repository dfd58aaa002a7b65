import { NightshiftError } from "../../../api/errors.ts";
import { targetKey } from "../../../api/meta.ts";
import { isOfSameAttempt } from "../../attempts.ts";
import { sleep } from "../../../ports/clock.ts";
import type { Replica, Workload } from "../../../ports/platform.ts";
import { MARKS, MIRROR } from "../marks.ts";
import { isMarked } from "../nodes.ts";
import type { Node, Owner, Pod } from "../objects.ts";
import { OWNER_KINDS } from "../records.ts";
import { selectorText } from "../selector.ts";
import { removePod } from "./removal.ts";
import { annotation, type Deps, type EffectOf, gone, type Handler, isReady, list, nameOf, read, refuseMarked, timedOut } from "./shared.ts";
import { removedLabels } from "./traffic.ts";

/** How long is waited before a workload is looked at again that can spare no replica now, or a pod that is not known yet (ms). */
const SPARE_PAUSE_MS = 500;
/** What a cordon puts on a node: a pod that tolerates it would come back, again and again. */
const UNSCHEDULABLE = "node.kubernetes.io/unschedulable";

/**
 * Evicts what can be moved away from a node, one pod after the other, each only while its workload can spare it. Nothing is
 * evicted where something on the node must not be: it could not be emptied, and would have cost restarts for nothing. Nor is
 * anything more once somebody has opened the node again, or marked any of it: it is asked for before each eviction.
 *
 * A node whose kubelet is not heard of never says that a pod has ended: there an eviction that is under way is enough.
 */
export const drain: Handler<"Drain"> = {
  type: "Drain",

  async apply(effect, deps, signal) {
    let evicted = 0;
    for (;;) {
      const found = await onNode(effect, deps, signal);
      if (found === undefined) throw gone("Node", { ...effect.replica, namespace: "" });
      const { node, pods, reachable } = found;
      refuseMarked("Node", node);
      for (const each of pods) refuseUntouchable(each, deps);
      const [pod] = pods;
      if (pod === undefined)
        return { message: `${effect.replica.name} is emptied${evicted === 0 ? "" : `: ${evicted} pods were evicted`}` };
      if (recordOf(pod, deps) === undefined) {
        // Whose it is, and what is marked about it, is not known before the caches have heard of it.
        await pause(`${nameOf("Pod", pod)} is not known yet`, deps, signal);
        continue;
      }
      const still = async (): Promise<void> => {
        const now = await read<Node>(deps, "Node", { ...effect.replica, namespace: "" }, signal);
        refuseOpened(effect, now);
        if (now !== undefined) refuseMarked("Node", now);
        refuseUntouchable(pod, deps);
      };
      const release = await reserved(pod, still, deps, signal);
      try {
        const { namespace = "", name, uid } = pod.metadata;
        await removePod(effect.id, { kind: "Pod", namespace, name, uid }, { by: "Evict", awaitEnd: reachable, still }, deps, signal);
      } finally {
        release();
      }
      evicted += 1;
    }
  },

  async observe(effect, deps) {
    const pods = (await onNode(effect, deps))?.pods ?? [];
    return pods.length === 0 ? { state: "Applied", result: { message: `${effect.replica.name} is emptied` } } : { state: "NotApplied" };
  },
};

/** The node, and the pods on it that are to go and are not going yet; undefined where it is gone, and everything on it with it. */
async function onNode(
  { replica }: EffectOf<"Drain">,
  deps: Deps,
  signal?: AbortSignal,
): Promise<{ readonly node: Node; readonly pods: readonly Pod[]; readonly reachable: boolean } | undefined> {
  const node = await read<Node>(deps, "Node", { ...replica, namespace: "" }, signal);
  if (node === undefined) return undefined;
  const reachable = node.status?.conditions?.some((condition) => condition.type === "Ready" && condition.status !== "Unknown") ?? false;
  const all = await list<Pod>(deps, "Pod", undefined, { fieldSelector: `spec.nodeName=${replica.name}` }, signal);
  const pods = all.filter(
    (pod) =>
      isMovable(pod) &&
      (pod.metadata.deletionTimestamp === undefined || reachable) &&
      !deps.protectedNamespaces.has(pod.metadata.namespace ?? ""),
  );
  // Whoever carries this out may stand on the node too: last, so that the rest is done by then.
  const own = (pod: Pod): number => (pod.metadata.namespace === replica.namespace ? 1 : 0);
  return { node, pods: pods.toSorted((a, b) => own(a) - own(b)), reachable };
}

/** What a drain leaves: what belongs to the node (DaemonSets, what its kubelet runs from files), what would come back, and what has ended. */
function isMovable(pod: Pod): boolean {
  const controller = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
  return (
    controller?.kind !== "DaemonSet" &&
    !toleratesCordon(pod) &&
    annotation(pod, MIRROR) === undefined &&
    pod.status?.phase !== "Succeeded" &&
    pod.status?.phase !== "Failed"
  );
}

function toleratesCordon(pod: Pod): boolean {
  return (pod.spec.tolerations ?? []).some(
    ({ key = "", operator = "Equal", value = "", effect = "" }) =>
      (effect === "" || effect === "NoSchedule") &&
      (operator === "Exists" ? key === "" || key === UNSCHEDULABLE : key === UNSCHEDULABLE && value === ""),
  );
}

function refuseUntouchable(pod: Pod, deps: Deps): void {
  refuseMarked("Pod", pod);
  const { namespace = "", name, ownerReferences = [] } = pod.metadata;
  const around = [workloadOf(pod, deps), deps.view.record("Namespace", "", namespace)];
  if (around.some((thing) => isMarked(thing)))
    throw new NightshiftError("DO_NOT_REMEDIATE", `${nameOf("Pod", pod)} is in what carries a do-not-remediate mark`);
  if (!ownerReferences.some((reference) => reference.controller === true))
    throw new NightshiftError("NOT_MOVABLE", `${nameOf("Pod", pod)} has no owner that would start it elsewhere`, {
      fix: `Move or delete ${name} by hand, or give it an owner.`,
    });
}

/** `kubectl uncordon` leaves the mark of the cordon that it opens: a node that carries this attempt's, and is open, was opened by somebody else. */
function refuseOpened({ id, replica }: EffectOf<"Drain">, node: Node | undefined): void {
  const cordonedBy = annotation(node, MARKS.cordonedBy);
  if (node?.spec?.unschedulable === true || cordonedBy === undefined || !isOfSameAttempt(cordonedBy, id)) return;
  throw new NightshiftError("NODE_UNCORDONED", `${replica.name} was uncordoned by somebody since: what is on it stays`);
}

function recordOf({ metadata }: Pod, deps: Deps) {
  return deps.view.record("Pod", metadata.namespace ?? "", metadata.name);
}

/** Waits a moment. Rejects with `why` when the time is up. */
async function pause(why: string, deps: Deps, signal: AbortSignal): Promise<void> {
  if (signal.aborted) throw timedOut(why);
  await sleep(deps.clock, SPARE_PAUSE_MS, signal);
  if (signal.aborted) throw timedOut(why);
}

function workloadOf(pod: Pod, deps: Deps): ReturnType<Deps["view"]["workloadOf"]> {
  const record = recordOf(pod, deps);
  return record === undefined ? undefined : deps.view.workloadOf(record);
}

/** Waits until the pod may be moved away: no other of its workload is being moved, and the workload can spare it. Returns what lets the next one be moved. */
async function reserved(pod: Pod, still: () => Promise<void>, deps: Deps, signal: AbortSignal): Promise<() => void> {
  for (;;) {
    await still();
    const workload = workloadOf(pod, deps);
    if (workload === undefined) return () => undefined;
    const key = workload.ref.uid ?? targetKey(workload.ref);
    let why = `another pod of ${workload.ref.name} is being moved away`;
    if (!deps.draining.has(key)) {
      // Before it is looked: of two that look at once both would see the workload whole.
      deps.draining.add(key);
      const release = (): void => void deps.draining.delete(key);
      try {
        const lack = await lackOf(workload, pod.metadata, deps, signal);
        if (lack === undefined) return release;
        why = lack;
      } catch (error) {
        release();
        throw error;
      }
      release();
    }
    await pause(why, deps, signal);
  }
}

/**
 * Why a workload cannot spare a pod now: not all of its other replicas are ready; undefined where it can. The caches alone
 * would not do: they may not have heard yet of the last eviction, so a replica counts where the API server says the same.
 */
async function lackOf(workload: Workload, pod: Pod["metadata"], deps: Deps, signal: AbortSignal): Promise<string | undefined> {
  const kind = OWNER_KINDS.find((each) => each === workload.ref.kind);
  const owner = kind === undefined ? undefined : await read<Owner>(deps, kind, workload.ref, signal);
  const selector = owner?.spec.selector === undefined ? {} : { labelSelector: selectorText(owner.spec.selector) };
  const pods = await list<Pod>(deps, "Pod", pod.namespace, selector, signal);
  const serves = (each: Pod): boolean =>
    isReady(each) && each.metadata.deletionTimestamp === undefined && removedLabels(each) === undefined;
  const ready = new Set(pods.filter(serves).map(uidOf));
  // What serves nobody may always go.
  if (!ready.has(pod.uid)) return undefined;
  const isReadyOther = ({ ready: known, phase, ref }: Replica): boolean =>
    known && phase === "Running" && ref.uid !== pod.uid && ready.has(ref.uid ?? "");
  const others = workload.replicas.filter(isReadyOther).length;
  const desired = Math.max(workload.desired, owner?.spec.replicas ?? 0);
  if (others >= desired - 1) return undefined;
  return `${workload.ref.name} has ${others} other replicas that are ready, of ${desired}: it can spare none`;
}

const uidOf = (pod: Pod): string => pod.metadata.uid;
