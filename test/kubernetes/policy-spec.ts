/** What a policy on the alert `Ill` about one workload says, with short times; `spec` overrides. */
export function policySpec(name: string, spec: Record<string, unknown>): Record<string, unknown> {
  return {
    mode: "Enforce",
    targets: [{ name }],
    signals: [{ name: "ill", alert: { alertname: "Ill" } }],
    maxSignalAge: "1h",
    verify: { stableFor: "1s", timeout: "2m" },
    cooldown: "1s",
    budgets: [{ maxUnavailable: 1 }],
    ...spec,
  };
}
