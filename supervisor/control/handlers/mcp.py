"""The verbs ``mcp.*``: the MCP servers of the workers, and the budget of each over all of them."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import AsyncIterator
from typing import Any

from hermesd.ipc.mcp import log_name
from hermesd.ipc.messages import RestartServer, ServerReport
from hermesd.supervisor.control.api import Done
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.logs import rfc3339
from hermesd.supervisor.mcp import budget as rules
from hermesd.supervisor.mcp.servers import Entry
from hermesd.supervisor.pool import census
from hermesd.supervisor.pool.worker import Worker

from .handler import Handler, Params, outcome_row, progress_event

RESTART_SECONDS = 15.0
"""For a worker to end a server and to say so, where the client gives no time."""

AT_REST = frozenset({"stopped", "asking", "broken", "parked"})
"""Words of `hermesd.workers.mcp.slot.State` in which nothing of a server runs."""


class McpHandler(Handler):
    async def mcp_list(self, params: Params) -> dict[str, Any]:
        rows = await self._rows("", figures=params["figures"])
        return {
            "schema": SCHEMA,
            "configured": self._configured(),
            "budgets": [_budget(entry, rows) for entry in self._app.mcp.entries()],
            "servers": rows,
        }

    async def mcp_show(self, params: Params) -> dict[str, Any]:
        entry = self._entry(params["server"])
        spec, rows = entry.spec, await self._rows(entry.spec.name)
        return {
            "schema": SCHEMA,
            **_budget(entry, rows),
            "command": spec.command,
            "url": spec.url,
            "args": list(spec.args),
            "env": sorted(spec.env),
            "cwd": spec.cwd,
            "timeout_s": spec.timeout,
            "connect_timeout_s": spec.connect_timeout,
            "idle_timeout_s": spec.idle_timeout or None,
            "max_lifetime_s": spec.max_lifetime or None,
            "include": list(spec.include),
            "exclude": list(spec.exclude),
            "tool_names": None if entry.tools is None else [tool.name for tool in entry.tools],
            "log": str(self._app.paths.logs / log_name(spec.name)),
            "sessions": rows,
        }

    async def mcp_reset(self, params: Params) -> dict[str, Any]:
        entry = self._entry(params["server"])
        was = entry.budget.state
        self._pardon(entry.spec.name)
        return {"schema": SCHEMA, "server": entry.spec.name, "was": was}

    async def mcp_restart(self, params: Params) -> AsyncIterator[Any]:
        name = params["server"]
        if not any(server.name == name for worker in self._workers("") for server in worker.servers):
            self._entry(name)
        session = await self.session_named(params["session"]) if params["session"] else ""
        workers = self._workers(session)
        if session and not workers:
            raise Refused(Code.NOT_FOUND, f"no worker runs for session {session}", "hermesctl ps")
        seconds = RESTART_SECONDS if params["timeout_s"] is None else params["timeout_s"]
        yield progress_event("stopping", len(workers), 0, seconds)
        self._pardon(name)
        outcomes = await asyncio.gather(*(self._restart(worker, name, seconds) for worker in workers))
        yield Done({"schema": SCHEMA, "sessions": outcomes})

    def _pardon(self, name: str) -> None:
        self._app.mcp.pardon(name)
        self._app.holders.pardon(name)

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

    async def _rows(self, name: str, *, figures: bool = True) -> list[dict[str, Any]]:
        """Each server of each session, or the one of that name; with ``figures`` of the kernel, which cost a look at
        every process.
        """
        workers = self._workers("")
        looked_into = [worker for worker in workers if figures and any(server.pid for server in worker.servers)]
        trees = await asyncio.to_thread(census.trees, looked_into) if looked_into else {}
        own = [entry.spec for entry in self._app.mcp.entries() if not entry.spec.shared]
        resting = [ServerReport(spec.name, 0, "stopped", config=spec.config) for spec in own]
        return [
            _row(worker, server, trees.get(worker.id, []))
            for worker in workers
            # A worker speaks of its servers when the first of them is needed.
            for server in worker.servers or resting
            if name in ("", server.name)
        ]

    def _workers(self, session: str) -> list[Worker]:
        """Those with a session, or with that one, in the order of their names."""
        workers = self._app.pool.workers.values()
        found = [worker for worker in workers if not worker.is_spare and session in ("", worker.session)]
        return sorted(found, key=lambda worker: worker.session or "")

    def _configured(self) -> list[str]:
        return [entry.spec.name for entry in self._app.mcp.entries()]

    def _entry(self, name: str) -> Entry:
        """Raises `Refused` where there is no such server."""
        if (entry := self._app.mcp.entry(name)) is not None:
            return entry
        near = difflib.get_close_matches(name, self._configured(), n=1)
        fix = f"did you mean {near[0]}?" if near else "hermesctl mcp list"
        raise Refused(Code.NOT_FOUND, f"there is no MCP server {name}", fix)


def _report(worker: Worker, name: str) -> ServerReport | None:
    return next((server for server in worker.servers if server.name == name), None)


def _is_the_same(before: ServerReport, now: ServerReport | None) -> bool:
    """Whether the generation of before may still be there."""
    return now is not None and now.generation == before.generation and now.state not in AT_REST


def _budget(entry: Entry, rows: list[dict[str, Any]]) -> dict[str, Any]:
    budget, name = entry.budget, entry.spec.name
    return {
        "server": name,
        "config": entry.spec.config,
        "state": budget.state,
        "reason": rules.sentence(budget),
        "next_try_at": rfc3339(budget.next_try) if budget.state in rules.WAITING else None,
        "spawns": budget.spawns,
        "failures": budget.failures,
        "crashes": budget.crashes,
        "running": sum(row["server"] == name and row["state"] not in AT_REST for row in rows),
        "tools": None if entry.tools is None else len(entry.tools),
    }


def _row(worker: Worker, server: ServerReport, lines: list[census.ProcessLine]) -> dict[str, Any]:
    own = [line for line in lines if line.server == server.name]
    return {
        "session": worker.session or "",
        "worker": worker.id,
        "server": server.name,
        "state": server.state,
        "pid": server.pid or None,
        "generation": server.generation,
        "config": server.config,
        "reason": server.reason,
        "cpu_seconds": sum(line.cpu_seconds for line in own) if own else None,
        "memory_bytes": sum(line.memory_bytes for line in own) if own else None,
    }
