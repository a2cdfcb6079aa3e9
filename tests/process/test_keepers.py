"""Who survives whom: real keepers and guards, and supervisors that come and go."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.host import Host
from harness.keepers import Instance, KeeperProcess, Supervisor, runs, wait_until

from hermesd.ipc.keeping import PROTOCOL, Fork, Forked, ForkFailed, Gone, Held, Kill, Leave, Retire, Take
from hermesd.workers import containment
from hermesd.workers.containment import cgroupfs
from hermesd.workers.spec import WorkerSpec

SOON = 20.0
"""Seconds, of a machine that may be busy: less than the 30 that a worker, or a keeper that was never claimed, waits by
itself. How soon it is on a quiet one is measured by ``scripts/soak kill-both``."""


@pytest.fixture(params=["cgroup", "subreaper"])
def contained_by(request: pytest.FixtureRequest) -> str:
    try:
        containment.choose(secrets.token_hex(6), request.param)
    except containment.ContainmentError as reason:
        pytest.skip(str(reason))
    return str(request.param)


@pytest.fixture
def instance(contained_by: str, tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path, contained_by)
    yield made
    made.close()


class InOneContainment:
    """For what does not differ between them: a keeper takes half a second to start."""

    @pytest.fixture
    def contained_by(self) -> str:
        return "subreaper"


def child_of(spec: WorkerSpec) -> subprocess.Popen[bytes]:
    """A process that belongs to a worker, by tag and by cgroup."""
    child = subprocess.Popen(["sleep", "300"], env={"PATH": os.environ["PATH"], "HERMESD_TAG": spec.tag})
    if spec.container:
        cgroupfs.write_text(f"{spec.container}/agent/cgroup.procs", str(child.pid))
    return child


def held(worker: str, spec: WorkerSpec, forked: Forked) -> Held:
    return Held(worker, spec.tag, forked.pid, forked.start_ticks)


def test_after_the_time_without_a_supervisor_everything_is_emptied(instance: Instance) -> None:
    instance.take_lock()
    keeper = instance.keeper(adopt_timeout=0.5, guarded=True)
    supervisor = keeper.claim()
    for number in range(3):
        supervisor.fork(f"w{number}")
    supervisor.close()
    instance.free_lock()
    began = time.monotonic()
    assert keeper.wait() == 0
    assert instance.wait_clean() + time.monotonic() - began < SOON


class TestWithoutASupervisor(InOneContainment):
    def test_workers_go_on_and_the_next_one_is_told_what_it_missed(self, instance: Instance) -> None:
        keeper = instance.keeper()
        first = keeper.claim()
        dead, living = first.fork("w1"), first.fork("w2")
        first.close()
        os.kill(dead[1].pid, signal.SIGTERM)
        wait_until(lambda: not runs(dead[1].pid), "the worker's end")
        second = keeper.claim()
        assert set(second.ready.workers) == {held("w1", *dead), held("w2", *living)}
        gone = second.hear(Gone)
        assert (gone.worker, gone.exit_code) == ("w1", -signal.SIGTERM)
        assert runs(living[1].pid)
        third = keeper.claim()
        assert third.ready.workers == (held("w2", *living),)
        third.fork("w3")

    def test_whoever_speaks_another_protocol_may_look_and_end_it(self, instance: Instance) -> None:
        keeper = instance.keeper()
        _, forked = keeper.claim().fork("w1")
        stranger = keeper.claim(protocol=PROTOCOL + 1)
        assert stranger.ready.protocol == PROTOCOL
        assert [each.pid for each in stranger.ready.workers] == [forked.pid]
        stranger.send_fork(stranger.spec_of("w2"))
        assert "speaks protocol" in stranger.hear(ForkFailed).reason
        stranger.send(Leave())
        assert stranger.hear(Gone).worker == "w1"
        assert keeper.wait() == 0

    def test_a_wrong_secret_changes_nothing(self, instance: Instance) -> None:
        keeper = instance.keeper()
        supervisor = keeper.claim()
        right = keeper.spec
        keeper.spec = type(right)(right.instance, "0" * 32, right.socket, right.containment, right.adopt_timeout)
        with pytest.raises(AssertionError, match="closed the connection"):
            Supervisor(keeper)
        keeper.spec = right
        supervisor.fork("w1")


class TestRetired(InOneContainment):
    def test_it_forks_nothing_and_leaves_with_its_last_worker(self, instance: Instance) -> None:
        keeper = instance.keeper()
        supervisor = keeper.claim()
        supervisor.fork("w1")
        supervisor.send(Retire())
        supervisor.send_fork(supervisor.spec_of("w2"))
        assert supervisor.hear(ForkFailed).reason == "this keeper retires"
        supervisor.send(Kill("w1"))
        assert supervisor.hear(Gone).exit_code == -9
        assert keeper.wait() == 0
        assert not Path(keeper.spec.socket).exists()

    def test_it_waits_for_somebody_to_tell_of_the_last_end(self, instance: Instance) -> None:
        keeper = instance.keeper()
        supervisor = keeper.claim()
        _, forked = supervisor.fork("w1")
        supervisor.send(Retire())
        supervisor.send_fork(supervisor.spec_of("w2"))
        supervisor.hear(ForkFailed)
        supervisor.close()
        os.kill(forked.pid, signal.SIGKILL)
        wait_until(lambda: not runs(forked.pid), "the worker's end")
        assert keeper.claim().hear(Gone).worker == "w1"
        assert keeper.wait() == 0


class TestSideBySide:
    def test_the_one_that_leaves_spares_the_other(self, instance: Instance) -> None:
        instance.take_lock()
        old, new = instance.keeper(guarded=True), instance.keeper(guarded=True)
        first, second = old.claim(), new.claim()
        first.fork("w1")
        spec, forked = second.fork("w2")
        child = child_of(spec)
        first.send(Kill("w1"))
        assert first.hear(Gone).left_over == 0
        first.fork("w3")
        first.send(Leave())
        assert first.hear(Gone).worker == "w3"
        assert old.wait() == 0
        assert runs(forked.pid)
        assert child.poll() is None
        assert runs(second.ready.guard)
        second.fork("w4")
        second.send(Kill("w2"))
        assert second.hear(Gone).worker == "w2"
        assert child.wait(5) == -signal.SIGKILL

    def test_the_one_that_leaves_spares_what_a_dead_one_left(self, instance: Instance) -> None:
        """Another keeper may be about to take it over."""
        dead, retired = instance.keeper(), instance.keeper()
        spec, forked = dead.claim().fork("w1")
        supervisor = retired.claim()
        dead.kill()
        supervisor.send(Leave())
        assert retired.wait() == 0
        assert runs(forked.pid)
        taker = instance.keeper().claim()
        taker.send(Take("w1", spec.tag, forked.pid, forked.start_ticks))
        taker.hear(Forked)
        taker.send(Kill("w1"))
        taker.hear(Gone)


def taken(instance: Instance) -> tuple[Supervisor, WorkerSpec, Forked]:
    """A worker that has lost its keeper, and the supervisor of the one that holds it now."""
    first = instance.keeper()
    spec, forked = first.claim().fork("w1")
    first.kill()
    supervisor = instance.keeper().claim()
    supervisor.send(Take("w1", spec.tag, forked.pid, forked.start_ticks))
    assert supervisor.hear(Forked) == forked
    return supervisor, spec, forked


class TestTaken:
    def test_its_death_is_told_with_its_exit_status_and_what_it_left(self, instance: Instance) -> None:
        supervisor, spec, forked = taken(instance)
        child = child_of(spec)
        os.kill(forked.pid, signal.SIGTERM)
        gone = supervisor.hear(Gone)
        assert gone.exit_code == -signal.SIGTERM
        assert gone.left_over == 1
        assert gone.cpu_seconds >= 0
        assert child.wait(5) == -signal.SIGKILL

    def test_it_is_killed_with_all_that_is_below_it(self, instance: Instance) -> None:
        supervisor, spec, forked = taken(instance)
        child = child_of(spec)
        supervisor.send(Kill("w1", dump=True))
        assert supervisor.hear(Gone).exit_code in (-signal.SIGKILL, -signal.SIGUSR1)
        assert not runs(forked.pid)
        assert child.wait(5) == -signal.SIGKILL


class TestTakenOnce(InOneContainment):
    def test_it_is_held_like_any_other(self, instance: Instance) -> None:
        supervisor, spec, forked = taken(instance)
        supervisor.send(Take("w1", spec.tag, forked.pid, forked.start_ticks))
        assert supervisor.hear(Forked) == forked
        assert supervisor.keeper.claim().ready.workers == (held("w1", spec, forked),)

    def test_one_that_is_dead_already_is_only_emptied(self, instance: Instance) -> None:
        first = instance.keeper()
        spec, forked = first.claim().fork("w1")
        child = child_of(spec)
        first.kill()
        os.kill(forked.pid, signal.SIGKILL)
        wait_until(lambda: not runs(forked.pid), "the worker's end")
        supervisor = instance.keeper().claim()
        supervisor.send(Take("w1", spec.tag, forked.pid, forked.start_ticks))
        gone = supervisor.hear(Gone)
        assert gone.exit_code in (None, -signal.SIGKILL)
        assert gone.left_over == 1
        assert supervisor.heard == []
        assert child.wait(5) == -signal.SIGKILL

    def test_a_number_that_means_another_process_by_now_is_not_touched(self, instance: Instance) -> None:
        supervisor = instance.keeper().claim()
        other = subprocess.Popen(["sleep", "300"])
        supervisor.send(Take("w1", supervisor.spec_of("w1").tag, other.pid, 1))
        assert supervisor.hear(Gone).exit_code is None
        assert other.poll() is None
        other.kill()
        other.wait()


def guarded(instance: Instance, adopt_timeout: float = 0.5) -> tuple[KeeperProcess, Supervisor]:
    instance.take_lock()
    keeper = instance.keeper(adopt_timeout=adopt_timeout, guarded=True)
    supervisor = keeper.claim()
    instance.write_list(keeper)
    return keeper, supervisor


def stands_guard(pid: int) -> bool:
    """It takes its name when it has become one; until then it is the keeper's fork, which a signal ends."""
    return Path(f"/proc/{pid}/comm").read_text().strip() == "hermesd-guard"


