import { sameTarget, targetKey, type TargetRef } from "../api/meta.ts";
import { LOG_SEVERITIES, type PodState, type PolicySignal, type RemediationPolicy } from "../api/policy.ts";
import type { Cause, Evidence } from "../api/remediation.ts";
import type { Alert, Signal, SignalCondition } from "../api/signal.ts";
import { covers } from "../api/targets.ts";
import { durationMs, percentShare, quantityBytes } from "../api/units.ts";
import { FAILED_REQUESTS } from "../observe/exemplars.ts";
import type { Hint } from "../observe/hints.ts";
import type { CallPoint } from "../observe/service-graph.ts";
import type { RequestStats, Sample, Telemetry } from "../observe/telemetry.ts";
import type { Replica, Workload } from "../ports/platform.ts";
import { type HintWish, judgeHint } from "./hint.ts";
import { longestGapOf, readingsOf } from "./samples.ts";
import { eventSignals } from "./detect-events.ts";
import { resourceSignals } from "./detect-resources.ts";
import { askSignal, missingFor, signalExpression, type Surroundings } from "./signal-values.ts";
import { normalCdf } from "./statistics.ts";
import { analyseTrend, percentText, seconds } from "./trend.ts";

/** What a look at one workload found. */
export interface Detection {
  /** Conditions that hold (`Firing`), and alerts that have ceased (`Resolved`). At most one per signal and target. */
  readonly signals: readonly Signal[];
  /**
   * Alerts that neither may be acted on nor are over, which are no signals: those that are silenced or inhibited in Alertmanager, as whoever has
   * silenced one may be at it (`Firing`), and those that ended as nobody repeated them any more (`Resolved`).
   */
  readonly undecided: readonly Signal[];
  /** What was looked for and is not there. It never speaks for a signal, and it is never silent. */
  readonly missing: readonly string[];
  /** Names of the policy's signals that something was looked for and was not there for. */
  readonly blind: readonly string[];
  /** Why, of those whose objects cannot be read: the same text as long as nothing about it changes. */
  readonly unreadable?: ReadonlyMap<string, string>;
}

/** Why an alert is neither acted on nor over. */
export function undecidedText({ name, state }: Signal): string {
  if (state === "Resolved")
    return `the alert of ${name} is gone from Alertmanager as nobody repeated it, and nobody has said that it is over: its Prometheus may be down`;
  return `the alert of ${name} is silenced or inhibited in Alertmanager: nothing is done about it, and whether it helped is not known`;
}

/** What a condition means, before anything else is looked at. Of `podState` it depends on the state. */
export const CAUSE_OF: Readonly<Record<Exclude<SignalCondition, "podState">, Cause>> = {
  trend: "MemoryLeak",
  probe: "Unresponsive",
  errorRate: "HighErrorRate",
  metric: "MetricThreshold",
  promql: "MetricThreshold",
  hint: "RequestedByApplication",
  log: "LogPattern",
  alert: "Alert",
  nodeCondition: "NodeCondition",
  rollout: "RolloutStuck",
  event: "Event",
  resource: "ResourceCondition",
};

/** What is wrong with a pod in a state. */
export const CAUSE_OF_STATE: Readonly<Record<PodState, Cause>> = {
  CrashLoopBackOff: "CrashLoop",
  OOMKilled: "OutOfMemory",
  ImagePullBackOff: "ImagePull",
  CreateContainerConfigError: "ContainerConfig",
  Terminating: "StuckTerminating",
  Pending: "Pending",
};

/** Memory of a process's first seconds is its start, not its trend. */
const STARTUP_MS = 5_000;
/** A share of requests needs a span of time, also where `for` is zero. */
const MIN_RATE_SPAN_MS = 10_000;
/** Most traces that the evidence of a signal names. */
const MAX_TRACES = 3;
/** How much longer than a person takes to be asked a hint that was not understood is remembered (ms). */
const REMEMBERED_MS = 60_000;
/**
 * For so long after a replica was made (ms), what an alert that began before says may be about the one that had its name before, as of a
 * StatefulSet: Prometheus sees the end of a series with the next scrape and rule, and tells Alertmanager within a minute.
 */
const SUCCESSOR_MS = 120_000;
/** Labels of an alert that name a replica. The first two are meant to: what they name and is not there is missing. */
const REPLICA_LABELS = ["pod", "replica", "node", "instance", "service_instance_id"] as const;
const STRICT_REPLICA_LABELS: ReadonlySet<string> = new Set(["pod", "replica"]);
/** Labels of an alert that name a workload. */
const WORKLOAD_LABELS = ["deployment", "statefulset", "daemonset", "workload", "service", "service_name", "job"] as const;
/** The kinds that have a label of their own, as kube-state-metrics writes them: a Deployment and a StatefulSet may have one name. */
const KIND_LABELS: ReadonlyMap<string, string> = new Map([
  ["Deployment", "deployment"],
  ["StatefulSet", "statefulset"],
  ["DaemonSet", "daemonset"],
]);
/** Labels that Prometheus gives what it scrapes: of an exporter they name itself, and not whom it tells of. */
const SCRAPE_LABELS: ReadonlySet<string> = new Set(["pod", "container", "node", "instance", "service", "job", "endpoint"]);
/** What Prometheus calls a label of a series that it has itself, where `honor_labels` is off; and those that show that others are told of. */
const EXPORTED = "exported_";
const TELLS_OF_OTHERS = ["pod", "namespace", "node"].map((key) => `${EXPORTED}${key}`);

