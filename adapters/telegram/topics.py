"""Topics of private chats that the configuration asks for: made once, and remembered with the core's cursors.

``dm_topics`` is hermes-agent's: a list of ``{chat_id, topics: [{name, icon_color, icon_custom_emoji_id, thread_id}]}``.
That one writes the thread's id back into config.yaml; hermesd leaves the file as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from telegram import Bot
from telegram.error import TelegramError

from hermesd.adapters.contract import Cursor, Receiver
from hermesd.adapters.errors import AdapterError, NotAccepted
from hermesd.adapters.telegram import calls

log = logging.getLogger("hermesd.adapters.telegram")

_EXAMPLE = "dm_topics: [{chat_id: 7000000001, topics: [{name: Research}]}]"


@dataclass(frozen=True, slots=True)
class Topic:
    """``thread``: its id where the configuration knows it, else 0."""

    chat: int
    name: str
    thread: int = 0
    color: int | None = None
    emoji: str | None = None

    @property
    def cursor(self) -> str:
        return f"topic:{self.chat}:{self.name}"


def read(value: Any, place: str) -> tuple[Topic, ...]:
    """``dm_topics`` of the configuration. Raises `AdapterError` for what it cannot be, naming ``place``."""
    if value in (None, ""):
        return ()
    try:
        return tuple(_topic(one["chat_id"], topic) for one in value for topic in one.get("topics") or ())
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise AdapterError(
            f"cannot use {place}: it is no list of chats with topics ({error!r})", fix=_EXAMPLE
        ) from error


def _topic(chat: Any, topic: Any) -> Topic:
    name = str(topic["name"]).strip()
    if not 1 <= len(name) <= 128:  # core.telegram.org/bots/api#createforumtopic
        raise ValueError(f"a topic's name has 1 to 128 characters, not {len(name)}")
    color = topic.get("icon_color")
    return Topic(
        int(chat), name, int(topic.get("thread_id") or 0), int(color) if color is not None else None,
        str(topic.get("icon_custom_emoji_id") or "") or None,
    )  # fmt: skip


async def make(bot: Bot, wanted: Sequence[Topic], receiver: Receiver, platform: str, token: str) -> tuple[str, ...]:
    """Make those that are not there yet. Returns a sentence for each that could not be made."""
    troubles = []
    for topic in wanted:
        if topic.thread or await receiver.cursor(platform, topic.cursor):
            continue
        try:
            made = await bot.create_forum_topic(
                topic.chat, topic.name, icon_color=topic.color, icon_custom_emoji_id=topic.emoji
            )
            await receiver.keep_cursor(platform, Cursor(topic.cursor, str(made.message_thread_id)))
        except TelegramError as error:
            why = calls.failure(error, token).text
            troubles.append(f"{platform} cannot make the topic {topic.name!r} in chat {topic.chat}: {why}")
            log.warning("%s", troubles[-1])
        except NotAccepted as refusal:
            log.warning("the topic %r in chat %d is made again at the next start: %s", topic.name, topic.chat, refusal)
        else:
            log.info("made the topic %r in chat %d", topic.name, topic.chat)
    return tuple(troubles)
