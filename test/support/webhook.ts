/** An alert as Alertmanager's webhook (version 4) has it. `endsAt`: when it is resolved; one without it fires. */
export function webhookAlert(options: {
  readonly labels: Readonly<Record<string, string>>;
  readonly fingerprint: string;
  readonly startsAt?: string;
  readonly endsAt?: string;
}): object {
  const { labels, fingerprint, startsAt = new Date().toISOString(), endsAt } = options;
  return {
    status: endsAt === undefined ? "firing" : "resolved",
    labels: { alertname: "Ill", namespace: "default", ...labels },
    annotations: {},
    startsAt,
    endsAt: endsAt ?? "0001-01-01T00:00:00Z",
    generatorURL: "",
    fingerprint,
  };
}

/** The body of the webhook that delivers the alerts. */
export function webhookBody(alerts: readonly object[]): string {
  return JSON.stringify({
    version: "4",
    groupKey: "{}:{}",
    status: "firing",
    receiver: "nightshift",
    groupLabels: {},
    commonLabels: {},
    commonAnnotations: {},
    externalURL: "http://127.0.0.1",
    truncatedAlerts: 0,
    alerts,
  });
}
