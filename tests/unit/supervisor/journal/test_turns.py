from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from hermesd.adapters.contract import Inbound, Outbound
from hermesd.ipc.messages import Entry
from hermesd.supervisor.journal import IllegalTransition, UnknownRow, inbox, outbox, sessions, transcripts, turns
from hermesd.supervisor.journal.rows import InboxRow, Origin
from hermesd.supervisor.journal.states import InboxState, OutboxState, TurnState

KEY = "agent:main:fake:dm:c1"
SAID = (Entry("user", "hello", 100.0), Entry("assistant", "hi", 110.0))


@pytest.fixture
def session_id(connection: sqlite3.Connection) -> str:
    return sessions.get_or_create(connection, KEY, Origin("fake", "c1"), 100.0).session_id


@pytest.fixture
def row(connection: sqlite3.Connection, message: Callable[..., Inbound]) -> InboxRow:
    """A queued message."""
    kept = inbox.receive(connection, message(), 100.0)
    assert kept is not None
    inbox.queued(connection, kept.id, KEY, 101.0)
    return kept


def dispatch(connection: sqlite3.Connection, row: InboxRow, session_id: str, worker: str = "w1") -> int:
    return turns.dispatched(connection, "t1", KEY, session_id, row.id, worker, 102.0)


def everything(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    tables = ("sessions", "transcripts", "inbox", "turns", "outbox")
    return [tuple(row) for table in tables for row in connection.execute(f"SELECT '{table}', * FROM {table}")]


def test_an_answer_ends_the_message_and_adds_outbox_transcript_and_figures(
    connection: sqlite3.Connection, row: InboxRow, session_id: str
) -> None:
    assert dispatch(connection, row, session_id) == 1
    assert inbox.show(connection, row.id).state is InboxState.DISPATCHED
    assert turns.accepted(connection, "t1", "w1", 103.0) is True
    assert inbox.show(connection, row.id).state is InboxState.ACCEPTED
    end = turns.finish(
        connection,
        "t1",
        TurnState.DONE,
        110.0,
        entries=SAID,
        outgoing=[(row.target, Outbound("t1:answer", "hi"))],
        cpu_seconds=1.5,
    )

    assert not end.repeated
    assert end.turn == turns.show(connection, "t1")
    assert (end.turn.state, end.turn.started_at, end.turn.accepted_at, end.turn.ended_at, end.turn.cpu_seconds) == (
        TurnState.DONE, 102.0, 103.0, 110.0, 1.5,
    )  # fmt: skip
    (answer,) = end.outbox
    assert outbox.show(connection, answer.id) == answer
    assert (answer.turn, answer.state, answer.target.reply_to) == ("t1", OutboxState.PENDING, row.inbound.message_id)
    assert inbox.show(connection, row.id).state is InboxState.ANSWERED
    assert [(kept.entry, kept.turn) for kept in transcripts.load(connection, session_id)] == [
        (entry, "t1") for entry in SAID
    ]
    session = sessions.current(connection, KEY)
    assert session is not None
    assert session.updated_at == 110.0


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (TurnState.DONE, InboxState.ANSWERED),
        (TurnState.INTERRUPTED, InboxState.ANSWERED),
        (TurnState.FAILED, InboxState.FAILED),
        (TurnState.LOST, InboxState.LOST),
    ],
)
def test_each_outcome_ends_the_message_in_its_own_way(
    connection: sqlite3.Connection, row: InboxRow, session_id: str, outcome: TurnState, state: InboxState
) -> None:
    dispatch(connection, row, session_id)
    turns.accepted(connection, "t1", "w1", 103.0)
    turns.finish(connection, "t1", outcome, 110.0, error="why", killed_worker=outcome is TurnState.LOST)
    ended = inbox.show(connection, row.id)
    assert (ended.state, ended.error, ended.killed) == (state, "why", int(outcome is TurnState.LOST))
    assert turns.show(connection, "t1").error == "why"


def test_the_last_words_of_a_worker_said_twice_change_nothing(
    connection: sqlite3.Connection, row: InboxRow, session_id: str
) -> None:
    dispatch(connection, row, session_id)
    assert turns.accepted(connection, "t1", "w1", 103.0) is True
    assert turns.accepted(connection, "t1", "w1", 104.0) is False
    outgoing = [(row.target, Outbound("t1:answer", "hi"))]
    first = turns.finish(connection, "t1", TurnState.DONE, 110.0, entries=SAID, outgoing=outgoing)
    before = everything(connection)
    again = turns.finish(connection, "t1", TurnState.FAILED, 120.0, entries=SAID, outgoing=outgoing, error="late")
    assert again.repeated
    assert (again.turn, again.outbox) == (first.turn, first.outbox)
    assert everything(connection) == before


