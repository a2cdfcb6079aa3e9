"""Stickers in words: an agent gets them as text, and looks itself at those that nobody has looked at yet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from hermesd.ipc import codec
from hermesd.ipc.messages import Described, File, StickerFacts
from hermesd.workers.agents import factory
from hermesd.workers.agents.contract import Agent, Turn

log = logging.getLogger(__name__)

DESCRIPTION_LIMIT = 1000
"""Characters of a description that are used and kept."""


async def in_words(agent: Agent, turn: Turn, post: Callable[[Described], None]) -> Turn:
    """The turn with a line for each sticker. One that is not described yet is shown to the agent's ``describe``, where
    it has that, and the supervisor is told what it saw.
    """
    lines = []
    for file in turn.attachments:
        if file.sticker is not None:
            lines.append(_line(file.sticker, await _seen(agent, turn, file, file.sticker, post)))
    if not lines:
        return turn
    return replace(turn, text="\n".join([*lines, turn.text] if turn.text else lines))


async def _seen(
    agent: Agent, turn: Turn, file: File, sticker: StickerFacts, post: Callable[[Described], None]
) -> str | None:
    """The description; "" for one that shows nothing to say, None where nobody can look."""
    if sticker.description:
        return sticker.description
    if sticker.animated or not file.path or not factory.has(agent, "describe"):
        return None
    try:
        text = await factory.optional(agent, "describe", file.path)
    except Exception:  # anybody's code; the message is answered without the picture
        log.exception("the agent cannot describe a sticker")
        return None
    if not isinstance(text, str) or not text.strip():
        return None
    text = codec.clean(text).strip()[:DESCRIPTION_LIMIT]
    post(Described(turn.id, sticker.unique_id, text))
    return text


def _line(sticker: StickerFacts, description: str | None) -> str:
    what = "an animated sticker" if sticker.animated else "a sticker"
    emoji = f" {sticker.emoji}" if sticker.emoji else ""
    pack = f' from the pack "{sticker.set_name}"' if sticker.set_name else ""
    if description:
        return f"[The user sent {what}{emoji}{pack}. It shows: {description}]"
    unseen = "" if sticker.animated else "; what it shows cannot be seen here"
    return f"[The user sent {what}{emoji}{pack}{unseen}]"
