"""One real worker process whose supervisor, keeper, or both go away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from harness.host import PATIENCE, Host, ended, kill, spec_of, start

from hermesd.ipc.codec import pack_value
from hermesd.ipc.messages import (
    Accept,
    Answer,
    Ask,
    Delta,
    Finished,
    Hello,
    Kept,
    Ready,
    Send,
    Servers,
    Snapshot,
    StartTurn,
)
from hermesd.workers.containment import pidfd_info
from hermesd.workers.containment.identity import start_ticks, wait_dead
from hermesd.workers.spec import WorkerSpec

AGENT = textwrap.dedent("""
    import asyncio, os, re
    from pathlib import Path

    async def see(path):
        while not Path(path).exists():
            await asyncio.sleep(0.005)

    class Agent:
        def __init__(self, session):
            self.turns = 0

        async def turn(self, turn, out):
            self.turns += 1
            verb, _, rest = turn.text.partition(" ")
            return await getattr(self, verb)(rest, out)

        async def words(self, rest, out):
            for number in range(3):
                await out.delta(f"word{number} ")
                await see(f"{rest}{number}")

        async def wait(self, rest, out):
            Path(rest + "-began").touch()
            await see(rest)
            return f"turn {self.turns}"

        async def ask(self, rest, out):
            return "chose " + await out.ask("may I?", ("approve", "deny"), 60)

        async def send(self, rest, out):
            await out.send("", "besides")
            return "sent"

        async def flood(self, rest, out):
            Path(rest + "-began").touch()
            await see(rest)
            for number in range(2000):
                await out.tool("tool", str(number), "done")
                await out.delta("x" * 2000)
                if number == 50:
                    Path(rest + "ing").touch()

        async def hold(self, rest, out):
            Path(rest).touch()
            re.match("(a+)+$", "a" * 40 + "b")

    def make(session):
        return Agent(session)
