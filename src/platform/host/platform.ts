import { createHash } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Logger } from "pino";
import { messageOf } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import type { TelemetrySink } from "../../observe/store.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { Effect, EffectResult, EffectState, EffectType, Platform, Workload } from "../../ports/platform.ts";
import type { Random } from "../../ports/random.ts";
import type { ActionCaller } from "../actions.ts";
import { Capturer } from "./capture.ts";
import { MemoryCgroups, type CgroupPaths } from "./cgroup.ts";
import { Effects } from "./effects.ts";
import { lockState, type StateLock } from "./lock.ts";
import { RouterClient, type RouterFiles } from "./router/client.ts";
import { processIdentity, sendSignal } from "../linux/proc.ts";
import type { RouterService } from "./router/protocol.ts";
import { Sampler } from "./sampler.ts";
import type { Stack } from "./stack.ts";
import { HostState } from "./state.ts";
import type { SqliteStore } from "./store.ts";
import { Supervisor } from "./supervisor.ts";
import { Traffic } from "./traffic.ts";

/** What the platform of one machine is started with. */
export interface HostOptions {
  readonly stack: Stack;
  /** Directory of the stack file: relative paths in it begin here. */
  readonly stackDir: string;
  readonly stateDir: string;
  /** Holds the supervisor's tables too. Closed by its owner, after `stop`. */
  readonly store: SqliteStore;
  readonly telemetry: TelemetrySink;
  readonly clock: Clock;
  readonly random: Random;
  /** Where the workloads send their telemetry, unless they say otherwise themselves. */
  readonly otlp?: { readonly endpoint: string; readonly token?: string };
  /** Asks replicas for actions. Default: they cannot be asked. */
  readonly actions?: ActionCaller;
  readonly log: Logger;
  /** Where the kernel's cgroups are; `none` does without. For tests. */
  readonly cgroups?: CgroupPaths | "none";
}

const ALL_EFFECTS: ReadonlySet<EffectType> = new Set([
  "StartReplacement",
  "RemoveReplacement",
  "RemoveFromTraffic",
  "RestoreTraffic",
  "Capture",
  "Stop",
  "Scale",
  "RunJob",
]);

/** How long the router may take to end: it gives requests in flight 10 s. */
const ROUTER_END_MS = 15_000;

/** Plain processes on one machine: the supervisor, the router, and what can be done with them. */
export class HostPlatform implements Platform {
  readonly name = "host";
  readonly effects: ReadonlySet<EffectType>;
  readonly #lock: StateLock;
  readonly #log: Logger;
  readonly #supervisor: Supervisor;
  readonly #effects: Effects;
  readonly #traffic: Traffic;
  readonly #sampler: Sampler;
  readonly #router: RouterClient;
  readonly #routerFiles: RouterFiles;
  readonly #clock: Clock;
  readonly #cgroups: MemoryCgroups | undefined;
  #stopped: Promise<void> | undefined;

