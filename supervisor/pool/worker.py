"""One worker process as the supervisor holds it: who it is, its link, and what it last said of itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hermesd.ipc.ids import SessionKey, WorkerId
from hermesd.ipc.link import Link
from hermesd.ipc.messages import Assign, ServerReport
from hermesd.workers.containment.contract import Container


@dataclass(slots=True, eq=False)
class Worker:
    """Times are monotonic seconds except ``started_at``, which people read."""

    id: WorkerId
    identity: bytes  # its name on the wire: new for every process, so a late frame of a dead worker is nobody's
    tag: str
    link: Link
    container: Container
    started_at: float
    launched: float
    session: SessionKey | None = None  # None: a spare
    assign: Assign | None = None  # what to tell it once it has said hello
    pid: int = 0
    start_ticks: int = 0
    connected: bool = False
    ready: bool = False
    ending: bool = False
    last_heard: float = 0.0
    loop_age: float = 0.0
    turn: str = ""
    servers: tuple[ServerReport, ...] = ()
    timer: asyncio.TimerHandle | None = None
    peer_errors: int = 0
    cpu_seconds: float = 0.0
