import type { CallKind, CallReading, ServiceName } from "../service-graph.ts";

/**
 * The metrics of a service graph, as the OpenTelemetry Collector's servicegraph connector and Grafana Tempo send them, and
 * what each counts. Durations are of a seconds unit under either name, but for connectors of old, whose unit says `ms`.
 */
const METRICS: ReadonlyMap<string, "requests" | "failed" | "server" | "client"> = new Map([
  ["traces_service_graph_request_total", "requests"],
  ["traces_service_graph_request_failed_total", "failed"],
  ["traces_service_graph_request_server", "server"],
  ["traces_service_graph_request_server_seconds", "server"],
  ["traces_service_graph_request_client", "client"],
  ["traces_service_graph_request_client_seconds", "client"],
]);

/** What a metric of a service graph counts; undefined where it is none. */
export function graphMetric(name: string): "requests" | "failed" | "server" | "client" | undefined {
  return METRICS.get(name);
}

/** Which calls a series of a service graph is about. */
export type CallLabels = Pick<CallReading, "client" | "server" | "kind"> & {
  /** Whose duration of them is theirs: what sends no telemetry itself is timed by its caller. */
  readonly timedBy: "server" | "client";
};

/** Labels that tell the namespace of a service, where a connector's or Tempo's `dimensions` have it; `_` stands for what Prometheus writes for a dot. */
const NAMESPACES = ["k8s.namespace.name", "k8s_namespace_name", "service.namespace", "service_namespace"];

/** The labels that `callOf` reads of a series in Prometheus. */
export const SERVICE_LABELS: readonly string[] = [
  "client",
  "server",
  "connection_type",
  ...["client", "server"].flatMap((side) => NAMESPACES.filter((key) => !key.includes(".")).map((key) => `${side}_${key}`)),
];

/** Reads the labels of a series; undefined where they do not name both services. */
export function callOf(labels: Readonly<Record<string, unknown>>): CallLabels | undefined {
  const client = serviceOf(labels, "client");
  const server = serviceOf(labels, "server");
  if (client === undefined || server === undefined) return undefined;
  const type = labels["connection_type"];
  // Whoever calls from outside is a virtual node, too, and named so; the service that it calls is a real one.
  const isOutside = type === "virtual_node" && client.name === "user";
  const kind: CallKind =
    type === "messaging_system" ? "Queue" : type === "database" || (type === "virtual_node" && !isOutside) ? "External" : "Request";
  return { client, server, kind, timedBy: kind === "External" ? "client" : "server" };
}

function serviceOf(labels: Readonly<Record<string, unknown>>, side: "client" | "server"): ServiceName | undefined {
  const name = labels[side];
  if (typeof name !== "string" || name === "") return undefined;
  const namespace = NAMESPACES.map((key) => labels[`${side}_${key}`]).find((each) => typeof each === "string" && each !== "");
  return { name, ...(typeof namespace === "string" ? { namespace } : {}) };
}
