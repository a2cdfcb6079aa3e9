"""``mcp.list`` and ``mcp.restart``: the MCP servers of the workers."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import AsyncIterator
from typing import Any

from hermesd.ipc.messages import RestartServer, ServerReport
from hermesd.supervisor.control.api import Done
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.pool import census
from hermesd.supervisor.pool.worker import Worker

from .handler import Handler, Params, outcome_row, progress_event

RESTART_SECONDS = 15.0
"""For a worker to end a server and to say so, where the client gives no time."""

AT_REST = frozenset({"stopped", "broken"})
"""Words of `hermesd.workers.mcp.slot.State` in which nothing of a server runs."""


class McpHandler(Handler):
    async def mcp_list(self, params: Params) -> dict[str, Any]:
        workers = self._workers("")
        looked_into = [worker for worker in workers if any(server.pid for server in worker.servers)]
        trees = await asyncio.to_thread(census.trees, looked_into) if looked_into else {}
        rows = [
            _row(worker, server, trees.get(worker.id, []))
            for worker in workers
            # A worker speaks of its servers when the first of them is needed.
            for server in worker.servers or [ServerReport(name, 0, "stopped") for name in self._configured()]
        ]
        return {"schema": SCHEMA, "configured": self._configured(), "servers": rows}

    async def mcp_restart(self, params: Params) -> AsyncIterator[Any]:
        name = params["server"]
        known = {*self._configured(), *(server.name for worker in self._workers("") for server in worker.servers)}
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            fix = f"did you mean {near[0]}?" if near else "hermesctl mcp list"
            raise Refused(Code.NOT_FOUND, f"there is no MCP server {name}", fix)
        session = await self.session_named(params["session"]) if params["session"] else ""
        workers = self._workers(session)
        if session and not workers:
            raise Refused(Code.NOT_FOUND, f"no worker runs for session {session}", "hermesctl ps")
        seconds = RESTART_SECONDS if params["timeout_s"] is None else params["timeout_s"]
        yield progress_event("stopping", len(workers), 0, seconds)
        outcomes = await asyncio.gather(*(self._restart(worker, name, seconds) for worker in workers))
        yield Done({"schema": SCHEMA, "sessions": outcomes})

    async def _restart(self, worker: Worker, name: str, seconds: float) -> dict[str, Any]:
        key, before = worker.session or "", _report(worker, name)
        self._app.pool.send(worker, RestartServer(name))
        if before is None or before.state in AT_REST:
            return outcome_row(key, "done", f"{name} was not running")
        deadline = time.monotonic() + seconds
        while worker.id in self._app.pool.workers and _is_the_same(before, _report(worker, name)):
            worker.servers_changed.clear()
            try:
                await asyncio.wait_for(worker.servers_changed.wait(), deadline - time.monotonic())
            except TimeoutError:
                return outcome_row(key, "failed", f"{name} has not ended within {seconds:g} s")
        return outcome_row(key, "done", f"process {before.pid} of {name} has ended; the next call starts another")

    def _workers(self, session: str) -> list[Worker]:
        """Those with a session, or with that one, in the order of their names."""
        workers = self._app.pool.workers.values()
        found = [worker for worker in workers if worker.session is not None and session in ("", worker.session)]
        return sorted(found, key=lambda worker: worker.session or "")

    def _configured(self) -> list[str]:
        servers = self._app.loaded.settings.mcp_servers
        return [name for name, server in servers.items() if server.enabled and server.command and not server.url]


def _report(worker: Worker, name: str) -> ServerReport | None:
    return next((server for server in worker.servers if server.name == name), None)


def _is_the_same(before: ServerReport, now: ServerReport | None) -> bool:
    """Whether the generation of before may still be there."""
    return now is not None and now.generation == before.generation and now.state not in AT_REST


def _row(worker: Worker, server: ServerReport, lines: list[census.ProcessLine]) -> dict[str, Any]:
    own = [line for line in lines if line.server == server.name]
    return {
        "session": worker.session or "",
        "worker": worker.id,
        "server": server.name,
        "state": server.state,
        "pid": server.pid or None,
        "generation": server.generation,
        "reason": server.reason,
        "cpu_seconds": sum(line.cpu_seconds for line in own) if own else None,
        "memory_bytes": sum(line.memory_bytes for line in own) if own else None,
    }
