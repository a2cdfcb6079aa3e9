"""One generation of one MCP server: a process, its container and its session, from the spawn to the empty container.

All of it runs in one task. The SDK's session holds an anyio cancel scope, which must be left in the task that entered
it; a session that a shutdown handler closes from another task raises or hangs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from mcp.client.session import ClientSession

from hermesd.ipc.mcp import ServerSpec
from hermesd.workers.agents.contract import Tool, ToolResult
from hermesd.workers.containment.contract import Container
from hermesd.workers.containment.errors import ContainmentError
from hermesd.workers.mcp import sdk, utilities
from hermesd.workers.mcp.errors import CallRejected, CallTimeout, ServerDied
from hermesd.workers.mcp.escalation import Means, polite_steps
from hermesd.workers.mcp.process import SHELL_CANNOT_RUN, SHELL_NOT_FOUND, CannotSpawn, Process, spawn
from hermesd.workers.mcp.sampling import Sampler
from hermesd.workers.mcp.slot import Event
from hermesd.workers.mcp.stderr import StderrLog, drain
from hermesd.workers.mcp.transport import wire

log = logging.getLogger(__name__)

PROBE_SECONDS = 5.0  # for server/discover, or a quarter of the connect_timeout if that is less
DYING_SECONDS = 0.2  # from the end of its output to its death, where the first announces the second
# What a dead server wrote lies in the pipes and is read at once. Their end may never come: a child can hold them open.
LAST_WORDS_SECONDS = 0.05
END_NOTICE_SECONDS = 1.0  # between the end of the session and the news why
SLOW_EMPTYING_SECONDS = 5.0  # after which a container that does not get empty is worth a warning
RESERVE = 0.2  # share of a stop's budget that is kept for emptying

_CANNOT_LIST = (
    sdk.RemoteError, RuntimeError, ValueError, TimeoutError, anyio.ClosedResourceError, anyio.BrokenResourceError,
)  # fmt: skip

Tell = Callable[[Event, int, str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one spawn needs to know."""

    spec: ServerSpec
    environment: dict[str, str]
    grace: float
    probe: bool  # ask for the stateless revision first
    sampler: Sampler | None = None  # answers what the server asks of the session's model
    token: Callable[[str], Awaitable[str]] | None = None  # for a url with OAuth: see `hermesd.workers.mcp.http.Token`


