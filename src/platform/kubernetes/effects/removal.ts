import { NightshiftError } from "../../../api/errors.ts";
import type { TargetRef } from "../../../api/meta.ts";
import { sleep } from "../../../ports/clock.ts";
import { isConflict, isDisruptionBudget, isNotFound, isTooManyRequests } from "../errors.ts";
import { MARKS, MIRROR } from "../marks.ts";
import type { Pod, PodDisruptionBudget } from "../objects.ts";
import { objectPath } from "../records.ts";
import { selects } from "../selector.ts";
import { annotation, type Deps, list, nameOf, patchPod, read, refuseMarked, retryOnConflict, signed, timedOut, until } from "./shared.ts";

/** A pod's own grace period is honoured up to this much beyond the step's (s), so that the step's time suffices. */
const OWN_GRACE_BEYOND_S = 50;
/** How long is waited after a PodDisruptionBudget has refused an eviction (ms). */
const REFUSED_PAUSE_MS = 1_000;

/** How a pod is taken away. */
export interface Removal {
  /** `Evict`: always by the eviction API. `Stop`: by it where a PodDisruptionBudget counts the pod, else by a deletion. */
  readonly by: "Evict" | "Stop";
  /** Default: what the pod itself asks for. */
  readonly gracePeriodMs?: number | undefined;
  /** Whether it is done only when the pod is gone. Default true. */
  readonly awaitEnd?: boolean;
  /** Asked before each try: rejects where it is not to be done any more. */
  readonly still?: () => Promise<void>;
}

/**
 * Takes a pod away and resolves when it is gone. Before that the pod is marked, which puts the epoch on it and gives the
 * resourceVersion that its deletion is bound to: a pod that anybody has changed since is looked at again.
 *
 * A PodDisruptionBudget that allows no eviction is waited for until `signal` aborts.
 */
export async function removePod(id: string, ref: TargetRef, removal: Removal, deps: Deps, signal: AbortSignal): Promise<void> {
  let refused = "";
  for (;;) {
    await removal.still?.();
    try {
      const asked = await retryOnConflict(deps, signal, () => ask(id, ref, removal, deps, signal));
      if (!asked) return;
      break;
    } catch (error) {
      if (!isTooManyRequests(error)) throw error;
      refused = isDisruptionBudget(error)
        ? `a PodDisruptionBudget forbids it: ${budgetText(error.status?.details?.causes, error.message)}`
        : error.message;
      await sleep(deps.clock, error.retryAfterMs ?? REFUSED_PAUSE_MS, signal);
      if (signal.aborted) throw new NightshiftError("EFFECT_TIMEOUT", `${ref.name} could not be evicted: ${refused}`, { cause: error });
    }
  }
  if (removal.awaitEnd === false) return;
  await until(
    deps,
    signal,
    () => `${ref.name} is being deleted and has not ended`,
    async () => ((await read<Pod>(deps, "Pod", ref, signal)) === undefined ? true : undefined),
  );
}

function budgetText(causes: readonly { readonly message?: string }[] | undefined, otherwise: string): string {
  return causes?.map((cause) => cause.message).find((message) => message !== undefined) ?? otherwise;
}

/** Asks for the pod's end. False where it is gone already. */
async function ask(id: string, ref: TargetRef, removal: Removal, deps: Deps, signal: AbortSignal): Promise<boolean> {
  const pod = await read<Pod>(deps, "Pod", ref, signal);
  if (pod === undefined) return false;
  if (pod.metadata.deletionTimestamp !== undefined) return true;
  refuseMarked("Pod", pod);
  if (annotation(pod, MIRROR) !== undefined)
    throw new NightshiftError("NOT_REMOVABLE", `${nameOf("Pod", pod)} is run by its kubelet from a file: only that can stop it`);
  const evict = removal.by === "Evict" || (await isBudgeted(pod, deps, signal));
  const marked = await patchPod(deps, pod, id, { annotations: { [MARKS.stoppedBy]: id } });
  const { namespace = "", name, uid, resourceVersion } = marked.metadata;
  const options = {
    ...(removal.gracePeriodMs === undefined ? {} : { gracePeriodSeconds: gracePeriod(pod, removal.gracePeriodMs) }),
    preconditions: { uid, resourceVersion },
  };
  const path = objectPath("Pod", namespace, name);
  try {
    if (evict)
      await deps.client.request({
        method: "POST",
        path: `${path}/eviction`,
        body: {
          apiVersion: "policy/v1",
          kind: "Eviction",
          metadata: { name, namespace, annotations: signed(deps, id) },
          deleteOptions: options,
        },
        signal,
      });
    else {
      deps.epoch();
      await deps.client.request({ method: "DELETE", path, body: { apiVersion: "v1", kind: "DeleteOptions", ...options }, signal });
    }
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    // A precondition that fails is a conflict: the pod was changed, or made anew, and is read again.
    if (isConflict(error) && signal.aborted) throw timedOut(`${name} changes all the time`);
    throw error;
  }
}

/** Seconds between SIGTERM and SIGKILL: what the step says, or what the pod itself asks for, whichever is longer. */
function gracePeriod(pod: Pod, gracePeriodMs: number): number {
  const said = Math.ceil(gracePeriodMs / 1000);
  const own = pod.spec.terminationGracePeriodSeconds ?? 0;
  return Math.max(said, Math.min(own, said + OWN_GRACE_BEYOND_S));
}

/** Whether a PodDisruptionBudget counts the pod. */
async function isBudgeted(pod: Pod, deps: Deps, signal: AbortSignal): Promise<boolean> {
  const budgets = await list<PodDisruptionBudget>(deps, "PodDisruptionBudget", pod.metadata.namespace, {}, signal);
  return budgets.some((budget) => selects(budget.spec?.selector, pod.metadata.labels ?? {}));
}
