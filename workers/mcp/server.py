"""One configured MCP server of a worker: its slot, and the generation that lives in it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hermesd.ipc.messages import ServerReport
from hermesd.ipc.redaction import Redactor, secrets_of
from hermesd.workers.agents.contract import Tool, ToolResult
from hermesd.workers.containment.contract import Container
from hermesd.workers.mcp.errors import CannotStart, McpError, NoSuchTool, Parked, ServersStopped, SessionExpired
from hermesd.workers.mcp.gate import Grant, Refusal, Verdict, Warden
from hermesd.workers.mcp.generation import Generation, Plan
from hermesd.workers.mcp.rest import Times, next_look, rest_reason
from hermesd.workers.mcp.slot import AT_REST, Action, Event, Slot, State, step
from hermesd.workers.mcp.stderr import StderrLog, log_path
from hermesd.workers.mcp.tool_filter import allows

log = logging.getLogger(__name__)

REST_SECONDS = 3.0
"""For the polite end of a process that is not needed any more, or is to be replaced; what is left then is killed."""

CHANGES_SECONDS = 0.5
"""From a shared server's word that its tools are others to the look: one look for all that it says meanwhile."""

ASKING_RESERVE = 20.0
"""Seconds that the supervisor may take for its answer, besides the time of a start that another session tries, which
may need two processes.
"""


