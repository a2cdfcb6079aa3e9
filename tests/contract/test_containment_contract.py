"""What every containment promises, as root and as an unprivileged user."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermesd.workers.containment import ContainmentError, choose, open_containment
from hermesd.workers.containment.tag import read_tag, server_tag

_spec = importlib.util.spec_from_file_location(
    "trees_harness", Path(__file__).parent.parent / "process/trees/harness.py"
)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)


@pytest.fixture
def oracle() -> Iterator:
    oracle = harness.Oracle()
    yield oracle
    oracle.close()


@pytest.fixture(params=harness.SETTINGS)
def keeper(request) -> Iterator:
    with harness.run_keeper(request.param) as keeper:
        yield keeper


@pytest.fixture
def worker(keeper) -> Iterator:
    worker = harness.WorkerProcess(keeper, "w1")
    yield worker
    worker.close()


def test_a_worker_carries_its_tag_and_leads_its_session(keeper, oracle) -> None:
    birth = keeper.tree("w1", "sit", oracle)
    oracle.wait_alive(1)
    assert read_tag(birth["pid"]) == birth["tag"]
    assert os.getsid(birth["pid"]) == birth["pid"]
    assert keeper.usage()["workers"]["w1"]["pids"] == [birth["pid"]]


def test_killing_one_worker_leaves_the_other(keeper, oracle) -> None:
    keeper.tree("w1", "leader_first", oracle)
    keeper.tree("w2", "sit", oracle)
    oracle.wait_alive(6)
    assert keeper.kill(worker="w1")["over"]
    assert oracle.alive == 1
    assert keeper.kill(worker="w2")["over"]
    assert oracle.alive == 0


def test_a_root_that_has_not_entered_yet_does_not_survive(keeper, oracle) -> None:
    argv = [keeper.python, "-I", "-S", str(harness.HERE / "tree.py"), "sit", str(oracle.port)]
    keeper.fork(worker="w1", argv=argv, enters=False)
    oracle.wait_alive(1)
    assert keeper.kill(worker="w1")["over"]
    assert oracle.alive == 0


def test_an_empty_container_is_over_and_a_new_one_of_another_worker_works(keeper, oracle) -> None:
    keeper.tree("w1", "sit", oracle)
    oracle.wait_alive(1)
    keeper.die(worker="w1")
    assert keeper.kill(worker="w1")["over"]
    keeper.tree("w2", "sit", oracle)
    oracle.wait_alive(1)
    assert keeper.kill(worker="w2")["over"]


def test_memory_is_a_share_when_asked_and_resident_pages_when_not(keeper, oracle) -> None:
    keeper.tree("w1", "hostile", oracle)
    oracle.wait_alive(100)
    resident = keeper.usage()["workers"]["w1"]
    proportional = keeper.usage(memory=True)["workers"]["w1"]
    assert resident["processes"] == proportional["processes"] == 100
    # A hundred forks share nearly everything.
    assert 0 < proportional["memory_bytes"] < resident["memory_bytes"] / 2


@pytest.mark.parametrize(("shape", "alive"), [("hostile", 100), ("clean_daemon", 2), ("leader_first", 5), ("chain", 2)])
def test_killing_a_server_spares_its_worker_and_the_next_server(keeper, worker, oracle, shape, alive) -> None:
    worker.tree("time", "sit", oracle)
    worker.tree("bad", shape, oracle)
    oracle.wait_alive(alive + 1)
    result = worker.kill(server="bad")
    print(f"\n{keeper.hello['name']} server {shape}: {result}")
    assert result["over"]
    assert oracle.alive == 1
    assert worker.kill(server="time") | {"took": 0, "cpu_seconds": 0} == {
        "over": True,
        "exit_code": -9,
        "took": 0,
        "cpu_seconds": 0,
    }
    assert oracle.alive == 0
    assert keeper.kill(worker="w1")["over"]


def test_what_a_servers_first_process_left_is_known_even_with_a_clean_environment(worker, oracle) -> None:
    birth = worker.tree("bad", "clean_daemon", oracle)
    oracle.wait_alive(2)
    worker.reap()  # a look while the daemon is still below the first process
    os.kill(birth["pid"], signal.SIGKILL)
    oracle.wait_alive(1)
    assert worker.kill(server="bad")["over"]
    assert oracle.alive == 0


def test_a_server_has_its_own_tag_below_its_workers(worker, oracle) -> None:
    birth = worker.tree("time", "sit", oracle)
    oracle.wait_alive(1)
    assert birth["tag"] == server_tag(worker.birth["tag"], "time", 1) == read_tag(birth["pid"])
    assert worker.members(server="time")["pids"] == [birth["pid"]]


def test_killing_a_worker_kills_its_servers(keeper, worker, oracle) -> None:
    worker.tree("one", "clean_daemon", oracle)
    worker.tree("two", "hostile", oracle)
    oracle.wait_alive(102)
    assert keeper.kill(worker="w1")["over"]
    assert oracle.alive == 0


def test_what_a_crashed_worker_leaves_of_its_servers_is_killed(keeper, worker, oracle) -> None:
    worker.tree("one", "clean_daemon", oracle)
    worker.tree("two", "leader_first", oracle)
    oracle.wait_alive(7)
    keeper.die(worker="w1")
    assert keeper.kill(worker="w1")["over"]
    assert oracle.alive == 0


def test_a_worker_reaps_what_it_adopted_and_never_its_own_child(keeper, worker, oracle) -> None:
    worker.popen(exit_code=7)
    worker.tree("bad", "leader_first", oracle)
    oracle.wait_alive(5)
    worker.reap()  # it gets to know the orphans while they live
    assert worker.kill(server="bad")["over"]
    worker.reap()
    zombies = worker.zombies()["pids"]
    assert len(zombies) == 1, "only the agent's own child still waits to be waited for"
    assert worker.poll() == {"exit_codes": [7]}
    assert worker.zombies() == {"pids": []}


def test_the_supervisor_finds_the_containers_by_the_keepers_pid(keeper, oracle) -> None:
    birth = keeper.tree("w1", "sit", oracle)
    oracle.wait_alive(1)
    seen = open_containment(keeper.hello["name"], keeper.instance, pid=keeper.hello["pid"])
    container = seen.worker("w1", birth["tag"])
    assert container.place == birth["place"]
    usage = seen.usage({"w1": container}, {"w1": birth["pid"]})
    assert usage["w1"].pids == (birth["pid"],)
    assert usage["w1"].exact == seen.exact_cpu


def test_the_preferred_strategy_is_used_or_refused_with_a_reason() -> None:
    instance = harness.new_instance()
    with pytest.raises(ContainmentError, match="cannot use containment job: not this system"):
        choose(instance, "job")
    with pytest.raises(ContainmentError, match="cannot use containment 'magic': choose auto, cgroup, subreaper"):
        choose(instance, "magic")
    assert choose(instance, "subreaper").containment.name == "subreaper"


def test_an_unprivileged_user_gets_the_subreaper_and_the_reason() -> None:
    with harness.run_keeper("auto-nobody") as keeper:
        assert keeper.hello["name"] == "subreaper"
        [[name, reason]] = keeper.hello["refused"]
        assert name == "cgroup"
        assert reason.endswith("Permission denied")