""")

KEEPER = """
import os, subprocess, sys
process = subprocess.Popen(
    [sys.executable, "-m", "hermesd.workers", sys.argv[1]], pass_fds=(int(sys.argv[1]),), stdin=subprocess.DEVNULL
)
print(process.pid, flush=True)
process.wait()
"""


@pytest.fixture
def spec(tmp_path: Path) -> WorkerSpec:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "scripted.py").write_text(AGENT)
    return spec_of(
        tmp_path,
        secrets.token_hex(6),
        agent="scripted:make",
        agent_path=(str(tmp_path / "agents"),),
        adopt_timeout=30.0,
    )


class Supervisors:
    """One host after the other on the same endpoint."""

    def __init__(self, spec: WorkerSpec):
        self.spec = spec
        self.now = Host(spec)

    def die(self) -> None:
        self.now.close()

    def next(self) -> Host:
        self.now = Host(self.spec, takes_over=True)
        return self.now


@pytest.fixture
async def supervisors(spec: WorkerSpec) -> AsyncIterator[Supervisors]:
    made = Supervisors(spec)
    yield made
    made.die()


@pytest.fixture
def process(spec: WorkerSpec, supervisors: Supervisors) -> Iterator[subprocess.Popen[bytes]]:
    made = start(spec)
    yield made
    kill(made)


class TestAnotherSupervisor:
    """Each of these ends in the process that it began in."""

    @pytest.fixture(autouse=True)
    def _running(self, process: subprocess.Popen[bytes]) -> None:
        pass

    async def ready(self, supervisors: Supervisors, tmp_path: Path) -> Host:
        await supervisors.now.assign(tmp_path / "work")
        return supervisors.now

    async def test_in_mid_turn_it_is_told_the_state_and_gets_the_rest(
        self, supervisors: Supervisors, tmp_path: Path
    ) -> None:
        first = await self.ready(supervisors, tmp_path)
        first.turn(f"words {tmp_path}/go")
        await first.hear(Delta)
        supervisors.die()
        (tmp_path / "go0").touch()
        second = supervisors.next()
        hello = await second.hear(Hello)
        assert hello.epoch == 0
        snapshot = await second.hear(Snapshot)
        assert (snapshot.session_key, snapshot.session_id) == ("agent:main:fake:dm:c1", "s1")
        assert (snapshot.ready, snapshot.error, snapshot.turn, snapshot.asks) == (True, "", "t1", ())
        assert snapshot.text in ("word0 ", "word0 word1 ")
        await second.hear(Servers)
        (tmp_path / "go1").touch()
        await second.until(lambda: "word2" in "".join(delta.text for delta in second.all(Delta)), "the third word")
        assert snapshot.text + "".join(delta.text for delta in second.all(Delta)) == "word0 word1 word2 "
        (tmp_path / "go2").touch()
        finished = await second.hear(Finished)
        assert (finished.outcome, finished.text) == ("done", "word0 word1 word2 ")
        assert second.all(Accept) == []
        assert len(second.all(Finished)) == 1
        order = [
            type(message) for message in second.heard if isinstance(message, Snapshot | Servers | Delta | Finished)
        ]
        assert order[:2] == [Snapshot, Servers]

    async def test_an_accept_that_was_not_on_disk_is_said_again_and_starts_the_agent(
        self, supervisors: Supervisors, tmp_path: Path
    ) -> None:
        supervisors.now.holds = (Accept,)
        first = await self.ready(supervisors, tmp_path)
        first.turn(f"wait {tmp_path}/go")
        await first.hear(Accept)
        supervisors.die()
        second = supervisors.next()
        await second.hear(Accept)
        snapshot = await second.hear(Snapshot)
        assert (snapshot.turn, snapshot.text) == ("t1", "")
        assert second.heard.index(Accept("t1")) < second.heard.index(snapshot)
        (tmp_path / "go").touch()
        assert (await second.hear(Finished)).text == "turn 1"
        assert len(second.all(Accept)) == 1

    async def test_an_end_in_between_arrives_once(self, supervisors: Supervisors, tmp_path: Path) -> None:
        first = await self.ready(supervisors, tmp_path)
        first.turn(f"wait {tmp_path}/go")
        await first.until((tmp_path / "go-began").exists, "the agent to begin")
        supervisors.die()
        (tmp_path / "go").touch()
        second = supervisors.next()
        assert (await second.hear(Finished)).text == "turn 1"
        snapshot = await second.hear(Snapshot)
        assert snapshot.turn in ("", "t1")  # told before the end, if that came after it
        second.turn(f"wait {tmp_path}/go", "t2")
        await second.until(lambda: len(second.all(Finished)) == 2, "the end of the next turn")
        assert [end.turn for end in second.all(Finished)] == ["t1", "t2"]

    async def test_what_was_sent_and_not_on_disk_lets_the_agent_go_on(
        self, supervisors: Supervisors, tmp_path: Path
    ) -> None:
        supervisors.now.holds = (Send,)
        first = await self.ready(supervisors, tmp_path)
        first.turn("send")
        send = await first.hear(Send)
        supervisors.die()
        second = supervisors.next()
        assert await second.hear(Send) == send
        assert (await second.hear(Finished)).text == "sent"

    async def test_an_open_question_is_known_and_can_be_answered(
        self, supervisors: Supervisors, tmp_path: Path
    ) -> None:
        first = await self.ready(supervisors, tmp_path)
        first.turn("ask")
        ask = await first.hear(Ask)
        await first.until(lambda: ask in first.heard and not first.unsettled, "the ask to be settled")
        supervisors.die()
        second = supervisors.next()
        assert (await second.hear(Snapshot)).asks == (ask,)
        second.send(Answer(ask.ask, "approve", "u1"))
        assert (await second.hear(Finished)).text == "chose approve"

    async def test_what_it_repeats_happens_once(self, supervisors: Supervisors, tmp_path: Path) -> None:
        first = await self.ready(supervisors, tmp_path)
        first.turn(f"wait {tmp_path}/go", "t1")
        await first.hear(Accept)
        supervisors.die()
        second = supervisors.next()
        await second.hear(Snapshot)
        second.turn(f"wait {tmp_path}/go", "t1")
        await second.until(lambda: any(isinstance(each, StartTurn) for each in second.delivered), "the turn to arrive")
        (tmp_path / "go").touch()
        assert (await second.hear(Finished)).text == "turn 1"
        second.turn(f"wait {tmp_path}/go", "t1")
        assert (await second.hear(Finished, 2)).text == "turn 1"
        ready = len(second.all(Ready))
        second.send_assign(tmp_path / "elsewhere")
        second.turn(f"wait {tmp_path}/go", "t2")
        assert (await second.hear(Finished, 3)).text == "turn 2"
        assert len(second.all(Ready)) == ready
        assert not (tmp_path / "elsewhere").exists()

    async def test_an_agent_that_floods_while_nobody_takes_it_waits(
        self, supervisors: Supervisors, tmp_path: Path, process: subprocess.Popen[bytes]
    ) -> None:
        first = await self.ready(supervisors, tmp_path)
        first.turn(f"flood {tmp_path}/flood")
        await first.until((tmp_path / "flood-began").exists, "the agent to begin")
        supervisors.die()
        worker = psutil.Process(process.pid)
        before = worker.memory_info().rss
        (tmp_path / "flood").touch()
        await first.until((tmp_path / "flooding").exists, "the agent to flood")
        deadline = time.monotonic() + PATIENCE
        quiet = 0
        while quiet < 5:  # it has stopped to burn CPU: it waits
            used = sum(worker.cpu_times()[:2])
            await asyncio.sleep(0.05)
            quiet = quiet + 1 if sum(worker.cpu_times()[:2]) - used < 0.02 else 0
            assert time.monotonic() < deadline
        assert worker.memory_info().rss - before < 30_000_000
        finished = await supervisors.next().hear(Finished)
        assert (finished.outcome, len(finished.text)) == ("done", 2000 * 2000)


class Orphan:
    """A worker whose keeper the test can kill: nobody here is its parent."""

    def __init__(self, spec: WorkerSpec):
        read, write = os.pipe()
        self.keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(read)],
            pass_fds=(read,),
            env={**os.environ, "HERMESD_TAG": spec.tag},
            stdout=subprocess.PIPE,
        )
        os.close(read)
        with os.fdopen(write, "wb") as told:
            told.write(pack_value(replace(spec, keeper=self.keeper.pid)))
        assert self.keeper.stdout is not None
        self.pid = int(self.keeper.stdout.readline())
        self._pidfd = os.pidfd_open(self.pid)

    def kill_keeper(self) -> None:
        self.keeper.kill()
        self.keeper.wait()

    async def end(self) -> int | None:
        """Its exit status, once it has ended."""
        assert await asyncio.to_thread(wait_dead, self._pidfd, PATIENCE), f"it lives after {PATIENCE} s"
        deadline = time.monotonic() + 5.0
        while (code := pidfd_info.exit_code(self._pidfd)) is None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return code

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it ends within so many seconds."""
        return wait_dead(self._pidfd, seconds)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.kill_keeper()
        os.close(self._pidfd)
        assert self.keeper.stdout is not None
        self.keeper.stdout.close()


