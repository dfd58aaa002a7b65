import { API_VERSION } from "../../src/api/meta.ts";

const target = { kind: "Pod", namespace: "default", name: "payments-7c9f", uid: "u1" };

/** A Remediation as it is created: without a status, and without what has a default. */
export function remediation(name = "payments-leak-4c1f"): {
  readonly apiVersion: string;
  readonly kind: "Remediation";
  readonly metadata: object;
  readonly spec: Readonly<Record<string, unknown>>;
} {
  return {
    apiVersion: API_VERSION,
    kind: "Remediation",
    metadata: { name, namespace: "default" },
    spec: {
      policy: { name: "payments-leak", uid: "u2", generation: 1 },
      mode: "Enforce",
      signal: {
        name: "memory-leak",
        condition: "trend",
        source: "Kubernetes",
        startsAt: "2026-11-02T03:14:00Z",
        receivedAt: "2026-11-02T03:14:00.250Z",
        fingerprint: "f",
      },
      signalTarget: target,
      remediationTarget: target,
      workload: { kind: "Deployment", namespace: "default", name: "payments" },
      diagnosis: {
        cause: "MemoryLeak",
        rootCauseKey: "k",
        confidence: 0.97,
        summary: "it leaks",
        evidence: [{ kind: "Trend", message: "grows", values: { slope: 1.5, unit: "MB/s", certain: true } }],
      },
      ladder: [{ strategy: "RestartPod", captures: [{ type: "HeapSnapshot" }] }],
      startedAt: "2026-11-02T03:14:01Z",
    },
  };
}
