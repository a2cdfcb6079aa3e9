from __future__ import annotations

import re
import sqlite3
import time

import pytest

from hermesd.adapters.contract import Inbound
from hermesd.ipc.messages import Entry
from hermesd.supervisor.journal import UnknownRow, inbox, sessions, transcripts
from hermesd.supervisor.journal.rows import Origin, SessionHistory

KEY = "agent:main:fake:dm:c1"
ORIGIN = Origin("fake", "c1", "group", "Owls", "th", "u1", "Ann")


def test_an_origin_is_what_the_first_message_says_of_its_place() -> None:
    inbound = Inbound(
        "fake", "c1", "m1", "u1", "hi", user_name="Ann", chat_type="group", chat_name="Owls", thread_id="th"
    )
    assert Origin.of(inbound) == ORIGIN


def test_a_key_has_one_current_session(connection: sqlite3.Connection) -> None:
    begun = sessions.get_or_create(connection, KEY, ORIGIN, 100.0)
    assert begun.origin == ORIGIN
    assert begun.created_at == 100.0
    assert sessions.get_or_create(connection, KEY, Origin("fake", "c1"), 200.0) == begun
    assert sessions.current(connection, KEY) == begun
    assert sessions.get_or_create(connection, "another", ORIGIN, 100.0).session_id != begun.session_id


def test_tokens_add_up_and_begin_anew_with_the_conversation(connection: sqlite3.Connection) -> None:
    begun = sessions.get_or_create(connection, KEY, ORIGIN, 100.0)
    for _ in range(2):
        sessions.count(connection, begun.session_id, 100, 7)
    counted = sessions.current(connection, KEY)
    assert counted is not None
    assert (counted.prompt_tokens, counted.completion_tokens) == (200, 14)
    assert sessions.reset(connection, KEY, "new", 200.0).prompt_tokens == 0


def test_a_session_id_is_the_local_time_and_chance() -> None:
    now = time.mktime((2026, 11, 22, 18, 55, 0, 0, 0, -1))
    first, second = sessions.new_session_id(now), sessions.new_session_id(now)
    assert re.fullmatch(r"20261122_185500_[0-9a-f]{8}", first)
    assert first != second


def test_a_reset_begins_anew_at_the_same_place_and_keeps_what_was(connection: sqlite3.Connection) -> None:
    first = sessions.get_or_create(connection, KEY, ORIGIN, 100.0)
    transcripts.append(connection, first.session_id, [Entry("user", "one")])
    second = sessions.reset(connection, KEY, "new", 200.0)
    third = sessions.reset(connection, KEY, "idle", 300.0)
    transcripts.append(connection, third.session_id, [Entry("user", "two"), Entry("assistant", "three")])

    assert (third.key, third.origin, third.created_at) == (KEY, ORIGIN, 300.0)
    history = sessions.show(connection, KEY)
    assert isinstance(history, SessionHistory)
    assert history.current == third
    assert history.entries == 2
    assert [(row.session_id, row.ended_at, row.end_reason) for row in history.earlier] == [
        (second.session_id, 300.0, "idle"),
        (first.session_id, 200.0, "new"),
    ]
    assert len(transcripts.load(connection, first.session_id)) == 1


def test_an_ended_session_is_followed_by_a_new_one_only_when_asked(connection: sqlite3.Connection) -> None:
    first = sessions.get_or_create(connection, KEY, ORIGIN, 100.0, ephemeral=True)
    assert first.ephemeral
    assert sessions.end(connection, KEY, "replied", 101.0) is True
    assert sessions.end(connection, KEY, "replied", 102.0) is False
    assert sessions.current(connection, KEY) is None
    history = sessions.show(connection, KEY)
    assert history is not None
    assert (history.current, history.entries) == (None, 0)
    assert sessions.get_or_create(connection, KEY, ORIGIN, 103.0).session_id != first.session_id


def test_what_does_not_exist_is_told(connection: sqlite3.Connection) -> None:
    with pytest.raises(UnknownRow, match=f"cannot reset session {KEY}"):
        sessions.reset(connection, KEY, "new", 1.0)
    assert sessions.show(connection, KEY) is None


def test_current_sessions_are_listed_last_used_first(connection: sqlite3.Connection) -> None:
    a, b, c = (sessions.get_or_create(connection, key, ORIGIN, at) for key, at in (("a", 1.0), ("b", 2.0), ("c", 3.0)))
    sessions.end(connection, "c", "new", 4.0)
    sessions.touch(connection, a.session_id, 9.0)
    sessions.touch(connection, a.session_id, 5.0)
    assert [row.key for row in sessions.list_current(connection)] == ["a", "b"]
    assert [row.updated_at for row in sessions.list_current(connection, limit=1)] == [9.0]
    assert c.session_id not in {row.session_id for row in sessions.list_current(connection)}
    assert b.updated_at == 2.0


def test_two_current_sessions_of_one_key_are_impossible(connection: sqlite3.Connection) -> None:
    sessions.get_or_create(connection, KEY, ORIGIN, 100.0)
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: sessions\.key"):
        sessions._begin(connection, KEY, ORIGIN, 200.0, False)


def test_sessions_of_single_requests_that_an_earlier_life_answered_are_ended(connection: sqlite3.Connection) -> None:
    for key, ephemeral in (("lasting", False), ("over", True), ("open", True)):
        sessions.get_or_create(connection, key, Origin("fake", key), 100.0, ephemeral=ephemeral)
    row = inbox.receive(connection, Inbound("fake", "open", "m1", "u", "hello", history=()), 100.0)
    assert row is not None
    inbox.queued(connection, row.id, "open", 100.0)
    assert sessions.end_left(connection, 200.0) == 1
    assert {row.key for row in sessions.list_current(connection)} == {"lasting", "open"}
