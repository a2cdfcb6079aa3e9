"""Is a message for us, and which thread does its answer go to? Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from .options import Options

_REPLY = re.compile(r"<mx-reply>.*?</mx-reply>", re.DOTALL)
_PILL = re.compile(r"""href\s*=\s*["'](?:https://matrix\.to/#/|matrix:u/)([^"'?]+)""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Me:
    """The account: its id and the name that people see."""

    user_id: str
    name: str = ""

    @property
    def localpart(self) -> str:
        return self.user_id[1:].partition(":")[0]


@dataclass(frozen=True, slots=True)
class Room:
    """What is known of a room. ``direct``: a chat of one person with us."""

    id: str
    direct: bool
    name: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """``joins``: the thread that we take part in from now on, so that nobody has to mention us there again."""

    thread_id: str
    joins: str = ""


def mentions(me: Me, content: Mapping[str, Any], body: str) -> bool:
    """By the list that clients send, by a pill, by our whole id; by name only where a client sends no list."""
    listed = content.get("m.mentions")
    if isinstance(listed, Mapping):
        users = listed.get("user_ids")
        if isinstance(users, list) and me.user_id in users:
            return True
    formatted = content.get("formatted_body")
    if isinstance(formatted, str):
        pills = _PILL.findall(_REPLY.sub("", formatted))
        if any(unquote(pill) in (me.user_id, me.user_id[1:]) for pill in pills):
            return True
    if _says(me.user_id, body) or _says(f"@{me.localpart}", body):
        return True
    return not isinstance(listed, Mapping) and bool(me.name) and _says(me.name, body)


def _says(name: str, body: str) -> bool:
    return re.search(rf"(?<![\w@]){re.escape(name)}(?![\w:.-]*\w)", body, re.IGNORECASE) is not None


def without_mention(me: Me, body: str) -> str:
    """The text without the name that it begins with: what is left may be a command."""
    names = sorted({me.user_id, f"@{me.localpart}", me.name, f"@{me.name}" if me.name else ""} - {""}, key=len)
    leading = "|".join(re.escape(name) for name in reversed(names))
    return re.sub(rf"^\s*(?:{leading})(?![\w.-]*\w)\s*[:,]?\s*", "", body, count=1, flags=re.IGNORECASE)


def judge(
    options: Options, room: Room, *, event_id: str, thread_id: str, mentioned: bool, joined: Collection[str]
) -> Address | str:
    """Where the answer goes, or why there is none."""
    if room.direct:
        if not thread_id and mentioned and options.dm_mention_threads:
            return Address(event_id, joins=event_id)
        return Address(thread_id)
    if options.allowed_rooms and room.id not in options.allowed_rooms:
        return "the room is not on the list of allowed rooms"
    free = not options.require_mention or room.id in options.free_response_rooms
    if not (free or mentioned or (thread_id and thread_id in joined)):
        return "it does not mention us"
    thread = thread_id or (event_id if options.auto_thread else "")
    return Address(thread, joins=thread if thread and thread not in joined else "")
