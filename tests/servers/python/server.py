"""A small MCP server on the Python SDK, for tests that want a real one.

    python server.py --port 8000 --mode stateful|stateless|json
    python server.py --stdio

Streamable HTTP is at /mcp. GET /__sessions answers {"sessions": N}, the sessions that the
SDK still holds, so that a test can see whether a prober ended its own.
"""

import argparse

from mcp.server import MCPServer
from starlette.requests import Request
from starlette.responses import JSONResponse

server = MCPServer("python-sdk-server", version="1.0.0", log_level="WARNING")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def echo(text: str) -> str:
    """Says the text back."""
    return text


@server.custom_route("/__sessions", methods=["GET"])
async def sessions(_: Request) -> JSONResponse:
    # The SDK has no public count; requirements.txt pins the version that this name is from.
    return JSONResponse({"sessions": len(server.session_manager._server_instances)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--mode", choices=["stateful", "stateless", "json"], default="stateful")
    args = parser.parse_args()
    if args.stdio:
        server.run("stdio")
    else:
        server.run(
            "streamable-http",
            host="127.0.0.1",
            port=args.port,
            stateless_http=args.mode == "stateless",
            json_response=args.mode == "json",
        )


main()
