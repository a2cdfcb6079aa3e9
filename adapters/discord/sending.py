"""Calls that change what people see: messages, edits, files, typing, reactions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import discord

from hermesd.adapters.contract import Outbound, Sent, Target
from hermesd.adapters.errors import DeliveryError, Gone, Rejected, Retry, Uncertain

from . import buttons, media, outbound, render
from .calls import NETWORK, translated
from .intake import id_at
from .likeness import like
from .slash import Slash
from .threads import Threads
from .voice import Voice

log = logging.getLogger(__name__)

CALL_SECONDS = 30.0
UPLOAD_SECONDS = 120.0
NONCE_SECONDS = 120.0
"""Discord knows a nonce "for the past few minutes" (its documentation, Create Message); we do not rely on more."""

LOOKED_AT = 1000  # messages of a channel in which an earlier try may be
CLOCK_SECONDS = 600.0  # by which this machine's clock may differ from Discord's
REMEMBERED = 500


class Sender:
    """``is_born_here``: whether a message came in in this life, so that no earlier one can have answered it."""

    def __init__(self, client: discord.Client, threads: Threads, slash: Slash, is_born_here: Callable[[str], bool]):
        self._client = client
        self._threads = threads
        self._slash = slash
        self._is_born_here = is_born_here
        self._tried: OrderedDict[str, float] = OrderedDict()  # when one that may have arrived was first tried, by key
        self._signs: OrderedDict[tuple[int, int], str] = OrderedDict()  # our reactions, by channel and message

    async def send(self, target: Target, message: Outbound) -> Sent:
        """One message. What is repeated within `NONCE_SECONDS` is recognised by Discord; for what may be older the core
        calls `find` first.
        """
        with self._cut():
            if (sent := await self._slash.answer(target.reply_to, message)) is not None:
                await self._threads.join(target.thread_id)
                return sent
        if self._slash.is_command(target.reply_to):
            message = replace(message, quotes=False)  # a command is no message that could be quoted
        with translated("cannot send"):
            there = await self._threads.is_there(target)
        call = outbound.call(target, message, in_channel=not there)
        voice = await media.voice_of(message)
        with self._cut(message.key):
            sent = await (self._post(call, message) if voice is None else self._speak(call, message, voice))
        if there:
            await self._threads.join(target.thread_id)
        return sent

    async def _post(self, call: outbound.Call, message: Outbound) -> Sent:
        more: dict[str, Any] = {}
        if call.reference:
            more["reference"] = discord.MessageReference(
                message_id=call.reference, channel_id=call.channel, fail_if_not_exists=False
            )
        if (view := buttons.view_of(message.question)) is not None:
            more["view"] = view
        if call.files:
            more["files"] = await media.open_files(call.files)
        with translated("cannot send"):
            async with asyncio.timeout(UPLOAD_SECONDS if call.files else CALL_SECONDS):
                sent = await self._channel(call.channel).send(
                    call.content or None, nonce=call.nonce, silent=call.silent, **more
                )
        return Sent(str(sent.id))

    async def _speak(self, call: outbound.Call, message: Outbound, voice: Voice) -> Sent:
        """As a voice message; where those are not allowed, as an ordinary file."""
        try:
            with translated("cannot send"):
                async with asyncio.timeout(UPLOAD_SECONDS):
                    with media.voice_parameters(call, voice) as parameters:
                        sent = await self._client.http.send_message(call.channel, params=parameters)
            return Sent(str(sent["id"]))
        except Rejected as error:
            log.info("Discord takes no voice message in channel %d, sending the file as it is: %s", call.channel, error)
        return await self._post(call, message)

    @contextmanager
    def _cut(self, key: str = "") -> Iterator[None]:
        """What breaks inside may have arrived. ``key``: Discord gets its nonce."""
        try:
            yield
        except Retry as error:
            if not isinstance(error.__cause__, (*NETWORK, discord.DiscordServerError)):
                raise
            if key:
                self._tried.setdefault(key, time.monotonic())
                while len(self._tried) > REMEMBERED:
                    self._tried.popitem(last=False)
            raise Uncertain(str(error), after=error.after) from error
        self._tried.pop(key, None)

    async def find(
        self, target: Target, forms: Sequence[Outbound], since: float, others: Collection[str]
    ) -> str | None:
        """The id of this message from an earlier try, as `hermesd.adapters.contract.CanFind` has it.

        Discord does not tell a nonce afterwards (discord.py's issue 2451), so it is known by what it says.
        """
        tried = self._tried.get(forms[0].key)
        if tried is not None and time.monotonic() - tried < NONCE_SECONDS:
            return None
        if self._slash.takes(target.reply_to, forms[0]):
            return None
        with translated("cannot look for an earlier try"):
            there = await self._threads.is_there(target)
        try:
            calls = [outbound.call(target, form, in_channel=not there) for form in forms]
            found = await self._earlier(calls, target.reply_to, since, others, growing=forms[0].kind == "progress")
        except (Retry, Uncertain, Gone):
            raise
        except DeliveryError as error:
            raise Uncertain(f"cannot tell whether it was sent before: {error}") from error
        if found is not None:
            self._tried.pop(forms[0].key, None)
            await self._slash.found(target.reply_to)
        return found

    async def _earlier(
        self, calls: Sequence[outbound.Call], reply_to: str, since: float, others: Collection[str], *, growing: bool
    ) -> str | None:
        asked = int(reply_to) if reply_to.isdecimal() else 0
        if asked > id_at(time.time() + CLOCK_SECONDS):
            asked = 0  # a number of somebody else's
        begin = max(asked, id_at(since - CLOCK_SECONDS) if since else 0)
        if not begin:
            raise Uncertain("cannot tell whether it was sent before: nobody knows since when to look for it")
        likes = [await like(call, growing=growing) for call in calls]
        me = self._client.user
        looked_at = 0
        with translated("cannot look for an earlier try"):
            async with asyncio.timeout(CALL_SECONDS):
                async for found in self._channel(calls[0].channel).history(limit=LOOKED_AT):
                    looked_at += 1
                    if found.id <= begin:
                        return None
                    ours = me is not None and found.author.id == me.id and str(found.id) not in others
                    if ours and any(is_like(found) for is_like in likes):
                        return str(found.id)
        if not looked_at and not self._may_read(calls[0].channel):
            raise Uncertain("cannot tell whether it was sent before: Discord shows nothing of the channel's history")
        if looked_at >= LOOKED_AT:
            raise Uncertain(f"cannot tell whether it was sent before: it is not among the last {LOOKED_AT} messages")
        return None

    async def edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        view = buttons.view_of(message.question)
        with translated("cannot edit"):
            async with asyncio.timeout(CALL_SECONDS):
                await self._ours(target, message_id).edit(
                    content=outbound.content(message), allowed_mentions=discord.AllowedMentions.none(), view=view
                )
        return Sent(message_id)

    async def settle(self, target: Target, message_id: str, text: str) -> None:
        with translated("cannot settle the question"):
            async with asyncio.timeout(CALL_SECONDS):
                await self._ours(target, message_id).edit(
                    content=render.render(text)[: outbound.MESSAGE_LIMIT],
                    allowed_mentions=discord.AllowedMentions.none(),
                    view=None,
                )

    async def delete(self, target: Target, message_id: str) -> None:
        try:
            with translated("cannot delete"):
                async with asyncio.timeout(CALL_SECONDS):
                    await self._ours(target, message_id).delete()
        except Gone as error:
            log.debug("message %s of Discord is gone already: %s", message_id, error)

    async def typing(self, target: Target) -> None:
        with translated("cannot show that we write"):
            async with asyncio.timeout(CALL_SECONDS):
                there = await self._threads.is_there(target)
                await self._channel(outbound.number((target.thread_id if there else "") or target.chat_id)).typing()

    async def react(self, target: Target, sign: str) -> None:
        if self._slash.is_command(target.reply_to):
            return
        home = self._home_of(target)
        place = (home, int(target.reply_to))
        message = self._channel(home).get_partial_message(place[1])
        me = self._client.user
        assert me is not None
        with translated("cannot react"):
            async with asyncio.timeout(CALL_SECONDS):
                for old in await self._old_signs(place, message, sign):
                    await message.remove_reaction(old, me)
                if sign and self._signs.get(place) != sign:
                    await message.add_reaction(sign)
        self._signs[place] = sign
        while len(self._signs) > REMEMBERED:
            self._signs.popitem(last=False)

    async def _old_signs(self, place: tuple[int, int], message: discord.PartialMessage, sign: str) -> list[str]:
        """Ours that are not ``sign``; asked for only where an earlier life may have left some."""
        known = self._signs.get(place)
        if known is not None:
            return [known] if known not in ("", sign) else []
        if self._is_born_here(str(place[1])):
            return []
        found = await message.fetch()
        return [str(reaction.emoji) for reaction in found.reactions if reaction.me and str(reaction.emoji) != sign]

    def _home_of(self, target: Target) -> int:
        """The channel of the message that is answered: the first one of a forum's post is in the post."""
        if target.reply_to == target.thread_id:
            parent = self._client.get_channel(int(target.chat_id)) if target.chat_id.isdecimal() else None
            if isinstance(parent, discord.ForumChannel):
                return outbound.number(target.thread_id)
        return outbound.home_of(target)

    def _may_read(self, channel: int) -> bool:
        """Whether that nothing is there means anything: Discord answers so also where our role may not read."""
        found = self._client.get_channel(channel)
        if not isinstance(found, discord.abc.GuildChannel | discord.Thread):
            return False
        try:
            return found.permissions_for(found.guild.me).read_message_history
        except discord.ClientException:  # the channel of a thread is not known
            return False

    def _ours(self, target: Target, message_id: str) -> discord.PartialMessage:
        """A message of ours. One that answers in the channel because its thread could not be had is there."""
        lost = self._threads.was_refused(target.thread_id)
        channel = outbound.number(target.chat_id if lost else target.thread_id or target.chat_id)
        return self._channel(channel).get_partial_message(outbound.number(message_id))

    def _channel(self, channel: int) -> discord.PartialMessageable:
        return self._client.get_partial_messageable(channel)
