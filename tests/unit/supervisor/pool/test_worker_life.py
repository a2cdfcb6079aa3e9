from __future__ import annotations

import pytest

from hermesd.supervisor.pool.worker_life import TABLE, WITH_PROCESS, Action, Event, IllegalTransition, State, step


def go(state: State, *events: Event) -> tuple[State, list[Action]]:
    done: list[Action] = []
    for event in events:
        one = step(state, event)
        state = one.state
        done += one.actions
    return state, done


def test_a_turn_wakes_a_hibernated_session() -> None:
    state, done = go(State.HIBERNATED, Event.WANTED, Event.READY, Event.TURN_STARTED, Event.ASKED, Event.ANSWERED)
    assert state is State.BUSY
    assert done == [Action.START, Action.OFFER]


def test_a_crash_backs_off_and_offers_again() -> None:
    state, done = go(State.BUSY, Event.CRASHED, Event.TIMER)
    assert (state, done) == (State.HIBERNATED, [Action.ARM_BACKOFF, Action.OFFER])


def test_a_full_window_quarantines_until_time_or_a_person_ends_it() -> None:
    state, done = go(State.STARTING, Event.CRASHED_OFTEN)
    assert (state, done) == (State.QUARANTINED, [Action.ARM_QUARANTINE, Action.TELL_QUARANTINE])
    for way_out in (Event.TIMER, Event.PARDON):
        assert go(state, way_out) == (State.HIBERNATED, [Action.FORGET_CRASHES, Action.OFFER])


def test_a_polite_stop_ends_in_a_kill_when_its_time_is_over() -> None:
    state, done = go(State.IDLE, Event.STOP, Event.TIMER, Event.ENDED)
    assert (state, done) == (State.HIBERNATED, [Action.POLITE_STOP, Action.KILL, Action.OFFER])


@pytest.mark.parametrize("state", sorted(WITH_PROCESS - {State.STOPPING}))
def test_every_living_worker_can_crash_be_stopped_and_be_killed(state: State) -> None:
    assert step(state, Event.CRASHED).state is State.BACKOFF
    assert step(state, Event.CRASHED_OFTEN).state is State.QUARANTINED
    assert step(state, Event.STOP).state is State.STOPPING
    assert step(state, Event.KILL).actions == (Action.KILL,)


@pytest.mark.parametrize("state", sorted(WITH_PROCESS))
def test_a_hung_worker_is_killed_in_whatever_it_does(state: State) -> None:
    assert step(state, Event.HUNG).actions == (Action.KILL,)


def test_a_hang_is_a_crash_where_a_turn_runs_and_an_end_where_none_does() -> None:
    for state in (State.STARTING, State.BUSY, State.WAITING, State.DRAINING):
        assert go(state, Event.HUNG, Event.CRASHED)[0] is State.BACKOFF
    assert go(State.IDLE, Event.HUNG, Event.ENDED) == (State.HIBERNATED, [Action.KILL, Action.OFFER])


@pytest.mark.parametrize("state", State)
def test_a_person_may_always_pardon_stop_kill_and_retire(state: State) -> None:
    assert Action.FORGET_CRASHES in step(state, Event.PARDON).actions
    for event in (Event.STOP, Event.KILL, Event.RETIRE):
        assert step(state, event).state in (state, State.STOPPING, State.DRAINING)


@pytest.mark.parametrize("state", [state for state in State if state not in WITH_PROCESS])
def test_without_a_process_nothing_of_one_happens(state: State) -> None:
    for event in (Event.CRASHED, Event.ENDED, Event.READY, Event.TURN_STARTED, Event.TURN_ENDED):
        with pytest.raises(IllegalTransition, match=f"a worker that is {state} cannot take {event}"):
            step(state, event)


def test_only_a_start_begins_a_process_and_only_an_adoption_finds_one() -> None:
    for state, row in TABLE.items():
        for event, one in row.items():
            if one.state in WITH_PROCESS and state not in WITH_PROCESS and event is not Event.ADOPTED:
                assert Action.START in one.actions
