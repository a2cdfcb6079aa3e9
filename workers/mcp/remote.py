"""One connection to a server that somebody else runs: what `Generation` is for a process, without the process.

It lives in one task for the same reason. There is nothing to kill and to empty: when the connection is given up, it is
over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from mcp.client.session import ClientSession

from hermesd.workers.agents.contract import ToolResult
from hermesd.workers.mcp import sdk
from hermesd.workers.mcp.errors import CallRejected, McpError, ServerDied, SessionExpired
from hermesd.workers.mcp.generation import Generation, Progress, first
from hermesd.workers.mcp.http import Fault, connection, http, reason_of
from hermesd.workers.mcp.slot import Event
from hermesd.workers.mcp.transport import relay

log = logging.getLogger(__name__)

EXPECTED = (http.HTTPError, sdk.RemoteError, McpError, Fault, OSError, RuntimeError, ValueError, TimeoutError)
"""What ends a connection, by itself or, from the SDK's transports, in a group."""

PING_SECONDS = 30.0
"""For the answer to a look at whether the server is there, unless its connect_timeout is less."""


class RemoteGeneration(Generation):
    """Its end is that of the connection, whatever of it broke; the next call makes another one."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._connecting = False
        self._broken = asyncio.Event()
        self._fault: Fault | None = None  # the last one
        self._under_way: list[tuple[str, dict[str, Any]]] = []

    def leave(self, budget: float) -> None:
        super().leave(budget)
        if self._connecting and self._task is not None:
            self._task.cancel()  # it may wait for a server that never answers

    async def _live(self) -> None:
        task = asyncio.current_task()
        try:
            await self._talk()
        except asyncio.CancelledError:
            if not self._leave.is_set() or task is None or task.uncancel():
                raise
        except (ExceptionGroup, *EXPECTED) as error:
            self._over(error)
        except Exception as error:  # the task's edge: whatever broke, it is the end of this connection
            log.exception("MCP server %s: its session failed", self.name)
            self._over(error)
        finally:
            self._session = None
            for call in self._abandoned:
                call.cancel()
        await self._empty()

    async def _talk(self) -> None:
        spec = self._plan.spec
        progress = Progress()
        async with contextlib.AsyncExitStack() as stack:
            self._connecting = True
            async with asyncio.timeout(spec.connect_timeout):
                reading, writing = await stack.enter_async_context(
                    connection(spec, failed=self._failed, token=self._plan.token)
                )
            self._connecting = False
            heard, closed = await stack.enter_async_context(relay(self.name, reading))
            session = await stack.enter_async_context(
                sdk.session(heard, writing, self._on_tools_changed, self._sample())
            )
            shaking = asyncio.create_task(self._shake_hands(session, progress), name=f"mcp {self.name} handshake")
            try:
                await first(shaking, closed.wait(), self._leave.wait(), timeout=spec.connect_timeout)
                if self._leave.is_set():
                    return
                if not shaking.done():
                    raise Fault(
                        "its connection was closed during the handshake" if closed.is_set()
                        else f"no answer to the handshake within {spec.connect_timeout:g} s"
                    )  # fmt: skip
                shaking.result()
            finally:
                shaking.cancel()
                await asyncio.wait([shaking])
                if not shaking.cancelled():
                    shaking.exception()  # retrieved: told above
            self._fault = None  # a refusal of the probe is none
            self._session = session
            self._tell(Event.CONNECTED, self.number, "")
            async with self._watching(session):
                await self._stay(session, closed)
            self._session = None

    async def _stay(self, session: ClientSession, closed: asyncio.Event) -> None:
        """Until the connection breaks or is to end."""
        # The stateless revision has no connection that could be lost, and no ping.
        pause = None if sdk.is_stateless(session) else self._plan.spec.keepalive
        while True:
            await first(closed.wait(), self._broken.wait(), self._leave.wait(), timeout=pause)
            if self._leave.is_set():
                return
            if closed.is_set() or self._broken.is_set():
                raise self._fault or Fault("it closed the connection")
            looking = asyncio.create_task(sdk.ping(session), name=f"mcp {self.name} ping")
            try:
                patience = min(PING_SECONDS, self._plan.spec.connect_timeout)
                await first(looking, closed.wait(), self._broken.wait(), self._leave.wait(), timeout=patience)
                if looking.done():
                    looking.result()
                elif not (closed.is_set() or self._broken.is_set() or self._leave.is_set()):
                    raise Fault(f"it did not answer a ping within {patience:g} s")
            finally:
                looking.cancel()
                await asyncio.wait([looking])
                if not looking.cancelled():
                    looking.exception()  # retrieved: raised above

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        mine = tool, arguments
        self._under_way.append(mine)
        try:
            return await super().call(tool, arguments)
        except ServerDied as error:
            if self._was_refused(*mine):
                raise SessionExpired(self.name, tool) from error
            raise
        finally:
            self._under_way.remove(mine)

    def _was_refused(self, tool: str, arguments: dict[str, Any]) -> bool:
        """Whether it was this call that the server did not take because it had forgotten the session.

        Version 1 of the SDK ends the whole connection over that, with the calls that may have had their effect.
        """
        if self._fault is None or not self._fault.expired:
            return False
        if tool in self._utilities:
            return True  # which only reads
        params = self._fault.request.get("params") or {}
        is_mine = (params.get("name"), params.get("arguments") or {}) == (tool, arguments)
        return is_mine and self._under_way.count((tool, arguments)) == 1

    async def _result(self, call: asyncio.Task[ToolResult], tool: str) -> ToolResult:
        try:
            return await super()._result(call, tool)
        except CallRejected as error:
            # The server did not take this call; one that it forgot during the call may have had its effect.
            if self._fault is not None and self._fault.expired and sdk.is_of_transport(error.__cause__):
                raise SessionExpired(self.name, tool) from error
            raise

    def _failed(self, fault: Fault) -> None:
        """Told by the transport, before the SDK makes something of it."""
        self._fault = fault
        if self._session is not None and fault.fatal:
            self._broken.set()

    def _over(self, error: BaseException) -> None:
        connected = self._session is not None
        self.forgotten = connected and self._fault is not None and self._fault.expired
        if isinstance(error, TimeoutError) and not connected:
            reason = f"no connection within {self._plan.spec.connect_timeout:g} s"
        else:
            reason = str(self._fault) if self._fault is not None else reason_of(error)
            if isinstance(error, sdk.RemoteError) and self._fault is None:
                reason = sdk.describe(error)
        self._end(Event.DIED if connected else Event.FAILED, f"{self._plan.spec.url}: {reason}")
