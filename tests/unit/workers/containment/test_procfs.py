from __future__ import annotations

import os
import subprocess

from hermesd.workers.containment.procfs import Process, Snapshot, command_line, own_children, read_process


def process(pid: int, parent: int, *, start: int = 0, state: str = "S", threads: int = 1) -> Process:
    return Process(pid, start or pid, parent, pid, pid, state, threads, cpu=pid, resident=1)


def test_everything_below_the_seeds_is_found_parents_first() -> None:
    snapshot = Snapshot([process(1, 0), process(10, 1), process(11, 10), process(12, 11), process(20, 1)])
    assert list(snapshot.below([10])) == [10, 11, 12]
    assert list(snapshot.below([12, 10])) == [12, 10, 11]
    assert list(snapshot.below([99])) == []


def test_a_branch_can_be_cut_off() -> None:
    snapshot = Snapshot([process(10, 1), process(11, 10), process(12, 11), process(13, 10)])
    assert list(snapshot.below([10], stop=lambda found: found.pid == 11)) == [10, 13]


def test_a_process_older_than_its_parent_is_no_child() -> None:
    """Its entry was read before the number of its dead parent was given to another process."""
    snapshot = Snapshot([process(10, 1, start=500), process(11, 10, start=400), process(12, 10, start=600)])
    assert list(snapshot.below([10])) == [10, 12]


def test_a_loop_of_parents_ends() -> None:
    snapshot = Snapshot([process(10, 11, start=5), process(11, 10, start=5)])
    assert set(snapshot.below([10])) == {10, 11}
    assert snapshot.ancestors(10) == {10, 11}


def test_a_number_with_another_start_time_is_another_process() -> None:
    old = process(10, 1, start=5)
    assert Snapshot([process(10, 1, start=6)]).get(old.identity) is None
    assert Snapshot([old]).get(old.identity) == old


def test_a_zombie_does_not_run_unless_it_has_other_threads() -> None:
    assert process(1, 0).runs
    assert process(1, 0, state="T").runs
    assert not process(1, 0, state="Z").runs
    assert process(1, 0, state="Z", threads=2).runs


def test_this_process_is_read_as_it_is() -> None:
    me = read_process(os.getpid())
    assert me is not None
    assert (me.pid, me.parent, me.session) == (os.getpid(), os.getppid(), os.getsid(0))
    assert me.runs
    assert me.resident > 0
    assert Snapshot.take().get(me.identity) is not None
    assert "python" in command_line(me.pid)


def test_a_name_with_brackets_and_spaces_does_not_confuse() -> None:
    code = "open('/proc/self/comm', 'w').write(') S 1 (x'); print(flush=True); input()"
    command = ["python3", "-I", "-S", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        found = read_process(child.pid)
        assert child.pid in own_children()
        child.communicate(b"\n")
    assert found is not None
    assert found.parent == os.getpid()


def test_kernel_threads_and_the_gone_are_no_processes() -> None:
    assert read_process(2**22 + 1) is None
    assert all(found.parent != 2 for found in Snapshot.take())