/** The workloads that a policy covers: of its namespace only; an empty selector covers nothing. */
export function targetsOf(policy: RemediationPolicy, workloads: readonly Workload[]): Workload[] {
  const single = policy.spec.targets.some(({ kind }) => kind === "Pod" || kind === "Node");
  return workloads.filter(
    (workload) =>
      workload.ref.namespace === policy.metadata.namespace &&
      (covers(policy, workload) || (single && workload.replicas.some((replica) => covers(policy, workload, replica)))),
  );
}

/**
 * Evaluates each of a policy's signals on one workload, `now` in ms. Pure: the same arguments give the same signals.
 * Missing data is never a signal: it is listed. So is what an expression (`when`) reads and is not there, also while nothing
 * fires. Without `surroundings` an expression knows of no graph.
 */
export function detectSignals(
  policy: RemediationPolicy,
  workload: Workload,
  telemetry: Telemetry,
  alerts: readonly Alert[],
  now: number,
  surroundings?: Surroundings,
): Detection {
  const whole = covers(policy, workload);
  const replicas = workload.replicas.filter((replica) => replica.phase !== "Exited" && (whole || covers(policy, workload, replica)));
  const signals = new Map<string, Signal>();
  const missing: string[] = [];
  const blind: string[] = [];
  const unreadable = new Map<string, string>();
  const undecided: Signal[] = [];
  const hintOf = new Map<Signal, Hint>();
  const takenHints = new Set<Hint>();
  for (const signal of policy.spec.signals) {
    const before = missing.length;
    const context: Context = {
      surroundings,
      unreadable,
      policy,
      signal,
      workload,
      whole,
      replicas,
      telemetry,
      now,
      missing,
      undecided,
      hintOf,
      takenHints,
    };
    const holds = conditionOf(context);
    for (const each of evaluate(context, alerts)) {
      const found = each.state === "Firing" ? holds(each) : each;
      if (found === undefined) continue;
      const hint = hintOf.get(each);
      if (hint !== undefined) takenHints.add(hint);
      const known = signals.get(found.fingerprint);
      if (known === undefined || outranks(found, known)) signals.set(found.fingerprint, found);
    }
    if (missing.length > before) blind.push(signal.name);
  }
  return {
    signals: [...signals.values()],
    undecided: undecided.filter(({ fingerprint }) => signals.get(fingerprint)?.state !== "Firing"),
    missing: [...new Set(missing)],
    blind,
    ...(unreadable.size === 0 ? {} : { unreadable }),
  };
}

/** What a signal is where its policy's expression is true of it; undefined where it is not, or where that is not known. */
function conditionOf(context: Context): (signal: Signal) => Signal | undefined {
  const { signal, workload, telemetry, now, missing, surroundings } = context;
  if (signal.when === undefined) return (found) => found;
  const { when } = signal;
  const expression = signalExpression(when);
  missing.push(...missingFor(expression, context.replicas.filter(established), telemetry, surroundings, now));
  return (found) => {
    const replica = workload.replicas.find((each) => sameTarget(each.ref, found.target));
    const verdict = askSignal(expression, found, workload, replica, telemetry, surroundings, now);
    if (verdict.state === "Missing")
      missing.push(`the expression of signal ${signal.name} has no value for ${found.target.name}: ${verdict.why}`);
    if (verdict.state !== "True") return undefined;
    const evidence: Evidence = { kind: "Expression", message: `it is true that ${when.trim()}`, values: { expression: when } };
    return { ...found, evidence: [...found.evidence, evidence] };
  };
}

export interface Context {
  readonly surroundings: Surroundings | undefined;
  readonly unreadable: Map<string, string>;
  readonly policy: RemediationPolicy;
  readonly signal: PolicySignal;
  readonly workload: Workload;
  /** The policy covers the whole workload, not single replicas of it only. */
  readonly whole: boolean;
  /** Replicas that the policy covers and that have not exited. */
  readonly replicas: readonly Replica[];
  readonly telemetry: Telemetry;
  readonly now: number;
  readonly missing: string[];
  readonly undecided: Signal[];
  /** What each signal of a hint was made of, and which hints are taken by a signal that stands before this one. */
  readonly hintOf: Map<Signal, Hint>;
  readonly takenHints: Set<Hint>;
}

function evaluate(context: Context, alerts: readonly Alert[]): Signal[] {
  const { signal } = context;
  if (signal.trend !== undefined) return trendSignals(context, signal.trend);
  if (signal.probe !== undefined) return probeSignals(context, signal.probe);
  if (signal.errorRate !== undefined) return errorRateSignals(context, signal.errorRate);
  if (signal.metric !== undefined) return metricSignals(context, signal.metric);
  if (signal.promql !== undefined) return promqlSignals(context, signal.promql);
  if (signal.log !== undefined) return logSignals(context, signal.log);
  if (signal.hint !== undefined) return hintSignals(context, signal.hint);
  if (signal.podState !== undefined) return podStateSignals(context, signal.podState);
  if (signal.nodeCondition !== undefined) return nodeConditionSignals(context, signal.nodeCondition);
  if (signal.rollout !== undefined) return rolloutSignals(context, signal.rollout);
  if (signal.event !== undefined) return eventSignals(context, signal.event, signalOf);
  if (signal.resource !== undefined) return resourceSignals(context, signal.resource, signalOf);
  return signal.alert === undefined ? [] : alertSignals(context, signal.alert, alerts);
}

