"""Servers with ``scope: host``: the session's side, which asks, and the side of the worker that holds the one instance.

Calls travel through the supervisor, which knows where the instance is and whose call is whose. Without the SDK: a
session's worker has no use for it here.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from hermesd.ipc import codec
from hermesd.ipc.mcp import ServerSpec, ToolInfo
from hermesd.ipc.messages import Message, SharedCall, SharedCancel, SharedResult
from hermesd.workers.agents.contract import Tool, ToolResult
from hermesd.workers.mcp.errors import McpError, NoSuchTool, SharedFailed
from hermesd.workers.mcp.tool_filter import allows

log = logging.getLogger(__name__)

Post = Callable[[Message], None]


class SharedCalls:
    """The calls of one session's worker that are under way elsewhere. On the loop; ``post`` sends to the supervisor."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._numbers = itertools.count(1)
        self._waiting: dict[str, tuple[str, asyncio.Future[SharedResult]]] = {}

    async def ask(self, server: str, tool: str, arguments: dict[str, Any]) -> SharedResult:
        """Raises `SharedFailed`. On cancellation the holder is told, and the server lives on."""
        call = str(next(self._numbers))
        done: asyncio.Future[SharedResult] = asyncio.get_running_loop().create_future()
        self._waiting[call] = server, done
        self._post(SharedCall(call, server, tool, arguments))
        try:
            result = await done
        except asyncio.CancelledError:
            if self._waiting.pop(call, None) is not None:
                self._post(SharedCancel(call))
            raise
        if result.error:
            raise SharedFailed(server, result.error)
        return result

    def got(self, result: SharedResult) -> None:
        _, done = self._waiting.pop(result.call, (None, None))
        if done is not None and not done.done():
            done.set_result(result)

    def lost(self) -> None:
        """Another supervisor has taken over: it has ended the holders, and nobody knows of these calls any more."""
        for call, (server, _) in list(self._waiting.items()):
            reason = f"MCP server {server!r}: hermesd was started anew during the call, which may have had its effect"
            self.got(SharedResult(call, error=reason))


class SharedServer:
    """What a session's worker has in place of a `hermesd.workers.mcp.server.Server`."""

    def __init__(self, spec: ServerSpec, calls: SharedCalls) -> None:
        self.spec = spec
        self._calls = calls

    async def tools(self, patience: float | None = None) -> list[Tool]:
        """As hermesd knows them, else as the holder says. Raises `SharedFailed`, or TimeoutError after ``patience``."""
        async with asyncio.timeout(patience):
            result = await self._calls.ask(self.spec.name, "", {})
        return [
            Tool(self.spec.name, tool.name, tool.description, tool.schema)
            for tool in result.tools
            if allows(self.spec, tool.name)
        ]

    async def start(self) -> None:
        """Raises `SharedFailed`."""
        await self._calls.ask(self.spec.name, "", {"start": True})

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Raises an `McpError`."""
        if not allows(self.spec, tool):
            raise NoSuchTool(self.spec.name, tool)
        result = await self._calls.ask(self.spec.name, tool, arguments)
        return ToolResult(result.text, result.is_error, result.structured)


class Holder:
    """Serves the calls of all sessions, side by side, in the worker that holds the instance of ``server``.

    ``call``, ``tools`` and ``start`` are those of this worker's own `hermesd.workers.mcp.servers.Servers`.
    """

    def __init__(
        self,
        server: str,
        post: Post,
        call: Callable[[str, dict[str, Any]], Coroutine[Any, Any, ToolResult]],
        tools: Callable[[], Coroutine[Any, Any, list[Tool]]],
        start: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.server = server
        self._post = post
        self._call = call
        self._tools = tools
        self._start = start
        self._running: dict[str, asyncio.Task[None]] = {}

    def take(self, message: SharedCall) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(message), name=f"shared {self.server}.{message.tool}")
        self._running[message.call] = task
        task.add_done_callback(lambda _: self._running.pop(message.call, None))

    def cancel(self, message: SharedCancel) -> None:
        if (task := self._running.get(message.call)) is not None:
            task.cancel()

    async def _serve(self, message: SharedCall) -> None:
        self._post(await self._result(message))

    async def _result(self, message: SharedCall) -> SharedResult:
        try:
            if not message.tool:
                if message.arguments.get("start"):
                    await self._start()
                found = await self._tools()
                tools = tuple(ToolInfo(tool.name, tool.description, tool.schema) for tool in found)
                return SharedResult(message.call, tools=tools)
            result = await self._call(message.tool, message.arguments)
        except McpError as error:
            return SharedResult(message.call, error=codec.clean(str(error)))
        except Exception as error:  # the call's edge: whoever waits is in another process and would wait for ever
            log.exception("MCP server %s: a shared call failed", self.server)
            return SharedResult(message.call, error=codec.clean(f"{type(error).__name__}: {error}"))
        return SharedResult(message.call, codec.clean(result.text), result.is_error, result.structured)
