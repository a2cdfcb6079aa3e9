"""What we use of the ``mcp`` SDK, and all the differences between its versions 1 and 2.

Version 2 renamed the models' fields from the wire's camelCase to snake_case, so results are read in their wire form
(``model_dump(by_alias=True)``), which both give alike.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable
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
INVALID_REQUEST = -32600
_OF_TRANSPORT = frozenset({CONNECTION_CLOSED, INVALID_REQUEST, -INVALID_REQUEST, -32001, -32603})
MAX_PAGES = 1000  # of a list; a server whose cursor never ends is cut here
MAX_ROUNDS = 10  # in which a server of the stateless revision asks for input before it answers
LISTEN_AGAIN_SECONDS = 5.0  # after a subscription to changes was lost

CHANGES = (
    types.ToolListChangedNotification,
    types.ResourceListChangedNotification,
    types.PromptListChangedNotification,
)
"""Each may change what an agent is offered: resources and prompts are offered as tools."""

Sample = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | str]]
"""Answers ``sampling/createMessage``: params and result as they are on the wire, or a sentence on why not."""

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
    sample: Sample | None = None,
) -> ClientSession:
    """A session that is not entered yet. ``on_tools_changed``: the server says that its tools are others now.

    Without ``sample`` the server is told that it cannot ask for a model, and an error if it does all the same.
    """

    async def receive(message: Any) -> None:
        # Version 1 wraps notifications into a root model.
        if isinstance(getattr(message, "root", message), CHANGES):
            on_tools_changed()

    async def answer(context: Any, params: Any) -> Any:
        assert sample is not None
        result = await sample(params.model_dump(by_alias=True, mode="json", exclude_none=True))
        if isinstance(result, str):
            return types.ErrorData(code=INVALID_REQUEST, message=result)
        several = isinstance(result["content"], list)
        return (types.CreateMessageResultWithTools if several else types.CreateMessageResult).model_validate(result)

    sampling: dict[str, Any] = {}
    if sample is not None:
        tools = types.SamplingCapability(tools=types.SamplingToolsCapability())
        sampling = {"sampling_callback": answer, "sampling_capabilities": tools}
    return ClientSession(
        reading,
        writing,
        message_handler=receive,
        client_info=types.Implementation(name="hermesd", version=VERSION),
        **sampling,
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


def is_stateless(session: ClientSession) -> bool:
    """Whether the revision without a handshake was agreed on: it has no ping and no requests of a server's own."""
    return getattr(session, "discover_result", None) is not None


def capabilities(session: ClientSession) -> frozenset[str]:
    """Names of what the server says it has: "tools", "resources", "prompts" and others."""
    # A property in version 2, a method in version 1.
    found = getattr(session, "server_capabilities", None)
    if found is None and hasattr(session, "get_server_capabilities"):
        found = session.get_server_capabilities()
    return frozenset(found.model_dump(by_alias=True, exclude_none=True)) if found is not None else frozenset()


async def ping(session: ClientSession) -> None:
    """Whether it still answers. Raises what a request raises; a server without the optional ping does answer."""
    try:
        await session.send_ping()
    except RemoteError as error:
        if code(error) != METHOD_NOT_FOUND:
            raise


async def watch_tools(session: ClientSession, on_tools_changed: Callable[[], None]) -> None:
    """Subscribe to changes of the tool list, where the revision has no notifications without; ends by cancellation."""
    if not is_stateless(session):
        return
    subscriptions = importlib.import_module("mcp.client.subscriptions")
    while True:
        try:
            wanted = {"tools_list_changed": True, "prompts_list_changed": True, "resources_list_changed": True}
            async with subscriptions.listen(session, **wanted) as changes:
                async for _ in changes:
                    on_tools_changed()
        except RemoteError as error:
            if code(error) == METHOD_NOT_FOUND or is_closed(error):
                return
            log.debug("no subscription to the tool list: %r", error)
        except (RuntimeError, TimeoutError) as error:
            log.debug("the subscription to the tool list was lost: %r", error)
        # What changed meanwhile was told to nobody.
        on_tools_changed()
        await asyncio.sleep(LISTEN_AGAIN_SECONDS)


async def list_tools(session: ClientSession, server: str) -> list[Tool]:
    """All pages of the server's tool list; empty for a server that has no tools at all."""
    return [
        Tool(server, wire["name"], wire.get("description") or "", wire.get("inputSchema") or {})
        for wire in await _pages(session.list_tools, "tools", server)
    ]