def test_a_turn_that_no_worker_accepted_is_promised_again_under_its_own_name(
    connection: sqlite3.Connection, row: InboxRow, session_id: str
) -> None:
    assert dispatch(connection, row, session_id, "w1") == 1
    assert turns.requeued(connection, "t1", 103.0, error="w1 died", killed_worker=True) == 1
    assert inbox.show(connection, row.id).state is InboxState.QUEUED
    assert dispatch(connection, row, session_id, "w2") == 2
    with pytest.raises(IllegalTransition, match="cannot let worker w1 accept turn t1: it is promised to w2"):
        turns.accepted(connection, "t1", "w1", 104.0)
    assert turns.accepted(connection, "t1", "w2", 104.0) is True
    assert len(turns.recent(connection, KEY)) == 1


def test_the_second_worker_that_dies_makes_a_dead_letter(
    connection: sqlite3.Connection, row: InboxRow, session_id: str
) -> None:
    dispatch(connection, row, session_id, "w1")
    turns.requeued(connection, "t1", 103.0, killed_worker=True)
    dispatch(connection, row, session_id, "w2")
    turns.finish(connection, "t1", TurnState.FAILED, 105.0, dead_letter=True, killed_worker=True, error="w2 died")
    dead = inbox.show(connection, row.id)
    assert (dead.state, dead.killed) == (InboxState.DEAD, 2)


def test_a_lost_message_can_be_asked_again_in_a_new_turn(
    connection: sqlite3.Connection, row: InboxRow, session_id: str
) -> None:
    dispatch(connection, row, session_id)
    turns.accepted(connection, "t1", "w1", 103.0)
    turns.finish(connection, "t1", TurnState.LOST, 104.0, killed_worker=True)
    assert inbox.queued(connection, row.id, KEY, 105.0) == 1
    assert turns.dispatched(connection, "t2", KEY, session_id, row.id, "w2", 106.0) == 2
    assert inbox.show(connection, row.id).turn == "t2"
    assert [turn.turn for turn in turns.recent(connection, KEY)] == ["t2", "t1"]
    with pytest.raises(IllegalTransition, match="cannot make turn t1 'queued': it is 'lost'"):
        turns.dispatched(connection, "t1", KEY, session_id, row.id, "w2", 107.0)


def test_a_turn_that_was_not_accepted_cannot_be_done_or_lost(
    connection: sqlite3.Connection, row: InboxRow, session_id: str
) -> None:
    dispatch(connection, row, session_id)
    before = everything(connection)
    for outcome in (TurnState.DONE, TurnState.LOST):
        with pytest.raises(IllegalTransition, match=f"cannot make turn t1 '{outcome}': it is 'queued'"):
            turns.finish(connection, "t1", outcome, 110.0, entries=SAID)
    assert everything(connection) == before


def test_a_turns_words_go_to_the_session_that_it_began_in(
    connection: sqlite3.Connection, row: InboxRow, session_id: str
) -> None:
    dispatch(connection, row, session_id)
    turns.accepted(connection, "t1", "w1", 103.0)
    fresh = sessions.reset(connection, KEY, "new", 104.0)
    turns.finish(connection, "t1", TurnState.DONE, 110.0, entries=SAID)
    assert len(transcripts.load(connection, session_id)) == 2
    assert transcripts.load(connection, fresh.session_id) == []


def test_a_turn_that_hermesd_asked_for_needs_no_message(connection: sqlite3.Connection, session_id: str) -> None:
    assert turns.dispatched(connection, "t1", KEY, session_id, None, "w1", 102.0) == 1
    assert turns.requeued(connection, "t1", 103.0, killed_worker=True) == 1
    turns.dispatched(connection, "t1", KEY, session_id, None, "w2", 104.0)
    assert turns.accepted(connection, "t1", "w2", 105.0)
    assert turns.finish(connection, "t1", TurnState.DONE, 106.0).turn.inbox_id is None


def test_an_unknown_turn_and_an_outcome_that_is_no_end_are_refused(
    connection: sqlite3.Connection, row: InboxRow, session_id: str
) -> None:
    with pytest.raises(UnknownRow, match="cannot find turn t9"):
        turns.accepted(connection, "t9", "w1", 1.0)
    dispatch(connection, row, session_id)
    with pytest.raises(ValueError, match="not an end"):
        turns.finish(connection, "t1", TurnState.RUNNING, 1.0)
