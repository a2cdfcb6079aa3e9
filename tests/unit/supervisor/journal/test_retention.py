from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from hermesd.adapters.contract import Attachment, Inbound, Outbound, Target, Utterance
from hermesd.ipc.messages import Entry
from hermesd.supervisor.journal import UnknownRow, inbox, outbox, sessions, transcripts, turns
from hermesd.supervisor.journal.retention import DAY, WAITING_DAYS, Pruned, prune
from hermesd.supervisor.journal.rows import InboxRow, Origin
from hermesd.supervisor.journal.states import InboxState, OutboxState, TurnState

Message = Callable[..., Inbound]


def kept(connection: sqlite3.Connection, inbound: Inbound, state: InboxState | None = None) -> InboxRow:
    row = inbox.receive(connection, inbound, 0.0)
    assert row is not None
    if state is not None:
        inbox.queued(connection, row.id, "key", 0.0)
        inbox.finish(connection, row.id, state, 0.0, error="why")
    return row


def test_contents_go_after_the_kept_time_and_ids_no_sooner_than_redelivery(
    connection: sqlite3.Connection, message: Message
) -> None:
    inbound = message(
        text="secret", attachments=(Attachment("/a", "a"),), history=(Utterance("user", "x"),), user_name="Ann"
    )
    row = kept(connection, inbound, InboxState.ANSWERED)

    assert prune(connection, 7 * DAY, days=7) == Pruned()
    assert prune(connection, 7 * DAY + 1, days=7) == Pruned(blanked=1)
    blank = inbox.show(connection, row.id)
    assert (blank.inbound.text, blank.inbound.attachments, blank.inbound.history) == ("", (), None)
    assert (blank.inbound.user_name, blank.error, blank.state) == ("", "", InboxState.ANSWERED)
    assert prune(connection, 30 * DAY, days=7) == Pruned()
    assert inbox.receive(connection, inbound, 30 * DAY) is None

    assert prune(connection, 30 * DAY + 1, days=7) == Pruned(inbox=1)
    again = inbox.receive(connection, inbound, 31 * DAY)
    assert again is not None
    assert again.id > row.id


def test_what_nobody_came_to_look_at_is_dropped_and_kept_for_the_operator(connection: sqlite3.Connection) -> None:
    for number in range(2):
        row = outbox.add(connection, Target("fake", "c"), Outbound(f"k{number}", "x"), number * DAY)
        outbox.sending(connection, row.id, number * DAY)
        outbox.waits(connection, row.id, "nobody is there", number * DAY, most=10)
    assert prune(connection, WAITING_DAYS * DAY) == Pruned()
    now = WAITING_DAYS * DAY + 1
    assert prune(connection, now) == Pruned(unseen=1)
    (gone,) = outbox.by_state(connection, OutboxState.DROPPED)
    assert (gone.message.key, gone.changed_at) == ("k0", now)
    assert gone.error == "nobody looked at this chat for 7 days"


def test_what_is_not_over_and_dead_letters_are_kept_for_ever(connection: sqlite3.Connection, message: Message) -> None:
    waiting = kept(connection, message())
    dead = kept(connection, message(), InboxState.DEAD)
    lanes = [
        outbox.add(connection, Target("fake", str(number)), Outbound(f"k{number}", "x"), 0.0) for number in range(2)
    ]
    outbox.sending(connection, lanes[0].id, 0.0)
    outbox.ambiguous(connection, lanes[0].id, "cut", 0.0)
    session = sessions.get_or_create(connection, "key", Origin("fake", "c1"), 0.0)
    transcripts.append(connection, session.session_id, [Entry("user", "x")])
    sessions.reset(connection, "key", "new", 0.0)
    turns.dispatched(connection, "t1", "key", session.session_id, None, "w1", 0.0)

    assert not prune(connection, 1000 * DAY, days=1)

    assert [row.inbound.text for row in inbox.unfinished(connection)] == [waiting.inbound.text]
    assert inbox.show(connection, dead.id).inbound.text == "hello"
    assert {row.id for state in OutboxState for row in outbox.by_state(connection, state)} == {r.id for r in lanes}
    assert len(transcripts.load(connection, session.session_id)) == 1
    assert turns.show(connection, "t1").state is TurnState.QUEUED


def test_sent_messages_ended_turns_and_ephemeral_sessions_are_forgotten(connection: sqlite3.Connection) -> None:
    session = sessions.get_or_create(connection, "once", Origin("api", "c1"), 0.0, ephemeral=True)
    turns.dispatched(connection, "t1", "once", session.session_id, None, "w1", 0.0)
    turns.accepted(connection, "t1", "w1", 0.0)
    end = turns.finish(
        connection,
        "t1",
        TurnState.DONE,
        0.0,
        entries=[Entry("user", "x")],
        outgoing=[(Target("api", "c1"), Outbound("k", "x"))],
    )
    outbox.sending(connection, end.outbox[0].id, 0.0)
    outbox.sent(connection, end.outbox[0].id, "p", 0.0)
    sessions.end(connection, "once", "replied", 0.0)

    assert prune(connection, 2 * DAY, days=1) == Pruned(outbox=1, turns=1, sessions=1)

    assert transcripts.load(connection, session.session_id) == []
    with pytest.raises(UnknownRow):
        turns.show(connection, "t1")


def test_one_call_takes_a_bounded_number_and_the_calls_come_to_an_end(
    connection: sqlite3.Connection, message: Message
) -> None:
    for _ in range(25):
        kept(connection, message(), InboxState.REFUSED)
    taken = []
    while pruned := prune(connection, 8 * DAY, days=7, limit=10):
        taken.append(pruned.blanked)
    assert taken == [10, 10, 5]
