import { NightshiftError } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import { sleep } from "../../ports/clock.ts";
import type { Effect, EffectResult, EffectState, EffectType } from "../../ports/platform.ts";
import { isConflict, KubeApiError } from "../kubernetes/errors.ts";
import type { ApiServer } from "./api-server.ts";
import type { SimProcess } from "./process.ts";
import type { OperatorView } from "./view.ts";
import type { Pod, SimNode, SimWorkload, SimWorld } from "./world.ts";

/** First and longest pause after the API server failed to answer, and between two looks at what is waited for (ms). */
export const FIRST_PAUSE_MS = 250;
export const MAX_PAUSE_MS = 5_000;
/** Readings after a conflict before it is given up for now. */
const CONFLICT_TRIES = 5;

/** One write to the cluster by an operator, as it took effect. */
export interface Mutation {
  /** Milliseconds since the epoch, by the true clock. */
  readonly at: number;
  readonly operator: number;
  readonly epoch: number;
  readonly effect: Effect;
  /** What was done, such as `detach` or `delete`. */
  readonly verb: string;
  /** Undefined where it was done to a node. */
  readonly workload: SimWorkload | undefined;
  readonly pod: Pod | undefined;
  readonly node: SimNode | undefined;
  /** How old what the operator knew of the cluster was (ms). */
  readonly viewAgeMs: number;
  /** What the operator's own clock said (ms since the epoch). */
  readonly wallMs: number;
}

/** What effects are carried out with. */
export interface EffectDeps {
  readonly world: SimWorld;
  readonly api: ApiServer;
  readonly process: SimProcess;
  readonly view: OperatorView;
  /** One request of the operator's to the API server. */
  request<T>(write: boolean, what: string, serve: () => T): Promise<T>;
  /** The epoch that this operator leads under. Throws `NOT_LEADER`. */
  epoch(): number;
  /** What the API server's admission says to a write under an epoch. Throws where another leads. */
  admit(epoch: number): void;
  /** Told of every write, right after it took effect. */
  onMutation(mutation: Omit<Mutation, "at" | "operator" | "viewAgeMs" | "wallMs">): void;
  /** Runs of jobs, by effect id. */
  readonly jobs: Map<string, Job>;
  /** As `EffectDeps.draining` of the Kubernetes platform. */
  readonly draining: Set<string>;
  /** Starts a job of a workload. */
  startJob(id: string, workload: SimWorkload): void;
}

/** A job that an effect started. */
export interface Job {
  state: "Running" | "Complete" | "Failed";
}

export type EffectOf<T extends EffectType> = Extract<Effect, { type: T }>;

export interface Handler<T extends EffectType> {
  apply(effect: EffectOf<T>, deps: EffectDeps, signal: AbortSignal): Promise<EffectResult>;
  observe(effect: EffectOf<T>, deps: EffectDeps): Promise<EffectState>;
}

/** A pod as a read returned it. */
export interface PodRead {
  readonly pod: Pod;
  readonly version: number;
  /** Its memory limit then: in force, and as it is asked for (bytes). */
  readonly limitBytes: number;
  readonly askedBytes: number;
  /** Its kubelet had said that it cannot give what is asked for. */
  readonly isInfeasible: boolean;
}

/** What a read of a pod returns now. */
export function podRead(pod: Pod): PodRead {
  const { version, limitBytes, askedBytes, resizeIsInfeasible } = pod;
  return { pod, version, limitBytes, askedBytes, isInfeasible: resizeIsInfeasible };
}

/** Changes a pod that was read, if it still is as it was. */
export async function write(
  deps: EffectDeps,
  effect: Effect,
  verb: string,
  { pod, version }: PodRead,
  change: (pod: Pod) => void,
): Promise<PodRead> {
  const epoch = deps.epoch();
  return deps.request(true, `${verb} Pod ${pod.name}`, () => {
    deps.admit(epoch);
    if (!pod.workload.pods.includes(pod)) throw new KubeApiError("KUBE_NOT_FOUND", `${pod.name} is gone`, { statusCode: 404 });
    if (pod.version !== version) throw new KubeApiError("KUBE_CONFLICT", `${pod.name} has changed`, { statusCode: 409 });
    change(pod);
    deps.world.changed(pod.workload, pod);
    deps.onMutation({ epoch, effect, verb, workload: pod.workload, pod, node: undefined });
    return podRead(pod);
  });
}

export async function writeWorkload(
  deps: EffectDeps,
  effect: Effect,
  verb: string,
  workload: SimWorkload,
  version: number | undefined,
  change: () => void,
): Promise<void> {
  const epoch = deps.epoch();
  await deps.request(true, `${verb} ${workload.spec.kind} ${workload.spec.name}`, () => {
    deps.admit(epoch);
    if (version !== undefined && workload.version !== version)
      throw new KubeApiError("KUBE_CONFLICT", `${workload.spec.name} has changed`, { statusCode: 409 });
    change();
    deps.world.changed(workload);
    deps.onMutation({ epoch, effect, verb, workload, pod: undefined, node: undefined });
  });
}

