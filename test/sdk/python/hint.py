# Sends hints with the official OpenTelemetry SDK for Python and nothing else; see go/main.go for what its arguments mean.
import argparse
import os

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
else:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

parser = argparse.ArgumentParser()
parser.add_argument("--action")
parser.add_argument("--saturation")
parser.add_argument("add", nargs="+", type=int)
args = parser.parse_args()

provider = MeterProvider(metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())])
counter = provider.get_meter("app").create_counter("service.remediation.hint")
attributes = {}
if args.action:
    attributes["remediation.action"] = args.action
if args.saturation:
    attributes["saturation.type"] = args.saturation
for added in args.add:
    counter.add(added, attributes)
provider.shutdown()
