"""A few rounds of every case that ``scripts/soak`` runs by the hundred."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from harness import soak
from harness.aimock import has_aimock
from harness.cases import (
    adopt,
    burn,
    cpu,
    crashes,
    failing_model,
    frames,
    hang,
    hermes,
    hogs,
    journal,
    kill_both,
    kill_hermesd,
    kill_keeper,
    kill_worker,
    kills,
    leak,
    limits,
    logflood,
    lost,
    mcp_budget,
    mcp_reconnect,
    oauth,
    platforms,
    recycled,
    shared,
    starts,
    stop,
    two_homes,
    unused,
)
from harness.hermes.scene import why_not

SEED = int(os.environ["HERMESD_SEED"])
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


def test_a_leaking_worker_is_recycled_between_turns_and_loses_nothing(seed: int) -> None:
    leak.run(8, seed, say)


def test_a_killed_hermesd_leaves_nothing_and_the_next_start_tells_the_lost_turns(seed: int) -> None:
    kill_hermesd.run(2, seed, say)


def test_messages_are_answered_once_and_in_order_over_the_deaths_of_hermesd_and_workers(seed: int) -> None:
    lost.run(1, seed, say, messages=20)


def test_kill_9_at_random_moments_of_writing_loses_nothing_that_was_acknowledged(seed: int) -> None:
    journal.run(5, seed, say)


def test_a_model_that_fails_rebuilds_nothing_and_works_once_it_is_mended(
    seed: int, lacking: Callable[[str], NoReturn]
) -> None:
    if not has_aimock():
        lacking("no aimock: npm ci --prefix tests/node")
    assert failing_model.run(1, seed, say, messages=5)["messages"] == 50


def test_a_server_that_exits_at_once_is_hardly_started_however_often_it_is_called(seed: int) -> None:
    assert mcp_budget.run(1, seed, say, seconds=6.0)["each"][0]["spawns"] <= 4


def test_reconnects_and_reloads_leave_exactly_the_processes_that_are_wanted(seed: int) -> None:
    assert mcp_reconnect.run(5, seed, say, sessions=3)["reloads"] == 1


def test_hermes_agent_keeps_its_conversation_and_its_servers_over_a_model_that_fails(
    seed: int, lacking: Callable[[str], NoReturn]
) -> None:
    if reason := why_not():
        lacking(reason)
    result = hermes.run(1, seed, say, versions=("",), sessions=2, failing=3)
    assert result["0.19.0"]["failed"] == 6


def test_frames_that_are_nearly_right_are_refused_and_reach_nobody(seed: int) -> None:
    result = frames.run(3000, seed, say)
    assert result["unreadable"] > 500
    assert result["false_claims"] > 50


@pytest.mark.alone("measures the delays beside a flood")
def test_a_flood_on_standard_error_holds_nobody_up_and_fills_no_disk(seed: int) -> None:
    logflood.run(1, seed, say, seconds=3.0)


def test_a_new_hermesd_goes_on_with_the_workers_of_a_killed_one_and_without_one_nothing_is_left(seed: int) -> None:
    adopt.run(1, seed, say)


def test_a_killed_keeper_costs_no_running_turn_and_no_new_session(seed: int) -> None:
    kill_keeper.run(1, seed, say)


def test_a_killed_hermesd_and_its_killed_keeper_leave_nothing_not_even_a_held_interpreter(seed: int) -> None:
    kill_both.run(1, seed, say)


def test_what_happens_to_one_home_touches_no_process_of_another(seed: int) -> None:
    two_homes.run(1, seed, say)


@pytest.mark.alone("compares starts with each other")
def test_of_two_starts_one_wins_and_no_stale_pid_file_delays_one(seed: int) -> None:
    starts.run(2, seed, say)


def test_a_stop_with_forty_servers_running_is_quick_and_leaves_nothing(seed: int) -> None:
    stop.run(1, seed, say)


def test_turns_workers_and_strangers_are_limited_and_nobody_loses_his_conversation(seed: int) -> None:
    limits.run(1, seed, say)


@pytest.mark.alone("measures the delays beside a session that spins")
def test_a_session_that_burns_a_core_delays_no_other_and_can_be_stopped(seed: int) -> None:
    hogs.run(1, seed, say)


def test_cpu_time_of_a_worker_counts_its_whole_tree_with_its_dead(seed: int) -> None:
    cpu.run(1, seed, say)


def test_a_stopped_worker_is_found_with_evidence_and_a_paused_hermesd_judges_nobody(seed: int) -> None:
    hang.run(1, seed, say)


def test_a_worker_that_is_busy_without_a_turn_or_whose_server_is_is_replaced_with_evidence(seed: int) -> None:
    burn.run(1, seed, say, lasting=2.0)


def test_five_crashes_quarantine_one_session_and_twenty_one_end_hermesd_with_75(seed: int) -> None:
    crashes.run(1, seed, say)


def test_no_kill_request_on_a_recycled_pid_reaches_a_foreign_process(
    seed: int, lacking: Callable[[str], NoReturn]
) -> None:
    if reason := recycled.lacks():
        if os.geteuid() == 0:
            lacking(reason)
        pytest.skip(reason)
    recycled.run(200, seed, say)


def test_anything_killed_in_any_way_at_any_moment_leaves_nothing_and_every_message_comes_to_its_end(seed: int) -> None:
    kills.run(2, seed, say)


def test_messages_of_three_networks_in_bad_weather_are_answered_once_and_in_order_over_deaths(seed: int) -> None:
    platforms.run(60, seed, say, deaths=2, restarts=3)


def test_every_case_has_a_test_here_and_a_line_for_the_list(seed: int) -> None:
    modules = (
        adopt, burn, cpu, crashes, failing_model, frames, hang, hermes, hogs, journal, kill_both, kill_hermesd,
        kill_keeper, kill_worker, kills, leak, limits, logflood, lost, mcp_budget, mcp_reconnect, oauth, platforms,
        recycled, shared, starts, stop, two_homes, unused,
    )  # fmt: skip
    tested = {module.__name__.rpartition(".")[2] for module in modules}
    assert tested == {name.replace("-", "_") for name in soak.names()}
    assert all(soak.purpose(name).endswith(".") for name in soak.names())


def test_workers_that_share_an_authorization_never_use_a_refresh_token_twice(seed: int) -> None:
    found = oauth.run(2, seed, say, workers=4)
    assert found["refreshed"] >= 1


def test_a_server_that_all_sessions_share_takes_along_the_calls_under_way_and_nobody_else(seed: int) -> None:
    shared.run(2, seed, say, sessions=3)


def test_servers_that_nobody_calls_have_no_process_however_many_sessions_know_their_tools(seed: int) -> None:
    assert unused.run(1, seed, say, sessions=10)["servers"] == 7
