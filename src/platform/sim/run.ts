import { isOpenIncident, isSettled } from "../../api/remediation.ts";
import { durationMs } from "../../api/units.ts";
import type { Loop } from "../../loop/loop.ts";
import type { AuditRecord } from "../../record/audit.ts";
import { ApiServer } from "./api-server.ts";
import { count, countChange, countingMetrics, countMutation, type Coverage, emptyCoverage } from "./coverage.ts";
import type { Mutation } from "./effect.ts";
import { Faults } from "./faults.ts";
import { LeaseBook } from "./lease-client.ts";
import { MonitoringSystem } from "./monitoring.ts";
import { Network } from "./network.ts";
import { SimOperator } from "./operator.ts";
import { type Perturbation, type Point, Points } from "./points.ts";
import { streamOf } from "./random.ts";
import { RULES } from "./rules/index.ts";
import type { Rule, Truth, Violation } from "./rules/rule.ts";
import type { Scenario } from "./scenario.ts";
import { Simulation } from "./simulation.ts";
import { Surroundings } from "./surroundings.ts";
import { Traffic } from "./traffic.ts";
import { SimWorld } from "./world.ts";

/** How often telemetry is sent (ms). */
const TELEMETRY_MS = 5_000;
/** Of so many measurements one has memory, too. */
const MEMORY_EVERY = 3;
/** How long after an outage the operators are getting over it (ms). */
const OUTAGE_OVER_MS = 60_000;
/** How much longer is looked on once everything has ended (ms): what policies say of themselves settles, and then nothing may be written. */
export const QUIET_MS = 220_000;
/** What comes on top of the policies' own times until everything must have ended (ms): elections, caches, back-off. */
const SLACK_MS = 10 * 60_000;

/** What comes on top of the time that a signal must have been gone for before its incident is closed (ms): alerts that are resolved late, elections. */
const INCIDENT_SLACK_MS = 6 * 60_000;

/** How a run is watched. */
export interface RunOptions {
  /** Gets each line of the trace. */
  readonly trace?: (line: string) => void;
  /** The rules that are asked. Default: all. */
  readonly rules?: readonly Rule[];
  /** Makes the loop. Default: Nightshift's own. For tests, which have no other way to one of its ports, such as a store that forgets, and to what it records. */
  readonly createLoop?: (options: ConstructorParameters<typeof Loop>[0]) => Loop;
  /** One point of the run is perturbed. Default: none. */
  readonly perturbation?: Perturbation;
  /** Told of each point of the run. */
  readonly onPoint?: (point: Point) => void;
  /** Told when the faults are about to stop: what is well then is well by what was done. */
  readonly onFaultsStop?: (truth: Truth) => void;
  /** Goes on after the first broken rule. Default: it ends there. */
  readonly keepGoing?: boolean;
}

/** What came of a run. */
export interface RunResult {
  readonly seed: number;
  readonly violations: readonly Violation[];
  /** How much time passed in it (ms). */
  readonly simulatedMs: number;
  readonly events: number;
  readonly coverage: Coverage;
  /** Whether the point that was to be perturbed came. */
  readonly isPerturbed: boolean;
}

/** Plays a scenario to its end: faults, then none, then quiet; and asks every rule after every event. */
export async function runScenario(scenario: Scenario, options: RunOptions = {}): Promise<RunResult> {
  const run = new Run(scenario, options);
  return run.play();
}

class Run implements Truth {
  readonly scenario: Scenario;
  readonly simulation: Simulation;
  readonly world: SimWorld;
  readonly api: ApiServer;
  readonly traffic: Traffic;
  readonly monitoring: MonitoringSystem;
  readonly mutations: Mutation[] = [];
  readonly records: { readonly at: number; readonly record: AuditRecord }[] = [];
  readonly writes: { readonly at: number; readonly what: string }[] = [];
  readonly #options: RunOptions;
  readonly #lease = new LeaseBook();
  readonly #network: Network;
  readonly #faults: Faults;
  readonly #points: Points;
  readonly #operators: SimOperator[];
  readonly #surroundings: Surroundings;
  readonly #coverage = emptyCoverage();
  readonly #violations: Violation[] = [];
  readonly #checks: readonly { readonly rule: Rule; readonly checks: ReturnType<Rule["watch"]> }[];
  telemetryGapSince: number | undefined;
  outageEndedAt: number | undefined;
  faultsEndedAt: number | undefined;
  #checkedVersion = "";
  #measured = 0;
  /** Within what time an incident is closed that will be: the signal must have been gone for so long, and that be heard of. */
  readonly #incidentMs: number;
  /** How many episodes there have been. */
  #begun = 0;

