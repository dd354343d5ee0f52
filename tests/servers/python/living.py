"""Counts the sessions that an SDK still holds, so that a test can see whether a prober ended its own.

The SDK has no public count, and its objects are buried in the application that it builds; both 1.30 and 2.3, which the
requirements pin, have these names.
"""

import gc

from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.responses import JSONResponse


async def sessions(_: Request) -> JSONResponse:
    living = 0
    for thing in gc.get_objects():
        # Not isinstance, which asks lazy proxies for their class.
        if type(thing) is StreamableHTTPSessionManager:
            living += len(thing._server_instances)
        elif type(thing) is SseServerTransport:
            living += len(thing._read_stream_writers)
    return JSONResponse({"sessions": living})
