import { remediationApprovalSchema, type RemediationApproval } from "../../src/api/approval.ts";
import { remediationBudgetSchema, type RemediationBudget } from "../../src/api/budget.ts";
import { API_VERSION, targetKey, type TargetRef } from "../../src/api/meta.ts";
import { remediationPolicySchema, type RemediationPolicy } from "../../src/api/policy.ts";
import { remediationSchema, type Attempt, type Remediation } from "../../src/api/remediation.ts";
import { timestamp } from "../../src/api/time.ts";
import type { GateContext } from "../../src/decide/gate.ts";
import type { FailureDomain } from "../../src/orient/failure-domains.ts";
import type { Replica, Workload } from "../../src/ports/platform.ts";

/** Wednesday noon, UTC. */
export const NOW = 1_780_488_000_000;
export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;

export const WORKLOAD: TargetRef & { uid: string } = { kind: "Workload", namespace: "default", name: "payments", uid: "w" };
export const processRef = (i: number): TargetRef & { uid: string } => ({
  kind: "Process",
  namespace: "default",
  name: `payments-${i}`,
  uid: `r${i}`,
});

export function replicaOf(i: number, over: Partial<Replica> = {}): Replica {
  return {
    ref: processRef(i),
    workload: WORKLOAD,
    phase: "Running",
    ready: true,
    everReady: true,
    inTraffic: true,
    startedAt: NOW - HOUR,
    restarts: 0,
    labels: {},
    annotations: {},
    ...over,
  };
}

export function workloadOf(count = 3, over: Partial<Workload> = {}): Workload {
  return {
    ref: WORKLOAD,
    desired: count,
    replicas: Array.from({ length: count }, (_, i) => replicaOf(i)),
    labels: { team: "shop" },
    annotations: {},
    enclosing: [],
    ...over,
  };
}

export function policyOf(spec: Record<string, unknown> = {}): RemediationPolicy {
  return remediationPolicySchema.parse({
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name: "payments" },
    spec: {
      mode: "Enforce",
      targets: [{ name: "payments" }],
      signals: [{ name: "leak", trend: {} }],
      ladder: [{ strategy: "RestartPod" }],
      ...spec,
    },
  });
}

export function budgetOf(spec: Record<string, unknown>, name = "platform"): RemediationBudget {
  return remediationBudgetSchema.parse({ apiVersion: API_VERSION, kind: "RemediationBudget", metadata: { name }, spec });
}

export function approvalOf(spec: Record<string, unknown> = {}, namespace = "default"): RemediationApproval {
  return remediationApprovalSchema.parse({
    apiVersion: API_VERSION,
    kind: "RemediationApproval",
    metadata: { name: "answer", namespace },
    spec: { remediation: "self", decision: "Approved", by: "ada", at: timestamp(NOW), ...spec },
  });
}

export function attemptOf(outcome: Attempt["outcome"], endedAt: number, over: Partial<Attempt> = {}): Attempt {
  return {
    rung: 0,
    what: "RestartPod",
    startedAt: timestamp(endedAt - MINUTE),
    deadline: timestamp(endedAt + MINUTE),
    endedAt: timestamp(endedAt),
    ...(outcome === undefined ? {} : { outcome }),
    steps: [],
    undo: [],
    ...over,
  };
}

export interface EpisodeOptions {
  readonly name?: string;
  readonly namespace?: string;
  readonly policy?: string;
  readonly mode?: "Observe" | "Approve" | "Enforce";
  readonly created?: number;
  readonly target?: TargetRef;
  readonly workload?: TargetRef;
  readonly rootCauseKey?: string;
  readonly status?: Partial<Remediation["status"]>;
}

/** An episode on another replica and another workload, with another cause, unless told otherwise. */
export function episodeOf(options: EpisodeOptions = {}): Remediation {
  const elsewhere = { kind: "Workload", namespace: "default", name: "elsewhere", uid: "x" };
  const created = timestamp(options.created ?? NOW - MINUTE);
  const target = options.target ?? { kind: "Process", namespace: "default", name: "elsewhere-0", uid: "x0" };
  return remediationSchema.parse({
    apiVersion: API_VERSION,
    kind: "Remediation",
    metadata: { name: options.name ?? "other", namespace: options.namespace ?? "default", creationTimestamp: created },
    spec: {
      policy: { name: options.policy ?? "payments", uid: "p", generation: 1 },
      mode: options.mode ?? "Enforce",
      signal: { name: "leak", condition: "trend", source: "HostProbe", startsAt: created, receivedAt: created, fingerprint: "f" },
      signalTarget: target,
      remediationTarget: target,
      workload: options.workload ?? elsewhere,
      diagnosis: { cause: "MemoryLeak", rootCauseKey: options.rootCauseKey ?? "another", confidence: 1, summary: "", evidence: [] },
      ladder: [{ strategy: "RestartPod" }],
      startedAt: created,
    },
    status: { phase: "Executing", ...options.status },
  });
}

/** The episode that `context` is about, as the store has it. */
export const selfEpisode = (options: EpisodeOptions = {}): Remediation =>
  episodeOf({
    name: "self",
    target: processRef(0),
    workload: WORKLOAD,
    rootCauseKey: "leak payments",
    status: { phase: "Pending" },
    ...options,
  });

/** A failure domain of `size`, of which `ill` are ill. */
export function domainOf(kind: FailureDomain["kind"], size: number, ill: number, over: Partial<FailureDomain> = {}): FailureDomain {
  return {
    kind,
    key: kind === "Cluster" ? kind : `${kind}/shop`,
    unit: kind === "Namespace" || kind === "Cluster" ? "workloads" : "replicas",
    size,
    ill: Array.from({ length: ill }, (_, i) => `ill-${i}`),
    workloads: new Set([targetKey(WORKLOAD), "Workload/default/elsewhere"]),
    shared: [],
    ...over,
  };
}

/** A case in which every gate passes: the first of three healthy replicas leaks, and nothing stands against a restart. */
export function contextOf(over: Partial<GateContext> = {}): GateContext {
  const workload = over.workload ?? workloadOf();
  return {
    now: NOW,
    policy: policyOf(),
    signal: {
      name: "leak",
      condition: "trend",
      source: "HostProbe",
      state: "Firing",
      target: processRef(0),
      startsAt: NOW - MINUTE,
      seenAt: NOW - SECOND,
      receivedAt: NOW - SECOND,
      fingerprint: "f",
      cause: "MemoryLeak",
      confidence: 0.99,
      evidence: [],
    },
    diagnosis: {
      signalTarget: processRef(0),
      remediationTarget: processRef(0),
      workload: WORKLOAD,
      cause: "MemoryLeak",
      rootCauseKey: "leak payments",
      confidence: 0.99,
      summary: "payments-0 leaks",
      evidence: [],
      missing: [],
    },
    workload,
    replica: workload.replicas[0],
    self: { namespace: "default", name: "self" },
    remediations: [selfEpisode()],
    budgets: [],
    approvals: [],
    domains: [],
    ...over,
  };
}

/** The same on the workload as a whole. */
export function workloadLevel(over: Partial<GateContext> = {}): GateContext {
  const context = contextOf(over);
  return { ...context, replica: undefined, diagnosis: { ...context.diagnosis, remediationTarget: WORKLOAD } };
}
