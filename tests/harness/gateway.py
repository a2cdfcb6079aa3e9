"""The gateway with a real journal, the platform that does what it is told, and a pool whose workers the test plays."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hermesd.adapters.contract import AdapterSettings, Inbound, Target
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.fake import FakeAdapter
from hermesd.ipc.codec import Codec
from hermesd.ipc.ids import SessionKey, WorkerId
from hermesd.ipc.keeping import Gone
from hermesd.ipc.link import Link
from hermesd.ipc.messages import (
    DOWN,
    UP,
    Accept,
    Assign,
    Finished,
    Interrupt,
    Message,
    Snapshot,
    StartTurn,
    Steer,
    Steered,
)
from hermesd.supervisor.access.policy import AccessPolicy
from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.delivery.settings import DeliverySettings
from hermesd.supervisor.gateway.busy import BusyMode
from hermesd.supervisor.gateway.commands.registry import Commands
from hermesd.supervisor.gateway.commands.table import TABLE
from hermesd.supervisor.gateway.lane_settings import LaneSettings
from hermesd.supervisor.gateway.lanes import Lanes
from hermesd.supervisor.gateway.reception import Reception, Rules
from hermesd.supervisor.gateway.stickers import Stickers
from hermesd.supervisor.journal import Journal, workers
from hermesd.supervisor.journal.errors import JournalUnavailable
from hermesd.supervisor.journal.workers import Estate
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks
from hermesd.workers.containment import open_containment
from hermesd.workers.containment.tag import make_tag

INSTANCE = "0123456789ab"
PATIENCE = 5.0


class Chat(FakeAdapter):
    """The fake platform, which also shows text as it comes, and words beside the conversation."""

    def __init__(self) -> None:
        super().__init__(AdapterSettings("fake"))
        self.notices: list[tuple[str, str]] = []
        self.streamed: list[tuple[str, str]] = []

    def notice(self, target: Target, text: str) -> None:
        self.notices.append((target.reply_to, text))

    def stream(self, target: Target, text: str) -> None:
        self.streamed.append((target.reply_to, text))


@dataclass(eq=False)
class Played:
    """One worker process as the test plays it: what it was told, and what it says and does."""

    pool: PlayedPool
    worker: Worker
    told: list[Message] = field(default_factory=list)
    settled: list[Message] = field(default_factory=list)
    killed: list[bool] = field(default_factory=list)  # whether each kill asked for a stack dump
    stopped: list[str] = field(default_factory=list)
    alive: bool = True

    @property
    def assign(self) -> Assign:
        assert self.worker.assign is not None
        return self.worker.assign

    def ready(self, error: str = "") -> None:
        self.worker.ready = self.worker.connected = True
        self.pool.listener.worker_ready(self.worker, error)

    def say(self, message: Message) -> None:
        self.pool.listener.worker_said(self.worker, message, lambda: self.settled.append(message))

    async def turn(self) -> StartTurn:
        """The next turn that it is given and has not accepted."""
        await until(lambda: self.open_turn is not None)
        assert self.open_turn is not None
        return self.open_turn

    @property
    def open_turn(self) -> StartTurn | None:
        starts = [message for message in self.told if isinstance(message, StartTurn)]
        return starts[-1] if len(starts) > self.taken else None

    taken: int = 0

    async def accept(self) -> StartTurn:
        start = await self.turn()
        self.taken += 1
        accept = Accept(start.turn)
        self.say(accept)
        await until(lambda: accept in self.settled)
        return start

    async def answer(self, text: str, outcome: str = "done", error: str = "") -> StartTurn:
        start = await self.accept()
        self.finish(start, text, outcome, error)
        return start

    def finish(self, start: StartTurn, text: str = "", outcome: str = "done", error: str = "") -> None:
        self.say(Finished(start.turn, outcome, text, error))

    def snapshot(self, **fields: Any) -> None:
        """What it says when the new hermesd has welcomed it."""
        self.worker.connected = True
        assert self.worker.session is not None
        session = self.pool.listener.lanes[self.worker.session].session
        known = {"session_key": self.worker.session, "session_id": session.session_id if session else "", "ready": True}
        self.pool.listener.worker_snapshot(self.worker, Snapshot(**(known | fields)))

    def has(self, message: Message) -> None:
        """The link thread of the worker has got it."""
        self.pool.listener.worker_has(self.worker, message)

    def interrupts(self) -> list[Interrupt]:
        return [message for message in self.told if isinstance(message, Interrupt)]

    def gone(self, exit_code: int = -9) -> None:
        self.alive = False
        del self.pool.workers[self.worker.id]
        self.pool.listener.worker_gone(self.worker, Gone(self.worker.id, exit_code, 0.1, 1000, 0, 0.001))


class PlayedPool:
    """What `Lanes` uses of the pool."""

    def __init__(self, listener: Lanes):
        self.listener = listener
        self.workers: dict[WorkerId, Played] = {}
        self.all: list[Played] = []
        self.on_kill: Callable[[Played], None] = lambda played: played.gone(-9)
        self.on_stop: Callable[[Played], None] = lambda played: played.gone(0)
        self.most_alive = 0

    def take(self, assign: Assign) -> Worker:
        name = WorkerId(f"w{len(self.all) + 1}")
        tag = make_tag(INSTANCE)
        container = open_containment("pgroup", INSTANCE).worker(name, tag)
        worker = Worker(name, name.encode(), tag, Link(Codec(*DOWN, *UP)), container, time.time(), time.monotonic())
        worker.session, worker.assign = SessionKey(assign.session_key), assign
        played = Played(self, worker)
        self.workers[name] = played
        self.all.append(played)
        self.most_alive = max(self.most_alive, len(self.workers))
        return worker

    def adopt(self, estate: Estate) -> Played:
        """A worker of the life before, which lives on; the test plays it."""
        row = estate.row
        container = open_containment("pgroup", INSTANCE).worker(row.worker, row.tag)
        link = Link(Codec(*DOWN, *UP))
        worker = Worker(
            WorkerId(row.worker), row.wire_name.encode(), row.tag, link, container, time.time(), time.monotonic(),
            session=SessionKey(row.session_key), adopted=True, pid=row.pid, proof=row.proof,
        )  # fmt: skip
        played = Played(self, worker)
        self.workers[worker.id] = played
        self.all.append(played)
        return played

    def send(self, worker: Worker, message: Message) -> None:
        worker.link.send(message)  # refuses what the wire cannot carry, as the real one does
        self.workers[worker.id].told.append(message)

    def stop_worker(self, worker: Worker, reason: str, grace: float) -> None:
        worker.ending = True
        played = self.workers[worker.id]
        played.stopped.append(reason)
        asyncio.get_running_loop().call_soon(self._obey, self.on_stop, played)

    def kill(self, worker: Worker, *, dump: bool = False) -> None:
        played = self.workers[worker.id]
        played.killed.append(dump)
        asyncio.get_running_loop().call_soon(self._obey, self.on_kill, played)

    def _obey(self, act: Callable[[Played], None], played: Played) -> None:
        if played.alive:
            act(played)

    def stacks_of(self, worker: WorkerId) -> str:
        return ""

    def stacks_file(self, worker: WorkerId) -> Path:
        return Path(f"{worker}.txt")

    def stop_spares(self, grace: float) -> None:
        self.spares_stopped = True

    async def wait_all_gone(self, timeout: float) -> bool:
        await until(lambda: not self.workers)
        return True

    # ---- for tests

    async def worker(self, number: int = 1) -> Played:
        """The worker that was started as the ``number``-th."""
        await until(lambda: len(self.all) >= number)
        return self.all[number - 1]

    async def ready(self, number: int = 1) -> Played:
        played = await self.worker(number)
        played.ready()
        return played


async def until(reached: Callable[[], Any]) -> None:
    """Let the event loop run until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.001)