  constructor(scenario: Scenario, options: RunOptions) {
    this.scenario = scenario;
    this.#options = options;
    const rests = scenario.policies.map(({ spec }) => Math.max(durationMs(spec.cooldown), durationMs(spec.verify.stableFor)));
    this.#incidentMs = Math.max(0, ...rests) + INCIDENT_SLACK_MS;
    const stream = (name: string): ReturnType<typeof streamOf> => streamOf(scenario.seed, name);
    const simulation = new Simulation(stream("ties"), scenario.startsAt);
    this.simulation = simulation;
    this.world = new SimWorld({
      simulation,
      random: stream("world"),
      workloads: scenario.workloads,
      nodes: scenario.nodes,
      nodesIn: scenario.nodesIn,
      autoscaleByLoad: scenario.autoscaleByLoad,
    });
    this.api = new ApiServer(simulation, stream("api"));
    this.#network = new Network(simulation, stream("network"));
    this.traffic = new Traffic(simulation, this.world, stream("traffic"), scenario);
    this.#faults = new Faults(scenario, {
      simulation,
      world: this.world,
      api: this.api,
      operators: (index, act) => {
        for (const operator of this.#operators) if (index === undefined || operator.index === index) act(operator);
      },
      deleteLease: () => this.#lease.delete(),
      replayAlerts: (back) => {
        const ledSince = this.#operators.find(({ leads }) => leads)?.ledSince;
        if (ledSince !== undefined) this.monitoring.replay(back, ledSince);
      },
    });
    this.#points = new Points({
      simulation,
      perturbation: options.perturbation,
      onPoint: (point) => {
        options.onPoint?.(point);
        this.#trace(`point ${point.kind}:${point.number} ${point.what}`);
      },
      relist: (index) => this.#operators[index]?.relist(),
    });
    this.#network.interfere = (request) => ({
      ...this.#faults.interfere(request),
      ...this.#points.request(request, !this.#network.hasAnswered(request)),
    });
    this.#network.onServed = ({ write, what, operator }, error) => {
      this.#trace(`operator-${operator} ${what}${error === undefined ? "" : `: ${(error as Error).message}`}`);
      if (write && error === undefined && !what.endsWith("Lease")) this.writes.push({ at: this.now, what });
    };
    this.#surroundings = new Surroundings({
      scenario,
      simulation,
      world: this.world,
      api: this.api,
      random: stream("surroundings"),
      faults: () => this.#faults,
    });
    const monitoringRandom = stream("monitoring");
    this.monitoring = new MonitoringSystem({
      simulation,
      world: this.world,
      traffic: this.traffic,
      random: monitoringRandom,
      setup: scenario.monitoring,
      faults: {
        scrapeFails: () => this.#faults.strikes("ScrapeGap"),
        noticeDelays: () => {
          const delay = this.#faults.delayOf("AlertDelay");
          return this.#faults.strikes("AlertDuplicates") ? [delay, delay + this.#faults.delayOf("AlertDuplicates")] : [delay];
        },
        flaps: (_alertname, name) => {
          const flapping = this.#faults.active("AlertFlapping").some((fault) => fault.workload === name);
          return flapping ? this.#faults.strikes("AlertFlapping", name) : undefined;
        },
      },
      deliver: (notice) => this.#operators.some((operator) => operator.notify(notice)),
    });
    this.#checks = (options.rules ?? RULES).map((rule) => ({ rule, checks: rule.watch(this) }));
    this.api.onChange((change) => {
      countChange(this.#coverage, change);
      if (change.type === "Added" && change.object.kind === "Remediation") this.#begun += 1;
      this.#traceChange(change.type, change.object);
      for (const { rule, checks } of this.#checks) this.#found(rule, checks.stored?.(change));
    });
    const metrics = countingMetrics(this.#coverage);
    this.#operators = Array.from(
      { length: Math.max(1, scenario.operators) },
      (_, index) =>
        new SimOperator(index, {
          seed: scenario.seed,
          simulation,
          world: this.world,
          api: this.api,
          network: this.#network,
          lease: this.#lease,
          faults: this.#faults,
          points: this.#points,
          jobs: this.#surroundings.jobs,
          startJob: (id, workload) => this.#surroundings.startJob(id, workload),
          onMutation: (mutation) => this.#mutated(mutation),
          onRecords: (operator, records) => {
            for (const record of records) {
              this.records.push({ at: this.now, record });
              this.#trace(`operator-${operator} record ${record.type} ${record.remediation ?? record.policy ?? ""}: ${record.message}`);
            }
          },
          onError: (operator, message) => {
            count(this.#coverage.operator, "Error");
            this.#trace(`operator-${operator} error: ${message}`);
          },
          onLife: (operator, what) => {
            count(this.#coverage.operator, what);
            this.#trace(`operator-${operator} ${what}`);
          },
          receivers: (process) => this.#surroundings.receivers(process),
          metrics,
          createLoop: options.createLoop,
        }),
    );
    for (const policy of scenario.policies) this.api.create<"RemediationPolicy">(policy);
    for (const budget of scenario.budgets) this.api.create<"RemediationBudget">(budget);
    for (const runbook of scenario.runbooks ?? []) this.api.create<"Runbook">(runbook);
    for (const dependency of scenario.dependencies) this.api.create<"ServiceDependency">(dependency);
    this.#measure();
  }

  get now(): number {
    return this.simulation.now;
  }

  get leaderEpoch(): number | undefined {
    return this.#lease.epoch;
  }

  get pages(): Surroundings["pages"] {
    return this.#surroundings.pages;
  }

  get resolved(): Surroundings["resolved"] {
    return this.#surroundings.resolved;
  }

  async play(): Promise<RunResult> {
    const { simulation } = this;
    const after = (): void => this.#after();
    await simulation.runUntil(this.scenario.faultsUntil, after);
    this.#stopFaults();
    // As long as it takes, but no longer than it may.
    const bound = simulation.elapsed + boundMs(this.scenario);
    const moved = (): string => `${this.#begun} begun, ${this.#openIncidents()} open`;
    let before: string;
    do {
      while (!simulation.ended && simulation.elapsed < bound && !this.#isOver())
        await simulation.runUntil(simulation.elapsed + 5_000, after);
      before = moved();
      await simulation.runUntil(simulation.elapsed + QUIET_MS, after);
      // What monitoring says late begins another episode, or closes an incident: that has its time, too, also where it has ended by now.
    } while (!simulation.ended && simulation.elapsed < bound && (!this.#isOver() || before !== moved()));
    if (this.#violations.length === 0 || this.#options.keepGoing === true)
      for (const { rule, checks } of this.#checks) for (const message of checks.ended?.() ?? []) this.#found(rule, message);
    for (const [kind, n] of this.#faults.counts) count(this.#coverage.fault, kind, n);
    return {
      seed: this.scenario.seed,
      violations: this.#violations,
      simulatedMs: simulation.elapsed,
      events: simulation.events,
      coverage: this.#coverage,
      isPerturbed: this.#points.isReached,
    };
  }

  #stopFaults(): void {
    this.#options.onFaultsStop?.(this);
    this.#trace("faults stop");
    this.#faults.endAll();
    this.world.healAll();
    this.faultsEndedAt = this.now;
  }

  #openIncidents(): number {
    return this.api.list("Remediation").filter(({ status }) => isOpenIncident(status)).length;
  }

  /**
   * Whether there is nothing left to do: but for incidents that are yet to be closed, nobody waits for rests and for circuits'
   * hours. An incident that is open when it should long have been closed (a service that nobody calls says nothing of its
   * errors) is waited for no longer. Rollouts are waited for: monitoring may have something to say of them.
   */
  #isOver(): boolean {
    const written = this.writes.findLast(({ what }) => !what.includes("RemediationPolicy"))?.at ?? 0;
    const isAwaited = this.now - Math.max(written, this.faultsEndedAt ?? 0) <= this.#incidentMs;
    return (
      this.#violations.length === 0 &&
      // What is stopped goes on where it was, whatever else is over.
      this.#operators.every((operator) => !operator.isStopped) &&
      this.api.list("Remediation").every(({ status }) => isSettled(status) && !(isAwaited && isOpenIncident(status))) &&
      this.monitoring.firing().size === 0 &&
      this.world.workloads.every(({ rollingOut }) => !rollingOut)
    );
  }

  #measure(): void {
    const gap = this.#faults.active("TelemetryGap").length > 0;
    if (gap) {
      this.telemetryGapSince ??= this.now;
      this.#faults.strikes("TelemetryGap");
    } else {
      this.telemetryGapSince = undefined;
      const measurement = this.traffic.measure(TELEMETRY_MS, this.#measured++ % MEMORY_EVERY === 0);
      for (const operator of this.#operators) operator.hear(measurement);
    }
    if (this.#faults.active("ApiOutage").length > 0) this.outageEndedAt = this.now + OUTAGE_OVER_MS;
    this.simulation.schedule(TELEMETRY_MS, () => this.#measure());
  }

  #mutated(mutation: Mutation): void {
    this.mutations.push(mutation);
    countMutation(this.#coverage, mutation);
    this.#trace(
      `operator-${mutation.operator} effect ${mutation.effect.type} ${mutation.verb} ${mutation.pod?.name ?? mutation.workload?.spec.name ?? mutation.node?.name ?? ""} id ${mutation.effect.id} epoch ${mutation.epoch}`,
    );
    for (const { rule, checks } of this.#checks) this.#found(rule, checks.mutated?.(mutation));
  }

  #after(): void {
    for (const workload of this.world.takeChanged()) {
      const described = this.world.describe(workload);
      for (const operator of this.#operators) operator.changed(workload, described);
      if (this.#options.trace !== undefined) this.#traceWorkload(workload);
    }
    for (const pool of this.world.takeChangedPools()) {
      const described = this.world.describePool(pool);
      for (const operator of this.#operators) operator.changed(pool, described);
      this.#trace(
        `world NodePool ${pool.name}: ${described.replicas.map(({ ref, ready, inTraffic }) => `${ref.name}${ready ? "" : ",unready"}${inTraffic ? "" : ",closed"}`).join(" ")}`,
      );
    }
    const version = `${this.world.version}/${this.api.version}/${this.monitoring.version}/${this.pages.length}`;
    if (version === this.#checkedVersion) return;
    for (const delivered of this.pages.slice(Number(this.#checkedVersion.split("/")[3] ?? 0))) {
      this.#trace(`page ${delivered.page.severity} ${delivered.page.dedupKey}: ${delivered.page.summary}`);
      for (const { rule, checks } of this.#checks) this.#found(rule, checks.paged?.(delivered));
    }
    this.#checkedVersion = version;
    for (const { rule, checks } of this.#checks) this.#found(rule, checks.checked?.());
  }

  #found(rule: Rule, message: string | undefined): void {
    if (message === undefined) return;
    if (this.#violations.some((known) => known.rule === rule.name && known.message === message)) return;
    this.#violations.push({ rule: rule.name, message, at: this.simulation.elapsed });
    this.#trace(`BROKEN ${rule.name}: ${message}`);
    if (this.#options.keepGoing !== true) this.simulation.end();
  }

  #traceWorkload({ spec, desired, revision, pods }: SimWorld["workloads"][number]): void {
    const each = pods.map(
      (pod) =>
        `${pod.name}:${pod.phase}${pod.ready ? "" : ",unready"}${pod.removed ? ",removed" : ""}${pod.owned ? "" : ",detached"}${pod.illness === undefined ? "" : `,${pod.illness.kind}`}`,
    );
    this.#trace(`world ${spec.name} desired ${desired} revision ${revision}: ${each.join(" ")}`);
  }

  #traceChange(
    type: string,
    object: { readonly kind: string; readonly metadata: { readonly name: string; readonly resourceVersion?: string | undefined } },
  ): void {
    if (this.#options.trace === undefined) return;
    const status = (object as { status?: { phase?: string; reason?: string; outcome?: string; message?: string } }).status;
    this.#trace(
      `api ${type} ${object.kind} ${object.metadata.name} ${[status?.phase, status?.reason, status?.outcome, status?.message].filter((part) => part !== undefined).join(" ")}`,
    );
  }

  #trace(line: string): void {
    this.#options.trace?.(`${(this.simulation.elapsed / 1000).toFixed(3).padStart(10)} ${line}`);
  }
}

/** Within what time everything must have ended once the faults have stopped (ms): what the policies themselves say, and some more. */
export function boundMs(scenario: Scenario): number {
  const each = scenario.policies.map(({ spec }) => {
    const ladder = spec.ladder.reduce((sum, rung) => sum + durationMs(rung.timeout), 0);
    const verify = spec.ladder.length * durationMs(spec.verify.timeout);
    return (
      ladder +
      verify +
      durationMs(spec.approval.timeout) +
      durationMs(spec.escalation.blockedFor) +
      durationMs(spec.maxSignalAge) +
      durationMs(spec.cooldown)
    );
  });
  return SLACK_MS + each.reduce((longest, ms) => Math.max(longest, ms), 0);
}
