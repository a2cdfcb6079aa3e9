from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace

import pytest

from hermesd.adapters.contract import Attachment, Delivery, Inbound, Target, Utterance
from hermesd.supervisor.journal import IllegalTransition, UnknownRow, inbox, sessions, turns
from hermesd.supervisor.journal.rows import InboxRow, Origin
from hermesd.supervisor.journal.states import INBOX, INBOX_ENDED, InboxState

Message = Callable[..., Inbound]
KEY = "agent:main:fake:dm:c1"


def received(connection: sqlite3.Connection, inbound: Inbound, now: float = 100.0) -> InboxRow:
    row = inbox.receive(connection, inbound, now)
    assert row is not None
    return row


def bring(connection: sqlite3.Connection, inbox_id: int, state: InboxState, now: float = 200.0) -> None:
    """Take one step by the operation that is for it."""
    match state:
        case InboxState.QUEUED:
            inbox.queued(connection, inbox_id, KEY, now)
        case InboxState.DISPATCHED:
            inbox.dispatched(connection, inbox_id, "t1", "w1", now)
        case InboxState.ACCEPTED:
            inbox.accepted(connection, inbox_id, now)
        case _:
            inbox.finish(connection, inbox_id, state, now)


def shortest_way(to: InboxState) -> list[InboxState]:
    ways: dict[InboxState, list[InboxState]] = {InboxState.RECEIVED: []}
    edge = [InboxState.RECEIVED]
    for state in edge:
        for then in sorted(INBOX[state]):
            if then not in ways:
                ways[then] = [*ways[state], then]
                edge.append(then)
    return ways[to]


def test_a_message_comes_out_as_it_went_in(connection: sqlite3.Connection) -> None:
    inbound = Inbound(
        platform="telegram",
        chat_id="-100",
        message_id="7",
        user_id="42",
        text="ünïcode 🦉\n'quoted\"",
        user_name="Ann",
        user_id_alt="ann",
        chat_type="thread",
        chat_name="Owls",
        thread_id="9",
        attachments=(Attachment("/m/a.png", "a.png", "image/png"), Attachment("/m/b", "b")),
        trusted=True,
        history=(Utterance("user", "before"), Utterance("assistant", "yes")),
        sent_at=99.5,
    )
    row = received(connection, inbound)
    assert row == InboxRow(row.id, inbound, 100.0, InboxState.RECEIVED, 100.0)
    assert inbox.show(connection, row.id) == row
    assert row.target == Target("telegram", "-100", "9", "7")


def test_no_history_and_an_empty_one_stay_apart(connection: sqlite3.Connection, message: Message) -> None:
    without = received(connection, message(history=None))
    empty = received(connection, message(history=()))
    assert inbox.show(connection, without.id).inbound.history is None
    assert inbox.show(connection, empty.id).inbound.history == ()


def test_a_message_that_comes_again_is_not_kept_twice_whatever_became_of_it(
    connection: sqlite3.Connection, message: Message
) -> None:
    inbound = message()
    row = received(connection, inbound)
    assert inbox.receive(connection, inbound, 101.0) is None
    inbox.finish(connection, row.id, InboxState.REFUSED, 102.0)
    assert inbox.receive(connection, replace(inbound, text="edited"), 103.0) is None
    assert inbox.show(connection, row.id).inbound.text == "hello"


def test_the_same_id_in_another_chat_or_platform_is_another_message(
    connection: sqlite3.Connection, message: Message
) -> None:
    one = message()
    assert received(connection, one)
    assert received(connection, replace(one, chat_id="c2"))
    assert received(connection, replace(one, platform="other"))


def test_ids_that_start_again_lower_are_new_messages(connection: sqlite3.Connection, message: Message) -> None:
    assert received(connection, message(message_id="900"))
    assert received(connection, message(message_id="12"))
    assert inbox.receive(connection, message(message_id="900"), 100.0) is None