async def list_resources(session: ClientSession, server: str) -> list[dict[str, Any]]:
    """All pages, each resource as it is on the wire."""
    return await _pages(session.list_resources, "resources", server)


async def list_resource_templates(session: ClientSession, server: str) -> list[dict[str, Any]]:
    """All pages, each template as it is on the wire."""
    return await _pages(session.list_resource_templates, "resourceTemplates", server)


async def list_prompts(session: ClientSession, server: str) -> list[dict[str, Any]]:
    """All pages, each prompt as it is on the wire."""
    return await _pages(session.list_prompts, "prompts", server)


async def _pages(ask: Callable[..., Awaitable[Any]], items: str, server: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        params = types.PaginatedRequestParams(cursor=cursor) if cursor is not None else None
        try:
            result = await ask(params=params)
        except RemoteError as error:
            if code(error) == METHOD_NOT_FOUND and cursor is None:
                return []
            raise
        wire = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        found += wire.get(items) or ()
        cursor = wire.get("nextCursor")
        if cursor is None:
            return found
        if cursor in seen:
            break
        seen.add(cursor)
    log.warning("MCP server %s: its list of %s does not end; using the first %d", server, items, len(found))
    return found


async def call_tool(
    session: ClientSession,
    tool: str,
    arguments: dict[str, Any],
    on_progress: Callable[[float, float | None, str | None], Awaitable[None]] | None = None,
) -> ToolResult:
    """One call. Raises `RemoteError` for a protocol error and RuntimeError or ValueError for an invalid result."""
    progress: dict[str, Any] = {"progress_callback": on_progress} if on_progress is not None else {}
    result = await _with_input(session, session.call_tool, tool, arguments, **progress)
    wire = result.model_dump(by_alias=True, mode="json")
    text = "\n".join(text_of(block) for block in wire.get("content") or ())
    return ToolResult(text, bool(wire.get("isError")), wire.get("structuredContent"))


async def read_resource(session: ClientSession, uri: str) -> list[dict[str, Any]]:
    """The contents of a resource, as they are on the wire. Raises as `call_tool` does."""
    result = await _with_input(session, session.read_resource, uri)
    contents: list[dict[str, Any]] = result.model_dump(by_alias=True, mode="json", exclude_none=True)["contents"]
    return contents


async def get_prompt(session: ClientSession, name: str, arguments: dict[str, str]) -> dict[str, Any]:
    """A prompt with its arguments filled in, as it is on the wire. Raises as `call_tool` does."""
    result = await _with_input(session, session.get_prompt, name, arguments)
    prompt: dict[str, Any] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return prompt


async def _with_input(session: ClientSession, ask: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
    """Ask, and answer what a server of the stateless revision wants to know first: it sends no requests of its own."""
    if not is_stateless(session):
        return await ask(*args, **more)
    context_of = importlib.import_module("mcp.client.session").ClientRequestContext
    result = await ask(*args, **more, allow_input_required=True)
    for _ in range(MAX_ROUNDS):
        if not hasattr(result, "input_requests"):
            return result
        responses: dict[str, Any] = {}
        for key, request in (result.input_requests or {}).items():
            context = context_of(session=session, request_id=key)
            response = await session.dispatch_input_request(context, request)
            if isinstance(response, types.ErrorData):
                raise RuntimeError(f"it needs an answer that it cannot get: {response.message}")
            responses[key] = response
        if not responses:
            await asyncio.sleep(0.05)  # it only has us ask again
        result = await ask(
            *args, **more, allow_input_required=True,
            input_responses=responses or None, request_state=result.request_state,
        )  # fmt: skip
    raise RuntimeError(f"it asked for input {MAX_ROUNDS} times and gave no answer")


def code(error: Exception) -> int:
    """The JSON-RPC error code of a `RemoteError`."""
    return int(error.error.code)  # type: ignore[attr-defined]


def is_closed(error: Exception) -> bool:
    """Whether the connection may have ended; a server may use the same code for an error of its own."""
    return isinstance(error, RemoteError) and code(error) == CONNECTION_CLOSED


def is_of_transport(error: BaseException | None) -> bool:
    """Whether an error may stand for an answer of HTTP's: both versions of the SDK, and servers, have codes for it."""
    return isinstance(error, RemoteError) and code(error) in _OF_TRANSPORT


def describe(error: Exception) -> str:
    """An error of the SDK in a sentence of ours."""
    if isinstance(error, RemoteError):
        return f"{error} (error {code(error)})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def text_of(block: dict[str, Any]) -> str:
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
