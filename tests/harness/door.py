"""The pool's door with played workers on the other side: every frame is the test's, everything behind it is real."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from harness.unasked import Unasked
from hermesd.ipc.codec import Codec
from hermesd.ipc.keeping import Gone
from hermesd.ipc.link import Link, Received
from hermesd.ipc.messages import DOWN, UP, Assign, Hello, Logs, Message, Snapshot, Welcome
from hermesd.supervisor.pool.launchers.contract import Launcher, LauncherListener
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker
from hermesd.workers.spec import WorkerSpec

CODEC = Codec(*UP, *DOWN)


class ByHand:
    """A launcher whose workers are played; a killed one is gone at once."""

    containment = "pgroup"
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pid = 0
    start_ticks = 0
    started_at = 0.0
    state = "starting"

    def __init__(self, listener: LauncherListener):
        self._listener = listener
        self.specs: dict[str, WorkerSpec] = {}
        self.killed: list[str] = []

    async def start(self) -> None:
        self.state = "running"

    def launch(self, spec: WorkerSpec) -> None:
        self.specs[spec.worker] = spec

    def take(self, worker: str, tag: str, pid: int, start_ticks: int) -> None:
        raise AssertionError(f"worker {worker} has a launcher")

    def kill(self, worker: str, *, dump: bool = False) -> None:
        if self.specs.pop(worker, None) is not None:
            self.killed.append(worker)
            self._listener.gone(Gone(worker, -9, 0.0, 0, 0, 0.0))

    async def stop(self, timeout: float) -> None:
        self.state = "gone"

    def leave_alone(self) -> None: ...


class Heard:
    """The pool's listener: what each session's worker has said, and by whose name."""

    def __init__(self) -> None:
        self.said: dict[str, list[Message]] = {}
        self.gone: list[str] = []

    def _note(self, worker: Worker, message: Message) -> None:
        self.said.setdefault(str(worker.session), []).append(message)

    def worker_ready(self, worker: Worker, error: str) -> None: ...

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        self._note(worker, message)
        settle()

    def worker_has(self, worker: Worker, message: Message) -> None: ...

    def worker_forked(self, worker: Worker) -> None: ...

    def worker_snapshot(self, worker: Worker, snapshot: Snapshot) -> None:
        self._note(worker, snapshot)

    def worker_gone(self, worker: Worker, gone: Gone) -> None:
        self.gone.append(worker.id)

    def worker_logs(self, worker: Worker, logs: Logs) -> None: ...


class Door:
    """``async with Door(tmp) as door:`` - a pool that is bound and has no worker yet."""

    def __init__(self, place: Path):
        run = place / "run"
        run.mkdir(mode=0o700)
        self.heard = Heard()
        self.endpoint = f"ipc://{run}/w.sock"
        self._launcher: ByHand | None = None
        self.pool = Pool(
            self.heard,
            make_launcher=self._make_launcher,
            endpoint=self.endpoint,
            template=WorkerSpec("", "0123456789ab", "", "", "", "", "", "demo"),
            spare=0,
            stacks_dir=place / "stacks",
            servers=Unasked(),
            on_launcher_death=lambda reason: None,
        )

    def _make_launcher(self, listener: LauncherListener) -> Launcher:
        self._launcher = ByHand(listener)
        return self._launcher

    @property
    def launcher(self) -> ByHand:
        assert self._launcher is not None
        return self._launcher

    def worker(self, session: str) -> Played:
        """A worker with this session that has said hello and is welcome."""
        worker = self.pool.take(Assign(session, "s", "test", "chat", "user", "User"))
        return Played(self, worker, self.launcher.specs[worker.id])

    def put(self, identity: bytes, frame: bytes) -> None:
        """A frame, as the ROUTER hands it in."""
        self.pool._on_frame(identity, frame)

    async def __aenter__(self) -> Door:
        await self.pool.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.pool.close(1.0)


class Played:
    """A worker with a link of its own, whose frames go straight through the door."""

    def __init__(self, door: Door, worker: Worker, spec: WorkerSpec):
        self._door = door
        self.worker = worker
        self.identity = spec.wire_name.encode()
        self.link = Link(Codec(*UP, *DOWN))
        self._say(CODEC.encode(Hello(spec.worker, spec.token, os.getpid(), 0, "")))
        assert worker.connected
        self.hear()

    def _say(self, frame: bytes) -> None:
        self._door.put(self.identity, frame)

    def hear(self) -> list[Message]:
        """What the pool has for it, acknowledged. The ROUTER has no connection for a played worker and takes nothing,
        so it is taken from the pool's own link.
        """
        now = time.monotonic()
        self.worker.link.reconnected(now)
        heard = [
            event.message
            for frame in self.worker.link.frames(now)
            for event in self.link.receive(frame, now)
            if isinstance(event, Received) and not isinstance(event.message, Welcome)
        ]
        for frame in self.link.frames(now + 1.0):
            self._say(frame)
        return heard

    def frame(self, message: Message) -> bytes:
        """A frame that the pool would take as the worker's next one; it is not said."""
        return CODEC.encode(message, self.worker.link._expected if message.RELIABLE else 0)

    def say(self, message: Message) -> None:
        self.link.send(message)
        self.hear()
