"""The census sees the same processes by /proc and by psutil; on Linux each is a check of the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness.running import wait_until

from hermesd.supervisor.instance import process as identities
from hermesd.supervisor.pool import census
from hermesd.supervisor.pool.processes import Processes
from hermesd.supervisor.pool.processes_by_proc import ProcProcesses
from hermesd.supervisor.pool.processes_by_psutil import PsutilProcesses
from hermesd.workers.containment import procfs, usage
from hermesd.workers.containment.identity import stat_fields
from hermesd.workers.containment.tag import VARIABLE, make_tag

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the two are compared where both work")

INSTANCE = "0123456789ab"
TICKS = 2.5 * procfs.TICK  # each figure is cut to a tick, and two are added

# A parent that has burnt some time, waited for a child that burnt more, and holds memory; below it one that sleeps and
# one that is a zombie.
TREE = """
import os, sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
if os.fork() == 0:
    burn(0.2)
    os._exit(0)
os.wait()
burn(0.1)
sleeper = os.fork()
if sleeper == 0:
    sys.stdin.read()
    os._exit(0)
zombie = os.fork()
if zombie == 0:
    os._exit(0)
os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
held = bytearray(20 << 20)
print(sleeper, zombie, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Tree:
    """Pids."""

    parent: int
    sleeper: int
    zombie: int


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    environment = {**os.environ, VARIABLE: make_tag(INSTANCE)}
    with subprocess.Popen(
        [sys.executable, "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        sleeper, zombie = map(int, process.stdout.readline().split())
        # Whoever has said something still runs for a moment.
        wait_until(lambda: all(stat_fields(pid)[0] == b"S" for pid in (process.pid, sleeper)), what="both sleep")
        yield Tree(process.pid, sleeper, zombie)


@pytest.fixture(params=[ProcProcesses, PsutilProcesses])
def processes(request: pytest.FixtureRequest) -> Processes:
    made: Processes = request.param()
    return made


def test_linux_is_looked_at_by_proc() -> None:
    assert isinstance(census.PROCESSES, ProcProcesses)


def test_a_scan_has_parents_and_states(processes: Processes, tree: Tree) -> None:
    seen = processes.scan()
    assert seen[tree.parent].parent == os.getpid()
    assert {seen[tree.sleeper].parent, seen[tree.zombie].parent} == {tree.parent}
    assert [seen[pid].state for pid in (tree.parent, tree.sleeper, tree.zombie)] == ["S", "S", "Z"]


def test_both_find_the_same_processes_with_the_same_parents_and_cpu_time(tree: Tree) -> None:
    ours = {tree.parent, tree.sleeper, tree.zombie}
    one, other = ProcProcesses().scan(), PsutilProcesses().scan()
    assert ours <= set(one) & set(other)
    for pid in ours:
        assert (one[pid].parent, one[pid].state) == (other[pid].parent, other[pid].state)
        assert one[pid].cpu_seconds == pytest.approx(other[pid].cpu_seconds, abs=TICKS)


def test_cpu_time_of_a_scan_has_the_waited_for_child_and_own_cpu_time_has_not(processes: Processes, tree: Tree) -> None:
    assert processes.scan()[tree.parent].cpu_seconds >= 0.3 - TICKS
    assert processes.own_cpu_seconds(tree.parent) >= 0.1 - TICKS
    whole, own = processes.scan()[tree.parent].cpu_seconds, processes.own_cpu_seconds(tree.parent)
    assert whole - own >= 0.2 - TICKS


def test_memory_is_a_share_by_proc_and_what_is_resident_by_psutil(tree: Tree) -> None:
    resident = usage.resident_memory(tree.parent)
    assert resident > 20 << 20
    assert PsutilProcesses().memory_of(tree.parent) == resident
    assert 20 << 20 < ProcProcesses().memory_of(tree.parent) <= resident


def test_a_command_line_and_the_chain_of_parents_can_be_read(processes: Processes, tree: Tree) -> None:
    assert processes.command_of(tree.parent).startswith(f"{sys.executable} -c")
    assert len(processes.command_of(tree.parent)) == 200
    assert processes.parent_of(tree.sleeper) == tree.parent


def test_the_tag_tells_whose_it_is(processes: Processes, tree: Tree) -> None:
    assert processes.carries(tree.sleeper, INSTANCE)
    assert not processes.carries(tree.sleeper, "0" * 12)
    assert not processes.carries(os.getpid(), INSTANCE)


def test_of_what_is_gone_nothing_is_known(processes: Processes) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    pid = process.pid
    assert pid not in processes.scan()
    assert processes.parent_of(pid) is None
    assert processes.own_cpu_seconds(pid) == 0.0
    assert processes.memory_of(pid) == 0
    assert processes.command_of(pid) == ""
    assert not processes.carries(pid, INSTANCE)


def test_a_start_time_by_psutil_tells_two_processes_apart_too(tree: Tree) -> None:
    start = identities.start_by_psutil(tree.parent)
    assert start == identities.start_by_psutil(tree.parent)
    # Both count hundredths of a second, from boot and from 1970.
    younger = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        apart = identities.start_by_psutil(younger.pid) - start
        ticks = identities.start_ticks(younger.pid) - identities.start_ticks(tree.parent)
        assert apart > 0
        assert apart == pytest.approx(ticks * procfs.TICK * 100, abs=1)
    finally:
        younger.send_signal(signal.SIGKILL)
        younger.communicate()
    assert identities.start_by_psutil(younger.pid) == 0
