from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from hermesd.supervisor.journal import IllegalTransition
from hermesd.supervisor.journal.states import (
    INBOX,
    INBOX_AFTER_TURN,
    INBOX_ENDED,
    INBOX_OPEN,
    OUTBOX,
    OUTBOX_ENDED,
    OUTBOX_OPEN,
    TURN,
    TURN_ENDED,
    InboxState,
    OutboxState,
    TurnState,
    require,
    sql_list,
)

LIVES = [
    (INBOX, InboxState, InboxState.RECEIVED, INBOX_ENDED),
    (TURN, TurnState, TurnState.QUEUED, TURN_ENDED),
    (OUTBOX, OutboxState, OutboxState.PENDING, OUTBOX_ENDED),
]


@pytest.mark.parametrize(("table", "states", "first", "ends"), LIVES)
def test_every_state_has_a_row_can_be_reached_and_leads_to_an_end(
    table: dict[Any, frozenset[Any]], states: type[StrEnum], first: StrEnum, ends: tuple[StrEnum, ...]
) -> None:
    def reach(start: StrEnum) -> set[StrEnum]:
        seen, edge = {start}, [start]
        while edge:
            new = table[edge.pop()] - seen
            seen |= new
            edge += new
        return seen

    assert set(table) == set(states)
    assert reach(first) == set(states)
    for state in states:
        assert reach(state) & set(ends), f"{state} has no way to an end"


def test_open_and_ended_states_divide_each_life() -> None:
    assert {*INBOX_OPEN, *INBOX_ENDED} == set(InboxState)
    assert not set(INBOX_OPEN) & set(INBOX_ENDED)
    assert {*OUTBOX_OPEN, *OUTBOX_ENDED} == set(OutboxState)
    assert not set(OUTBOX_OPEN) & set(OUTBOX_ENDED)
    assert all(not TURN[state] for state in TURN_ENDED)


def test_every_end_of_an_accepted_turn_is_an_end_that_its_message_may_take() -> None:
    assert set(INBOX_AFTER_TURN) == set(TURN_ENDED)
    assert set(INBOX_AFTER_TURN.values()) <= INBOX[InboxState.ACCEPTED]
    early = {end for end in TURN_ENDED if end in TURN[TurnState.QUEUED]}
    assert {INBOX_AFTER_TURN[end] for end in early} <= INBOX[InboxState.DISPATCHED]


def test_what_an_agent_may_have_acted_on_is_never_dropped_or_refused() -> None:
    assert not INBOX[InboxState.ACCEPTED] & {InboxState.DROPPED, InboxState.REFUSED}


def test_a_message_that_no_agent_saw_is_never_lost() -> None:
    assert [state for state in InboxState if InboxState.LOST in INBOX[state]] == [InboxState.ACCEPTED]


def test_a_missing_step_is_refused_with_both_states() -> None:
    with pytest.raises(IllegalTransition, match=r"cannot make inbox row 7 'accepted': it is 'received'"):
        require(INBOX, "inbox row 7", InboxState.RECEIVED, InboxState.ACCEPTED)


def test_a_list_for_sql_quotes_each_word() -> None:
    assert sql_list(OUTBOX_ENDED) == "('sent', 'failed', 'dropped')"
