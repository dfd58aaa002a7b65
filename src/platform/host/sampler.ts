import type { Logger } from "pino";
import { messageOf } from "../../api/errors.ts";
import { LatencyHistogram } from "../../observe/latency.ts";
import type { TelemetrySink } from "../../observe/store.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { MemoryCgroups } from "./cgroup.ts";
import { procStat, residentBytes } from "../linux/proc.ts";
import { latencyQuantile } from "./router/latency.ts";
import type { RouterSecond, RouterServiceStats, RouterStats } from "./router/protocol.ts";
import type { Supervisor } from "./supervisor.ts";

/** How often memory and CPU are read, and the router's counts while nobody waits for them. */
const SAMPLE_MS = 1_000;
/** How often the router is asked while a replica is out of traffic: its requests in flight are being waited for. */
const DRAIN_MS = 200;
const SECOND_MS = 1_000;

/** Names of the metrics that it measures. */
export const SAMPLED_METRICS = ["memory", "cpu"] as const;

/** What the sampler needs. */
export interface SamplerOptions {
  readonly supervisor: Supervisor;
  /** Undefined where no workload has a port. */
  readonly router: { stats(): Promise<RouterStats> } | undefined;
  readonly cgroups: MemoryCgroups | undefined;
  readonly telemetry: TelemetrySink;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called when the router did not answer. */
  readonly onRouterLost: () => void;
}

/**
 * Reads memory (bytes) and CPU (cores) of each replica once a second into the telemetry, as `memory` and `cpu`, and
 * copies each second of the router's counts there once.
 */
export class Sampler {
  readonly #o: SamplerOptions;
  readonly #end = new AbortController();
  #loops: Promise<void>[] = [];
  /** Beginning of the newest second that was copied, by service. */
  readonly #copied = new Map<string, number>();
  #lost = false;

  constructor(options: SamplerOptions) {
    this.#o = options;
  }

  start(): void {
    this.#loops = [this.#sampling(), this.#polling()];
  }

  /** Resolves when it has ended. */
  async close(): Promise<void> {
    this.#end.abort();
    await Promise.all(this.#loops);
  }

  /** Asks the router now. Rejects when it does not answer. */
  async refreshInFlight(): Promise<void> {
    const { router } = this.#o;
    if (router !== undefined) this.#take(await router.stats());
  }

  async #sampling(): Promise<void> {
    const { clock } = this.#o;
    let next = clock.monotonic();
    while (!this.#end.signal.aborted) {
      this.#sample();
      next = Math.max(next + SAMPLE_MS, clock.monotonic());
      await sleep(clock, next - clock.monotonic(), this.#end.signal);
    }
  }

  #sample(): void {
    const { supervisor, cgroups, telemetry, clock } = this.#o;
    for (const instance of supervisor.instances()) {
      const { pid, cgroup, uid } = instance.row;
      if (pid === undefined || instance.ending) continue;
      const t = clock.now();
      const stat = procStat(pid);
      const inCgroup = cgroup === undefined ? undefined : cgroups?.workingSet(cgroup);
      const bytes = inCgroup ?? residentBytes(pid);
      if (bytes !== undefined) {
        const limit = (cgroup === undefined ? undefined : cgroups?.limit(cgroup)) ?? supervisor.limitOf(instance);
        instance.memory = { bytes, ...(limit === undefined ? {} : { limitBytes: limit }) };
        telemetry.recordReplica(uid, "memory", "", { t, v: bytes });
        supervisor.touch(instance, true);
      }
      if (stat === undefined) continue;
      const last = instance.cpu;
      instance.cpu = { ms: stat.cpuMs, at: t };
      if (last !== undefined && t > last.at)
        telemetry.recordReplica(uid, "cpu", "", { t, v: Math.max(0, stat.cpuMs - last.ms) / (t - last.at) });
    }
  }

  async #polling(): Promise<void> {
    const { clock, supervisor, router, log } = this.#o;
    if (router === undefined) return;
    while (!this.#end.signal.aborted) {
      try {
        await this.refreshInFlight();
        this.#lost = false;
      } catch (error) {
        if (this.#end.signal.aborted) return;
        if (!this.#lost) log.warn(`the router does not answer: ${messageOf(error)}`);
        this.#lost = true;
        this.#o.onRouterLost();
      }
      const draining = [...supervisor.instances()].some(({ row }) => row.outOfTraffic || row.stopping);
      await sleep(clock, draining ? DRAIN_MS : SAMPLE_MS, this.#end.signal);
    }
  }

  #take(stats: RouterStats): void {
    const { supervisor } = this.#o;
    const inFlight = new Map<string, number>();
    for (const service of stats.services) {
      for (const backend of service.backends) inFlight.set(backend.uid, backend.inFlight);
      this.#copySeconds(service, stats.now);
    }
    for (const instance of supervisor.instances()) {
      const count = inFlight.get(instance.row.uid);
      if (count === instance.inFlight) continue;
      instance.inFlight = count;
      // Counts of replicas that serve change all the time, and nobody waits for them.
      supervisor.touch(instance, instance.inTraffic);
    }
  }

  /** Records every second that is over and was not recorded yet; one without requests too, as the evidence that it is. */
  #copySeconds(service: RouterServiceStats, now: number): void {
    const key = `${service.namespace}/${service.name}`;
    const current = Math.floor(now / SECOND_MS) * SECOND_MS;
    const bySecond = new Map<number, RouterSecond>(service.seconds.map((second) => [second.at, second]));
    const oldest = service.seconds[0]?.at ?? current;
    let copied = this.#copied.get(key);
    // The clock was set back: what was copied last is yet to come.
    if (copied !== undefined && copied > current) copied = undefined;
    // Also after a jump of the clock: nothing older than what the router itself remembers.
    const from = copied === undefined ? oldest : Math.max(copied + SECOND_MS, current - 120 * SECOND_MS);
    for (let at = from; at < current; at += SECOND_MS) {
      const second = bySecond.get(at);
      this.#o.telemetry.recordRequests({ kind: "Workload", namespace: service.namespace, name: service.name }, "Router", {
        // Its end: a failure must not count as older than it may be.
        t: at + SECOND_MS - 1,
        total: second?.total ?? 0,
        failed: second?.failed ?? 0,
        ...(second === undefined ? {} : { latency: histogram(second) }),
      });
      this.#copied.set(key, at);
    }
    if (copied === undefined && (this.#copied.get(key) ?? Infinity) > current) this.#copied.set(key, current - SECOND_MS);
  }
}

function histogram(second: RouterSecond): LatencyHistogram {
  const result = new LatencyHistogram();
  for (const [bucket, count] of second.latency) result.add(latencyQuantile([[bucket, 1]], 1) ?? 0, count);
  return result;
}
