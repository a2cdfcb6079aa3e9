"""The life of an MCP server is a table: one live generation, never a state without a way out."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.workers.mcp.slot import AT_REST, TABLE, Action, Event, ImpossibleEvent, Slot, State, step

WITH_REASON = {Event.FAILED, Event.DIED, Event.PROBE_BROKE, Event.REFUSED}
FROM_OUTSIDE = {Event.NEEDED, Event.STOP, Event.GRANTED, Event.REFUSED, Event.LISTED}
START = (Event.NEEDED, Event.GRANTED)
RUNNING = {State.STARTING, State.READY, State.STOPPING, State.EMPTYING, State.REPLACING}
# What happens without anybody's wish: time-outs end a start, and what is killed is over some time.
BY_ITSELF = {
    Event.GRANTED,
    Event.REFUSED,
    Event.LISTED,
    Event.CONNECTED,
    Event.FAILED,
    Event.DIED,
    Event.EMPTIED,
    Event.PROBE_BROKE,
}


def run(*events, slot=None):
    slot = slot or Slot()
    actions = []
    for event in events:
        reason = f"because {event}" if event in WITH_REASON else ""
        slot, did = step(slot, event, 0 if event in FROM_OUTSIDE else slot.generation, reason)
        actions.extend(did)
    return slot, actions


def test_the_first_call_spawns_and_later_ones_do_not():
    slot, actions = run(Event.NEEDED, Event.NEEDED, Event.GRANTED, Event.NEEDED, Event.CONNECTED, Event.NEEDED)
    assert (slot.state, slot.generation, actions) == (State.READY, 1, [Action.ASK, Action.SPAWN])


def test_nothing_is_spawned_that_was_not_granted():
    slot, actions = run(Event.NEEDED, Event.REFUSED)
    assert (slot.state, slot.generation, slot.reason, actions) == (
        State.PARKED, 0, "because refused", [Action.ASK],
    )  # fmt: skip
    slot, actions = run(*START, slot=slot)
    assert (slot.state, actions) == (State.STARTING, [Action.ASK, Action.SPAWN])


def test_a_list_of_tools_needs_no_process_and_a_stop_no_answer():
    slot, actions = run(Event.NEEDED, Event.LISTED)
    assert (slot.state, slot.generation, actions) == (State.STOPPED, 0, [Action.ASK])
    slot, actions = run(Event.NEEDED, Event.STOP)
    assert (slot.state, actions) == (State.STOPPED, [Action.ASK, Action.WITHDRAW])


def test_a_crashed_server_is_emptied_before_the_next_generation_can_start():
    slot, actions = run(*START, Event.CONNECTED, Event.DIED, Event.NEEDED)
    assert (slot.state, actions) == (State.EMPTYING, [Action.ASK, Action.SPAWN, Action.EMPTY])
    slot, actions = run(Event.EMPTIED, slot=slot)
    assert (slot.state, slot.reason, actions) == (State.BROKEN, "because died", [])
    slot, actions = run(*START, slot=slot)
    assert (slot.state, slot.generation, actions) == (State.STARTING, 2, [Action.ASK, Action.SPAWN])


def test_a_broken_probe_replaces_the_process_by_itself():
    slot, actions = run(*START, Event.PROBE_BROKE, Event.EMPTIED)
    assert (slot.state, slot.generation) == (State.STARTING, 2)
    assert actions == [Action.ASK, Action.SPAWN, Action.EMPTY, Action.SPAWN]


def test_a_stop_during_the_replacement_starts_nothing():
    slot, actions = run(*START, Event.PROBE_BROKE, Event.STOP, Event.EMPTIED)
    assert (slot.state, actions) == (State.STOPPED, [Action.ASK, Action.SPAWN, Action.EMPTY])


def test_the_reason_is_kept_until_the_server_is_ready_again():
    slot, _ = run(*START, Event.FAILED, Event.EMPTIED, *START)
    assert slot.reason == "because failed"
    slot, _ = run(Event.CONNECTED, slot=slot)
    assert slot.reason == ""


def test_news_of_an_older_generation_changes_nothing():
    slot, _ = run(*START, Event.FAILED, Event.EMPTIED, *START)
    assert step(slot, Event.EMPTIED, 1) == (slot, ())


def test_an_event_without_a_row_is_an_error():
    with pytest.raises(ImpossibleEvent, match="a slot that is stopped cannot have connected"):
        step(Slot(), Event.CONNECTED)


@pytest.mark.parametrize("state", State)
def test_a_stop_and_a_need_are_possible_in_every_state(state):
    assert (state, Event.STOP) in TABLE
    assert (state, Event.NEEDED) in TABLE


@pytest.mark.parametrize("state", [state for state in State if state not in AT_REST and state is not State.READY])
def test_every_passing_state_is_left_by_itself(state):
    ways = {TABLE[state, event][0] for event in BY_ITSELF if (state, event) in TABLE}
    assert ways - {state}


@pytest.mark.parametrize("state", State)
def test_every_state_can_come_to_rest(state):
    reached = {state}
    while True:
        more = {after for (before, _), (after, _) in TABLE.items() if before in reached}
        if more <= reached:
            break
        reached |= more
    assert reached & AT_REST


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_there_is_never_more_than_one_live_generation(events):
    slot, live = Slot(), set()
    for event in events:
        if (slot.state, event) not in TABLE:
            continue
        if event is Event.EMPTIED:
            live.discard(slot.generation)
        slot, actions = step(slot, event, 0 if event in FROM_OUTSIDE else slot.generation)
        if Action.SPAWN in actions:
            live.add(slot.generation)
        assert len(live) <= 1
        assert bool(live) == (slot.state in RUNNING)


def test_a_spawn_happens_only_where_nothing_runs():
    for (before, event), (_, actions) in TABLE.items():
        if Action.SPAWN in actions:
            assert before is State.ASKING or (before, event) == (State.REPLACING, Event.EMPTIED)
    assert all(len(set(group)) == len(group) for group in itertools.chain(actions for _, actions in TABLE.values()))
