import { API_VERSION } from "../../src/api/meta.ts";
import type { RemediationApproval } from "../../src/api/approval.ts";
import type { RemediationBudget } from "../../src/api/budget.ts";
import type { ServiceDependency } from "../../src/api/dependency.ts";
import type { Remediation } from "../../src/api/remediation.ts";

/** A small object: a person's yes to `episode`. */
export function approvalObject(name: string, namespace = "default"): RemediationApproval {
  return {
    apiVersion: API_VERSION,
    kind: "RemediationApproval",
    metadata: { name, namespace },
    spec: { remediation: "episode", decision: "Approved", by: "alice", at: "2026-01-01T00:00:00Z" },
  };
}

/** A small object that people edit: `payments` calls `bank`. */
export function dependencyObject(name: string, namespace = "default"): ServiceDependency {
  return {
    apiVersion: API_VERSION,
    kind: "ServiceDependency",
    metadata: { name, namespace },
    spec: { from: { name: "payments" }, to: { name: "bank" }, unhealthyAbove: "10%", window: "30s" },
  };
}

/** An object that belongs to no namespace. */
export function budgetObject(name: string): RemediationBudget {
  return {
    apiVersion: API_VERSION,
    kind: "RemediationBudget",
    metadata: { name, namespace: "default" },
    spec: { budgets: [], maxConcurrent: 1 },
  };
}

/** An episode that has only begun. */
export function remediationObject(name: string, namespace = "default"): Remediation {
  const at = "2026-01-01T00:00:00.000Z";
  const target = { kind: "Process", namespace, name: "payments-1", uid: "u-1" };
  return {
    apiVersion: API_VERSION,
    kind: "Remediation",
    metadata: { name, namespace },
    spec: {
      policy: { name: "leak", uid: "p-1", generation: 1 },
      mode: "Enforce",
      signal: { name: "memory", condition: "trend", source: "HostProbe", startsAt: at, receivedAt: at, fingerprint: "f" },
      signalTarget: target,
      remediationTarget: target,
      workload: { kind: "Workload", namespace, name: "payments" },
      diagnosis: { cause: "MemoryLeak", rootCauseKey: "k", confidence: 0.9, summary: "it leaks", evidence: [] },
      ladder: [{ strategy: "RestartPod", timeout: "5m", captures: [] }],
      startedAt: at,
    },
    status: { revision: 0, phase: "Pending", gates: [], attempts: [], artifacts: [], captures: [], signalsFolded: 0, conditions: [] },
  };
}