/** Of two alerts for one condition on one target: what fires outranks what is over, then the newer. */
function outranks(a: Signal, b: Signal): boolean {
  return a.state === b.state ? a.seenAt > b.seenAt : a.state === "Firing";
}

/** Identity of a condition on a target: the same for as long as policy, signal and target are the same. */
export function fingerprintOf(policy: RemediationPolicy, signalName: string, target: TargetRef): string {
  const owner = policy.metadata.uid ?? `${policy.metadata.namespace}/${policy.metadata.name}`;
  return `${owner}/${signalName}/${targetKey(target)}${target.uid === undefined ? "" : `#${target.uid}`}`;
}

export function signalOf(
  context: Context,
  condition: SignalCondition,
  target: TargetRef,
  what: Pick<Signal, "source" | "startsAt" | "seenAt" | "confidence" | "evidence"> &
    Partial<Pick<Signal, "state" | "receivedAt" | "cause" | "missing">>,
): Signal {
  return {
    name: context.signal.name,
    condition,
    state: "Firing",
    target,
    receivedAt: context.now,
    fingerprint: fingerprintOf(context.policy, context.signal.name, target),
    cause: condition === "podState" ? "Unresponsive" : CAUSE_OF[condition],
    ...what,
  };
}

/** Where the platform's own measurements come in: on one machine workloads are of kind `Workload`. */
function platformSource(workload: Workload): "HostProbe" | "Kubernetes" {
  return workload.ref.kind === "Workload" ? "HostProbe" : "Kubernetes";
}

/** A replica that a symptom can be expected of: it runs, and it was ready once. */
const established = (replica: Replica): boolean => replica.phase === "Running" && replica.everReady;

function trendSignals(context: Context, condition: NonNullable<PolicySignal["trend"]>): Signal[] {
  const { now, workload, missing } = context;
  const found: Signal[] = [];
  for (const replica of context.replicas) {
    if (!established(replica)) continue;
    const since = Math.max(now - durationMs(condition.window), replica.startedAt + STARTUP_MS);
    if (since >= now) continue;
    const readings = readingsOf(context.telemetry, replica, condition.metric, since, now);
    if (readings.missing !== undefined) {
      missing.push(readings.missing);
      continue;
    }
    const limit = condition.limit === undefined ? replica.memory?.limitBytes : quantityBytes(condition.limit);
    if (limit === undefined) {
      missing.push(`no memory limit of ${replica.ref.name}, and the signal ${context.signal.name} names none`);
      continue;
    }
    const trend = analyseTrend(readings.samples, { limit, now, minConfidence: condition.minConfidence });
    // No further ahead than growth has been seen: the first tooth of a collector, a warm-up and a cache that fills are lines
    // too while they last. Measured over simulated lives of healthy processes, evaluated every 20 s for two hours: with this
    // bound 1 in 30 ever fires, without it 1 in 3; leaks are found with 40% of the time to their limit left.
    const horizon = Math.min(durationMs(condition.horizon) / 1000, trend.spanSeconds ?? 0);
    if (!trend.leaking || trend.secondsToLimit === undefined || trend.secondsToLimit > horizon) continue;
    const newest = readings.newest ?? { t: now, v: 0 };
    found.push(
      signalOf(context, "trend", replica.ref, {
        source: condition.metric === "memory" ? platformSource(workload) : "OpenTelemetry",
        startsAt: newest.t - 1000 * (trend.spanSeconds ?? 0),
        seenAt: newest.t,
        confidence: trend.confidence,
        evidence: [
          {
            kind: "Trend",
            message: `${condition.metric} of ${replica.ref.name}: ${trend.reason}`,
            values: {
              metric: condition.metric,
              replica: replica.ref.name,
              slopePerSecond: trend.slopePerSecond,
              secondsToLimit: trend.secondsToLimit,
              confidence: trend.confidence,
              spanSeconds: trend.spanSeconds ?? 0,
              bytes: newest.v,
              limitBytes: limit,
            },
          },
        ],
      }),
    );
  }
  return found;
}

function probeSignals(context: Context, condition: NonNullable<PolicySignal["probe"]>): Signal[] {
  const { now } = context;
  const found: Signal[] = [];
  for (const replica of context.replicas) {
    if (!established(replica) || replica.ready || replica.unreadySince === undefined) continue;
    const failing = now - replica.unreadySince;
    if (failing < durationMs(condition.failingFor)) continue;
    found.push(
      signalOf(context, "probe", replica.ref, {
        source: platformSource(context.workload),
        startsAt: replica.unreadySince,
        seenAt: now,
        confidence: 1,
        evidence: [
          {
            kind: "Probe",
            message: `${replica.ref.name} has failed its readiness probe for ${seconds(failing / 1000)}`,
            values: { replica: replica.ref.name, failingForSeconds: failing / 1000, unreadySince: replica.unreadySince },
          },
        ],
      }),
    );
  }
  return found;
}

