"""A small MCP server on the Python SDK 1, for tests that want a real one.

    python server.py --port 8000 --mode stateful|stateless|json|sse
    python server.py --stdio

Streamable HTTP is at /mcp, HTTP+SSE at /sse. GET /__sessions answers {"sessions": N}.
"""

import argparse
import pathlib
import sys

from mcp.server.fastmcp import FastMCP

sys.path.append(str(pathlib.Path(__file__).parent.parent / "python"))

from living import sessions  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--stdio", action="store_true")
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--mode", choices=["stateful", "stateless", "json", "sse"], default="stateful")
args = parser.parse_args()

server = FastMCP(
    "python-sdk-1-server",
    log_level="WARNING",
    host="127.0.0.1",
    port=args.port,
    stateless_http=args.mode == "stateless",
    json_response=args.mode == "json",
)
server.custom_route("/__sessions", methods=["GET"])(sessions)


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def echo(text: str) -> str:
    """Says the text back."""
    return text


if args.stdio:
    server.run("stdio")
else:
    server.run("sse" if args.mode == "sse" else "streamable-http")
