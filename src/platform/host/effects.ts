import { spawn } from "node:child_process";
import { join, resolve } from "node:path";
import type { Logger } from "pino";
import { NightshiftError, messageOf } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Effect, EffectResult, EffectState } from "../../ports/platform.ts";
import type { ActionAddress, ActionCaller } from "../actions.ts";
import type { Capturer } from "./capture.ts";
import type { MemoryCgroups } from "./cgroup.ts";
import type { Instance } from "./instance.ts";
import { openLog } from "./logs.ts";
import { sendSignal } from "../linux/proc.ts";
import type { HostState } from "./state.ts";
import type { Supervisor } from "./supervisor.ts";

/** How long a job that is cut off has to end by itself. */
const JOB_GRACE_MS = 5_000;
/** A raised limit is lowered again only when the working set is below this share of the old one. */
const RESTORE_BELOW = 0.9;

/** What effects need. */
export interface EffectsOptions {
  readonly state: HostState;
  readonly supervisor: Supervisor;
  readonly capturer: Capturer;
  readonly cgroups: MemoryCgroups | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly stackDir: string;
  readonly stateDir: string;
  /** Asks replicas for actions. */
  readonly actions: ActionCaller | undefined;
  /** Resolves when the router has confirmed the traffic flags as they are now, and the counts of requests in flight are newer than that. */
  readonly syncTraffic: () => Promise<void>;
  /** Renews the counts of requests in flight. */
  readonly refreshInFlight: () => Promise<void>;
}

/** Carries out each effect at most once, whatever is asked twice or was cut off by a crash. */
export class Effects {
  readonly #o: EffectsOptions;
  readonly #running = new Map<string, Promise<EffectResult>>();
  readonly #stopping = new AbortController();

  constructor(options: EffectsOptions) {
    this.#o = options;
  }

  /** See `Platform.apply`. A call with the id of one that is under way shares its run. */
  apply(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    const running = this.#running.get(effect.id);
    if (running !== undefined) return running;
    const run = this.#once(effect, AbortSignal.any([signal, this.#stopping.signal])).finally(() => this.#running.delete(effect.id));
    this.#running.set(effect.id, run);
    return run;
  }

  /** See `Platform.observe`. Waits for one that is under way. */
  async observe(effect: Effect): Promise<EffectState> {
    await this.#running.get(effect.id)?.catch(() => undefined);
    const row = this.#o.state.effect(effect.id);
    if (row?.end?.ok === true) return { state: "Applied", result: row.end.result };
    if (effect.type === "RunJob") {
      if (row === undefined) return { state: "NotApplied" };
      return {
        state: "Unknown",
        why: row.end === undefined ? "the job was begun, and Nightshift ended before the job did" : `the job was run: ${row.end.message}`,
      };
    }
    return this.#look(effect);
  }

