// Sends hints with the official OpenTelemetry SDK for Node.js and nothing else; see go/main.go for what its arguments mean.
import { parseArgs } from "node:util";
import { OTLPMetricExporter as GrpcExporter } from "@opentelemetry/exporter-metrics-otlp-grpc";
import { OTLPMetricExporter as HttpExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { detectResources, envDetector } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";

const { values, positionals } = parseArgs({
  options: { action: { type: "string" }, saturation: { type: "string" } },
  allowPositionals: true,
});
const exporter = process.env["OTEL_EXPORTER_OTLP_PROTOCOL"] === "grpc" ? new GrpcExporter() : new HttpExporter();
const provider = new MeterProvider({
  resource: detectResources({ detectors: [envDetector] }),
  readers: [new PeriodicExportingMetricReader({ exporter })],
});
const counter = provider.getMeter("app").createCounter("service.remediation.hint");
const attributes = {
  ...(values.action === undefined ? {} : { "remediation.action": values.action }),
  ...(values.saturation === undefined ? {} : { "saturation.type": values.saturation }),
};
for (const added of positionals) counter.add(Number(added), attributes);
await provider.shutdown();
