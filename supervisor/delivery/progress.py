"""The answer that is being written, as its chat sees it: sent once, then edited. `state, event, now -> state, actions`.

Pure: the text that comes in is what may be shown of it (`directives.Screen`), the shell that calls the platform is
`streams`. Each message shows a stretch of that text. A message is *closed* when no more text goes into it: the next one
begins below, after a tool's call or when the platform's limit is near.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hermesd.adapters.text import Unit, characters

from .parts import Piece

SHORTEST = 4
"""Characters below which a text is no message of its own yet."""

STRIKES = 3
"""Failed calls in a row that end the progress of an answer."""

SLOWEST = 10.0
"""Seconds between edits, at most, after failures."""

UNLIMITED = 16384
"""Units of one message where the platform has no limit: each edit carries the whole of it."""


@dataclass(frozen=True, slots=True)
class Style:
    """How often, and how it looks: configuration and platform."""

    interval: float = 0.8  # seconds between edits
    threshold: int = 24  # characters since the last edit that are shown sooner
    cursor: str = " \u2589"
    limit: int = 0  # of one message, measured by ``unit``
    unit: Unit = characters

    @property
    def safe(self) -> int:
        """What a message may hold while it is written."""
        return max(500, (self.limit or UNLIMITED) - self.unit(self.cursor) - 100)


@dataclass(frozen=True, slots=True)
class Known:
    """A message of this answer from before: an earlier try of the turn, or an earlier life of hermesd."""

    begins: int
    id: str
    segment: int = 0
    text: str = ""  # all of it, where it was closed


@dataclass(frozen=True, slots=True)
class Message:
    """``text`` begins at character ``begins`` of the visible text; ``segment`` counts the boundaries before it."""

    segment: int
    begins: int
    text: str
    id: str = ""
    shown: str = ""  # how it reads at the platform, as far as we know
    closed: bool = False
    dead: bool = False  # it can no longer be edited

    @property
    def nameless(self) -> bool:
        """It is there, under an id that its platform does not say."""
        return bool(self.shown) and not self.id

    def wanted(self, cursor: str) -> str:
        return self.text.rstrip() if self.closed else self.text.rstrip() + cursor


@dataclass(frozen=True, slots=True)
class State:
    """``calling``: index of the message that the platform is being called for, -1: none. Times are monotonic."""

    style: Style
    known: tuple[Known, ...] = ()  # of before, which no message has taken over yet
    messages: tuple[Message, ...] = ()
    segment: int = 0
    length: int = 0  # characters of visible text so far
    new: int = 0  # of them in the open message, since it was last called for
    since: float = 0.0  # the end of the last call, or the first text
    interval: float = 0.0  # as it is now; 0: as in ``style``
    strikes: int = 0
    not_before: float = 0.0
    calling: int = -1
    saying: str = ""  # what it is called with
    over: bool = False  # no more progress: only the final answer is left
    uncertain: bool = False  # a beginning of it may be there under an id that nobody knows: what comes says so

    @property
    def pace(self) -> float:
        return self.interval or self.style.interval

    @property
    def open(self) -> Message | None:
        """The message that further text goes into."""
        last = self.messages[-1] if self.messages else None
        return last if last is not None and not last.closed else None


# ---- events


@dataclass(frozen=True, slots=True)
class Text:
    """More visible text."""

    text: str


@dataclass(frozen=True, slots=True)
class Boundary:
    """Something else comes into the chat, or the agent calls a tool: what follows is a message below it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that `WakeAt` named."""


@dataclass(frozen=True, slots=True)
class Done:
    """The call succeeded. ``message_id`` "": the platform does not say which."""

    message_id: str


class Failure(StrEnum):
    """What a failed call means."""

    LATER = "later"  # flood, or a cut call whose repetition is harmless
    UNKNOWN = "unknown"  # a send that may have arrived, under an id that nobody knows
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Failed:
    """The call failed; nothing before ``after`` seconds."""

    failure: Failure
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """The call was not made: the platform's rates allow it at ``until`` at the earliest."""

    until: float


@dataclass(frozen=True, slots=True)
class End:
    """The answer is whole, or will never be: no further call."""


Event = Text | Boundary | Tick | Done | Failed | Held | End


# ---- actions


@dataclass(frozen=True, slots=True)
class Send:
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    index: int
    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    at: float


@dataclass(frozen=True, slots=True)
class Keep:
    """Write down where this message is, for whoever has to finish it."""

    index: int