  /** Cuts off what is under way and waits until it has ended. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await Promise.allSettled(this.#running.values());
  }

  async #once(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    const { state, clock } = this.#o;
    const row = state.effect(effect.id);
    if (row !== undefined && row.type !== effect.type)
      throw new NightshiftError("CONFLICT", `the effect ${effect.id} was a ${row.type} before, not a ${effect.type}`);
    if (row?.end?.ok === true) return row.end.result;
    if (row !== undefined) {
      // Begun, or failed: what the world shows decides whether there is anything left to do.
      const seen = await this.#seen(effect, row.end === undefined ? undefined : row.end);
      if (seen.state === "Unknown")
        throw new NightshiftError("EFFECT_UNKNOWN", `it cannot be known whether ${effect.type} took effect: ${seen.why}`);
      if (seen.state === "Applied") {
        state.endEffect(effect.id, { ok: true, result: seen.result }, clock.now());
        return seen.result;
      }
    }
    if (signal.aborted) throw timedOut(effect);
    state.intendEffect(effect.id, effect.type, clock.now());
    let result: EffectResult;
    try {
      result = await this.#carryOut(effect, signal);
    } catch (error) {
      const code = error instanceof NightshiftError ? error.code : "EFFECT_FAILED";
      // An end that is not known stays open: a later look at the world may tell.
      if (code !== "EFFECT_UNKNOWN") state.endEffect(effect.id, { ok: false, code, message: messageOf(error) }, clock.now());
      throw error;
    }
    // Outside: a success that cannot be stored is no failure. It stays open, and a later look at the world tells.
    state.endEffect(effect.id, { ok: true, result }, clock.now());
    return result;
  }

  async #seen(
    effect: Effect,
    end: { readonly code: string; readonly message: string } | { readonly ok: true } | undefined,
  ): Promise<EffectState> {
    if (effect.type !== "RunJob") return this.#look(effect);
    // A job is never run twice under one id: its failure is its result.
    if (end !== undefined && "code" in end) throw new NightshiftError(end.code, end.message);
    return { state: "Unknown", why: "the job was begun, and Nightshift ended before the job did" };
  }

  async #look(effect: Exclude<Effect, { type: "RunJob" }>): Promise<EffectState> {
    const { state, supervisor, capturer } = this.#o;
    const applied = (result: EffectResult): EffectState => ({ state: "Applied", result });
    switch (effect.type) {
      case "StartReplacement": {
        const started = state.instanceOfEffect(effect.id);
        if (
          started === undefined ||
          (started.pid === undefined &&
            supervisor.find({ kind: "Process", namespace: started.namespace, name: started.name, uid: started.uid }) === undefined)
        )
          return { state: "NotApplied" };
        const replica = { kind: "Process", namespace: started.namespace, name: started.name, uid: started.uid };
        return applied({ message: `${started.name} was started${started.endedAt === undefined ? "" : ", and is gone again"}`, replica });
      }
      case "RemoveReplacement":
      case "Stop": {
        if (effect.replica === undefined) return applied({ message: "nothing was started" });
        const instance = supervisor.find(effect.replica);
        if (instance !== undefined) return { state: "NotApplied" };
        return applied({ message: `${effect.replica.name} is gone` });
      }
      case "RemoveFromTraffic": {
        const instance = supervisor.find(effect.replica);
        if (instance?.row.outOfTraffic !== true) return { state: "NotApplied" };
        await this.#o.syncTraffic();
        return applied({ message: `${effect.replica.name} gets no new requests` });
      }
      case "RestoreTraffic": {
        const instance = supervisor.find(effect.replica);
        if (instance === undefined || instance.row.outOfTraffic || instance.row.stopping) return { state: "NotApplied" };
        await this.#o.syncTraffic();
        return applied({ message: `${effect.replica.name} gets requests again` });
      }
      case "Capture": {
        const artifact = capturer.recover(effect.id);
        return artifact === undefined ? { state: "NotApplied" } : applied({ message: `captured ${effect.replica.name}`, artifact });
      }
      case "Scale":
        return supervisor.desired(effect.workload) === effect.replicas
          ? applied({ message: `${effect.workload.name} should have ${effect.replicas} replicas` })
          : { state: "NotApplied" };
      case "InvokeAction": {
        const address = this.#actionAddress(effect.replica);
        // What there was to be done was in a process that is gone.
        if (address === undefined || this.#o.actions === undefined) return { state: "NotApplied" };
        return this.#o.actions.observe(effect, address);
      }
      default:
        throw notSupported(effect);
    }
  }

  async #carryOut(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    const { supervisor, log } = this.#o;
    const within = <T>(work: Promise<T>): Promise<T> => abortable(work, signal, () => timedOut(effect));
    switch (effect.type) {
      case "StartReplacement": {
        const replaced = this.#replica(effect.replaces);
        const instance = supervisor.startReplacement(effect.workload, replaced, effect.id);
        return { message: `started ${instance.row.name} in the place of ${replaced.row.name}`, replica: instance.ref };
      }
      case "RemoveReplacement": {
        if (effect.replica === undefined) return { message: "nothing was started" };
        const instance = this.#replica(effect.replica);
        await within(supervisor.stop(instance, supervisor.gracePeriodMs(instance)));
        return { message: `removed ${instance.row.name}` };
      }
      case "RemoveFromTraffic": {
        const instance = this.#replica(effect.replica);
        supervisor.setOutOfTraffic(instance, true);
        await within(this.#o.syncTraffic());
        return { message: `${instance.row.name} gets no new requests` };
      }
      case "RestoreTraffic": {
        const instance = this.#replica(effect.replica);
        supervisor.setOutOfTraffic(instance, false);
        this.#restoreLimit(instance);
        await within(this.#o.syncTraffic());
        return { message: `${instance.row.name} gets requests again` };
      }
      case "Capture": {
        const instance = this.#replica(effect.replica);
        const artifact = await this.#o.capturer.capture(effect.id, instance, effect.capture, signal);
        return { message: `saved ${artifact.path} (${artifact.bytes} bytes, sha256 ${artifact.sha256})`, artifact };
      }
      case "Stop": {
        const instance = this.#replica(effect.replica);
        await within(this.#o.refreshInFlight().catch(() => undefined));
        const { cut } = await within(supervisor.stop(instance, effect.gracePeriodMs));
        return { message: `stopped ${instance.row.name}${cut ? `, ${cut} requests cut` : ""}`, ...(cut === undefined ? {} : { cut }) };
      }
      case "Scale":
        supervisor.scale(effect.workload, effect.replicas);
        return { message: `${effect.workload.name} should have ${effect.replicas} replicas` };
      case "InvokeAction": {
        const instance = this.#replica(effect.replica);
        const address = this.#actionAddress(effect.replica);
        if (address === undefined || this.#o.actions === undefined)
          throw new NightshiftError("NO_ACTIONS", `${instance.row.name} serves no actions`, {
            fix: "Set actions: true on its workload in the stack file, and serve them (docs/hints.md).",
          });
        return this.#o.actions.invoke(effect, address, signal);
      }
      case "RunJob": {
        log.info({ workload: effect.workload.name, command: effect.command }, `running a job of ${effect.workload.name}`);
        return this.#runJob(effect, signal);
      }
      default:
        throw notSupported(effect);
    }
  }

  /** Where a replica serves its actions; undefined where it is gone, or serves none. */
  #actionAddress(ref: TargetRef): ActionAddress | undefined {
    const instance = this.#o.supervisor.find(ref);
    if (instance?.running !== true || instance.row.actionsPort === undefined) return undefined;
    return { host: "127.0.0.1", port: instance.row.actionsPort, uid: instance.row.uid };
  }

  #replica(ref: TargetRef): Instance {
    const instance = this.#o.supervisor.find(ref);
    if (instance === undefined || instance.ending) throw new NightshiftError("NOT_FOUND", `the replica ${ref.name} is gone`);
    return instance;
  }

  /** Takes back a raise of the limit that a capture needed. */
  #restoreLimit(instance: Instance): void {
    const { cgroups, supervisor, log } = this.#o;
    const { cgroup, name } = instance.row;
    const limit = supervisor.limitOf(instance);
    if (cgroup === undefined || cgroups === undefined || limit === undefined) return;
    const raised = (cgroups.limit(cgroup) ?? Infinity) > limit;
    if (!raised) return;
    try {
      // A capture leaves memory behind. v2 would kill for it at once, v1 refuses: then the replica keeps the higher limit.
      if ((cgroups.workingSet(cgroup) ?? Infinity) < limit * RESTORE_BELOW) return cgroups.setLimit(cgroup, limit);
      log.warn({ replica: name }, `the memory limit of ${name} stays raised: it uses too much for the old one`);
    } catch (error) {
      log.warn({ replica: name }, `the memory limit of ${name} could not be lowered again: ${messageOf(error)}`);
    }
  }

  #runJob(effect: Extract<Effect, { type: "RunJob" }>, signal: AbortSignal): Promise<EffectResult> {
    const spec = this.#o.supervisor.spec(effect.workload);
    const [file = "", ...args] = effect.command;
    const logFile = join(this.#o.stateDir, "logs", `${spec.name}.jobs.log`);
    const output = openLog(logFile);
    return new Promise((resolvePromise, reject) => {
      const child = spawn(file, args, {
        cwd: resolve(this.#o.stackDir, spec.cwd ?? "."),
        env: { ...process.env, ...spec.env, NIGHTSHIFT_EFFECT_ID: effect.id },
        detached: true,
        stdio: ["ignore", output.fd, output.fd],
      });
      output.close();
      let cancelKill: (() => void) | undefined;
      const abort = (): void => {
        const { pid } = child;
        if (pid === undefined) return;
        sendSignal(-pid, "SIGTERM");
        cancelKill = this.#o.clock.after(JOB_GRACE_MS, () => void sendSignal(-pid, "SIGKILL"));
      };
      signal.addEventListener("abort", abort, { once: true });
      const end = (error: NightshiftError | undefined): void => {
        signal.removeEventListener("abort", abort);
        cancelKill?.();
        if (error === undefined) resolvePromise({ message: `${file} exited with 0` });
        else reject(error);
      };
      child.on("error", (cause) => end(new NightshiftError("JOB_FAILED", `${file} could not be run: ${cause.message}`, { cause })));
      child.on("exit", (code, exitSignal) => {
        if (code === 0) return end(undefined);
        const how = code === null ? `was ended by ${exitSignal}` : `exited with ${code}`;
        const cut = signal.aborted ? "its time was up: it " : "it ";
        end(new NightshiftError("JOB_FAILED", `the job failed: ${cut}${how}`, { where: logFile }));
      });
    });
  }
}

/** A policy that needs it is refused when it is loaded. */
function notSupported(effect: Effect): NightshiftError {
  return new NightshiftError("EFFECT_NOT_SUPPORTED", `${effect.type} cannot be carried out on one machine`);
}

function timedOut(effect: Effect): NightshiftError {
  return new NightshiftError("EFFECT_TIMEOUT", `${effect.type} was not done in the time that it had`);
}

/** The result of `work`, or an error when `signal` aborts first; `work` itself goes on. */
function abortable<T>(work: Promise<T>, signal: AbortSignal, error: () => Error): Promise<T> {
  return new Promise((resolvePromise, reject) => {
    const abort = (): void => reject(error());
    signal.addEventListener("abort", abort, { once: true });
    void work.then(resolvePromise, reject).finally(() => signal.removeEventListener("abort", abort));
    if (signal.aborted) abort();
  });
}
