import { targetKey, type TargetRef } from "../api/meta.ts";
import type { Evidence } from "../api/remediation.ts";
import { CALL_RESOLUTION_MS, type CallPoint } from "../observe/service-graph.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import type { CallGraph, ServiceEdge, ServiceNode } from "./call-graph.ts";
import { median } from "./statistics.ts";
import { percentText, seconds } from "./trend.ts";

/** Longest path that is walked downstream. */
const MAX_DEPTH = 16;
/** Most services that are walked, about. */
const MAX_SERVICES = 1_000;
/** Fewer requests in the window are no evidence of health or illness (the default of a policy's `minRequests`). */
const MIN_REQUESTS = 10;
/** Shortest span that calls which were seen are counted over (ms): Prometheus and collectors tell of them once a minute at worst. */
const CALLS_WINDOW_MS = 90_000;
/** Fewest spans with requests that tell what is usual, and how far back the first of them must lie (ms): what is new must not look usual. */
const MIN_USUAL = 5;
const MIN_USUAL_MS = 600_000;

/** How well one service is. `Unknown` is what there is no data about: never taken for health, and never for illness. */
export interface ServiceHealth {
  readonly workload: TargetRef;
  readonly state: "Healthy" | "Unhealthy" | "Unknown";
  /** Share of failed requests; undefined where they are too few, or not known. */
  readonly errorRate: number | undefined;
  readonly message: string;
  readonly values: Evidence["values"];
}

/** What the walk found. */
export interface DependencyVerdict {
  /** `Unhealthy` where a cause was found; else `Unknown` where something downstream has no data; else `Healthy`. */
  readonly state: ServiceHealth["state"];
  /** The deepest unhealthy service, and how it is reached (names, from the first dependency to it). */
  readonly cause?: ServiceHealth & { readonly path: readonly string[] };
  /** Every service that was looked at. */
  readonly evidence: readonly Evidence[];
}

/**
 * Walks downstream from a workload, and names the deepest unhealthy service: what fails at the bottom makes everything above
 * it fail. The walk does not pass a healthy service, for its callers cannot be ill of what lies behind it; it does pass one
 * that nothing is known of. Cycles end where they close. Of equally deep ones the worst is named, then the first by name.
 *
 * A declared limit holds whatever is usual. A service that calls were only seen to is unhealthy by the default limit, if it fails
 * at least twice as often as it did before `since` (ms), when the symptom began; what it did before is not known right after a start,
 * and then the limit decides.
 */
export function unhealthyDependency(
  workload: TargetRef,
  graph: CallGraph,
  telemetry: Telemetry,
  since: number,
  now: number,
): DependencyVerdict {
  const root = graph.of(workload);
  if (root === undefined) return { state: "Healthy", evidence: [] };
  const visited = new Set([root.key]);
  const evidence: Evidence[] = [];
  let unknown = false;
  let cause: DependencyVerdict["cause"];
  // Breadth first: each service is judged once, and those found later are as deep or deeper.
  let level: { node: ServiceNode; path: readonly string[] }[] = [{ node: root, path: [] }];
  for (let depth = 1; depth <= MAX_DEPTH && level.length > 0 && visited.size <= MAX_SERVICES; depth++) {
    const next: typeof level = [];
    const ill: NonNullable<DependencyVerdict["cause"]>[] = [];
    for (const { node, path } of level) {
      for (const edge of graph.callees(node)) {
        if (visited.has(edge.to.key)) continue;
        visited.add(edge.to.key);
        const health = healthOf(edge, graph, telemetry, since, now);
        evidence.push({ kind: "Dependency", message: health.message, values: health.values });
        if (health.state === "Unknown") unknown = true;
        if (health.state === "Healthy") continue;
        const way = [...path, edge.to.ref.name];
        if (health.state === "Unhealthy") ill.push({ ...health, path: way });
        next.push({ node: edge.to, path: way });
      }
    }
    ill.sort((a, b) => (b.errorRate ?? 1) - (a.errorRate ?? 1) || targetKey(a.workload).localeCompare(targetKey(b.workload)));
    cause = ill[0] ?? cause;
    level = next;
  }
  return {
    state: cause !== undefined ? "Unhealthy" : unknown ? "Unknown" : "Healthy",
    ...(cause === undefined ? {} : { cause }),
    evidence,
  };
}