Action = Send | Edit | WakeAt | Keep


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """What an event means. After a `Send` or `Edit` the next thing that is told of it is `Done`, `Failed` or `Held`."""
    kept: tuple[Action, ...] = ()
    match event:
        case Text(text):
            state = _more(state, text, now)
        case Boundary():
            state, kept = _closed(state)
        case Tick():
            pass
        case Done(message_id):
            state, kept = _done(state, message_id, now)
        case Failed(failure, after):
            state = _failed(state, failure, after, now)
        case Held(until):
            state = replace(state, calling=-1, not_before=max(until, state.not_before))
        case End():
            state = replace(state, over=True)
    state, action = _next(state, now)
    return state, (*kept, action) if action is not None else kept


def is_still(state: State) -> bool:
    """Whether all that is not written to any more reads as it should, or never will."""
    closed = (message for message in state.messages if message.closed and message.text.strip())
    return state.over or (state.calling < 0 and all(one.shown == one.wanted("") for one in closed))


def _more(state: State, text: str, now: float) -> State:
    if state.open is None:
        started = text.lstrip()
        state = replace(state, length=state.length + len(text) - len(started))
        if not started:
            return state
        text = started
        if not state.messages:
            state = replace(state, since=now)
        state = _begun(state, state.length)
    state = replace(state, length=state.length + len(text), new=state.new + len(text))
    assert state.open is not None
    state = _with(state, -1, text=state.open.text + text)
    return _cut(state)


def _begun(state: State, begins: int) -> State:
    """A new message; one of before that began there, or was the first, is taken over."""
    taken = next((one for one in state.known if one.begins == begins), None)
    if taken is None and not state.messages and state.known:
        taken = state.known[0]
    message = Message(state.segment, begins, "", taken.id if taken is not None else "")
    return replace(
        state, messages=(*state.messages, message), known=tuple(one for one in state.known if one is not taken)
    )


