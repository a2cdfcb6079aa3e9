"""Files: those of messages from Discord's content servers, ours up to the limit of the place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import discord
from discord.http import MultipartParameters, handle_message_parameters

from hermesd.adapters.contract import Attachment, Outbound
from hermesd.adapters.errors import Gone, Rejected
from hermesd.adapters.media import kinds
from hermesd.adapters.media.download import AddressJudge, download, is_public

from . import voice
from .calls import translated
from .outbound import Call


def anywhere(address: str) -> bool:
    """An `AddressJudge` for tests, whose servers are on this machine."""
    return True


async def fetch(
    file: Attachment,
    directory: Path,
    limit: int,
    *,
    message: Callable[[int, int], Awaitable[discord.Message]],
    may: AddressJudge = is_public,
    proxy: str = "",
) -> Attachment:
    """Store a file of a message. The address that came with it is signed and holds for a day; ``message`` (channel, id)
    brings the message again, with a fresh one.
    """
    if file.size > limit:
        raise Rejected(f"{file.name} has {file.size} bytes, {limit} are allowed")
    place, _, url = file.remote.partition(" ")
    try:
        return await download(url, file, directory, limit, may=may, proxy=proxy)
    except (Gone, Rejected) as refusal:
        fresh = await _fresh(place, message)
        if fresh in ("", url):
            raise refusal
    return await download(fresh, file, directory, limit, may=may, proxy=proxy)


async def _fresh(place: str, message: Callable[[int, int], Awaitable[discord.Message]]) -> str:
    channel, message_id, wanted = (int(part) for part in place.split("/"))
    with translated("cannot fetch the file"):
        found = await message(channel, message_id)
    snapshots = (snapshot.attachments for snapshot in found.message_snapshots)
    every: list[Any] = [*found.attachments, *found.stickers, *(one for some in snapshots for one in some)]
    return next((str(one.url) for one in every if one.id == wanted), "")


async def open_files(files: tuple[Attachment, ...]) -> list[discord.File]:
    """Ours, opened for one call, which closes them. Raises `Rejected` for one that cannot be read."""
    opened: list[discord.File] = []
    for file in files:
        try:
            opened.append(await asyncio.to_thread(discord.File, file.path, filename=file.name or Path(file.path).name))
        except OSError as error:
            for one in opened:
                one.close()
            raise Rejected(f"cannot send {file.name or file.path}: {error.strerror}") from error
    return opened


async def voice_of(message: Outbound) -> voice.Voice | None:
    """What Discord wants to know of a recording that is the whole message; None: it is no voice message."""
    if len(message.files) != 1 or message.text or message.question is not None:
        return None  # nothing can stand beside one
    file = message.files[0]
    if file.kind != kinds.VOICE:
        return None
    try:
        return voice.voice_of(await asyncio.to_thread(Path(file.path).read_bytes))
    except OSError:
        return None  # `open_files` says why


class _VoiceFile(discord.File):
    """discord.py shows voice messages and sends none: it has no place for what it must say of the file."""

    __slots__ = ("_voice",)

    def __init__(self, path: str, said: voice.Voice):
        super().__init__(path, filename="voice-message.ogg")
        self._voice = said

    def to_dict(self, index: int) -> dict[str, Any]:
        return {
            **super().to_dict(index), "duration_secs": self._voice.seconds, "waveform": self._voice.waveform,
        }  # fmt: skip


def voice_parameters(call: Call, said: voice.Voice) -> MultipartParameters:
    """The arguments of discord.py's ``send_message``; a context that closes the file."""
    more: dict[str, Any] = {}
    if call.reference:
        more["message_reference"] = discord.MessageReference(
            message_id=call.reference, channel_id=call.channel, fail_if_not_exists=False
        ).to_message_reference_dict()
    return handle_message_parameters(
        file=_VoiceFile(call.files[0].path, said), nonce=call.nonce, flags=discord.MessageFlags(voice=True),
        allowed_mentions=discord.AllowedMentions.none(), **more,
    )  # fmt: skip
