import type { TargetRef } from "../api/meta.ts";
import { SIGNAL_VARIABLES } from "../api/signal-expression.ts";
import type { Signal } from "../api/signal.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import type { Change } from "../observe/changes.ts";
import type { Platform, Replica, Workload } from "../ports/platform.ts";
import type { CallGraph, ServiceNode } from "./call-graph.ts";
import { changesAround } from "./changes.ts";
import { celDuration, celMap, celTime, evaluable, type Evaluable, type ExpressionValue, type Verdict } from "./expression.ts";
import { readingsOf } from "./samples.ts";
import { seconds } from "./trend.ts";

/** What stands around a workload, as far as it is known. */
export interface Surroundings {
  /** Who calls whom. Made when it is asked for. */
  readonly graph: () => CallGraph;
  /** What has changed, oldest first, and from when on all of it is known (ms). */
  readonly changes?: { readonly list: readonly Change[]; readonly knownSince: number | undefined };
  readonly resources?: Platform["resources"];
  /** Whether a workload or replica of another namespace has a target's name. */
  readonly hasNamesake?: (target: TargetRef) => boolean;
}

/** How far back an expression reads changes (ms): as long as a rollout may be taken back for a symptom. */
const CHANGES_MS = 1_800_000;

/** How far back the newest reading of a metric is looked for (ms). */
const NEWEST_MS = 60_000;

/** A policy's expression, planned once. */
export function signalExpression(text: string): Evaluable {
  return evaluable(text, SIGNAL_VARIABLES);
}

/**
 * Whether a signal's expression is true of it. `replica` is what the signal is about, where that is one; metrics are those of
 * that replica, and of a workload as a whole none.
 */
export function askSignal(
  expression: Evaluable,
  signal: Signal,
  workload: Workload,
  replica: Replica | undefined,
  telemetry: Telemetry,
  surroundings: Surroundings | undefined,
  now: number,
): Verdict {
  const { variables, names } = expression;
  const reads = (name: string, value: () => ExpressionValue): Record<string, ExpressionValue> =>
    variables.has(name) ? { [name]: value() } : {};
  return expression.evaluate({
    ...reads("signal", () => signalValue(signal, now)),
    ...reads("target", () => targetValue(workload, replica, now)),
    ...reads("metrics", () => metricsValue(names.get("metrics") ?? new Set(), replica, telemetry, now)),
    ...reads("graph", () => (surroundings === undefined ? undefined : graphValue(workload, surroundings.graph()))),
    ...reads("changes", () => changesValue(workload, surroundings, now)),
  });
}

/**
 * What of the data that an expression reads is not there for a replica, whether or not its signal fires: so that a policy is
 * known to be blind before it is needed. What Nightshift does not have at all comes first.
 */
export function missingFor(
  { variables, names }: Evaluable,
  replicas: readonly Replica[],
  telemetry: Telemetry,
  surroundings: Surroundings | undefined,
  now: number,
): string[] {
  const absent = [
    ...(variables.has("kernel") ? ["kernel of an expression is not there"] : []),
    ...(variables.has("changes") && !areChangesKnown(surroundings, now)
      ? [`changes of an expression are not known yet: they are after ${seconds(CHANGES_MS / 1_000)} of looking on`]
      : []),
  ];
  const metrics = [...(names.get("metrics") ?? [])];
  return [
    ...absent,
    ...replicas.flatMap((r) => metrics.flatMap((metric) => readingsOf(telemetry, r, metric, now - NEWEST_MS, now).missing ?? [])),
  ];
}

function signalValue(signal: Signal, now: number): ExpressionValue {
  const { name, condition, source, cause, confidence, startsAt, evidence } = signal;
  return celMap({
    name,
    condition,
    source,
    cause,
    confidence,
    startsAt: celTime(startsAt),
    age: celDuration(Math.max(0, now - startsAt)),
    values: celMap(evidence[0]?.values ?? {}),
  });
}

function targetValue(workload: Workload, replica: Replica | undefined, now: number): ExpressionValue {
  const { ref, labels } = replica ?? workload;
  return celMap({
    kind: ref.kind,
    name: ref.name,
    namespace: ref.namespace,
    labels: celMap(labels),
    workload: celMap({
      kind: workload.ref.kind,
      name: workload.ref.name,
      labels: celMap(workload.labels),
      desired: BigInt(workload.desired),
      ready: BigInt(readyOf(workload)),
      rollingOut: workload.busy?.reason === "RolloutInProgress",
    }),
    ...(replica === undefined
      ? {}
      : {
          ready: replica.ready,
          phase: replica.phase,
          restarts: BigInt(replica.restarts),
          age: celDuration(Math.max(0, now - replica.startedAt)),
          node: replica.node,
          zone: replica.zone,
        }),
  });
}

function readyOf({ replicas }: Workload): number {
  return replicas.filter(({ phase, ready }) => phase === "Running" && ready).length;
}

function metricsValue(names: ReadonlySet<string>, replica: Replica | undefined, telemetry: Telemetry, now: number): ExpressionValue {
  if (replica === undefined) return undefined;
  const newest = [...names].flatMap((name): [string, number][] => {
    const readings = readingsOf(telemetry, replica, name, now - NEWEST_MS, now);
    return readings.missing === undefined && readings.newest !== undefined ? [[name, readings.newest.v]] : [];
  });
  return celMap(Object.fromEntries(newest));
}

/** Neighbours by the edges that are known. Where none is known of an end, that end is not there: nobody has said that it has none. */
function graphValue({ ref }: Workload, graph: CallGraph): ExpressionValue {
  const node = graph.of(ref);
  if (node === undefined) return undefined;
  const services = (nodes: readonly ServiceNode[]): ExpressionValue => {
    if (nodes.length === 0) return undefined;
    return [...new Set(nodes)].map(({ ref: { name, namespace }, workload }) =>
      celMap({
        name,
        namespace,
        ...(workload === undefined ? {} : { desired: BigInt(workload.desired), ready: BigInt(readyOf(workload)) }),
      }),
    );
  };
  return celMap({
    dependencies: services(graph.callees(node).map(({ to }) => to)),
    callers: services(graph.callers(node).map(({ from }) => from)),
  });
}

/** A list that begins later would say of what came before that it was not. */
function areChangesKnown(surroundings: Surroundings | undefined, now: number): boolean {
  const since = surroundings?.changes?.knownSince;
  return since !== undefined && since <= now - CHANGES_MS;
}

/** The changes of the last half hour, of the workload, of what it calls and of its nodes: the newest first. */
function changesValue(workload: Workload, surroundings: Surroundings | undefined, now: number): ExpressionValue {
  if (surroundings?.changes === undefined || !areChangesKnown(surroundings, now)) return undefined;
  return changesAround(surroundings.changes.list, workload, surroundings.graph())
    .filter(({ change }) => change.at >= now - CHANGES_MS)
    .toReversed()
    .map(({ change: { at, kind, target, message, ours } }) =>
      celMap({
        kind,
        name: target.name,
        namespace: target.namespace,
        what: message,
        age: celDuration(Math.max(0, now - at)),
        ours,
      }),
    );
}
