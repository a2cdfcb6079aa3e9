"""``drain`` and ``undrain``: an operator wants no new turns for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.control.api import Done
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.gateway.lane import Turn

from .handler import Handler, Params, progress_event

PROGRESS_SECONDS = 1.0


class DrainingHandler(Handler):
    async def drain(self, params: Params) -> AsyncIterator[Any]:
        lanes, key = self._app.lanes, await self._key(params)
        lanes.drain_order.give(key, time.time())
        timeout = params["timeout_s"]
        deadline = None if timeout is None else time.monotonic() + timeout
        yield self._progress(key, deadline)
        while running := self._running(key):
            left = PROGRESS_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0 or not _ordered(lanes.drain_order.everything, lanes.drain_order.sessions, key):
                break
            await asyncio.wait([turn.ended for turn in running], timeout=min(left, PROGRESS_SECONDS))
            yield self._progress(key, deadline)
        state = "draining" if running else "drained"
        if not _ordered(lanes.drain_order.everything, lanes.drain_order.sessions, key):
            state = "lifted"
        yield Done({"schema": SCHEMA, "state": state, "running": len(running), "waiting": self._waiting(key)})

    async def undrain(self, params: Params) -> dict[str, Any]:
        lanes, key = self._app.lanes, await self._key(params)
        if key is not None and lanes.drain_order.everything:
            raise Refused(Code.USAGE, f"all of hermesd is draining, not only {key}", "hermesctl undrain")
        waiting = self._waiting(key)
        lifted = lanes.drain_order.lift(key)
        lanes.plan_soon()
        return {"schema": SCHEMA, "lifted": lifted, "waiting": waiting}

    async def _key(self, params: Params) -> SessionKey | None:
        """The session that is meant; None for all of hermesd."""
        if self._app.state != "running":
            raise Refused(Code.BUSY, f"hermesd is {self._app.state}")
        return await self.session_named(params["session"]) if params["session"] else None

    def _running(self, key: SessionKey | None) -> list[Turn]:
        """The turns that run or are about to."""
        lanes = self._app.lanes.lanes.values()
        return [lane.current for lane in lanes if lane.current is not None and key in (None, lane.key)]

    def _waiting(self, key: SessionKey | None) -> int:
        order = self._app.lanes.drain_order
        lanes = self._app.lanes.lanes.values()
        return sum(len(lane.queue) for lane in lanes if order.covers(lane.key) and key in (None, lane.key))

    def _progress(self, key: SessionKey | None, deadline: float | None) -> dict[str, Any]:
        left = 0.0 if deadline is None else max(0.0, deadline - time.monotonic())
        workers = len(self._app.pool.workers) if key is None else 1
        return progress_event("draining", workers, len(self._running(key)), left)


def _ordered(everything: bool, sessions: set[SessionKey], key: SessionKey | None) -> bool:
    return everything or (key is not None and key in sessions)