function errorRateSignals(context: Context, condition: NonNullable<PolicySignal["errorRate"]>): Signal[] {
  const { now, workload, telemetry, missing } = context;
  // Requests are counted by workload: a policy for single pods has no say in them.
  if (!context.whole) return [];
  const span = Math.max(durationMs(condition.for), MIN_RATE_SPAN_MS);
  const since = now - span;
  const all = telemetry.requests(workload.ref, since);
  if (all === undefined) {
    missing.push(`nothing was heard of requests to ${workload.ref.name} in the last ${seconds(span / 1000)}`);
    return [];
  }
  const above = percentShare(condition.above);
  if (all.total < condition.minRequests || all.failed / all.total <= above) return [];
  // Without a break: every part of the span must show it, so that one burst at either end is no error rate.
  const parts = span >= 15_000 ? 3 : 2;
  let rest: Pick<RequestStats, "total" | "failed"> = all;
  for (let part = 1; part <= parts; part++) {
    const later =
      part === parts
        ? { total: 0, failed: 0 }
        : (telemetry.requests(workload.ref, since + (part * span) / parts) ?? { total: 0, failed: 0 });
    const total = rest.total - later.total;
    if (total <= 0 || (rest.failed - later.failed) / total <= above) return [];
    rest = later;
  }
  const share = all.failed / all.total;
  const stepMs = Math.round(span / parts);
  return [
    signalOf(context, "errorRate", workload.ref, {
      source: workload.ref.kind === "Workload" ? "HostProbe" : "OpenTelemetry",
      startsAt: errorsBegan(telemetry.requestSeries(workload.ref, 0, stepMs), since, stepMs, above),
      seenAt: all.seenAt,
      // One-sided normal approximation of the binomial: that the true share lies above the threshold.
      confidence: normalCdf((share - above) / Math.sqrt(Math.max(above * (1 - above), 1e-6) / all.total)),
      evidence: [
        {
          kind: "ErrorRate",
          message: `${all.failed} of ${all.total} requests to ${workload.ref.name} failed in ${seconds(span / 1000)}: ${percentText(share)}, above ${condition.above}`,
          values: {
            workload: workload.ref.name,
            failed: all.failed,
            total: all.total,
            errorRate: share,
            above,
            spanSeconds: span / 1000,
            ...tracesOf(context, FAILED_REQUESTS, context.replicas, since),
          },
        },
      ],
    }),
  ];
}

/**
 * When an error rate began to be above a share, as far back as requests are kept (ms): the same at every look, as spans of `stepMs` begin at the
 * same times. `since`: from when on it is known to be.
 */
function errorsBegan(points: readonly CallPoint[], since: number, stepMs: number, above: number): number {
  const ill = new Set(points.filter(({ requests, failed }) => requests > 0 && failed / requests > above).map(({ t }) => t));
  // It began in the midst of the first span, which need not show it.
  let began = Math.ceil(since / stepMs) * stepMs;
  while (ill.has(began - stepMs)) began -= stepMs;
  return began;
}

function metricSignals(context: Context, condition: NonNullable<PolicySignal["metric"]>): Signal[] {
  const { now, missing } = context;
  const span = durationMs(condition.for);
  const threshold = condition.above ?? condition.below ?? NaN;
  const beyond = (v: number): boolean => (condition.above === undefined ? v < threshold : v > threshold);
  const found: Signal[] = [];
  for (const replica of context.replicas) {
    if (!established(replica)) continue;
    const readings = readingsOf(context.telemetry, replica, condition.name, replica.startedAt, now);
    if (readings.missing !== undefined) {
      missing.push(readings.missing);
      continue;
    }
    const { samples, newest } = readings;
    const longest = longestGapOf(samples);
    let run = 0;
    // What was between two readings that are far apart is not known.
    const isNext = ({ t, v }: Sample): boolean => beyond(v) && (samples.at(-run)?.t ?? t) - t <= longest;
    for (let next = samples.at(-1); next !== undefined && (run === 0 ? beyond(next.v) : isNext(next)); next = samples.at(-1 - run)) run++;
    const first = run === 0 ? undefined : samples.at(-run);
    if (first === undefined || newest === undefined) continue;
    if (run < 2 || newest.t - first.t < span) {
      // Neither ill nor well: what has started again and is as it was is not healed, only not ill for long enough yet.
      const before = samples.at(-1 - run);
      if (before === undefined || beyond(before.v)) {
        const known = `${condition.name} of ${replica.ref.name} is known for ${seconds((newest.t - first.t) / 1000)} without a break`;
        missing.push(`${known}, all of it beyond the threshold of signal ${context.signal.name}, which takes ${seconds(span / 1000)}`);
      }
      continue;
    }
    found.push(
      signalOf(context, "metric", replica.ref, {
        source: condition.name === "memory" ? platformSource(context.workload) : "OpenTelemetry",
        startsAt: first.t,
        seenAt: newest.t,
        confidence: 1,
        evidence: [
          {
            kind: "Metric",
            message: `${condition.name} of ${replica.ref.name} is ${newest.v}, ${condition.above === undefined ? "below" : "above"} ${threshold} for ${seconds((newest.t - first.t) / 1000)} (${run} readings)`,
            values: {
              metric: condition.name,
              replica: replica.ref.name,
              value: newest.v,
              threshold,
              readings: run,
              forSeconds: (newest.t - first.t) / 1000,
              ...tracesOf(context, condition.name, [replica], first.t),
            },
          },
        ],
      }),
    );
  }
  return found;
}

