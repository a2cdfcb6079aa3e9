"""An `Outbound` as the arguments of Discord's calls. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hermesd.adapters.contract import Albums, Attachment, MenuEntry, Outbound, Target
from hermesd.adapters.errors import Gone
from hermesd.adapters.media import kinds

from . import render

MESSAGE_LIMIT = 2000
FILE_LIMIT = 10 * 1024 * 1024  # bytes, in direct messages and in servers without boosts
NONCE_LIMIT = 25
THREAD_NAME_LIMIT = 80
COMMANDS_LIMIT = 100

ALBUMS = Albums(lambda file: "" if file.kind == kinds.VOICE else "file", most=10)
"""discord.com/developers/docs/resources/message#create-message: ten files; each may be as large as one alone."""


@dataclass(frozen=True, slots=True)
class Call:
    """One message to send. ``reference`` is the message that it quotes, 0 for none."""

    channel: int
    content: str
    nonce: str
    reference: int = 0
    files: tuple[Attachment, ...] = ()
    silent: bool = False


def call(target: Target, message: Outbound, *, in_channel: bool = False) -> Call:
    """``in_channel``: the thread cannot be had, and the answer goes where its first message is. Raises `Gone` for a
    target that cannot be Discord's.
    """
    channel = number(target.chat_id if in_channel else target.thread_id or target.chat_id)
    reference = 0
    # What starts a thread lies outside of it, and only messages of the same channel can be quoted.
    if message.quotes and target.reply_to.isdecimal() and (in_channel or target.reply_to != target.thread_id):
        reference = int(target.reply_to)
    return Call(
        channel=channel,
        content=content(message),
        nonce=nonce(message.key),
        reference=reference,
        files=message.files,
        silent=message.kind == "progress",
    )


def content(message: Outbound) -> str:
    return render.render(message.text)


def number(text: str) -> int:
    """An id as Discord has them."""
    if not text.isdecimal():
        raise Gone(f"cannot send: {text!r} is no id of a Discord channel")
    return int(text)


def nonce(key: str) -> str:
    """The same for every attempt at the same message: Discord gives back the first one instead of making a second."""
    return base64.b32encode(hashlib.sha256(key.encode()).digest()).decode().lower()[:NONCE_LIMIT]


def home_of(target: Target) -> int:
    """The channel that ``target.reply_to`` is in, where it does not start a thread of a forum."""
    return number(target.chat_id if target.reply_to == target.thread_id else target.thread_id or target.chat_id)


def thread_name(text: str) -> str:
    """What a thread is called that starts from this text."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= THREAD_NAME_LIMIT else f"{line[: THREAD_NAME_LIMIT - 1].rstrip()}…"


def commands(entries: Sequence[MenuEntry]) -> list[dict[str, Any]]:
    """The menu as Discord's application commands."""
    return [
        {
            "type": 1,
            "name": entry.name.lower()[:32],
            "description": entry.help[:100] or entry.name,
            "options": [
                {"type": 3, "name": "argument", "description": entry.argument[:100], "required": False}
            ] if entry.argument else [],
        }
        for entry in entries[:COMMANDS_LIMIT]
    ]  # fmt: skip


def same_commands(wanted: Sequence[dict[str, Any]], registered: Sequence[dict[str, Any]]) -> bool:
    """Whether registering would change nothing; Discord allows 200 new ones a day."""

    def shape(command: dict[str, Any]) -> tuple[Any, ...]:
        options = [(option["name"], option["description"]) for option in command.get("options") or ()]
        return command["name"], command["description"], command.get("type", 1), options

    return sorted(map(shape, wanted)) == sorted(map(shape, registered))
