"""Hands messages to the core, each channel's in its order, and fetches what was written while nobody listened.

Discord redelivers nothing to a new session. So the core keeps, with each message, how far its channel was read, and
after each READY every channel is read on from there; until that is done, what comes in live for the channel waits.
A message that the core does not take now (disk full) holds its channel up and is offered again: a later one must not
move the mark past it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import discord

from hermesd.adapters.contract import Cursor, Inbound, Receiver
from hermesd.adapters.errors import NotAccepted, Retry

from . import calls

log = logging.getLogger(__name__)

SEEN = "seen"
"""The cursor that says: everything before this id was handed in or was not for us, in every channel."""

LARGEST_BACKLOG = 100  # messages for us in one channel
LONGEST_BACKLOG = 24 * 3600.0  # seconds
LOOKED_AT = 1000  # messages of a channel, for us or not
OVERLAP_SECONDS = 5.0  # read once more before the mark: the messages of a channel may come out of step
AT_ONCE = 4  # channels read at the same time
AGAIN_SECONDS = 1.0
LONGEST_WAIT = 300.0  # seconds, between two tries to read a channel
SEEN_SECONDS = 60.0  # between two notes of `SEEN`, and how far each stays behind: channels are not in step
BORN_HERE = 10_000

_EPOCH_MS = 1420070400000  # of Discord's ids, whose upper 42 bits are milliseconds


def id_at(seconds: float) -> int:
    """The smallest id of a message written at this time (Unix seconds)."""
    return max(0, int(seconds * 1000) - _EPOCH_MS) << 22


def time_of(message_id: int) -> float:
    """When the message of this id was written, Unix seconds."""
    return ((message_id >> 22) + _EPOCH_MS) / 1000


@dataclass(slots=True)
class Channel:
    """One to read on: ``history`` gives its messages after an id, newest first."""

    id: int
    name: str
    cursor: str  # its name
    last: int | None  # the newest message, where Discord tells
    history: Callable[[int, int], AsyncIterator[discord.Message]] = field(repr=False)  # (after, at most)


@dataclass(slots=True)
class _Found:
    """What a channel holds since the last time, newest first."""

    ours: list[Inbound] = field(default_factory=list)
    left_out: int = 0
    looked_at: int = 0
    newest: int = 0


@dataclass(slots=True)
class _Lane:
    waiting: deque[discord.Message] = field(default_factory=deque)
    behind: asyncio.Event = field(default_factory=asyncio.Event)  # set: it is read on, live messages may go
    task: asyncio.Task[None] | None = None


class Intake:
    """``judge`` makes an `Inbound` of a message, or None of one that is not for us."""

    def __init__(self, platform: str, judge: Callable[[discord.Message], Awaitable[Inbound | None]]):
        self._platform = platform
        self._judge = judge
        self._receiver: Receiver | None = None
        self._lanes: dict[int, _Lane] = {}
        self.reading_on = True
        self._listed: frozenset[int] | None = None  # the channels that are read on; None: not known yet
        self.unread: dict[int, str] = {}  # why a channel could not be read on so far
        self._session = 0
        self._newest = 0
        self._noted = 0
        self._born_here: dict[str, None] = {}
        self.offered = 0
        self.held_up = ""  # why the core takes nothing now

    def begin(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def hold(self) -> None:
        """A new session: nothing goes on before its channel has been read on."""
        self.reading_on = True
        self._listed = None
        self.unread.clear()
        self._session += 1
        for lane in self._lanes.values():
            lane.behind.clear()

    def offer(self, message: discord.Message) -> None:
        """A message came in live."""
        self.offered += 1
        lane = self._lane(message.channel.id)
        lane.waiting.append(message)
        if lane.task is None:
            lane.task = asyncio.create_task(
                self._run(message.channel.id, lane), name=f"discord channel {message.channel.id}"
            )

    @property
    def waiting(self) -> int:
        """How many messages came in live that the core has not taken yet."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def is_born_here(self, message_id: str) -> bool:
        """Whether the core had this message first from us, in this life: nobody can have answered it before."""
        return message_id in self._born_here

    async def read_on(self, channels: Iterable[Channel], *, whole: bool = True) -> None:
        """Hand in what these channels hold since the last time, and let live messages go. ``whole``: there are no
        others, so that channels which come into being later need no reading.
        """
        assert self._receiver is not None
        session = self._session
        kept = await self._receiver.cursors(self._platform)
        floor = int(kept.get(SEEN) or 0)
        if not floor:
            floor = id_at(time.time() - SEEN_SECONDS)  # the first time ever: what was written before was not for us
            await self._keep(Cursor(SEEN, str(floor)))
        limit = asyncio.Semaphore(AT_ONCE)
        channels = list(channels)
        if whole and session == self._session:
            # One that can only be read later must not hold up those which need no reading.
            self._listed = frozenset(channel.id for channel in channels)
            for number, lane in self._lanes.items():
                if number not in self._listed:
                    lane.behind.set()

        async def one(channel: Channel) -> None:
            lane = self._lane(channel.id)
            read = int(kept.get(channel.cursor) or 0)
            if channel.last is None or channel.last > max(floor, read):
                after = max(floor, read - (int(OVERLAP_SECONDS * 1000) << 22))
                await self._read_in_time(channel, after, read, session, limit)
            if session == self._session:
                lane.behind.set()

        await asyncio.gather(*(one(channel) for channel in channels))
        if whole and session == self._session:
            self.reading_on = False
            for lane in self._lanes.values():
                lane.behind.set()

    async def _read_in_time(
        self, channel: Channel, after: int, read: int, session: int, limit: asyncio.Semaphore
    ) -> None:
        """Until it is read, or Discord says that it cannot be. Waiting for the next try takes no place of ``limit``."""
        name = channel.name or channel.id
        failures = 0
        while session == self._session:
            try:
                async with limit:
                    await self._read_one(channel, after, read)
                self.unread.pop(channel.id, None)
                return
            except Exception as error:  # whatever it is, what was written there must not be left out for it
                if calls.is_closed_to_us(error):
                    log.info("cannot read on in Discord channel %s: %s", name, error)
                    self.unread.pop(channel.id, None)
                    return
                failures += 1
                failure = calls.failure(f"cannot read on in Discord channel {name}", error)
                wait = min(LONGEST_WAIT, AGAIN_SECONDS * 2.0 ** min(failures, 16))
                if isinstance(failure, Retry):
                    wait = failure.after if failures == 1 else max(failure.after, wait)
                if session == self._session:
                    self.unread[channel.id] = str(failure)
                log.log(
                    logging.WARNING if failures > 1 else logging.INFO, "%s; again in %.1f s", failure, wait,
                    exc_info=None if isinstance(error, (discord.DiscordException, *calls.NETWORK)) else error,
                )  # fmt: skip
                await asyncio.sleep(wait)

    async def _read_one(self, channel: Channel, after: int, read: int) -> None:
        name = channel.name or channel.id
        oldest = id_at(time.time() - LONGEST_BACKLOG)
        if 0 < after < oldest:
            log.warning(
                "Discord channel %s was last read %.0f h ago: what is older than %.0f h is left out",
                name, (time.time() - time_of(after)) / 3600, LONGEST_BACKLOG / 3600,
            )  # fmt: skip
        found = await self._collect(channel, max(after, oldest), read)
        if found.left_out:
            log.warning(
                "Discord channel %s has %d messages for us since the last time, of which the oldest %d are left out",
                name, found.left_out + LARGEST_BACKLOG, found.left_out,
            )  # fmt: skip
        if found.looked_at >= LOOKED_AT:
            log.warning("Discord channel %s: only the last %d messages were looked at", name, LOOKED_AT)
        fresh = 0
        for inbound in reversed(found.ours):
            fresh += await self._hand_in(inbound)
        self._newest = max(self._newest, found.newest)
        if fresh:
            log.info("Discord channel %s: %d messages came while nobody listened", name, fresh)

    async def _collect(self, channel: Channel, after: int, read: int) -> _Found:
        """What is for us after ``after``. Up to ``read`` the core should know it, so that this does not count."""
        found, count = _Found(), 0
        async for message in channel.history(after, LOOKED_AT):
            found.looked_at += 1
            found.newest = max(found.newest, message.id)
            if (inbound := await self._judged(message)) is None:
                continue
            count += message.id > read
            if count <= LARGEST_BACKLOG:
                found.ours.append(inbound)
        found.left_out = max(0, count - LARGEST_BACKLOG)
        return found

    async def _run(self, channel: int, lane: _Lane) -> None:
        try:
            while lane.waiting:
                if self.reading_on:
                    await lane.behind.wait()
                message = lane.waiting[0]
                # One that was handed in before goes to the core again, which knows each by its id: they need not come
                # in the order of their ids.
                if (inbound := await self._judged(message)) is not None:
                    await self._hand_in(inbound)
                self._newest = max(self._newest, message.id)
                lane.waiting.popleft()
        except Exception:  # the task's edge
            log.exception("cannot hand in what was written in Discord channel %d", channel)
        finally:
            lane.task = None

    async def _judged(self, message: discord.Message) -> Inbound | None:
        while True:
            try:
                return await self._judge(message)
            except Retry as error:
                log.info("message %d of Discord waits: %s", message.id, error)
                await asyncio.sleep(error.after)
            except Exception:  # one message's fault must not hold up its channel
                log.exception("message %d of Discord cannot be understood, and is left out", message.id)
                return None

    async def _hand_in(self, inbound: Inbound) -> bool:
        """Returns whether it was new to the core."""
        assert self._receiver is not None
        while True:
            try:
                new = await self._receiver.receive(inbound)
                if new:
                    self._born_here[inbound.message_id] = None
                    if len(self._born_here) > BORN_HERE:
                        del self._born_here[next(iter(self._born_here))]
                self.held_up = ""
                return new
            except NotAccepted as refusal:
                self.held_up = str(refusal)
                log.warning("message %s of Discord waits: %s", inbound.message_id, refusal)
                await asyncio.sleep(AGAIN_SECONDS)

    async def note_seen(self) -> None:
        """Write down how far everything is read, if everything is; called now and then, and at the end."""
        if self.reading_on or self.waiting:
            return
        seen = self._newest - (int(SEEN_SECONDS * 1000) << 22)
        if seen > self._noted and await self._keep(Cursor(SEEN, str(seen))):
            self._noted = seen

    async def _keep(self, cursor: Cursor) -> bool:
        assert self._receiver is not None
        try:
            await self._receiver.keep_cursor(self._platform, cursor)
        except NotAccepted as refusal:
            log.debug("cannot note how far Discord is read: %s", refusal)
            return False
        return True

    async def stop(self) -> None:
        """Hand in nothing more."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _lane(self, channel: int) -> _Lane:
        lane = self._lanes.get(channel)
        if lane is None:
            lane = self._lanes[channel] = _Lane()
            if self._listed is not None and channel not in self._listed:
                lane.behind.set()
        return lane
