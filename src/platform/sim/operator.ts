import { messageOf, NightshiftError } from "../../api/errors.ts";
import { Loop } from "../../loop/loop.ts";
import { AlertBook } from "../../observe/alertmanager.ts";
import { sleep } from "../../ports/clock.ts";
import type { AuditRecord } from "../../record/audit.ts";
import type { LoopMetrics } from "../../record/metrics.ts";
import { byLeader, type Receiver } from "../../record/paging.ts";
import { LeaderElection } from "../kubernetes/election.ts";
import type { ApiServer } from "./api-server.ts";
import type { Job, Mutation } from "./effect.ts";
import type { Faults, FaultedOperator } from "./faults.ts";
import { type LeaseBook, LeaseClient } from "./lease-client.ts";
import type { Notice } from "./monitoring.ts";
import type { Network } from "./network.ts";
import { SimPlatform } from "./platform.ts";
import type { Points } from "./points.ts";
import type { SimProcess } from "./process.ts";
import { type SimRandom, streamOf } from "./random.ts";
import type { Simulation } from "./simulation.ts";
import { SimStore } from "./store.ts";
import { SimTelemetry } from "./telemetry.ts";
import type { Measurement } from "./traffic.ts";
import { OperatorView } from "./view.ts";
import type { SimWorkload, SimWorld } from "./world.ts";

/** How often the API server proves that nothing has changed (ms): its bookmarks. */
const BOOKMARK_MS = 30_000;
/** How long the kubelet takes to start a container that has ended again (ms). */
const RESTART_MS = 2_000;

/** What all operators share. */
export interface OperatorDeps {
  readonly seed: number;
  readonly simulation: Simulation;
  readonly world: SimWorld;
  readonly api: ApiServer;
  readonly network: Network;
  readonly lease: LeaseBook;
  readonly faults: Faults;
  readonly points: Points;
  readonly jobs: Map<string, Job>;
  startJob(id: string, workload: SimWorkload): void;
  onMutation(mutation: Mutation): void;
  /** Puts records on the trail, once they are durable. */
  onRecords(operator: number, records: readonly AuditRecord[]): void;
  onError(operator: number, message: string): void;
  /** What it lives through: `Started`, `Led`, `Ended`. */
  onLife(operator: number, what: "Started" | "Led" | "Ended"): void;
  /** Receivers, as a process of an operator reaches them. */
  receivers(process: SimProcess): readonly Receiver[];
  readonly metrics: LoopMetrics;
  /** See `RunOptions`. */
  readonly createLoop: ((options: ConstructorParameters<typeof Loop>[0]) => Loop) | undefined;
}

/** One life of an operator: from its start to its end, by whatever comes. */
interface Life {
  readonly process: SimProcess;
  readonly view: OperatorView;
  readonly store: SimStore;
  readonly telemetry: SimTelemetry;
  readonly alerts: AlertBook;
  readonly election: LeaderElection;
  synced: boolean;
  /** Since when it leads (ms of the run). */
  ledSince?: number;
}

/** An operator: the election, the caches and the loop of `nightshift operator`, in a process that is started again when it ends. */
export class SimOperator implements FaultedOperator {
  readonly index: number;
  readonly #deps: OperatorDeps;
  readonly #random: SimRandom;
  #life: Life | undefined;
  #lives = 0;
  #skewMs = 0;

  constructor(index: number, deps: OperatorDeps) {
    this.index = index;
    this.#deps = deps;
    this.#random = streamOf(deps.seed, `operator/${index}`);
    this.#start(this.#random.next() * 1_000);
  }

