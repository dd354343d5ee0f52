// A small MCP server on the Go SDK, for tests that want a real one.
//
//	server -addr 127.0.0.1:8000 [-stateless]
//	server -stdio
//	OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 server -addr 127.0.0.1:8000 -control 127.0.0.1:8001 [-only-calls]
//
// With that variable its requests leave spans; see traced.go, which also has the ways in which it can be told to fail.
// Streamable HTTP is at /mcp. GET /__sessions answers {"sessions": N}, the sessions that the
// SDK still holds, so that a test can see whether a prober ended its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "where to listen")
	stateless := flag.Bool("stateless", false, "serve without sessions")
	controlAddr := flag.String("control", "127.0.0.1:0", "where to listen for how to fail")
	onlyCalls := flag.Bool("only-calls", false, "calls of tools leave spans, and nothing else does")
	stdio := flag.Bool("stdio", false, "serve on stdin and stdout")
	flag.Parse()

	server := newServer()
	if *stdio {
		if err := server.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			log.Fatal(err)
		}
		return
	}

	var handler http.Handler = mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: *stateless},
	)
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" {
		control(*controlAddr)
		handler = traced(server, handler, *onlyCalls)
	}
	http.Handle("/mcp", handler)
	http.HandleFunc("GET /__sessions", func(w http.ResponseWriter, _ *http.Request) {
		count := 0
		for range server.Sessions() {
			count++
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"sessions": %d}`, count)
	})
	log.Fatal(http.ListenAndServe(*addr, nil))
}

func newServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "go-sdk-server", Version: "1.0.0"}, nil)

	type addition struct {
		A int `json:"a"`
		B int `json:"b"`
	}
	type sum struct {
		Sum int `json:"sum"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "add", Description: "Adds two numbers."},
		func(_ context.Context, _ *mcp.CallToolRequest, args addition) (*mcp.CallToolResult, sum, error) {
			return nil, sum{args.A + args.B}, nil
		})

	type saying struct {
		Text string `json:"text"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo", Description: "Says the text back."},
		func(_ context.Context, _ *mcp.CallToolRequest, args saying) (*mcp.CallToolResult, saying, error) {
			return nil, args, nil
		})
	return server
}
