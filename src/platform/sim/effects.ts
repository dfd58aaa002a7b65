import { type ActionState, AHEAD_MS, LATE_MS } from "../../../hints/protocol.ts";
import { NightshiftError } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import type { Artifact } from "../../api/remediation.ts";
import { sleep } from "../../ports/clock.ts";
import type { Effect, EffectResult, EffectState, EffectType } from "../../ports/platform.ts";
import { isConflict, isFenced, KubeApiError } from "../kubernetes/errors.ts";
import {
  type EffectDeps,
  findPod,
  findWorkload,
  FIRST_PAUSE_MS,
  type Handler,
  MAX_PAUSE_MS,
  podRead,
  readPod,
  readWorkload,
  remove,
  retryOnConflict,
  seen,
  until,
  write,
  writeWorkload,
} from "./effect.ts";
import { NODE_HANDLERS } from "./node-effects.ts";
import { RESIZE_HANDLERS } from "./resize-effects.ts";
import type { Pod, SimWorkload } from "./world.ts";

/** How often a pod is asked for an action that does not answer. */
const ACTION_TRIES = 3;

/**
 * The effects as `platform/kubernetes` carries them out: each reads what it depends on, writes bound to what it read, finds
 * by its id what it has done already, and is done only when the caches know of it.
 */
