"""The contract between the core and a way in (a chat platform, the terminal, an HTTP API).

An adapter turns its platform's events into `Inbound` values and hands them to a `Receiver`; the core calls the adapter
back with a `Target`. Six things are required of an adapter. Everything else is an optional capability: a small protocol
that the core looks for with ``isinstance`` and does without where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from hermesd.adapters.errors import AdapterError
from hermesd.adapters.text import Unit, characters


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """One entry of the configuration's ``platforms:``. Secrets do not show in its repr.

    ``extra`` holds what only the adapter understands; the platform's section at the top level of config.yaml
    (``telegram: {require_mention: …}``) lies below it. ``environ`` holds the variables that are this platform's
    (``TELEGRAM_*``, ``HERMES_TELEGRAM_*``), which go before both (`hermesd.adapters.options`).
    """

    name: str
    enabled: bool = True
    token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    reply_to_mode: str = "first"  # which parts of an answer quote the question: "off" | "first" | "all"
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Sticker:
    """What a platform says of a sticker besides its file. ``unique_id`` is the same for everybody who sends it."""

    unique_id: str
    emoji: str = ""
    set_name: str = ""
    animated: bool = False  # an animation or a video: nothing that a model of pictures could look at
    description: str = ""  # what an agent has seen in it before; filled in by the core


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a message.

    One that came with a message is at first only at its platform: ``path`` is "" and ``remote`` is how the adapter
    names it there, for `CanFetch`; the core has it fetched after the access gate let its message in.
    """

    path: str
    name: str
    mime: str = "application/octet-stream"
    kind: str = "document"  # "image" | "animation" | "voice" | "audio" | "video" | "document" | "sticker"
    remote: str = ""
    size: int = 0  # bytes, as the platform says; 0 = unknown
    sticker: Sticker | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """One entry of a history that the caller brings along (the api_server's stateless requests)."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far an adapter has read a stream of its platform; the core keeps the latest value of each name."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where something goes. ``reply_to`` is the `Inbound.message_id` it answers, "" when it answers none."""

    platform: str
    chat_id: str
    thread_id: str = ""
    reply_to: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where the answer to an event goes, when that is not the one who sent it: nobody waits there for just this one.

    ``target`` with the chat "" is the home channel of its platform. ``verbatim``: no agent is asked, the message's own
    text is what goes there.
    """

    target: Target
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message of one person, whatever the platform.

    ``message_id`` is unique within (platform, chat): de-duplication is by the three of them. Text is valid Unicode
    without lone surrogates or NUL (`hermesd.adapters.text.clean`).
    """

    platform: str
    chat_id: str
    message_id: str
    user_id: str  # "" when the platform does not say: never allowed
    text: str
    user_name: str = ""
    user_id_alt: str = ""  # a second, stabler id of the same person, where a platform has one
    chat_type: str = "dm"  # "dm" | "group" | "channel" | "thread"
    chat_name: str = ""
    thread_id: str = ""
    attachments: tuple[Attachment, ...] = ()
    trusted: bool = False  # the way in has already decided who this is (terminal, control socket, API key)
    history: tuple[Utterance, ...] | None = None  # given: the session is this request only and ends with the reply
    sent_at: float = 0.0  # Unix seconds by the platform's clock; 0 = unknown
    reply_to_id: str = ""  # the message that this one quotes
    reply_to_text: str = ""  # and what it says, where the platform tells
    album: str = ""  # messages with the same one are one message to the agent
    cursor: Cursor | None = None  # kept in the transaction that keeps the message
    delivery: Delivery | None = None  # with ``history``: a request that outlives its caller, and also hermesd
    known_for: float = 0.0  # seconds after which its id, once it is over, may be another message's; 0 = never


@dataclass(frozen=True, slots=True)
class Question:
    """What an agent asks. ``ask`` is its id, which a `Press` brings back; without choices any text is an answer."""

    ask: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outbound:
    """One message to a chat. ``key`` is the same for every attempt: a platform that can, makes resends exact by it.

    The core has cut it to what the platform takes (`Capabilities`): text within the limit, or one file with a text that
    serves as its caption, or the files of one album, whose text is the first one's caption. Text is Markdown where
    `Capabilities.markdown` says so, else plain.
    """

    key: str
    text: str
    files: tuple[Attachment, ...] = ()
    # "answer" | "error" | "notice" (a word of hermesd itself) | "extra" (an agent's own send) | "question" (it asks)
    # | "progress" (an answer that is still being written: shown without a notification where the platform can)
    kind: str = "answer"
    final: bool = True  # False: more will follow for the same reply_to
    usage: dict[str, Any] = field(default_factory=dict)
    question: Question | None = None
    quotes: bool = True  # whether it is shown as a reply to ``Target.reply_to``; the core applies reply_to_mode
    album: str = ""  # the core's own: parts with the same one go in one call, as long as the platform takes them so


