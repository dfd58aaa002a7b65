import { type Clock, sleep } from "../ports/clock.ts";
import { callOf, SERVICE_LABELS } from "./otlp/service-graph.ts";
import type { PromqlAnswer, PromqlProblem, PromqlQuery } from "./promql.ts";
import { CALL_RESOLUTION_MS, type CallSink } from "./service-graph.ts";

/** How often it is looked whether there are answers (ms). */
const TICK_MS = 5_000;
/** How often Prometheus is asked (ms). */
const EVERY_MS = 30_000;
/** What is asked for at first (ms): all that a baseline is made of. */
const HISTORY_MS = 3_600_000;
/** What is asked for from then on (ms): some more than has passed since, so that a late answer leaves no gap. */
const RECENT_MS = 300_000;

const rate = (metric: string, of = ""): string => `sum by (${SERVICE_LABELS.join(", ")}) (rate(${metric}${of}[2m]))`;
/** What sends no telemetry itself is timed by its caller. */
const EXTERNAL = '{connection_type=~"database|virtual_node"}';
const REQUESTS = rate("traces_service_graph_request_total");
const FAILED = rate("traces_service_graph_request_failed_total");
const DURATIONS = (["server", "client"] as const).map((side) => {
  const metric = `traces_service_graph_request_${side}_seconds`;
  const of = side === "client" ? EXTERNAL : "";
  return { side, sum: rate(`${metric}_sum`, of), count: rate(`${metric}_count`, of) };
});

/** What has been taken of an answer, or of two that belong together. */
type Pair = "counts" | "server" | "client";

/**
 * Takes the service graph out of a Prometheus that has its metrics, written there by the Collector's servicegraph connector
 * or by Tempo: at first of the last hour, so that there is a baseline at once, then of what has passed since. Where Prometheus does
 * not answer nothing is taken, and where it has no such metrics there are no calls.
 */
export class ServiceGraphPoll {
  readonly #ask: (query: PromqlQuery) => PromqlAnswer | PromqlProblem | undefined;
  readonly #graph: CallSink;
  /** Up to when something has been taken (ms). */
  readonly #taken = new Map<Pair, number>();

  constructor(options: {
    /** See `Telemetry.promql`. */
    readonly ask: (query: PromqlQuery) => PromqlAnswer | PromqlProblem | undefined;
    readonly graph: CallSink;
  }) {
    this.#ask = options.ask;
    this.#graph = options.graph;
  }

  /** Takes what there is, again and again, until `signal` aborts. */
  async run(clock: Clock, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.take();
      await sleep(clock, TICK_MS, signal);
    }
  }

  /** Takes what has been answered since. */
  take(): void {
    // Requests without their failures would look well: both or none.
    this.#both("counts", REQUESTS, FAILED, (labels, t, requests, failed) => {
      const call = callOf(labels);
      if (call !== undefined) this.#graph.recordCalls("Prometheus", { ...named(call), t, requests, failed: Math.min(failed, requests) });
    });
    for (const { side, sum, count } of DURATIONS)
      this.#both(side, count, sum, (labels, t, timed, seconds) => {
        const call = callOf(labels);
        if (call === undefined || call.timedBy !== side || timed <= 0) return;
        this.#graph.recordCalls("Prometheus", { ...named(call), t, latency: { sumMs: seconds * 1_000, count: timed } });
      });
  }

  /**
   * Hands on what two queries say of the same series and moment, each as an amount. Where the second has no row it is zero. What
   * a step stands for is spread over its time, so that steps of any length give spans that can be compared.
   */
  #both(
    pair: Pair,
    first: string,
    second: string,
    take: (labels: Readonly<Record<string, string>>, t: number, a: number, b: number) => void,
  ): void {
    const taken = this.#taken.get(pair) ?? -Infinity;
    const rangeMs = taken === -Infinity ? HISTORY_MS : RECENT_MS;
    const [a, b] = [first, second].map((query) => this.#ask({ query, rangeMs, everyMs: EVERY_MS }));
    if (a === undefined || b === undefined || "problem" in a || "problem" in b) return;
    const { steps } = a;
    const step = (steps[1] ?? 0) - (steps[0] ?? 0);
    // Two questions are not asked at the same moment: what the second says holds for the nearest step of the first.
    const until = Math.min(steps.at(-1) ?? 0, (b.steps.at(-1) ?? 0) + step / 2);
    const others = new Map(b.rows.map((row) => [keyOf(row.labels), row.samples]));
    for (const { labels, samples } of a.rows) {
      const other = others.get(keyOf(labels)) ?? [];
      for (const { t, v } of samples) {
        if (t > until) break;
        const near = other.find((sample) => Math.abs(sample.t - t) <= step / 2)?.v ?? 0;
        for (let end = t; end > Math.max(taken, t - step); end -= CALL_RESOLUTION_MS) {
          const seconds = Math.min(CALL_RESOLUTION_MS, end - Math.max(taken, t - step)) / 1_000;
          take(labels, end, Math.max(0, v) * seconds, Math.max(0, near) * seconds);
        }
      }
    }
    this.#taken.set(pair, Math.max(taken, steps.findLast((t) => t <= until) ?? taken));
  }
}

const keyOf = (labels: Readonly<Record<string, string>>): string => JSON.stringify(SERVICE_LABELS.map((label) => labels[label] ?? ""));

const named = ({ client, server, kind }: NonNullable<ReturnType<typeof callOf>>) => ({ client, server, kind });
