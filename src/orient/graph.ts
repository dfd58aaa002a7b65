import { targetKey, type TargetRef } from "../api/meta.ts";
import type { ServiceDependency } from "../api/dependency.ts";
import type { Evidence } from "../api/remediation.ts";
import { durationMs, percentShare } from "../api/units.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import type { Workload } from "../ports/platform.ts";
import { percentText, seconds } from "./trend.ts";

/** Longest path that is walked downstream. */
const MAX_DEPTH = 16;
/** Fewer requests in the window are no evidence of health or illness (the default of a policy's `minRequests`). */
const MIN_REQUESTS = 10;

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
 */
export function unhealthyDependency(
  workload: TargetRef,
  dependencies: readonly ServiceDependency[],
  workloads: readonly Workload[],
  telemetry: Telemetry,
  now: number,
): DependencyVerdict {
  const key = (ref: Pick<TargetRef, "namespace" | "name">): string => `${ref.namespace}/${ref.name}`;
  const edges = new Map<string, { to: TargetRef; unhealthyAbove: number; windowMs: number }[]>();
  for (const { metadata, spec } of dependencies) {
    const from = key({ namespace: spec.from.namespace ?? metadata.namespace, name: spec.from.name });
    const namespace = spec.to.namespace ?? metadata.namespace;
    const known = workloads.find((w) => w.ref.name === spec.to.name && w.ref.namespace === namespace);
    const edge = {
      to: known?.ref ?? { kind: "Workload", namespace, name: spec.to.name },
      unhealthyAbove: percentShare(spec.unhealthyAbove),
      windowMs: durationMs(spec.window),
    };
    const list = edges.get(from);
    if (list === undefined) edges.set(from, [edge]);
    else list.push(edge);
  }

  const visited = new Set([key(workload)]);
  const evidence: Evidence[] = [];
  let unknown = false;
  let cause: DependencyVerdict["cause"];
  // Breadth first: each service is judged once, and those found later are as deep or deeper.
  let level: { ref: TargetRef; path: readonly string[] }[] = [{ ref: workload, path: [] }];
  for (let depth = 1; depth <= MAX_DEPTH && level.length > 0; depth++) {
    const next: typeof level = [];
    const ill: NonNullable<DependencyVerdict["cause"]>[] = [];
    for (const { ref, path } of level) {
      for (const edge of edges.get(key(ref)) ?? []) {
        if (visited.has(key(edge.to))) continue;
        visited.add(key(edge.to));
        const health = healthOf(edge.to, edge.unhealthyAbove, edge.windowMs, workloads, telemetry, now);
        evidence.push({ kind: "Dependency", message: health.message, values: health.values });
        if (health.state === "Unknown") unknown = true;
        if (health.state === "Healthy") continue;
        const way = [...path, edge.to.name];
        if (health.state === "Unhealthy") ill.push({ ...health, path: way });
        next.push({ ref: edge.to, path: way });
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

function healthOf(
  ref: TargetRef,
  unhealthyAbove: number,
  windowMs: number,
  workloads: readonly Workload[],
  telemetry: Telemetry,
  now: number,
): ServiceHealth {
  const workload = workloads.find((w) => w.ref.name === ref.name && w.ref.namespace === ref.namespace);
  const requests = telemetry.requests(ref, now - windowMs);
  const replicas = workload?.replicas ?? [];
  const ready = replicas.filter((replica) => replica.phase === "Running" && replica.ready).length;
  const span = seconds(windowMs / 1000);
  const values: Evidence["values"] = {
    workload: targetKey(ref),
    windowSeconds: windowMs / 1000,
    unhealthyAbove,
    ...(requests === undefined ? {} : { total: requests.total, failed: requests.failed }),
    ...(workload === undefined ? {} : { ready, desired: workload.desired }),
  };
  const is = (state: ServiceHealth["state"], errorRate: number | undefined, message: string): ServiceHealth => ({
    workload: ref,
    state,
    errorRate,
    message,
    values: { ...values, state, ...(errorRate === undefined ? {} : { errorRate }) },
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
  const numbers = `${requests.failed} of ${requests.total} requests to it failed in ${span} (${percentText(errorRate)}, at most ${percentText(unhealthyAbove)} is well)`;
  return errorRate > unhealthyAbove
    ? is("Unhealthy", errorRate, `${ref.name} is unhealthy: ${numbers}`)
    : is("Healthy", errorRate, `${ref.name} is healthy: ${numbers}`);
}
