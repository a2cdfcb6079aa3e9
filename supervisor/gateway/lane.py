"""One session and one turn, as the gateway holds them. Values only; what happens to them is in `lanes`."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from hermesd.adapters.contract import Target
from hermesd.ipc.ids import SessionKey, TurnId
from hermesd.ipc.messages import Answer, Ask
from hermesd.supervisor.journal.rows import InboxRow, SessionRow
from hermesd.supervisor.pool import worker_life
from hermesd.supervisor.pool.backoff import CrashWindow
from hermesd.supervisor.pool.worker import Worker

from . import turn_life


@dataclass(slots=True, eq=False)
class Turn:
    """One message on its way through an agent. Times are monotonic seconds."""

    id: TurnId
    key: SessionKey
    row: InboxRow
    text: str
    queued_at: float
    ended: asyncio.Future[turn_life.State]
    state: turn_life.State = turn_life.State.QUEUED
    attempt: int = 0
    killed: int = 0
    started_at: float = 0.0
    active_at: float = 0.0  # when its agent last showed something
    warned: bool = False  # its user was told that it has shown nothing for long
    overran: str = ""  # why its time is over, once it is
    place: int = 0  # the last one its user was told; 0: none
    interrupt_reason: str = ""
    interrupt_arrived: bool = False
    streamed: int = 0  # what its deltas have cost so far, see `turns.MAX_STREAMED`
    asks: dict[str, Ask] = field(default_factory=dict)
    answered: dict[str, Answer] = field(default_factory=dict)  # by the hermesd before; its worker may not know it

    @property
    def target(self) -> Target:
        return self.row.target

    @property
    def accepted(self) -> bool:
        return self.state in (turn_life.State.RUNNING, turn_life.State.WAITING)

    def apply(self, event: turn_life.Event) -> None:
        self.state = turn_life.step(self.state, event)


@dataclass(slots=True, eq=False)
class Lane:
    """One session: its queue, its worker and that worker's life."""

    key: SessionKey
    ephemeral: bool
    idle_since: float
    life: worker_life.State = worker_life.State.HIBERNATED
    life_since: float = 0.0
    worker: Worker | None = None
    current: Turn | None = None  # holds a slot: waits for its worker, dispatched or running
    last_turn: Turn | None = None
    queue: deque[Turn] = field(default_factory=deque)
    session: SessionRow | None = None
    steering: deque[InboxRow] = field(default_factory=deque)  # handed to the running turn, which has not answered yet
    steered: list[InboxRow] = field(default_factory=list)  # which it has taken; they are over only if it ends well
    held: int = 0  # above 0: something is being done to its worker or session, no turn may begin
    crashes: CrashWindow = field(default_factory=CrashWindow)
    restarts: int = 0
    restarting: bool = False  # a person wants a new worker for it
    restart_asked_at: float = 0.0
    retry_at: float = 0.0
    last_end: str = ""  # how the last worker ended, for people
    starting: asyncio.Future[str] | None = None  # for who restarts it: "" when its agent is there, else why not
    timer: asyncio.TimerHandle | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever no process exists

    def started(self, error: str) -> None:
        """Tell whoever waits for the new worker's agent."""
        if self.starting is not None and not self.starting.done():
            self.starting.set_result(error)

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
