import { sameTarget, targetKey, type TargetRef } from "../api/meta.ts";
import type { RemediationPolicy, Strategy } from "../api/policy.ts";
import type { Cause, Evidence } from "../api/remediation.ts";
import type { Diagnosis, Signal, SignalCondition } from "../api/signal.ts";
import { covers } from "../api/targets.ts";
import { durationMs } from "../api/units.ts";
import type { Change } from "../observe/changes.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import type { Replica, Workload } from "../ports/platform.ts";
import { changeEvidence } from "./changes.ts";
import type { CallGraph } from "./call-graph.ts";
import { detectSignals } from "./detect.ts";
import { unhealthyDependency } from "./graph.ts";
import { causeEvidence, culpritMessage, type LiveCause } from "./live-cause.ts";
import { readingsOf } from "./samples.ts";
import { percentText, rate, seconds } from "./trend.ts";

/** Strategies that act on one replica, and so need to know which. */
const NEEDS_REPLICA: ReadonlySet<Strategy> = new Set(["RestartPod", "EvictPod", "CordonAndDrainNode"]);

/** Signals of something that may not run, and so sends no metrics. */
const STOPS_TELEMETRY: ReadonlySet<SignalCondition> = new Set(["probe", "podState", "nodeCondition", "rollout", "event", "resource"]);
/** Signals that are never another service's fault. */
const OWN_FAULT: ReadonlySet<SignalCondition> = new Set(["trend", "nodeCondition"]);

/** The same for every episode with the same root cause: two ill replicas of one workload are one. */
export function rootCauseKeyOf(cause: Cause, workload: TargetRef): string {
  return `${cause}/${targetKey(workload)}`;
}

/**
 * What is really wrong, and with what; `now` in ms.
 *
 * - The cause is what the signal's condition means, unless a service downstream is unhealthy: then that is the cause, and
 *   `dependency` is set. It is not looked for where the symptom is the replica's own: a leak never is another's fault, and one
 *   unresponsive replica among healthy siblings, which have the same dependencies, is not either.
 * - Unhealthy is first what fails more than its limit (`graph.ts`), and then what the statistics of `search` name before the target
 *   itself. Where the graph knows nothing downstream, or there is too little data to say, nobody else is the cause:
 *   what is not known neither excuses nor blames. `search` answers `Later` where it could not look yet: that is missing.
 * - Where a signal names a workload only, but the ladder begins with an action on one replica, the replica is chosen on
 *   evidence; without evidence `missing` says so.
 * - `missing` also lists a target that is not there, and telemetry that the policy looks at and that has ceased. Signals of a
 *   process that may not run (a probe, what the cluster says of its objects) are exempt from the latter: what hangs or ends
 *   again and again sends no metrics, and that is part of its symptom.
 */
