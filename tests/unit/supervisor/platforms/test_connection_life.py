"""The table of a connection."""

from __future__ import annotations

import pytest

from hermesd.supervisor.platforms import connection_life as life
from hermesd.supervisor.platforms.connection_life import Action, Event, State


@pytest.mark.parametrize(
    ("tries", "seconds"), [(1, 30.0), (2, 60.0), (3, 120.0), (4, 240.0), (5, 300.0), (6, 300.0), (1000, 300.0)]
)
def test_delays_double_and_go_on_for_ever(tries: int, seconds: float) -> None:
    assert life.delay(State.BACKING_OFF, tries, life.REMOTE_DELAYS) == seconds


@pytest.mark.parametrize("tries", [1, 5, 1000])
def test_one_that_messages_wait_for_is_tried_as_often_as_at_first(tries: int) -> None:
    assert life.delay(State.BACKING_OFF, tries, life.REMOTE_DELAYS, awaited=True) == 30.0
    assert life.delay(State.REFUSED, tries, life.REMOTE_DELAYS, awaited=True) == 3600.0


def test_a_refused_token_is_seldom_tried() -> None:
    assert life.delay(State.REFUSED, 1, life.REMOTE_DELAYS) == 3600.0


@pytest.mark.parametrize("state", [State.BACKING_OFF, State.CONFLICT, State.REFUSED])
def test_what_waits_is_tried_by_its_timer(state: State) -> None:
    assert life.step(state, Event.TIMER) == life.Step(State.CONNECTING, (Action.CONNECT,))


@pytest.mark.parametrize("state", sorted(set(State) - life.UP - {State.STOPPED}))
@pytest.mark.parametrize("event", [Event.RESUME, Event.RECONNECT])
def test_a_person_may_end_every_wait(state: State, event: Event) -> None:
    assert life.step(state, event) == life.Step(State.CONNECTING, (Action.FORGET_TRIES, Action.CONNECT))


@pytest.mark.parametrize("state", State)
def test_everything_can_be_stopped_and_paused(state: State) -> None:
    assert life.step(state, Event.STOP).state is State.STOPPED
    assert life.step(state, Event.PAUSE).state is State.PAUSED
    assert (Action.DISCONNECT in life.step(state, Event.STOP).actions) == (state in life.UP)


def test_an_event_without_a_cell_is_an_error() -> None:
    with pytest.raises(life.IllegalEvent, match="paused cannot take 'timer'"):
        life.step(State.PAUSED, Event.TIMER)
