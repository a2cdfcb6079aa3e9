from __future__ import annotations

import sqlite3
from dataclasses import replace

from hermesd.adapters.contract import Inbound
from hermesd.supervisor.journal import inbox, sessions, turns, workers
from hermesd.supervisor.journal.rows import Origin, WorkerRow
from hermesd.supervisor.journal.states import InboxState, TurnState

NOW = 100.0


def row(session_id: str, **fields: object) -> WorkerRow:
    made = WorkerRow("w1", "k1", session_id, "w1.x", "tag", "cgroup", "/sys/w1", "proof", "/logs/w1.txt", 10, NOW)
    return replace(made, **fields)  # type: ignore[arg-type]


def begin(connection: sqlite3.Connection) -> str:
    return sessions.get_or_create(connection, "k1", Origin("fake", "c1"), NOW).session_id


def promise(connection: sqlite3.Connection, session_id: str) -> int:
    message = inbox.receive(connection, Inbound("fake", "c1", "m1", "u1", "hello"), NOW)
    assert message is not None
    inbox.queued(connection, message.id, "k1", NOW)
    turns.dispatched(connection, "t1", "k1", session_id, message.id, "w1", NOW)
    return message.id


def test_a_worker_is_left_with_its_session_until_it_is_forgotten(connection: sqlite3.Connection) -> None:
    session_id = begin(connection)
    workers.record(connection, row(session_id))
    (estate,) = workers.left(connection)
    assert estate.row == row(session_id)
    assert estate.session is not None
    assert estate.session.session_id == session_id
    assert estate.message is None
    workers.forget(connection, "w1")
    workers.forget(connection, "w1")
    assert workers.left(connection) == []


def test_the_process_and_a_later_keeper_are_noted(connection: sqlite3.Connection) -> None:
    session_id = begin(connection)
    workers.record(connection, row(session_id, containment="", place=""))
    later = row(session_id, pid=20, start_ticks=200, keeper=11)
    workers.record(connection, later)
    (estate,) = workers.left(connection)
    assert estate.row == later


def test_it_comes_with_the_message_that_it_was_promised_and_has_not_answered(connection: sqlite3.Connection) -> None:
    session_id = begin(connection)
    workers.record(connection, row(session_id))
    number = promise(connection, session_id)
    (estate,) = workers.left(connection)
    assert estate.message is not None
    assert (estate.message.id, estate.message.turn, estate.message.state) == (number, "t1", InboxState.DISPATCHED)
    turns.accepted(connection, "t1", "w1", NOW)
    (estate,) = workers.left(connection)
    assert estate.message is not None
    assert estate.message.state is InboxState.ACCEPTED
    turns.finish(connection, "t1", TurnState.DONE, NOW)
    (estate,) = workers.left(connection)
    assert estate.message is None


def test_one_whose_session_began_anew_has_none(connection: sqlite3.Connection) -> None:
    workers.record(connection, row(begin(connection)))
    sessions.reset(connection, "k1", "asked for", NOW)
    (estate,) = workers.left(connection)
    assert estate.session is None