class TestGuard:
    def test_it_ends_everything_when_keeper_and_supervisor_are_dead(self, instance: Instance) -> None:
        keeper, supervisor = guarded(instance)
        spec, _ = supervisor.fork("w1")
        child = child_of(spec)
        supervisor.fork("w2")
        keeper.kill()
        supervisor.close()
        instance.free_lock()
        assert instance.wait_clean() < SOON
        assert child.wait(5) == -signal.SIGKILL

    def test_one_that_dies_is_followed_by_another_which_no_kill_of_a_worker_hits(self, instance: Instance) -> None:
        keeper, supervisor = guarded(instance, adopt_timeout=30.0)
        os.kill(supervisor.ready.guard, signal.SIGKILL)

        def another() -> int:
            guard = keeper.claim().ready.guard
            return guard if guard != supervisor.ready.guard else 0

        wait_until(another, "another guard")
        latest = keeper.claim()
        latest.fork("w1")
        latest.send(Kill("w1"))
        assert latest.hear(Gone).left_over == 0
        wait_until(lambda: stands_guard(latest.ready.guard), "the guard to be deaf to these")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(latest.ready.guard, number)
        latest.send(Leave())
        assert keeper.wait() == 0
        assert "another" in keeper.log.read_text()
        assert keeper.log.read_text().count("the guard died") == 1


