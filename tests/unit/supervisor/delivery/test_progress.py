"""Playbooks: text and results in, calls out, on a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.contract import Capabilities, Outbound
from hermesd.supervisor.delivery import progress
from hermesd.supervisor.delivery.parts import Parts, Piece, parts_of
from hermesd.supervisor.delivery.progress import (
    Boundary,
    Done,
    Edit,
    End,
    Event,
    Failed,
    Failure,
    Held,
    Keep,
    Known,
    Layout,
    Send,
    State,
    Style,
    Text,
    Tick,
    WakeAt,
    layout,
    restored,
)

CURSOR = " \u2589"
STYLE = Style()
OK, LATER = Done("m1"), Failed(Failure.LATER)

Line = tuple[float, Event, list[progress.Action]]


def play(lines: list[Line], state: State | None = None) -> State:
    """Each line: the time, what comes, and the actions that must follow."""
    state = state or State(STYLE)
    for at, event, expected in lines:
        state, actions = progress.step(state, event, at)
        rounded = [WakeAt(round(one.at, 6)) if isinstance(one, WakeAt) else one for one in actions]
        assert rounded == expected, f"at {at}: {event}"
    return state


def send(text: str, index: int = 0) -> Send:
    return Send(index, text)


def edit(text: str, index: int = 0, message: str = "m1") -> Edit:
    return Edit(index, message, text)


PLAYBOOKS: dict[str, list[Line]] = {
    "the first text is sent after the interval": [
        (0.0, Text("Hello"), [WakeAt(0.8)]),
        (0.8, Tick(), [send("Hello" + CURSOR)]),
        (0.9, OK, [Keep(0)]),
    ],
    "or sooner, when there is enough of it": [
        (0.0, Text("x" * 23), [WakeAt(0.8)]),
        (0.1, Text("x"), [send("x" * 24 + CURSOR)]),
    ],
    "later text edits, counted from the last edit": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.1, OK, [Keep(0)]),
        (0.2, Text("y" * 23), [WakeAt(0.9)]),
        (0.3, Text("y"), [edit("x" * 24 + "y" * 24 + CURSOR)]),
        (0.4, OK, []),
        (0.5, Text("z"), [WakeAt(1.2)]),
        (1.3, Tick(), [edit("x" * 24 + "y" * 24 + "z" + CURSOR)]),
    ],
    "one call at a time": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.1, Text("y" * 100), []),
        (0.9, Tick(), []),
        (1.0, OK, [Keep(0), edit("x" * 24 + "y" * 100 + CURSOR)]),
    ],
    "less than four characters are no message": [
        (0.0, Text("Hi."), []),
        (5.0, Tick(), []),
        (5.1, Text(" Y"), [send("Hi. Y" + CURSOR)]),
    ],
    "blank space is no text": [
        (0.0, Text("\n\n"), []),
        (0.1, Text("  Hello"), [WakeAt(0.9)]),
        (0.9, Tick(), [send("Hello" + CURSOR)]),
        (1.0, OK, [Keep(0)]),
        (1.1, Text("\n\n"), []),  # the same text again
    ],
    "a tool begins a new message below": [
        (0.0, Text("Let me look."), [WakeAt(0.8)]),
        (0.1, Boundary(), [send("Let me look.")]),
        (0.2, OK, [Keep(0)]),
        (0.3, Text("\n\nIt rains in Paris today."), [send("It rains in Paris today." + CURSOR, 1)]),
        (0.4, Done("m2"), [Keep(1)]),
        (0.5, Boundary(), [Keep(1), edit("It rains in Paris today.", 1, "m2")]),
    ],
    "a tool takes the cursor away": [
        (0.0, Text("x" * 30), [send("x" * 30 + CURSOR)]),
        (0.1, OK, [Keep(0)]),
        (0.2, Boundary(), [Keep(0), edit("x" * 30)]),
        (0.3, OK, []),
        (0.4, Boundary(), []),
    ],
    "a tool after a word too short to stand alone": [
        (0.0, Text("OK."), []),
        (0.1, Boundary(), []),
        (0.2, Text(" It rains."), [WakeAt(0.8)]),
        (0.8, Tick(), [send("OK. It rains." + CURSOR)]),
    ],
    "a tool while the first call is under way": [
        (0.0, Text("x" * 30), [send("x" * 30 + CURSOR)]),
        (0.1, Boundary(), []),
        (0.2, Text("y" * 30), []),
        (0.3, OK, [Keep(0), edit("x" * 30)]),
        (0.4, OK, [send("y" * 30 + CURSOR, 1)]),
    ],
    "flood doubles the interval, and only time counts then": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.1, OK, [Keep(0)]),
        (0.2, Text("y" * 24), [edit("x" * 24 + "y" * 24 + CURSOR)]),
        (1.0, LATER, [WakeAt(2.6)]),
        (1.1, Text("z" * 500), [WakeAt(2.6)]),
        (2.6, Tick(), [edit("x" * 24 + "y" * 24 + "z" * 500 + CURSOR)]),
        (3.0, Failed(Failure.LATER, after=7.0), [WakeAt(10.0)]),
        (10.0, Tick(), [edit("x" * 24 + "y" * 24 + "z" * 500 + CURSOR)]),
        (10.1, OK, []),
        (10.2, Text("a" * 24), [WakeAt(11.7)]),  # 3.2 s was the pace, 1.6 s is it after a success
    ],
    "three strikes in a row end it": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.0, OK, [Keep(0)]),
        (0.0, Text("y" * 24), [edit("x" * 24 + "y" * 24 + CURSOR)]),
        (0.0, LATER, [WakeAt(1.6)]),
        (1.6, Tick(), [edit("x" * 24 + "y" * 24 + CURSOR)]),
        (2.0, LATER, [WakeAt(5.2)]),
        (5.2, Tick(), [edit("x" * 24 + "y" * 24 + CURSOR)]),
        (6.0, LATER, []),
        (99.0, Text("z" * 99), []),
    ],
    "a message that can no longer be edited ends it": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.0, OK, [Keep(0)]),
        (0.0, Text("y" * 24), [edit("x" * 24 + "y" * 24 + CURSOR)]),
        (0.0, Failed(Failure.NEVER), []),
        (9.0, Text("z" * 99), []),
    ],
    "a platform that tells no id gets no second message": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.1, Done(""), []),
        (0.2, Text("y" * 99), []),
        (0.3, Boundary(), []),
        (0.4, Text("z" * 99), []),
    ],
    "nor does one of which nobody knows whether it came": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.1, Failed(Failure.UNKNOWN), []),
        (9.0, Text("y" * 99), []),
    ],
    "a send that is refused for now is tried again": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.1, Failed(Failure.LATER, after=3.0), [WakeAt(3.1)]),
        (3.1, Tick(), [send("x" * 24 + CURSOR)]),
    ],
    "the platform's rates": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.0, Held(4.0), [WakeAt(4.0)]),
        (1.0, Text("y" * 99), [WakeAt(4.0)]),
        (4.0, Tick(), [send("x" * 24 + "y" * 99 + CURSOR)]),
    ],
    "after the end nothing is called": [
        (0.0, Text("x" * 24), [send("x" * 24 + CURSOR)]),
        (0.1, End(), []),
        (0.2, OK, [Keep(0)]),
        (9.0, Tick(), []),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_playbook(name: str) -> None:
    play(PLAYBOOKS[name])


def test_the_interval_does_not_double_for_ever() -> None:
    state, _ = progress.step(State(Style(interval=7.0)), Text("x" * 30), 0.0)
    state, _ = progress.step(state, LATER, 0.0)
    assert state.pace == progress.SLOWEST


class TestOverflow:
    STYLE = Style(limit=700)  # of which 598 are safe

    def test_the_message_is_closed_at_a_line_and_the_text_goes_on_below(self) -> None:
        first, second = "a" * 400, "b" * 250
        state = play(
            [
                (0.0, Text(first), [send(first + CURSOR)]),
                (0.1, OK, [Keep(0)]),
                (0.2, Text("\n" + second), [edit(first)]),
                (0.3, OK, [send(second + CURSOR, 1)]),
                (0.4, Done("m2"), [Keep(1)]),
            ],
            State(self.STYLE),
        )
        assert [(one.begins, one.closed) for one in state.messages] == [(0, True), (401, False)]

    def test_a_text_that_comes_at_once_is_cut_the_same_way(self) -> None:
        text = "a" * 400 + "\n" + "b" * 500 + "\n" + "c" * 300
        at_once = progress.step(State(self.STYLE), Text(text), 0.0)[0]
        by_and_by = State(self.STYLE)
        for char in text:
            by_and_by = progress.step(by_and_by, Text(char), 0.0)[0]
        assert [one.text for one in at_once.messages] == ["a" * 400, "b" * 500, "c" * 300]
        assert [(one.text, one.begins) for one in by_and_by.messages] == [
            (one.text, one.begins) for one in at_once.messages
        ]

    def test_a_line_in_the_first_half_is_no_place_to_cut(self) -> None:
        state = progress.step(State(self.STYLE), Text("a" * 100 + "\n" + "b" * 900), 0.0)[0]
        assert [len(one.text) for one in state.messages] == [598, 403]

    def test_a_platform_with_small_messages_has_large_ones_all_the_same(self) -> None:
        assert Style(limit=300).safe == 500


class TestLayout:
    def shown(self, *segments: str, **changes: object) -> State:
        state, now = State(STYLE), 0.0
        for number, text in enumerate(segments):
            now += 10.0
            state, actions = progress.step(state, Text(text), now)
            if number < len(segments) - 1:
                state, more = progress.step(state, Boundary(), now)
                actions += more
            while any(isinstance(action, Send | Edit) for action in actions):
                state, actions = progress.step(state, Done(f"m{number + 1}"), now)
        return progress.step(state, End(), now)[0]

    def test_the_answer_takes_the_place_of_what_is_shown(self) -> None:
        state = self.shown("It rains in Paris" + "." * 20)
        assert layout("It rains.", state) == Layout((Piece("It rains.", ("m1",)),))

    def test_what_was_said_before_a_tool_stays_if_the_answer_does_not_begin_with_it(self) -> None:
        state = self.shown("Let me look. " * 3, "It rains in Paris today.")
        assert layout("It rains in Paris.", state) == Layout((Piece("It rains in Paris.", ("m2",)),), begun=True)

    def test_and_keeps_its_place_if_it_does(self) -> None:
        state = self.shown("Let me look.  I am quick.", "It rains in Paris today.")
        found = layout("Let me look. I am quick.\n\nIt rains in Paris today!", state)
        assert found.pieces == (Piece("Let me look. I am quick.", ("m1",)), Piece("It rains in Paris today!", ("m2",)))
        assert not found.begun

    def test_an_answer_that_ended_with_a_tool(self) -> None:
        state = self.shown("I have sent it to you.", "")
        assert layout("I have sent it to you.", state).pieces == (Piece("I have sent it to you.", ("m1",)),)

    def test_an_error_does_not_take_the_place_of_what_was_said(self) -> None:
        state = self.shown("It rains in Paris and in")
        found = layout("The agent failed: x", state, error=True)
        assert found.pieces == (Piece("It rains in Paris and in", ("m1",)), Piece("The agent failed: x"))

    def test_nothing_was_shown(self) -> None:
        assert layout("Hello", State(STYLE)) == Layout((Piece("Hello"),))

    def test_a_message_that_cannot_be_edited_is_not_used(self) -> None:
        state = self.shown("x" * 30)
        state, _ = progress.step(State(STYLE, messages=state.messages), Text("y" * 30), 50.0)
        state, _ = progress.step(state, Failed(Failure.NEVER), 50.0)
        assert layout("Hello", state) == Layout((Piece("Hello"),), stale=("m1",))

    def test_a_message_that_stays_and_was_not_finished(self) -> None:
        state, _ = progress.step(State(STYLE), Text("x" * 30), 0.0)
        state, _ = progress.step(state, OK, 0.0)
        state, _ = progress.step(state, Boundary(), 0.0)
        state, _ = progress.step(state, End(), 0.0)
        state, _ = progress.step(state, LATER, 0.0)
        assert layout("Hello", state) == Layout((Piece("Hello"),), begun=True, above=(Piece("x" * 30, ("m1",)),))

    @pytest.mark.parametrize("result", [LATER, Failed(Failure.NEVER), Failed(Failure.UNKNOWN)])
    def test_what_was_said_before_a_tool_and_could_not_be_shown_comes_before_the_answer(self, result: Failed) -> None:
        state, _ = progress.step(State(STYLE), Text("x" * 30), 0.0)
        state, _ = progress.step(state, result, 0.0)
        state, _ = progress.step(state, Boundary(), 0.0)
        state, _ = progress.step(state, Text("y" * 30), 0.0)
        found = layout("Hello", progress.step(state, End(), 0.0)[0])
        assert (found.above, found.pieces) == ((Piece("x" * 30),), (Piece("Hello"),))
        assert layout("x" * 30 + "\nHello", state).above == ()

    def test_what_a_platform_shows_without_a_name_is_not_shown_again(self) -> None:
        state, _ = progress.step(State(STYLE), Text("x" * 30), 0.0)
        state, _ = progress.step(state, Done(""), 0.0)
        state, _ = progress.step(state, Boundary(), 0.0)
        assert layout("Hello", state).above == ()

    def test_an_error_leaves_what_was_said_and_not_yet_shown(self) -> None:
        state, _ = progress.step(State(STYLE), Text("x" * 30), 0.0)
        state, _ = progress.step(state, LATER, 0.0)
        assert layout("The agent failed: x", state, error=True).pieces == (
            Piece("x" * 30), Piece("The agent failed: x"),
        )  # fmt: skip


class TestLaterLives:
    def test_the_same_text_again_goes_on_in_the_same_messages(self) -> None:
        known = (Known(2, "m1"), Known(50, "m2", 1), Known(90, "m3", 1))
        state = State(STYLE, known)
        state, _ = progress.step(state, Text("\n\n" + "x" * 48), 0.0)
        state, _ = progress.step(state, Boundary(), 0.0)
        state, _ = progress.step(state, Text("y" * 30), 0.0)
        assert [(one.id, one.begins) for one in state.messages] == [("m1", 2), ("m2", 50)]
        assert state.known == (Known(90, "m3", 1),)
        assert layout("y", progress.step(state, End(), 0.0)[0]).stale == ("m3",)

    def test_another_text_takes_the_first_message(self) -> None:
        _, actions = progress.step(State(STYLE, (Known(2, "m1"),)), Text("x" * 30), 0.0)
        assert actions == (edit("x" * 30 + CURSOR),)

    def test_the_answer_to_a_turn_of_which_only_the_messages_are_known(self) -> None:
        state = restored(STYLE, [Known(0, "m1")])
        assert layout("hermesd was restarted.", state, error=True).pieces == (Piece("hermesd was restarted.", ("m1",)),)
        assert layout("It rains.", state).pieces == (Piece("It rains.", ("m1",)),)

    def test_the_text_before_a_tool_is_known(self) -> None:
        state = restored(STYLE, [Known(0, "m1", 0, "Let me look."), Known(14, "m2", 1)])
        # Whether its cursor is gone is not known.
        above = (Piece("Let me look.", ("m1",)),)
        assert layout("It rains.", state) == Layout((Piece("It rains.", ("m2",)),), begun=True, above=above)
        assert layout("Let me look. It rains.", state).pieces == (
            Piece("Let me look.", ("m1",)), Piece("It rains.", ("m2",)),
        )  # fmt: skip

    def test_a_tool_was_called_and_nothing_said_since(self) -> None:
        state = restored(STYLE, [Known(0, "m1", 0, "Let me look.")])
        above = (Piece("Let me look.", ("m1",)),)
        assert layout("It rains.", state) == Layout((Piece("It rains."),), begun=True, above=above)


@dataclass
class Model:
    """A platform in memory: what its chat shows, and a clock."""

    chat: dict[str, str] = field(default_factory=dict)  # in the order in which they were sent
    sent: int = 0

    def perform(self, action: Send | Edit, result: Event, delivered: bool) -> Event:
        """``delivered``: a failed call has arrived all the same."""
        if isinstance(result, Done):
            return Done(self.say(action)) if result.message_id or isinstance(action, Edit) else self.nameless(action)
        if delivered and isinstance(result, Failed) and result.failure is not Failure.NEVER:
            if isinstance(action, Edit):
                self.say(action)
            elif result.failure is Failure.UNKNOWN:
                self.nameless(action)
        return result

    def say(self, action: Send | Edit) -> str:
        message = action.message_id if isinstance(action, Edit) else self.name("m")
        self.chat[message] = action.text
        return message

    def nameless(self, action: Send | Edit) -> Event:
        self.chat[self.name("?")] = action.text
        return Done("")

    def name(self, kind: str) -> str:
        self.sent += 1
        return f"{kind}{self.sent}"

    def finish(self, parts: Parts, refused: frozenset[str]) -> list[str]:
        """The outbox's part: edit or, where that is refused, send this part and all after it. Returns the ids of the
        final answer's messages.
        """
        answer, anew = [], False
        for part in parts.parts:
            anew = anew or part.edits in refused
            if part.edits and not anew:
                answer.append(part.edits)
            else:
                self.chat.pop(part.edits, None)
                answer.append(self.name("f"))
            self.chat[answer[-1]] = part.message.text
        for message in parts.surplus:
            self.chat.pop(message, None)
        return answer


RESULTS = st.one_of(
    st.just(Done("any")), st.just(Done("any")), st.just(Done("any")), st.just(Done("")),
    st.sampled_from(Failure).map(lambda failure: Failed(failure, 1.0)), st.just(Held(0.0)),
)  # fmt: skip
WORDS = st.text(alphabet="abc \n", min_size=1, max_size=60)


@given(
    said=st.lists(st.one_of(WORDS.map(Text), st.just(Boundary()), st.just(Tick())), max_size=30),
    results=st.lists(st.tuples(RESULTS, st.booleans()), max_size=30),
    late=st.integers(0, 3),
    kind=st.sampled_from(("all", "last", "other")),
    refused=st.frozensets(st.sampled_from(("m1", "m2", "m3"))),
    limit=st.sampled_from((0, 60, 620)),
)
def test_in_the_end_the_chat_shows_the_answer_once(
    said: list[Event],
    results: list[tuple[Event, bool]],
    late: int,
    kind: str,
    refused: frozenset[str],
    limit: int,
) -> None:
    """Whatever fails while it is written: no answer is lost, none is there twice, no cursor stays in it."""
    state, model, now, pending = State(Style(limit=limit)), Model(), 0.0, []
    segments, outcomes = [""], iter(results)
    for event in said:
        now += 0.5
        if isinstance(event, Text):
            segments[-1] += event.text
        elif isinstance(event, Boundary) and segments[-1].strip():
            segments.append("")
        state, actions = progress.step(state, event, now)
        calls = [action for action in actions if isinstance(action, Send | Edit)]
        assert len(calls) + len(pending) <= 1, "one call at a time"
        pending += calls
        if (pending and late == 0) or len(said) % (late + 1) == 0:
            while pending:
                result, delivered = next(outcomes, (Done("any"), False))
                known = model.perform(pending.pop(), result, delivered)
                state, actions = progress.step(state, known, now)
                pending += [action for action in actions if isinstance(action, Send | Edit)]
                if isinstance(result, Held):
                    break
    state, actions = progress.step(state, End(), now)
    assert not [action for action in actions if isinstance(action, Send | Edit)]
    for action in pending:
        result, delivered = next(outcomes, (Done("any"), False))
        state, _ = progress.step(state, model.perform(action, result, delivered), now)
    final = {"all": "".join(segments), "last": segments[-1], "other": "Something else, of its own."}[kind].strip()
    before = dict(model.chat)
    laid = layout(final, state)
    facts = Capabilities(max_length=limit, exact_resends=True)
    made = parts_of(Outbound("k", final), facts, pieces=laid.pieces, above=laid.above)
    above = len(made.parts) - len(parts_of(Outbound("k", final), facts, pieces=laid.pieces).parts)
    answer = model.finish(Parts(made.parts, (*made.surplus, *laid.stale)), refused)
    assert len(answer) == len(set(answer)), "no message holds two parts"
    assert sorted(answer, key=lambda message: int(message[1:])) == answer, "they stand in their order"

    def read(messages: list[str]) -> str:
        text, count = "".join(model.chat[message] for message in messages), len(answer) - above
        for number in range(1, count + 1):
            text = text.replace(f"({number}/{count})", "") if count > 1 else text
        return "".join(text.split())

    shown = read(answer[above:])
    if final:
        assert shown == "".join(final.split())
    assert not any(CURSOR in model.chat[message] for message in answer)
    # What else is there was there before, and belongs to an earlier stretch or has no name to edit it by.
    for message in model.chat.keys() - set(answer):
        assert message in before
        owner = next((one for one in state.messages if one.id == message), None)
        assert message.startswith("?") or owner is None or owner.segment < state.segment or not final
    if limit != 60:  # which is less than a message that is being written may hold
        whole = read(sorted(model.chat, key=lambda message: int(message[1:])))
        for one in state.messages:
            if one.segment < state.segment and not any(message.nameless for message in state.messages):
                assert "".join(one.text.split()) in whole, "what was said before a boundary is whole"
        assert not any(CURSOR in model.chat[one.id] for one in state.messages if one.id in model.chat)


def test_it_is_still_when_what_was_closed_reads_as_it_should() -> None:
    said = Text("Let me look for it in the garden.")

    def after(*events: Event) -> bool:
        state = State(STYLE)
        for number, event in enumerate(events):
            state, _ = progress.step(state, event, 10.0 * number)
        return progress.is_still(state)

    assert after()
    assert not after(said), "it is being sent"
    assert after(said, OK), "it is written to, and nothing closed waits"
    assert not after(said, OK, Boundary()), "its cursor is still there"
    assert after(said, OK, Boundary(), OK)
    assert not after(said, LATER, Boundary())
    assert after(said, Failed(Failure.NEVER), Boundary()), "nothing more comes of it"