  /** Whether its loop runs. */
  /** Whether nothing of it runs for a while. */
  get isStopped(): boolean {
    return (this.#life?.process.stoppedUntil ?? -1) > this.#deps.simulation.elapsed;
  }

  get leads(): boolean {
    return this.ledSince !== undefined;
  }

  /** Since when it leads (ms of the run); undefined where it does not. */
  get ledSince(): number | undefined {
    return this.#life?.process.alive === true ? this.#life.ledSince : undefined;
  }

  /** How old what it knows of the cluster is (ms). */
  get viewAgeMs(): number {
    return this.#life?.view.ageMs() ?? 0;
  }

  kill(): void {
    this.#life?.process.kill();
  }

  stopFor(ms: number): void {
    this.#life?.process.stopFor(ms);
  }

  skew(ms: number): void {
    this.#skewMs = ms;
    if (this.#life !== undefined) this.#life.process.skewMs = ms;
  }

  relist(): void {
    const life = this.#life;
    if (life === undefined) return;
    life.process.after(1, () => {
      life.store.breakWatches();
      void this.#list(life);
    });
  }

  /** A workload has changed. */
  changed(workload: { readonly uid: string; readonly version: number }, described: ReturnType<SimWorld["describe"]>): void {
    if (this.#life?.synced === true) this.#life.view.changed(workload, described);
  }

  /** Telemetry arrives; whoever leads hears it. */
  hear(measurement: Measurement): void {
    const life = this.#life;
    if (life?.ledSince === undefined) return;
    // Sources date what they send by clocks that are right.
    life.process.after(1 + this.#random.next() * 5, () => life.telemetry.take(measurement, 0));
  }

  /** Alertmanager's webhook: whether it was taken. */
  notify(notice: Notice): boolean {
    const life = this.#life;
    if (life?.ledSince === undefined || !life.process.alive || life.process.stoppedUntil > this.#deps.simulation.elapsed) return false;
    life.process.after(0, () => {
      life.alerts.deliver(notice.map((alert) => ({ ...alert, receivedAt: life.process.now() })));
    });
    return true;
  }

  #start(after: number): void {
    const { simulation } = this.#deps;
    simulation.schedule(after, () => {
      const process = simulation.process(`operator-${this.index}.${this.#lives++}`);
      process.skewMs = this.#skewMs;
      process.onKill(() => {
        if (this.#life?.process === process) this.#life = undefined;
        this.#deps.onLife(this.index, "Ended");
        this.#start(RESTART_MS * (0.5 + this.#random.next()));
      });
      this.#deps.onLife(this.index, "Started");
      process.after(0, () => this.#live(process));
    });
  }

  #live(process: SimProcess): void {
    const { simulation, api, network, lease, faults, points, seed } = this.#deps;
    const failed = (message: string): void => this.#deps.onError(this.index, message);
    const random = streamOf(seed, process.name);
    const request = <T>(write: boolean, what: string, serve: () => T): Promise<T> =>
      network.request({ process, operator: this.index, write, what }, serve);
    const delivery = points.delivery(this.index, faults.delivery(this.index, streamOf(seed, `${process.name}/delivery`)));
    const view = new OperatorView(process, delivery);
    const epoch = (): number => election.epoch();
    const store = new SimStore({
      api,
      network,
      process,
      operator: this.index,
      epoch,
      admit: (under) => lease.admit(under),
      delivery,
      isStale: () => faults.strikes("StaleReads"),
    });
    const election = new LeaderElection({
      client: new LeaseClient(lease, request),
      clock: process,
      random,
      namespace: "nightshift-system",
      lease: "nightshift",
      identity: process.name,
      usedEpoch: () => store.usedEpoch(),
      onError: failed,
    });
    const life: Life = {
      process,
      view,
      store,
      telemetry: new SimTelemetry(process),
      alerts: new AlertBook(process),
      election,
      synced: false,
    };
    this.#life = life;
    const bookmark = (): void => {
      if (life.synced && !faults.isCut(this.index) && faults.active("WatchDrops").length === 0) view.heard();
      process.after(BOOKMARK_MS, bookmark);
    };
    process.after(BOOKMARK_MS, bookmark);
    const platform = new SimPlatform({
      world: this.#deps.world,
      api,
      process,
      view,
      request,
      epoch,
      admit: (under) => lease.admit(under),
      onMutation: (mutation) =>
        this.#deps.onMutation({ ...mutation, at: simulation.now, operator: this.index, viewAgeMs: view.ageMs(), wallMs: process.now() }),
      jobs: this.#deps.jobs,
      startJob: (id, workload) => this.#deps.startJob(id, workload),
    });
    const ready = this.#list(life);
    void election.run(new AbortController().signal).then(() => process.kill());
    const lead = async (): Promise<void> => {
      await ready;
      await election.leading;
      await store.takeover();
      const options: ConstructorParameters<typeof Loop>[0] = {
        store,
        platform,
        telemetry: life.telemetry,
        alerts: life.alerts,
        audit: { append: (records) => this.#append(process, records) },
        receivers: byLeader(this.#deps.receivers(process), epoch),
        metrics: this.#deps.metrics,
        clock: process,
        random,
        onError: failed,
      };
      const loop = this.#deps.createLoop?.(options) ?? new Loop(options);
      await loop.start();
      life.ledSince = simulation.elapsed;
      this.#deps.onLife(this.index, "Led");
    };
    lead().catch((error: unknown) => {
      failed(`cannot begin to lead: ${messageOf(error)}`);
      process.kill();
    });
  }

  /** Lists everything, until that has succeeded. */
  async #list(life: Life): Promise<void> {
    const { network, world } = this.#deps;
    const { process, view } = life;
    for (;;) {
      try {
        const all = await network.request({ process, operator: this.index, write: false, what: "list Workloads" }, () => {
          life.synced = true;
          return [
            ...world.workloads.map((workload) => ({ described: world.describe(workload), version: workload.version })),
            ...world.pools.map((pool) => ({ described: world.describePool(pool), version: pool.version })),
          ];
        });
        view.listed(all);
        return;
      } catch {
        await sleep(process, 1_000);
      }
    }
  }

  /** A trail on a disk of its own: durable a little later. */
  #append(process: SimProcess, records: readonly AuditRecord[]): Promise<void> {
    return new Promise((resolve, reject) => {
      process.after(0.5, () => {
        if (this.#deps.faults.strikes("AuditFails")) {
          reject(new NightshiftError("AUDIT_UNAVAILABLE", "the disk is full"));
          return;
        }
        this.#deps.onRecords(this.index, records);
        resolve();
      });
    });
  }
}
