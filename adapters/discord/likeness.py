"""Whether a message in a channel is what a call would have made. Pure, but for the sizes of files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import discord

from hermesd.adapters.contract import Attachment

from .outbound import Call

CURSOR_LENGTH = 4
"""Characters at the end of a text that is still being written which its next form need not have."""


async def like(call: Call, *, growing: bool = False) -> Callable[[discord.Message], bool]:
    """A test for messages. ``growing``: it may have been shorter or longer by then."""
    sizes = [await asyncio.to_thread(_size, file) for file in call.files]
    said = call.content.strip()

    def is_like(found: discord.Message) -> bool:
        # One whose question was deleted meanwhile has been sent without the quotation.
        quoted = found.reference.message_id if found.reference is not None else None
        return (
            quoted in ((call.reference, None) if call.reference else (None,))
            and (_grown(found.content, said) if growing else found.content == said)
            and len(found.attachments) == len(call.files)
            and all(map(_same_file, found.attachments, call.files, sizes))
        )

    return is_like


def _grown(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return bool(shorter) and longer.startswith(shorter[:-CURSOR_LENGTH] or shorter)


def _same_file(found: discord.Attachment, file: Attachment, size: int) -> bool:
    """Discord changes names, and may take something out of a picture: not both at once, one may hope."""
    return found.size == size or _plain(found.filename) == _plain(file.name or Path(file.path).name)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def _size(file: Attachment) -> int:
    try:
        return Path(file.path).stat().st_size
    except OSError:
        return -1