export function findPod(deps: EffectDeps, ref: TargetRef | undefined): Promise<PodRead | undefined> {
  if (ref === undefined) return Promise.resolve(undefined);
  return deps.request(false, `get Pod ${ref.name}`, () => {
    const pod = deps.world.pod(ref.uid);
    return pod === undefined ? undefined : podRead(pod);
  });
}

export async function readPod(deps: EffectDeps, ref: TargetRef): Promise<PodRead> {
  const read = await findPod(deps, ref);
  if (read === undefined) throw new NightshiftError("NOT_FOUND", `${ref.name} is gone`);
  if (read.pod.marked) throw new NightshiftError("DO_NOT_REMEDIATE", `${ref.name} carries a do-not-remediate mark`);
  return read;
}

export function findWorkload(deps: EffectDeps, ref: TargetRef): Promise<{ workload: SimWorkload; version: number } | undefined> {
  return deps.request(false, `get ${ref.kind} ${ref.name}`, () => {
    const workload = deps.world.workloadOf(ref);
    return workload === undefined ? undefined : { workload, version: workload.version };
  });
}

export async function readWorkload(deps: EffectDeps, ref: TargetRef): Promise<{ workload: SimWorkload; version: number }> {
  const read = await findWorkload(deps, ref);
  if (read === undefined) throw new NightshiftError("NOT_FOUND", `${ref.name} is gone`);
  if (read.workload.marked) throw new NightshiftError("DO_NOT_REMEDIATE", `${ref.name} carries a do-not-remediate mark`);
  return read;
}

/** How a pod is taken away, as in `platform/kubernetes/effects/removal.ts`. */
interface Removal {
  readonly by: "Stop" | "Evict";
  readonly gracePeriodMs?: number | undefined;
  /** Whether it is done only when the pod is gone. Default true. */
  readonly awaitEnd?: boolean;
  /** Asked before each try: rejects where it is not to be done any more. */
  readonly still?: () => Promise<void>;
}

/** Takes a pod away and resolves when it is gone: by the eviction API, or by a deletion where no PodDisruptionBudget counts it. */
export async function remove(
  effect: Effect,
  replica: TargetRef,
  { by, gracePeriodMs, awaitEnd = true, still }: Removal,
  deps: EffectDeps,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await still?.();
    try {
      const asked = await retryOnConflict(deps, signal, async () => {
        const read = await findPod(deps, replica);
        if (read === undefined) return false;
        if (read.pod.phase === "Stopping") return true;
        if (read.pod.marked) throw new NightshiftError("DO_NOT_REMEDIATE", `${replica.name} carries a do-not-remediate mark`);
        const isBudgeted = read.pod.workload.spec.minAvailable !== undefined && !read.pod.removed;
        // The same mark once more changes nothing.
        const isMarked = read.pod.effects.get("stopped") === effect.id;
        const marked = isMarked
          ? read
          : await write(deps, effect, "markStopped", read, (pod) => void pod.effects.set("stopped", effect.id));
        await write(deps, effect, "delete", marked, (pod) => {
          if ((by === "Evict" || isBudgeted) && !mayEvict(pod))
            throw new KubeApiError("KUBE_TOO_MANY_REQUESTS", "a PodDisruptionBudget forbids it", { statusCode: 429 });
          deps.world.deletePod(pod, gracePeriodMs);
        });
        return true;
      });
      if (!asked) return;
      break;
    } catch (error) {
      if (!(error instanceof KubeApiError) || error.code !== "KUBE_TOO_MANY_REQUESTS") throw error;
      await sleep(deps.process, 1_000, signal);
      if (signal.aborted)
        throw new NightshiftError("EFFECT_TIMEOUT", `${replica.name} could not be evicted: ${error.message}`, { cause: error });
    }
  }
  if (!awaitEnd) return;
  await until(
    deps,
    signal,
    () => `${replica.name} is being deleted and has not ended`,
    async () => ((await findPod(deps, replica)) === undefined ? true : undefined),
  );
}

/** Whether the PodDisruptionBudget lets the pod go. One that is not ready may always go. */
function mayEvict(pod: Pod): boolean {
  const { spec, pods, desired } = pod.workload;
  if (spec.minAvailable === undefined || !pod.ready) return true;
  const healthy = pods.filter((other) => other.ready && other.phase === "Running" && !other.removed).length;
  return healthy - 1 >= Math.min(spec.minAvailable, desired);
}

export async function retryOnConflict<T>(deps: EffectDeps, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (!isConflict(error) || tries >= CONFLICT_TRIES || signal.aborted) throw error;
      await sleep(deps.process, 10 * tries, signal);
    }
  }
}

export async function until<T>(deps: EffectDeps, signal: AbortSignal, what: () => string, ask: () => Promise<T | undefined>): Promise<T> {
  const timedOut = (): NightshiftError => new NightshiftError("EFFECT_TIMEOUT", `not done in the time that it had: ${what()}`);
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 1.5, 2_000)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (signal.aborted) throw timedOut();
    await sleep(deps.process, pause, signal);
    if (signal.aborted) throw timedOut();
  }
}

/** Waits until the caches know of what was just written. */
export async function seen(
  deps: EffectDeps,
  workload: { readonly uid: string; readonly version: number },
  signal: AbortSignal,
): Promise<void> {
  await deps.view.reached(workload.uid, workload.version, signal);
}
