// Sends hints with the official OpenTelemetry SDK for Go and nothing else:
//
//	hint [--action NAME] [--saturation TYPE] [--traced] ADD...
//
// Each ADD is one addition to the counter, and all of them are one export. Where to, how and as whom is the SDK's own affair:
// OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, _PROTOCOL, _METRICS_TEMPORALITY_PREFERENCE, OTEL_RESOURCE_ATTRIBUTES.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	log.SetFlags(0)
	action := flag.String("action", "", "remediation.action; none by default")
	saturation := flag.String("saturation", "", "saturation.type; none by default")
	traced := flag.Bool("traced", false, "add within a span, so that the SDK attaches an exemplar")
	flag.Parse()

	ctx := context.Background()
	exporter, err := newExporter(ctx)
	if err != nil {
		log.Fatal(err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	counter, err := provider.Meter("app").Int64Counter("service.remediation.hint")
	if err != nil {
		log.Fatal(err)
	}

	if *traced {
		var span trace.Span
		ctx, span = sdktrace.NewTracerProvider().Tracer("app").Start(ctx, "checkout")
		defer span.End()
		fmt.Println(span.SpanContext().TraceID())
	}
	var attributes []attribute.KeyValue
	if *action != "" {
		attributes = append(attributes, attribute.String("remediation.action", *action))
	}
	if *saturation != "" {
		attributes = append(attributes, attribute.String("saturation.type", *saturation))
	}
	for _, text := range flag.Args() {
		added, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			log.Fatal(err)
		}
		counter.Add(ctx, added, metric.WithAttributes(attributes...))
	}
	if err := provider.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
}

func newExporter(ctx context.Context) (sdkmetric.Exporter, error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" {
		return otlpmetricgrpc.New(ctx)
	}
	return otlpmetrichttp.New(ctx)
}
