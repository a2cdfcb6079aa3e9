"""Files: those of messages from Discord's content servers, ours up to the limit of the place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import discord

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import Gone, Rejected
from hermesd.adapters.media.download import AddressJudge, download, is_public

from .calls import translated


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
) -> Attachment:
    """Store a file of a message. The address that came with it is signed and holds for a day; ``message`` (channel, id)
    brings the message again, with a fresh one.
    """
    if file.size > limit:
        raise Rejected(f"{file.name} has {file.size} bytes, {limit} are allowed")
    place, _, url = file.remote.partition(" ")
    try:
        return await download(url, file, directory, limit, may=may)
    except (Gone, Rejected) as refusal:
        fresh = await _fresh(place, message)
        if fresh in ("", url):
            raise refusal
    return await download(fresh, file, directory, limit, may=may)


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
