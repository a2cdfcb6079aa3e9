"""`hermesd.ipc.link`: one end at a time, frame by frame. Times are made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hermesd.ipc.backpressure import MERGED_TEXT
from hermesd.ipc.codec import Ack, Codec, Envelope
from hermesd.ipc.errors import LocalError
from hermesd.ipc.link import Confirmed, Delivered, EpochOpened, Event, Link, Received, Refused, Timing
from hermesd.ipc.messages import (
    DOWN,
    UP,
    Accept,
    Delta,
    Finished,
    Heartbeat,
    Hello,
    Interrupt,
    Message,
    Send,
    Servers,
    Snapshot,
    StartTurn,
    Status,
    Steer,
    ToolUse,
    Welcome,
)

CODEC = Codec(*UP, *DOWN)
TIMING = Timing(resend=1.0, resend_max=4.0, ack_delay=0.1, retry=0.01, retry_max=0.04)


def make(window: int = 8, **more: object) -> Link:
    return Link(CODEC, window=window, timing=TIMING, **more)  # type: ignore[arg-type]


def sent(link: Link, now: float = 0.0) -> list[Envelope]:
    """What the link puts on the wire now."""
    return [CODEC.decode(frame) for frame in link.frames(now)]


def messages(link: Link, now: float = 0.0) -> list[Message]:
    return [envelope.message for envelope in sent(link, now)]


def give(link: Link, message: Message, seq: int = 0, ack: int = 0, epoch: int = 0, now: float = 0.0) -> list[Event]:
    return link.receive(CODEC.encode(message, seq, ack, epoch), now)


def refuse(_frame: bytes) -> bool:
    return False


# ---- numbers and acknowledgements -------------------------------------------------------------------------------


def test_reliable_messages_are_numbered_and_others_are_not() -> None:
    link = make()
    for message in (Accept("t"), Heartbeat("t", 0.0), Delta("t", "a")):
        link.send(message)
    assert {(type(envelope.message), envelope.seq) for envelope in sent(link)} == {
        (Accept, 1), (Delta, 2), (Heartbeat, 0),
    }  # fmt: skip


def test_an_acknowledgement_confirms_what_is_durable_and_delivers_the_rest() -> None:
    link = make()
    accept, status, finished = Accept("t"), Status("t", "thinking"), Finished("t", "done")
    link.send(accept)
    link.send(status)
    sent(link)
    link.send(finished)
    sent(link)
    assert give(link, Ack(), ack=2) == [Confirmed(accept), Delivered(status)]
    assert give(link, Ack(), ack=2) == []
    assert give(link, Ack(), ack=3) == [Confirmed(finished)]
    assert link.statistics().unacknowledged == 0
    assert link.due() is None


def test_messages_are_delivered_once_and_in_order() -> None:
    link = make()
    one, two, three = (StartTurn(f"t{number}", "", "") for number in (1, 2, 3))
    assert give(link, one, 1) == [Received(one, 1)]
    assert give(link, one, 1) == []
    assert give(link, three, 3) == []
    assert give(link, two, 2) == [Received(two, 2)]
    assert give(link, three, 3) == [Received(three, 3)]
    figures = link.statistics()
    assert (figures.received, figures.duplicates, figures.gaps) == (3, 1, 1)


def test_an_acknowledgement_rides_on_the_next_message() -> None:
    link = make()
    give(link, Delta("t", "a"), 1, now=5.0)
    assert link.due() == 5.1
    assert sent(link, 5.0) == []
    link.send(StartTurn("t", "", ""))
    assert [envelope.ack for envelope in sent(link, 5.05)] == [1]
    assert sent(link, 5.2) == []


def test_an_acknowledgement_without_a_message_goes_alone_after_a_while() -> None:
    link = make()
    give(link, Delta("t", "a"), 1, now=5.0)
    assert sent(link, 5.1) == [Envelope(Ack(), 0, 1, 0)]
    assert link.due() is None


def test_many_messages_are_acknowledged_before_the_peers_window_is_full() -> None:
    link = make(window=8)
    for seq in (1, 2):
        assert sent(link) == []
        give(link, Delta("t", "a"), seq)
    assert sent(link) == [Envelope(Ack(), 0, 2, 0)]


def test_a_duplicate_is_acknowledged_at_once() -> None:
    link = make()
    give(link, Delta("t", "a"), 1)
    sent(link, 1.0)
    give(link, Delta("t", "a"), 1, now=2.0)
    assert sent(link, 2.0) == [Envelope(Ack(), 0, 1, 0)]


# ---- durable messages -------------------------------------------------------------------------------------------


def test_a_durable_message_is_acknowledged_when_it_is_settled_and_not_before() -> None:
    link = make()
    [received] = give(link, Accept("t"), 1)
    assert isinstance(received, Received)
    assert sent(link, 100.0) == []
    link.settle(received.seq)
    assert sent(link, 100.0) == [Envelope(Ack(), 0, 1, 0)]


def test_what_follows_an_unsettled_message_is_delivered_but_not_acknowledged() -> None:
    link = make(window=4)
    give(link, Delta("t", "a"), 1)
    give(link, Accept("t"), 2)
    assert len(give(link, Delta("t", "b"), 3)) == 1
    link.send(Interrupt("t", "because"))
    assert [envelope.ack for envelope in sent(link)] == [1]
    link.settle(2)
    assert sent(link) == [Envelope(Ack(), 0, 3, 0)]


def test_messages_may_be_settled_in_any_order() -> None:
    link = make()
    for seq in (1, 2, 3):
        give(link, Accept(f"t{seq}"), seq)
    link.settle(3)
    link.settle(2)
    assert sent(link) == []
    link.settle(1)
    link.settle(1)
    assert sent(link) == [Envelope(Ack(), 0, 3, 0)]


def test_an_owner_that_settles_nothing_is_not_flooded() -> None:
    link = make()
    taken = sum(len(give(link, Accept("t"), seq)) for seq in range(1, 5001))
    assert taken == 4096
    link.settle(1)
    assert len(give(link, Accept("t"), 4097)) == 1


# ---- window, merging, overtaking --------------------------------------------------------------------------------


def test_no_more_than_the_window_is_in_flight() -> None:
    link = make(window=2)
    for number in range(5):
        link.send(ToolUse("t", str(number), "", "done"))
    assert [envelope.seq for envelope in sent(link)] == [1, 2]
    assert sent(link) == []
    give(link, Ack(), ack=1)
    assert link.due() == float("-inf")
    assert [envelope.seq for envelope in sent(link)] == [3]
    give(link, Ack(), ack=3)
    assert [envelope.seq for envelope in sent(link)] == [4, 5]


def test_waiting_deltas_of_a_turn_become_one() -> None:
    link = make(window=1)
    for text in ("a", "b", "c", "d"):
        link.send(Delta("t", text))
        sent(link)
    link.send(Delta("other", "x"))
    link.send(Delta("t", "e"))
    give(link, Ack(), ack=1)
    assert messages(link) == [Delta("t", "bcd")]
    assert link.statistics().coalesced == 2
    give(link, Ack(), ack=2)
    assert messages(link) == [Delta("other", "x")]


def test_merged_deltas_stay_small() -> None:
    link = make(window=1)
    for _ in range(4):
        link.send(Delta("t", "\U0001f600" * (MERGED_TEXT // 2)))
    assert link.statistics().queued == 2
    assert len(link.frames(0.0)[0]) < 65536


def test_of_waiting_states_only_the_latest_is_sent() -> None:
    link = make(window=1)
    link.send(Accept("t"))
    sent(link)
    for number in range(3):
        link.send(Status("t", str(number)))
    link.send(Servers(()))
    link.send(Servers(()))
    give(link, Ack(), ack=1)
    assert messages(link) == [Status("t", "2")]
    give(link, Ack(), ack=2)
    assert messages(link) == [Servers(())]


def test_a_final_answer_overtakes_the_text_it_contains_and_the_window() -> None:
    link = make(window=1)
    link.send(Delta("t", "a"))
    sent(link)
    for message in (Delta("t", "b"), ToolUse("t", "tool", "", "done"), Status("t", "x"), Delta("t", "c")):
        link.send(message)
    link.send(Finished("t", "done", "abc"))
    assert [(envelope.message, envelope.seq) for envelope in sent(link)] == [
        (ToolUse("t", "tool", "", "done"), 2), (Status("t", "x"), 3), (Finished("t", "done", "abc"), 4),
    ]  # fmt: skip
    assert link.statistics().coalesced == 2


def test_a_final_answer_keeps_its_place_behind_what_it_does_not_contain() -> None:
    link = make(window=1)
    link.send(Accept("t"))
    sent(link)
    mail = Send("s1", "t", "", "look at this")
    for message in (Delta("t", "a"), mail, Delta("u", "other turn"), Finished("t", "done", "a"), Delta("u", "more")):
        link.send(message)
    assert messages(link) == [mail, Delta("u", "other turn"), Finished("t", "done", "a")]
    assert link.statistics().queued == 1


def test_an_interrupt_needs_no_credit() -> None:
    link = make(window=1)
    link.send(StartTurn("t", "", ""))
    link.send(Interrupt("t", "stop"))
    assert [type(message) for message in messages(link)] == [StartTurn, Interrupt]


def test_a_message_that_cannot_be_sent_is_refused_at_once_and_nothing_is_queued() -> None:
    link = make()
    with pytest.raises(LocalError, match="lone surrogates"):
        link.send(Delta("t", "\ud800"))
    assert sent(link) == []


def test_of_unreliable_messages_the_oldest_give_way() -> None:
    link = make()
    for number in range(300):
        link.send(Heartbeat("", number))
    assert [message.loop_age for message in messages(link) if isinstance(message, Heartbeat)] == list(range(44, 300))
    assert link.statistics().dropped == 44


def test_a_link_needs_frames_that_hold_merged_deltas() -> None:
    with pytest.raises(LocalError, match="frames of 65536 bytes at least"):
        Link(Codec(Delta, max_frame=1000))


# ---- time -------------------------------------------------------------------------------------------------------


def test_without_an_acknowledgement_everything_is_sent_again_with_growing_pauses() -> None:
    link = make()
    link.send(Accept("a"))
    link.send(Accept("b"))
    assert [envelope.seq for envelope in sent(link, 0.0)] == [1, 2]
    times = []
    now = 0.0
    for _ in range(4):
        due = link.due()
        assert due is not None
        assert sent(link, due - 0.001) == []
        assert [envelope.seq for envelope in sent(link, due)] == [1, 2]
        times.append(due - now)
        now = due
    assert times == [1.0, 2.0, 4.0, 4.0]
    give(link, Ack(), ack=1, now=now)
    assert link.due() == now + 1.0
    assert [envelope.seq for envelope in sent(link, now + 1.0)] == [2]
    assert link.statistics().resent == 9


def test_a_frame_that_the_socket_did_not_take_stays_the_first() -> None:
    link = make()
    for text in ("a", "b", "c"):
        link.send(ToolUse("t", text, "", "done"))
    taken: list[bytes] = []

    def take_one(frame: bytes) -> bool:
        if taken:
            return False
        taken.append(frame)
        return True

    assert not link.flush(0.0, take_one)
    assert link.due() == 0.01
    assert not link.flush(0.005, taken.append)  # type: ignore[arg-type]
    assert [envelope.seq for envelope in sent(link, 0.01)] == [2, 3]
    assert CODEC.decode(taken[0]).seq == 1
    figures = link.statistics()
    assert (figures.sent, figures.resent, figures.refusals) == (3, 0, 1)


def test_a_socket_that_takes_nothing_is_asked_less_and_less_often_and_nothing_piles_up() -> None:
    link = make()
    link.send(Accept("t"))
    now, pauses = 0.0, []
    for _ in range(4):
        assert not link.flush(now, refuse)
        due = link.due()
        assert due is not None
        pauses.append(round(due - now, 6))
        now = due
    assert pauses == [0.01, 0.02, 0.04, 0.04]
    assert [envelope.seq for envelope in sent(link, now)] == [1]
    assert sent(link, now) == []


def test_a_resend_that_is_refused_goes_on_where_it_stopped() -> None:
    link = make()
    for number in range(3):
        link.send(Accept(str(number)))
    sent(link, 0.0)
    seen: list[int] = []

    def take_two(frame: bytes) -> bool:
        if len(seen) == 2:
            return False
        seen.append(CODEC.decode(frame).seq)
        return True

    assert not link.flush(1.0, take_two)
    assert seen == [1, 2]
    give(link, Ack(), ack=1, now=1.0)
    assert [envelope.seq for envelope in sent(link, 1.01)] == [3]


def test_after_a_reconnect_everything_unacknowledged_and_the_acknowledgement_go_at_once() -> None:
    link = make()
    give(link, StartTurn("t", "", ""), 1)
    link.send(Accept("t"))
    sent(link, 0.0)
    link.reconnected(0.5)
    assert link.due() == float("-inf")
    assert [(envelope.seq, envelope.ack) for envelope in sent(link, 0.5)] == [(1, 1)]
    assert sent(link, 0.5) == []
    assert link.due() == 1.5


def test_heartbeats_are_made_when_they_are_due_and_do_not_pile_up() -> None:
    ages = iter(range(100))
    link = make(heartbeat=lambda: Heartbeat("", float(next(ages))), heartbeat_every=1.0)
    assert link.due() == float("-inf")
    assert messages(link, 10.0) == [Heartbeat("", 0.0)]
    assert messages(link, 10.9) == []
    assert link.due() == 11.0
    for now in (11.0, 15.0, 20.0):
        assert not link.flush(now, refuse)
    assert len(messages(link, 25.0)) == 1
    link.heartbeat_every = 5.0
    assert link.due() == 30.0


def test_the_link_knows_when_it_last_heard_something_valid() -> None:
    link = make()
    heard = [link.last_heard]
    give(link, Heartbeat("", 0.0), now=3.0)
    heard.append(link.last_heard)
    link.receive(b"noise", 4.0)
    heard.append(link.last_heard)
    assert heard == [None, 3.0, 3.0]


# ---- a peer that errs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_frame", "reason"),
    [
        (lambda: b"\xc1", "cannot read a frame"),
        (lambda: CODEC.encode(Ack(), ack=1), "it acknowledges 1, 0 were sent"),
        (lambda: CODEC.encode(Accept("t"), seq=0), "number 0 is not for a message with RELIABLE=True"),
        (lambda: CODEC.encode(Heartbeat("t", 0.0), seq=4), "number 4 is not for a message with RELIABLE=False"),
    ],
)
def test_a_wrong_frame_is_counted_and_changes_nothing(make_frame: Callable[[], bytes], reason: str) -> None:
    link = make()
    [event] = link.receive(make_frame(), 1.0)
    assert isinstance(event, Refused)
    assert reason in str(event.error)
    assert link.statistics().peer_errors == 1
    assert give(link, Accept("t"), 1) == [Received(Accept("t"), 1)]


# ---- epochs -----------------------------------------------------------------------------------------------------


def test_a_new_epoch_sends_unacknowledged_durable_messages_again_and_returns_the_rest() -> None:
    link = make(window=2)
    before = [Accept("t"), Delta("t", "a"), Send("s1", "t", "", "x"), Status("t", "y")]
    for message in before:
        link.send(message)
    sent(link)
    assert link.new_epoch() == (Delta("t", "a"), Status("t", "y"))
    assert [(envelope.message, envelope.seq, envelope.epoch) for envelope in sent(link)] == [
        (Accept("t"), 1, 1),
        (Send("s1", "t", "", "x"), 2, 1),
    ]


def test_a_worker_follows_the_supervisor_that_took_over() -> None:
    worker, first = make(), make()
    worker.send(Accept("t"))
    worker.send(Delta("t", "a"))
    for frame in worker.frames(0.0):
        first.receive(frame, 0.0)
    second = make(epoch=worker.epoch + 1)
    second.send(StartTurn("u", "", ""))
    [opening] = second.frames(1.0)
    assert worker.receive(opening, 1.0) == [
        EpochOpened(1, (Delta("t", "a"),)),
        Received(StartTurn("u", "", ""), 1),
    ]
    received = [event for frame in worker.frames(1.0) for event in second.receive(frame, 1.0)]
    assert received == [Delivered(StartTurn("u", "", "")), Received(Accept("t"), 1)]
    second.settle(1)
    assert [event for frame in second.frames(1.0) for event in worker.receive(frame, 1.0)] == [Confirmed(Accept("t"))]


def test_numbered_frames_of_an_earlier_epoch_are_dropped_and_answered_with_the_present_one() -> None:
    link = make(epoch=3)
    assert give(link, Accept("t"), 1, ack=9, epoch=2) == []
    assert link.statistics().stale == 1
    assert sent(link) == [Envelope(Ack(), 0, 0, 3)]
    assert give(link, Heartbeat("t", 0.0), epoch=2) == [Received(Heartbeat("t", 0.0), 0)]


def test_a_late_commit_of_an_earlier_epoch_does_not_acknowledge_a_message_of_this_one() -> None:
    link = make()
    [old] = give(link, Accept("old"), 1)
    _opened, new = give(link, Accept("new"), 1, epoch=1)
    assert isinstance(old, Received)
    assert isinstance(new, Received)
    link.settle(old.seq)
    assert all(envelope.ack == 0 for envelope in sent(link, 100.0))
    link.settle(new.seq)
    assert [envelope.ack for envelope in sent(link, 100.0)] == [1]


def test_a_supervisor_that_opens_an_epoch_itself_tells_the_worker_even_with_nothing_to_send() -> None:
    worker, supervisor = make(), make()
    supervisor.new_epoch()
    for frame in supervisor.frames(0.0):
        worker.receive(frame, 0.0)
    assert worker.epoch == supervisor.epoch == 1


def test_the_end_that_opens_epochs_follows_nobody_into_one() -> None:
    link = make(leads=True)
    link.send(Steer("t", "text"))
    sent(link)
    (event,) = give(link, Send("s", "t", "", "text"), seq=1, epoch=1)
    assert isinstance(event, Refused)
    assert "epoch 1, not 0" in str(event.error)
    assert link.epoch == 0
    assert link.statistics().unacknowledged == 1


def test_an_owner_that_settles_nothing_holds_a_bounded_memory() -> None:
    link = make()
    text = "x" * (4 << 20)
    taken = [bool(give(link, Send(str(seq), "t", "", text), seq=seq)) for seq in range(1, 20)]
    assert sum(taken) == 8
    assert taken == sorted(taken, reverse=True)
    link.settle(1)
    assert give(link, Send("9", "t", "", text), seq=9)


def test_a_hello_is_answered_at_once_also_in_an_earlier_epoch() -> None:
    link = make(epoch=1)
    hello = Hello("w1", "token", 1, 1, "0")
    assert give(link, hello, epoch=0, now=1.0) == [Received(hello, 0)]
    assert sent(link, 1.0) == [Envelope(Ack(), 0, 0, 1)]
    assert give(link, Heartbeat("t", 0.0), epoch=1, now=2.0) == [Received(Heartbeat("t", 0.0), 0)]
    assert sent(link, 2.0) == []


def test_a_sealed_message_passes_everything_that_waits_and_changes_nothing() -> None:
    link = make(window=1, epoch=2)
    give(link, StartTurn("t", "", ""), 1, epoch=2)
    link.send(Accept("t"))
    hello = Hello("w1", "token", 1, 1, "0", epoch=2)
    assert CODEC.decode(link.seal(hello)) == Envelope(hello, 0, 1, 2)
    assert [envelope.seq for envelope in sent(link)] == [1]


def test_a_worker_that_is_taken_over_repeats_what_is_durable_and_then_tells_its_state() -> None:
    worker, second = make(window=2), make(epoch=1)
    accept, send = Accept("t"), Send("s1", "t", "", "x")
    for message in (accept, Delta("t", "a"), send, Status("t", "y"), Delta("t", "b")):
        worker.send(message)
    sent(worker)
    second.send(Welcome())
    [welcome] = second.frames(1.0)
    opened, received = worker.receive(welcome, 1.0)
    assert opened == EpochOpened(1, (Delta("t", "a"), Status("t", "y"), Delta("t", "b")))
    assert received == Received(Welcome(), 1)
    snapshot = Snapshot("key", "id", True, turn="t", text="ab")
    for message in (snapshot, Servers(()), Delta("t", "c")):
        worker.send(message)
    heard: list[Message] = []
    confirmed: list[Event] = []
    for now in (1.0, 2.0, 3.0):
        for frame in worker.frames(now):
            for event in second.receive(frame, now):
                if isinstance(event, Received):
                    heard.append(event.message)
                    if event.message.DURABLE:
                        second.settle(event.seq)
        for frame in second.frames(now):
            confirmed += [event for event in worker.receive(frame, now) if isinstance(event, Confirmed)]
    assert heard == [accept, send, snapshot, Servers(()), Delta("t", "c")]
    # The very objects, by which their sender knows them.
    assert [event.message for event in confirmed if isinstance(event, Confirmed)] == [accept, send]
    assert all(one.message is other for one, other in zip(confirmed, (accept, send), strict=True))
