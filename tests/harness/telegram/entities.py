"""Entities of texts: those that the server finds by itself, and the checks of those that a bot sends."""

from __future__ import annotations

import re
from typing import Any

from . import errors

KNOWN = frozenset({
    "mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number", "bold", "italic", "underline",
    "strikethrough", "spoiler", "blockquote", "expandable_blockquote", "code", "pre", "text_link", "text_mention",
    "custom_emoji",
})  # fmt: skip

# td/telegram/MessageEntity.cpp `find_mentions`, `find_bot_commands`, `find_urls`, in the plain cases.
_FOUND = {
    "mention": re.compile(r"(?<![\w@/])@[A-Za-z0-9_]{3,32}(?![\w@])"),
    "bot_command": re.compile(r"(?<![\w/<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/@])"),
    "url": re.compile(r"https?://[^\s<>\"]+"),
}
_OPAQUE = ("code", "pre", "text_link")


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def find(text: str, beside: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the server marks in a text by itself; nothing inside of code or a link."""
    found = []
    for kind, pattern in _FOUND.items():
        for match in pattern.finditer(text):
            offset, length = utf16(text[: match.start()]), utf16(match[0])
            if not any(
                other["type"] in _OPAQUE
                and offset < other["offset"] + other["length"]
                and other["offset"] < offset + length
                for other in beside
            ):
                found.append({"offset": offset, "length": length, "type": kind})
    return found


def checked(text: str, entities: Any) -> tuple[str, list[dict[str, Any]]]:
    """The text as it is kept, stripped, and its entities. Raises `ApiError` as the server does."""
    if not isinstance(entities, list):
        entities = []
    units = text.encode("utf-16-le")
    kept = []
    for entity in sorted(entities, key=lambda one: (one["offset"], -one["length"])):
        offset, length = entity["offset"], entity["length"]
        if entity["type"] not in KNOWN or length <= 0 or offset < 0:
            continue  # Client.cpp `get_text_entity` and td's sort drop what they do not know
        if (offset + length) * 2 > len(units):
            raise errors.entity_past_end(offset, len(units) // 2)
        for place in (offset, offset + length):
            if units[place * 2 : place * 2 + 2] and 0xDC <= units[place * 2 + 1] <= 0xDF:
                raise errors.entity_splits_symbol(len(units[: place * 2].decode("utf-16-le", "ignore").encode()))
        kept.append(dict(entity))
    lead = utf16(text) - utf16(text.lstrip())
    stripped = text.strip()
    if not stripped:
        raise errors.text_must_not_be_empty()
    return stripped, [*_moved(kept, lead, utf16(stripped)), *find(stripped, _moved(kept, lead, utf16(stripped)))]


def _moved(entities: list[dict[str, Any]], by: int, end: int) -> list[dict[str, Any]]:
    moved = []
    for entity in entities:
        start = max(entity["offset"] - by, 0)
        stop = min(entity["offset"] + entity["length"] - by, end)
        if stop > start:
            moved.append({**entity, "offset": start, "length": stop - start})
    return moved
