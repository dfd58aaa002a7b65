import type { ServiceName } from "../../observe/service-graph.ts";
import type { Sample } from "../../observe/telemetry.ts";
import type { SimRandom } from "./random.ts";
import type { Simulation } from "./simulation.ts";
import type { Scenario, SymptomMetric } from "./scenario.ts";
import { isServing, type Pod, shows, showsAsWhole, type SimWorkload, type SimWorld, suffers, usedBytes } from "./world.ts";

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
  /** What Prometheus would answer to queries. */
  readonly rows: readonly { readonly query: string; readonly labels: Readonly<Record<string, string>>; readonly v: number }[];
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
    for (const workload of this.#world.workloads) {
      const { rps } = workload.spec;
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
    return { at, spanMs, requests, calls, memory, metrics, rows };
  }

  /** Share of its limit that a pod uses. */
  memoryShare(pod: Pod): number {
    return usedBytes(pod, this.#simulation.now) / pod.limitBytes;
  }
}
