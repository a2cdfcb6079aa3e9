"""``stop`` and ``restart``."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.config.errors import ConfigError
from hermesd.supervisor.control.api import Done
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.gateway.lanes import START_SECONDS
from hermesd.supervisor.journal.errors import JournalError
from hermesd.supervisor.logs import rfc3339
from hermesd.supervisor.pool.worker_life import WITH_PROCESS, State

from .handler import Handler, Params, outcome_row, progress_event

END_SECONDS = 5.0
"""For an interrupt and the end of a worker, its kill included."""

NEW_WORKER_SECONDS = 10.0
"""What a new worker has at least, where a running turn has used up the time of a restart."""

EVENT_EVERY = 1.0


SHORTEST_RESTART = 2.0
"""Seconds; a hermesd that is exec'd anew claims its keepers within some 0.3 s, on a machine that is not busy."""


class EndingHandler(Handler):
    async def stop(self, params: Params) -> AsyncIterator[Any]:
        if params["sessions"]:
            async for event in self._each(params, self._stop_session, END_SECONDS):
                yield event
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
        if self._app.stop_requested.is_set():
            raise Refused(Code.BUSY, "hermesd is stopping")
        start = START_SECONDS if params["timeout_s"] is None else NEW_WORKER_SECONDS
        async for event in self._each(params, self._restart_session, END_SECONDS + start):
            yield event

    async def _each(
        self, params: Params, end: Callable[[SessionKey, float | None], Awaitable[dict[str, Any]]], most: float
    ) -> AsyncIterator[Any]:
        """Does it to all sessions at once, and tells of it meanwhile; goes on when nobody watches any more.

        ``most``: seconds that it may take beyond the patience with running turns.
        """
        known, unknown = await self.sessions_named(params["sessions"])
        timeout = params["timeout_s"]
        deadline = time.monotonic() + (timeout or 0.0) + most
        job = self._app.tasks.job(self._all(known, end, timeout), f"end {len(known)} sessions")
        yield {**self._ending_progress(known, deadline), "not_found": sorted(unknown)}
        while not (await asyncio.wait([job], timeout=EVENT_EVERY))[0]:
            yield self._ending_progress(known, deadline)
        not_found = [outcome_row(name, "not_found", near) for name, near in unknown.items()]
        yield Done({"schema": SCHEMA, "sessions": [*job.result(), *not_found]})

    async def _all(
        self, keys: list[SessionKey], end: Callable[[SessionKey, float | None], Awaitable[dict[str, Any]]],
        timeout: float | None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        async def one(key: SessionKey) -> dict[str, Any]:
            try:
                return await end(key, timeout)
            except JournalError as error:
                return outcome_row(key, "failed", str(error))

        return list(await asyncio.gather(*map(one, keys)))

    def _ending_progress(self, keys: list[SessionKey], deadline: float) -> dict[str, Any]:
        lanes = [lane for key in keys if (lane := self._app.lanes.lane_of(key)) is not None]
        busy = sum(lane.current is not None for lane in lanes)
        starting = not busy and any(lane.restarting or lane.life is State.STARTING for lane in lanes)
        phase = "draining" if busy else "starting" if starting else "stopping"
        left = sum(lane.life in WITH_PROCESS and lane.life is not State.IDLE for lane in lanes)
        return progress_event(phase, left, busy, max(0.0, deadline - time.monotonic()))

    async def _stop_session(self, key: SessionKey, timeout: float | None) -> dict[str, Any]:
        if await self._app.lanes.orders.stop_session(key, "stopped by hermesctl", timeout or 0.0):
            return outcome_row(key, "done", "its worker has ended; the conversation is kept")
        return outcome_row(key, "done", "no worker was running")

    async def _restart_session(self, key: SessionKey, timeout: float | None) -> dict[str, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        starting = await self._app.lanes.orders.restart_session(key, "restarted by hermesctl", timeout or 0.0)
        if starting is None:
            return outcome_row(key, "not_found", "")
        # The lane itself gives a start up after START_SECONDS; for its place under workers.max it waits without end.
        left = START_SECONDS if deadline is None else max(deadline - time.monotonic(), NEW_WORKER_SECONDS)
        if not (await asyncio.wait([starting], timeout=left))[0]:
            lane = self._app.lanes.lane_of(key)
            waits = lane is not None and lane.life is State.HIBERNATED
            what = "waits for a place: workers.max are running" if waits else "is still starting"
            return outcome_row(key, "timed_out", f"its new worker {what}")
        if error := starting.result():
            return outcome_row(key, "failed", error)
        return outcome_row(key, "done", "its new worker has its agent")
