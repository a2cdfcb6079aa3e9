"""The contract between the core and a way in (a chat platform, the terminal, an HTTP API).

An adapter turns its platform's events into `Inbound` values and hands them to a `Receiver`; the core calls the adapter
back with a `Target`. Six things are required of an adapter. Everything else is an optional capability: a small protocol
that the core looks for with ``isinstance`` and does without where it is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """One entry of the configuration's ``platforms:``. Secrets do not show in its repr."""

    name: str
    enabled: bool = True
    token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message, already on this machine."""

    path: str
    name: str
    mime: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One entry of a history that the caller brings along (the api_server's stateless requests)."""

    role: str
    text: str


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


@dataclass(frozen=True, slots=True)
class Target:
    """Where something goes. ``reply_to`` is the `Inbound.message_id` it answers, "" when it answers none."""

    platform: str
    chat_id: str
    thread_id: str = ""
    reply_to: str = ""


@dataclass(frozen=True, slots=True)
class Outbound:
    """One message to a chat. ``key`` is the same for every attempt: a platform that can, makes resends exact by it."""

    key: str
    text: str
    files: tuple[Attachment, ...] = ()
    # "answer" | "error" | "notice" (a word of hermesd itself) | "extra" (an agent's own send) | "question" (it asks)
    kind: str = "answer"
    final: bool = True  # False: more will follow for the same reply_to
    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """What the platform says of a message that it took."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about a platform that the core decides by."""

    max_length: int = 0  # in the platform's own units; 0 = no limit
    markdown: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """How the connection is, for ``hermesctl status``: a word of the reconnect table, since when, and why."""

    word: str  # "connecting" | "online" | "backing_off" | "conflict" | "refused" | "unavailable" | "stopped"
    detail: str = ""
    since: float = 0.0
    received_at: float = 0.0  # when the platform last gave a sign of life; 0 = never
    fix: str = ""  # what a person can do about it


class Receiver(Protocol):
    """The core's side of an adapter."""

    async def receive(self, inbound: Inbound) -> bool:
        """Journal the message; returns once it is on disk, False for one that was there already.

        The adapter confirms it to its platform only after this returned. Raises `hermesd.adapters.errors.NotAccepted`
        when it could not be kept (disk full, draining): the adapter must not confirm it.
        """

    def cancel(self, inbound_chat: Target) -> None:
        """The one who asked has gone (an HTTP client hung up): interrupt what runs for that ``reply_to``."""

    def attended(self, chat: Target) -> None:
        """Somebody looks at this chat now: send what was `hermesd.adapters.errors.Unattended` before, oldest first."""


@runtime_checkable
class Adapter(Protocol):
    """The required six. None of them blocks; ``start`` and ``stop`` are called once each, but for `StartLater`."""

    name: str

    async def start(self, receiver: Receiver) -> None:
        """Connect. Returns when the way in is usable, or raises `hermesd.adapters.errors.AdapterError`.

        After `hermesd.adapters.errors.StartLater` it is called again.
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
        """For ``hermesctl status``: account, address; no secrets."""


_C = TypeVar("_C")


def capability(adapter: object, wanted: type[_C]) -> _C | None:
    """The adapter as one that has an optional capability, or None."""
    return adapter if isinstance(adapter, wanted) else None


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
