"""What a user or an operator may order of a session: end its turn, take a message back, stop, restart or reset it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hermesd.adapters.contract import Target
from hermesd.ipc.ids import SessionKey
from hermesd.ipc.messages import Rewind
from hermesd.supervisor.journal import Journal, sessions, transcripts
from hermesd.supervisor.pool import worker_life

from . import turn_life, words
from .lane import Lane, Turn
from .turns import Turns

if TYPE_CHECKING:
    from .lanes import Lanes


class SessionOrders:
    """Owned by `Lanes`; called by slash commands and for the control API."""

    def __init__(self, lanes: Lanes, turns: Turns, journal: Journal):
        self._lanes = lanes
        self._turns = turns
        self._journal = journal

    async def interrupt(self, key: SessionKey, reason: str, *, clear_queue: bool = False) -> int:
        """End the running turn, and drop the waiting ones if asked. Returns how many turns ended by it.

        Returns when they have ended: within 5 s, for a worker that does not obey is killed.
        """
        lane = self._lanes.lane_of(key)
        if lane is None:
            return 0
        ended = 0
        if clear_queue:
            while lane.queue:
                self._turns.end_unstarted(lane.queue.popleft(), turn_life.Event.CANCELLED, words.interrupted(""))
                ended += 1
            self._lanes.plan_soon()
        turn = lane.current
        if turn is not None:
            self._turns.interrupt(lane, turn, reason)
            await asyncio.shield(turn.ended)
            ended += 1
        return ended

    def cancel(self, target: Target, reason: str) -> None:
        """Take the turn that answers ``target.reply_to`` back, wherever it is."""
        wanted = (target.platform, target.chat_id, target.reply_to)

        def meant(turn: Turn) -> bool:
            inbound = turn.row.inbound
            return (inbound.platform, inbound.chat_id, inbound.message_id) == wanted

        for lane in list(self._lanes.lanes.values()):
            for turn in [turn for turn in lane.queue if meant(turn)]:
                lane.queue.remove(turn)
                self._turns.end_unstarted(turn, turn_life.Event.CANCELLED, "")
                self._lanes.retire_if_over(lane)
                self._lanes.plan_soon()
            if lane.current is not None and meant(lane.current):
                self._turns.interrupt(lane, lane.current, reason)

    async def stop_session(self, key: SessionKey, reason: str, patience: float = 0.0) -> bool:
        """End the worker, keep the conversation. False: there was nothing to end.

        A running turn may end by itself for ``patience`` seconds; then it is interrupted.
        """
        lane = self._lanes.lane_of(key)
        if lane is None or (lane.life not in worker_life.WITH_PROCESS and lane.current is None):
            return False
        with self.held(lane):
            if patience > 0 and lane.current is not None:
                await self._let_end(lane, lane.current, patience)
            await self.interrupt(key, reason)
            self._lanes.live(lane, worker_life.Event.STOP)
            await lane.settled.wait()
        return True

    async def _let_end(self, lane: Lane, turn: Turn, patience: float) -> None:
        if lane.life in (worker_life.State.BUSY, worker_life.State.WAITING):
            self._lanes.live(lane, worker_life.Event.RETIRE)
        gone = asyncio.ensure_future(lane.settled.wait())
        over: list[asyncio.Future[Any]] = [turn.ended, gone]
        await asyncio.wait(over, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()

    @contextlib.contextmanager
    def held(self, lane: Lane) -> Iterator[None]:
        """Give the lane no turn meanwhile: it would be a casualty of what is done to its worker."""
        lane.held += 1
        try:
            yield
        finally:
            lane.held -= 1
            self._lanes.refuse_if_quarantined(lane)
            self._lanes.plan_soon()

    async def restart_session(self, key: SessionKey, reason: str, patience: float = 0.0) -> asyncio.Future[str] | None:
        """End the worker (as `stop_session` does) and start a new one with the conversation; also pardons a quarantined
        session.

        Returns what will be "" when the new worker has its agent, else why it has not; None for an unknown session.
        """
        if await self._journal.write(sessions.current, key) is None:
            return None
        lane = self._lanes.open(key)
        with self.held(lane):
            await self.stop_session(key, reason, patience)
            if lane.starting is None or lane.starting.done():
                lane.starting = asyncio.get_running_loop().create_future()
            self._lanes.live(lane, worker_life.Event.PARDON)
            lane.restarting, lane.restart_asked_at = True, time.monotonic()
        return lane.starting

    async def reset_session(self, key: SessionKey, reason: str) -> str:
        """Begin the conversation anew. Returns the new session id. Raises `JournalError` when there never was one."""
        lane = self._lanes.open(key)
        with self.held(lane):
            await self.interrupt(key, reason, clear_queue=True)
            row = await self._journal.write(sessions.reset, key, reason, time.time())
            self._lanes.live(lane, worker_life.Event.PARDON)
            self._lanes.live(lane, worker_life.Event.STOP)
            await lane.settled.wait()
            lane.session = row
        return row.session_id

    async def answer(self, key: SessionKey, choice: str, by: str) -> bool:
        """A user's answer to the session's oldest question. False: there is none. Raises ValueError for a wrong one."""
        return await self._lanes.early_answers.answer(key, choice, by)

    async def rewind(self, key: SessionKey, turn: str) -> None:
        """Take what this turn left out of the conversation, on disk and in the worker, because it is run again."""
        session = await self._journal.write(sessions.current, key)
        cut = await self._journal.write(transcripts.cut_turn, session.session_id, turn) if session is not None else 0
        lane = self._lanes.lane_of(key)
        if cut and lane is not None and lane.worker is not None and lane.worker.ready:
            self._lanes.pool.send(lane.worker, Rewind(cut))
