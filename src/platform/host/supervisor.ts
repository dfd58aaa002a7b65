import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import type { Logger } from "pino";
import { NightshiftError, messageOf } from "../../api/errors.ts";
import { targetKey, type TargetRef } from "../../api/meta.ts";
import { durationMs, quantityBytes } from "../../api/units.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { Replica, Workload } from "../../ports/platform.ts";
import type { Random } from "../../ports/random.ts";
import { killAndRemove, processesIn, type MemoryCgroups } from "./cgroup.ts";
import { Instance } from "./instance.ts";
import { openLog, rotateLog } from "./logs.ts";
import { freePort } from "./ports.ts";
import { probe } from "./probe.ts";
import { findByEnvironment, processIdentity, procStat, sendSignal } from "../linux/proc.ts";
import type { RouterService } from "./router/protocol.ts";
import type { Stack, WorkloadSpec } from "./stack.ts";
import type { Exit, HostState, InstanceRow, Vacancy } from "./state.ts";

/** Where and what to supervise. */
export interface SupervisorOptions {
  readonly stack: Stack;
  /** Directory of the stack file: relative paths begin here. */
  readonly stackDir: string;
  readonly stateDir: string;
  readonly state: HostState;
  readonly cgroups: MemoryCgroups | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Where what it starts sends its telemetry. */
  readonly otlp?: { readonly endpoint: string; readonly token?: string };
  /** What the replicas verify by who asks them for actions, in PEM. */
  readonly actionsKey?: string;
  /** Called when the set of replicas that get traffic may have changed; resolves when the router has confirmed it. */
  readonly syncTraffic: () => Promise<void>;
  /** Called with a replica that is gone. */
  readonly onGone: (instance: Instance) => void;
}

interface SupervisedWorkload {
  readonly spec: WorkloadSpec;
  readonly ref: Workload["ref"];
  readonly specHash: string;
  desired: number;
  declared: number;
  wake: (() => void) | undefined;
}

/** The alphabet of the names that Kubernetes generates (k8s.io/apimachinery, util/rand): no vowels, so no words. */
const NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789";
/** How often processes that are not our children are looked at: only a parent is told of a death. */
const ADOPTED_POLL_MS = 250;
/** While a replica has never been ready it is probed at least this often, so that it serves as soon as it can. */
const STARTUP_PROBE_MS = 250;
/** How long what remains of a dead replica is waited for: processes in uninterruptible sleep end late. */
const REAP_TIMEOUT_MS = 10_000;
const REAP_POLL_MS = 20;
const LOG_CHECK_MS = 5_000;
/** How often what could not be stored is stored again: the disk was full, or another process held the store. */
const STORE_RETRY_MS = 250;

/** Keeps the right number of processes of each workload running, and knows how each of them is. */
export class Supervisor {
  readonly #o: SupervisorOptions;
  readonly #workloads = new Map<string, SupervisedWorkload>();
  readonly #instances = new Map<string, Instance>();
  #vacancies: Vacancy[] = [];
  readonly #listeners = new Set<(workload: TargetRef) => void>();
  #snapshot: readonly Workload[] | undefined;
  #changed = new Set<SupervisedWorkload>();
  #closed = false;
  readonly #end = new AbortController();
  /** Ends of replicas that are still being cleaned up. */
  readonly #reaping = new Set<Promise<void>>();
  /** Replicas of which memory knows more than the store, which could not be written to. */
  readonly #unsaved = new Set<Instance>();

  constructor(options: SupervisorOptions) {
    this.#o = options;
    const { state, random } = options;
    for (const spec of options.stack.workloads) {
      const row = state.workload(spec.namespace, spec.name);
      const uid = row?.uid ?? random.uuid();
      // A Scale outlives a restart, but not a change of the number in the stack file.
      const desired = row !== undefined && row.declared === spec.replicas ? row.desired : spec.replicas;
      if (row?.desired !== desired || row.declared !== spec.replicas)
        state.putWorkload(spec.namespace, spec.name, { uid, desired, declared: spec.replicas });
      const ref = { kind: "Workload", namespace: spec.namespace, name: spec.name, uid };
      this.#workloads.set(targetKey(ref), { spec, ref, specHash: specHash(spec), desired, declared: spec.replicas, wake: undefined });
    }
  }

