"""The session's MCP tools and ``send_message`` in hermes-agent's registry, under the names that it would give them.

hermes-agent starts no MCP server by itself: its configuration names none. So each server has its slot, its place in
``hermesctl ps`` and its budget with ours.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from hermesd.workers.agents.contract import Session, Tool, ToolResult
from hermesd.workers.mcp.errors import McpError

from . import library
from .jobs import IN_JOB

log = logging.getLogger("hermesd.hermes")

SEND = "send_message"

POLL = 0.2
"""Seconds between looks for an interrupt while a tool runs: hermes-agent's is a flag, not an event."""


def name_of(server: str, tool: str) -> str:
    """``mcp_<server>_<tool>``, of characters that every provider takes."""
    return "_".join(re.sub(r"[^A-Za-z0-9_]", "_", part) for part in ("mcp", server, tool))


def toolset_of(server: str) -> str:
    return f"mcp-{server}"


class Toolbox:
    """``send`` posts a message to a chat and returns what hermes-agent is told; called in the agent's threads."""

    def __init__(
        self, session: Session, loop: asyncio.AbstractEventLoop, send: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self._session = session
        self._loop = loop
        self._registered: dict[str, Tool] = {}
        self._send = send
        self._calls: set[asyncio.Task[Any]] = set()  # of the turn, not of a job
        self._register_send()

    def called(self, name: str) -> str:
        """A tool's name as hermesd shows it: ``server.tool``."""
        tool = self._registered.get(name)
        return f"{tool.server}.{tool.name}" if tool is not None else name

    async def refresh(self) -> list[str]:
        """Register what the servers offer now, forget what they no longer do. Returns the toolsets."""
        offered: dict[str, Tool] = {}
        for tool in await self._session.mcp.tools():
            offered.setdefault(name_of(tool.server, tool.name), tool)
        for name in self._registered.keys() - offered.keys():
            library.registry.deregister(name)
        for name, tool in offered.items():
            if self._registered.get(name) != tool:
                self._register(name, tool)
        self._registered = offered
        return sorted({toolset_of(tool.server) for tool in offered.values()})

    @property
    def print(self) -> str:
        """What an agent that was made with these tools knows of them."""
        return json.dumps([[name, tool.description, tool.schema] for name, tool in self._registered.items()])

    def _register(self, name: str, tool: Tool) -> None:
        schema = {
            "name": name,
            "description": tool.description or f"MCP tool {tool.name} from {tool.server}",
            "parameters": tool.schema or {"type": "object", "properties": {}},
        }
        library.registry.deregister(name)
        library.registry.register(
            name=name, toolset=toolset_of(tool.server), schema=schema, handler=self._handler(tool),
            check_fn=lambda: True, is_async=False, description=schema["description"],
        )  # fmt: skip

    def _handler(self, tool: Tool) -> Callable[..., str]:
        def call(arguments: Any = None, **_: Any) -> str:
            given = arguments if isinstance(arguments, dict) else {}
            try:
                asked = self._session.mcp.call(tool.server, tool.name, given)
                result = self.wait(asked if IN_JOB.get() else self._counted(asked))
            except McpError as error:
                return json.dumps({"error": str(error)})
            except concurrent.futures.CancelledError:
                return json.dumps({"error": f"{tool.server}.{tool.name} was interrupted"})
            if result.is_error:
                return json.dumps({"error": result.text or "the tool reports an error"}, ensure_ascii=False)
            answer: dict[str, Any] = {"result": result.text}
            if result.structured is not None and not result.text:
                answer["result"] = result.structured
            return json.dumps(answer, ensure_ascii=False, default=str)

        return call

    async def _counted(self, call: Coroutine[Any, Any, ToolResult]) -> ToolResult:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await call
        finally:
            self._calls.discard(task)

    def interrupt(self) -> None:
        """End the calls of servers: hermes-agent leaves a thread that is in one to itself, and ends its run."""
        for task in self._calls:
            task.cancel()

    async def ended(self) -> None:
        """No call is under way any more: what was cut off is known to be when its turn ends."""
        if self._calls:
            await asyncio.wait(self._calls)

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the worker's loop from a thread of the agent's; ends it when that thread is interrupted."""
        is_interrupted = library.function("tools.interrupt", "is_interrupted")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        while True:
            try:
                return future.result(POLL)
            except concurrent.futures.TimeoutError:
                # Also what a coroutine raises whose own time was over.
                if future.done():
                    raise
                if is_interrupted is not None and is_interrupted():
                    future.cancel()

    def _register_send(self) -> None:
        schema = library.function("tools.send_message_tool", "SEND_MESSAGE_SCHEMA")
        if not isinstance(schema, dict):
            return

        def send(arguments: Any = None, **_: Any) -> str:
            return json.dumps(self._send(arguments if isinstance(arguments, dict) else {}), ensure_ascii=False)

        library.registry.deregister(SEND)
        library.registry.register(
            name=SEND, toolset="messaging", schema=schema, handler=send, check_fn=lambda: True, is_async=False
        )


def sent_by(offered: Iterable[str]) -> list[str]:
    """The toolsets of an agent, with the one that ``send_message`` is in."""
    return sorted({*offered, "messaging"})
