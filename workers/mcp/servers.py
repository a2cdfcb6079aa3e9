"""All MCP servers of one worker: what agents see as ``session.mcp``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hermesd.ipc.mcp import ServerSpec, is_the_same
from hermesd.ipc.messages import ServerReport
from hermesd.workers.agents.contract import Tool, ToolResult
from hermesd.workers.containment.contract import Container, Containment
from hermesd.workers.mcp.environment import server_environment
from hermesd.workers.mcp.errors import McpError, NoSuchServer
from hermesd.workers.mcp.gate import OpenGate, Warden
from hermesd.workers.mcp.nowhere import NOWHERE
from hermesd.workers.mcp.shared import SharedCalls, SharedServer
from hermesd.workers.mcp.slot import AT_REST, Slot

if TYPE_CHECKING:
    from hermesd.workers.mcp.generation import Plan
    from hermesd.workers.mcp.sampling import Model
    from hermesd.workers.mcp.server import Server

log = logging.getLogger(__name__)

RESTART_SECONDS = 3.0
"""For the polite end of a server that is to be restarted; what is left of it then is killed."""

LATE_SECONDS = 0.2
"""For hermesd's word whether somebody has a list by now that was waited for in vain already."""

CUT_OFF_SECONDS = 1.5
"""The same for one whose call was cut off: what its tool has started is to be gone within 5 s of the /stop."""


