import { NightshiftError } from "../../api/errors.ts";
import type { EffectResult, EffectType } from "../../ports/platform.ts";
import {
  type EffectDeps,
  type EffectOf,
  findPod,
  findWorkload,
  type Handler,
  type PodRead,
  readPod,
  readWorkload,
  retryOnConflict,
  seen,
  until,
  write,
  writeWorkload,
} from "./effect.ts";
import type { SimWorkload } from "./world.ts";

/** The effects on memory limits, as `platform/kubernetes/effects/resize.ts` and `resize-back.ts` carry them out. */
export const RESIZE_HANDLERS: { readonly [T in EffectType]?: Handler<T> } = {
  Resize: {
    async apply(effect, deps, signal) {
      const refusal = await inPlace(effect, deps, signal);
      if (refusal === undefined) return inPlaceResult(effect);
      if (!effect.rollout) throw new NightshiftError("RESIZE_REFUSED", `${effect.replica.name} cannot be resized: ${refusal}`);
      const workload = await byRollout(effect, deps, signal);
      await seen(deps, workload, signal);
      return rolloutResult(effect, workload);
    },
    async observe(effect, deps) {
      const read = await findPod(deps, effect.replica);
      if (read?.pod.effects.get("resized") === effect.id && read.limitBytes === effect.memoryBytes)
        return { state: "Applied", result: inPlaceResult(effect) };
      if (!effect.rollout) return { state: "NotApplied" };
      const found = await findWorkload(deps, effect.workload);
      return found?.workload.effects.get("resized") === effect.id
        ? { state: "Applied", result: rolloutResult(effect, found.workload) }
        : { state: "NotApplied" };
    },
  },

  ResizeBack: {
    async apply(effect, deps, signal) {
      const pod = await retryOnConflict(deps, signal, () => podBack(effect, deps));
      if (pod !== undefined) await seen(deps, pod.pod.workload, signal);
      const workload = await retryOnConflict(deps, signal, () => templateBack(effect, deps));
      if (workload !== undefined) {
        await seen(deps, workload, signal);
        return { message: `${workload.spec.name} rolls out with the memory that it had before`, revision: String(workload.revision) };
      }
      return {
        message: `${effect.replica.name} ${pod === undefined ? "has nothing to take back" : "asks for the memory that it had before"}`,
      };
    },
    async observe({ of, replica, workload: ref }, deps) {
      const isLeft = (each: Pick<SimWorkload, "effects" | "resized"> | undefined): boolean =>
        each?.effects.get("resized") === of && each.resized !== undefined;
      const read = await findPod(deps, replica);
      const found = await findWorkload(deps, ref);
      return isLeft(read?.pod) || isLeft(found?.workload)
        ? { state: "NotApplied" }
        : { state: "Applied", result: { message: `${replica.name}: the memory more is taken back` } };
    },
  },
};

function inPlaceResult({ replica, memoryBytes }: EffectOf<"Resize">): EffectResult {
  return { message: `${replica.name} has a memory limit of ${memoryBytes} bytes` };
}

function rolloutResult({ memoryBytes }: EffectOf<"Resize">, { spec, effects, revision }: SimWorkload): EffectResult {
  return {
    message: `${spec.name} rolls out with a memory limit of ${memoryBytes} bytes`,
    revision: effects.get("resizedRevision") ?? String(revision),
  };
}

