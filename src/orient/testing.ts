/** What the tests of this room build on: a world of workloads and telemetry at a time that the test sets. */
import { remediationPolicySchema, type RemediationPolicy } from "../api/policy.ts";
import { serviceDependencySchema, type ServiceDependency } from "../api/dependency.ts";
import { API_VERSION } from "../api/meta.ts";
import type { Alert } from "../api/signal.ts";
import { TelemetryStore } from "../observe/store.ts";
import type { Replica, Workload } from "../ports/platform.ts";

export const NOW = 1_700_000_000_000;

/** The real telemetry store, at the time `NOW`. */
export function telemetryAt(now = NOW): TelemetryStore {
  return new TelemetryStore({ now: () => now, monotonic: () => now, after: () => () => undefined });
}

export function replica(owner: string, name: string, more: Partial<Replica> = {}): Replica {
  return {
    ref: { kind: "Process", namespace: "default", name, uid: `uid-${name}` },
    workload: { kind: "Workload", namespace: "default", name: owner },
    phase: "Running",
    ready: true,
    everReady: true,
    inTraffic: true,
    startedAt: NOW - 7_200_000,
    restarts: 0,
    memory: { bytes: 1e8, limitBytes: 512 * 2 ** 20 },
    labels: {},
    annotations: {},
    ...more,
  };
}

export function workload(
  name: string,
  replicas: readonly Replica[] = [1, 2, 3].map((i) => replica(name, `${name}-${i}`)),
  more: Partial<Workload> = {},
): Workload {
  return {
    ref: { kind: "Workload", namespace: "default", name, uid: `uid-${name}` },
    desired: replicas.length,
    replicas,
    labels: { app: name },
    annotations: {},
    enclosing: [],
    ...more,
  };
}

/** A policy for `payments`, with the given signals and ladder. */
export function policy(
  signals: readonly object[],
  more: { ladder?: readonly object[]; targets?: readonly object[] } = {},
): RemediationPolicy {
  return remediationPolicySchema.parse({
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name: "heal", uid: "policy-uid" },
    spec: { targets: more.targets ?? [{ name: "payments" }], signals, ladder: more.ladder ?? [{ strategy: "RestartPod" }] },
  });
}

export function dependency(from: string, to: string, more: object = {}): ServiceDependency {
  return serviceDependencySchema.parse({
    apiVersion: API_VERSION,
    kind: "ServiceDependency",
    metadata: { name: `${from}-${to}` },
    spec: { from: { name: from }, to: { name: to }, ...more },
  });
}

export function alert(labels: Record<string, string>, more: Partial<Alert> = {}): Alert {
  return {
    status: "firing",
    alertname: "TooHot",
    labels: { alertname: "TooHot", ...labels },
    annotations: {},
    startsAt: NOW - 60_000,
    endsAt: undefined,
    fingerprint: JSON.stringify(labels),
    receivedAt: NOW - 1_000,
    ...more,
  };
}

/** Records readings of a metric, one every `step` seconds over the last `span` seconds, the newest `age` seconds old. */
export function record(
  telemetry: TelemetryStore,
  uid: string,
  metric: string,
  f: (t: number) => number,
  { span = 600, step = 5, age = 0 }: { span?: number; step?: number; age?: number } = {},
): void {
  for (let t = 0; t <= span; t += step) telemetry.recordReplica(uid, metric, "", { t: NOW - (age + span - t) * 1000, v: f(t) });
}

/** Records `perSecond` requests a second over the last `span` seconds, of which the share `failing(age in seconds)` fails. */
export function requests(
  telemetry: TelemetryStore,
  name: string,
  failing: (age: number) => number,
  { span = 60, perSecond = 10, age = 0 } = {},
): void {
  for (let s = span; s > 0; s--)
    telemetry.recordRequests({ kind: "Workload", namespace: "default", name }, "Router", {
      t: NOW - (age + s) * 1000 + 500,
      total: perSecond,
      failed: Math.round(perSecond * failing(age + s)),
    });
}
