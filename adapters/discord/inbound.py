"""A message or a slash command of Discord as an `Inbound`. Pure: nothing is fetched here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

import discord

from hermesd.adapters.contract import Attachment, Cursor, Inbound, Sticker
from hermesd.adapters.media import kinds
from hermesd.adapters.text import clean

from .addressing import Author, Chat, Kind, Place

QUOTE_LIMIT = 500  # characters of a quoted message

_SPEECH = (discord.MessageType.default, discord.MessageType.reply)
_MENTION = re.compile(r"<@!?(\d+)>")
_POSTS = (discord.ChannelType.forum, discord.ChannelType.media)
_CUSTOM_EMOJI = re.compile(r"<a?(:\w{2,32}:)\d+>")


def is_speech(message: discord.Message) -> bool:
    """False for what Discord itself writes: somebody joined, a message was pinned, a thread was made."""
    return message.type in _SPEECH


def author_of(message: discord.Message) -> Author:
    return Author(str(message.author.id), bot=message.author.bot or message.webhook_id is not None)


def place_of(channel: Any, guild: discord.Guild | None) -> Place:
    """``channel`` as discord.py gives it; one it does not know comes as a `discord.PartialMessageable`."""
    name = str(getattr(channel, "name", None) or "")
    if isinstance(channel, discord.Thread):
        parent = channel.parent
        kind = Kind.POST if parent is not None and parent.type in _POSTS else Kind.THREAD
        return Place(kind, str(channel.id), str(channel.parent_id), name)
    if guild is None and getattr(channel, "guild_id", None) is None and getattr(channel, "guild", None) is None:
        return Place(Kind.DM, str(channel.id), name=str(getattr(channel, "recipient", None) or ""))
    return Place(Kind.CHANNEL, str(channel.id), name=name, may_thread=_may_thread(channel))


def _may_thread(channel: Any) -> bool:
    if not isinstance(channel, discord.TextChannel):
        return False  # a voice channel's chat has no threads
    # discord.py says Member, and gives None until the guild is known whole; then the first answer finds out.
    member = cast("discord.Member | None", channel.guild.me)
    if member is None:
        return True
    may = channel.permissions_for(member)
    return may.create_public_threads and may.send_messages_in_threads


def mentions(message: discord.Message, me: int) -> bool:
    """Whether the text names us, or the role that came with us, whose name looks the same to people.

    A reply mentions whom it answers, if its writer did not switch that off.
    """
    role = message.guild.self_role if message.guild is not None else None
    return any(user.id == me for user in message.mentions) or (
        role is not None and role.id in message.raw_role_mentions
    )


def from_message(platform: str, message: discord.Message, chat: Chat, place: Place, me: int) -> Inbound | None:
    """The message as the core takes it; None when it says nothing that we could take (a poll, an embed)."""
    files = tuple(_attachments(message))
    text = _text(message, me)
    if not text and not files:
        return None
    quoted = message.reference.resolved if message.reference is not None else None
    return Inbound(
        platform=platform,
        chat_id=chat.id,
        message_id=str(message.id),
        user_id=str(message.author.id),
        text=text,
        user_name=clean(message.author.display_name),
        chat_type=chat.type,
        chat_name=clean(place.name),
        thread_id=chat.thread,
        attachments=files,
        sent_at=message.created_at.timestamp(),
        reply_to_id=str(message.reference.message_id or "") if _is_reply(message) and message.reference else "",
        reply_to_text=clean(quoted.content)[:QUOTE_LIMIT] if isinstance(quoted, discord.Message) else "",
        cursor=cursor(place, message.id),
    )


def cursor(place: Place, message_id: int) -> Cursor:
    """How far this channel is read. Direct channels are marked: Discord lists those nowhere."""
    return Cursor(f"dm:{place.channel}" if place.kind is Kind.DM else place.channel, str(message_id))


def from_command(platform: str, interaction: discord.Interaction, chat: Chat, place: Place, text: str) -> Inbound:
    """A slash command, as if its user had written it."""
    return Inbound(
        platform=platform,
        chat_id=chat.id,
        message_id=str(interaction.id),
        user_id=str(interaction.user.id),
        text=text,
        user_name=clean(interaction.user.display_name),
        chat_type=chat.type,
        chat_name=clean(place.name),
        thread_id=chat.thread,
        sent_at=interaction.created_at.timestamp(),
    )


def command_chat(place: Place) -> Chat:
    """Where a slash command belongs: it is never the first message of a thread."""
    if place.kind is Kind.DM:
        return Chat("dm", place.channel)
    if place.kind is Kind.CHANNEL:
        return Chat("group", place.channel)
    return Chat("thread", place.parent or place.channel, place.channel)


def command_text(data: Any) -> str:
    """``/name`` and what was filled in, of an interaction's ``data``."""
    words = [f"/{data.get('name', '')}"]
    words += [str(option["value"]) for option in data.get("options", ()) if option.get("value") not in (None, "")]
    return clean(" ".join(words))


def _is_reply(message: discord.Message) -> bool:
    return message.type is discord.MessageType.reply


def _text(message: discord.Message, me: int) -> str:
    names = {user.id: user.display_name for user in message.mentions}

    def named(match: re.Match[str]) -> str:
        user = int(match.group(1))
        return "" if user == me else f"@{names[user]}" if user in names else match.group(0)

    said = _MENTION.sub(named, message.content)
    forwarded = [snapshot.content for snapshot in message.message_snapshots if snapshot.content]
    said = "\n\n".join([said, *forwarded]) if forwarded else said
    return clean(_CUSTOM_EMOJI.sub(r"\1", said)).strip()


def _attachments(message: discord.Message) -> Iterable[Attachment]:
    forwarded = (snapshot.attachments for snapshot in message.message_snapshots)
    for file in (*message.attachments, *(one for some in forwarded for one in some)):
        kind = kinds.VOICE if file.is_voice_message() else kinds.kind_of(file.filename, file.content_type or "")
        yield Attachment(
            path="",
            name=file.filename,
            mime=(file.content_type or kinds.mime_of(file.filename)).partition(";")[0],
            kind=kind,
            remote=f"{message.channel.id}/{message.id}/{file.id} {file.url}",
            size=file.size,
        )
    for sticker in message.stickers:
        yield Attachment(
            path="",
            name=f"{sticker.name}.{sticker.format.file_extension}",
            mime=kinds.mime_of(f"x.{sticker.format.file_extension}"),
            kind=kinds.STICKER,
            remote=f"{message.channel.id}/{message.id}/{sticker.id} {sticker.url}",
            sticker=Sticker(
                unique_id=str(sticker.id),
                emoji=sticker.name,
                animated=sticker.format is not discord.StickerFormatType.png,
            ),
        )
