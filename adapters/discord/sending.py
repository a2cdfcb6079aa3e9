"""Calls that change what people see: messages, edits, files, typing, reactions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import discord

from hermesd.adapters.contract import Outbound, Sent, Target
from hermesd.adapters.errors import DeliveryError, Gone, Rejected, Retry, Uncertain

from . import buttons, media, outbound, render
from .calls import NETWORK, translated
from .slash import Slash
from .threads import Threads
from .voice import Voice

log = logging.getLogger(__name__)

CALL_SECONDS = 30.0
UPLOAD_SECONDS = 120.0
NONCE_SECONDS = 120.0
"""Discord knows a nonce "for the past few minutes" (its documentation, Create Message); we do not rely on more."""

LOOKED_AT = 100  # messages of a channel in which an earlier try may be
REMEMBERED = 500


class Sender:
    """``is_born_here``: whether a message came in in this life, so that no earlier one can have answered it."""

    def __init__(self, client: discord.Client, threads: Threads, slash: Slash, is_born_here: Callable[[str], bool]):
        self._client = client
        self._threads = threads
        self._slash = slash
        self._is_born_here = is_born_here
        self._tried: OrderedDict[str, float] = OrderedDict()  # when a message was first tried that may have arrived
        self._signs: OrderedDict[tuple[int, int], str] = OrderedDict()  # our reactions, by channel and message

    async def send(self, target: Target, message: Outbound) -> Sent:
        """One message. What is repeated within `NONCE_SECONDS` is recognised by Discord; what may be older is looked
        for first.
        """
        if (sent := await self._slash.answer(target.reply_to, message)) is not None:
            await self._threads.join(target.thread_id)
            return sent
        if self._slash.is_command(target.reply_to):
            message = replace(message, quotes=False)  # a command is no message that could be quoted
        with translated("cannot send"):
            there = await self._threads.is_there(target)
        call = outbound.call(target, message, in_channel=not there)
        voice = await media.voice_of(message)
        if self._may_be_there(target, message) and (earlier := await self._earlier(target, call)) is not None:
            log.info("message %s is in Discord channel %d already", earlier, call.channel)
            self._tried.pop(message.key, None)
            return Sent(earlier)
        try:
            sent = await (self._post(call, message) if voice is None else self._speak(call, message, voice))
        except Retry as error:
            if isinstance(error.__cause__, (*NETWORK, discord.DiscordServerError)):
                self._remember_try(message.key)
            raise
        self._tried.pop(message.key, None)
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

    def _may_be_there(self, target: Target, message: Outbound) -> bool:
        tried = self._tried.get(message.key)
        if tried is not None:
            return time.monotonic() - tried > NONCE_SECONDS
        return target.reply_to.isdecimal() and not self._is_born_here(target.reply_to)

    async def _earlier(self, target: Target, call: outbound.Call) -> str | None:
        """The id of this message from an earlier try: ours, the same text, answering the same message.

        Discord does not tell a nonce afterwards (discord.py's issue 2451), so it is known by what it says.
        """
        me = self._client.user
        after = int(target.reply_to) if target.reply_to.isdecimal() else 0
        try:
            with translated("cannot look for an earlier try"):
                async with asyncio.timeout(CALL_SECONDS):
                    async for found in self._channel(call.channel).history(
                        limit=LOOKED_AT, after=discord.Object(after) if after else None, oldest_first=bool(after)
                    ):
                        quoted = found.reference.message_id if found.reference is not None else None
                        if (
                            me is not None
                            and found.author.id == me.id
                            and found.content == call.content.strip()
                            and (quoted or 0) == call.reference
                            and len(found.attachments) == len(call.files)
                        ):
                            return str(found.id)
        except Retry:
            raise
        except DeliveryError as error:
            if isinstance(error, Gone):
                raise
            raise Uncertain(f"cannot tell whether it was sent before: {error}") from error
        return None

    def _remember_try(self, key: str) -> None:
        self._tried.setdefault(key, time.monotonic())
        while len(self._tried) > REMEMBERED:
            self._tried.popitem(last=False)

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

    def _ours(self, target: Target, message_id: str) -> discord.PartialMessage:
        """A message of ours. One that answers in the channel because its thread could not be had is there."""
        lost = self._threads.was_refused(target.thread_id)
        channel = outbound.number(target.chat_id if lost else target.thread_id or target.chat_id)
        return self._channel(channel).get_partial_message(outbound.number(message_id))

    def _channel(self, channel: int) -> discord.PartialMessageable:
        return self._client.get_partial_messageable(channel)
