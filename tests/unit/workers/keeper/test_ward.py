from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from hermesd.workers.containment import open_containment
from hermesd.workers.containment.tag import make_tag
from hermesd.workers.keeper.ward import Ward
from hermesd.workers.keeper.ward_life import DUMP_SECONDS, TABLE, Event, State, step


@pytest.fixture
def ward() -> Iterator[Ward]:
    container = open_containment("pgroup", "0123456789ab").worker("w1", make_tag("0123456789ab"))
    made = Ward("w1", os.getpid(), os.pidfd_open(os.getpid()), 1, container)
    yield made
    made.close()


def test_a_dump_has_its_time_and_a_second_request_does_not_add_to_it(ward: Ward) -> None:
    ward.apply(Event.DUMP_THEN_KILL, 10.0)
    ward.apply(Event.DUMP_THEN_KILL, 10.2)
    assert (ward.state, ward.deadline) == (State.DUMPING, 10.0 + DUMP_SECONDS)
    ward.apply(Event.DUMP_TIME_OVER, 10.3)
    assert (ward.state, ward.died_at) == (State.EMPTYING, 10.3)


def test_the_death_counts_from_the_first_sign_of_it(ward: Ward) -> None:
    ward.apply(Event.KILL, 10.0)
    ward.apply(Event.EXITED, 11.0)
    ward.apply(Event.KILL, 12.0)
    assert ward.died_at == 10.0
    ward.apply(Event.EMPTIED, 13.0)
    assert ward.state is State.OVER


def test_the_kernels_last_words(ward: Ward) -> None:
    ward.reaped(signal.SIGKILL, 1.5, 0.5, 2048)
    assert (ward.exit_code, ward.own_cpu, ward.max_rss) == (-9, 2.0, 2048 * 1024)
    ward.reaped(3 << 8, 0.0, 0.0, 0)
    assert ward.exit_code == 3


@pytest.mark.parametrize("state", [state for state in State if state is not State.OVER])
def test_a_kill_and_a_death_are_possible_at_any_time(state: State) -> None:
    for event in (Event.KILL, Event.EXITED):
        assert step(state, event) is State.EMPTYING


def test_what_is_over_takes_nothing() -> None:
    assert TABLE[State.OVER] == {}
    with pytest.raises(KeyError):
        step(State.OVER, Event.KILL)
