import type { ServiceName } from "../../observe/service-graph.ts";
import type { Sample } from "../../observe/telemetry.ts";
import type { SimRandom } from "./random.ts";
import type { Simulation } from "./simulation.ts";
import type { Scenario, SymptomMetric } from "./scenario.ts";
import { type Illness, isServing, type Pod, shows, showsAsWhole, type SimWorkload, type SimWorld, suffers, usedBytes } from "./world.ts";

/** What a pod asks for whose connections are used up, and of what there is too much. */
export const HINT = { action: "pool-reset", saturationType: "connection_pool" } as const;
/** What it logs then, and how many records of that come with each measurement. */
const EXHAUSTED = "connection pool exhausted: no connection within 1000 ms";
const ERRORS_LOGGED = 3;

/** Illnesses by which a pod fails requests. */
const FAILING: ReadonlySet<string | undefined> = new Set(["Errors", "DiskFull", "PoolExhausted", "PodCondition"]);

const nameOf = ({ ref }: SimWorkload): ServiceName => ({ name: ref.name, namespace: ref.namespace });

/** What was measured at one moment. */
export interface Measurement {
  /** By the true clock (ms since the epoch). */
  readonly at: number;
  /** How long since the last one (ms). */
  readonly spanMs: number;
  /** Requests to each workload since then, by namespace and name. */
  readonly requests: ReadonlyMap<string, { readonly total: number; readonly failed: number }>;
  /** What the tracing of requests tells of who called whom since then. */
  readonly calls: readonly {
    readonly client: ServiceName;
    readonly server: ServiceName;
    readonly requests: number;
    readonly failed: number;
  }[];
  /** Memory of each pod, by uid. */
  readonly memory: ReadonlyMap<string, Sample>;
  /** What else each pod measures, by uid and name of the metric. */
  readonly metrics: ReadonlyMap<string, Sample>;
  /** Of pods, by uid: how much they have added to the counter of hints, and whether they have said for what. */
  readonly hints: ReadonlyMap<string, { readonly added: number; readonly isNamed: boolean }>;
  /** What pods have logged, by uid. */
  readonly logs: readonly { readonly uid: string; readonly severity: "INFO" | "ERROR"; readonly body: string }[];
  /** What Prometheus would answer to queries. */
  readonly rows: readonly { readonly query: string; readonly labels: Readonly<Record<string, string>>; readonly v: number }[];
}

/** Whether a pod that suffers from this asks for its connections to be made anew. */
export function asksForReset(illness: Illness | undefined): boolean {
  return illness?.kind === "PoolExhausted";
}

/** Whether a pod that suffers from this logs errors. */
export function logsErrors(illness: Illness | undefined): boolean {
  return illness?.kind === "PoolExhausted" || illness?.kind === "Errors";
}

/** Requests on their way through the service graph, and what they and the pods can be measured by. */
export class Traffic {
  readonly #simulation: Simulation;
  readonly #world: SimWorld;
  readonly #random: SimRandom;

  readonly #metrics: readonly SymptomMetric[];
  readonly #isTraced: boolean;

  constructor(
    simulation: Simulation,
    world: SimWorld,
    random: SimRandom,
    { metrics = [], tracing = false }: Pick<Scenario, "metrics" | "tracing"> = {},
  ) {
    this.#metrics = metrics;
    this.#isTraced = tracing;
    this.#simulation = simulation;
    this.#world = world;
    this.#random = random;
  }

  /** Share of the requests to a workload that fail now, what it calls included. */
  errorRate(workload: SimWorkload, path: readonly SimWorkload[] = []): number {
    if (path.includes(workload)) return 0;
    let succeeded = 1 - this.ownErrorRate(workload);
    for (const name of workload.spec.calls) {
      const called = this.#world.workload(name);
      if (called !== undefined) succeeded *= 1 - this.errorRate(called, [...path, workload]);
    }
    return 1 - succeeded;
  }

