"""``ps``: the processes and what they cost."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from hermesd.supervisor import host
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.gateway.lane import Lane
from hermesd.supervisor.logs import rfc3339
from hermesd.supervisor.pool import census, worker_life
from hermesd.supervisor.pool.hang import Verdict
from hermesd.supervisor.pool.usage import NOTHING, Figures
from hermesd.supervisor.pool.worker import Worker

from .doctor import hangs, silences
from .handler import Handler, Params


class PsHandler(Handler):
    async def ps(self, params: Params) -> dict[str, Any]:
        app = self._app
        sample = await app.sampler.figures()
        workers = list(app.pool.workers.values())
        looked_into = [worker for worker in workers if params["tree"] or worker.servers]
        trees = await asyncio.to_thread(census.trees, looked_into) if looked_into else {}
        lanes = {lane.worker.id: lane for lane in app.lanes.lanes.values() if lane.worker is not None}
        rows = [
            self._worker_row(worker, lanes.get(worker.id), sample, trees.get(worker.id, []), tree=params["tree"])
            for worker in workers
        ]
        rows += [
            _resting_row(lane)
            for lane in app.lanes.lanes.values()
            if lane.worker is None
            and (lane.life is not worker_life.State.HIBERNATED or lane.queue or lane.current is not None)
        ]
        return {
            "schema": SCHEMA,
            "workers": rows,
            "supervisor": {
                "pid": os.getpid(),
                "state": app.state,
                "started_at": rfc3339(app.started_at),
                "cpu_percent": sample.supervisor_percent,
                "cpu_seconds": sample.sample.supervisor,
                "memory_bytes": sample.supervisor_memory,
            },
            "keeper": {
                "pid": app.pool.launcher.pid,
                "state": app.pool.launcher.state,
                "started_at": rfc3339(app.pool.launcher.started_at),
                "cpu_percent": sample.keeper_percent,
                "cpu_seconds": sample.sample.keeper,
                "memory_bytes": sample.keeper_memory,
            },
            **({"keepers": self._adopted_keepers(sample)} if sample.adopted else {}),
            "figures": {
                "source": sample.source,
                "exact": sample.exact,
                "taken_at": rfc3339(sample.sample.taken_at),
                "monotonic_s": sample.sample.at,
            },
            "host": await asyncio.to_thread(host.figures, app.paths.home),
            "warnings": silences(app) + hangs(app),
        }

    def _state_without_session(self, worker: Worker) -> str:
        if not worker.connected:
            return "starting"
        return "busy" if self._app.holders.under_way(worker) else "idle"

    def _adopted_keepers(self, sample: Figures) -> list[dict[str, Any]]:
        """Those that an earlier hermesd has left, and that hold workers still."""
        return [
            {
                "pid": launcher.pid,
                "state": launcher.state,
                "started_at": rfc3339(launcher.started_at),
                "cpu_percent": cost.percent,
                "cpu_seconds": cost.cpu_seconds,
                "memory_bytes": cost.memory,
            }
            for launcher in self._app.pool.launchers[1:]
            if (cost := sample.adopted.get(launcher.pid)) is not None
        ]

    def _worker_row(
        self, worker: Worker, lane: Lane | None, sample: Figures, lines: list[census.ProcessLine], *, tree: bool
    ) -> dict[str, Any]:
        now = time.monotonic()
        usage = sample.sample.workers.get(worker.id, NOTHING)
        turn = lane.current if lane is not None else None
        state = lane.life.value if lane is not None else self._state_without_session(worker)
        row: dict[str, Any] = {
            "worker": worker.id,
            "session": worker.session or "",
            "pid": worker.pid or None,
            "state": state,
            "started_at": rfc3339(worker.started_at),
            "idle_s": now - lane.idle_since if lane is not None and state == "idle" else None,
            "turn": turn.id if turn is not None else None,
            "queue": len(lane.queue) if lane is not None else 0,
            "restarts": lane.restarts if lane is not None else 0,
            "cpu_percent": sample.percent.get(worker.id),
            "cpu_seconds": usage.cpu_seconds,
            "memory_bytes": usage.memory_bytes,
            "processes": usage.processes,
            **_origin_columns(lane),
            "mcp": [
                {
                    "name": server.name,
                    "pid": server.pid or None,
                    "state": server.state,
                    "cpu_seconds": sum(line.cpu_seconds for line in lines if line.server == server.name) or None,
                    "memory_bytes": sum(line.memory_bytes for line in lines if line.server == server.name) or None,
                }
                for server in worker.servers
            ],
        }
        if lane is not None and lane.session is not None:
            session = lane.session
            row["usage"] = {
                "prompt_tokens": session.prompt_tokens, "completion_tokens": session.completion_tokens,
            }  # fmt: skip
        if worker.serves:
            row["serves"] = worker.serves
        if turn is not None and turn.started_at:
            row["turn_s"], row["turn_state"] = now - turn.started_at, turn.state.value
        if worker.connected:
            row["heard_s"] = max(0.0, now - worker.last_heard)
        if worker.silence is not None and worker.silence.verdict is not Verdict.HEARD:
            row["silent_s"], row["silent_cpu_s"] = worker.silence.unheard, worker.silence.used
        if tree:
            row["tree"] = [
                {
                    "pid": line.pid,
                    "ppid": line.parent,
                    "command": line.command,
                    "state": line.state,
                    "cpu_seconds": line.cpu_seconds,
                    "memory_bytes": line.memory_bytes,
                    "mcp": line.server,
                }
                for line in lines
            ]
        return row


def _resting_row(lane: Lane) -> dict[str, Any]:
    """A session without a process that is in trouble, waits for a slot, or is about to have a worker."""
    row: dict[str, Any] = {
        "worker": "",
        "session": lane.key,
        "pid": None,
        "state": lane.life.value,
        "started_at": None,
        "idle_s": None,
        "turn": lane.current.id if lane.current is not None else None,
        "queue": len(lane.queue),
        "restarts": lane.restarts,
        "cpu_percent": None,
        "cpu_seconds": 0.0,
        "memory_bytes": 0,
        "processes": 0,
        "mcp": [],
        **_origin_columns(lane),
    }
    if lane.life in (worker_life.State.BACKOFF, worker_life.State.QUARANTINED):
        row["retry_in_s"] = max(0.0, lane.retry_at - time.monotonic())
    return row


def _origin_columns(lane: Lane | None) -> dict[str, str]:
    """Whose session it is; empty for a spare."""
    if lane is None:
        return {"platform": "", "user": ""}
    if lane.session is not None:
        origin = lane.session.origin
        return {"platform": origin.platform, "user": origin.user_name or origin.user_id}
    turn = lane.current or (lane.queue[0] if lane.queue else lane.last_turn)
    if turn is None:
        return {"platform": "", "user": ""}
    inbound = turn.row.inbound
    return {"platform": inbound.platform, "user": inbound.user_name or inbound.user_id}
