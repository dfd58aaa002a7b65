import { API_VERSION } from "../../src/api/meta.ts";

/**
 * What has the storm brake hold nothing: for tests and benches in which many are ill at once, each by itself, to see who
 * acts, or how fast.
 */
export const NO_STORMS = {
  apiVersion: API_VERSION,
  kind: "RemediationBudget",
  metadata: { name: "no-storms" },
  spec: { stormBrake: { workload: "100%", node: "100%", zone: "100%", namespace: "100%", cluster: "100%" } },
} as const;
