from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from hermesd.adapters.contract import Attachment, Inbound, Outbound, Target
from hermesd.supervisor.journal import IllegalTransition, UnknownRow, inbox, outbox, turns
from hermesd.supervisor.journal.rows import UNCERTAIN, OutboxRow
from hermesd.supervisor.journal.states import OUTBOX, OutboxState

CHAT = Target("fake", "c1")


def add(connection: sqlite3.Connection, key: str, target: Target = CHAT, now: float = 100.0) -> OutboxRow:
    return outbox.add(connection, target, Outbound(key, f"text of {key}"), now)


def bring(connection: sqlite3.Connection, outbox_id: int, state: OutboxState, now: float = 200.0) -> None:
    match state:
        case OutboxState.PENDING:
            outbox.postponed(connection, outbox_id, now, "later", now)
        case OutboxState.SENDING:
            outbox.sending(connection, outbox_id, now)
        case OutboxState.SENT:
            outbox.sent(connection, outbox_id, "p1", now)
        case OutboxState.WAITING:
            outbox.waits(connection, outbox_id, "nobody is there", now, most=10)
        case OutboxState.FAILED:
            outbox.failed(connection, outbox_id, "gone", now)
        case OutboxState.AMBIGUOUS:
            outbox.ambiguous(connection, outbox_id, "cut", now)
        case OutboxState.DROPPED:
            outbox.dropped(connection, outbox_id, "by somebody", now)


def keys(rows: list[OutboxRow]) -> list[str]:
    return [row.message.key for row in rows]


def test_a_message_comes_out_as_it_went_in(connection: sqlite3.Connection) -> None:
    target = Target("fake", "c1", "th", "m1")
    message = Outbound(
        key="t1:answer",
        text="ünïcode 🦉",
        files=(Attachment("/f/a.txt", "a.txt", "text/plain"),),
        kind="extra",
        final=False,
        usage={"prompt_tokens": 3, "details": {"cached": 1}},
    )
    row = outbox.add(connection, target, message, 100.0, turn="t1")
    assert row == OutboxRow(row.id, target, message, "t1", 100.0, OutboxState.PENDING, 100.0, 0, 100.0)
    assert outbox.show(connection, row.id) == row
    assert outbox.by_key(connection, "t1:answer") == row


def test_the_same_key_again_is_the_same_message_and_keeps_its_state(connection: sqlite3.Connection) -> None:
    row = add(connection, "k")
    outbox.sending(connection, row.id, 101.0)
    again = outbox.add(connection, CHAT, Outbound("k", "another text"), 102.0)
    assert again == outbox.show(connection, row.id)
    assert (again.message.text, again.state) == ("text of k", OutboxState.SENDING)


def test_the_way_of_a_message_is_counted_and_dated(connection: sqlite3.Connection) -> None:
    row = add(connection, "k")
    assert outbox.sending(connection, row.id, 101.0) == 1
    outbox.postponed(connection, row.id, 131.0, "429: retry after 30", 101.5)
    waiting = outbox.show(connection, row.id)
    assert (waiting.state, waiting.next_try_at, waiting.error) == (OutboxState.PENDING, 131.0, "429: retry after 30")
    assert outbox.sending(connection, row.id, 131.0) == 2
    outbox.sent(connection, row.id, "p77", 132.0)
    sent = outbox.show(connection, row.id)
    assert (sent.state, sent.platform_message_id, sent.attempts, sent.error) == (OutboxState.SENT, "p77", 2, "")
    assert (sent.created_at, sent.changed_at) == (100.0, 132.0)


@pytest.mark.parametrize("now", list(OutboxState))
@pytest.mark.parametrize("then", list(OutboxState))
def test_exactly_the_steps_of_the_table_are_taken(
    connection: sqlite3.Connection, now: OutboxState, then: OutboxState
) -> None:
    ways: dict[OutboxState, list[OutboxState]] = {
        OutboxState.PENDING: [],
        OutboxState.SENDING: [OutboxState.SENDING],
        OutboxState.SENT: [OutboxState.SENDING, OutboxState.SENT],
        OutboxState.WAITING: [OutboxState.SENDING, OutboxState.WAITING],
        OutboxState.FAILED: [OutboxState.FAILED],
        OutboxState.AMBIGUOUS: [OutboxState.SENDING, OutboxState.AMBIGUOUS],
        OutboxState.DROPPED: [OutboxState.DROPPED],
    }
    row = add(connection, "k")
    for state in ways[now]:
        bring(connection, row.id, state)
    before = outbox.show(connection, row.id)
    assert before.state is now
    if then in OUTBOX[now]:
        bring(connection, row.id, then, 300.0)
        after = outbox.show(connection, row.id)
        assert (after.state, after.changed_at) == (then, 300.0)
    else:
        with pytest.raises(IllegalTransition, match=f"outbox row {row.id} '{then}': it is '{now}'"):
            bring(connection, row.id, then, 300.0)
        assert outbox.show(connection, row.id) == before