const HANDLERS: { readonly [T in EffectType]?: Handler<T> } = {
  ...NODE_HANDLERS,
  ...RESIZE_HANDLERS,

  StartReplacement: {
    async apply(effect, deps, signal) {
      const { id, replaces } = effect;
      const detached = await retryOnConflict(deps, signal, async () => {
        const read = await readPod(deps, replaces);
        const by = read.pod.effects.get("detached");
        if (by === id) {
          if (read.pod.owned) throw new NightshiftError("EFFECT_FAILED", `${replaces.name} was put back since`);
          return read;
        }
        if (!read.pod.owned) throw new NightshiftError("CONFLICTING_EFFECT", `${replaces.name} was detached by ${by ?? "another effect"}`);
        if (read.pod.workload.spec.kind === "StatefulSet")
          throw new NightshiftError("NOT_REPLACEABLE", `${replaces.name} belongs to a StatefulSet: no other is started while it exists`);
        if (read.pod.phase === "Stopping") throw new NightshiftError("NOT_FOUND", `${replaces.name} is being deleted`);
        if (read.pod.workload.desired === 0) throw new NightshiftError("NOT_REPLACEABLE", `${replaces.name} is scaled down`);
        return write(deps, effect, "detach", read, (pod) => {
          pod.effects.set("detached", id);
          pod.effects.set("detachedAfter", pod.workload.pods.map((other) => other.uid).join(" "));
          pod.owned = false;
        });
      });
      const had = new Set((detached.pod.effects.get("detachedAfter") ?? "").split(" "));
      const claimed = await until(
        deps,
        signal,
        () => `no other pod was started in the place of ${replaces.name}`,
        async () => {
          const pods = await deps.request(false, `list Pods of ${detached.pod.workload.spec.name}`, () =>
            detached.pod.workload.pods.map(podRead),
          );
          const done = pods.find(({ pod }) => pod.effects.get("claimed") === id);
          if (done !== undefined) return done;
          const free = pods.find(({ pod }) => pod.owned && pod.phase !== "Stopping" && !pod.effects.has("claimed") && !had.has(pod.uid));
          if (free === undefined) return undefined;
          try {
            return await write(deps, effect, "claim", free, (pod) => {
              pod.effects.set("claimed", id);
              pod.replaces = replaces.uid;
            });
          } catch (error) {
            if (isConflict(error)) return undefined;
            throw error;
          }
        },
      );
      await seen(deps, claimed.pod.workload, signal);
      return started(claimed.pod, replaces);
    },
    async observe({ id, replaces, workload }, deps) {
      const found = await deps.request(false, `list Pods of ${workload.name}`, () =>
        deps.world.workloadOf(workload)?.pods.find((pod) => pod.effects.get("claimed") === id),
      );
      return found === undefined ? { state: "NotApplied" } : { state: "Applied", result: started(found, replaces) };
    },
  },

  RemoveReplacement: {
    async apply(effect, deps, signal) {
      const { id, replaces, replica } = effect;
      const put = await retryOnConflict(deps, signal, async () => {
        const read = await findPod(deps, replaces);
        if (read === undefined || read.pod.owned) return read;
        const replacement = await findPod(deps, replica);
        if (replacement !== undefined && replacement.pod.phase !== "Stopping") {
          const marked = await write(deps, effect, "cheapen", replacement, (pod) => void (pod.deletionCost = -1));
          if (!read.pod.ready) await write(deps, effect, "delete", marked, (pod) => deps.world.deletePod(pod));
        }
        return write(deps, effect, "reattach", read, (pod) => {
          pod.owned = true;
          pod.effects.set("reattached", id);
        });
      });
      if (put === undefined) return { message: `${replaces?.name ?? "the pod"} is gone: its replacement stays` };
      await seen(deps, put.pod.workload, signal);
      await until(
        deps,
        signal,
        () => `${replica?.name ?? "the replacement"} was not let go`,
        async () => {
          const replacement = await findPod(deps, replica);
          return replacement === undefined || replacement.pod.phase === "Stopping" ? true : undefined;
        },
      );
      return { message: `put ${put.pod.name} back` };
    },
    async observe({ replaces, replica }, deps) {
      const [pod, replacement] = [await findPod(deps, replaces), await findPod(deps, replica)];
      const leaving = replacement === undefined || replacement.pod.phase === "Stopping";
      return (pod === undefined || pod.pod.owned) && leaving
        ? { state: "Applied", result: { message: `${replaces?.name ?? "the pod"} is back` } }
        : { state: "NotApplied" };
    },
  },

  RemoveFromTraffic: {
    async apply(effect, deps, signal) {
      const read = await retryOnConflict(deps, signal, async () => {
        const found = await readPod(deps, effect.replica);
        if (found.pod.effects.get("removed") === effect.id) return found;
        if (found.pod.workload.spec.kind === "StatefulSet")
          throw new NightshiftError("NOT_REMOVABLE_FROM_TRAFFIC", `${effect.replica.name}: its owner selects it by the same labels`);
        return write(deps, effect, "removeFromTraffic", found, (pod) => {
          pod.effects.set("removed", effect.id);
          pod.removed = true;
        });
      });
      await seen(deps, read.pod.workload, signal);
      return { message: `${effect.replica.name} gets no new requests` };
    },
    async observe({ id, replica }, deps) {
      const read = await findPod(deps, replica);
      return read === undefined || read.pod.effects.get("removed") !== id || !read.pod.removed
        ? { state: "NotApplied" }
        : { state: "Applied", result: { message: `${replica.name} gets no new requests` } };
    },
  },

  RestoreTraffic: {
    async apply(effect, deps, signal) {
      const read = await retryOnConflict(deps, signal, async () => {
        const found = await findPod(deps, effect.replica);
        if (found === undefined) throw new NightshiftError("NOT_FOUND", `${effect.replica.name} is gone`);
        if (!found.pod.removed) return found;
        return write(deps, effect, "restoreTraffic", found, (pod) => void (pod.removed = false));
      });
      await seen(deps, read.pod.workload, signal);
      return { message: `${effect.replica.name} gets requests again` };
    },
    async observe({ replica }, deps) {
      const read = await findPod(deps, replica);
      return read === undefined || read.pod.removed
        ? { state: "NotApplied" }
        : { state: "Applied", result: { message: `${replica.name} gets requests again` } };
    },
  },

  Stop: {
    async apply(effect, deps, signal) {
      await remove(effect, effect.replica, { by: "Stop", gracePeriodMs: effect.gracePeriodMs }, deps, signal);
      return { message: `stopped ${effect.replica.name}` };
    },
    observe: ({ replica }, deps) => goneState(replica, deps),
  },

  Evict: {
    async apply(effect, deps, signal) {
      await remove(effect, effect.replica, { by: "Evict", gracePeriodMs: effect.gracePeriodMs }, deps, signal);
      return { message: `evicted ${effect.replica.name}` };
    },
    observe: ({ replica }, deps) => goneState(replica, deps),
  },

  Capture: {
    async apply({ id, replica }, deps, signal) {
      const artifact = await until(
        deps,
        signal,
        () => "no agent has taken it up",
        async () => {
          const answer = await captureOf(id, deps);
          if (answer?.state === "Failed") throw new NightshiftError("CAPTURE_FAILED", answer.message ?? "it failed");
          return answer?.artifact;
        },
      );
      return { message: `saved ${artifact.path} of ${replica.name}`, artifact };
    },
    async observe({ id, replica }, deps) {
      const artifact = (await captureOf(id, deps))?.artifact;
      return artifact === undefined
        ? { state: "NotApplied" }
        : { state: "Applied", result: { message: `saved ${artifact.path} of ${replica.name}`, artifact } };
    },
  },

  Scale: {
    async apply(effect, deps, signal) {
      const { id, workload: ref, replicas } = effect;
      return retryOnConflict(deps, signal, async () => {
        const { workload, version } = await readWorkload(deps, ref);
        if (workload.effects.get("scaled") === id) return scaled(workload);
        const max = workload.spec.autoscaler?.max ?? Infinity;
        const most = Math.min(replicas, max);
        if (workload.desired >= replicas) return { message: `${ref.name} has ${workload.desired} replicas already` };
        if (most <= workload.desired) throw new NightshiftError("SCALE_LIMIT", `${ref.name} may have no more than ${most} replicas`);
        if (workload.gitOps !== undefined) throw new NightshiftError("GITOPS_OWNED", `spec.replicas is owned by ${workload.gitOps}`);
        await writeWorkload(deps, effect, "scale", workload, version, () => {
          workload.effects.set("scaled", id);
          workload.scaledFrom = workload.spec.autoscaler === undefined ? workload.desired : workload.floor;
          workload.scaledTo = most;
          if (workload.spec.autoscaler === undefined) workload.desired = most;
          else {
            workload.floor = most;
            workload.desired = Math.max(workload.desired, most);
          }
        });
        await seen(deps, workload, signal);
        return scaled(workload);
      });
    },
    async observe({ id, workload: ref }, deps) {
      const found = await findWorkload(deps, ref);
      return found?.workload.effects.get("scaled") === id ? { state: "Applied", result: scaled(found.workload) } : { state: "NotApplied" };
    },
  },

  ScaleBack: {
    async apply(effect, deps, signal) {
      return retryOnConflict(deps, signal, async () => {
        const found = await findWorkload(deps, effect.workload);
        const nothing = { message: `${effect.workload.name}: there is nothing to take back` };
        if (found === undefined) return nothing;
        const { workload, version } = found;
        if (workload.effects.get("scaled") !== effect.of || workload.scaledTo === undefined) return nothing;
        await writeWorkload(deps, effect, "scaleBack", workload, version, () => {
          const [from, to] = [workload.scaledFrom, workload.scaledTo];
          workload.scaledFrom = workload.scaledTo = undefined;
          if (from === undefined) return;
          if (workload.spec.autoscaler !== undefined) {
            if (workload.floor === to) workload.floor = from;
          } else if (workload.desired === to) workload.desired = from;
        });
        await seen(deps, workload, signal);
        return { message: `${effect.workload.name} is back` };
      });
    },
    async observe(effect, deps) {
      const found = await findWorkload(deps, effect.workload);
      const ours = found?.workload.effects.get("scaled") === effect.of && found.workload.scaledTo !== undefined;
      return ours ? { state: "NotApplied" } : { state: "Applied", result: { message: "the replicas more are taken back" } };
    },
  },

  RolloutRestart: {
    async apply(effect, deps, signal) {
      return retryOnConflict(deps, signal, async () => {
        const { workload, version } = await readWorkload(deps, effect.workload);
        if (workload.effects.get("restarted") !== effect.id) {
          await writeWorkload(deps, effect, "rolloutRestart", workload, version, () => {
            workload.effects.set("restarted", effect.id);
            const { bad, illRevisions, revision } = workload;
            deps.world.rollOut(workload, bad.has(revision), illRevisions.get(revision), effect.id);
            workload.effects.set("restartedRevision", String(workload.revision));
          });
          await seen(deps, workload, signal);
        }
        return restarted(workload, "restartedRevision");
      });
    },
    async observe({ id, workload: ref }, deps) {
      const found = await findWorkload(deps, ref);
      return found?.workload.effects.get("restarted") === id
        ? { state: "Applied", result: restarted(found.workload, "restartedRevision") }
        : { state: "NotApplied" };
    },
  },

  Rollback: {
    async apply(effect, deps, signal) {
      return retryOnConflict(deps, signal, async () => {
        const { workload, version } = await readWorkload(deps, effect.workload);
        if (workload.effects.get("rolledBack") !== effect.id) {
          if (workload.gitOps !== undefined) throw new NightshiftError("GITOPS_OWNED", `the template is owned by ${workload.gitOps}`);
          await writeWorkload(deps, effect, "rollback", workload, version, () => {
            workload.effects.set("rolledBack", effect.id);
            const bad = workload.revision;
            deps.world.rollOut(workload, false, undefined, effect.id);
            // What was left is not gone back to.
            const at = workload.healthy.indexOf(bad);
            if (at >= 0) workload.healthy.splice(at, 1);
            workload.effects.set("rolledBackRevision", String(workload.revision));
          });
          await seen(deps, workload, signal);
        }
        return restarted(workload, "rolledBackRevision");
      });
    },
    async observe({ id, workload: ref }, deps) {
      const found = await findWorkload(deps, ref);
      return found?.workload.effects.get("rolledBack") === id
        ? { state: "Applied", result: restarted(found.workload, "rolledBackRevision") }
        : { state: "NotApplied" };
    },
  },

  RunJob: {
    async apply(effect, deps, signal) {
      const { id } = effect;
      const { workload } = await readWorkload(deps, effect.workload);
      await retryOnConflict(deps, signal, async () => {
        const known = await deps.request(false, `get Job ${id}`, () => deps.jobs.get(id));
        // A job's name is made of the effect's id: there can be one only.
        if (known === undefined)
          await writeWorkload(deps, effect, "runJob", workload, undefined, () => {
            if (deps.jobs.has(id)) throw new KubeApiError("KUBE_CONFLICT", "the Job exists", { statusCode: 409 });
            deps.startJob(id, workload);
          });
      });
      const end = await until(
        deps,
        signal,
        () => "the job has not ended",
        async () => {
          const job = await deps.request(false, `get Job ${id}`, () => ({ ...deps.jobs.get(id) }));
          return job.state === "Running" ? undefined : job.state;
        },
      );
      if (end === "Failed") throw new NightshiftError("JOB_FAILED", "the job failed");
      return { message: "the job completed" };
    },
    async observe({ id }, deps) {
      const job = await deps.request(false, `get Job ${id}`, () => ({ ...deps.jobs.get(id) }));
      if (job.state === "Complete") return { state: "Applied", result: { message: "the job completed" } };
      if (job.state === "Failed") return { state: "Unknown", why: "the job was run, and failed" };
      return { state: "NotApplied" };
    },
  },

  InvokeAction: {
    async apply(effect, deps, signal) {
      const { id, replica, action } = effect;
      const { pod } = await retryOnConflict(deps, signal, async () => {
        const read = await readPod(deps, replica);
        if (read.pod.workload.spec.servesActions !== true) throw new NightshiftError("NO_ACTIONS", `${replica.name} serves no actions`);
        if (read.pod.effects.get("invoked") === id) return read;
        return write(deps, effect, "markInvoked", read, (each) => void each.effects.set("invoked", id));
      });
      await seen(deps, pod.workload, signal);
      let state: ActionState | "NoAnswer" = "NoAnswer";
      // What was lost on the way is sent again: the pod knows what it has done.
      for (let tries = 1; state === "NoAnswer" && tries <= ACTION_TRIES && !signal.aborted; tries++) {
        if (tries > 1) await sleep(deps.process, FIRST_PAUSE_MS, signal);
        const epoch = deps.epoch();
        const at = deps.process.now();
        state = await askPod(deps, true, `${action} of Pod ${pod.name}`, () => {
          const late = deps.world.lateness(at);
          if (late > LATE_MS || -late > AHEAD_MS) return "NotApplied";
          const known = deps.world.actionOf(pod, id, at - effect.intendedAt);
          if (known !== "NotApplied" || !pod.workload.pods.includes(pod)) return known;
          deps.world.act(pod, id);
          deps.onMutation({ epoch, effect, verb: "invoke", workload: pod.workload, pod, node: undefined });
          return "Applied";
        });
      }
      if (state === "Applied") return { message: `${action}: done` };
      if (state === "NotApplied") throw new NightshiftError("ACTION_REFUSED", `${action} of ${replica.name} was not done`);
      throw new NightshiftError("EFFECT_UNKNOWN", `${action} of ${replica.name}: ${state}`);
    },
    async observe({ id, replica, action, intendedAt }, deps) {
      const read = await findPod(deps, replica);
      if (read === undefined || read.pod.effects.get("invoked") !== id) return { state: "NotApplied" };
      const { pod } = read;
      const age = deps.process.now() - intendedAt;
      const state = await askPod(deps, false, `what became of ${action} ${id}`, () => deps.world.actionOf(pod, id, age));
      if (state === "Applied") return { state, result: { message: `${action}: done` } };
      return state === "NotApplied" ? { state } : { state: "Unknown", why: `${replica.name} does not tell` };
    },
  },
};

