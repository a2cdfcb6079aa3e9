"""What an operator may do to one message of the inbox: have it tried afresh, or set it aside."""

from __future__ import annotations

import time
from collections.abc import Callable

from hermesd.adapters.contract import Inbound
from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.journal import Journal, inbox
from hermesd.supervisor.journal.rows import InboxRow
from hermesd.supervisor.journal.states import INBOX_OPEN, InboxState
from hermesd.supervisor.pool import worker_life

from . import turn_life
from .lane import Lane, Turn
from .lanes import Lanes

REASON = "dropped by hermesctl"


class Unsuitable(Exception):
    """The message is not one that this can be done to; the text says why and what can be done instead."""


class InboxOrders:
    """For the control API. ``key_of`` is `hermesd.supervisor.gateway.reception.Reception.key_of`.

    Both raise `Unsuitable`, `UnknownRow`, or `JournalUnavailable` where the disk does not take it.
    """

    def __init__(self, journal: Journal, lanes: Lanes, key_of: Callable[[Inbound], SessionKey]):
        self._journal = journal
        self._lanes = lanes
        self._key_of = key_of

    async def retry(self, inbox_id: int) -> str:
        """Queue a message again that ended without an answer, as if it had just come. Returns its session's key."""
        row = await self._journal.read(inbox.show, inbox_id)
        if row.state in INBOX_OPEN:
            raise Unsuitable(f"it is {row.state.value} and will be answered by itself")
        if row.state is InboxState.ANSWERED:
            raise Unsuitable("it was answered; /retry in its chat runs a chat's last message again")
        if row.state is InboxState.REFUSED:
            raise Unsuitable(f"it was refused ({row.error}); let its sender in and have it sent again")
        if row.inbound.history is not None and row.inbound.delivery is None:
            raise Unsuitable("it was a stateless request, and its caller does not wait any more")
        key = SessionKey(row.session_key) if row.session_key else self._key_of(row.inbound)
        if self._lanes.draining:
            raise Unsuitable("hermesd is stopping")
        lane = self._lanes.lane_of(key)
        if lane is not None and lane.life is worker_life.State.QUARANTINED:
            raise Unsuitable(f"its session is quarantined; hermesctl restart {key} ends that")
        # Two of these at once: the second one finds the row queued, and the journal refuses it.
        self._lanes.submit(await self._journal.write(inbox.afresh, inbox_id, key, time.time()), key)
        return key

    async def drop(self, inbox_id: int) -> None:
        """Set a message aside that waits, or a dead letter. Its chat is not told."""
        row = await self._journal.read(inbox.show, inbox_id)
        if row.state is InboxState.DEAD:
            await self._journal.write(inbox.finish, inbox_id, InboxState.DROPPED, time.time(), error=REASON)
            return
        if row.state not in INBOX_OPEN:
            raise Unsuitable(f"it is over already: {row.state.value}")
        self._withdraw(row)
        await self._journal.write(inbox.show, inbox_id)  # after what was just written: it is on disk now

    def _withdraw(self, row: InboxRow) -> None:
        """Take a message out of the line of its session."""
        for lane in self._lanes.lanes.values():
            turn = next((turn for turn in lane.queue if turn.row.id == row.id), None)
            if turn is not None:
                lane.queue.remove(turn)
                self._end(lane, turn)
                return
            if lane.current is not None and lane.current.row.id == row.id:
                if lane.current.state is not turn_life.State.QUEUED:
                    raise Unsuitable(f"it is being answered; stop that first: hermesctl stop {lane.key}")
                turn, lane.current = lane.current, None
                self._end(lane, turn)
                return
            if any(waiting.id == row.id for waiting in (*lane.steering, *lane.steered)):
                raise Unsuitable(f"it was handed to a running answer; stop that first: hermesctl stop {lane.key}")
        raise Unsuitable("it is on its way into or out of its session at this moment; try again")

    def _end(self, lane: Lane, turn: Turn) -> None:
        self._lanes.turns.end_unstarted(turn, turn_life.Event.CANCELLED, "", reason=REASON)
        self._lanes.retire_if_over(lane)
        self._lanes.plan_soon()