  /** Adopts what still runs, ends what should not, starts what is missing, and goes on doing so. */
  start(): void {
    const { state, log } = this.#o;
    this.#vacancies = state.vacancies();
    for (const row of state.liveInstances()) this.#adopt(row);
    if (this.#o.cgroups === undefined && this.#o.stack.workloads.some((workload) => workload.memory.limit !== undefined))
      log.warn(
        "no memory cgroup can be made here (needs root or a delegated cgroup): limits hold for the JavaScript heap of Node.js workloads only",
      );
    for (const workload of this.#workloads.values()) this.#reconcile(workload);
    this.#every(ADOPTED_POLL_MS, () => this.#pollAdopted());
    this.#every(STORE_RETRY_MS, () => {
      for (const instance of this.#unsaved) this.#save(instance);
    });
    this.#every(LOG_CHECK_MS, () => {
      const maxBytes = quantityBytes(this.#o.stack.logs.maxBytes);
      for (const { spec } of this.#workloads.values()) rotateLog(this.logFile(spec.name), maxBytes);
    });
  }

  /** Where the output of a workload goes. */
  logFile(workload: string): string {
    return join(this.#o.stateDir, "logs", `${workload}.log`);
  }

  /** The services of the router as they should be now: replicas that get no requests are in it, to be counted. */
  services(): RouterService[] {
    return [...this.#workloads.values()].flatMap(({ spec, ref }) =>
      spec.port === undefined
        ? []
        : [
            {
              namespace: spec.namespace,
              name: spec.name,
              listen: { host: "127.0.0.1", port: spec.port },
              timeoutMs: durationMs(spec.requestTimeout),
              backends: this.instancesOf(ref)
                .filter((instance) => !instance.ending)
                .map((instance) => ({ uid: instance.row.uid, host: "127.0.0.1", port: instance.row.port, traffic: instance.inTraffic })),
            },
          ],
    );
  }

  /** Every replica that has not ended. */
  instances(): Iterable<Instance> {
    return this.#instances.values();
  }

  /** The replicas of a workload in the order of their starts. */
  instancesOf(workload: TargetRef): Instance[] {
    return [...this.#instances.values()].filter((i) => i.row.namespace === workload.namespace && i.row.workload === workload.name);
  }

  /** The replica, by uid where the reference has one, else by name; undefined when it is gone. */
  find(ref: TargetRef): Instance | undefined {
    if (ref.uid !== undefined) return this.#instances.get(ref.uid);
    return [...this.#instances.values()].find((i) => i.row.namespace === ref.namespace && i.row.name === ref.name);
  }

  /** The workload, or an error. */
  spec(ref: TargetRef): WorkloadSpec {
    return this.#workload(ref).spec;
  }

  desired(ref: TargetRef): number {
    return this.#workload(ref).desired;
  }

  workloads(): readonly Workload[] {
    this.#snapshot ??= [...this.#workloads.values()].map((workload) => this.#toWorkload(workload));
    return this.#snapshot;
  }

  onChange(listener: (workload: TargetRef) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** To be called when something about a replica has changed that others see. `silent` only renews the snapshot. */
  touch(instance: Instance, silent = false): void {
    this.#snapshot = undefined;
    const workload = this.#workloadOf(instance);
    if (silent || workload === undefined) return;
    if (this.#changed.size === 0) queueMicrotask(() => this.#notify());
    this.#changed.add(workload);
  }

  /** Starts one replica more, in the place that `replaces` will leave. */
  startReplacement(workload: TargetRef, replaces: Instance, effectId: string): Instance {
    this.#assertOpen();
    return this.#start(this.#workload(workload), { effectId, replaces: replaces.row.uid });
  }

  /** Stores how many replicas a workload should have, and sees to it. */
  scale(ref: TargetRef, replicas: number): void {
    this.#assertOpen();
    const workload = this.#workload(ref);
    this.#o.state.putWorkload(workload.spec.namespace, workload.spec.name, {
      uid: workload.ref.uid,
      desired: replicas,
      declared: workload.declared,
    });
    workload.desired = replicas;
    this.#touchWorkload(workload);
    this.#reconcile(workload);
  }

  /** Marks a replica as one that gets no requests, or takes the mark away; the router is told by the caller. */
  setOutOfTraffic(instance: Instance, outOfTraffic: boolean): void {
    if (instance.row.outOfTraffic === outOfTraffic) return;
    this.#update(instance, { outOfTraffic });
    this.touch(instance);
  }

  /**
   * Takes a replica out of traffic, sends SIGTERM, after the grace period SIGKILL, and resolves when nothing of it is
   * left. It is not restarted. Returns how many requests were in flight when it was told to end.
   */
  async stop(instance: Instance, graceMs: number): Promise<{ cut: number | undefined }> {
    if (!instance.row.stopping) {
      instance.row = { ...instance.row, stopping: true };
      this.#save(instance);
      this.touch(instance);
      const workload = this.#workloadOf(instance);
      if (workload !== undefined && !this.#closed) this.#reconcile(workload);
    }
    // A router that does not answer must not keep a process alive for good; the requests are then cut, and counted.
    const waited = new AbortController();
    await Promise.race([this.#o.syncTraffic().catch(() => undefined), sleep(this.#o.clock, graceMs, waited.signal), instance.gone]);
    waited.abort();
    const cut = instance.inFlight;
    instance.terminate(graceMs, this.#o.clock);
    await instance.gone;
    return { cut };
  }

  /** Ends supervision. With `stop`, ends every replica first; nothing is restarted from now on. */
  async close(stop: boolean): Promise<void> {
    this.#closed = true;
    for (const workload of this.#workloads.values()) workload.wake?.();
    if (stop) await Promise.all([...this.#instances.values()].map((instance) => this.stop(instance, this.gracePeriodMs(instance))));
    this.#end.abort();
    await Promise.all(this.#reaping);
    for (const instance of this.#instances.values()) instance.detach();
  }

  /** Time between SIGTERM and SIGKILL where no effect says another, in ms. */
  gracePeriodMs(instance: Instance): number {
    return durationMs(this.#workloadOf(instance)?.spec.stopGracePeriod ?? "10s");
  }

  /** What the stack file says of a replica's memory, in bytes; undefined for no limit. */
  limitOf(instance: Instance): number | undefined {
    const limit = this.#workloadOf(instance)?.spec.memory.limit;
    return limit === undefined ? undefined : quantityBytes(limit);
  }

  #adopt(row: InstanceRow): void {
    const { log } = this.#o;
    const workload = this.#workloads.get(targetKey({ kind: "Workload", namespace: row.namespace, name: row.workload }));
    let found: InstanceRow = row;
    if (row.pid === undefined) {
      // Nightshift died between the intent and its note of the pid.
      const pid =
        (row.cgroup === undefined ? [] : processesIn(row.cgroup)).find(isLeader) ??
        findByEnvironment("NIGHTSHIFT_REPLICA_UID", row.uid).find(isLeader);
      const identity = pid === undefined ? undefined : processIdentity(pid);
      if (pid === undefined || identity === undefined) {
        this.#o.state.deleteInstance(row.uid);
        if (row.cgroup !== undefined) killAndRemove(row.cgroup);
        return;
      }
      found = { ...row, pid, identity };
      this.#o.state.putInstance(found);
    }
    const instance = new Instance(found);
    this.#instances.set(row.uid, instance);
    if (found.pid === undefined || processIdentity(found.pid) !== found.identity) {
      log.warn({ replica: row.name }, `${row.name} died while no Nightshift was running`);
      this.#ended(instance, undefined, undefined);
      return;
    }
    instance.adopted = true;
    if (workload === undefined || row.stopping || row.specHash !== workload.specHash) {
      const why =
        workload === undefined
          ? "its workload is no longer in the stack"
          : row.stopping
            ? "it was being stopped"
            : "the stack file asks for another process";
      log.info({ replica: row.name, pid: found.pid }, `stopping ${row.name}: ${why}`);
      void this.stop(instance, this.gracePeriodMs(instance));
      return;
    }
    log.info({ replica: row.name, pid: found.pid }, `adopted ${row.name}, which kept running (pid ${found.pid})`);
    this.#watchReadiness(instance, workload.spec);
    this.touch(instance);
  }

  /** Starts and stops until as many run as should. Replacements do not count while what they replace is there. */
  #reconcile(workload: SupervisedWorkload): void {
    if (this.#closed) return;
    workload.wake?.();
    const active = this.instancesOf(workload.ref).filter((instance) => !instance.row.stopping);
    const uids = new Set(active.map((instance) => instance.row.uid));
    const members = active.filter((instance) => instance.row.replaces === undefined || !uids.has(instance.row.replaces));
    const vacancies = this.#vacancies.filter((v) => v.namespace === workload.spec.namespace && v.workload === workload.spec.name);
    let missing = workload.desired - members.length;
    try {
      for (const surplus of vacancies.slice(Math.max(0, missing))) this.#dropVacancy(surplus.id);
    } catch (error) {
      return this.#reconcileLater(workload, error);
    }
    if (missing < 0) {
      // What serves least goes first, then the newest, as a ReplicaSet does it.
      const order = [...members].sort((a, b) => Number(a.inTraffic) - Number(b.inTraffic) || b.row.startedAt - a.row.startedAt);
      for (const surplus of order.slice(0, -missing)) {
        this.#o.log.info({ replica: surplus.row.name }, `stopping ${surplus.row.name}: ${workload.desired} replicas are wanted`);
        void this.stop(surplus, durationMs(workload.spec.stopGracePeriod));
      }
      return;
    }
    const now = this.#o.clock.now();
    let next = Infinity;
    try {
      for (const vacancy of vacancies.slice(0, missing)) {
        missing -= 1;
        // Never longer than the wait itself: the clock may have been set back.
        const wait = Math.min(vacancy.notBefore - now, vacancy.backoffMs);
        if (wait <= 0) this.#start(workload, { vacancy });
        else next = Math.min(next, wait);
      }
      for (; missing > 0; missing--) this.#start(workload, {});
    } catch (error) {
      return this.#reconcileLater(workload, error);
    }
    if (next !== Infinity) this.#wakeAfter(workload, next);
  }

  /** What a workload lacks could not be started, for want of the store or of a port: it is tried again. */
  #reconcileLater(workload: SupervisedWorkload, error: unknown): void {
    this.#o.log.error(`${workload.spec.name} has fewer replicas than it should, and is looked at again: ${messageOf(error)}`);
    this.#wakeAfter(workload, STORE_RETRY_MS);
  }

  #wakeAfter(workload: SupervisedWorkload, ms: number): void {
    const cancel = this.#o.clock.after(ms, () => {
      workload.wake = undefined;
      this.#reconcile(workload);
    });
    workload.wake = () => {
      cancel();
      workload.wake = undefined;
    };
  }

  #start(workload: SupervisedWorkload, how: { vacancy?: Vacancy; effectId?: string; replaces?: string }): Instance {
    const { state, random, clock, log, cgroups } = this.#o;
    const { spec } = workload;
    const uid = random.uuid();
    const name = this.#newName(spec.name);
    const limit = spec.memory.limit === undefined ? undefined : quantityBytes(spec.memory.limit);
    const taken = new Set([...this.#instances.values()].flatMap(({ row }) => [row.port, row.inspectPort ?? 0, row.actionsPort ?? 0]));
    for (const other of this.#o.stack.workloads) if (other.port !== undefined) taken.add(other.port);
    const port = freePort(taken, random);
    taken.add(port);
    const inspectPort = isNode(spec) ? freePort(taken, random) : undefined;
    if (inspectPort !== undefined) taken.add(inspectPort);
    const actionsPort = spec.actions ? freePort(taken, random) : undefined;
    let row: InstanceRow = {
      uid,
      namespace: spec.namespace,
      workload: spec.name,
      name,
      port,
      specHash: workload.specHash,
      startedAt: clock.now(),
      stopping: false,
      ready: false,
      everReady: false,
      outOfTraffic: false,
      restarts: how.vacancy?.restarts ?? 0,
      backoffMs: how.vacancy?.backoffMs ?? 0,
      ...(how.effectId === undefined ? {} : { effectId: how.effectId }),
      ...(how.replaces === undefined ? {} : { replaces: how.replaces }),
      ...(inspectPort === undefined ? {} : { inspectPort }),
      ...(actionsPort === undefined ? {} : { actionsPort }),
      ...(cgroups === undefined ? {} : { cgroup: join(cgroups.base, uid) }),
    };
    // The intent first: a process that nobody knows of must not exist (design rule S9). Where it cannot be stored, this throws.
    state.putInstance(row, how.vacancy?.id);
    if (how.vacancy !== undefined) this.#vacancies = this.#vacancies.filter((v) => v.id !== how.vacancy?.id);
    const instance = new Instance(row);
    this.#instances.set(uid, instance);
    try {
      cgroups?.create(uid, limit);
      const output = openLog(this.logFile(spec.name));
      try {
        // Joining the cgroup first and then becoming the program leaves no moment without the limit.
        const [file, ...args] =
          row.cgroup === undefined
            ? spec.command
            : ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', join(row.cgroup, "cgroup.procs"), ...spec.command];
        const child = spawn(file ?? "", args, {
          cwd: resolve(this.#o.stackDir, spec.cwd ?? "."),
          env: this.#environment(workload, row, limit),
          detached: true,
          stdio: ["ignore", output.fd, output.fd],
        });
        child.on("error", (error) => {
          log.error({ replica: name }, `${name} could not be started: ${error.message}`);
          this.#ended(instance, 127, undefined);
        });
        child.on("exit", (code, signal) => this.#ended(instance, code ?? undefined, signal ?? undefined));
        instance.child = child;
        const identity = child.pid === undefined ? undefined : processIdentity(child.pid);
        row = { ...row, ...(child.pid === undefined ? {} : { pid: child.pid }), ...(identity === undefined ? {} : { identity }) };
      } finally {
        output.close();
      }
    } catch (error) {
      log.error({ replica: name }, `${name} could not be started: ${messageOf(error)}`);
      queueMicrotask(() => this.#ended(instance, 127, undefined));
      return instance;
    }
    instance.row = row;
    this.#save(instance);
    log.info({ replica: name, pid: row.pid, port }, `started ${name} (pid ${row.pid})`);
    this.#watchReadiness(instance, spec);
    this.touch(instance);
    void this.#o.syncTraffic().catch(() => undefined);
    return instance;
  }

  #environment(workload: SupervisedWorkload, row: InstanceRow, limit: number | undefined): NodeJS.ProcessEnv {
    const { spec } = workload;
    const { otlp } = this.#o;
    const options = [spec.env["NODE_OPTIONS"] ?? process.env["NODE_OPTIONS"] ?? ""];
    if (row.inspectPort !== undefined) options.push(`--inspect-port=127.0.0.1:${row.inspectPort}`);
    if (limit !== undefined && row.cgroup === undefined && isNode(spec))
      options.push(`--max-old-space-size=${Math.max(1, Math.floor(limit / 2 ** 20))}`);
    const nodeOptions = options.filter(Boolean).join(" ");
    return {
      ...process.env,
      OTEL_SERVICE_NAME: spec.name,
      OTEL_RESOURCE_ATTRIBUTES: `service.instance.id=${row.uid},service.namespace=${spec.namespace}`,
      ...(otlp === undefined
        ? {}
        : {
            OTEL_EXPORTER_OTLP_ENDPOINT: otlp.endpoint,
            ...(otlp.token === undefined ? {} : { OTEL_EXPORTER_OTLP_HEADERS: `Authorization=Bearer%20${encodeURIComponent(otlp.token)}` }),
          }),
      ...spec.env,
      ...(nodeOptions === "" ? {} : { NODE_OPTIONS: nodeOptions }),
      PORT: String(row.port),
      NIGHTSHIFT_REPLICA_UID: row.uid,
      // Undefined keeps that of an enclosing Nightshift out.
      NIGHTSHIFT_ACTIONS_PORT: row.actionsPort === undefined ? undefined : String(row.actionsPort),
      NIGHTSHIFT_ACTIONS_KEY: row.actionsPort === undefined ? undefined : this.#o.actionsKey,
      NIGHTSHIFT_EFFECT_ID: row.effectId,
    };
  }

  #newName(workload: string): string {
    for (;;) {
      const suffix = Array.from({ length: 5 }, () => NAME_ALPHABET[Math.floor(this.#o.random.next() * NAME_ALPHABET.length)] ?? "b").join(
        "",
      );
      const name = `${workload}-${suffix}`;
      if (![...this.#instances.values()].some((instance) => instance.row.name === name)) return name;
    }
  }

  /** Probes until the replica is gone. The meaning of `everReady` and `unreadySince` is that of `Replica`. */
  #watchReadiness(instance: Instance, spec: WorkloadSpec): void {
    const { clock } = this.#o;
    const readiness = spec.readiness;
    if (readiness === undefined && spec.port === undefined) {
      this.#setReadiness(instance, { ready: true, everReady: true });
      return;
    }
    const settings = readiness ?? {
      path: undefined,
      period: "1s",
      timeout: "1s",
      failureThreshold: 3,
      successThreshold: 1,
      initialDelay: "0s",
    };
    const signal = instance.probing.signal;
    const target = { port: instance.row.port, path: settings.path, timeoutMs: durationMs(settings.timeout) };
    const period = durationMs(settings.period);
    void (async () => {
      const initialDelay = durationMs(settings.initialDelay);
      await sleep(clock, Math.min(initialDelay, instance.row.startedAt + initialDelay - clock.now()), signal);
      let failures = 0;
      let successes = 0;
      while (!signal.aborted) {
        const begun = clock.now();
        const began = clock.monotonic();
        const passed = await probe(target, signal);
        if (signal.aborted) return;
        const { row } = instance;
        if (passed) {
          failures = 0;
          successes += 1;
          const ready = row.ready || successes >= settings.successThreshold;
          this.#setReadiness(instance, { ready, everReady: row.everReady || ready, unreadySince: undefined });
        } else {
          successes = 0;
          failures += 1;
          const ready = row.ready && failures < settings.failureThreshold;
          this.#setReadiness(instance, {
            ready,
            everReady: row.everReady,
            unreadySince: row.everReady ? (row.unreadySince ?? begun) : undefined,
          });
        }
        const pause = instance.row.everReady ? period : Math.min(period, STARTUP_PROBE_MS);
        await sleep(clock, Math.max(0, began + pause - clock.monotonic()), signal);
      }
    })();
  }

  #setReadiness(instance: Instance, next: { ready: boolean; everReady: boolean; unreadySince?: number | undefined }): void {
    const { row } = instance;
    if (row.ready === next.ready && row.everReady === next.everReady && row.unreadySince === next.unreadySince) return;
    const { unreadySince, ...rest } = row;
    void unreadySince;
    instance.row = {
      ...rest,
      ready: next.ready,
      everReady: next.everReady,
      ...(next.unreadySince === undefined ? {} : { unreadySince: next.unreadySince }),
    };
    this.#save(instance);
    if (row.ready !== next.ready) {
      this.#o.log.info({ replica: row.name }, `${row.name} is ${next.ready ? "ready" : "no longer ready"}`);
      void this.#o.syncTraffic().catch(() => undefined);
    }
    this.touch(instance);
  }

  /** A replica's process is gone: clean up after it, and fill its place unless it was stopped. */
  #ended(instance: Instance, code: number | undefined, signal: string | undefined): void {
    if (instance.ending) return;
    instance.ending = true;
    instance.probing.abort();
    const reaped = this.#reap(instance, code, signal);
    this.#reaping.add(reaped);
    void reaped.finally(() => this.#reaping.delete(reaped));
  }

  async #reap(instance: Instance, code: number | undefined, signal: string | undefined): Promise<void> {
    const { state, clock, log, cgroups } = this.#o;
    const { cgroup } = instance.row;
    const oomKilled = cgroup !== undefined && cgroups !== undefined && cgroups.oomKills(cgroup) > 0 && code !== 0;
    const deadline = clock.monotonic() + REAP_TIMEOUT_MS;
    while (!this.#killRest(instance.row) && clock.monotonic() < deadline) await sleep(clock, REAP_POLL_MS);
    const exit: Exit = { ...(code === undefined ? {} : { code }), ...(signal === undefined ? {} : { signal }), oomKilled };
    const now = clock.now();
    const workload = this.#workloadOf(instance);
    let heir: Instance | undefined;
    let vacancy: Vacancy | undefined;
    let { row } = instance;
    for (;;) {
      row = instance.row;
      heir = [...this.#instances.values()].find((other) => other.row.replaces === row.uid && !other.ending);
      const standsIn = row.replaces !== undefined && this.#instances.get(row.replaces)?.ending === false;
      vacancy =
        row.stopping || this.#closed || workload === undefined || heir !== undefined || standsIn ? undefined : this.#vacancy(row, now);
      try {
        state.endInstance({ ...row, endedAt: now, exit, ready: false }, vacancy);
        break;
      } catch (error) {
        // Its place is filled once that can be stored. At the end the next Nightshift finds that it is gone.
        log.error({ replica: row.name }, `the end of ${row.name} cannot be stored: ${messageOf(error)}`);
        if (this.#closed) break;
        await sleep(clock, STORE_RETRY_MS);
      }
    }
    this.#unsaved.delete(instance);
    this.#instances.delete(row.uid);
    instance.row = { ...row, endedAt: now, exit, ready: false };
    if (vacancy !== undefined) this.#vacancies.push(vacancy);
    if (heir !== undefined && heir.row.restarts < row.restarts) {
      heir.row = { ...heir.row, restarts: row.restarts };
      this.#save(heir);
    }
    const how = oomKilled ? "was killed for want of memory (OOMKilled)" : describeExit(exit);
    if (row.stopping) log.info({ replica: row.name, exit }, `${row.name} stopped`);
    else
      log.warn(
        { replica: row.name, exit },
        `${row.name} ${how}${vacancy === undefined ? "" : `; restart ${vacancy.restarts} in ${Math.max(0, vacancy.notBefore - now) / 1000} s`}`,
      );
    this.#o.onGone(instance);
    this.touch(instance);
    instance.resolveGone(exit);
    if (workload !== undefined) this.#reconcile(workload);
    if (!this.#closed) void this.#o.syncTraffic().catch(() => undefined);
  }

  /** Kills what a dead replica left behind; true once nothing of it is there. */
  #killRest(row: InstanceRow): boolean {
    if (row.cgroup !== undefined) return killAndRemove(row.cgroup);
    if (row.pid === undefined) return true;
    // While a process of the group is left its id is not given to another, but only a parent knows that none was in between.
    const rest = findByEnvironment("NIGHTSHIFT_REPLICA_UID", row.uid);
    for (const pid of rest) sendSignal(pid, "SIGKILL");
    return rest.length === 0;
  }

  /** Doubling waits with a reset, as the kubelet's CrashLoopBackOff. */
  #vacancy(row: InstanceRow, now: number): Vacancy {
    const backoff = this.#o.stack.restartBackoff;
    const initial = durationMs(backoff.initial);
    const well = now - row.startedAt >= durationMs(backoff.resetAfter);
    const backoffMs = well || row.backoffMs === 0 ? initial : Math.min(row.backoffMs * 2, durationMs(backoff.max));
    return {
      id: row.uid,
      namespace: row.namespace,
      workload: row.workload,
      restarts: row.restarts + 1,
      backoffMs,
      notBefore: now + backoffMs,
    };
  }

  #dropVacancy(id: string): void {
    this.#vacancies = this.#vacancies.filter((vacancy) => vacancy.id !== id);
    this.#o.state.deleteVacancy(id);
  }

  #pollAdopted(): void {
    for (const instance of this.#instances.values()) {
      const { pid, identity } = instance.row;
      if (instance.adopted && !instance.ending && (pid === undefined || processIdentity(pid) !== identity))
        this.#ended(instance, undefined, undefined);
    }
  }

  /** Stores a change, then takes it over. Throws where it cannot be stored; then nothing has changed. */
  #update(instance: Instance, change: Partial<InstanceRow>): void {
    const row = { ...instance.row, ...change };
    this.#o.state.putInstance(row);
    instance.row = row;
    this.#unsaved.delete(instance);
  }

  /** Stores what has happened to a replica, which is so whether or not it can be stored: where it cannot, that is made up for. */
  #save(instance: Instance): void {
    try {
      this.#o.state.putInstance(instance.row);
      this.#unsaved.delete(instance);
    } catch (error) {
      if (!this.#unsaved.has(instance))
        this.#o.log.error({ replica: instance.row.name }, `what became of ${instance.row.name} cannot be stored yet: ${messageOf(error)}`);
      this.#unsaved.add(instance);
    }
  }

  #workload(ref: TargetRef): SupervisedWorkload {
    const workload = this.#workloads.get(targetKey({ ...ref, kind: "Workload" }));
    if (workload === undefined) throw new NightshiftError("NOT_FOUND", `there is no workload ${ref.namespace}/${ref.name}`);
    return workload;
  }

  #workloadOf(instance: Instance): SupervisedWorkload | undefined {
    return this.#workloads.get(targetKey({ kind: "Workload", namespace: instance.row.namespace, name: instance.row.workload }));
  }

  #toWorkload(workload: SupervisedWorkload): Workload {
    const { spec, ref, desired } = workload;
    const { uid, ...plain } = ref;
    void uid;
    return Object.freeze({
      ref,
      desired,
      replicas: this.instancesOf(ref)
        .filter((instance) => !instance.ending)
        .map((instance) => toReplica(instance, plain, spec)),
      labels: spec.labels,
      annotations: spec.annotations,
      enclosing: [],
      ...(spec.minAvailable === undefined
        ? {}
        : { minAvailable: { count: spec.minAvailable, source: `minAvailable of ${spec.name} in the stack file` } }),
    });
  }

  #touchWorkload(workload: SupervisedWorkload): void {
    this.#snapshot = undefined;
    if (this.#changed.size === 0) queueMicrotask(() => this.#notify());
    this.#changed.add(workload);
  }

  #notify(): void {
    const changed = this.#changed;
    this.#changed = new Set();
    for (const { ref } of changed)
      for (const listener of this.#listeners) {
        try {
          listener(ref);
        } catch (error) {
          this.#o.log.error(`a listener failed: ${messageOf(error)}`);
        }
      }
  }

  #every(ms: number, work: () => void): void {
    void (async () => {
      for (;;) {
        await sleep(this.#o.clock, ms, this.#end.signal);
        if (this.#end.signal.aborted) return;
        work();
      }
    })();
  }

  #assertOpen(): void {
    if (this.#closed) throw new NightshiftError("STOPPING", "Nightshift is being stopped");
  }
}

function toReplica(instance: Instance, workload: TargetRef, spec: WorkloadSpec): Replica {
  const { row, memory, inFlight } = instance;
  return Object.freeze({
    ref: { kind: "Process", namespace: row.namespace, name: row.name, uid: row.uid },
    workload,
    phase: row.stopping ? "Stopping" : row.everReady ? "Running" : "Starting",
    ready: row.ready && !row.stopping,
    everReady: row.everReady,
    ...(row.unreadySince === undefined ? {} : { unreadySince: row.unreadySince }),
    inTraffic: instance.inTraffic,
    ...(inFlight === undefined ? {} : { inFlight }),
    startedAt: row.startedAt,
    restarts: row.restarts,
    ...(memory === undefined ? {} : { memory }),
    labels: spec.labels,
    annotations: spec.annotations,
    ...(row.effectId === undefined ? {} : { startedBy: row.effectId }),
    ...(row.replaces === undefined ? {} : { replaces: row.replaces }),
    ...(row.actionsPort === undefined ? {} : { servesActions: true }),
  });
}

/** Whether the command runs Node.js itself, so that its options and its inspector can be counted on. */
export function isNode(spec: WorkloadSpec): boolean {
  return /(^|\/)node(js)?$/.test(spec.command[0] ?? "");
}

function isLeader(pid: number): boolean {
  return procStat(pid)?.processGroup === pid;
}

function describeExit(exit: Exit): string {
  if (exit.signal !== undefined) return `was ended by ${exit.signal}`;
  return exit.code === undefined ? "ended (how is not known: it was not started by this Nightshift)" : `exited with ${exit.code}`;
}

function specHash(spec: WorkloadSpec): string {
  const { command, cwd, env, memory, actions } = spec;
  return createHash("sha256")
    .update(JSON.stringify([command, cwd, env, memory, ...(actions ? ["actions"] : [])]))
    .digest("hex")
    .slice(0, 16);
}
