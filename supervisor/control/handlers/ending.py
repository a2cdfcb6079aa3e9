"""``stop`` and ``restart``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.config.errors import ConfigError
from hermesd.supervisor.control.api import Done
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.journal import sessions
from hermesd.supervisor.logs import rfc3339

from .handler import Handler, Params, outcome_row, progress_event

SHORTEST_RESTART = 2.0
"""Seconds; a hermesd that is exec'd anew claims its keepers within some 0.3 s, on a machine that is not busy."""


class EndingHandler(Handler):
    async def stop(self, params: Params) -> AsyncIterator[Any]:
        if params["sessions"]:
            yield progress_event("stopping", len(params["sessions"]), 0, 5.0)
            outcomes = await asyncio.gather(*(self._stop_session(key) for key in params["sessions"]))
            yield Done({"schema": SCHEMA, "sessions": outcomes})
            return
        app = self._app
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        app.on_stop_progress(
            lambda phase, busy, left: events.put_nowait(progress_event(phase, len(app.pool.workers), busy, left))
        )
        yield progress_event("draining", len(app.pool.workers), app.lanes.running, app.budget.watchdog)
        app.request_stop("hermesctl stop", params["timeout_s"])
        stopped = asyncio.ensure_future(app.stopped.wait())
        while not stopped.done():
            event = asyncio.ensure_future(events.get())
            await asyncio.wait([event, stopped], return_when=asyncio.FIRST_COMPLETED)
            if event.done():
                yield event.result()
            else:
                event.cancel()
        assert app.stop_report is not None
        yield Done({
            "schema": SCHEMA, "pid": os.getpid(), "killed": app.stop_report.killed, "took_s": app.stop_report.took,
        })  # fmt: skip

    async def _stop_session(self, key: str) -> dict[str, Any]:
        if await self._app.lanes.stop_session(SessionKey(key), "stopped by hermesctl"):
            return outcome_row(key, "done", "its worker has ended; the conversation is kept")
        if await self._app.journal.read(sessions.current, key) is not None:
            return outcome_row(key, "done", "no worker was running")
        return outcome_row(key, "not_found", "there is no such session")

    async def restart_supervisor(self, params: Params) -> dict[str, Any]:
        app = self._app
        if app.console:
            raise Refused(Code.FAILED, "hermesd talks in its own terminal (--console) and cannot be exec'd anew there",
                          "end it and start it again")  # fmt: skip
        if app.state != "running":
            raise Refused(Code.BUSY, f"hermesd is {app.state}", "hermesctl status")
        if app.loaded.settings.hermesd.adopt_timeout_seconds < SHORTEST_RESTART:
            raise Refused(
                Code.FAILED,
                f"hermesd.adopt_timeout is under {SHORTEST_RESTART:g} s: the workers would not wait for the restart",
                "raise hermesd.adopt_timeout, which takes effect with the next start",
            )
        try:
            await app.reloader.reload(dry_run=True)
        except ConfigError as error:
            raise Refused(Code.FAILED, f"hermesd would not start with its configuration as it is now:\n{error}",
                          "hermesd --check") from error  # fmt: skip
        app.request_restart()
        return {
            "schema": SCHEMA,
            "pid": os.getpid(),
            "started_at": rfc3339(app.started_at),
            "workers": sum(worker.session is not None for worker in app.pool.workers.values()),
        }

    async def restart(self, params: Params) -> AsyncIterator[Any]:
        yield progress_event("stopping", len(params["sessions"]), 0, 5.0)
        outcomes = []
        for key in params["sessions"]:
            done = await self._app.lanes.restart_session(SessionKey(key), "restarted by hermesctl")
            text = "a new worker is starting" if done else "there is no such session"
            outcomes.append(outcome_row(key, "done" if done else "not_found", text))
        yield Done({"schema": SCHEMA, "sessions": outcomes})
