"""A few rounds of every case that ``scripts/soak`` runs by the hundred."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from harness import soak
from harness.cases import cpu, hogs, kill_hermesd, kill_worker, limits, starts, stop, two_homes

SEED = int(os.environ.get("HERMESD_SEED") or random.randrange(1 << 32))
"""In the name of each test, so that a failure can be run again: HERMESD_SEED=N ./scripts/test ..."""

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/cgroup").exists(), reason="the cases look at processes through Linux's /proc"
    ),
    pytest.mark.parametrize("seed", [pytest.param(SEED, id=f"seed-{SEED}")]),
]


def say(line: str) -> None:
    print(line)


def test_a_killed_worker_leaves_none_of_its_five_servers_and_its_session_goes_on(seed: int) -> None:
    kill_worker.run(2, seed, say)


def test_a_killed_hermesd_leaves_nothing_and_the_next_start_tells_the_lost_turns(seed: int) -> None:
    kill_hermesd.run(3, seed, say)


def test_what_happens_to_one_home_touches_no_process_of_another(seed: int) -> None:
    two_homes.run(2, seed, say)


def test_of_two_starts_one_wins_and_no_stale_pid_file_delays_one(seed: int) -> None:
    starts.run(3, seed, say)


def test_a_stop_with_forty_servers_running_is_quick_and_leaves_nothing(seed: int) -> None:
    stop.run(1, seed, say)


def test_turns_workers_and_strangers_are_limited_and_nobody_loses_his_conversation(seed: int) -> None:
    limits.run(1, seed, say)


def test_a_session_that_burns_a_core_delays_no_other_and_can_be_stopped(seed: int) -> None:
    hogs.run(1, seed, say)


def test_cpu_time_of_a_worker_counts_its_whole_tree_with_its_dead(seed: int) -> None:
    cpu.run(1, seed, say)


def test_every_case_has_a_test_here_and_a_line_for_the_list(seed: int) -> None:
    tested = {module.__name__.rpartition(".")[2] for module in (cpu, hogs, kill_hermesd, kill_worker, limits, starts,
                                                              stop, two_homes)}  # fmt: skip
    assert tested == {name.replace("-", "_") for name in soak.names()}
    assert all(soak.purpose(name).endswith(".") for name in soak.names())