/** Kinds of effect that the simulated cluster knows. */
export const SIM_EFFECTS: ReadonlySet<EffectType> = new Set(Object.keys(HANDLERS) as EffectType[]);

/** Carries out effects: one run at a time for an id, and on through what will pass by itself. */
export class SimEffects {
  readonly #deps: EffectDeps;
  readonly #running = new Map<string, Promise<EffectResult>>();

  constructor(deps: Omit<EffectDeps, "draining">) {
    this.#deps = { ...deps, draining: new Set() };
  }

  /** See `Platform.apply`. */
  apply(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    const running = this.#running.get(effect.id);
    if (running !== undefined) return running;
    const run = this.#run(effect, signal).finally(() => this.#running.delete(effect.id));
    this.#running.set(effect.id, run);
    return run;
  }

  /** See `Platform.observe`. Waits for one that is under way. */
  async observe(effect: Effect): Promise<EffectState> {
    await this.#running.get(effect.id)?.catch(() => undefined);
    return handlerOf(effect).observe(effect, this.#deps);
  }

  async #run(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    const { process } = this.#deps;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
      if (signal.aborted) throw new NightshiftError("EFFECT_TIMEOUT", `${effect.type} was not done in the time that it had`);
      this.#deps.epoch();
      try {
        return await handlerOf(effect).apply(effect, this.#deps, signal);
      } catch (error) {
        const passes = error instanceof KubeApiError && (error.isTransient || isConflict(error) || isFenced(error));
        if (!passes || signal.aborted) throw asEffectError(effect, error);
        await sleep(process, pause, signal);
      }
    }
  }
}