/** The newest traces that replicas gave as examples of a metric, for people to look at; nothing is decided by them. */
function tracesOf({ telemetry }: Context, metric: string, replicas: readonly Replica[], since: number): { readonly traceIds?: string } {
  const ids = replicas.flatMap((replica) => telemetry.traces?.(replica.ref.uid, metric, since) ?? []).slice(0, MAX_TRACES);
  return ids.length === 0 ? {} : { traceIds: ids.join(",") };
}

/** How long a state of a pod must last, where its signal says nothing (ms). */
const STATE_FOR_MS = 60_000;
/** How long ago a container was ended for its memory, at most, where its signal says nothing (ms). */
const KILLED_WITHIN_MS = 600_000;

function podStateSignals(context: Context, condition: NonNullable<PolicySignal["podState"]>): Signal[] {
  const { now, workload } = context;
  const { state, minRestarts, reason, container } = condition;
  const span = condition.for === undefined ? STATE_FOR_MS : durationMs(condition.for);
  const within = condition.within === undefined ? KILLED_WITHIN_MS : durationMs(condition.within);
  const found: Signal[] = [];
  // The containers of a pod that a finalizer holds have ended.
  const all = workload.replicas.filter((replica) => context.whole || covers(context.policy, workload, replica));
  for (const replica of state === "Terminating" ? all : context.replicas) {
    if (replica.restarts < minRestarts) continue;
    const lasts = (since: number): boolean => (state === "OOMKilled" ? now - since <= within : now - since >= span);
    const seen = replica.states?.find(
      (each) =>
        each.state === state &&
        lasts(each.since) &&
        !(each.until !== undefined && now >= each.until) &&
        (reason === undefined || each.reason === reason) &&
        (container === undefined || each.container === container),
    );
    if (seen === undefined) continue;
    const lastsMs = Math.max(0, now - seen.since);
    const of = seen.container === undefined ? "" : `container ${seen.container} of `;
    const when = state === "OOMKilled" ? `${seconds(lastsMs / 1000)} ago` : `for ${seconds(lastsMs / 1000)}`;
    const what = seen.reason === undefined || seen.reason === state ? state : `${state} (${seen.reason})`;
    const times = replica.restarts === 0 ? "" : `, started again ${replica.restarts === 1 ? "once" : `${replica.restarts} times`}`;
    found.push(
      signalOf(context, "podState", replica.ref, {
        source: "Kubernetes",
        cause: CAUSE_OF_STATE[state],
        startsAt: seen.since,
        seenAt: now,
        confidence: 1,
        evidence: [
          {
            kind: "PodState",
            message: `${of}${replica.ref.name} is ${what} ${when}${times}${seen.message === "" ? "" : `: ${seen.message.slice(0, MAX_MESSAGE)}`}`,
            values: {
              replica: replica.ref.name,
              state,
              since: seen.since,
              restarts: replica.restarts,
              ...(seen.container === undefined ? {} : { container: seen.container }),
              ...(seen.reason === undefined ? {} : { reason: seen.reason }),
            },
          },
        ],
      }),
    );
  }
  return found;
}

/** Most that is kept of what the cluster says about a state: an image's name and a registry's answer can be long. */
const MAX_MESSAGE = 512;

function nodeConditionSignals(context: Context, condition: NonNullable<PolicySignal["nodeCondition"]>): Signal[] {
  const { now, missing } = context;
  const notReady = condition.type === "NotReady";
  const type = notReady ? "Ready" : condition.type;
  const found: Signal[] = [];
  for (const replica of context.replicas) {
    const seen = replica.conditions?.find((each) => each.type === type);
    if (seen === undefined || (!notReady && seen.status === "Unknown")) {
      missing.push(`the condition ${type} of node ${replica.ref.name} is ${seen === undefined ? "not there" : "Unknown"}`);
      continue;
    }
    const holds = notReady ? seen.status !== "True" : seen.status === condition.status;
    const lasts = now - seen.since;
    // A node that was never ready joins.
    if (!holds || lasts < durationMs(condition.for) || (notReady && !replica.everReady)) continue;
    found.push(
      signalOf(context, "nodeCondition", replica.ref, {
        source: "Kubernetes",
        startsAt: seen.since,
        seenAt: now,
        confidence: 1,
        evidence: [
          {
            kind: "NodeCondition",
            message: `${type} of node ${replica.ref.name} is ${seen.status} for ${seconds(lasts / 1000)}${seen.message === "" ? "" : `: ${seen.message.slice(0, MAX_MESSAGE)}`}`,
            values: { node: replica.ref.name, type, status: seen.status, since: seen.since },
          },
        ],
      }),
    );
  }
  return found;
}

