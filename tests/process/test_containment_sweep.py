"""What an earlier life left is found and killed, and another instance's is never touched."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermesd.workers.containment import sweep

_spec = importlib.util.spec_from_file_location("trees_harness", Path(__file__).parent / "trees/harness.py")
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)

SETTINGS = ["cgroup-self", "subreaper-self", "subreaper-nobody"]


@pytest.fixture
def oracle() -> Iterator:
    oracle = harness.Oracle()
    yield oracle
    oracle.close()


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_killed_keepers_processes_are_swept(setting, oracle) -> None:
    with harness.run_keeper(setting) as keeper:
        keeper.tree("w1", "hostile", oracle)
        oracle.wait_alive(100)
        keeper.kill_hard()
        found = harness.find(keeper.instance, 100)
        assert {left.proof for left in found} == {setting.partition("-")[0].replace("subreaper", "tag")}
        assert all("tree.py hostile" in left.command and left.age < 60 and left.memory_bytes > 0 for left in found)
        assert oracle.alive == 100, "finding kills nobody"
        assert len(sweep.sweep(keeper.instance)) == 100
        assert oracle.alive == 0
        assert sweep.sweep(keeper.instance) == []


def test_a_keeper_that_sweeps_before_its_first_fork_finds_the_earlier_life(oracle) -> None:
    instance = harness.new_instance()
    with harness.run_keeper("cgroup-self", instance) as first:
        first.tree("w1", "clean_daemon", oracle)
        oracle.wait_alive(2)
        first.kill_hard()
        with harness.run_keeper("subreaper-self", instance) as second:
            found = second.sweep(spare=[])["found"]
            assert sorted(proof for _, proof, _ in found) == ["cgroup", "cgroup"]
            assert oracle.alive == 0


@pytest.mark.parametrize("setting", ["cgroup-self", "subreaper-self"])
def test_sweeping_one_instance_never_touches_another(setting, oracle) -> None:
    with harness.run_keeper(setting) as one, harness.run_keeper(setting) as other:
        assert one.instance != other.instance
        one.tree("w1", "hostile", oracle)
        oracle.wait_alive(100)
        other.tree("w1", "leader_first", oracle)
        oracle.wait_alive(105)
        one.kill_hard()
        harness.find(one.instance, 100)
        assert len(sweep.sweep(one.instance)) == 100
        assert oracle.alive == 5
        assert other.kill(worker="w1")["over"]
        assert oracle.alive == 0


@pytest.mark.parametrize("setting", ["cgroup-self", "subreaper-self"])
def test_what_is_in_use_is_spared_with_all_below_it(setting, oracle) -> None:
    with harness.run_keeper(setting) as keeper:
        keeper.tree("w1", "hostile", oracle)
        oracle.wait_alive(100)
        assert sweep.find(keeper.instance, [keeper.hello["pid"]]) == []
        assert sweep.sweep(keeper.instance, [keeper.hello["pid"]]) == []
        assert oracle.alive == 100
        assert keeper.kill(worker="w1")["over"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_worker_whose_keeper_is_dead_empties_its_own_container(setting, oracle) -> None:
    with harness.run_keeper(setting) as keeper:
        worker = harness.WorkerProcess(keeper, "w1")
        worker.tree("one", "clean_daemon", oracle)
        worker.tree("two", "leader_first", oracle)
        worker.tree("three", "hostile", oracle)
        oracle.wait_alive(107)
        os.kill(next(iter(worker.members(server="one")["pids"])), signal.SIGKILL)  # its daemon has no tag and no parent
        oracle.wait_alive(106)
        keeper.kill_hard()
        with pytest.raises((AssertionError, ConnectionError), match=r"ended|reset"):
            worker.empty_own_container()
        oracle.wait_dead()  # the kernel kills all at once, the worker included
        worker.close()
        # A process in mid-exit has closed its connection and is still listed in the cgroup. It is only looked at and
        # not swept: a sweep would kill a survivor and so hide it.
        deadline = time.monotonic() + 20.0
        while found := sweep.find(keeper.instance):
            assert time.monotonic() < deadline, found
            time.sleep(0.005)
        assert sweep.sweep(keeper.instance) == []


def test_empty_directories_of_an_earlier_life_are_removed() -> None:
    with harness.run_keeper("cgroup-self") as keeper:
        base = os.path.dirname(keeper.fork(worker="w1", argv=["/bin/true"])["place"])
        keeper.kill_hard()
        assert os.path.isdir(base)
        sweep.sweep(keeper.instance)
        assert not os.path.exists(base)