/** Resizes the pod; why not, where it cannot be, with nothing left changed. */
async function inPlace(effect: EffectOf<"Resize">, deps: EffectDeps, signal: AbortSignal): Promise<string | undefined> {
  const { id, replica, memoryBytes } = effect;
  const first = await readPod(deps, replica);
  if (first.pod.effects.get("resized") !== id && first.askedBytes >= memoryBytes)
    return `its memory limit is ${first.askedBytes} bytes already`;
  await retryOnConflict(deps, signal, async () => {
    const read = await readPod(deps, replica);
    if (read.askedBytes === memoryBytes) return;
    const marked =
      read.pod.effects.get("resized") === id
        ? read
        : await write(deps, effect, "markResized", read, (pod) => {
            pod.effects.set("resized", id);
            pod.resized = { from: pod.askedBytes, to: memoryBytes };
          });
    await write(deps, effect, "resize", marked, (pod) => deps.world.askLimit(pod, memoryBytes));
  });
  try {
    const end = await until<PodRead | string>(
      deps,
      signal,
      () => `the kubelet of ${replica.name} has not carried it out`,
      async () => {
        const now = await readPod(deps, replica);
        if (now.limitBytes === memoryBytes) return now;
        return now.isInfeasible ? "its node cannot" : undefined;
      },
    );
    if (typeof end !== "string") {
      await seen(deps, end.pod.workload, signal);
      return undefined;
    }
    await takeBack(effect, deps, signal);
    return end;
  } catch (error) {
    await takeBack(effect, deps, new AbortController().signal);
    throw error;
  }
}

/** Asks for what the pod had before, and forgets that anything else was asked for. */
async function takeBack(effect: EffectOf<"Resize">, deps: EffectDeps, signal: AbortSignal): Promise<void> {
  await retryOnConflict(deps, signal, async () => {
    const read = await findPod(deps, effect.replica);
    const from = read?.pod.resized?.from;
    if (read === undefined || from === undefined || read.pod.effects.get("resized") !== effect.id) return;
    const back =
      read.askedBytes === effect.memoryBytes ? await write(deps, effect, "unresize", read, (pod) => deps.world.askLimit(pod, from)) : read;
    await write(deps, effect, "forgetResize", back, (pod) => {
      pod.effects.delete("resized");
      pod.resized = undefined;
    });
  });
}

function byRollout(effect: EffectOf<"Resize">, deps: EffectDeps, signal: AbortSignal): Promise<SimWorkload> {
  const { id, memoryBytes } = effect;
  return retryOnConflict(deps, signal, async () => {
    const { workload, version } = await readWorkload(deps, effect.workload);
    if (workload.effects.get("resized") === id || workload.limitBytes >= memoryBytes) return workload;
    if (workload.gitOps !== undefined) throw new NightshiftError("GITOPS_OWNED", `the template is owned by ${workload.gitOps}`);
    await writeWorkload(deps, effect, "resizeByRollout", workload, version, () => {
      workload.effects.set("resized", id);
      workload.resized = { from: workload.limitBytes, to: memoryBytes };
      workload.limitBytes = memoryBytes;
      const { bad, illRevisions, revision } = workload;
      deps.world.rollOut(workload, bad.has(revision), illRevisions.get(revision), id);
      workload.effects.set("resizedRevision", String(workload.revision));
    });
    return workload;
  });
}

/** Gives the pod the limit back that it had, unless somebody has set another since. */
async function podBack(effect: EffectOf<"ResizeBack">, deps: EffectDeps): Promise<PodRead | undefined> {
  const read = await findPod(deps, effect.replica);
  const resized = read?.pod.resized;
  if (read === undefined || resized === undefined || read.pod.effects.get("resized") !== effect.of) return undefined;
  const back =
    read.askedBytes === resized.to ? await write(deps, effect, "resizeBack", read, (pod) => deps.world.askLimit(pod, resized.from)) : read;
  return write(deps, effect, "forgetResize", back, (pod) => void (pod.resized = undefined));
}

/** The same of the workload's template. */
async function templateBack(effect: EffectOf<"ResizeBack">, deps: EffectDeps): Promise<SimWorkload | undefined> {
  const found = await findWorkload(deps, effect.workload);
  const resized = found?.workload.resized;
  if (found === undefined || resized === undefined || found.workload.effects.get("resized") !== effect.of) return undefined;
  const { workload, version } = found;
  await writeWorkload(deps, effect, "resizeBackByRollout", workload, version, () => {
    workload.resized = undefined;
    if (workload.limitBytes !== resized.to) return;
    workload.limitBytes = resized.from;
    const { bad, illRevisions, revision } = workload;
    deps.world.rollOut(workload, bad.has(revision), illRevisions.get(revision), effect.id);
  });
  return workload;
}
