import { NightshiftError } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import { sleep } from "../../ports/clock.ts";
import type { EffectType } from "../../ports/platform.ts";
import { isOfSameAttempt } from "../attempts.ts";
import { KubeApiError } from "../kubernetes/errors.ts";
import { type EffectDeps, type EffectOf, type Handler, remove, retryOnConflict, seen } from "./effect.ts";
import { isClosed, type Pod, type SimNode } from "./world.ts";

/** How long is waited before a workload is looked at again that can spare no replica now (ms): as the Kubernetes platform has it. */
const SPARE_PAUSE_MS = 500;

/** A node as a read returned it. */
interface NodeRead {
  readonly node: SimNode;
  readonly version: number;
  readonly reachable: boolean;
  /** Id of the effect whose cordon a person had opened, and nobody has closed it since. */
  readonly opened: string | undefined;
}

/** The effects on nodes, as `platform/kubernetes/effects/cordon.ts` and `drain.ts` carry them out. */
export const NODE_HANDLERS: { readonly [T in EffectType]?: Handler<T> } = {
  Cordon: {
    async apply(effect, deps, signal) {
      const { id, replica } = effect;
      const node = await retryOnConflict(deps, signal, async () => {
        const read = await readNode(deps, replica);
        if (read.node.uncordoned === id || read.node.opened?.of === id)
          throw new NightshiftError("EFFECT_FAILED", `${replica.name} was uncordoned since: the cordon was taken back`);
        if (isClosed(read.node)) {
          if (read.node.cordonedBy === id) return read.node;
          throw new NightshiftError("NODE_CORDONED", `${replica.name} was cordoned by ${read.node.cordonedBy ?? "somebody else"}`);
        }
        return writeNode(deps, effect, "cordon", read, (each) => void (each.cordonedBy = id));
      });
      await nodeSeen(deps, node, signal);
      return { message: `nothing new is scheduled on ${replica.name}` };
    },
    async observe({ id, replica }, deps) {
      const read = await findNode(deps, replica);
      return read?.node.cordonedBy === id
        ? { state: "Applied", result: { message: `nothing new is scheduled on ${replica.name}` } }
        : { state: "NotApplied" };
    },
  },

  Uncordon: {
    async apply(effect, deps, signal) {
      const { replica, of } = effect;
      const node = await retryOnConflict(deps, signal, async () => {
        const read = await findNode(deps, replica);
        if (read === undefined) throw new NightshiftError("NOT_FOUND", `${replica.name} is gone`);
        if (read.node.cordonedBy !== of) return undefined;
        return writeNode(deps, effect, "uncordon", read, (each) => {
          each.cordonedBy = undefined;
          each.uncordoned = of;
        });
      });
      if (node === undefined) return { message: `${replica.name} is not cordoned by Nightshift any more` };
      await nodeSeen(deps, node, signal);
      return { message: `${replica.name} is used again` };
    },
    async observe({ replica, of }, deps) {
      const read = await findNode(deps, replica);
      return read?.node.cordonedBy === of
        ? { state: "NotApplied" }
        : { state: "Applied", result: { message: `${replica.name} is used again` } };
    },
  },

  Drain: {
    async apply(effect, deps, signal) {
      let evicted = 0;
      for (;;) {
        const { reachable } = await readNode(deps, effect.replica);
        const pods = await onNode(deps, effect, reachable);
        for (const pod of pods) refuseUntouchable(deps, pod);
        const [pod] = pods;
        if (pod === undefined)
          return { message: `${effect.replica.name} is emptied${evicted === 0 ? "" : `: ${evicted} pods were evicted`}` };
        const still = async (): Promise<void> => refuseOpened(effect, await findNode(deps, effect.replica));
        const release = await reserved(deps, pod, still, signal);
        try {
          const ref = { kind: "Pod", namespace: pod.workload.ref.namespace, name: pod.name, uid: pod.uid };
          await remove(effect, ref, { by: "Evict", awaitEnd: reachable, still }, deps, signal);
        } finally {
          release();
        }
        evicted += 1;
      }
    },
    async observe(effect, deps) {
      const read = await findNode(deps, effect.replica);
      const pods = read === undefined ? [] : await onNode(deps, effect, read.reachable);
      return pods.length === 0 ? { state: "Applied", result: { message: `${effect.replica.name} is emptied` } } : { state: "NotApplied" };
    },
  },
};

function findNode(deps: EffectDeps, ref: TargetRef): Promise<NodeRead | undefined> {
  return deps.request(false, `get Node ${ref.name}`, () => {
    const node = deps.world.nodes.find(({ uid, gone }) => uid === ref.uid && !gone);
    if (node === undefined) return undefined;
    return { node, version: node.version, reachable: node.up, opened: isClosed(node) ? undefined : node.opened?.of };
  });
}