function rolloutSignals(context: Context, condition: NonNullable<PolicySignal["rollout"]>): Signal[] {
  const { now, workload } = context;
  const { rollout } = workload;
  if (!context.whole || rollout === undefined) return [];
  const stuckAt = rollout.deadline ?? rollout.progressAt + durationMs(condition.stuckFor);
  if (now < stuckAt) return [];
  return [
    signalOf(context, "rollout", workload.ref, {
      source: "Kubernetes",
      startsAt: stuckAt,
      seenAt: now,
      confidence: 1,
      evidence: [
        {
          kind: "Rollout",
          message: `the rollout of ${workload.ref.name} makes no progress for ${seconds((now - rollout.progressAt) / 1000)}: ${rollout.message.slice(0, MAX_MESSAGE)}`,
          values: { workload: workload.ref.name, progressAt: rollout.progressAt, stuckAt, replicas: workload.replicas.length },
        },
      ],
    }),
  ];
}

function promqlSignals(context: Context, condition: NonNullable<PolicySignal["promql"]>): Signal[] {
  const { missing, telemetry, signal } = context;
  const span = durationMs(condition.for);
  const answer = telemetry.promql?.({ query: condition.query, rangeMs: span, everyMs: durationMs(condition.every) });
  if (answer === undefined || "problem" in answer) {
    const unasked = telemetry.promql === undefined ? "no Prometheus is configured" : "it was not answered yet";
    missing.push(`the query of signal ${signal.name} is without an answer: ${answer?.problem ?? unasked}`);
    return [];
  }
  const { above, below } = condition;
  const beyond = (v: number): boolean => (above === undefined ? v < (below ?? NaN) : v > above);
  const newest = answer.steps.at(-1) ?? 0;
  const found = new Map<string, Signal>();
  const told = new Set<string>();
  for (const { labels, samples: all } of answer.rows) {
    const target = targetOf(labels, context);
    // A row of a replica that is gone is what Prometheus still remembers of it.
    if (target === undefined || !isThere(target, context.workload)) continue;
    // What was before it is of another that had its name, as of a StatefulSet.
    const madeAt = madeAtOf(target, context.workload);
    const samples = all.filter(({ t }) => t >= madeAt);
    const last = samples.at(-1);
    if (last?.t !== newest) continue;
    told.add(targetKey(target));
    if (!samples.every(({ v }) => beyond(v))) continue;
    if (samples.length < answer.steps.length) {
      const whole = `the ${answer.steps.length} readings of ${target.name} that ${seconds(span / 1000)} take`;
      missing.push(`the query of signal ${signal.name} has only ${samples.length} of ${whole}, all of them beyond its threshold`);
      continue;
    }
    const side = above === undefined ? `below ${below ?? ""}` : `above ${above}`;
    const values = {
      query: condition.query,
      value: last.v,
      threshold: above ?? below ?? 0,
      readings: samples.length,
      forSeconds: span / 1000,
    };
    found.set(
      targetKey(target),
      signalOf(context, "promql", target, {
        source: "Prometheus",
        startsAt: answer.steps[0] ?? newest,
        seenAt: newest,
        confidence: 1,
        evidence: [
          {
            kind: "Metric",
            message: `${condition.query} is ${last.v} for ${target.name}, ${side} for ${seconds(span / 1000)} (${samples.length} readings)`,
            values,
          },
        ],
      }),
    );
  }
  const { ref } = context.workload;
  if (told.has(targetKey(ref))) return [...found.values()];
  const untold = context.replicas.filter((replica) => established(replica) && !told.has(targetKey(replica.ref)));
  if (told.size === 0) missing.push(`the query of signal ${signal.name} has no row for ${ref.name}`);
  else for (const replica of untold) missing.push(`the query of signal ${signal.name} has no row for ${replica.ref.name}`);
  return [...found.values()];
}

/** When a replica was made (ms): nothing before that is about it. A workload has no such time. */
function madeAtOf(target: TargetRef, workload: Workload): number {
  const replica = workload.replicas.find(({ ref }) => ref === target);
  return replica === undefined ? -Infinity : (replica.createdAt ?? replica.startedAt);
}

/** Whether a target is the workload, or a replica of it that there is. */
function isThere(target: TargetRef, workload: Workload): boolean {
  return target === workload.ref || workload.replicas.some((replica) => replica.ref === target && replica.phase !== "Exited");
}