def test_the_way_of_a_message_is_counted_and_dated(connection: sqlite3.Connection, message: Message) -> None:
    row = received(connection, message())
    assert inbox.queued(connection, row.id, KEY, 101.0) == 0
    assert inbox.dispatched(connection, row.id, "t1", "w1", 102.0) == 1
    assert inbox.queued(connection, row.id, KEY, 103.0, error="w1 died", killed_worker=True) == 1
    again = inbox.show(connection, row.id)
    assert (again.state, again.worker, again.killed, again.error) == (InboxState.QUEUED, "", 1, "w1 died")
    assert inbox.dispatched(connection, row.id, "t1", "w2", 104.0) == 2
    inbox.accepted(connection, row.id, 105.0)
    inbox.finish(connection, row.id, InboxState.DEAD, 106.0, error="w2 died", killed_worker=True)
    dead = inbox.show(connection, row.id)
    assert (dead.turn, dead.worker, dead.attempt, dead.killed) == ("t1", "w2", 2, 2)
    assert (dead.error, dead.received_at, dead.changed_at) == ("w2 died", 100.0, 106.0)
    assert inbox.listed(connection, [InboxState.DEAD]) == [dead]


def test_a_message_is_tried_afresh_as_if_it_had_just_come(connection: sqlite3.Connection, message: Message) -> None:
    row = received(connection, message())
    for _ in range(2):
        inbox.queued(connection, row.id, KEY, 101.0)
        inbox.dispatched(connection, row.id, "t1", "w1", 102.0)
    inbox.finish(connection, row.id, InboxState.DEAD, 103.0, error="w1 died", killed_worker=True)
    again = inbox.afresh(connection, row.id, KEY, 104.0)
    assert again == replace(row, state=InboxState.QUEUED, changed_at=104.0, session_key=KEY)
    assert inbox.unfinished(connection) == [again]
    with pytest.raises(IllegalTransition, match="afresh: it is 'queued'"):
        inbox.afresh(connection, row.id, KEY, 105.0)


@pytest.mark.parametrize("state", list(InboxState))
def test_only_what_ended_without_an_answer_is_tried_afresh(
    connection: sqlite3.Connection, message: Message, state: InboxState
) -> None:
    row = received(connection, message())
    for step in shortest_way(state):
        bring(connection, row.id, step)
    if state in (InboxState.FAILED, InboxState.LOST, InboxState.DEAD, InboxState.DROPPED):
        assert inbox.afresh(connection, row.id, KEY, 300.0).state is InboxState.QUEUED
    else:
        with pytest.raises(IllegalTransition):
            inbox.afresh(connection, row.id, KEY, 300.0)
        assert inbox.show(connection, row.id).state is state


def test_a_list_is_chosen_by_state_and_session_newest_first(connection: sqlite3.Connection, message: Message) -> None:
    rows = [received(connection, message()) for _ in range(4)]
    inbox.queued(connection, rows[0].id, KEY, 101.0)
    inbox.queued(connection, rows[1].id, "another", 101.0)
    inbox.finish(connection, rows[2].id, InboxState.REFUSED, 101.0)

    def ids(*args: object) -> list[int]:
        return [row.id for row in inbox.listed(connection, *args)]  # type: ignore[arg-type]

    first, second, third, fourth = (row.id for row in rows)
    assert ids() == [fourth, third, second, first]
    assert ids((), "", 2) == [fourth, third]
    assert ids([InboxState.QUEUED]) == [second, first]
    assert ids([InboxState.QUEUED, InboxState.REFUSED]) == [third, second, first]
    assert ids((), KEY) == [first]


@pytest.mark.parametrize("now", list(InboxState))
@pytest.mark.parametrize("then", [state for state in InboxState if state is not InboxState.RECEIVED])
def test_exactly_the_steps_of_the_table_are_taken(
    connection: sqlite3.Connection, message: Message, now: InboxState, then: InboxState
) -> None:
    row = received(connection, message())
    for state in shortest_way(now):
        bring(connection, row.id, state)
    before = inbox.show(connection, row.id)
    assert before.state is now
    if then in INBOX[now]:
        bring(connection, row.id, then, 300.0)
        after = inbox.show(connection, row.id)
        assert (after.state, after.changed_at) == (then, 300.0)
    else:
        with pytest.raises(IllegalTransition, match=f"inbox row {row.id} '{then}': it is '{now}'"):
            bring(connection, row.id, then, 300.0)
        assert inbox.show(connection, row.id) == before


def test_what_is_unfinished_at_start_comes_oldest_first(connection: sqlite3.Connection, message: Message) -> None:
    rows = [received(connection, message()) for _ in InboxState]
    for row, state in zip(rows, reversed(InboxState), strict=True):
        for step in shortest_way(state):
            bring(connection, row.id, step)
    left = inbox.unfinished(connection)
    assert [row.state for row in left] == [
        InboxState.ACCEPTED, InboxState.DISPATCHED, InboxState.QUEUED, InboxState.RECEIVED,
    ]  # fmt: skip
    assert [row.id for row in left] == sorted(row.id for row in left)