async function readNode(deps: EffectDeps, ref: TargetRef): Promise<NodeRead> {
  const read = await findNode(deps, ref);
  if (read === undefined) throw new NightshiftError("NOT_FOUND", `${ref.name} is gone`);
  if (read.node.marked) throw new NightshiftError("DO_NOT_REMEDIATE", `${ref.name} carries a do-not-remediate mark`);
  return read;
}

/** Changes a node that was read, if it still is as it was. */
async function writeNode(
  deps: EffectDeps,
  effect: EffectOf<"Cordon"> | EffectOf<"Uncordon">,
  verb: string,
  { node, version }: NodeRead,
  change: (node: SimNode) => void,
): Promise<SimNode> {
  const epoch = deps.epoch();
  return deps.request(true, `${verb} Node ${node.name}`, () => {
    deps.admit(epoch);
    if (node.gone) throw new KubeApiError("KUBE_NOT_FOUND", `${node.name} is gone`, { statusCode: 404 });
    if (node.version !== version) throw new KubeApiError("KUBE_CONFLICT", `${node.name} has changed`, { statusCode: 409 });
    change(node);
    deps.world.nodeChanged(node);
    deps.onMutation({ epoch, effect, verb, workload: undefined, pod: undefined, node });
    return node;
  });
}

/** Waits until the caches know of what was just written. */
async function nodeSeen(deps: EffectDeps, node: SimNode, signal: AbortSignal): Promise<void> {
  const pool = deps.world.poolOf(node);
  if (pool !== undefined) await seen(deps, pool, signal);
}

/** The pods on a node that are to go and are not going yet; on one that is not heard of, those that go never say that they have gone. */
function onNode(deps: EffectDeps, { replica }: EffectOf<"Drain">, reachable: boolean): Promise<readonly Pod[]> {
  return deps.request(false, `list Pods on ${replica.name}`, () =>
    deps.world.workloads.flatMap(({ pods }) =>
      pods.filter((pod) => pod.node.uid === replica.uid && (pod.phase !== "Stopping" || reachable)),
    ),
  );
}

/** A person has opened the node again that this attempt had cordoned. */
function refuseOpened({ id, replica }: EffectOf<"Drain">, read: NodeRead | undefined): void {
  if (read?.opened === undefined || !isOfSameAttempt(read.opened, id)) return;
  throw new NightshiftError("NODE_UNCORDONED", `${replica.name} was uncordoned by somebody since: what is on it stays`);
}

function refuseUntouchable(deps: EffectDeps, pod: Pod): void {
  if (pod.marked || pod.workload.marked || deps.world.namespaceMarked)
    throw new NightshiftError("DO_NOT_REMEDIATE", `${pod.name} is in what carries a do-not-remediate mark`);
  if (!pod.owned) throw new NightshiftError("NOT_MOVABLE", `${pod.name} has no owner that would start it elsewhere`);
}

/** Waits until the pod may be moved away: no other of its workload is being moved, and the workload can spare it. Returns what lets the next one be moved. */
async function reserved(deps: EffectDeps, pod: Pod, still: () => Promise<void>, signal: AbortSignal): Promise<() => void> {
  for (;;) {
    await still();
    const { uid, spec } = pod.workload;
    let why = `another pod of ${spec.name} is being moved away`;
    if (!deps.draining.has(uid)) {
      deps.draining.add(uid);
      const release = (): void => void deps.draining.delete(uid);
      try {
        const lack = await lackOf(deps, pod);
        if (lack === undefined) return release;
        why = lack;
      } catch (error) {
        release();
        throw error;
      }
      release();
    }
    if (!signal.aborted) await sleep(deps.process, SPARE_PAUSE_MS, signal);
    if (signal.aborted) throw new NightshiftError("EFFECT_TIMEOUT", why);
  }
}

/** Why the pod's workload cannot spare it: its other replicas are not all ready, as the API server and the caches both say. */
async function lackOf(deps: EffectDeps, pod: Pod): Promise<string | undefined> {
  const workload = deps.view.workloads().find(({ ref }) => ref.uid === pod.workload.uid);
  if (workload === undefined) return undefined;
  const { ready, desired } = await deps.request(false, `list Pods of ${pod.workload.spec.name}`, () => ({
    ready: new Set(pod.workload.pods.filter((each) => each.ready && each.phase === "Running" && !each.removed).map(({ uid }) => uid)),
    desired: Math.max(workload.desired, pod.workload.desired),
  }));
  if (!ready.has(pod.uid)) return undefined;
  const others = workload.replicas.filter(
    (r) => r.ready && r.phase === "Running" && r.ref.uid !== pod.uid && ready.has(r.ref.uid ?? ""),
  ).length;
  return others >= desired - 1
    ? undefined
    : `${workload.ref.name} has ${others} other replicas that are ready, of ${desired}: it can spare none`;
}