function handlerOf(effect: Effect): Handler<EffectType> {
  const handler = HANDLERS[effect.type];
  if (handler === undefined) throw new NightshiftError("EFFECT_NOT_SUPPORTED", `the simulated cluster knows no ${effect.type}`);
  return handler as unknown as Handler<EffectType>;
}

function asEffectError(effect: Effect, error: unknown): unknown {
  if (!(error instanceof KubeApiError)) return error;
  return new NightshiftError(error.mayHaveTakenEffect ? "EFFECT_UNKNOWN" : "EFFECT_FAILED", `${effect.type}: ${error.message}`, {
    cause: error,
  });
}

// ---- what handlers share -----------------------------------------------------------------------------------------

/** Asks a pod itself. What is lost on the way is not tried again: the pod is asked what became of it. */
async function askPod(
  deps: EffectDeps,
  writes: boolean,
  what: string,
  serve: () => ActionState | "NoAnswer",
): Promise<ActionState | "NoAnswer"> {
  try {
    return await deps.request(writes, what, serve);
  } catch (error) {
    if (error instanceof KubeApiError) return "NoAnswer";
    throw error;
  }
}

async function goneState(replica: TargetRef, deps: EffectDeps): Promise<EffectState> {
  return (await findPod(deps, replica)) === undefined
    ? { state: "Applied", result: { message: `${replica.name} is gone` } }
    : { state: "NotApplied" };
}

function started(pod: Pod, replaces: TargetRef): EffectResult {
  return {
    message: `started ${pod.name} in the place of ${replaces.name}`,
    replica: { kind: "Pod", namespace: pod.workload.ref.namespace, name: pod.name, uid: pod.uid },
  };
}

function scaled({ spec, scaledTo, desired }: SimWorkload): EffectResult {
  return { message: `${spec.name} asks for ${scaledTo ?? desired} replicas` };
}

function restarted(workload: SimWorkload, revision: string): EffectResult {
  return { message: `${workload.spec.name} rolls out anew`, revision: workload.effects.get(revision) ?? String(workload.revision) };
}

interface Answer {
  readonly state: string;
  readonly message?: string | undefined;
  readonly artifact?: Artifact | undefined;
}

/** What the agent has written for a capture. */
function captureOf(id: string, deps: EffectDeps): Promise<Answer | undefined> {
  const [namespace = "", name = ""] = id.split("/");
  return deps.request(false, `get Remediation ${namespace}/${name}`, () =>
    deps.api.get("Remediation", namespace, name)?.status.captures.find((record) => record.effectId === id),
  );
}
