"""An MCP server made with the SDK's own server side: the revision without a handshake, and the older ones.

``--port N``: over HTTP; else over its pipes. ``--certificate F --key F --authority F``: over TLS, for clients with a
certificate of that authority. ``/away`` is at another place of the same server, ``/abroad`` at another server.
"""

from __future__ import annotations

import argparse
import json
import ssl

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import CreateMessageRequest, InputRequiredResult
from starlette.requests import Request
from starlette.responses import RedirectResponse

server = MCPServer("modern")


@server.tool()
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@server.tool()
async def grow(ctx: Context) -> str:
    """Have one more tool."""
    server.add_tool(lambda: "new", name="grown", description="It was not there before.")
    await ctx.notify_tools_changed()  # to those who have subscribed
    await ctx.session.send_tool_list_changed()  # to a client of the earlier revisions
    return "grown"


@server.tool()
async def ask(question: str, ctx: Context) -> str | InputRequiredResult:
    """What the client's model says."""
    if ctx.input_responses is None:
        message = {"role": "user", "content": {"type": "text", "text": question}}
        params = {"messages": [message], "maxTokens": 100000}
        request = CreateMessageRequest.model_validate({"method": "sampling/createMessage", "params": params})
        return InputRequiredResult(input_requests={"question": request}, request_state="asked")
    return f"it said: {ctx.input_responses['question'].content.text}"


@server.tool()
def headers(ctx: Context) -> str:
    """Those of the request."""
    return json.dumps(dict(ctx.headers or {}))


@server.custom_route("/away", methods=["GET", "POST", "DELETE"])
async def away(request: Request) -> RedirectResponse:
    return RedirectResponse("/mcp", 307)


@server.custom_route("/abroad", methods=["GET", "POST", "DELETE"])
async def abroad(request: Request) -> RedirectResponse:
    return RedirectResponse(f"{request.url.scheme}://localhost:{request.url.port}/mcp", 307)


@server.resource("text://swans")
def swans() -> str:
    """About swans."""
    return "swans are white"


@server.prompt()
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Say hello to {name}."


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=-1)
    for name in ("--certificate", "--key", "--authority"):
        parser.add_argument(name, default=None)
    options = parser.parse_args()
    if options.port < 0:
        server.run("stdio")
        return
    import uvicorn

    uvicorn.run(
        server.streamable_http_app(), host="127.0.0.1", port=options.port, log_level="warning",
        ssl_certfile=options.certificate, ssl_keyfile=options.key, ssl_ca_certs=options.authority,
        ssl_cert_reqs=ssl.CERT_REQUIRED if options.authority else ssl.CERT_NONE,
    )  # fmt: skip


if __name__ == "__main__":
    main()