def test_the_latest_turn_of_a_session_passes_over_commands_and_other_sessions(
    connection: sqlite3.Connection, message: Message
) -> None:
    assert inbox.latest_turn(connection, KEY) is None
    asked, other, command = (received(connection, message(text=text)) for text in ("asked", "other", "/retry"))
    dispatch(connection, asked, KEY)
    dispatch(connection, other, "another")
    inbox.queued(connection, command.id, KEY, 200.0)
    latest = inbox.latest_turn(connection, KEY)
    assert latest is not None
    assert latest.inbound.text == "asked"


def test_the_latest_turn_is_one_of_the_conversation_that_goes_on(
    connection: sqlite3.Connection, message: Message
) -> None:
    dispatch(connection, received(connection, message(text="before the reset")), KEY)
    sessions.reset(connection, KEY, "session_reset", 300.0)
    assert inbox.latest_turn(connection, KEY) is None
    dispatch(connection, received(connection, message(text="after it")), KEY)
    latest = inbox.latest_turn(connection, KEY)
    assert latest is not None
    assert latest.inbound.text == "after it"
    sessions.end(connection, KEY, "answered", 400.0)
    assert inbox.latest_turn(connection, KEY) is None


def dispatch(connection: sqlite3.Connection, row: InboxRow, key: str) -> None:
    """A turn for it in the current conversation of the key."""
    inbox.queued(connection, row.id, key, 200.0)
    session = sessions.get_or_create(connection, key, Origin.of(row.inbound), 200.0)
    turns.dispatched(connection, f"t{row.id}", key, session.session_id, row.id, "w1", 200.0)


def test_an_unknown_row_and_a_state_that_is_no_end_are_refused(
    connection: sqlite3.Connection, message: Message
) -> None:
    with pytest.raises(UnknownRow, match="cannot find inbox row 99"):
        inbox.show(connection, 99)
    with pytest.raises(UnknownRow, match="cannot make inbox row 99 'accepted'"):
        inbox.accepted(connection, 99, 1.0)
    row = received(connection, message())
    assert InboxState.QUEUED not in INBOX_ENDED
    with pytest.raises(ValueError, match="not an end"):
        inbox.finish(connection, row.id, InboxState.QUEUED, 1.0)


class TestAnIdThatMayComeAgain:
    """`Inbound.known_for`: GitHub sends the old id when a person has an event delivered anew."""

    def again(self, connection: sqlite3.Connection, message: Message, at: float) -> InboxRow | None:
        return inbox.receive(connection, message(message_id="d1", known_for=3600.0), at)

    def test_it_is_known_for_its_time_and_new_after_it(self, connection: sqlite3.Connection, message: Message) -> None:
        first = self.again(connection, message, 100.0)
        assert first is not None
        inbox.finish(connection, first.id, InboxState.ANSWERED, 200.0)
        assert self.again(connection, message, 3699.0) is None
        second = self.again(connection, message, 3700.0)
        assert second is not None
        assert second.id != first.id
        assert inbox.show(connection, first.id).inbound.message_id == f"d1@{first.id}"
        assert self.again(connection, message, 3800.0) is None

    def test_one_that_is_not_over_is_known_however_long_it_takes(
        self, connection: sqlite3.Connection, message: Message
    ) -> None:
        assert self.again(connection, message, 100.0)
        assert self.again(connection, message, 1e6) is None

    def test_a_platform_that_never_uses_one_again(self, connection: sqlite3.Connection, message: Message) -> None:
        first = received(connection, message(message_id="d1"))
        inbox.finish(connection, first.id, InboxState.ANSWERED, 200.0)
        assert inbox.receive(connection, message(message_id="d1"), 1e6) is None


def test_where_an_answer_goes_is_kept(connection: sqlite3.Connection, message: Message) -> None:
    row = received(connection, message(delivery=Delivery(Target("telegram", "-1", "7"), verbatim=True)))
    shown = inbox.show(connection, row.id)
    assert shown.inbound.delivery == row.inbound.delivery
    assert shown.target == Target("telegram", "-1", "7")
