"""The line of progress."""

from __future__ import annotations

from hermesd.supervisor.cli.waiting import stop_line


def test_draining_says_how_many_are_busy_and_how_long_it_may_take() -> None:
    event = {"phase": "draining", "workers": 8, "busy": 3, "left_s": 41.2}
    assert stop_line(event) == "draining: 3 of 8 workers busy, 41 s left"


def test_other_phases_say_how_many_are_left() -> None:
    assert stop_line({"phase": "killing", "workers": 1, "busy": 0, "left_s": -1}) == "killing: 1 worker left, 0 s left"


def test_a_phase_of_a_newer_hermesd_is_shown_as_it_is() -> None:
    assert stop_line({"phase": "hibernating\x1b"}) == "hibernating\\x1b: 0 workers left, 0 s left"