def wait(connection: sqlite3.Connection, key: str, target: Target = CHAT, most: int = 10) -> OutboxRow:
    row = add(connection, key, target)
    outbox.sending(connection, row.id, 150.0)
    outbox.waits(connection, row.id, "nobody is there", 200.0, most=most)
    return row


def test_what_waits_for_somebody_to_look_comes_back_in_order_and_for_its_chat_alone(
    connection: sqlite3.Connection,
) -> None:
    for key, target in (("a", CHAT), ("x", Target("fake", "c2")), ("b", CHAT), ("y", Target("fake", "c1", "thread"))):
        wait(connection, key, target)
    add(connection, "never tried")
    kept = outbox.by_key(connection, "a")
    assert kept is not None
    assert (kept.state, kept.error) == (OutboxState.WAITING, "nobody is there")
    back = outbox.attended(connection, "fake", "c1", "", 300.0)
    assert keys(back) == ["a", "b"]
    assert {(row.state, row.changed_at, row.next_try_at) for row in back} == {(OutboxState.PENDING, 300.0, 300.0)}
    assert outbox.attended(connection, "fake", "c1", "", 301.0) == []
    assert keys(outbox.by_state(connection, OutboxState.WAITING)) == ["x", "y"]


def test_of_one_chat_so_many_wait_and_the_oldest_beyond_are_dropped(connection: sqlite3.Connection) -> None:
    wait(connection, "x", Target("fake", "c2"), most=3)
    for key in "abcde":
        wait(connection, key, most=3)
    assert keys(outbox.by_state(connection, OutboxState.WAITING)) == ["x", "c", "d", "e"]
    dropped = outbox.by_state(connection, OutboxState.DROPPED)
    assert keys(dropped) == ["a", "b"]
    assert dropped[0].error == "more than 3 messages waited for somebody to look at this chat"


def test_a_mark_outlasts_the_wait(connection: sqlite3.Connection) -> None:
    row = add(connection, "k")
    outbox.sending(connection, row.id, 150.0)
    outbox.waits(connection, row.id, f"{UNCERTAIN}; nobody is there", 200.0, most=3)
    (back,) = outbox.attended(connection, "fake", "c1", "", 300.0)
    assert back.uncertain


def test_a_chats_messages_go_out_in_order_and_other_chats_do_not_wait(connection: sqlite3.Connection) -> None:
    first, _, other, threaded, elsewhere = (
        add(connection, key, target)
        for key, target in (
            ("first", CHAT),
            ("second", CHAT),
            ("other", Target("fake", "c2")),
            ("threaded", Target("fake", "c1", "th")),
            ("elsewhere", Target("mail", "c1")),
        )
    )
    assert keys(outbox.due(connection, 100.0)) == ["first", "other", "threaded", "elsewhere"]
    assert keys(outbox.due(connection, 100.0, platform="mail")) == ["elsewhere"]
    assert keys(outbox.due(connection, 100.0, limit=2)) == ["first", "other"]

    outbox.sending(connection, first.id, 100.0)
    assert "second" not in keys(outbox.due(connection, 100.0))
    outbox.postponed(connection, first.id, 130.0, "429", 100.0)
    for row in (other, threaded, elsewhere):
        outbox.failed(connection, row.id, "gone", 100.0)
    assert outbox.due(connection, 129.9) == []
    assert keys(outbox.due(connection, 130.0)) == ["first"]
    outbox.sending(connection, first.id, 130.0)
    outbox.sent(connection, first.id, "p1", 130.0)
    assert keys(outbox.due(connection, 130.0)) == ["second"]


@pytest.mark.parametrize("end", ["failed", "ambiguous"])
def test_a_message_that_did_not_get_through_does_not_block_its_chat(connection: sqlite3.Connection, end: str) -> None:
    first = add(connection, "first")
    add(connection, "second")
    outbox.sending(connection, first.id, 100.0)
    getattr(outbox, end)(connection, first.id, "why", 101.0)
    assert keys(outbox.due(connection, 101.0)) == ["second"]


