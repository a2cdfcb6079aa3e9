"""Two links over a wire that drops, repeats, reorders and cuts: everything arrives once, in order, and is confirmed
only after it was settled. Hypothesis looks for a schedule that breaks this."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hermesd.ipc.codec import Codec
from hermesd.ipc.link import Confirmed, Delivered, Link, Received
from hermesd.ipc.messages import DOWN, UP, Delta, Finished, Message, Send, StartTurn, Status, ToolUse

CODEC = Codec(*UP, *DOWN)


class End:
    """A link with what was put into it and what came out of it."""

    def __init__(self, window: int) -> None:
        self.link = Link(CODEC, window=window)
        self.wire: list[bytes] = []  # frames on their way from here
        self.takes = True
        self.sent: list[Message] = []
        self.received: list[Message] = []
        self.confirmed: list[Message] = []
        self.delivered = 0
        self.unsettled: list[int] = []
        self.settled: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)
        self.link.send(message)

    def flush(self, now: float) -> None:
        self.link.flush(now, self.put)

    def put(self, frame: bytes) -> bool:
        if self.takes:
            self.wire.append(frame)
        return self.takes

    def receive(self, frame: bytes, now: float) -> None:
        for event in self.link.receive(frame, now):
            match event:
                case Received(message, seq):
                    self.received.append(message)
                    if message.DURABLE:
                        self.unsettled.append(seq)
                case Confirmed(message):
                    self.confirmed.append(message)
                case Delivered():
                    self.delivered += 1
                case _:
                    raise AssertionError(event)

    def settle(self, index: int) -> None:
        seq = self.unsettled.pop(index)
        self.settled.append(self.received[seq - 1])
        self.link.settle(seq)


def text_of(messages: list[Message], turn: str) -> str:
    return "".join(message.text for message in messages if isinstance(message, Delta) and message.turn == turn)


def without_merging(messages: list[Message]) -> list[Message]:
    """The messages that no rule merges or drops."""
    return [message for message in messages if isinstance(message, (Send, Finished, StartTurn))]


class BadWire(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.count = 0
        self.worker = End(window=3)
        self.supervisor = End(window=3)

    def number(self) -> str:
        self.count += 1
        return str(self.count)

    def other(self, end: End) -> End:
        return self.supervisor if end is self.worker else self.worker

    # ---- the owners

    @rule(kind=st.sampled_from([Delta, Delta, Delta, ToolUse, Status, Send, Finished]))
    def worker_sends(self, kind: type[Message]) -> None:
        number = self.number()
        turn = f"turn {len([m for m in self.worker.sent if isinstance(m, Finished)])}"
        made: dict[type[Message], Message] = {
            Delta: Delta(turn, f"{number} "),
            ToolUse: ToolUse(turn, number, "", "done"),
            Status: Status(turn, number),
            Send: Send(number, turn, "", number),
            Finished: Finished(turn, "done", text_of(self.worker.sent, turn)),
        }
        self.worker.send(made[kind])

    @rule()
    def supervisor_sends(self) -> None:
        self.supervisor.send(StartTurn(self.number(), "", ""))

    @rule(passed=st.sampled_from([0.0, 0.01, 0.1, 1.0, 10.0]), up=st.booleans())
    def flush(self, passed: float, up: bool) -> None:
        self.now += passed
        (self.worker if up else self.supervisor).flush(self.now)

    @precondition(lambda self: self.supervisor.unsettled)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        self.supervisor.settle(data.draw(st.integers(0, len(self.supervisor.unsettled) - 1)))

    # ---- the wire

    @rule(up=st.booleans(), count=st.integers(1, 5))
    def deliver(self, up: bool, count: int) -> None:
        end = self.worker if up else self.supervisor
        for _ in range(min(count, len(end.wire))):
            self.other(end).receive(end.wire.pop(0), self.now)

    @rule(up=st.booleans(), data=st.data())
    def harm(self, up: bool, data: st.DataObject) -> None:
        wire = (self.worker if up else self.supervisor).wire
        if wire:
            index = data.draw(st.integers(0, len(wire) - 1))
            match data.draw(st.sampled_from(["drop", "repeat", "reorder"])):
                case "drop":
                    del wire[index]
                case "repeat":
                    wire.insert(index, wire[index])
                case "reorder":
                    wire.append(wire.pop(index))

    @rule(known=st.booleans())
    def cut(self, known: bool) -> None:
        self.worker.wire.clear()
        self.supervisor.wire.clear()
        if known:
            self.worker.link.reconnected(self.now)
            self.supervisor.link.reconnected(self.now)

    @rule(up=st.booleans(), takes=st.booleans())
    def stop_or_start_taking(self, up: bool, takes: bool) -> None:
        (self.worker if up else self.supervisor).takes = takes

    # ---- what must hold

    @invariant()
    def in_order_and_once(self) -> None:
        for end in (self.worker, self.supervisor):
            sent, received = without_merging(self.other(end).sent), without_merging(end.received)
            assert received == sent[: len(received)]

    @invariant()
    def only_what_was_settled_is_confirmed(self) -> None:
        assert all(message in self.supervisor.settled for message in self.worker.confirmed)
        durable = [message for message in self.worker.sent if message.DURABLE]
        assert self.worker.confirmed == durable[: len(self.worker.confirmed)]

    @invariant()
    def the_window_is_kept(self) -> None:
        figures = self.supervisor.link.statistics()
        assert figures.unacknowledged <= 3

    def teardown(self) -> None:
        """The wire heals: now everything arrives."""
        for end in (self.worker, self.supervisor):
            end.takes = True
        for _ in range(10_000):
            for end in (self.worker, self.supervisor):
                end.flush(self.now)
                while end.wire:
                    self.other(end).receive(end.wire.pop(0), self.now)
            while self.supervisor.unsettled:
                self.supervisor.settle(0)
            due = [time for time in (self.worker.link.due(), self.supervisor.link.due()) if time is not None]
            if not due:
                break
            self.now = max(self.now, min(due))
        else:
            raise AssertionError("the links do not come to rest")
        assert without_merging(self.supervisor.received) == without_merging(self.worker.sent)
        assert self.worker.received == self.supervisor.sent
        assert self.worker.confirmed == [message for message in self.worker.sent if message.DURABLE]
        self.check_texts()
        for end in (self.worker, self.supervisor):
            figures = end.link.statistics()
            assert (figures.unacknowledged, figures.queued, figures.peer_errors) == (0, 0, 0)
            assert figures.received == len(end.received)
        streamed = len(self.worker.sent) - len(self.worker.confirmed) - self.worker.link.statistics().coalesced
        assert self.worker.delivered == streamed

    def check_texts(self) -> None:
        """Every turn's deltas arrived in order; all of them where no final answer made some superfluous."""
        finished = {message.turn for message in self.worker.sent if isinstance(message, Finished)}
        for turn in {message.turn for message in self.worker.sent if isinstance(message, Delta)}:
            whole, arrived = text_of(self.worker.sent, turn), text_of(self.supervisor.received, turn)
            if turn in finished:
                numbers = whole.split()
                assert arrived.split() == [number for number in numbers if number in set(arrived.split())]
            else:
                assert arrived == whole


BadWire.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestBadWire = BadWire.TestCase
