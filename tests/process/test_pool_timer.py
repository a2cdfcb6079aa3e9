"""The pool looks again by itself: what a worker did not acknowledge is sent again, what it said is acknowledged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from harness.unasked import Unasked

from hermesd.ipc.codec import Ack, Codec
from hermesd.ipc.keeping import Gone
from hermesd.ipc.messages import DOWN, UP, Assign, Hello, Logs, Message, Ready, Snapshot, Steer, Welcome
from hermesd.ipc.sockets import Dealer
from hermesd.supervisor.pool import evidence
from hermesd.supervisor.pool.launchers.contract import LauncherListener
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker
from hermesd.workers.spec import WorkerSpec

CODEC = Codec(*UP, *DOWN, Ack)


class ByHand:
    """A launcher whose workers are played by the test."""

    containment = "pgroup"
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pid = start_ticks = 0
    started_at = 0.0
    state = "running"

    def __init__(self, listener: LauncherListener):
        self.specs: list[WorkerSpec] = []

    async def start(self) -> None: ...

    def launch(self, spec: WorkerSpec) -> None:
        self.specs.append(spec)

    def take(self, worker: str, tag: str, pid: int, start_ticks: int) -> None: ...

    def kill(self, worker: str, *, dump: bool = False) -> None: ...

    async def stop(self, timeout: float) -> None: ...

    def leave_alone(self) -> None: ...


class Nobody:
    def worker_ready(self, worker: Worker, error: str) -> None: ...

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None: ...

    def worker_forked(self, worker: Worker) -> None: ...

    def worker_snapshot(self, worker: Worker, snapshot: Snapshot) -> None: ...

    def worker_has(self, worker: Worker, message: Message) -> None: ...

    def worker_gone(self, worker: Worker, gone: Gone) -> None: ...

    def worker_logs(self, worker: Worker, logs: Logs) -> None: ...


class Played:
    """A worker without a link of its own: it acknowledges nothing by itself."""

    def __init__(self, spec: WorkerSpec):
        self._dealer = Dealer(spec.endpoint, spec.wire_name.encode())
        self._hello = Hello(spec.worker, spec.token, os.getpid(), 0, "")
        self.close = self._dealer.close

    async def say(self, message: Message, seq: int = 0, ack: int = 0) -> None:
        async with asyncio.timeout(60):
            while not self._dealer.send(CODEC.encode(message, seq, ack)):
                await asyncio.sleep(0.001)

    async def hear(self, kind: type[Message]) -> tuple[int, int]:
        """Number and acknowledgement of the next message of this kind; others are dropped."""
        async with asyncio.timeout(60):
            while True:
                for frame in self._dealer.recv_all():
                    message, seq, ack, _ = CODEC.decode(frame)
                    if isinstance(message, kind):
                        return seq, ack
                await asyncio.sleep(0.001)

    async def greet(self) -> None:
        await self.say(self._hello)
        await self.hear(Welcome)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Pool, Worker, Played]]:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    pool = Pool(
        Nobody(),
        make_launcher=ByHand,
        endpoint=f"ipc://{run}/w.sock",
        template=WorkerSpec("", "0123456789ab", "", "", "", "", "", "demo"),
        spare=0,
        stacks_dir=tmp_path / "stacks",
        servers=Unasked(),
        on_launcher_death=lambda reason: None,
    )
    await pool.start()
    worker = pool.take(Assign("session", "s", "test", "chat", "user", "User"))
    assert isinstance(pool.launcher, ByHand)
    played = Played(pool.launcher.specs[0])
    await played.greet()
    yield pool, worker, played
    played.close()
    await pool.close(1.0)


async def test_what_was_not_acknowledged_is_sent_again(pair: tuple[Pool, Worker, Played]) -> None:
    pool, worker, played = pair
    pool.send(worker, Steer("t", "text"))
    first, _ = await played.hear(Steer)
    # Something to acknowledge, which is due long before the resend: the timer is then there already.
    await played.say(Ready(), seq=1)
    again, _ = await played.hear(Steer)
    assert again == first


async def test_what_a_worker_said_is_acknowledged_without_a_message_to_ride_on(
    pair: tuple[Pool, Worker, Played],
) -> None:
    _, _, played = pair
    await played.say(Ready(), seq=1, ack=2)  # of the welcome and the assignment
    _, ack = await played.hear(Ack)
    assert ack == 1


async def test_of_the_stacks_that_dead_workers_leave_the_newest_stay(
    pair: tuple[Pool, Worker, Played], tmp_path: Path
) -> None:
    pool, living, _ = pair
    stacks = tmp_path / "stacks"
    pool.stacks_file(living.id).touch()
    for number in range(evidence.KEPT_FILES + 10):
        worker = pool.take(Assign(f"session {number}", "s", "test", "chat", "user", "User"))
        pool.stacks_file(worker.id).write_text("Thread 1" if number % 2 else "")
        os.utime(pool.stacks_file(worker.id), (number, number + 2e9))
        pool.gone(Gone(worker.id, -11, 0.0, 0, 0, 0.0))
    assert len(list(stacks.iterdir())) == 1 + (evidence.KEPT_FILES + 10) // 2
    for number in range(evidence.KEPT_FILES):
        worker = pool.take(Assign(f"later session {number}", "s", "test", "chat", "user", "User"))
        pool.stacks_file(worker.id).write_text("Thread 1")
        pool.gone(Gone(worker.id, -11, 0.0, 0, 0, 0.0))
    assert len(list(stacks.iterdir())) == 1 + evidence.KEPT_FILES
    assert pool.stacks_file(living.id).exists(), "a living worker writes into its own"