def test_what_an_earlier_life_was_sending_is_ambiguous_at_start_and_nothing_else_is(
    connection: sqlite3.Connection,
) -> None:
    cut, older, pending = (add(connection, key, Target("fake", key)) for key in ("cut", "older", "pending"))
    for row in (cut, older):
        outbox.sending(connection, row.id, 100.0)
    outbox.ambiguous(connection, older.id, "connection reset", 101.0)

    assert keys(outbox.recover(connection, 200.0)) == ["cut", "older"]
    assert outbox.show(connection, cut.id).changed_at == 200.0
    assert outbox.show(connection, older.id).error == "connection reset"
    assert outbox.show(connection, pending.id).state is OutboxState.PENDING
    assert keys(outbox.recover(connection, 300.0)) == ["cut", "older"]
    assert outbox.show(connection, cut.id).changed_at == 200.0


def test_a_placeholders_id_is_kept_until_the_final_text_replaces_it(connection: sqlite3.Connection) -> None:
    row = add(connection, "k")
    outbox.placeholder(connection, row.id, "p1")
    outbox.sending(connection, row.id, 101.0)
    shown = outbox.show(connection, row.id)
    assert (shown.platform_message_id, shown.state) == ("p1", OutboxState.SENDING)


@pytest.mark.parametrize(
    "step",
    [
        lambda connection: outbox.show(connection, 9),
        lambda connection: outbox.sending(connection, 9, 1.0),
        lambda connection: outbox.placeholder(connection, 9, "p"),
    ],
)
def test_an_unknown_row_is_told_by_its_id(connection: sqlite3.Connection, step: Any) -> None:
    with pytest.raises(UnknownRow, match="outbox row 9"):
        step(connection)
    assert outbox.by_key(connection, "nobody's") is None


def test_the_lane_of_a_chat_is_looked_up_and_not_searched(connection: sqlite3.Connection) -> None:
    plan = [
        row["detail"]
        for row in connection.execute(f"EXPLAIN QUERY PLAN {outbox.DUE}", {"now": 1.0, "limit": 10, "platform": "fake"})
    ]
    assert any("outbox_lane" in line for line in plan), plan
    assert not any(line.startswith("SCAN") for line in plan), plan


def test_a_retry_keeps_in_mind_what_the_platform_may_have(connection: sqlite3.Connection) -> None:
    failed, cut, both, fresh = (add(connection, key) for key in ("failed", "cut", "both", "fresh"))
    for row in (failed, cut, both):
        outbox.sending(connection, row.id, 101.0)
    outbox.failed(connection, failed.id, "too long", 102.0)
    outbox.ambiguous(connection, cut.id, "hermesd ended", 102.0)
    outbox.failed(connection, both.id, f"{UNCERTAIN}; too long", 102.0)
    again = [outbox.retried(connection, row.id, 103.0) for row in (failed, cut, both)]
    assert [row.state for row in again] == [OutboxState.PENDING] * 3
    assert [row.uncertain for row in again] == [False, True, True]
    outbox.sending(connection, failed.id, 104.0)
    for row in (failed, fresh):
        with pytest.raises(IllegalTransition):
            outbox.retried(connection, row.id, 105.0)


def test_a_list_names_the_session_of_a_turn_or_of_the_message_that_is_answered(connection: sqlite3.Connection) -> None:
    inbound = Inbound("fake", "c1", "m1", "u1", "hello")
    message = inbox.receive(connection, inbound, 100.0)
    assert message is not None
    inbox.queued(connection, message.id, "of-the-message", 101.0)
    turns.dispatched(connection, "t1", "of-the-turn", "s1", None, "w1", 102.0)
    of_turn = outbox.add(connection, Target("fake", "c9"), Outbound("k1", "x"), 103.0, turn="t1")
    of_message = outbox.add(connection, message.target, Outbound("k2", "x"), 103.0)
    of_nobody = outbox.add(connection, Target("fake", "c1"), Outbound("k3", "x"), 103.0)
    outbox.sending(connection, of_turn.id, 104.0)
    found = {row.id: key for row, key in outbox.listed(connection)}
    assert found == {of_nobody.id: "", of_message.id: "of-the-message", of_turn.id: "of-the-turn"}
    assert list(found) == [of_nobody.id, of_message.id, of_turn.id]
    assert [row.id for row, _ in outbox.listed(connection, (), "of-the-turn")] == [of_turn.id]
    assert [row.id for row, _ in outbox.listed(connection, [OutboxState.PENDING], limit=1)] == [of_nobody.id]
    assert outbox.session_of(connection, of_message.id) == "of-the-message"