function healthOf(edge: ServiceEdge, graph: CallGraph, telemetry: Telemetry, since: number, now: number): ServiceHealth {
  const { to, unhealthyAbove, declared } = edge;
  const { ref, workload } = to;
  const own = telemetry.requests(ref, now - edge.windowMs);
  const windowMs = own === undefined ? Math.max(edge.windowMs, CALLS_WINDOW_MS) : edge.windowMs;
  const requests = own ?? sumOf(callsTo(to, graph, now - windowMs));
  const replicas = workload?.replicas ?? [];
  const ready = replicas.filter((replica) => replica.phase === "Running" && replica.ready).length;
  const span = seconds(windowMs / 1000);
  const values: Evidence["values"] = {
    workload: targetKey(ref),
    windowSeconds: windowMs / 1000,
    unhealthyAbove,
    declared,
    ...(requests === undefined ? {} : { total: requests.total, failed: requests.failed }),
    ...(workload === undefined ? {} : { ready, desired: workload.desired }),
  };
  const is = (
    state: ServiceHealth["state"],
    errorRate: number | undefined,
    message: string,
    more: Evidence["values"] = {},
  ): ServiceHealth => ({
    workload: ref,
    state,
    errorRate,
    message,
    values: { ...values, ...more, state, ...(errorRate === undefined ? {} : { errorRate }) },
  });
  // What runs nowhere, though it should and once did, is ill whether or not anyone asks it.
  if (workload !== undefined && workload.desired > 0 && ready === 0 && replicas.some((replica) => replica.everReady))
    return is("Unhealthy", undefined, `${ref.name} is unhealthy: none of its ${workload.desired} replicas is ready`);
  if (requests === undefined || requests.total < MIN_REQUESTS)
    return is(
      "Unknown",
      undefined,
      `${ref.name} is unknown: ${requests?.total ?? "no"} requests to it were seen in ${span}, too few to tell`,
    );
  const errorRate = requests.failed / requests.total;
  const numbers = `${rounded(requests.failed)} of ${rounded(requests.total)} requests to it failed in ${span} (${percentText(errorRate)}, at most ${percentText(unhealthyAbove)} is well)`;
  if (errorRate <= unhealthyAbove) return is("Healthy", errorRate, `${ref.name} is healthy: ${numbers}`);
  const usual = declared ? undefined : usualErrorRate(to, graph, telemetry, since);
  if (usual !== undefined && errorRate < 2 * usual)
    return is("Healthy", errorRate, `${ref.name} is as it usually is: ${numbers}, ${percentText(usual)} before`, { usual });
  return is("Unhealthy", errorRate, `${ref.name} is unhealthy: ${numbers}`, usual === undefined ? {} : { usual });
}

const rounded = (count: number): number => Math.round(count * 10) / 10;

/** All calls to a service that were seen from `since` (ms) on and that somebody waited for. Every caller counts once. */
export function callsTo(node: ServiceNode, graph: CallGraph, since: number): CallPoint[] {
  const spans = new Map<number, { t: number; requests: number; failed: number; sumMs: number; timed: number }>();
  for (const { kind, observed } of graph.callers(node)) {
    if (kind === "Queue") continue;
    for (const call of observed)
      for (const { t, requests, failed, latencyMs } of call.points(since)) {
        const span = spans.get(t) ?? { t, requests: 0, failed: 0, sumMs: 0, timed: 0 };
        spans.set(t, span);
        span.requests += requests;
        span.failed += failed;
        if (latencyMs === undefined) continue;
        // Weighed by the requests, so that a caller that hardly calls does not count as much as one that does all the time.
        span.sumMs += latencyMs * requests;
        span.timed += requests;
      }
  }
  return [...spans.values()]
    .sort((a, b) => a.t - b.t)
    .map(({ t, requests, failed, sumMs, timed }) => ({ t, requests, failed, latencyMs: timed > 0 ? sumMs / timed : undefined }));
}

function sumOf(points: readonly CallPoint[]): { readonly total: number; readonly failed: number } | undefined {
  if (points.length === 0) return undefined;
  return {
    total: points.reduce((sum, { requests }) => sum + requests, 0),
    failed: points.reduce((sum, { failed }) => sum + failed, 0),
  };
}

/** The error rate that was usual for a service before `since` (ms); undefined where too little is known of that time. */
function usualErrorRate(node: ServiceNode, graph: CallGraph, telemetry: Telemetry, since: number): number | undefined {
  const own = telemetry.requestSeries(node.ref, 0, CALL_RESOLUTION_MS);
  const before = (own.length > 0 ? own : callsTo(node, graph, 0)).filter(({ t, requests }) => t < since && requests > 0);
  const first = before[0]?.t ?? since;
  return before.length < MIN_USUAL || since - first < MIN_USUAL_MS
    ? undefined
    : median(before.map(({ requests, failed }) => failed / requests));
}
