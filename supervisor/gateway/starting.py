"""Giving a session a worker: its conversation is read from the journal and told to the process that will have it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from hermesd.ipc.errors import LocalError
from hermesd.ipc.messages import Assign, Entry
from hermesd.supervisor.journal import Journal, persistence, sessions, transcripts
from hermesd.supervisor.journal.errors import JournalError
from hermesd.supervisor.journal.rows import Origin
from hermesd.supervisor.pool import worker_life
from hermesd.supervisor.sessions.history import newest

from . import turn_life, words
from .lane import Lane, Turn

if TYPE_CHECKING:
    from .lanes import Lanes

log = logging.getLogger("hermesd.gateway")


class Starting:
    """Owned by `Lanes`."""

    def __init__(self, lanes: Lanes, journal: Journal):
        self._lanes = lanes
        self._journal = journal

    async def start(self, lane: Lane) -> bool:
        """Give a lane that is *starting* its worker. False: it has none, and its life has gone on in another way."""
        first = lane.current
        history: tuple[Entry, ...] = ()
        while lane.life is worker_life.State.STARTING:
            try:
                history = await self._open_session(lane, first)
                break
            except JournalError as error:
                # The disk's fault, not the agent's: no crash is counted.
                log.error("cannot start a worker for %s yet: %s", lane.key, error)
                await asyncio.sleep(persistence.RETRY_SECONDS)
        if lane.life is worker_life.State.STOPPING:
            self._lanes.live(lane, worker_life.Event.ENDED)
        if lane.life is not worker_life.State.STARTING or lane.session is None:
            return False
        lane.restarting = False
        try:
            lane.worker = self._lanes.pool.take(self._assign(lane, history))
        except LocalError as error:
            self._cannot_start(lane, str(error))
            return False
        self._lanes.adoption.record(lane, lane.worker)
        return True

    def _assign(self, lane: Lane, history: tuple[Entry, ...]) -> Assign:
        assert lane.session is not None
        origin, settings = lane.session.origin, self._lanes.settings
        return Assign(
            session_key=lane.key,
            session_id=lane.session.session_id,
            platform=origin.platform,
            chat_id=origin.chat_id,
            user_id=origin.user_id,
            user_name=origin.user_name,
            history=history,
            settings=settings.agent_settings,
            workdir=str(settings.work_dir / lane.session.session_id),
            thread_id=origin.thread_id,
        )

    def _cannot_start(self, lane: Lane, error: str) -> None:
        """Its session cannot be told to any worker: whoever waits is told why, and the lane rests."""
        log.error("cannot start a worker for %s: %s", lane.key, error)
        turn, lane.current = lane.current, None
        if turn is not None:
            self._lanes.turns.end_unstarted(turn, turn_life.Event.FAILED, words.failed(error))
        self._lanes.live(lane, worker_life.Event.STOP)
        self._lanes.live(lane, worker_life.Event.ENDED)

    async def _open_session(self, lane: Lane, first: Turn | None) -> tuple[Entry, ...]:
        """See that the lane has its session; returns the conversation so far."""
        if lane.session is None:
            origin = Origin.of(first.row.inbound) if first is not None else Origin("local", "")
            lane.session = await self._journal.write(
                sessions.get_or_create, lane.key, origin, time.time(), ephemeral=lane.ephemeral
            )
        if first is not None and first.row.inbound.history is not None:
            return newest(Entry(said.role, said.text) for said in first.row.inbound.history)
        rows = await self._journal.write(transcripts.load, lane.session.session_id)
        return newest(row.entry for row in rows)