/** What replicas log. A replica that was not heard to log anything is missing data, and so is a time before it was counted. */
function logSignals(context: Context, condition: NonNullable<PolicySignal["log"]>): Signal[] {
  const { now, telemetry, missing, signal } = context;
  const { severity, body, attributes, above } = condition;
  const window = durationMs(condition.window);
  const found: Signal[] = [];
  for (const replica of context.replicas) {
    if (!established(replica)) continue;
    const { name, uid } = replica.ref;
    const counted = telemetry.logs?.(uid, { severity: LOG_SEVERITIES[severity], body, attributes }, now - window);
    if (counted === undefined) {
      missing.push(
        `the logs of ${name} are not counted for ${signal.name}: there are too many such signals, or logs are not taken in here`,
      );
      continue;
    }
    const { total, first, last, heardAt, countedSince, traceIds } = counted;
    if (total > above && first !== undefined && last !== undefined) {
      const what = `${severity}${body === undefined ? "" : ` with /${body}/`}`;
      found.push(
        signalOf(context, "log", replica.ref, {
          source: "OpenTelemetry",
          startsAt: first,
          seenAt: last,
          confidence: 1,
          evidence: [
            {
              kind: "Log",
              message: `${name} logged ${total} records of ${what} in ${seconds(window / 1000)}, more than ${above}`,
              values: {
                replica: name,
                severity,
                ...(body === undefined ? {} : { body }),
                count: total,
                above,
                windowSeconds: window / 1000,
                ...(traceIds.length === 0 ? {} : { traceIds: traceIds.join(",") }),
              },
            },
          ],
        }),
      );
    } else if (heardAt === undefined) missing.push(`no log record of ${name} has come over OTLP`);
    // Whoever hangs logs no errors either.
    else if (heardAt <= now - window) missing.push(`no log record of ${name} has come for ${seconds((now - heardAt) / 1000)}`);
    else if (countedSince > now - window && replica.startedAt < countedSince)
      missing.push(`the logs of ${name} have been counted for ${seconds((now - countedSince) / 1000)} only`);
  }
  return found;
}

type HintCondition = NonNullable<PolicySignal["hint"]>;

function wishOf(policy: RemediationPolicy, { action, saturationType, activeFor, bareValue }: HintCondition): HintWish {
  return { action, saturationType, activeForMs: durationMs(activeFor), bareValue, maxAgeMs: durationMs(policy.spec.maxSignalAge) };
}

/** The newest hint of a replica that asks for what is wished, and the newest that may. */
function newestHints(
  hints: readonly Hint[],
  wish: HintWish,
  now: number,
): { readonly asks: Hint | undefined; readonly unclear: { readonly hint: Hint; readonly why: string } | undefined } {
  let asks: Hint | undefined;
  let unclear: { readonly hint: Hint; readonly why: string } | undefined;
  for (const hint of hints) {
    const verdict = judgeHint(hint, wish, now);
    if (verdict.state === "Asks" && (asks === undefined || hint.t > asks.t)) asks = hint;
    if (verdict.state === "Unclear" && (unclear === undefined || hint.t > unclear.hint.t)) unclear = { hint, why: verdict.why };
  }
  return { asks, unclear };
}

const unclearText = (replica: Replica, why: string): string => `a hint of ${replica.ref.name} is not clear: ${why}`;

/**
 * Why a hint of a replica could not be understood, also when it is over, for as long as a fault may last before a person is
 * asked (`escalation.blockedFor`); undefined where there was none.
 */
export function unclearHint(
  policy: RemediationPolicy,
  condition: HintCondition,
  replica: Replica,
  telemetry: Telemetry,
  now: number,
): string | undefined {
  const wish = wishOf(policy, condition);
  for (const hint of telemetry.hints?.(replica.ref.uid) ?? []) {
    // As it was judged when it came.
    const verdict = judgeHint(hint, wish, hint.receivedAt);
    const remembered = wish.activeForMs + durationMs(policy.spec.escalation.blockedFor);
    // A moment more, so that who waits for so long finds it still there.
    if (verdict.state === "Unclear" && now - hint.receivedAt <= remembered + REMEMBERED_MS) return unclearText(replica, verdict.why);
  }
  return undefined;
}

/**
 * What replicas ask for themselves. A hint is about its sender alone: nothing else in it names a target. It is the first signal's of the
 * policy that it asks for what that wants.
 */
function hintSignals(context: Context, condition: HintCondition): Signal[] {
  const { now, telemetry, missing, policy } = context;
  const wish = wishOf(policy, condition);
  const found: Signal[] = [];
  for (const replica of context.replicas) {
    const hints = (telemetry.hints?.(replica.ref.uid) ?? []).filter((each) => !context.takenHints.has(each));
    const { asks, unclear } = newestHints(hints, wish, now);
    const hint = asks ?? unclear?.hint;
    if (hint === undefined) continue;
    const open = asks === undefined && unclear !== undefined ? unclearText(replica, unclear.why) : undefined;
    if (open !== undefined) missing.push(open);
    const of = hint.saturationType === undefined ? "" : ` for its ${hint.saturationType}`;
    const what = open === undefined ? `asks for ${condition.action}${of}` : `sent a hint that may ask for ${condition.action}`;
    const signal = signalOf(context, "hint", replica.ref, {
      source: "OpenTelemetry",
      startsAt: hint.t,
      seenAt: hint.t,
      receivedAt: hint.receivedAt,
      confidence: 1,
      evidence: [
        {
          kind: "Hint",
          message: `${replica.ref.name} ${what}`,
          values: {
            replica: replica.ref.name,
            ...(hint.action === undefined ? {} : { action: hint.action }),
            ...(hint.saturationType === undefined ? {} : { saturationType: hint.saturationType }),
            added: hint.added,
            temporality: hint.delta ? "Delta" : "Cumulative",
            ...(hint.traceIds.length === 0 ? {} : { traceIds: hint.traceIds.join(",") }),
          },
        },
      ],
      ...(open === undefined ? {} : { missing: [open] }),
    });
    if (asks !== undefined) context.hintOf.set(signal, asks);
    found.push(signal);
  }
  return found;
}