  /** The same, but for what it does itself. */
  ownErrorRate(workload: SimWorkload): number {
    const serving = workload.pods.filter((pod) => isServing(pod));
    if (serving.length === 0) return 1;
    const failing = serving.reduce((sum, pod) => sum + (FAILING.has(pod.illness?.kind) ? (pod.illness?.rate ?? 0) : 0), 0) / serving.length;
    // What comes in is `surge` times what `desired` replicas were enough for at the beginning.
    const overload = Math.max(0, 1 - serving.length / (workload.surge * workload.spec.replicas));
    const conditions = workload.conditions.reduce((well, each) => well * (suffers(workload, each) ? 1 - each.rate : 1), 1);
    return 1 - (1 - failing) * (1 - workload.errors) * conditions * (1 - (workload.surge > 1 ? overload : 0));
  }

  /** Requests since the last measurement, and `memory` where it is asked for. */
  measure(spanMs: number, withMemory: boolean): Measurement {
    const at = this.#simulation.now;
    const requests = new Map<string, { total: number; failed: number }>();
    const memory = new Map<string, Sample>();
    const metrics = new Map<string, Sample>();
    const rows: Measurement["rows"][number][] = [];
    const calls: Measurement["calls"][number][] = [];
    const hints = new Map<string, { added: number; isNamed: boolean }>();
    const logs: Measurement["logs"][number][] = [];
    for (const workload of this.#world.workloads) {
      const { rps } = workload.spec;
      this.#tell(workload, hints, logs);
      const { ref } = workload;
      for (const { name, symptom, values, isQuery } of this.#metrics) {
        const owner = { namespace: ref.namespace, [ref.kind.toLowerCase()]: ref.name };
        const whole = isQuery === true ? showsAsWhole(symptom, workload, this, at) : undefined;
        if (whole !== undefined) {
          rows.push({ query: name, labels: owner, v: values?.[whole ? "ill" : "well"] ?? 0 });
          continue;
        }
        for (const pod of workload.pods) {
          if (pod.phase !== "Running") continue;
          const v = values === undefined ? Math.round(usedBytes(pod, at, 0.5)) : values[shows(symptom, pod, this) ? "ill" : "well"];
          if (isQuery === true) rows.push({ query: name, labels: { ...owner, pod: pod.name }, v });
          else metrics.set(`${pod.uid}/${name}`, { t: at, v });
        }
      }
      if (rps > 0) {
        const total = Math.round((rps * spanMs) / 1000);
        const rate = this.errorRate(workload);
        requests.set(`${workload.ref.namespace}/${workload.ref.name}`, { total, failed: Math.min(total, Math.round(total * rate)) });
        for (const name of this.#isTraced ? workload.spec.calls : []) {
          const called = this.#world.workload(name);
          if (called === undefined) continue;
          const failed = Math.min(total, Math.round(total * this.errorRate(called)));
          calls.push({ client: nameOf(workload), server: nameOf(called), requests: total, failed });
        }
      }
      if (!withMemory) continue;
      for (const pod of workload.pods)
        if (pod.phase === "Running") memory.set(pod.uid, { t: at, v: Math.round(usedBytes(pod, at, this.#random.next())) });
    }
    return { at, spanMs, requests, calls, memory, metrics, rows, hints, logs };
  }

  /** What pods say of themselves: those that run, and do not hang. */
  #tell({ spec, pods }: SimWorkload, hints: Map<string, { added: number; isNamed: boolean }>, logs: Measurement["logs"][number][]): void {
    if (spec.hints === undefined && spec.logs !== true) return;
    for (const { uid, phase, illness, node, everReady } of pods) {
      if (phase !== "Running" || !node.up || !everReady || illness?.kind === "Hang") continue;
      if (spec.hints !== undefined && asksForReset(illness)) hints.set(uid, { added: 1, isNamed: spec.hints === "Named" });
      if (spec.logs !== true) continue;
      logs.push({ uid, severity: "INFO", body: "served" });
      if (logsErrors(illness)) for (let i = 0; i < ERRORS_LOGGED; i++) logs.push({ uid, severity: "ERROR", body: EXHAUSTED });
    }
  }

  /** Share of its limit that a pod uses. */
  memoryShare(pod: Pod): number {
    return usedBytes(pod, this.#simulation.now) / pod.limitBytes;
  }
}
