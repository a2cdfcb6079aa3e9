"""Is a message for us, and where is its conversation? Pure; the order of the questions is hermes-agent's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from .options import Options


class Kind(StrEnum):
    """What sort of place a message was written in."""

    DM = "dm"
    CHANNEL = "channel"
    THREAD = "thread"
    POST = "post"  # a thread whose parent is a forum or a media channel: its first message is in the thread itself


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message was written. Ids are Discord's, as text."""

    kind: Kind
    channel: str
    parent: str = ""  # of a thread
    name: str = ""
    may_thread: bool = False  # whether we may start a thread at a message here

    @property
    def names(self) -> frozenset[str]:
        """The ids that a list of channels may hold for this place."""
        return frozenset(name for name in (self.channel, self.parent) if name)


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote it, as far as it matters here."""

    id: str
    bot: bool = False


@dataclass(frozen=True, slots=True)
class Chat:
    """The conversation that a message belongs to."""

    type: str  # as `hermesd.adapters.contract.Inbound.chat_type`
    id: str
    thread: str = ""


@dataclass(frozen=True, slots=True)
class NotForUs:
    """Why a message is left alone; for the log."""

    why: str


def address(
    options: Options, place: Place, author: Author, message: str, *, me: str, mentioned: bool, joined: Collection[str]
) -> Chat | NotForUs:
    """The chat of a message with the id ``message``, or why it is not for us.

    ``joined`` holds the threads in which we have answered. A thread that does not exist yet has the id that Discord
    will give it, which is that of the message it starts from.
    """
    if author.id == me:
        return NotForUs("our own")
    if author.bot and (options.allow_bots == "none" or (options.allow_bots == "mentions" and not mentioned)):
        return NotForUs("written by a bot")
    if place.kind is Kind.DM:
        return Chat("dm", place.channel)
    if options.allowed_channels and not place.names & options.allowed_channels:
        return NotForUs("the channel is not among the allowed ones")
    if place.names & options.ignored_channels:
        return NotForUs("the channel is ignored")
    free = bool(place.names & options.free_channels)
    if not (free or mentioned or not options.require_mention or place.channel in joined):
        return NotForUs("it does not mention us")
    if place.kind is not Kind.CHANNEL:
        return Chat("thread", place.parent or place.channel, place.channel)
    threads = options.auto_thread and mentioned and place.may_thread and not place.names & options.no_thread_channels
    return Chat("thread", place.channel, message) if threads else Chat("group", place.channel)