class Gateway:
    """Everything that a message passes in the supervisor, with means to look at it."""

    def __init__(self, path: Path):
        self.path = path
        self.chat: FakeAdapter = Chat()
        self.settings = LaneSettings(
            max_workers=4,
            max_turns=4,
            idle_timeout=60.0,
            on_crash="ask",
            turn_timeout=0.0,
            stop_grace=0.05,
            work_dir=path / "work",
            agent_settings={},
        )
        self.delivery = DeliverySettings()
        self.busy = BusyMode.QUEUE
        self.policy = AccessPolicy(allowed={"fake": frozenset({"u1"})})
        self.escalations: list[int] = []
        self.lost: list[tuple[str, AdapterError]] = []
        self.failures: list[str] = []
        self.returns = False  # whether a platform that is down will be up by itself

    async def start(self, **settings: Any) -> Gateway:
        await self.begin(**settings)
        await self.reception.resume()
        return self

    async def begin(self, **settings: Any) -> Gateway:
        """A life that has not taken up yet what the one before it left."""
        self.settings = LaneSettings(
            **{name: settings.get(name, getattr(self.settings, name)) for name in LaneSettings.__slots__}
        )
        self.tasks = Tasks(lambda name, error: self.failures.append(name))
        self.journal = Journal(self.path / "state.db")
        await self.journal.open()
        self.deliverer = Deliverer(
            self.journal, {"fake": self.chat}, self.tasks, self.delivery, may_return=lambda name: self.returns
        )
        stickers = Stickers(self.path / "sticker_cache.json")
        self.lanes = Lanes(
            settings=self.settings,
            journal=self.journal,
            deliverer=self.deliverer,
            tasks=self.tasks,
            stickers=stickers,
            on_escalation=self.escalations.append,
            on_logs=lambda worker, logs: None,
        )
        self.pool = PlayedPool(self.lanes)
        self.lanes.use(self.pool)  # type: ignore[arg-type]
        self.reception = Reception(
            journal=self.journal,
            lanes=self.lanes,
            deliverer=self.deliverer,
            commands=Commands(TABLE, lanes=self.lanes, journal=self.journal),
            tasks=self.tasks,
            rules=Rules(self.policy, self.busy, group_sessions_per_user=True, thread_sessions_per_user=False),
            stickers=stickers,
            media=self.path / "media",
            on_lost=lambda platform, error: self.lost.append((platform, error)),
        )
        await self.chat.start(self.reception)
        return self

    async def die(self) -> None:
        """End without a word, as kill -9 would: what is on disk is all that stays."""
        await self.tasks.close()
        await self.journal.close()
        await self.chat.stop()

    async def again(self, **settings: Any) -> Gateway:
        """The next life of hermesd over the same disk and the same chat platform."""
        await self.die()
        await self.begin(**settings)
        await self.deliverer.recover()
        await self.deliverer.take_up()
        await self.reception.resume()
        return self

    async def taken_over(self, **settings: Any) -> list[Played]:
        """The next life of hermesd, in which the workers of the one before live on. In the order of their starts."""
        await self.die()
        await self.begin(**settings)
        await self.deliverer.recover()
        played = []
        for estate in await self.journal.read(workers.left):
            played.append(self.pool.adopt(estate))
            self.lanes.adoption.take_over(estate, played[-1].worker)
        await self.deliverer.take_up()
        await self.reception.resume()
        return played

    async def say(self, text: str, **how: Any) -> None:
        how.setdefault("user", "u1")
        await self.chat.say(text, **how)

    async def hand_over(self, text: str, worker: Played, start: StartTurn) -> None:
        """Said during a turn that takes it, as `busy: steer` has it; its chat knows when this returns."""
        before = len(self.chat.transcript())
        await self.say(text, chat="c1")
        await until(lambda: any(isinstance(message, Steer) for message in worker.told))
        worker.say(Steered(start.turn, True))
        await self.shown(before + 1)

    async def receive(self, text: str, message_id: str, **fields: Any) -> bool:
        given = {"platform": "fake", "chat_id": "c1", "message_id": message_id, "user_id": "u1", "text": text}
        return await self.reception.receive(Inbound(**(given | fields)))

    async def shown(self, count: int, **which: Any) -> list[str]:
        assert await self.chat.wait(count, PATIENCE, **which), f"only {[s.text for s in self.chat.transcript()]}"
        return [shown.text for shown in self.chat.transcript(**which)]

    @property
    def notices(self) -> list[tuple[str, str]]:
        assert isinstance(self.chat, Chat)
        return self.chat.notices

    @property
    def texts(self) -> list[str]:
        return [shown.text for shown in self.chat.transcript()]

    def life(self, key: str = "agent:main:fake:dm:c1") -> str:
        """The state of a session's worker; a session without a lane has none."""
        lane = self.lanes.lane_of(SessionKey(key))
        return lane.life.value if lane is not None else "hibernated"

    async def rows(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """What is on disk when all that was to be written before is."""
        with contextlib.suppress(JournalUnavailable):
            await self.journal.write(_nothing)
        return await self.journal.read(lambda connection: [tuple(row) for row in connection.execute(sql, args)])

    async def inbox(self) -> list[str]:
        return [row[0] for row in await self.rows("SELECT state FROM inbox ORDER BY id")]

    async def turns(self) -> list[str]:
        return [row[0] for row in await self.rows("SELECT state FROM turns ORDER BY rowid")]


def _nothing(connection: sqlite3.Connection) -> None:
    pass


class BrokenDisk:
    """Lets the journal's writes of some operations end as on a full disk, until it is mended."""

    def __init__(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, *names: str):
        self.refused: list[str] = []
        self.names = names
        self.broken = True
        real = gateway.journal.write

        def write(operation: Callable[..., Any], /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
            if not self.broken or (self.names and operation.__name__ not in self.names):
                return real(operation, *args, **kwargs)
            self.refused.append(operation.__name__)

            def fail(connection: sqlite3.Connection) -> None:
                raise JournalUnavailable("cannot write to the journal: disk full")

            return real(fail)

        monkeypatch.setattr(gateway.journal, "write", write)

    async def refuses(self, name: str) -> None:
        await until(lambda: name in self.refused)

    def mend(self) -> None:
        self.broken = False
