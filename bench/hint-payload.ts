import { HINT_ACTION, HINT_METRIC } from "../src/observe/hints.ts";

/** What the SDK of a replica sends when it asks for a restart: an export request of OTLP in JSON. */
export function hintOf(uid: string, name: string): string {
  const attributes = (values: Readonly<Record<string, string>>): object[] =>
    Object.entries(values).map(([key, stringValue]) => ({ key, value: { stringValue } }));
  const now = Date.now();
  const point = {
    attributes: attributes({ [HINT_ACTION]: "restart" }),
    startTimeUnixNano: `${now - 1}000000`,
    timeUnixNano: `${now}000000`,
    asInt: "1",
  };
  return JSON.stringify({
    resourceMetrics: [
      {
        resource: { attributes: attributes({ "service.name": name, "service.instance.id": uid }) },
        scopeMetrics: [{ metrics: [{ name: HINT_METRIC, sum: { isMonotonic: true, aggregationTemporality: 1, dataPoints: [point] } }] }],
      },
    ],
  });
}
