// A small MCP server on mark3labs' mcp-go, for tests that want a real one.
//
//	server -addr 127.0.0.1:8000 [-mode default|stateful|stateless|sse]
//	server -stdio
//
// Streamable HTTP is at /mcp, HTTP+SSE at /sse. In the default mode the SDK hands out session ids and takes any of
// the right form, in the stateful one it knows its own. GET /__sessions answers {"sessions": N}, the sessions that
// the SDK still holds, so that a test can see whether a prober ended its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "where to listen")
	mode := flag.String("mode", "default", "default, stateful, stateless or sse")
	stdio := flag.Bool("stdio", false, "serve on stdin and stdout")
	flag.Parse()

	var sessions atomic.Int64
	hooks := &server.Hooks{}
	hooks.AddOnRegisterSession(func(context.Context, server.ClientSession) { sessions.Add(1) })
	hooks.AddOnUnregisterSession(func(context.Context, server.ClientSession) { sessions.Add(-1) })
	mcpServer := newServer(hooks)
	if *stdio {
		if err := server.ServeStdio(mcpServer); err != nil {
			log.Fatal(err)
		}
		return
	}

	switch *mode {
	case "sse":
		sse := server.NewSSEServer(mcpServer)
		http.Handle("/sse", sse.SSEHandler())
		http.Handle("/message", sse.MessageHandler())
	case "default", "stateful", "stateless":
		var options []server.StreamableHTTPOption
		if *mode != "default" {
			options = append(options, server.WithStateLess(*mode == "stateless"), server.WithStateful(*mode == "stateful"))
		}
		http.Handle("/mcp", server.NewStreamableHTTPServer(mcpServer, options...))
	default:
		log.Fatalf("there is no mode %s", *mode)
	}
	http.HandleFunc("GET /__sessions", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"sessions": %d}`, sessions.Load())
	})
	log.Fatal(http.ListenAndServe(*addr, nil))
}

func newServer(hooks *server.Hooks) *server.MCPServer {
	mcpServer := server.NewMCPServer("mcp-go-server", "1.0.0", server.WithHooks(hooks))
	mcpServer.AddTool(
		mcp.NewTool("add", mcp.WithDescription("Adds two numbers."),
			mcp.WithNumber("a", mcp.Required()), mcp.WithNumber("b", mcp.Required())),
		func(_ context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText(fmt.Sprint(request.GetFloat("a", 0) + request.GetFloat("b", 0))), nil
		})
	mcpServer.AddTool(
		mcp.NewTool("echo", mcp.WithDescription("Says the text back."), mcp.WithString("text", mcp.Required())),
		func(_ context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText(request.GetString("text", "")), nil
		})
	return mcpServer
}
