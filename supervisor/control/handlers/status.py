"""``status``, ``version`` and where the log is."""

from __future__ import annotations

import os
import time
from typing import Any

from hermesd.ipc.version import VERSION
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.journal import figures
from hermesd.supervisor.logs import rfc3339
from hermesd.supervisor.pool.usage import Figures
from hermesd.supervisor.pool.worker_life import WITH_PROCESS

from .doctor import findings
from .handler import Handler, Params
from .platforms import status_of


class StatusHandler(Handler):
    async def version(self, params: Params) -> dict[str, Any]:
        return {"schema": SCHEMA, "version": VERSION, "pid": os.getpid()}

    async def logs_path(self, params: Params) -> dict[str, Any]:
        return {"path": str(self._app.paths.logs / "hermesd.log")}

    async def status(self, params: Params) -> dict[str, Any]:
        app = self._app
        sample = await app.sampler.figures(wait=False)
        counted = await app.journal.read(figures.count, time.time())
        found = findings(app)
        degraded = any(finding["severity"] != "ok" for finding in found)
        ages = [age for age in (counted.inbox_oldest_age, counted.outbox_oldest_age) if age]
        state = "draining" if app.state == "running" and app.lanes.drain_order.everything else app.state
        by_state: dict[str, int] = {}
        for lane in app.lanes.lanes.values():
            by_state[lane.life.value] = by_state.get(lane.life.value, 0) + 1
        launcher, settings, wire = app.pool.launcher, app.lanes.settings, app.pool.counts()
        return {
            "schema": SCHEMA,
            "state": "degraded" if state == "running" and degraded else state,
            "pid": os.getpid(),
            "version": VERSION,
            "instance": app.paths.instance,
            "home": str(app.paths.home),
            "started_at": rfc3339(app.started_at),
            "uptime_s": time.time() - app.started_at,
            "loop": {"lag_ms_p99": app.lag.p99() * 1000.0},
            "platforms": [status_of(connection) for connection in app.platforms.connections.values()],
            "workers": {
                "by_state": by_state,
                "total": sum(by_state.get(state.value, 0) for state in WITH_PROCESS),
                "max": settings.max_workers,
                "running_turns": app.lanes.running,
                "max_turns": settings.max_turns,
                "waiting_turns": app.lanes.waiting,
                "adopted": app.lanes.adoption.adopted,
            },
            "queues": {
                "inbox": sum(counted.inbox[state] for state in ("received", "queued", "dispatched", "accepted")),
                "outbox": sum(counted.outbox[state] for state in ("pending", "sending", "ambiguous")),
                "oldest_s": max(ages) if ages else None,
                "dead": counted.dead_letters,
            },
            "cpu": {"percent": _total_percent(sample), "seconds": _total_seconds(sample) + app.pool.cpu_of_the_gone},
            "memory_bytes": sample.supervisor_memory
            + sample.keeper_memory
            + sum(cost.memory for cost in sample.adopted.values())
            + sum(usage.memory_bytes for usage in sample.sample.workers.values()),
            "wire": {
                "foreign_frames": wire.foreign_frames,
                "refused_hellos": wire.refused_hellos,
                "refused_keys": wire.refused_keys,
                "unreadable_frames": wire.peer_errors,
                "false_claims": wire.false_claims,
            },
            "containment": {"name": launcher.containment, "refused": list(launcher.refused)},
            "journal": {"state": app.journal.state.word, "reason": app.journal.state.reason},
            "drain": {
                "everything": app.lanes.drain_order.everything,
                "sessions": sorted(app.lanes.drain_order.sessions),
            },
            "warnings": [finding for finding in found if finding["severity"] != "ok"],
            "log_tail": list(app.tail.lines)[-5:],
        }


def _total_percent(sample: Figures) -> float | None:
    if sample.supervisor_percent is None or sample.keeper_percent is None:
        return None
    adopted = sum(cost.percent or 0.0 for cost in sample.adopted.values())
    return sample.supervisor_percent + sample.keeper_percent + adopted + sum(sample.percent.values())


def _total_seconds(sample: Figures) -> float:
    workers = sum(usage.cpu_seconds for usage in sample.sample.workers.values())
    return sample.sample.supervisor + sample.sample.keeper + sum(sample.sample.adopted.values()) + workers