class Server:
    """Drives the slot's table. All methods but `kill` belong to the event loop's thread.

    ``container`` makes the container of a generation; ``on_change`` is called after each change of the slot, and before
    a spawn, so that who looks after this worker knows of a process before it exists.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        container: Callable[[int], Container],
        log_dir: Path | None,
        warden: Warden,
        on_change: Callable[[], None],
    ) -> None:
        self.slot = Slot()
        self._plan = plan
        self._container = container
        self._on_change = on_change
        self._warden = warden
        self._stderr = StderrLog(
            log_path(log_dir, plan.spec.name) if log_dir is not None else None, redactor=_redactor(plan)
        )
        self._changed = asyncio.Event()
        self._rested = self.slot.state  # the last state at rest: nobody outside is told of each question
        self._generation: Generation | None = None
        self._live_plan = plan  # that of the last generation; another one is in effect only for the next
        self._grant = Grant()
        self._probe = True
        self._refusal = Refusal("", 0.0)
        self._tools: list[Tool] | None = None
        self._stop_budget = 0.0
        self._stopped = False
        self._for_tools = True  # nobody who waits for it wants to call it
        self._in_flight = 0
        self._calls = 0  # of those in flight
        self._cut = 0
        self._listing: asyncio.Task[None] | None = None
        self._listing_soon = False
        self._called = False  # in this generation
        self._ready_at = 0.0
        self._used_at = 0.0
        self._rest_timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        return self._plan.spec.name

    @property
    def config(self) -> str:
        return self._plan.spec.config

    async def tools(self, patience: float | None = None) -> list[Tool]:
        """The tools that the configuration allows, from wherever they are known; else the server is started.

        ``patience``: seconds to wait for a list; what was begun goes on after them. None: until it is there, also with
        a server that has failed before. Raises `CannotStart`, and TimeoutError when patience is over and there is none.
        """
        if self._tools is None:
            async with asyncio.timeout(patience):
                await self._know_tools(hurried=patience is not None)
        elif (listing := self._list_again()) is not None:
            await asyncio.wait({listing}, timeout=patience)
        return [tool for tool in self._tools or () if allows(self._plan.spec, tool.name)]

    async def start(self) -> None:
        """Have it running, as if it had been called. Raises `CannotStart`."""
        await self._ready()
        self._called = True

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Start the server if need be and call; raises an `hermesd.workers.mcp.errors.McpError`."""
        if not allows(self._plan.spec, tool):
            raise NoSuchTool(self.name, tool)
        generation = await self._ready()
        try:
            return await self._call_on(generation, tool, arguments)
        except SessionExpired:
            # It has refused the call, which is not the call's fault, nor one that a restart budget has to know of.
            if self._generation is generation:
                self._end(0.0)
            return await self._call_on(await self._ready(), tool, arguments)

    async def _call_on(self, generation: Generation, tool: str, arguments: dict[str, Any]) -> ToolResult:
        # Nothing is awaited before: a server that is ready is not put to rest under a call.
        with self._use():
            self._called = True
            self._calls += 1
            try:
                return await generation.call(tool, arguments)
            except asyncio.CancelledError:
                self._cut += 1
                raise
            finally:
                self._calls -= 1

    def stop(self, budget: float) -> None:
        """Begin to stop, for good; `at_rest` is its end."""
        self._stopped = True
        self._end(budget)

    def restart(self, budget: float) -> None:
        """End what runs; whoever needs the server next, and whoever waits for it now, gets a new one."""
        self._end(budget)

    def reconfigure(self, plan: Plan) -> None:
        """Go by another configuration. What runs is ended if it was started in another way; called while it is unused.

        Also takes a server back that was told to stop for good.
        """
        self._stopped = False
        another = plan.spec.config != self._plan.spec.config
        self._plan = plan
        if self._generation is not None:
            self._generation.timeout = plan.spec.timeout
        self._stderr.redact_by(_redactor(plan))
        if another:
            self._tools, self._probe = None, True
            self._end(REST_SECONDS)
            log.info("MCP server %s has another configuration", self.name)
        self._look_whether_it_rests()

    @property
    def cut_calls(self) -> int:
        """Calls so far whose caller was cancelled, and those that run: their tools may be at work for nobody."""
        return self._cut + self._calls

    async def at_rest(self) -> None:
        """Wait until nothing of this server runs."""
        while self.slot.state not in AT_REST:
            await self._changed.wait()

    def report(self) -> ServerReport:
        generation, process = self._generation, None
        runs = self.slot.state not in AT_REST and self.slot.state is not State.ASKING
        if generation is not None and runs:
            process = generation.process
        return ServerReport(
            name=self.name,
            generation=self.slot.generation,
            state=self._rested if self.slot.state is State.ASKING else self.slot.state,
            pid=process.pid if process is not None else 0,
            start_ticks=process.start_ticks if process is not None else 0,
            container=generation.container.name if generation is not None and runs else "",
            reason=self.slot.reason,
            config=self._live_plan.spec.config if runs else self.config,
        )

    # ---- the slot ----------------------------------------------------------------------------------------------------

    async def _know_tools(self, *, hurried: bool) -> None:
        await self._reach(lambda: self._tools is not None, for_tools=True, hurried=hurried)

    async def _ready(self) -> Generation:
        """The live generation, started if need be. One attempt: the next caller makes the next."""
        await self._reach(lambda: self.slot.state is State.READY, for_tools=False)
        assert self._generation is not None
        return self._generation

    async def _reach(self, reached: Callable[[], bool], *, for_tools: bool, hurried: bool = False) -> None:
        """``hurried``: do not wait for a start that has failed before."""
        tried = False
        while not reached():
            if self._stopped:
                raise ServersStopped(self.name)
            state = self.slot.state
            if hurried and self._grant.again and state in (State.STARTING, State.REPLACING):
                raise CannotStart(self.name, f"it is tried again, after: {self.slot.reason or 'it has failed'}")
            if state in AT_REST:
                if tried and state is not State.STOPPED:
                    raise self._failure()
                tried = True
                self._for_tools = for_tools
                self._event(Event.NEEDED)
                continue
            tried = tried or state in (State.STARTING, State.REPLACING, State.ASKING)
            await self._wait(state)

    async def _wait(self, state: State) -> None:
        """Until the slot changes. What starts has a time-out of its own; the others may take for ever."""
        seconds: float | None = None
        if state in (State.EMPTYING, State.STOPPING):  # in a system call that does not end
            seconds = self._plan.spec.connect_timeout
        elif state is State.ASKING:
            seconds = 2 * self._plan.spec.connect_timeout + ASKING_RESERVE
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            if state is State.ASKING:
                raise CannotStart(self.name, f"hermesd has not said within {seconds:g} s whether it may") from None
            raise CannotStart(
                self.name,
                f"generation {self.slot.generation} does not end although it was killed: {self.slot.reason}",
            ) from None

    def _failure(self) -> McpError:
        if self.slot.state is State.PARKED:
            return Parked(self.name, self._refusal.reason, self._refusal.next_try - time.time())
        return CannotStart(self.name, self.slot.reason)

    def _decided(self, verdict: Verdict) -> None:
        match verdict:
            case Grant():
                self._grant = verdict
                self._event(Event.GRANTED)
            case Refusal():
                self._refusal = verdict
                self._event(Event.REFUSED, reason=verdict.reason)
            case _:
                self._tools = list(verdict)
                self._event(Event.LISTED)

    def _event(self, event: Event, generation: int = 0, reason: str = "") -> None:
        before = self.slot
        self.slot, actions = step(self.slot, event, generation, reason)
        if self.slot.state in AT_REST:
            self._rested = self.slot.state
        if event is Event.CONNECTED and self.slot != before:
            self._became_ready()  # its tools first: for them other sessions may be waiting
        if generation == self.slot.generation or not generation:
            self._tell_budget(event, before.state, reason)
        if reason and self.slot.state in (State.EMPTYING, State.REPLACING):
            log.warning("MCP server %s, generation %d, failed: %s", self.name, generation, reason)
        if Action.SPAWN in actions:
            self._live_plan = replace(self._plan, probe=self._grant.probe and self._probe)
            self._called = False
            self._generation = self._new_generation(self.slot.generation)
        if self.slot != before:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            self._on_change()
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case Action.ASK:
                self._warden.ask(self._plan.spec, for_tools=self._for_tools, then=self._decided)
            case Action.WITHDRAW:
                self._warden.withdraw(self._plan.spec)
            case Action.SPAWN:
                assert self._generation is not None
                self._warden.tell(self._live_plan.spec, self._grant.number, "spawned")
                self._generation.start()
            case Action.STOP_POLITELY:
                assert self._generation is not None
                self._generation.leave(self._stop_budget)
            case Action.EMPTY:
                pass  # a generation that failed empties its container by itself

    def _tell_budget(self, event: Event, before: State, reason: str) -> None:
        """Faults of process and connection, and what ends a grant; a stop of ours is no fault."""
        spec, grant = self._live_plan.spec, self._grant.number
        match event:
            case Event.CONNECTED if before is State.STARTING:
                self._warden.tell(spec, grant, "ready")
            case Event.FAILED if before is State.STARTING:
                permanent = self._generation is not None and self._generation.permanent
                self._warden.tell(spec, grant, "failed", reason, permanent=permanent)
            case Event.PROBE_BROKE if before is State.STARTING:
                self._probe = False
                self._warden.tell(spec, grant, "probe_broke", reason)
            case Event.DIED if before is State.READY and not (self._generation and self._generation.forgotten):
                self._warden.tell(spec, grant, "crashed", reason)
            case Event.STOP if before in (State.STARTING, State.REPLACING):
                self._warden.tell(spec, grant, "withdrawn")

    def _list_again(self) -> asyncio.Task[None] | None:
        """Begin to list the tools that have changed; None where there is nothing new to wait for."""
        generation = self._generation
        if self.slot.state is not State.READY or generation is None or not generation.tools_changed:
            return None
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(self._list(generation), name=f"mcp {self.name} lists again")
        return self._listing

    async def _list(self, generation: Generation) -> None:
        with self._use():
            listed = await generation.list_again()
        # Meanwhile it may have ended; what runs now says what it has when it is ready.
        if listed and self._generation is generation and self.slot.state is State.READY:
            self._take_tools(generation.tools)

    def _tools_changed(self) -> None:
        """Sessions ask for the list of a shared server where it is kept, and not here: so it is brought there."""
        if self._plan.spec.shared and not self._listing_soon:
            self._listing_soon = True
            asyncio.get_running_loop().call_later(CHANGES_SECONDS, self._list_soon)

    def _list_soon(self) -> None:
        self._listing_soon = False
        self._list_again()

    def _became_ready(self) -> None:
        assert self._generation is not None
        self._ready_at = self._used_at = asyncio.get_running_loop().time()
        self._take_tools(self._generation.tools)
        log.info("MCP server %s is ready: %d tools, %s", self.name, len(self._tools or ()), self._generation.protocol)
        self._look_whether_it_rests()

    def _take_tools(self, tools: list[Tool]) -> None:
        self._tools = tools
        self._warden.listed(self._live_plan.spec, tools)

    def _end(self, budget: float) -> None:
        self._stop_budget = budget
        self._event(Event.STOP)

    def _kind(self) -> type[Generation]:
        if not self._live_plan.spec.url:
            return Generation
        from hermesd.workers.mcp.remote import RemoteGeneration  # HTTP takes its time to import

        return RemoteGeneration

    def _new_generation(self, number: int) -> Generation:
        return self._kind()(
            self._live_plan,
            number,
            self._container(number),
            self._stderr,
            tell=self._event,
            on_process=self._on_change,
            on_tools_changed=self._tools_changed,
        )

    # ---- rest --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _use(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._used_at = asyncio.get_running_loop().time()
            self._look_whether_it_rests()

    def _look_whether_it_rests(self) -> None:
        """End a process that has been idle for long enough, or is old enough, unless it is in use."""
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        if self.slot.state is not State.READY or self._in_flight:
            return
        spec, loop = self._plan.spec, asyncio.get_running_loop()
        times = Times(self._ready_at, self._used_at, self._called)
        if reason := rest_reason(spec, times, loop.time()):
            log.info("MCP server %s is ended: %s", self.name, reason)
            self._end(REST_SECONDS)
        elif (at := next_look(spec, times)) is not None:
            self._rest_timer = loop.call_at(at, self._look_whether_it_rests)


def _redactor(plan: Plan) -> Redactor:
    """What its configuration hands it, it may print."""
    return Redactor((*plan.spec.env.values(), *secrets_of(plan.environment)))