export function diagnose(
  signal: Signal,
  policy: RemediationPolicy,
  workloads: readonly Workload[],
  graph: CallGraph,
  telemetry: Telemetry,
  now: number,
  {
    onset = signal.startsAt,
    search = () => undefined,
    changes = [],
  }: {
    /** When the symptom began (ms). Default: as the signal says. */
    readonly onset?: number;
    /** What was changed of late, oldest first. */
    readonly changes?: readonly Change[];
    readonly search?: (workload: TargetRef) => LiveCause | "Later" | undefined;
  } = {},
): Diagnosis {
  const missing: string[] = [...(signal.missing ?? [])];
  const evidence: Evidence[] = [...signal.evidence];
  const place = locate(signal.target, workloads);
  if (place === undefined) {
    // An alert's replica that is gone leaves its workload unknown: the target stands for itself.
    return {
      signalTarget: signal.target,
      remediationTarget: signal.target,
      workload: signal.target,
      cause: signal.cause,
      rootCauseKey: rootCauseKeyOf(signal.cause, signal.target),
      confidence: signal.confidence,
      summary: `${signal.name} names ${targetKey(signal.target)}, which is not there`,
      evidence,
      missing: [`${targetKey(signal.target)} is not there`],
    };
  }
  const { workload } = place;
  const confidence = signal.confidence;
  let { replica } = place;
  evidence.push(...changeEvidence(changes, workload, graph, onset));

  if (looksDownstream(signal, workload)) {
    const verdict = unhealthyDependency(workload.ref, graph, telemetry, onset, now);
    evidence.push(...verdict.evidence);
    const found = search(workload.ref);
    if (found !== undefined && found !== "Later") evidence.push(...causeEvidence(found));
    if (verdict.cause !== undefined) {
      const culprit = verdict.cause.workload;
      const there = workloads.find((w) => sameTarget(w.ref, culprit));
      // Re-targeted only within what the policy covers; otherwise this target stays, blocked by its dependency.
      const within = there !== undefined && covers(policy, there);
      const message = `${verdict.cause.message}${verdict.cause.path.length > 1 ? `, by way of ${verdict.cause.path.slice(0, -1).join(", ")}` : ""}`;
      return blamed(signal, within ? there.ref : (replica?.ref ?? workload.ref), within ? there.ref : workload.ref, culprit, message, {
        evidence,
        missing,
        summary: describe(signal, replica, workload),
      });
    }
    if (found === "Later") missing.push(`whether something that ${workload.ref.name} depends on is the cause has not been looked at yet`);
    else if (found?.culprit !== undefined) {
      const { ref } = found.culprit;
      // What statistics name may be another in a moment: the target stays.
      return blamed(signal, replica?.ref ?? workload.ref, workload.ref, ref, culpritMessage(found, ref), {
        evidence,
        missing,
        summary: describe(signal, replica, workload),
      });
    }
  }

  if (replica?.phase === "Exited" && signal.cause !== "StuckTerminating") missing.push(`${replica.ref.name} has exited`);
  let chosen = "";
  if (replica === undefined && needsReplica(policy)) {
    const choice = chooseReplica(policy, workload, telemetry, now);
    if (choice === undefined) missing.push(`which replica of ${workload.ref.name} is ill is not known`);
    else {
      replica = choice.replica;
      evidence.push(choice.evidence);
      chosen = `; ${choice.evidence.message}`;
    }
  }
  if (!STOPS_TELEMETRY.has(signal.condition)) missing.push(...vanished(policy, workload, replica, telemetry, now));

  return {
    signalTarget: signal.target,
    remediationTarget: replica?.ref ?? workload.ref,
    workload: workload.ref,
    cause: signal.cause,
    rootCauseKey: rootCauseKeyOf(signal.cause, workload.ref),
    confidence,
    summary: `${describe(signal, place.replica, workload)}${chosen}`,
    evidence,
    missing: [...new Set(missing)],
  };
}

/** What is to be said where another service is the cause. */
function blamed(
  signal: Signal,
  remediationTarget: TargetRef,
  workload: TargetRef,
  culprit: TargetRef,
  message: string,
  { evidence, missing, summary }: Pick<Diagnosis, "evidence" | "missing" | "summary">,
): Diagnosis {
  return {
    signalTarget: signal.target,
    remediationTarget,
    workload,
    cause: "DependencyFailure",
    rootCauseKey: rootCauseKeyOf("DependencyFailure", culprit),
    confidence: signal.confidence,
    summary: `${summary}; the cause is its dependency: ${message}`,
    evidence,
    dependency: { workload: culprit, message },
    missing,
  };
}

/** The workload that a target is, or belongs to. */
function locate(target: TargetRef, workloads: readonly Workload[]): { workload: Workload; replica: Replica | undefined } | undefined {
  for (const workload of workloads) {
    if (sameTarget(workload.ref, target)) return { workload, replica: undefined };
    const replica = workload.replicas.find((r) => sameTarget(r.ref, target));
    if (replica !== undefined) return { workload, replica };
  }
  return undefined;
}

/** Whether another service could be the cause. */
function looksDownstream(signal: Signal, workload: Workload): boolean {
  if (OWN_FAULT.has(signal.condition)) return false;
  // Most of a workload may crash for want of another; an image, a limit and a missing ConfigMap are one's own.
  if (signal.condition === "podState") {
    const crashing = workload.replicas.filter((r) => r.states?.some(({ state }) => state === "CrashLoopBackOff"));
    return signal.cause === "CrashLoop" && crashing.length > workload.replicas.length / 2;
  }
  if (signal.condition !== "probe") return true;
  const running = workload.replicas.filter((r) => r.phase === "Running" && r.everReady);
  return running.length > 1 && running.filter((r) => !r.ready).length > running.length / 2;
}

/** Whether the first rung that does something acts on one replica. Runbooks do: their steps are about a target replica. */
function needsReplica(policy: RemediationPolicy): boolean {
  const first = policy.spec.ladder.find((rung) => rung.strategy !== "Notify");
  return first !== undefined && (first.runbook !== undefined || (first.strategy !== undefined && NEEDS_REPLICA.has(first.strategy)));
}

/**
 * The one replica that evidence singles out: the only one that fails readiness, else the only one that the policy's own
 * signals fire for, else the one with clearly the highest metric. Undefined where evidence does not decide.
 */