def _cut(state: State) -> State:
    """While the open message holds too much: close it at a line's end, and go on below."""
    safe, unit = state.style.safe, state.style.unit
    while (message := state.open) is not None and unit(message.text) > safe:
        end = used = 0
        for char in message.text:
            used += unit(char)
            if used > safe:
                break
            end += 1
        line = message.text.rfind("\n", end // 2, end)
        at = line if line > 0 else end
        tail = message.text[at:].lstrip("\n") if line > 0 else message.text[at:]
        begins = message.begins + len(message.text) - len(tail)
        state = replace(_with(state, -1, text=message.text[:at], closed=True), new=len(tail))
        if tail:
            state = _with(_begun(state, begins), -1, text=tail)
    return state


def _closed(state: State) -> tuple[State, tuple[Action, ...]]:
    message = state.open
    if message is None or len(message.text.strip()) < SHORTEST:
        return state, ()  # too short to stand alone: what follows goes on with it
    state = replace(_with(state, -1, closed=True), segment=state.segment + 1, new=0)
    kept = [index for index, one in enumerate(state.messages) if one.segment == message.segment and one.id]
    return state, tuple(map(Keep, kept))


def _done(state: State, message_id: str, now: float) -> tuple[State, tuple[Action, ...]]:
    index = state.calling
    message = state.messages[index]
    state = replace(
        state,
        calling=-1,
        since=now,
        strikes=0,
        interval=max(state.style.interval, state.pace / 2) if state.interval else 0.0,
        over=state.over or not (message_id or message.id),
    )
    state = _with(state, index, id=message_id or message.id, shown=state.saying)
    return state, (Keep(index),) if message_id and message_id != message.id else ()


def _failed(state: State, failure: Failure, after: float, now: float) -> State:
    index = state.calling
    strikes = state.strikes + 1
    pace = min(SLOWEST, 2 * state.pace)
    over = state.over or failure is not Failure.LATER or strikes >= STRIKES
    state = replace(
        state, calling=-1, since=now, strikes=strikes, interval=pace, not_before=now + max(after, pace), over=over,
        uncertain=state.uncertain or failure is Failure.UNKNOWN,
    )  # fmt: skip
    message = state.messages[index]
    return _with(state, index, shown="", dead=message.dead or (failure is Failure.NEVER and bool(message.id)))


def _next(state: State, now: float) -> tuple[State, Action | None]:
    """The oldest message that does not read as it should, if its time has come."""
    if state.over or state.calling >= 0:
        return state, None
    for index, message in enumerate(state.messages):
        wanted = message.wanted(state.style.cursor)
        if message.id and message.shown == wanted:
            continue
        if not message.id and len(message.text.strip()) < (1 if message.closed else SHORTEST):
            continue
        due = state.not_before
        if not message.closed:
            # After a failure only time counts: text comes fast, and would wear the platform down.
            soon = state.new >= state.style.threshold and not state.interval
            due = max(due, now if soon else state.since + state.pace)
        if due > now:
            return state, WakeAt(due)
        state = replace(state, calling=index, saying=wanted, new=state.new if message.closed else 0)
        if message.id:
            return state, Edit(index, message.id, wanted)
        return state, Send(index, wanted)
    return state, None


def _with(state: State, index: int, **changes: object) -> State:
    messages = list(state.messages)
    messages[index] = replace(messages[index], **changes)  # type: ignore[arg-type]
    return replace(state, messages=tuple(messages))


# ---- the end


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the final answer goes. ``begun``: what stays above it belongs to the same answer."""

    pieces: tuple[Piece, ...]
    begun: bool = False
    uncertain: bool = False  # as in `State`
    above: tuple[Piece, ...] = ()  # what stays above it and does not read right yet, or is not there yet
    stale: tuple[str, ...] = ()  # ids of messages that show nothing of the answer


def layout(final: str, state: State, *, error: bool = False) -> Layout:
    """Lay the final text over what is shown. Text from before a boundary that the final text does not begin with stays
    as it is; an error does not take the place of what had been written.
    """
    segments = _segments(state)
    stale = [known.id for known in state.known]
    stale += [message.id for message in state.messages if message.dead]
    last = segments.pop()
    if error:
        head = [Piece(last.text.strip(), last.ids)] if last.text.strip() and (last.ids or not last.nameless) else []
        pieces = [*head, Piece(final, () if head else last.ids)]
        above = segments
    else:
        first, ends = _matching(final, [segment.text for segment in segments])
        above = segments[:first]
        begins, pieces = 0, []
        for segment, end in zip(segments[first:], ends, strict=True):
            pieces.append(Piece(final[begins:end].strip("\n"), segment.ids))
            begins = end
        rest = final[begins:].lstrip() if pieces else final
        if rest or last.ids or not pieces:
            pieces.append(Piece(rest, last.ids))
    staying = [message for segment in above for message in segment.messages]
    begun = any(message.id or message.shown for message in staying)
    return Layout(tuple(pieces), begun, state.uncertain, _unfinished(state, staying), tuple(stale))


def _unfinished(state: State, staying: Sequence[Message]) -> tuple[Piece, ...]:
    """Of the messages that stay. A platform that says no ids shows nothing but answers after its first message."""
    unnamed = any(message.nameless for message in state.messages)
    return tuple(
        Piece(message.text.rstrip(), () if message.dead or not message.id else (message.id,))
        for message in staying
        if message.text.strip() and message.shown != message.wanted("") and (message.id or not unnamed)
    )


@dataclass(frozen=True, slots=True)
class _Segment:
    messages: tuple[Message, ...]

    @property
    def text(self) -> str:
        return "".join(message.text for message in self.messages)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(message.id for message in self.messages if message.id and not message.dead)

    @property
    def nameless(self) -> bool:
        return any(message.nameless for message in self.messages)


def _segments(state: State) -> list[_Segment]:
    """By boundary, oldest first; the last one is the one that is written to, and may be empty."""
    found = [
        _Segment(tuple(message for message in state.messages if message.segment == number))
        for number in range(state.segment + 1)
    ]
    return [segment for segment in found[:-1] if segment.messages] + found[-1:]


def _matching(final: str, closed: Sequence[str]) -> tuple[int, list[int]]:
    """The first of the closed stretches from which on they are the beginning of the final text, and where each ends in
    it. Blank space does not count.
    """
    for first in range(len(closed) + 1):
        at, ends = 0, []
        for text in closed[first:]:
            at = _end_of(text, final, at)
            if at < 0:
                break
            ends.append(at)
        else:
            return first, ends
    raise AssertionError("no stretch at all always fits")


def _end_of(text: str, final: str, at: int) -> int:
    """Where ``text`` ends that begins in ``final`` at ``at``; -1: it does not."""
    for char in text:
        if char.isspace():
            continue
        while at < len(final) and final[at].isspace():
            at += 1
        if at >= len(final) or final[at] != char:
            return -1
        at += 1
    return at


def found(state: State, ids: Mapping[int, str]) -> State:
    """The same with the ids, by number, of messages that turned out to be there; one without text now is of before."""
    messages, known = list(state.messages), list(state.known)
    there = {message.id for message in messages} | {one.id for one in known}
    for number, message_id in ids.items():
        if number < len(messages) and not messages[number].id:
            messages[number] = replace(messages[number], id=message_id)
        elif message_id not in there:
            known.append(Known(0, message_id))
    return replace(state, messages=tuple(messages), known=tuple(known))


def restored(style: Style, known: Sequence[Known], *, uncertain: bool = False) -> State:
    """An answer of which messages of before are at the platform, and no text is known: only its end can come."""
    # How one of them reads is not known: it was written down as closed before its last edit was made.
    messages = tuple(Message(one.segment, one.begins, one.text, one.id, closed=bool(one.text)) for one in known)
    segment = max((one.segment for one in known), default=0)
    if messages and all(message.closed for message in messages if message.segment == segment):
        segment += 1
    return State(style, messages=messages, segment=segment, over=True, uncertain=uncertain)
