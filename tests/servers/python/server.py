"""A small MCP server on the Python SDK 2, for tests that want a real one.

    python server.py --port 8000 --mode stateful|stateless|json|sse|guarded
    python server.py --stdio

Streamable HTTP is at /mcp, HTTP+SSE at /sse. guarded is stateful, and asks for the bearer token `open-sesame`.
GET /__sessions answers {"sessions": N}.
"""

import argparse

from living import sessions
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        if token != "open-sesame":
            return None
        return AccessToken(token=token, client_id="tests", scopes=["mcp"])


def new_server(args: argparse.Namespace, verifier: type[Verifier] = Verifier) -> MCPServer:
    guard = {}
    if args.mode == "guarded":
        here = f"http://127.0.0.1:{args.port}"
        # Nobody listens at the issuer: who only probes never asks it.
        auth = AuthSettings(
            issuer_url=f"{here}/issuer",
            resource_server_url=f"{here}/mcp",
            required_scopes=["mcp"],
            validate_token_resource=False,
        )
        guard = {"auth": auth, "token_verifier": verifier()}
    server = MCPServer("python-sdk-server", version="1.0.0", log_level="WARNING", **guard)
    server.custom_route("/__sessions", methods=["GET"])(sessions)

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    def echo(text: str) -> str:
        """Says the text back."""
        return text

    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--mode", choices=["stateful", "stateless", "json", "sse", "guarded"], default="stateful")
    args = parser.parse_args()
    server = new_server(args)
    if args.stdio:
        server.run("stdio")
    elif args.mode == "sse":
        server.run("sse", host="127.0.0.1", port=args.port)
    else:
        server.run(
            "streamable-http",
            host="127.0.0.1",
            port=args.port,
            stateless_http=args.mode == "stateless",
            json_response=args.mode == "json",
        )


if __name__ == "__main__":
    main()
