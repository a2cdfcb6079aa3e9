"""Threads: made when the first answer goes into them, and remembered once we have answered there.

A thread that starts from a message has that message's id, so its conversation has a name before the thread is there,
and nobody who may not talk to the agent can make us open one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection

import discord

from hermesd.adapters.contract import Cursor, Receiver, Target
from hermesd.adapters.errors import NotAccepted

from . import outbound

log = logging.getLogger(__name__)

JOINED = "threads"  # the cursor that holds them
LIMIT = 500
NAMES_LIMIT = 200
THERE_ALREADY = 160004  # Discord: "A thread has already been created for this message"


class Threads:
    """The threads of one bot."""

    def __init__(self, platform: str, client: discord.Client):
        self._platform = platform
        self._client = client
        self._receiver: Receiver | None = None
        self._joined: dict[str, None] = {}
        self._names: dict[str, str] = {}  # of threads to come, by the id of their first message
        self._refused: set[str] = set()  # could not be made: the conversation stays in the channel
        self._opening: dict[str, asyncio.Task[bool]] = {}

    @property
    def joined(self) -> Collection[str]:
        return self._joined.keys()

    async def begin(self, receiver: Receiver) -> None:
        self._receiver = receiver
        try:
            kept = json.loads(await receiver.cursor(self._platform, JOINED) or "[]")
            self._joined = dict.fromkeys(str(thread) for thread in kept)
        except ValueError:
            log.warning("the list of joined Discord threads cannot be read and is begun anew")

    def name(self, thread: str, text: str) -> None:
        """What a thread is to be called, when it is made."""
        self._names[thread] = outbound.thread_name(text)
        if len(self._names) > NAMES_LIMIT:
            del self._names[next(iter(self._names))]

    async def is_there(self, target: Target) -> bool:
        """Make the thread of a target if its first message is what is answered and it is not there yet.

        False: it cannot be had, and the answer belongs into the channel. Raises what discord.py raises.
        """
        thread = target.thread_id
        if not thread or target.reply_to != thread or thread in self._joined or self._is_known(thread):
            return True
        if thread in self._refused:
            return False
        opening = self._opening.get(thread)
        if opening is None:
            opening = asyncio.create_task(self._open(target), name=f"discord thread {thread}")
            self._opening[thread] = opening
            opening.add_done_callback(lambda _: self._opening.pop(thread, None))
        return await asyncio.shield(opening)

    def was_refused(self, thread: str) -> bool:
        """Whether this one could not be made, in this life."""
        return thread in self._refused

    def _is_known(self, thread: str) -> bool:
        return self._client.get_channel(int(thread)) is not None

    async def _open(self, target: Target) -> bool:
        channel = await self._channel(target)
        if not isinstance(channel, discord.TextChannel):
            return True  # a post of a forum, which holds its first message
        first = channel.get_partial_message(int(target.thread_id))
        try:
            name = self._names.get(target.thread_id) or outbound.thread_name((await first.fetch()).content)
            await first.create_thread(name=name or "Conversation")
        except (discord.Forbidden, discord.NotFound) as error:
            log.warning("cannot start a thread in Discord channel %s, answering in it: %s", channel.name, error)
            self._refused.add(target.thread_id)
            return False
        except discord.HTTPException as error:
            if error.code != THERE_ALREADY:
                raise
        self._names.pop(target.thread_id, None)
        await self.join(target.thread_id)
        return True

    async def _channel(self, target: Target) -> object:
        number = outbound.number(target.chat_id)
        return self._client.get_channel(number) or await self._client.fetch_channel(number)

    async def join(self, thread: str) -> None:
        """We have answered here: from now on no mention is needed."""
        if not thread or thread in self._joined or self._receiver is None:
            return
        self._joined[thread] = None
        while len(self._joined) > LIMIT:
            del self._joined[next(iter(self._joined))]
        try:
            await self._receiver.keep_cursor(self._platform, Cursor(JOINED, json.dumps([*self._joined])))
        except NotAccepted as refusal:
            log.warning("cannot remember that Discord thread %s was joined: %s", thread, refusal)

    async def stop(self) -> None:
        tasks = list(self._opening.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