@dataclass(frozen=True, slots=True)
class Sent:
    """What the platform says of a message that it took. ``others``: the ids of an album's files behind the first, where
    each is a message of its own.
    """

    message_id: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` calls in any ``seconds``."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Bursts:
    """How long to wait for more of a message, in seconds: clients cut long texts, people send lines, and an album
    comes in pieces. The defaults are those of hermes-agent.
    """

    text: float = 0.6  # after any text
    cut: float = 2.0  # after one that its client has probably cut
    cut_from: int = 0  # which is one of at least so many units; 0 = clients do not cut
    album: float = 0.8  # after a piece of an album


@dataclass(frozen=True, slots=True)
class Albums:
    """Files that the platform shows together when they come in one call. ``sort`` gives a word for a file: only files
    with the same one may be in one album, and one with "" is never in any.
    """

    sort: Callable[[Attachment], str]
    most: int = 10  # files
    most_bytes: int = 0  # of all of them; 0 = no limit


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about one chat of a platform that the core decides by."""

    max_length: int = 0  # of one message, measured by ``unit``; 0 = no limit
    unit: Unit = characters
    markdown: bool = False
    max_caption: int = 0  # of the text beside a file; 0 = a file comes without text
    bare: frozenset[str] = frozenset()  # kinds of files beside which no text can stand: it is a message of its own
    max_file_bytes: int = 0  # 0 = the platform takes no files: they are named in the text instead
    albums: Albums | None = None  # None: each file is a message
    exact_resends: bool = False  # `Outbound.key` makes a second send of the same message harmless, for ever
    overall_rate: Rate | None = None  # all chats of this adapter together
    chat_rate: Rate | None = None  # this chat, edits included
    progress_rate: Rate | None = None  # answers that are being written, in all chats together; besides the others
    bursts: Bursts | None = None  # None: each message stands for itself


@dataclass(frozen=True, slots=True)
class State:
    """How the connection is, for ``hermesctl status``: a word of the reconnect table, since when, and why."""

    word: str  # "connecting" | "online" | "backing_off" | "conflict" | "refused" | "unavailable" | "stopped"
    detail: str = ""
    since: float = 0.0
    received_at: float = 0.0  # when the platform last gave a sign of life; 0 = never
    fix: str = ""  # what a person can do about it


@dataclass(frozen=True, slots=True)
class Press:
    """Somebody pressed a button under a question. ``message_id`` is the question's message."""

    platform: str
    chat_id: str
    message_id: str
    user_id: str
    ask: str
    choice: str
    user_name: str = ""
    user_id_alt: str = ""
    thread_id: str = ""
    number: int = -1  # of the choice, from 0, for a platform that may show it otherwise than it reads; -1 = not said


@dataclass(frozen=True, slots=True)
class Pressed:
    """What became of a press: whether it counted, and a word for the one who pressed."""

    taken: bool
    text: str


class Receiver(Protocol):
    """The core's side of an adapter."""

    async def receive(self, inbound: Inbound) -> bool:
        """Journal the message; returns once it is on disk, False for one that was there already.

        The adapter confirms it to its platform only after this returned. Raises `hermesd.adapters.errors.NotAccepted`
        when it could not be kept (disk full, draining, a `Delivery` to nowhere): the adapter must not confirm it.
        """

    def cancel(self, inbound_chat: Target) -> None:
        """The one who asked has gone (an HTTP client hung up): interrupt what runs for that ``reply_to``."""

    async def pressed(self, press: Press) -> Pressed:
        """A button was pressed; only who may talk to the agent may press. Quick: platforms wait for seconds only."""

    def lost(self, platform: str, error: AdapterError) -> None:
        """The connection has ended and will not come back by itself. The core stops the adapter and decides by the kind
        of ``error`` what next: `Conflict` and `Unauthorized` have states of their own, everything else backs off.
        """

    async def cursor(self, platform: str, name: str) -> str:
        """The latest value that was kept under this name, "" for none."""

    async def cursors(self, platform: str) -> Mapping[str, str]:
        """All of them."""

    async def keep_cursor(self, platform: str, cursor: Cursor) -> None:
        """Keep one without a message; on disk when this returns. Raises `NotAccepted`."""

    def attended(self, chat: Target) -> None:
        """Somebody looks at this chat now: send what was `hermesd.adapters.errors.Unattended` before, oldest first."""


@runtime_checkable
class Adapter(Protocol):
    """The required six. None of them blocks. ``stop`` is called once after ``start``, whatever that ended with; to
    connect again, an adapter is made anew.
    """

    name: str

    async def start(self, receiver: Receiver) -> None:
        """Connect. Returns when the way in is usable, or raises an `hermesd.adapters.errors.AdapterError`, of which
        `StartLater` (and whatever else a network does), `Conflict` and `Unauthorized` say what to do next.
        """

    async def stop(self) -> None:
        """Disconnect and end every task of this adapter. No message is received after it returned."""

    async def send(self, target: Target, message: Outbound) -> Sent:
        """Deliver one message. Raises `Retry`, `Uncertain`, `Unattended`, `Gone`, `Rejected` or
        `Unauthorized` (`hermesd.adapters.errors`).
        """

    def capabilities(self, target: Target) -> Capabilities:
        """Facts about this chat."""

    def state(self) -> State:
        """How the connection is now."""

    def describe(self) -> dict[str, Any]:
        """For ``hermesctl status``: account, address; no secrets. ``warnings`` are sentences for ``doctor``, ``faults``
        for ``status`` too: what does not work as its owner meant it.
        """


_C = TypeVar("_C")


def capability(adapter: object, wanted: type[_C]) -> _C | None:
    """The adapter as one that has an optional capability, or None."""
    has = all(getattr(adapter, name, None) is not None for name in _asked_for(wanted))
    return cast(_C, adapter) if has else None


_ASKED_FOR: dict[object, tuple[str, ...]] = {}


def _asked_for(wanted: type) -> tuple[str, ...]:
    """The members of a capability. ``isinstance`` looks for them anew each time, and each message asks for many."""
    known = _ASKED_FOR.get(wanted)
    if known is None:
        protocols = (base for base in wanted.__mro__ if base is not Protocol and getattr(base, "_is_protocol", False))
        names = {name for base in protocols for name in (*vars(base), *base.__annotations__)}
        known = _ASKED_FOR[wanted] = tuple(name for name in names if not name.startswith("_"))
    return known


@runtime_checkable
class CanStream(Protocol):
    """The way in shows text as it comes, without edits (a terminal, server-sent events)."""

    def stream(self, target: Target, text: str) -> None:
        """More text of the answer to ``target.reply_to``. What was streamed is not repeated by `Adapter.send`, whose
        final message holds the whole text all the same, for ways in that want it whole.
        """


@runtime_checkable
class CanNotice(Protocol):
    """The way in can show a word of hermesd beside the conversation (an SSE comment, a terminal's stderr)."""

    def notice(self, target: Target, text: str) -> None:
        """A waiting turn's place, a tool's progress. Never part of the content; may be dropped."""


@runtime_checkable
class CanEdit(Protocol):
    """A message that was sent can be changed: what progressive answers and exact finals are made of."""

    async def edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        """Make the message read so. One that reads so already is a success. Raises what `Adapter.send` raises; `Gone`
        when the message is not there any more, `Rejected` when it can no longer be edited.
        """


@runtime_checkable
class CanFind(Protocol):
    """The platform can be asked whether a message arrived whose call was cut. The core asks before such a one goes
    again; without this it goes with a mark.
    """

    async def find(
        self, target: Target, forms: Sequence[Outbound], *, since: float, others: Collection[str]
    ) -> str | None:
        """The id of a message that is there in one of these forms. None: it is not, or `Adapter.send` of the same key
        is harmless.

        ``since``: Unix seconds before its first try, 0 = unknown. ``others``: ids that are other messages', which may
        look like it. Raises `Uncertain` where nobody can tell, and otherwise what `Adapter.send` raises.
        """


@runtime_checkable
class CanDelete(Protocol):
    """A message that was sent can be taken back."""

    async def delete(self, target: Target, message_id: str) -> None:
        """Take it back; one that is not there any more is a success. Raises what `Adapter.send` raises."""


@runtime_checkable
class CanType(Protocol):
    """The way in can show that somebody writes, for some seconds; the core repeats it every two."""

    async def typing(self, target: Target) -> None:
        """Show it. Failures are nobody's affair: raises `AdapterError` only."""


@runtime_checkable
class CanReact(Protocol):
    """A message can carry a sign of ours."""

    async def react(self, target: Target, sign: str) -> None:
        """Put this emoji on ``target.reply_to`` in place of an earlier one of ours; "" takes that one away."""


@runtime_checkable
class HasButtons(Protocol):
    """`Outbound.question` is shown with a button for each choice; a press comes back by `Receiver.pressed`."""

    async def settle(self, target: Target, message_id: str, text: str) -> None:
        """The question of this message is over: take its buttons away and show ``text`` in its place."""


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """A slash command for the platform's own menu. ``argument`` describes what may follow it, "" for nothing."""

    name: str
    help: str
    argument: str = ""


@runtime_checkable
class HasMenu(Protocol):
    """The platform shows commands natively."""

    async def show_menu(self, entries: Sequence[MenuEntry]) -> None:
        """Register them; called after each start. Raises `AdapterError`."""


@runtime_checkable
class CanFetch(Protocol):
    """Files of messages are fetched when the core wants them."""

    async def fetch(self, file: Attachment, directory: Path, limit: int) -> Attachment:
        """Store the file in ``directory`` (`hermesd.adapters.media`) and return it with its ``path``.

        Raises `Retry` for what may pass, `Gone` or `Rejected` with a reason for the user: larger than ``limit`` bytes,
        not what its name says, no longer there.
        """


@dataclass(frozen=True, slots=True)
class Identity:
    """What one connector at a time may use on a machine. ``secret`` is only ever hashed (SHA-256)."""

    scope: str  # hermes-agent's word for its lock: "telegram-bot-token"
    secret: str = field(repr=False)


@runtime_checkable
class HasIdentity(Protocol):
    """Two connectors with the same token would take each other's messages."""

    def identity(self) -> Identity | None:
        """What the core locks machine-wide before `Adapter.start`; None where nothing can clash."""


@dataclass(frozen=True, slots=True)
class Route:
    """A named address at which programs hand in events (platform ``webhook``)."""

    name: str
    url: str
    source: str  # the file that it is written in
    deliver: Delivery
    events: tuple[str, ...] = ()  # that it takes; () = all
    checks: str = ""  # how a sender proves who it is, for people; "" = it need not
    description: str = ""
    problem: str = ""  # why it takes nothing now; "" = it does
    received_at: float = 0.0  # Unix seconds of the last event; 0 = none since the way in is up
    counts: Mapping[str, int] = field(default_factory=dict)  # what became of the requests since then


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A route that a person has made or changed. ``secret`` is for the sender, and shown this once."""

    route: Route
    created: bool
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """A request as a sender would make it, signed; whoever has it can send it once."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: str = ""


@runtime_checkable
class HasRoutes(Protocol):
    """The way in is a set of routes, some of which a person makes and removes while it runs. Each call raises
    `Rejected` with what is wrong and `AdapterError.fix`.
    """

    def routes(self) -> Sequence[Route]:
        """All of them, as they are now."""

    async def subscribe(self, name: str, fields: Mapping[str, Any]) -> Subscribed:
        """Make a route, or change one that was made so; on disk and in effect when this returns."""

    async def unsubscribe(self, name: str) -> None:
        """Take one away that was made by `subscribe`."""

    def sample(self, name: str, event: str, payload: str) -> Sample:
        """A request that this route takes. ``payload`` "" is one for tests, ``event`` "" one that the route takes."""


class Front(Protocol):
    """What shows an attached chat: a terminal, one connection of the control socket. Called on the event loop."""

    async def answer(self, reply_to: str, message: Outbound) -> None:
        """Show one message. Returns once it is shown; raises `hermesd.adapters.errors.Gone` when nobody looks any more.

        ``message.final`` and ``reply_to`` together say that the message of this id has been answered.
        """

    def stream(self, reply_to: str, text: str) -> None:
        """More text of the answer to ``reply_to``; must not block. `answer` brings the whole text all the same."""

    def notice(self, reply_to: str, text: str) -> None:
        """A word beside the conversation; must not block, may be dropped."""

    def closed(self) -> None:
        """The adapter stops: nothing more will be shown, and nothing more is taken."""


class AttachedChat(Protocol):
    """One `Front` on one chat, until it is detached."""

    name: str

    async def say(self, text: str, message_id: str = "") -> str:
        """Hand in a message; returns its id once it is journalled, and raises `NotAccepted` when it could not be.

        The answer may be faster than this returns: who must know the id before, or repeats a message after a cut,
        chooses it (unique within the chat).
        """

    def detach(self) -> None:
        """Stop showing. What runs goes on, and its answer goes to whoever is attached to the chat then or later."""


@runtime_checkable
class CanAttach(Protocol):
    """The way in is a set of chats that terminals attach to (platform ``local``)."""

    def attach(self, name: str, front: Front) -> AttachedChat:
        """Show the chat ``name`` ("" is the default one) on ``front``. Raises `Rejected` for a name it cannot have."""


@runtime_checkable
class HasConsole(Protocol):
    """The way in can talk on this process's own stdin, stdout and stderr (``hermesd --console``)."""

    async def converse(self, name: str = "") -> int:
        """Talk until the input ends and every line of it is answered. Returns the exit status: 0, or 1 after an error.

        Called once, after `Adapter.start`; `Adapter.stop` ends it early.
        """

    def interrupt(self) -> bool:
        """SIGINT came. True: a turn was running and has been told to stop; False: nobody talks, stop the program."""