function alertSignals(context: Context, condition: NonNullable<PolicySignal["alert"]>, alerts: readonly Alert[]): Signal[] {
  const found: Signal[] = [];
  for (const alert of alerts) {
    if (alert.alertname !== condition.alertname) continue;
    if (!Object.entries(condition.matchLabels).every(([key, value]) => label(alert.labels, key) === value)) continue;
    const target = targetOf(alert.labels, context);
    if (target === undefined) continue;
    const { status, suppressed, expired } = alert;
    const verb =
      status === "firing"
        ? suppressed === true
          ? "is silenced or inhibited"
          : "fires"
        : expired === true
          ? "is not repeated any more"
          : "is resolved";
    const evidence: Evidence = {
      kind: "Alert",
      message: `alert ${alert.alertname} ${verb} for ${target.name}${alert.annotations["summary"] === undefined ? "" : `: ${alert.annotations["summary"]}`}`,
      values: { alertname: alert.alertname, fingerprint: alert.fingerprint, status: alert.status, startsAt: alert.startsAt },
    };
    const into = (status === "firing" ? suppressed : expired) === true ? context.undecided : found;
    const madeAt = madeAtOf(target, context.workload);
    const mayBeOfAnother =
      alert.startsAt < madeAt && context.now < madeAt + SUCCESSOR_MS && !Object.values(alert.labels).includes(target.uid ?? "");
    into.push(
      signalOf(context, "alert", target, {
        source: "Alertmanager",
        state: alert.status === "firing" ? "Firing" : "Resolved",
        startsAt: alert.startsAt,
        seenAt: alert.receivedAt,
        receivedAt: alert.receivedAt,
        confidence: 1,
        evidence: [evidence],
        ...(mayBeOfAnother
          ? { missing: [`the alert of ${context.signal.name} began before ${target.name} was made: it may be about the one before it`] }
          : {}),
      }),
    );
  }
  return found;
}

type Labels = Readonly<Record<string, string>>;
const label = (labels: Labels, key: string): string | undefined => (Object.hasOwn(labels, key) ? labels[key] : undefined);

/**
 * The labels of what a series tells of. Where an exporter such as kube-state-metrics tells of others and `honor_labels` is off, `exported_pod`
 * is the pod that it tells of, and `pod` its own.
 */
function ownLabels(labels: Labels): Labels {
  if (TELLS_OF_OTHERS.every((key) => label(labels, key) === undefined)) return labels;
  const entries = Object.entries(labels);
  const own = entries.filter(([key]) => !SCRAPE_LABELS.has(key));
  const told = entries.filter(([key]) => key.startsWith(EXPORTED)).map(([key, value]) => [key.slice(EXPORTED.length), value] as const);
  return Object.fromEntries([...own, ...told]);
}

/** What of this workload an alert or a row is about, by its labels; undefined where it names nothing of it, or may mean another's. */
function targetOf(all: Labels, context: Context): TargetRef | undefined {
  const labels = ownLabels(all);
  const target = namedBy(labels, context);
  if (target === undefined || label(labels, "namespace") !== undefined) return target;
  if (target.uid !== undefined && Object.values(labels).includes(target.uid)) return target;
  if (context.surroundings?.hasNamesake?.(target) !== true) return target;
  context.missing.push(
    `what signal ${context.signal.name} has of ${target.name} names no namespace, and another has a ${target.name}, too: keep the label namespace`,
  );
  return undefined;
}

function namedBy(labels: Labels, context: Context): TargetRef | undefined {
  const { workload } = context;
  const namespace = label(labels, "namespace");
  if (namespace !== undefined && namespace !== workload.ref.namespace) return undefined;
  for (const key of REPLICA_LABELS) {
    const value = label(labels, key);
    if (value === undefined) continue;
    const replica = workload.replicas.find((r) => r.ref.name === value || r.ref.uid === value);
    if (replica !== undefined) return context.whole || covers(context.policy, workload, replica) ? replica.ref : undefined;
  }
  if (!context.whole || !WORKLOAD_LABELS.some((key) => label(labels, key) === workload.ref.name)) return undefined;
  // What names another kind is about that, whatever else has the name.
  const own = KIND_LABELS.get(workload.ref.kind);
  const others = [...KIND_LABELS.values()].some((key) => key !== own && label(labels, key) !== undefined);
  if (workload.ref.kind !== "Workload" && others && (own === undefined || label(labels, own) !== workload.ref.name)) return undefined;
  for (const key of REPLICA_LABELS) {
    const value = label(labels, key);
    // It names a replica of this workload that is not there: the diagnosis will say so. It is never widened to the others.
    if (value !== undefined && STRICT_REPLICA_LABELS.has(key))
      return { kind: workload.replicas[0]?.ref.kind ?? "Pod", namespace: workload.ref.namespace, name: value };
  }
  return workload.ref;
}
