"""The small MCP server of server.py with OpenTelemetry, which fails when it is told to.

    OTEL_SERVICE_NAME=weather OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 \\
        python traced.py --port 8000 --control-port 8001 [--mode stateless|guarded] [--database PORT]

Every HTTP request leaves a SERVER span, joined to the caller's by its headers; the SDK adds one for each method of MCP,
joined by `_meta`. Where they go, and which, is told by OTEL_* as usual. With --database its tools come from there: a port
that takes connections. POST /control?fail=MODE on the control port, which has a thread of its own, says how to fail:

    none
    initialize, tools_list, tool   a handler throws
    block                          the event loop is blocked
    slow                           every method takes three seconds
    tokens                         no token is good any more (guarded)
    sessions                       the session store forgets
"""

import argparse
import asyncio
import gc
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import uvicorn
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from server import Verifier, new_server

REFUSED = {"initialize": ("initialize", "server/discover"), "tools_list": ("tools/list",), "tool": ("tools/call",)}

fault = "none"


class Control(BaseHTTPRequestHandler):
    def do_POST(self):
        global fault
        fault = parse_qs(urlsplit(self.path).query)["fail"][0]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Tokens(Verifier):
    async def verify_token(self, token):
        return None if fault == "tokens" else await super().verify_token(token)


def failing(database):
    async def middleware(context, call_next):
        if fault == "block":
            time.sleep(3600)
        if fault == "slow":
            await asyncio.sleep(3)
        if context.method in REFUSED.get(fault, ()):
            raise RuntimeError("it was told to fail")
        if database and context.method in ("tools/list", "tools/call"):
            with socket.create_connection(("127.0.0.1", database), timeout=1):
                pass
        return await call_next(context)

    return middleware


def forget_sessions():
    for thing in gc.get_objects():
        if type(thing) is StreamableHTTPSessionManager:
            thing._server_instances.clear()


class Traced:
    """Wraps an ASGI application."""

    def __init__(self, app):
        self.app = app
        self.tracer = trace.get_tracer("python-sdk-server")

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if fault == "sessions":
            forget_sessions()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        name = f"{scope['method']} {scope['path']}"
        context = propagate.extract(headers)
        with self.tracer.start_as_current_span(name, kind=SpanKind.SERVER, context=context) as span:

            async def recording(message):
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            await self.app(scope, receive, recording)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--control-port", type=int, default=8001)
    parser.add_argument("--mode", choices=["stateful", "stateless", "guarded"], default="stateful")
    parser.add_argument("--database", type=int)
    args = parser.parse_args()
    # What does not come from OTEL_* is the SDK's default.
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    control = ThreadingHTTPServer(("127.0.0.1", args.control_port), Control)
    threading.Thread(target=control.serve_forever, daemon=True).start()
    server = new_server(args, Tokens)
    server.middleware.append(failing(args.database))
    app = Traced(server.streamable_http_app(stateless_http=args.mode == "stateless"))
    uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning")


main()