class TestWithoutAKeeper:
    """The test has to answer within ``adopt_timeout``, however busy the machine is."""

    @pytest.fixture
    def spec(self, spec: WorkerSpec) -> WorkerSpec:
        return replace(spec, adopt_timeout=1.2)

    @pytest.fixture
    def orphan(self, spec: WorkerSpec, supervisors: Supervisors) -> Iterator[Orphan]:
        made = Orphan(spec)
        yield made
        made.close()

    async def test_it_lives_on_while_its_supervisor_answers(
        self, supervisors: Supervisors, orphan: Orphan, tmp_path: Path
    ) -> None:
        await supervisors.now.assign(tmp_path / "work")
        supervisors.now.turn(f"wait {tmp_path}/go")
        await supervisors.now.hear(Accept)
        orphan.kill_keeper()
        await supervisors.now.hear(Hello, 7)  # 0.3 s apart
        assert not orphan.ended()
        (tmp_path / "go").touch()
        assert (await supervisors.now.hear(Finished)).outcome == "done"

    async def test_with_neither_it_ends_itself(self, supervisors: Supervisors, orphan: Orphan, tmp_path: Path) -> None:
        await supervisors.now.assign(tmp_path / "work")
        orphan.kill_keeper()
        supervisors.die()
        assert await orphan.end() == 72

    async def test_another_keeper_takes_the_place_of_the_dead_one(
        self, supervisors: Supervisors, orphan: Orphan, tmp_path: Path
    ) -> None:
        await supervisors.now.assign(tmp_path / "work")
        orphan.kill_keeper()
        await supervisors.now.hear(Hello, 2)
        other = subprocess.Popen(["sleep", "300"])  # noqa: ASYNC220 - the fork takes a millisecond
        try:
            kept = Kept(other.pid, start_ticks(other.pid) or 0)
            supervisors.now.send(kept)
            await supervisors.now.until(lambda: kept in supervisors.now.delivered, "the news of the keeper")
            supervisors.die()
            assert not orphan.ended(2.0), "it has a keeper"
        finally:
            other.kill()
            other.wait()
        assert await orphan.end() == 72

    async def test_a_keeper_that_is_dead_as_well_is_none(
        self, supervisors: Supervisors, orphan: Orphan, tmp_path: Path
    ) -> None:
        await supervisors.now.assign(tmp_path / "work")
        orphan.kill_keeper()
        await supervisors.now.hear(Hello, 2)
        kept = Kept(os.getpid(), 1)
        supervisors.now.send(kept)
        await supervisors.now.until(lambda: kept in supervisors.now.delivered, "the news of the keeper")
        supervisors.die()
        assert await orphan.end() == 72

    async def test_while_c_code_holds_the_interpreter_the_watchdog_ends_it(
        self, supervisors: Supervisors, orphan: Orphan, tmp_path: Path, spec: WorkerSpec
    ) -> None:
        await supervisors.now.assign(tmp_path / "work")
        supervisors.now.turn(f"wait {tmp_path}/held", "t0")
        await supervisors.now.hear(Accept)
        orphan.kill_keeper()
        await supervisors.now.hear(Hello, 2)  # it has noticed
        (tmp_path / "held").touch()
        await supervisors.now.hear(Finished)
        supervisors.now.turn(f"hold {tmp_path}/holding")
        await supervisors.now.until((tmp_path / "holding").exists, "the interpreter to be held")
        supervisors.die()
        assert await orphan.end() == 1
        assert "scripted.py" in Path(spec.stacks).read_text()

    async def test_one_that_is_born_after_its_keepers_death_lives_as_well(
        self, supervisors: Supervisors, spec: WorkerSpec, tmp_path: Path
    ) -> None:
        keeper = subprocess.Popen(["true"])  # noqa: ASYNC220 - the fork takes a millisecond
        keeper.wait()
        process = start(replace(spec, keeper=keeper.pid))
        try:
            await supervisors.now.assign(tmp_path / "work")
            await supervisors.now.hear(Hello, 7)
            assert process.poll() is None
            supervisors.die()
            assert await ended(process) == 72
        finally:
            kill(process)

    async def test_without_a_time_for_it_the_worker_ends_with_its_keeper(
        self, tmp_path: Path, spec: WorkerSpec, supervisors: Supervisors
    ) -> None:
        orphan = Orphan(replace(spec, adopt_timeout=0.0))
        try:
            await supervisors.now.assign(tmp_path / "work")
            orphan.kill_keeper()
            assert await orphan.end() == 72
        finally:
            orphan.close()