class Generation:
    """``tell(event, number, reason)`` is called on the loop for all that happens to it, ``on_process`` for its pid.

    ``on_tools_changed`` is called when `list_again` has something to do.
    """

    def __init__(
        self,
        plan: Plan,
        number: int,
        container: Container,
        stderr: StderrLog,
        *,
        tell: Tell,
        on_process: Callable[[], None],
        on_tools_changed: Callable[[], None],
    ) -> None:
        self.number = number
        self.container = container
        self.process: Process | None = None
        self.tools: list[Tool] = []
        self.tools_changed = False
        self.protocol = ""
        self.timeout = plan.spec.timeout  # of a call; may change while it runs
        self.permanent = False  # why it does not start will not pass by itself
        self.forgotten = False  # its end is no fault: the server has forgotten the session
        self._plan = plan
        self._stderr = stderr
        self._tell = tell
        self._on_process = on_process
        self._tell_changed = on_tools_changed
        self._session: ClientSession | None = None
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._budget = 0.0  # seconds for the polite steps; 0 = kill at once
        self._utilities: frozenset[str] = frozenset()
        self._abandoned: set[asyncio.Task[ToolResult]] = set()
        self._task: asyncio.Task[None] | None = None
        self._copying: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self._plan.spec.name

    def start(self) -> None:
        self._task = asyncio.create_task(self._live(), name=f"mcp {self.name} #{self.number}")

    def leave(self, budget: float) -> None:
        """Stop politely; the emptied container is within ``budget`` seconds, as far as its processes can be killed."""
        self._budget = budget * (1 - RESERVE)
        self._leave.set()

    def kill(self) -> bool:
        """One round of killing; True when nothing is left. The task learns of it by itself."""
        return self.container.kill_round(self._roots())

    # ---- calls, in the callers' tasks --------------------------------------------------------------------------------

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Raises `ServerDied`, `CallTimeout`, `CallRejected`. On cancellation the server is told and lives on."""
        session = self._session
        if session is None:
            raise ServerDied(self.name, tool, await self._why())
        seconds = self.timeout
        # In a task of its own: the SDK shields the note to the server that a call is cancelled, and a server that does
        # not read would hold the caller for as long.
        call = asyncio.create_task(self._ask(session, tool, arguments), name=f"mcp {self.name}.{tool}")
        try:
            await first(call, self._ended, timeout=seconds)
        except asyncio.CancelledError:
            self._abandon(call)
            raise
        if call.done():
            return await self._result(call, tool)
        self._abandon(call)
        if self._ended.done():
            raise ServerDied(self.name, tool, self._ended.result())
        raise CallTimeout(self.name, tool, seconds)

    async def list_again(self) -> bool:
        """Fetch the tools anew after the server said that they are others now; keeps the old list on failure, False."""
        session = self._session
        if session is None or not self.tools_changed:
            return False
        self.tools_changed = False
        try:
            async with asyncio.timeout(self._plan.spec.connect_timeout):
                await self._list_tools(session)
        except _CANNOT_LIST as error:
            log.warning("MCP server %s: cannot list its changed tools: %s", self.name, sdk.describe(error))
            return False
        return True

    async def _ask(self, session: ClientSession, tool: str, arguments: dict[str, Any]) -> ToolResult:
        if tool in self._utilities:
            return await utilities.call(session, self.name, tool, arguments)
        return await sdk.call_tool(session, tool, arguments)

    async def _list_tools(self, session: ClientSession) -> None:
        own = await sdk.list_tools(session, self.name)
        has = await utilities.present(session, self._plan.spec)
        more = utilities.offer(self._plan.spec, has, [tool.name for tool in own])
        self.tools, self._utilities = [*own, *more], frozenset(tool.name for tool in more)

    async def _result(self, call: asyncio.Task[ToolResult], tool: str) -> ToolResult:
        try:
            return call.result()
        except sdk.RemoteError as error:
            # The SDK's code for a closed connection is one that servers use for their own errors, too.
            if sdk.code(error) == sdk.CONNECTION_CLOSED:
                await asyncio.wait({self._ended}, timeout=END_NOTICE_SECONDS)
                if self._ended.done():
                    raise ServerDied(self.name, tool, self._ended.result()) from error
            raise CallRejected(self.name, tool, sdk.describe(error)) from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise ServerDied(self.name, tool, await self._why()) from error
        except (RuntimeError, ValueError) as error:
            raise CallRejected(self.name, tool, str(error)) from error

    async def _why(self) -> str:
        await asyncio.wait({self._ended}, timeout=END_NOTICE_SECONDS)
        return self._ended.result() if self._ended.done() else "its connection is closed"

    def _abandon(self, call: asyncio.Task[ToolResult]) -> None:
        def forget(task: asyncio.Task[ToolResult]) -> None:
            self._abandoned.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.debug("abandoned %s ended with %r", task.get_name(), error)

        self._abandoned.add(call)
        call.add_done_callback(forget)
        call.cancel()

    # ---- the life, in its own task -----------------------------------------------------------------------------------

    async def _live(self) -> None:
        spec = self._plan.spec
        try:
            self.container.create()
            self.process = await spawn(spec, self._plan.environment, self.container)
        except (CannotSpawn, ContainmentError) as error:
            self.permanent = isinstance(error, CannotSpawn) and error.permanent
            self._end(Event.FAILED, str(error))
            await self._empty()
            return
        process = self.process
        at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        command = " ".join([spec.command, *spec.args])
        self._stderr.begin(f"{at} {self.container.name}, pid {process.pid}: {command}")
        self._on_process()
        copying = asyncio.create_task(drain(process.stderr, self._stderr), name=f"mcp {self.name} stderr")
        self._copying = copying
        try:
            await self._serve(process)
            await self._ask_to_leave(process)
        except Exception as error:  # the task's edge: whatever broke, the process must not outlive it
            log.exception("MCP server %s: its session failed", self.name)
            self._end(Event.FAILED if self._session is None else Event.DIED, f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:  # the loop itself ends; there is no more waiting
            self.kill()
            raise
        finally:
            self._session = None
            for call in self._abandoned:
                call.cancel()
        await self._empty()
        copying.cancel()
        await asyncio.wait([copying])
        process.close()

    async def _serve(self, process: Process) -> None:
        # The session is entered and left in this task and never awaited on here: its requests run in others.
        async with (
            wire(self.name, process.stdout, process.stdin) as (reading, writing, closed),
            sdk.session(reading, writing, self._on_tools_changed, self._sample()) as session,
        ):
            if not await self._connect(session, process, closed):
                return
            self._session = session
            self.container.members()  # for a death without notice, as in _ask_to_leave
            self._tell(Event.CONNECTED, self.number, "")
            async with self._watching(session):
                await first(process.exited, closed.wait(), self._leave.wait())
            if not self._leave.is_set():
                if process.exited.done():
                    await first(closed.wait(), timeout=LAST_WORDS_SECONDS)
                self._end(Event.DIED, await self._reason(process))
            else:
                self._settle("it was stopped")
            self._session = None

    async def _connect(self, session: ClientSession, process: Process, closed: asyncio.Event) -> bool:
        """Shake hands and list the tools; False when that is over without success and told."""
        spec = self._plan.spec
        progress = Progress()
        seconds = spec.connect_timeout
        shaking = asyncio.create_task(self._shake_hands(session, progress), name=f"mcp {self.name} handshake")
        try:
            await first(shaking, process.exited, closed.wait(), self._leave.wait(), timeout=seconds)
            if shaking.done() and not self._leave.is_set():
                try:
                    shaking.result()
                except (sdk.RemoteError, RuntimeError, ValueError, TimeoutError, OSError) as error:
                    closed_by_server = process.exited.done() or closed.is_set() or sdk.is_closed(error)
                    reason = await self._reason(process) if closed_by_server else sdk.describe(error)
                else:
                    return True
            elif self._leave.is_set():
                self._settle("it was stopped")
                return False
            elif process.exited.done() or closed.is_set():
                reason = await self._reason(process)
            else:
                reason = f"no answer to the handshake within {seconds:g} s{self._last_words()}"
        finally:
            shaking.cancel()
            await asyncio.wait([shaking])
            if not shaking.cancelled():
                shaking.exception()  # retrieved: told above
        self.permanent = process.exit_code in (SHELL_NOT_FOUND, SHELL_CANNOT_RUN)
        self._end(Event.PROBE_BROKE if progress.unsure and not self.permanent else Event.FAILED, reason)
        return False

    async def _shake_hands(self, session: ClientSession, progress: Progress) -> None:
        if self._plan.probe and sdk.can_probe(session):
            progress.unsure = True
            patience = self._plan.spec.connect_timeout
            match await sdk.probe(session, min(PROBE_SECONDS, patience / 4)):
                case sdk.Probe.STATELESS:
                    progress.unsure = False
                case sdk.Probe.OLDER:
                    progress.unsure = False
                    await sdk.handshake(session)
                case sdk.Probe.SILENT:
                    # It is slow, or ignores what it does not know, or the question stopped it. The first two answer a
                    # handshake in the same connection; for the third there must be time for a fresh process.
                    async with asyncio.timeout(patience / 2):
                        await sdk.handshake(session)
                    progress.unsure = False
        else:
            await sdk.handshake(session)
        await self._list_tools(session)
        self.protocol = sdk.protocol(session)

    async def _ask_to_leave(self, process: Process) -> None:
        """The polite steps. Its output is read to the end meanwhile: a server that waits in a write cannot end."""
        if not self._leave.is_set() or process.exited.done():
            return
        # Without cgroups, an orphan that shed its tag is known by its parent only, and the parent is about to go.
        self.container.members()
        discarding = asyncio.create_task(_discard(process.stdout), name=f"mcp {self.name} discards")
        try:
            for step in polite_steps(self._plan.grace, self._budget):
                match step.means:
                    case Means.CLOSE_STDIN:
                        process.close_stdin()
                    case Means.TERMINATE:
                        process.terminate()
                await asyncio.wait({process.exited}, timeout=step.wait)
                if process.exited.done():
                    return
        finally:
            discarding.cancel()
            await asyncio.wait([discarding])

    async def _empty(self) -> None:
        loop = asyncio.get_running_loop()
        began, pause, warned = loop.time(), 0.001, False
        while not self.container.kill_round(self._roots()):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
            if not warned and loop.time() - began > SLOW_EMPTYING_SECONDS:
                warned = True
                log.warning("MCP server %s: processes %s do not die", self.name, self.container.members())
        self._settle("it was stopped")
        self._tell(Event.EMPTIED, self.number, "")

    @asynccontextmanager
    async def _watching(self, session: ClientSession) -> AsyncIterator[None]:
        """Hear of changes of the tool list, also in the revision where they are to be asked for."""
        watching = asyncio.create_task(
            sdk.watch_tools(session, self._on_tools_changed), name=f"mcp {self.name} listens"
        )
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            if not watching.cancelled() and (error := watching.exception()) is not None:
                log.warning("MCP server %s: changes of its tools are not heard of: %r", self.name, error)

    def _sample(self) -> sdk.Sample | None:
        sampler = self._plan.sampler
        return sampler.answer if sampler is not None and sampler.can() else None

    def _roots(self) -> tuple[int, ...]:
        return () if self.process is None else (self.process.pidfd,)

    def _on_tools_changed(self) -> None:
        self.tools_changed = True
        self._tell_changed()

    def _end(self, event: Event, reason: str) -> None:
        if not self._ended.done():
            self._settle(reason)
            self._tell(event, self.number, reason)

    def _settle(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    async def _reason(self, process: Process) -> str:
        """Why it ended: the exit status of the leader, and the last it wrote to stderr."""
        await asyncio.wait({process.exited}, timeout=DYING_SECONDS)
        how = process.exited.result() if process.exited.done() else "it closed its connection and still runs"
        if self._copying is not None:
            await asyncio.wait({self._copying}, timeout=LAST_WORDS_SECONDS)
        return how + self._last_words()

    def _last_words(self) -> str:
        last = self._stderr.last_lines()
        return f"; its last words: {last}" if last else ""


@dataclass(slots=True)
class Progress:
    unsure: bool = False  # a failure now may be the probe's fault


async def first(*what: asyncio.Future[Any] | Any, timeout: float | None = None) -> None:
    """Wait for the first of futures and coroutines; the coroutines are cancelled then, the futures are left alone."""
    own = [asyncio.create_task(each) for each in what if asyncio.iscoroutine(each)]
    try:
        given = [each for each in what if not asyncio.iscoroutine(each)]
        await asyncio.wait([*given, *own], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in own:
            task.cancel()


async def _discard(stdout: asyncio.StreamReader) -> None:
    while await stdout.read(1 << 16):
        pass
