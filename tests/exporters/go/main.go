// One call of a tool, by the SDK and the exporters of Go.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

func main() {
	ctx := context.Background()
	exporter, err := newExporter(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// The SDK's own resource reads OTEL_SERVICE_NAME.
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter))
	tracer := provider.Tracer("weather")
	ctx, call := tracer.Start(ctx, "tools/call weather", api.WithSpanKind(api.SpanKindServer), api.WithAttributes(
		attribute.String("mcp.method.name", "tools/call"),
		attribute.String("gen_ai.tool.name", "weather"),
		attribute.String("mcp.session.id", "session-1"),
		attribute.String("gen_ai.tool.call.arguments", `{"city": "Vienna"}`),
		attribute.String("http.request.header.authorization", "Bearer x"),
		attribute.String("url.full", "https://me:pw@api.example/v1?api_key=x&q=1"),
	))
	_, child := tracer.Start(ctx, "GET", api.WithSpanKind(api.SpanKindClient))
	child.AddEvent("exception", api.WithAttributes(attribute.String("exception.message", "no")))
	child.SetStatus(codes.Error, "upstream")
	child.End()
	call.End()
	if err := provider.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(call.SpanContext().TraceID())
}

func newExporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}
