package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// How it fails, as `POST /control?fail=MODE` of the control port says: none, initialize, tools_list, tool, hang, unauthorized
// or unavailable.
var fault atomic.Value

func is(mode string) bool { return fault.Load() == mode }

// control listens for how to fail.
func control(addr string) {
	fault.Store("none")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /control", func(w http.ResponseWriter, r *http.Request) {
		fault.Store(r.URL.Query().Get("fail"))
		fmt.Fprintln(w, fault.Load())
	})
	go func() { log.Fatal(http.ListenAndServe(addr, mux)) }()
}

// traced has every request leave a SERVER span, joined to the caller's by the HTTP headers, and every method of MCP
// another below it; with onlyCalls calls of tools alone leave any. Where the spans go, and which, is told by OTEL_* as usual.
func traced(server *mcp.Server, handler http.Handler, onlyCalls bool) http.Handler {
	exporter, err := otlptracehttp.New(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	own, err := resource.New(context.Background(), resource.WithFromEnv())
	if err != nil {
		log.Fatal(err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(own))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	tracer := provider.Tracer("go-sdk-server")
	mcp.AddTool(server, &mcp.Tool{Name: "nap", Description: "Takes four seconds."},
		func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, any, error) {
			time.Sleep(4 * time.Second)
			return &mcp.CallToolResult{}, nil, nil
		})
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, request mcp.Request) (mcp.Result, error) {
			if extra := request.GetExtra(); extra != nil {
				ctx = api.ContextWithSpanContext(ctx, caller(extra.Header))
			}
			start := tracer.Start
			if onlyCalls && method != "tools/call" {
				start = untraced
			}
			ctx, span := start(ctx, method, api.WithAttributes(attribute.String("mcp.method.name", method)))
			defer span.End()
			if failed := failure(method); failed != nil {
				span.SetStatus(codes.Error, failed.Error())
				return nil, failed
			}
			return next(ctx, method, request)
		}
	})
	start := tracer.Start
	if onlyCalls {
		start = untraced
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := start(ctx, r.Method+" /mcp", api.WithSpanKind(api.SpanKindServer))
		defer span.End()
		// What is below it hangs below this span and not below the caller's.
		otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(r.Header))
		status := &recorder{ResponseWriter: w, status: http.StatusOK}
		switch {
		case is("hang"):
			<-r.Context().Done()
			time.Sleep(time.Hour)
		case is("unauthorized"):
			http.Error(status, "the key that tokens are checked with is not there", http.StatusUnauthorized)
		case is("unavailable"):
			http.Error(status, "too busy", http.StatusServiceUnavailable)
		default:
			handler.ServeHTTP(status, r.WithContext(ctx))
		}
		span.SetAttributes(attribute.Int("http.response.status_code", status.status))
		if status.status >= 500 {
			span.SetStatus(codes.Error, "")
		}
	})
}

// untraced starts no span: what is below it hangs below the caller's.
func untraced(ctx context.Context, _ string, _ ...api.SpanStartOption) (context.Context, api.Span) {
	return ctx, noop.Span{}
}

func failure(method string) error {
	switch {
	case is("initialize") && (method == "initialize" || method == "server/discover"),
		is("tools_list") && method == "tools/list",
		is("tool") && method == "tools/call":
		return errors.New("it was told to fail")
	}
	return nil
}

func caller(header http.Header) api.SpanContext {
	ctx := otel.GetTextMapPropagator().Extract(context.Background(), propagation.HeaderCarrier(header))
	return api.SpanContextFromContext(ctx)
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Flush() {
	if flusher, ok := r.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}