  private constructor(options: HostOptions, lock: StateLock) {
    const { stack, stackDir, stateDir, store, clock, random, log } = options;
    this.effects = options.actions === undefined ? ALL_EFFECTS : new Set([...ALL_EFFECTS, "InvokeAction"]);
    this.#lock = lock;
    this.#log = log;
    this.#clock = clock;
    const hash = createHash("sha256").update(resolve(stateDir)).digest("hex").slice(0, 12);
    this.#cgroups = options.cgroups === "none" ? undefined : MemoryCgroups.open(hash, options.cgroups);
    const state = new HostState(store, clock.now());
    this.#routerFiles = {
      socket: join(stateDir, "router.sock"),
      logFile: join(stateDir, "logs", "router.log"),
      pidFile: join(stateDir, "router.pid"),
    };
    this.#router = new RouterClient(this.#routerFiles.socket);
    this.#supervisor = new Supervisor({
      stack,
      stackDir,
      stateDir,
      state,
      cgroups: this.#cgroups,
      clock,
      random,
      log,
      ...(options.otlp === undefined ? {} : { otlp: options.otlp }),
      ...(options.actions === undefined ? {} : { actionsKey: options.actions.publicKey }),
      syncTraffic: () => this.#routed(() => this.#traffic.sync()),
      onGone: (instance) => options.telemetry.forgetReplica(instance.row.uid),
    });
    const router = {
      ensureRunning: () => RouterClient.ensureRunning(this.#routerFiles),
      configure: (services: RouterService[]) => this.#router.configure(services),
    };
    this.#traffic = new Traffic({ router, wanted: () => this.#supervisor.services(), clock, log });
    this.#sampler = new Sampler({
      supervisor: this.#supervisor,
      router: this.#hasRouter ? this.#router : undefined,
      cgroups: this.#cgroups,
      telemetry: options.telemetry,
      clock,
      log,
      onRouterLost: () => this.#traffic.resend(),
    });
    this.#effects = new Effects({
      state,
      supervisor: this.#supervisor,
      capturer: new Capturer({ dir: join(stateDir, "artifacts"), limits: stack.artifacts, state, cgroups: this.#cgroups, clock, log }),
      cgroups: this.#cgroups,
      clock,
      log,
      stackDir,
      stateDir,
      actions: options.actions,
      syncTraffic: () =>
        this.#routed(async () => {
          await this.#traffic.sync();
          await this.#sampler.refreshInFlight();
        }),
      refreshInFlight: () => this.#routed(() => this.#sampler.refreshInFlight()),
    });
  }

  /**
   * Takes the state directory, adopts what an earlier Nightshift left running, starts the rest, and resolves when every
   * process has been started and the router goes by the stack. Rejects with `STATE_IN_USE`, or where the router cannot
   * be started; then nothing that it started is left.
   */
  static async start(options: HostOptions): Promise<HostPlatform> {
    const lock = lockState(options.stateDir);
    let platform: HostPlatform | undefined;
    try {
      platform = new HostPlatform(options, lock);
      await platform.#begin();
      return platform;
    } catch (error) {
      if (platform === undefined) lock.release();
      else await platform.stop({ workloads: "Stop" });
      throw error;
    }
  }

  workloads(): readonly Workload[] {
    return this.#supervisor.workloads();
  }

  onChange(listener: (workload: TargetRef) => void): () => void {
    return this.#supervisor.onChange(listener);
  }

  apply(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    return this.#effects.apply(effect, signal);
  }

  observe(effect: Effect): Promise<EffectState> {
    return this.#effects.observe(effect);
  }

  /** File with the output of a workload's replicas. */
  logFile(workload: string): string {
    return this.#supervisor.logFile(workload);
  }

  /**
   * Ends it. `Stop` ends every replica, gracefully, and the router: no process, cgroup or socket is left. `Leave` lets
   * them run on, for the next Nightshift to adopt. Later calls return the first one's promise.
   */
  stop(options: { readonly workloads: "Stop" | "Leave" }): Promise<void> {
    this.#stopped ??= this.#stop(options.workloads === "Stop");
    return this.#stopped;
  }

  async #begin(): Promise<void> {
    if (this.#hasRouter) await RouterClient.ensureRunning(this.#routerFiles);
    else await this.#endRouter();
    this.#supervisor.start();
    this.#sampler.start();
    await this.#routed(() => this.#traffic.sync());
  }

  async #stop(workloads: boolean): Promise<void> {
    const steps: (() => Promise<void> | void)[] = [
      () => this.#effects.close(),
      () => this.#supervisor.close(workloads),
      () => this.#sampler.close(),
      () => this.#traffic.close(),
    ];
    if (workloads)
      steps.push(
        () => this.#endRouter(),
        () => this.#cgroups?.close(),
      );
    steps.push(() => this.#lock.release());
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        this.#log.error(`while stopping: ${messageOf(error)}`);
      }
    }
  }

  /** Ends the router, if one runs, and waits until it has. */
  async #endRouter(): Promise<void> {
    if (!existsSync(this.#routerFiles.socket)) return;
    let pid: number;
    try {
      pid = (await this.#router.health()).pid;
    } catch {
      // A socket that nobody listens on.
      rmSync(this.#routerFiles.socket, { force: true });
      return;
    }
    const identity = processIdentity(pid);
    const isRunning = (): boolean => identity !== undefined && processIdentity(pid) === identity;
    const gone = async (ms: number): Promise<boolean> => {
      const deadline = this.#clock.monotonic() + ms;
      while (isRunning()) {
        if (this.#clock.monotonic() > deadline) return false;
        await sleep(this.#clock, 20);
      }
      return true;
    };
    await this.#router.shutdown().catch((error: unknown) => this.#log.warn(messageOf(error)));
    if (await gone(ROUTER_END_MS)) return;
    sendSignal(pid, "SIGKILL");
    await gone(ROUTER_END_MS);
    rmSync(this.#routerFiles.socket, { force: true });
    rmSync(this.#routerFiles.pidFile, { force: true });
  }

  get #hasRouter(): boolean {
    return this.#supervisor.services().length > 0;
  }

  async #routed(work: () => Promise<void>): Promise<void> {
    if (this.#hasRouter) await work();
  }
}