function chooseReplica(
  policy: RemediationPolicy,
  workload: Workload,
  telemetry: Telemetry,
  now: number,
): { replica: Replica; evidence: Evidence } | undefined {
  const candidates = workload.replicas.filter((r) => r.phase === "Running" && r.everReady);
  const [only] = candidates;
  if (only !== undefined && candidates.length === 1 && workload.replicas.length === 1)
    return {
      replica: only,
      evidence: { kind: "Probe", message: `${only.ref.name} is the only replica`, values: { replica: only.ref.name } },
    };

  const unready = candidates.filter((r) => !r.ready && r.unreadySince !== undefined);
  const [ill] = unready;
  if (ill !== undefined && unready.length === 1) {
    const failing = (now - (ill.unreadySince ?? now)) / 1000;
    return {
      replica: ill,
      evidence: {
        kind: "Probe",
        message: `${ill.ref.name} alone fails its readiness probe, for ${seconds(failing)}`,
        values: { replica: ill.ref.name, failingForSeconds: failing },
      },
    };
  }
  if (unready.length > 1) return undefined;

  const own = {
    ...policy,
    spec: { ...policy.spec, signals: policy.spec.signals.filter((s) => s.trend !== undefined || s.metric !== undefined) },
  };
  const firing = detectSignals(own, workload, telemetry, [], now).signals;
  const [first] = firing;
  if (first !== undefined && firing.every((s) => sameTarget(s.target, first.target))) {
    const replica = candidates.find((r) => sameTarget(r.ref, first.target));
    const [because] = first.evidence;
    if (replica !== undefined && because !== undefined) return { replica, evidence: because };
  }
  if (firing.length > 0) return undefined;

  for (const { metric, rising } of metricsOf(policy)) {
    const values = candidates.map((replica) => ({ replica, readings: readingsOf(telemetry, replica, metric, now - 60_000, now) }));
    // A replica that is not heard of could be the one: then this metric does not decide.
    if (values.length < 2 || values.some((v) => v.readings.missing !== undefined)) continue;
    const sorted = values
      .map((v) => ({ replica: v.replica, value: v.readings.newest?.v ?? 0 }))
      .sort((a, b) => (rising ? b.value - a.value : a.value - b.value));
    const [top, second] = sorted;
    if (top === undefined || second === undefined || top.value < 0 || second.value < 0) continue;
    if (rising ? top.value > 2 * second.value : 2 * top.value < second.value)
      return {
        replica: top.replica,
        evidence: {
          kind: "Metric",
          message: `${metric} of ${top.replica.ref.name} is ${top.value}, of the next replica ${second.value}`,
          values: { metric, replica: top.replica.ref.name, value: top.value, next: second.value },
        },
      };
  }
  return undefined;
}

/** The metrics that a policy looks at, and whether more of it is worse. */
function metricsOf(policy: RemediationPolicy): { metric: string; rising: boolean }[] {
  return policy.spec.signals.flatMap((s) => {
    if (s.trend !== undefined) return [{ metric: s.trend.metric, rising: true }];
    if (s.metric !== undefined) return [{ metric: s.metric.name, rising: s.metric.above !== undefined }];
    return [];
  });
}

/** Telemetry that the policy looks at and that no longer comes in for what an action would be about. */
function vanished(
  policy: RemediationPolicy,
  workload: Workload,
  replica: Replica | undefined,
  telemetry: Telemetry,
  now: number,
): string[] {
  const missing: string[] = [];
  const of = replica === undefined ? workload.replicas.filter((r) => r.phase === "Running" && r.everReady) : [replica];
  for (const { metric } of metricsOf(policy)) {
    const gone = of.map((r) => readingsOf(telemetry, r, metric, now - 60_000, now).missing).filter((m) => m !== undefined);
    // Of a whole workload some replica must be heard of; of a replica, that one.
    if (gone.length === of.length) missing.push(...gone);
  }
  for (const { errorRate } of policy.spec.signals) {
    if (errorRate === undefined || replica !== undefined) continue;
    const span = Math.max(durationMs(errorRate.for), 30_000);
    if (telemetry.requests(workload.ref, now - span) === undefined)
      missing.push(`nothing was heard of requests to ${workload.ref.name} in the last ${seconds(span / 1000)}`);
  }
  return missing;
}

/** What is wrong, in half a sentence with its numbers. */
function describe(signal: Signal, replica: Replica | undefined, workload: Workload): string {
  const name = replica?.ref.name ?? workload.ref.name;
  const [first] = signal.evidence;
  const values = first?.values ?? {};
  const number = (key: string): number => (typeof values[key] === "number" ? values[key] : NaN);
  if (signal.condition === "trend" && first !== undefined)
    return `${name} leaks: ${rate(number("slopePerSecond"))} over ${seconds(number("spanSeconds"))}, ${percentText(signal.confidence)} confidence, memory limit in ${seconds(number("secondsToLimit"))}`;
  return first?.message ?? `${signal.name} fires for ${name}`;
}
