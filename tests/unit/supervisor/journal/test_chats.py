from __future__ import annotations

import sqlite3
from collections.abc import Callable

from hermesd.adapters.contract import Inbound, Outbound, Target
from hermesd.supervisor.journal import chats, inbox, outbox
from hermesd.supervisor.journal.states import InboxState


def test_an_answer_is_owed_until_message_and_replies_are_over(
    connection: sqlite3.Connection, message: Callable[..., Inbound]
) -> None:
    assert not chats.owes_answer(connection, "fake", "c1", "m1")
    row = inbox.receive(connection, message(), 100.0)
    assert row is not None
    assert chats.owes_answer(connection, "fake", "c1", "m1")
    inbox.finish(connection, row.id, InboxState.ANSWERED, 101.0)
    assert not chats.owes_answer(connection, "fake", "c1", "m1")
    reply = outbox.add(connection, Target("fake", "c1", reply_to="m1"), Outbound("k", "hello"), 101.0)
    assert chats.owes_answer(connection, "fake", "c1", "m1")
    outbox.sending(connection, reply.id, 102.0)
    outbox.waits(connection, reply.id, "nobody is there", 103.0, most=10)
    assert chats.owes_answer(connection, "fake", "c1", "m1")
    assert not chats.owes_answer(connection, "fake", "c2", "m1")
    outbox.attended(connection, "fake", "c1", "", 104.0)
    outbox.sending(connection, reply.id, 105.0)
    outbox.sent(connection, reply.id, "p", 106.0)
    assert not chats.owes_answer(connection, "fake", "c1", "m1")
