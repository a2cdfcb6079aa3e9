from __future__ import annotations

import sqlite3
from collections.abc import Callable

from hermesd.adapters.contract import Inbound, Outbound, Target
from hermesd.supervisor.journal import figures, inbox, outbox, sessions
from hermesd.supervisor.journal.rows import Origin
from hermesd.supervisor.journal.states import InboxState, OutboxState


def test_an_empty_journal_counts_every_state_as_zero(connection: sqlite3.Connection) -> None:
    counted = figures.count(connection, 100.0)
    assert counted.inbox == dict.fromkeys([state.value for state in InboxState], 0)
    assert counted.outbox == dict.fromkeys([state.value for state in OutboxState], 0)
    assert (counted.inbox_oldest_age, counted.outbox_oldest_age, counted.sessions) == (0.0, 0.0, 0)


def test_rows_are_counted_by_state_and_only_what_waits_has_an_age(
    connection: sqlite3.Connection, message: Callable[..., Inbound]
) -> None:
    rows = [inbox.receive(connection, message(), at) for at in (10.0, 20.0, 30.0, 40.0)]
    refused, dead, *_ = [row for row in rows if row]
    inbox.finish(connection, refused.id, InboxState.REFUSED, 50.0)
    inbox.queued(connection, dead.id, "key", 50.0)
    inbox.finish(connection, dead.id, InboxState.DEAD, 51.0)
    done, waiting = (
        outbox.add(connection, Target("fake", chat), Outbound(chat, "x"), at) for chat, at in (("a", 5.0), ("b", 60.0))
    )
    outbox.sending(connection, done.id, 61.0)
    outbox.sent(connection, done.id, "p", 62.0)
    sessions.get_or_create(connection, "key", Origin("fake", "c1"), 1.0)
    sessions.reset(connection, "key", "new", 2.0)

    counted = figures.count(connection, 100.0)

    assert counted.inbox | {"received": 2, "refused": 1, "dead": 1} == counted.inbox
    assert sum(counted.inbox.values()) == 4
    assert (counted.outbox["sent"], counted.outbox["pending"]) == (1, 1)
    assert (counted.inbox_oldest_age, counted.outbox_oldest_age) == (70.0, 40.0)
    assert (counted.sessions, counted.dead_letters) == (1, 1)
    assert waiting.state is OutboxState.PENDING


def test_a_clock_that_was_set_back_gives_no_negative_age(
    connection: sqlite3.Connection, message: Callable[..., Inbound]
) -> None:
    inbox.receive(connection, message(), 100.0)
    assert figures.count(connection, 50.0).inbox_oldest_age == 0.0


def test_counting_reads_indexes_and_not_the_messages(connection: sqlite3.Connection) -> None:
    for query in (figures.INBOX_STATES, figures.OUTBOX_STATES):
        (line,) = (row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "COVERING INDEX" in line
