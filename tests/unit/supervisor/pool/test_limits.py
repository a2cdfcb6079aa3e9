"""What is too much, between turns and during one."""

from __future__ import annotations

from typing import Any

import pytest

from hermesd.supervisor.pool.limits import Limits, Spent, endangers, worn

MIB = 1 << 20
LIMITS = Limits(memory_soft=400 * MIB, memory_hard=800 * MIB, processes=10, age=3600.0, turns=50)


@pytest.mark.parametrize(
    ("spent", "names"),
    [
        ({"memory": 401 * MIB}, ("401M", "memory_soft", "400M")),
        ({"processes": 11}, ("11 processes", "max_processes")),
        ({"turns": 50}, ("50 turns", "max_turns_per_worker")),
        ({"age": 3600.0}, ("3600 s old", "max_age")),
    ],
)
def test_a_worker_is_worn_when_it_has_come_to_any_limit(spent: dict[str, Any], names: tuple[str, ...]) -> None:
    reason = worn(LIMITS, Spent(**spent))
    assert all(name in reason for name in names), reason


def test_below_all_limits_or_without_any_it_may_have_another_turn() -> None:
    assert worn(LIMITS, Spent(400 * MIB, 10, 3599.0, 49)) == ""
    assert worn(Limits(), Spent(1 << 40, 10_000, 1e9, 10_000)) == ""


def test_during_a_turn_only_what_endangers_others_counts() -> None:
    assert endangers(LIMITS, Spent(800 * MIB, 40, 1e9, 1000)) == ""
    assert "memory_hard" in endangers(LIMITS, Spent(memory=801 * MIB))
    assert "4 times max_processes" in endangers(LIMITS, Spent(processes=41))
    assert endangers(Limits(), Spent(1 << 40, 10_000)) == ""
