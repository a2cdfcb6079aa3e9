"""Workers that an earlier hermesd started, and the turns they are at: the shell around `reconcile`.

A lane is rebuilt from the journal before its worker says hello, so that no session ever gets a second worker; what the
worker was at is settled when its snapshot comes. One that stays silent, because C code holds its interpreter, stays
what the journal says it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from hermesd.ipc.ids import SessionKey, TurnId
from hermesd.ipc.messages import Snapshot
from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.journal import workers
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import InboxRow, WorkerRow
from hermesd.supervisor.journal.states import InboxState
from hermesd.supervisor.journal.workers import Estate
from hermesd.supervisor.pool import worker_life
from hermesd.supervisor.pool.worker import Worker

from . import prompt, turn_life
from .lane import Lane, Turn
from .reconcile import Step, questions, reconcile
from .turns import Turns

if TYPE_CHECKING:
    from .lanes import Lanes

log = logging.getLogger("hermesd.gateway")


class Adoption:
    """Owned by `Lanes`; also writes down which workers there are, for the hermesd after this one."""

    def __init__(self, lanes: Lanes, turns: Turns, persistence: Persistence, deliverer: Deliverer):
        self._lanes = lanes
        self._turns = turns
        self._persistence = persistence
        self._deliverer = deliverer
        self._messages: set[int] = set()
        self.adopted = 0

    # ---- for the next hermesd ----------------------------------------------------------------------------------------

    def record(self, lane: Lane, worker: Worker) -> None:
        """The worker has this lane's session from now on: called before any turn is promised to it.

        Again when it is a process, and when another keeper holds it.
        """
        assert lane.session is not None
        self._persistence.persist(
            workers.record,
            WorkerRow(
                worker=worker.id,
                session_key=lane.key,
                session_id=lane.session.session_id,
                wire_name=worker.identity.decode("ascii"),
                tag=worker.tag,
                containment=worker.containment.name if worker.containment is not None else "",
                place=worker.container.place if worker.container is not None else "",
                proof=worker.proof,
                stacks=str(self._lanes.pool.stacks_file(worker.id)),
                keeper=worker.launcher.pid if worker.launcher is not None else 0,
                started_at=worker.started_at,
                pid=worker.pid,
                start_ticks=worker.start_ticks,
                ephemeral=lane.ephemeral,
            ),
        )

    def forget(self, worker: Worker) -> None:
        """It is gone."""
        self._persistence.persist(workers.forget, worker.id)

    # ---- from the hermesd before -------------------------------------------------------------------------------------

    def holds(self, row: InboxRow) -> bool:
        """Whether this message was taken over with the worker that had it: whatever becomes of it is told by that."""
        return row.id in self._messages

    def steered(self, row: InboxRow) -> bool:
        """Whether a turn that was taken over has taken this message; its end decides about it as before."""
        lane = self._lanes.lane_of(SessionKey(row.session_key))
        if lane is None or lane.current is None or lane.current.id != row.turn:
            return False
        lane.steered.append(replace(row, turn=""))  # if it gets a turn, that is one of its own
        return True

    def take_over(self, estate: Estate, worker: Worker) -> None:
        """Rebuild the lane of a worker that lives. Called before the ways in are up, once for each."""
        assert estate.session is not None
        lane = self._lanes.open(SessionKey(estate.row.session_key), ephemeral=estate.row.ephemeral)
        lane.session, lane.worker = estate.session, worker
        self._lanes.live(lane, worker_life.Event.ADOPTED)
        self.adopted += 1
        if estate.message is not None:
            self._messages.add(estate.message.id)
            lane.current = lane.last_turn = _turn(lane, estate.message)
            lane.current.answered = {answer.ask: answer for answer in estate.answers}
            self._lanes.live(lane, worker_life.Event.TURN_STARTED)
            self._lanes.turn_begins()
            self._lanes.early_answers.expect(lane, lane.current, worker)
        log.info(
            "took over worker %s (pid %d) of %s%s", worker.id, worker.pid, lane.key,
            f" with turn {lane.current.id}" if lane.current is not None else "",
            extra={"session": lane.key, "worker": worker.id},
        )  # fmt: skip

    def snapshot(self, lane: Lane, worker: Worker, snapshot: Snapshot) -> None:
        """How things stand in the worker: bring its turn and the journal's together."""
        assert lane.session is not None
        self._lanes.early_answers.heard(lane)
        turn = lane.current
        promised = turn if turn is not None and turn.state is not turn_life.State.QUEUED else None
        verdict = reconcile(
            snapshot, session_id=lane.session.session_id, turn=promised.id if promised is not None else ""
        )
        for step in verdict.steps:
            match step:
                case Step.END:
                    log.warning("worker %s of %s is ended: %s", worker.id, lane.key, verdict.reason)
                    self._lanes.live(lane, worker_life.Event.STOP)
                case Step.START_AGAIN:
                    assert promised is not None
                    self._turns.start(lane, promised, worker)
                case Step.SHOW_TEXT:
                    assert promised is not None
                    self._deliverer.adopt_stream(promised.target, snapshot.text, promised.id, snapshot.breaks)
                case Step.WAIT_FOR_USER:
                    assert promised is not None
                    for ask in questions(snapshot):
                        self._turns.wait_for_user(lane, promised, ask)


def _turn(lane: Lane, message: InboxRow) -> Turn:
    """The turn of a message that was promised to a worker, as far as the journal knows it."""
    now = time.monotonic()
    turn = Turn(
        id=TurnId(message.turn),
        key=lane.key,
        row=message,
        text=prompt.text_of(message.inbound, lane.key),
        queued_at=now,
        ended=asyncio.get_running_loop().create_future(),
        attempt=message.attempt,
        killed=message.killed,
        started_at=now - max(0.0, time.time() - message.changed_at),
        active_at=now,
    )
    turn.apply(turn_life.Event.DISPATCH)
    if message.state is InboxState.ACCEPTED:
        turn.apply(turn_life.Event.ACCEPTED)
    return turn
