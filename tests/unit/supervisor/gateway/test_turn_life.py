from __future__ import annotations

import itertools

import pytest

from hermesd.supervisor.gateway.turn_life import ENDED, TABLE, Event, IllegalTransition, State, after_death, step


@pytest.mark.parametrize(("accepted", "interrupted"), itertools.product([False, True], repeat=2))
@pytest.mark.parametrize("killed", [0, 1, 2, 3])
@pytest.mark.parametrize("on_crash", ["ask", "retry"])
def test_what_the_death_of_its_worker_means(accepted: bool, interrupted: bool, killed: int, on_crash: str) -> None:
    event = after_death(accepted=accepted, interrupted=interrupted, killed=killed, on_crash=on_crash)
    if interrupted:
        expected = Event.INTERRUPTED
    elif killed >= 2:
        expected = Event.POISONOUS
    elif accepted and on_crash == "ask":
        expected = Event.WORKER_LOST
    else:
        expected = Event.WORKER_GONE
    assert event is expected
    assert event in TABLE[State.RUNNING if accepted else State.DISPATCHED]


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_turn_takes_nothing_more(state: State) -> None:
    for event in Event:
        with pytest.raises(IllegalTransition, match=f"a turn that is {state} cannot take {event}"):
            step(state, event)


def test_only_a_queued_turn_can_be_taken_back_without_a_worker() -> None:
    assert [state for state in State if Event.CANCELLED in TABLE[state]] == [State.QUEUED]


def test_a_turn_asks_several_times() -> None:
    state = State.RUNNING
    for event in (Event.ASKED, Event.ASKED, Event.ANSWERED, Event.ASKED, Event.FINISHED):
        state = step(state, event)
    assert state is State.DONE
