import type { TargetRef } from "../api/meta.ts";
import type { Evidence } from "../api/remediation.ts";
import { CALL_RESOLUTION_MS } from "../observe/service-graph.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import type { CallGraph, ServiceNode } from "./call-graph.ts";
import { callsTo } from "./graph.ts";
import { findRootCause, type CallEdge, type RootCauseResult } from "./root-cause.ts";
import type { MetricSeries } from "./root-cause-series.ts";

/** Most services downstream that are looked at: their data of an hour is judged in some 100 ms. */
const MAX_SERVICES = 100;
/** Most replicas of a service whose memory is looked at. */
const MAX_REPLICAS = 20;
/** How much of the past is baseline (ms): as much as is kept. */
const BASELINE_MS = 3_600_000;
/** A symptom may be seen this much later than it began, by an alert's `for` above all: from then on nothing is baseline (ms). */
const LEAD_MS = 120_000;
/** What is held against the baseline (ms): the newest alone, so that what has become well is well. */
const INCIDENT_MS = 120_000;
/** Most causes and sentences on each that are kept as evidence. */
const MAX_CAUSES = 3;
const MAX_SENTENCES = 4;

/** What the statistics of a live service graph say. */
export interface LiveCause {
  readonly result: RootCauseResult;
  /** Another service that is the cause, by symptoms of its own; undefined where it is the target itself, or none. */
  readonly culprit: ServiceNode | undefined;
}

/**
 * Asks the search for the cause (`root-cause.ts`) about a service now: error rate, latency, requests and memory of it and of what is
 * downstream of it, the last two minutes against the hour before the symptom began at `onset` (ms). Undefined where it calls nothing
 * that is known.
 *
 * Another service is a culprit only if it shows a symptom itself: a resource that changed somewhere is no reason to leave a fault alone.
 */
export function liveCause(target: ServiceNode, graph: CallGraph, telemetry: Telemetry, onset: number, now: number): LiveCause | undefined {
  if (graph.callees(target).length === 0) return undefined;
  const nodes = new Map([[target.key, target]]);
  const edges: CallEdge[] = [];
  for (const node of nodes.values())
    for (const { to } of graph.callees(node)) {
      if (!nodes.has(to.key) && nodes.size >= MAX_SERVICES) continue;
      nodes.set(to.key, to);
      edges.push({ from: node.key, to: to.key });
    }
  const begin = onset - LEAD_MS;
  const start = Math.max(begin, now - INCIDENT_MS);
  // What lies between is neither baseline nor the present.
  const counts = (t: number): boolean => t < begin || t >= start;
  const series = [...nodes.values()].flatMap((node) => seriesOf(node, graph, telemetry, now, counts));
  const result = findRootCause({ edges, series, incident: { start, end: now }, target: target.key });
  const first = result.causes[0]?.service;
  const isIll = result.lookedAt.some(({ service, state }) => service === first && state === "ill");
  const culprit = result.verdict === "cause" && first !== target.key && isIll ? nodes.get(first ?? "") : undefined;
  return { result, culprit };
}

function seriesOf(node: ServiceNode, graph: CallGraph, telemetry: Telemetry, now: number, counts: (t: number) => boolean): MetricSeries[] {
  const from = now - BASELINE_MS;
  const own = telemetry.requestSeries(node.ref, from, CALL_RESOLUTION_MS);
  const points = (own.length > 0 ? own : callsTo(node, graph, from)).filter(({ t }) => counts(t));
  const series = (metric: string, unit: string | undefined, readings: readonly (readonly [number, number])[]): MetricSeries => ({
    service: node.key,
    metric,
    unit,
    times: Float64Array.from(readings, ([t]) => t),
    values: Float64Array.from(readings, ([, v]) => v),
  });
  const asked = points.filter(({ requests }) => requests > 0);
  // A span that is not over has fewer requests than others, and that is no news.
  const whole = points.filter(({ t }) => t + CALL_RESOLUTION_MS <= now);
  return [
    series(
      "error_rate",
      undefined,
      asked.map(({ t, requests, failed }) => [t, failed / requests] as const),
    ),
    series(
      "latency",
      "ms",
      points.flatMap(({ t, latencyMs }) => (latencyMs === undefined ? [] : [[t, latencyMs] as const])),
    ),
    series(
      "requests",
      undefined,
      whole.map(({ t, requests }) => [t, requests] as const),
    ),
    series("memory", "bytes", memoryOf(node, telemetry, from, counts)),
  ].filter(({ times }) => times.length > 0);
}

/** The memory of the replica that uses most, in spans. */
function memoryOf(node: ServiceNode, telemetry: Telemetry, from: number, counts: (t: number) => boolean): [number, number][] {
  const most = new Map<number, number>();
  for (const { ref, phase } of (node.workload?.replicas ?? []).slice(0, MAX_REPLICAS)) {
    if (phase !== "Running") continue;
    for (const { t, v } of telemetry.replicaSeries(ref.uid, "memory", from)) {
      const span = Math.floor(t / CALL_RESOLUTION_MS) * CALL_RESOLUTION_MS;
      if (counts(span)) most.set(span, Math.max(most.get(span) ?? 0, v));
    }
  }
  return [...most].sort(([a], [b]) => a - b);
}

/** What the search found, as evidence: its reason, the first causes with their numbers, and what was not looked at. */
export function causeEvidence({ result }: LiveCause): Evidence[] {
  const { verdict, reason, causes, lookedAt, notLookedAt } = result;
  return [
    {
      kind: "RootCause",
      message: `${verdict}: ${reason}`,
      values: { verdict, lookedAt: lookedAt.length, notLookedAt: notLookedAt.length },
    },
    ...causes.slice(0, MAX_CAUSES).map(({ service, metric, score, evidence }, index): Evidence => ({
      kind: "RootCause",
      message: `${service}, score ${score}: ${evidence.slice(0, MAX_SENTENCES).join("; ")}`,
      values: { rank: index + 1, service, metric, score },
    })),
  ];
}

/** What a culprit is held to be, in a sentence. */
export function culpritMessage({ result }: LiveCause, ref: TargetRef): string {
  const [first] = result.causes;
  return `${ref.name} is the likeliest cause, by its ${first?.metric ?? "metrics"} (score ${first?.score ?? 0}): ${first?.evidence[0] ?? ""}`;
}
