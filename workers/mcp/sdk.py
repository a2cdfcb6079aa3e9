"""What we use of the ``mcp`` SDK, and all the differences between its versions 1 and 2.

Version 2 renamed the models' fields from the wire's camelCase to snake_case, so results are read in their wire form
(``model_dump(by_alias=True)``), which both give alike.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from typing import Any

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import types
from mcp.client.session import ClientSession
from mcp.shared import exceptions
from mcp.shared.message import SessionMessage

from hermesd.ipc.version import VERSION
from hermesd.workers.agents.contract import Tool, ToolResult

log = logging.getLogger(__name__)

RemoteError: type[Exception] = getattr(exceptions, "MCPError", None) or exceptions.McpError  # type: ignore[attr-defined]

CONNECTION_CLOSED = -32000
METHOD_NOT_FOUND = -32601
UNSUPPORTED_PROTOCOL_VERSION = -32022
MAX_PAGES = 1000  # of a tool list; a server whose cursor never ends is cut here

_adapter = getattr(types, "jsonrpc_message_adapter", None)  # version 2


def parse(line: bytes) -> SessionMessage:
    """One line of the wire. Raises ValueError."""
    if _adapter is not None:
        return SessionMessage(_adapter.validate_json(line, by_name=False))
    return SessionMessage(types.JSONRPCMessage.model_validate_json(line))  # type: ignore[attr-defined]


def encode(message: SessionMessage) -> bytes:
    """One line of the wire, with its newline."""
    # A JSON-RPC response may carry "result": null, so only what was never set is left out.
    return message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"


def session(
    reading: MemoryObjectReceiveStream[SessionMessage | Exception],
    writing: MemoryObjectSendStream[SessionMessage],
    on_tools_changed: Callable[[], None],
) -> ClientSession:
    """A session that is not entered yet. ``on_tools_changed``: the server says that its tools are others now."""

    async def receive(message: Any) -> None:
        # Version 1 wraps notifications into a root model.
        if isinstance(getattr(message, "root", message), types.ToolListChangedNotification):
            on_tools_changed()

    return ClientSession(
        reading,
        writing,
        message_handler=receive,
        client_info=types.Implementation(name="hermesd", version=VERSION),
    )


def can_probe(session: ClientSession) -> bool:
    """Whether this SDK knows the stateless revision, which asks ``server/discover`` instead of shaking hands."""
    return hasattr(session, "discover")


class Probe(Enum):
    """What the question for the stateless revision showed."""

    STATELESS = "stateless"  # adopted; there is no handshake
    OLDER = "older"  # it answered something else
    SILENT = "silent"  # no answer in time, or the end of the connection


async def probe(session: ClientSession, seconds: float) -> Probe:
    """Ask for the stateless revision. Every failure means the older handshake: servers refuse in many ways."""
    try:
        async with asyncio.timeout(seconds):
            await session.discover()
    except TimeoutError:
        return Probe.SILENT
    except (RemoteError, RuntimeError, ValueError) as error:
        log.debug("no server/discover: %r", error)
        return Probe.SILENT if is_closed(error) else Probe.OLDER
    return Probe.STATELESS


async def handshake(session: ClientSession) -> None:
    """The handshake of the revisions before the stateless one."""
    try:
        await session.initialize()
    except RemoteError as error:
        # A slow server may have taken a late probe for the choice of the stateless revision, and now says so.
        if code(error) != UNSUPPORTED_PROTOCOL_VERSION or not can_probe(session):
            raise
        await session.discover()


def protocol(session: ClientSession) -> str:
    """The revision that was agreed on, for logs."""
    return str(getattr(session, "protocol_version", None) or "")


async def list_tools(session: ClientSession, server: str) -> list[Tool]:
    """All pages of the server's tool list; empty for a server that has no tools at all."""
    tools: list[Tool] = []
    cursor: str | None = None
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        params = types.PaginatedRequestParams(cursor=cursor) if cursor is not None else None
        try:
            result = await session.list_tools(params=params)
        except RemoteError as error:
            if code(error) == METHOD_NOT_FOUND and cursor is None:
                return []
            raise
        for tool in result.tools:
            wire = tool.model_dump(by_alias=True, mode="json")
            tools.append(Tool(server, wire["name"], wire.get("description") or "", wire.get("inputSchema") or {}))
        cursor = result.model_dump(by_alias=True, include={"nextCursor", "next_cursor"}).get("nextCursor")
        if cursor is None:
            return tools
        if cursor in seen:
            break
        seen.add(cursor)
    log.warning("MCP server %s: its tool list does not end; using the first %d tools", server, len(tools))
    return tools


async def call_tool(session: ClientSession, tool: str, arguments: dict[str, Any]) -> ToolResult:
    """One call. Raises `RemoteError` for a protocol error and RuntimeError or ValueError for an invalid result."""
    result = await session.call_tool(tool, arguments)
    wire = result.model_dump(by_alias=True, mode="json")
    text = "\n".join(_text(block) for block in wire.get("content") or ())
    return ToolResult(text, bool(wire.get("isError")), wire.get("structuredContent"))


def code(error: Exception) -> int:
    """The JSON-RPC error code of a `RemoteError`."""
    return int(error.error.code)  # type: ignore[attr-defined]


def is_closed(error: Exception) -> bool:
    """Whether the connection may have ended; a server may use the same code for an error of its own."""
    return isinstance(error, RemoteError) and code(error) == CONNECTION_CLOSED


def describe(error: Exception) -> str:
    """An error of the SDK in a sentence of ours."""
    if isinstance(error, RemoteError):
        return f"{error} (error {code(error)})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _text(block: dict[str, Any]) -> str:
    """A block of a result as text for a model that only reads; what is no text is described."""
    match block.get("type"):
        case "text":
            return str(block["text"])
        case "image" | "audio" as kind:
            return f"[{kind}: {block.get('mimeType')}, {len(block.get('data') or '') * 3 // 4} bytes]"
        case "resource":
            resource = block["resource"]
            if resource.get("text") is not None:
                return str(resource["text"])
            size = len(resource.get("blob") or "") * 3 // 4
            return f"[resource {resource.get('uri')}: {resource.get('mimeType') or 'binary'}, {size} bytes]"
        case "resource_link":
            return f"[link: {block.get('uri')}]"
        case kind:
            return f"[{kind}]"
