"""One worker process as the supervisor holds it: who it is, its link, and what it last said of itself."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from hermesd.ipc.ids import SessionKey, WorkerId
from hermesd.ipc.link import Link
from hermesd.ipc.mcp import ServerSpec
from hermesd.ipc.messages import Assign, Message, ServerReport
from hermesd.workers.containment.contract import Container, Containment
from hermesd.workers.spec import WorkerSpec

from .burning import Signs
from .claims import REMEMBERED
from .hang import FIRST_BEAT, Silence
from .launchers.contract import Launcher


@dataclass(slots=True, eq=False)
class Worker:
    """Times are monotonic seconds except ``started_at``, which people read."""

    id: WorkerId
    identity: bytes  # its name on the wire: new for every process, so a late frame of a dead worker is nobody's
    tag: str
    link: Link
    container: Container | None  # None: not asked for yet, so that nobody knows which kind it will be
    started_at: float
    launched: float
    containment: Containment | None = None  # its container's kind, which may not be that of new workers
    proof: str = ""  # of its token
    launcher: Launcher | None = None  # what holds it; None: it is not asked for yet, or its keeper is dead
    adopted: bool = False  # an earlier hermesd started it
    doomed: bool = False  # to be killed as soon as something holds it again
    spec: WorkerSpec | None = None  # until it is launched; it holds the token
    session: SessionKey | None = None  # None: a spare, or one that `serves`
    assign: Assign | None = None  # what to tell it once it has said hello
    pid: int = 0
    start_ticks: int = 0
    connected: bool = False
    serves: str = ""  # the MCP server that it holds for all sessions, instead of having one
    errands: list[Message] = field(default_factory=list)  # what to tell it once it has said hello, besides
    ready: bool = False
    ending: bool = False
    last_heard: float = 0.0
    loop_age: float = 0.0
    told_cpu: float = 0.0  # CPU seconds of its own process, as its last heartbeat said
    told_at: float = 0.0  # when that was
    beat: float = FIRST_BEAT  # seconds from its last heartbeat to the next one
    silence: Silence | None = None  # None: not looked at yet
    ended_for: str = ""  # what it is being ended for, for people: it gets no more turns
    evidence: str = ""  # the file that holds what was found when it was judged hung
    turn: str = ""
    turns: int = 0  # that it was given
    assigned_at: float = 0.0  # when it got its session
    idle: Signs | None = None  # since when it is looked at for what it uses without a turn
    idle_told_at: float = 0.0  # the last figure of its own that was looked at for that
    idle_tree: Signs | None = None  # the same of all that is below it
    idle_tree_at: float = 0.0
    processes: int = 0  # at the last sample; 0: none was taken
    tree_cpu: float = 0.0  # CPU seconds of all that is below it, at the last sample
    tree_at: float = 0.0  # when that was taken
    equipped: tuple[ServerSpec, ...] | None = None  # the MCP servers that it was last told; None: by an earlier hermesd
    servers: tuple[ServerReport, ...] = ()
    servers_changed: asyncio.Event = field(default_factory=asyncio.Event)  # set by each report; cleared by who waits
    timer: asyncio.TimerHandle | None = None
    given: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # turns that it may speak of
    disowned: bool = False  # it has spoken for another session: nothing more is heard from it
    peer_errors: int = 0
    cpu_seconds: float = 0.0

    @property
    def is_spare(self) -> bool:
        """Nothing has been given to it yet."""
        return self.session is None and not self.serves