class Servers:
    """Implements `hermesd.workers.agents.contract.Tools`. A server is started by the first call that needs it.

    ``tag`` is the worker's; ``base_env`` the environment that the servers' is filtered from; ``grace`` the seconds
    between the steps of a polite stop. ``warden`` is asked before each start; without one everything may be started.
    ``on_change`` gets all reports whenever one changes, on the loop's thread. ``model`` answers what servers ask of the
    session's model; ``token(server, refused)`` gives the access token of one that is reached by url, ``refused`` being
    one that it does not take any more. Calls of a server that all sessions share go to ``shared``; without it, it is
    started here as the others are.
    """

    def __init__(
        self,
        specs: Sequence[ServerSpec],
        *,
        containment: Containment,
        worker: str,
        tag: str,
        log_dir: str | Path | None,
        base_env: Mapping[str, str],
        grace: float = 3.0,
        warden: Warden | None = None,
        on_change: Callable[[tuple[ServerReport, ...]], None] | None = None,
        model: Model | None = None,
        token: Callable[[str, str], Awaitable[str]] | None = None,
        shared: SharedCalls | None = None,
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._containment = containment
        self._worker = worker
        self._tag = tag
        self._log_dir = Path(log_dir) if log_dir else None
        self._base_env = dict(base_env)
        self._grace = grace
        self._warden = warden or OpenGate()
        self._on_change = on_change
        self._model = model
        self._token = token
        self._shared = shared
        self._holds = ""
        self._alone: dict[str, asyncio.Lock] = {}  # for servers that are fresh for each call
        self._servers: dict[str, Server] = {}
        self._late: set[str] = set()  # those whose list was waited for in vain
        self._stopped = False
        self._reported = self.reports()

    async def tools(self, *, patient: bool = False) -> list[Tool]:
        lists = await asyncio.gather(*(self._tools(name, patient=patient) for name in self._specs))
        return [tool for tools in lists for tool in tools]

    async def start(self, *servers: str) -> None:
        for name in servers:
            if name not in self._specs:
                raise NoSuchServer(name, self._specs)
        await asyncio.gather(*(self._start(name) for name in servers or self._specs))

    async def call(self, server: str, tool: str, arguments: dict[str, Any]) -> ToolResult:
        if server not in self._specs:
            raise NoSuchServer(server, self._specs)
        if not self._specs[server].fresh:
            return await self._whose(server).call(tool, arguments)
        async with self._alone.setdefault(server, asyncio.Lock()):
            try:
                return await self._whose(server).call(tool, arguments)
            finally:
                self.restart(server)

    def hold(self, name: str) -> None:
        """This worker has the instance of ``name`` that all sessions share."""
        self._holds = name
        self._report()

    def reports(self) -> tuple[ServerReport, ...]:
        """Every server that is to run here, in the configuration's order, then those that are being removed.

        One that was never needed is stopped.
        """
        named = {name: server.report() for name, server in self._servers.items()}
        configured = (
            named.pop(name) if name in named else ServerReport(name, 0, Slot().state, config=spec.config)
            for name, spec in self._specs.items()
            if self._is_here(name)
        )
        return (*configured, *named.values())

    def restart(self, name: str, seconds: float = RESTART_SECONDS) -> None:
        """End the process of a server, politely at first; the next call that needs it starts another. Reports tell."""
        if name in self._servers:
            self._servers[name].restart(seconds)

    def equip(self, specs: Sequence[ServerSpec]) -> None:
        """These are the servers from now on. Called when no turn runs.

        Those that do not differ are not touched; a process goes on where only what is done with it differs; the others
        are ended, and forgotten where they are not among ``specs``.
        """
        if self._stopped:
            return
        before, self._specs = self._specs, {spec.name: spec for spec in specs}
        self._late = {name for name in self._late if is_the_same(name, before.values(), specs)}
        for name, server in list(self._servers.items()):
            if not self._is_here(name):
                server.stop(RESTART_SECONDS)
                self._forget_at_rest(name)
            elif self._specs[name] != before.get(name):
                server.reconfigure(self._plan(self._specs[name]))
        if self._specs != before:
            self._report()

    def cut_calls(self) -> dict[str, int]:
        """At the start of a turn, for `end_cut_off`."""
        return {name: server.cut_calls for name, server in self._servers.items()}

    def end_cut_off(self, before: Mapping[str, int]) -> None:
        """A turn was interrupted: end the servers that it was calling, with everything that their tools have started.

        The protocol has a message for "cancelled" and no answer to it, so nobody could tell when a tool has ended.
        """
        for name, server in self._servers.items():
            if server.cut_calls > before.get(name, 0):
                log.info("MCP server %s is ended: a call of it was cut off", name)
                server.restart(CUT_OFF_SECONDS)

    async def stop(self, seconds: float) -> None:
        """Stop all servers at once, politely first, and start none any more.

        Returns when nothing of them is left, at the latest after ``seconds``; what cannot be killed by then is logged,
        and the end of the worker's own container takes it.
        """
        self._stopped = True
        servers = list(self._servers.values())
        for server in servers:
            server.stop(seconds)
        if not servers:
            return
        waits = [asyncio.create_task(server.at_rest(), name=f"mcp {server.name} stops") for server in servers]
        await asyncio.wait(waits, timeout=seconds)
        for server, wait in zip(servers, waits, strict=True):
            if not wait.done():
                wait.cancel()
                log.warning("MCP server %s is still %s after %g s", server.name, server.slot.state, seconds)

    async def _start(self, name: str) -> None:
        try:
            await self.start_one(name)
        except McpError as error:
            log.warning("%s", error)

    async def start_one(self, name: str) -> None:
        """Raises an `McpError`."""
        await self._whose(name).start()

    async def tools_of(self, name: str) -> list[Tool]:
        """Of one server. Raises an `McpError`."""
        if name not in self._specs:
            raise NoSuchServer(name, self._specs)
        return await self._whose(name).tools()

    async def _tools(self, name: str, *, patient: bool) -> list[Tool]:
        patience = None
        if not patient:
            patience = max(LATE_SECONDS, 0.0 if name in self._late else self._specs[name].tools_wait)
        try:
            found = await self._whose(name).tools(patience)
        except McpError as error:
            log.warning("no tools of MCP server %s: %s", name, error)
            return []
        except TimeoutError:
            if name not in self._late:
                log.warning("no tools of MCP server %s yet: it has not given its list within %g s", name, patience or 0)
            self._late.add(name)
            return []
        self._late.discard(name)
        return found

    def _is_here(self, name: str) -> bool:
        """Whether it is configured, and to run in this worker."""
        spec = self._specs.get(name)
        if spec is None or (self._holds and name != self._holds):
            return False
        return bool(self._holds) or self._shared is None or not spec.shared

    def _whose(self, name: str) -> Server | SharedServer:
        if self._shared is not None and not self._is_here(name):
            return SharedServer(self._specs[name], self._shared)
        return self._server(name)

    def _server(self, name: str) -> Server:
        if name not in self._servers:
            self._servers[name] = self._make(self._specs[name])
        return self._servers[name]

    def _make(self, spec: ServerSpec) -> Server:
        # The SDK takes 0.7 s of CPU to import; a session that needs no server never pays it.
        from hermesd.workers.mcp.server import Server

        server = Server(
            self._plan(spec),
            container=partial(self._container, spec),
            log_dir=self._log_dir,
            warden=self._warden,
            on_change=partial(self._changed, spec.name),
        )
        if self._stopped:
            server.stop(0.0)
        return server

    def _plan(self, spec: ServerSpec) -> Plan:
        from hermesd.workers.mcp.generation import Plan
        from hermesd.workers.mcp.sampling import Sampler

        return Plan(
            spec,
            server_environment(self._base_env, spec.env),
            self._grace,
            probe=True,
            sampler=Sampler(spec.name, spec.sampling, self._model) if spec.sampling and self._model else None,
            token=partial(self._token, spec.name) if spec.oauth and self._token is not None else None,
        )

    def _changed(self, name: str) -> None:
        self._forget_at_rest(name)
        self._report()

    def _forget_at_rest(self, name: str) -> None:
        """Of one that is configured no more nothing is kept, once nothing of it runs."""
        server = self._servers.get(name)
        if server is not None and not self._is_here(name) and server.slot.state in AT_REST:
            del self._servers[name]

    def _container(self, spec: ServerSpec, generation: int) -> Container:
        return NOWHERE if spec.url else self._containment.server(self._worker, self._tag, spec.name, generation)

    def _report(self) -> None:
        reports = self.reports()
        if self._on_change is not None and reports != self._reported:
            self._reported = reports
            self._on_change(reports)
