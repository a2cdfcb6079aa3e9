"""An MCP server made with the SDK's own server side: the revision without a handshake, and the older ones."""

from __future__ import annotations

import argparse

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import CreateMessageRequest, InputRequiredResult

server = MCPServer("modern")


@server.tool()
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@server.tool()
async def grow(ctx: Context) -> str:
    """Have one more tool."""
    server.add_tool(lambda: "new", name="grown", description="It was not there before.")
    await ctx.notify_tools_changed()
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
    options = parser.parse_args()
    if options.port < 0:
        server.run("stdio")
        return
    import uvicorn

    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
