"""One configured MCP server of a worker: its slot, and the generation that lives in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hermesd.ipc.messages import ServerReport
from hermesd.ipc.redaction import Redactor, secrets_of
from hermesd.workers.agents.contract import Tool, ToolResult
from hermesd.workers.containment.contract import Container
from hermesd.workers.mcp.errors import CannotStart, NoSuchTool, ServersStopped
from hermesd.workers.mcp.generation import Generation, Plan
from hermesd.workers.mcp.slot import AT_REST, Action, Event, Slot, State, step
from hermesd.workers.mcp.stderr import StderrLog, log_path

log = logging.getLogger(__name__)


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
        on_change: Callable[[], None],
    ) -> None:
        self.slot = Slot()
        self._plan = plan
        self._container = container
        self._on_change = on_change
        self._stderr = StderrLog(
            log_path(log_dir, plan.spec.name) if log_dir is not None else None,
            # What its configuration hands it, it may print.
            redactor=Redactor((*plan.spec.env.values(), *secrets_of(plan.environment))),
        )
        self._changed = asyncio.Event()
        self._generation: Generation | None = None
        self._tools: list[Tool] | None = None
        self._stop_budget = 0.0
        self._stopped = False

    @property
    def name(self) -> str:
        return self._plan.spec.name

    async def tools(self) -> list[Tool]:
        """The tools that the configuration allows; starts the server if they are not known. Raises `CannotStart`."""
        if self._tools is None:
            await self._ready()
        elif self.slot.state is State.READY and self._generation is not None:
            await self._generation.list_again()
            self._tools = self._generation.tools
        return [tool for tool in self._tools or () if self._allows(tool.name)]

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Start the server if need be and call; raises an `hermesd.workers.mcp.errors.McpError`."""
        if not self._allows(tool):
            raise NoSuchTool(self.name, tool)
        generation = await self._ready()
        return await generation.call(tool, arguments)

    def stop(self, budget: float) -> None:
        """Begin to stop, for good; `at_rest` is its end."""
        self._stopped = True
        self._stop_budget = budget
        self._event(Event.STOP)

    def restart(self, budget: float) -> None:
        """End what runs; whoever needs the server next, and whoever waits for it now, gets a new one."""
        self._tools = None
        self._stop_budget = budget
        self._event(Event.STOP)

    async def at_rest(self) -> None:
        """Wait until nothing of this server runs."""
        while self.slot.state not in AT_REST:
            await self._changed.wait()

    def report(self) -> ServerReport:
        generation, process = self._generation, None
        if generation is not None and self.slot.state not in AT_REST:
            process = generation.process
        return ServerReport(
            name=self.name,
            generation=self.slot.generation,
            state=self.slot.state,
            pid=process.pid if process is not None else 0,
            start_ticks=process.start_ticks if process is not None else 0,
            container=generation.container.name if generation is not None and self.slot.state not in AT_REST else "",
            reason=self.slot.reason,
        )

    # ---- the slot ----------------------------------------------------------------------------------------------------

    async def _ready(self) -> Generation:
        """The live generation, started if need be. One attempt: the next caller makes the next."""
        tried = False
        while True:
            if self._stopped:
                raise ServersStopped(self.name)
            state = self.slot.state
            if state is State.READY:
                assert self._generation is not None
                return self._generation
            if state in AT_REST:
                if tried:
                    raise CannotStart(self.name, self.slot.reason)
                tried = True
                self._event(Event.NEEDED)
                continue
            tried = tried or state in (State.STARTING, State.REPLACING)
            # What starts has a time-out of its own; what is being killed may be in a system call that does not end.
            bounded = state in (State.EMPTYING, State.STOPPING)
            try:
                async with asyncio.timeout(self._plan.spec.connect_timeout if bounded else None):
                    await self._changed.wait()
            except TimeoutError:
                raise CannotStart(
                    self.name,
                    f"generation {self.slot.generation} does not end although it was killed: {self.slot.reason}",
                ) from None

    def _event(self, event: Event, generation: int = 0, reason: str = "") -> None:
        before = self.slot
        self.slot, actions = step(self.slot, event, generation, reason)
        if event is Event.PROBE_BROKE:
            self._plan = replace(self._plan, probe=False)
        if event is Event.CONNECTED and self.slot.state is State.READY:
            assert self._generation is not None
            self._tools = self._generation.tools
            log.info("MCP server %s is ready: %d tools, %s", self.name, len(self._tools), self._generation.protocol)
        if reason and self.slot.state in (State.EMPTYING, State.REPLACING):
            log.warning("MCP server %s, generation %d, failed: %s", self.name, generation, reason)
        if Action.SPAWN in actions:
            self._generation = self._new_generation(self.slot.generation)
        if self.slot != before:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            self._on_change()
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        assert self._generation is not None
        match action:
            case Action.SPAWN:
                self._generation.start()
            case Action.STOP_POLITELY:
                self._generation.leave(self._stop_budget)
            case Action.EMPTY:
                pass  # a generation that failed empties its container by itself

    def _new_generation(self, number: int) -> Generation:
        return Generation(
            self._plan,
            number,
            self._container(number),
            self._stderr,
            tell=self._event,
            on_process=self._on_change,
        )

    def _allows(self, tool: str) -> bool:
        spec = self._plan.spec
        return tool in spec.include if spec.include else tool not in spec.exclude
