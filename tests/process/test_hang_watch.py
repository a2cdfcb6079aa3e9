"""The watch over real processes, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hermesd.ipc.codec import Codec
from hermesd.ipc.ids import SessionKey, WorkerId
from hermesd.ipc.link import Link
from hermesd.ipc.messages import DOWN, UP
from hermesd.supervisor.pool.hang import Verdict
from hermesd.supervisor.pool.watch import Watch
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks
from hermesd.workers.containment import kernel_view
from hermesd.workers.containment.identity import Identity, start_ticks
from hermesd.workers.containment.tag import make_tag

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="what a hung process does is asked of Linux's /proc"
)

HEARD = 1000.0
WAITS = "import subprocess; child = subprocess.Popen(['sleep', '600']); print('up', flush=True); child.wait()"
"""With a child, for the evidence names what runs below; Popen returns when that is the other program already."""


@pytest.fixture(autouse=True)
def _the_kernel_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still meanwhile must cost no evidence here."""
    monkeypatch.setattr("hermesd.supervisor.pool.watch.KERNEL_SECONDS", 60.0)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True,
                          start_new_session=True) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def stop(process: subprocess.Popen[str]) -> None:
    """SIGSTOP, and wait until it has stopped."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def worker_of(process: subprocess.Popen[str], name: str = "w1", session: str = "agent:main:fake:dm:c1") -> Worker:
    worker = Worker(
        WorkerId(name), b"w1", make_tag("0123456789ab"), Link(Codec(*DOWN, *UP)), None, started_at=0.0, launched=HEARD
    )
    worker.session = SessionKey(session) if session else None
    worker.pid, worker.start_ticks = process.pid, start_ticks(process.pid) or 0
    worker.last_heard, worker.connected, worker.turn, worker.beat = HEARD, True, "t1", 1.0
    return worker


class Watched:
    """A watch over some workers; what it wants to be killed is noted."""

    def __init__(self, place: Path, *workers: Worker):
        self.pool: Any = SimpleNamespace(
            workers={worker.id: worker for worker in workers}, launchers=[], prune_stacks=lambda now: None
        )
        self.hung: list[str] = []
        self.tasks = Tasks(lambda name, error: None)
        self.watch = Watch(
            self.pool, hang_timeout=60.0, burn_timeout=15.0, directory=place / "hangs", tasks=self.tasks,
            has_turn=lambda worker: bool(worker.turn),
            on_hung=lambda worker: self.hung.append(worker.id), on_look=lambda now: None,
        )  # fmt: skip
        self.now = HEARD

    async def look(self, times: int, gap: float = 1.0) -> None:
        for _ in range(times):
            self.now += gap
            self.watch.look(self.now, gap)
        await self.tasks.settle(90.0)


async def test_a_stopped_worker_is_ended_with_evidence_of_what_it_did(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    worker = worker_of(process)
    watched = Watched(tmp_path, worker)
    stop(process)
    await watched.look(59)
    assert worker.silence is not None
    assert (worker.silence.verdict, watched.hung) == (Verdict.SILENT, [])
    await watched.look(2)
    assert watched.hung == [worker.id]
    path = Path(worker.evidence)
    assert path.parent == tmp_path / "hangs"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    for wanted in (
        f"worker      {worker.id}, pid {process.pid}",
        "session     agent:main:fake:dm:c1",
        "turn        t1",
        "T (stopped by a signal)",
        "waits in",
        "syscall",
        " sleep: ",
    ):
        assert wanted in text, text
    assert watched.watch.last_of("agent:main:fake:dm:c1") == watched.watch.hangs[-1]
    assert watched.watch.hangs[-1].evidence == worker.evidence
    await watched.look(100)
    assert watched.hung == [worker.id], "judged once"


class Keeper:
    def __init__(self, process: subprocess.Popen[str], owes_since: float):
        self.pid, self.start_ticks = process.pid, start_ticks(process.pid) or 0
        self.state, self.owes_since, self.ended = "running", owes_since, 0

    def end_hung(self) -> None:
        self.ended += 1


async def test_a_stopped_keeper_that_owes_an_answer_is_ended_with_evidence(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    watched = Watched(tmp_path)
    keeper, idle = Keeper(process, HEARD), Keeper(process, 0.0)
    watched.pool.launchers = [keeper]
    stop(process)
    await watched.look(59)
    assert keeper.ended == 0
    keeper.owes_since = watched.now  # one answer came, another is owed
    await watched.look(59)
    assert keeper.ended == 0
    await watched.look(10)
    assert keeper.ended == 1
    (path,) = (tmp_path / "hangs").glob(f"keeper-{process.pid}-*.txt")
    assert "T (stopped by a signal)" in path.read_text()
    watched.pool.launchers = [idle]
    await watched.look(200)
    assert idle.ended == 0, "of whom nothing is wanted, nothing is known"


async def test_a_pause_of_hermesd_itself_judges_nobody(process: subprocess.Popen[str], tmp_path: Path) -> None:
    worker = worker_of(process)
    watched = Watched(tmp_path, worker)
    await watched.look(2)
    for _ in range(10):
        await watched.look(1, gap=30.0)
        await watched.look(1)
    assert watched.hung == []
    worker.last_heard = watched.now
    await watched.look(1)
    assert worker.silence is not None
    assert worker.silence.verdict is Verdict.HEARD


async def test_a_worker_that_comes_back_while_its_evidence_is_gathered_lives(
    process: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_of(process)
    watched = Watched(tmp_path, worker)
    real = kernel_view.describe

    def slowly(identity: Identity) -> list[str]:
        worker.last_heard = watched.now
        return real(identity)

    monkeypatch.setattr("hermesd.supervisor.pool.evidence.describe", slowly)
    await watched.look(65)
    assert watched.hung == []
    assert worker.ended_for == ""
    assert not (tmp_path / "hangs").exists()


async def test_one_that_burns_the_processor_without_a_turn_is_ended_within_a_minute(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    worker = worker_of(process)
    worker.turn, worker.beat = "", 20.0
    watched = Watched(tmp_path, worker)
    for beat in range(3):
        worker.told_at = worker.last_heard = watched.now
        worker.told_cpu = 5.0 + 19.0 * beat
        await watched.look(20)
    assert watched.hung == [worker.id]
    assert watched.now - HEARD <= 60.0
    assert worker.ended_for == "busy without a turn: 19.0 s CPU within 20 s"
    assert Path(worker.evidence).exists()
    assert watched.watch.hangs[-1].reason == worker.ended_for


async def test_one_that_burns_it_in_c_and_says_nothing_is_ended_too(
    process: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_of(process)
    worker.turn, worker.beat = "", 20.0
    worker.told_at = worker.last_heard
    watched = Watched(tmp_path, worker)
    monkeypatch.setattr("hermesd.supervisor.pool.watch.own_cpu", lambda identity: watched.now - HEARD)
    await watched.look(60)
    assert watched.hung == [worker.id]


async def test_turns_and_pauses_of_hermesd_are_no_burning(process: subprocess.Popen[str], tmp_path: Path) -> None:
    worker = worker_of(process)
    worker.turn, worker.beat = "", 20.0
    watched = Watched(tmp_path, worker)
    for beat in range(6):
        worker.told_at = worker.last_heard = watched.now
        worker.told_cpu = 20.0 * beat
        if beat % 2:
            worker.turns += 1  # one that began and ended between two looks
            await watched.look(20)
        else:
            await watched.look(1, gap=20.0)
    assert watched.hung == []


async def test_evidence_that_cannot_be_written_spares_nobody(
    process: subprocess.Popen[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hangs").write_text("in the way")
    worker = worker_of(process, session="")
    watched = Watched(tmp_path, worker)
    await watched.look(65)
    assert watched.hung == [worker.id]
    assert worker.evidence == ""
    assert "cannot write the evidence" in caplog.text


async def test_a_worker_that_is_being_ended_is_not_judged(process: subprocess.Popen[str], tmp_path: Path) -> None:
    worker = worker_of(process)
    worker.ending = True
    watched = Watched(tmp_path, worker)
    await watched.look(100)
    assert watched.hung == []


def test_the_kernel_is_asked_about_that_process_and_no_other(process: subprocess.Popen[str]) -> None:
    ticks = start_ticks(process.pid) or 0
    assert kernel_view.own_cpu(Identity(process.pid, ticks)) is not None
    assert kernel_view.own_cpu(Identity(process.pid, ticks + 1)) is None
    assert kernel_view.describe(Identity(process.pid, ticks + 1)) == ["the process is gone"]


async def test_the_watch_runs_by_itself(process: subprocess.Popen[str], tmp_path: Path) -> None:
    worker = worker_of(process)
    watched = Watched(tmp_path, worker)
    looked = asyncio.Event()
    watched.watch._on_look = lambda now: looked.set()
    watched.tasks.spawn(watched.watch.run(), "worker watch")
    await asyncio.wait_for(looked.wait(), 60.0)
    await watched.tasks.close()
    assert worker.silence is not None