async def test_a_guard_also_ends_what_holds_the_interpreter(instance: Instance) -> None:
    (instance.path / "holder.py").write_text(
        "import re\nfrom pathlib import Path\n"
        "class Agent:\n"
        "    async def turn(self, turn, out):\n"
        "        Path(turn.text).touch()\n"
        "        re.match('(a+)+$', 'a' * 40 + 'b')\n"
        "def make(session): return Agent()\n"
    )
    keeper, supervisor = guarded(instance)
    spec = supervisor.spec_of("w1", agent="holder:make", agent_path=(str(instance.path),))
    host = Host(spec)
    try:
        supervisor.send_fork(spec)
        supervisor.hear(Forked)
        await host.assign(instance.path / "work")
        host.turn(str(instance.path / "holding"))
        await host.until((instance.path / "holding").exists, "the interpreter to be held")
    finally:
        host.close()
    keeper.kill()
    instance.free_lock()
    assert instance.wait_clean() < SOON


class TestGuardOnce(InOneContainment):
    def test_without_a_lock_there_is_none(self, instance: Instance) -> None:
        assert instance.keeper().claim().ready.guard == 0

    def test_it_goes_with_a_keeper_that_leaves(self, instance: Instance) -> None:
        keeper, supervisor = guarded(instance)
        guard = supervisor.ready.guard
        wait_until(lambda: stands_guard(guard), "the guard's name")
        assert runs(guard)
        supervisor.send(Leave())
        assert keeper.wait() == 0
        assert not runs(guard)

    def test_a_home_that_was_removed_keeps_nothing_alive(self, instance: Instance) -> None:
        keeper, supervisor = guarded(instance)
        _, forked = supervisor.fork("w1")
        keeper.kill()
        supervisor.close()
        instance.free_lock()
        shutil.rmtree(instance.path)
        instance.wait_clean(SOON)
        assert not runs(forked.pid)

    def test_while_the_lock_is_held_it_waits(self, instance: Instance) -> None:
        keeper, supervisor = guarded(instance, adopt_timeout=0.1)
        _, forked = supervisor.fork("w1")
        keeper.kill()
        wait_until(lambda: "guard: bridging" in keeper.log.read_text(), "the guard's look at the lock")
        again = time.monotonic() + 0.8
        wait_until(lambda: time.monotonic() > again, "three more of its looks")
        assert runs(forked.pid)
        assert runs(supervisor.ready.guard)
        instance.free_lock()
        instance.wait_clean(SOON)

    def test_it_leaves_when_the_supervisor_has_another_keeper(self, instance: Instance) -> None:
        keeper, supervisor = guarded(instance, adopt_timeout=0.1)
        spec, forked = supervisor.fork("w1")
        keeper.kill()
        other = instance.keeper(guarded=True)
        taker = other.claim()
        instance.write_list(keeper, other)
        wait_until(lambda: not runs(supervisor.ready.guard), "the guard's end")
        assert runs(forked.pid)
        taker.send(Take("w1", spec.tag, forked.pid, forked.start_ticks))
        taker.hear(Forked)
        taker.send(Kill("w1"))
        taker.hear(Gone)

    def test_two_do_not_kill_each_other_first(self, instance: Instance) -> None:
        keeper, supervisor = guarded(instance)
        other = instance.keeper(adopt_timeout=0.5, guarded=True)
        second = other.claim()
        instance.write_list(keeper, other)
        supervisor.fork("w1")
        second.fork("w2")
        keeper.kill()
        other.kill()
        instance.free_lock()
        assert instance.wait_clean() < SOON


def test_a_fork_without_a_spec_is_refused_and_leaves_nothing(instance: Instance) -> None:
    supervisor = instance.keeper().claim()
    supervisor.send(Fork("w1", supervisor.spec_of("w1").tag))
    assert "no descriptor" in supervisor.hear(ForkFailed).reason
