"""Markdown as text with entities, which need no escaping and cannot be unbalanced. Pure.

Offsets are in UTF-16 code units. The text is never longer than its source, so that what the core has cut to the limit
fits. Nobody is pinged: ``@name`` becomes code, in which Telegram looks for no mentions, and only http links are links.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass

from markdown_it.token import Token
from telegram import MessageEntity

from hermesd.adapters import markdown
from hermesd.adapters.text import clean, utf16_units

MENTION = re.compile(r"(?<![\w@/])@(?=[A-Za-z0-9_]{3})[A-Za-z0-9_]+")
_FULLWIDTH_AT = "\uff20"  # looks like "@" and is none
_WEB = re.compile(r"https?://[^\s]+$", re.IGNORECASE)
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,40}")
_CONTAINER_MARKS = re.compile(r"^[>\s]*")
_RULE = "———"

_MARKS = {"strong": MessageEntity.BOLD, "em": MessageEntity.ITALIC, "s": MessageEntity.STRIKETHROUGH}


def rendered(source: str) -> tuple[str, list[MessageEntity]]:
    """The text that Telegram shows, and its entities."""
    source = clean(source)
    writer = _Writer(source)
    for token in markdown.parse(source):
        writer.block(token)
    text, entities = writer.result()
    if not text or utf16_units(text) > utf16_units(source):
        return plain(source), []
    return text, entities


def plain(source: str) -> str:
    """The source as it stands, for a text whose entities Telegram refuses; still nobody is pinged."""
    text = clean(source)
    return MENTION.sub(lambda match: _FULLWIDTH_AT + match[0][1:], text).strip()


@dataclass(slots=True)
class _Open:
    type: str
    start: int
    url: str | None = None
    shown: bool = True  # False: one of the same type is open already


class _Writer:
    def __init__(self, source: str):
        self._lines = source.split("\n")
        self._parts: list[str] = []
        self._length = 0
        self._open: list[_Open] = []
        self._entities: list[MessageEntity] = []
        self._last_line = 0  # of the source, that the block before ended with
        self._bullets: list[str] = []  # to be written before the next block
        self._depth = 0  # of lists
        self._in_table = False

    # Blocks.

    def block(self, token: Token) -> None:
        kind = token.type
        if kind in ("table_open", "table_close"):
            self._table(token)
        elif self._in_table:
            return
        elif kind == "inline":
            for child in token.children or []:
                self._inline(child)
        elif kind in ("fence", "code_block"):
            self._begin(token)
            self._code(token.content.rstrip("\n"), MessageEntity.PRE, _language(token.info))
        elif kind == "hr":
            self._begin(token)
            self._write(_RULE)
        elif kind == "heading_open":
            self._begin(token)
            self._start(MessageEntity.BOLD)
        elif kind == "heading_close":
            self._stop(MessageEntity.BOLD)
        elif kind == "paragraph_open":
            self._begin(token)
        elif kind in ("bullet_list_open", "ordered_list_open"):
            self._depth += 1
        elif kind in ("bullet_list_close", "ordered_list_close"):
            self._depth -= 1
        elif kind == "list_item_open":
            self._bullets.append(f"{token.info}{token.markup} " if token.info else "• ")
        elif kind == "list_item_close":
            del self._bullets[-1:]  # there is one only if the item was empty
        elif kind == "blockquote_open":
            self._separate(token)
            self._start(MessageEntity.BLOCKQUOTE)
        elif kind == "blockquote_close":
            self._stop(MessageEntity.BLOCKQUOTE)

    def _begin(self, token: Token) -> None:
        self._separate(token)
        if self._bullets:
            self._write("  " * (self._depth - len(self._bullets)) + "".join(self._bullets))
            self._bullets.clear()
        elif self._depth and token.type == "paragraph_open":
            self._write("  " * self._depth)
        self._end(token)

    def _separate(self, token: Token) -> None:
        """An empty line where the source has one, else a new line."""
        if self._parts and not self._parts[-1].endswith("\n") and token.map is not None:
            self._write("\n\n" if token.map[0] > self._last_line else "\n")

    def _end(self, token: Token) -> None:
        if token.map is not None:
            first, last = token.map
            while last > first + 1 and not self._lines[min(last, len(self._lines)) - 1].strip():
                last -= 1  # the parser counts empty lines at the end in
            self._last_line = last

    def _table(self, token: Token) -> None:
        """Telegram knows no tables: the source, in letters of one width."""
        self._in_table = token.type == "table_open"
        if self._in_table:
            self._begin(token)
            first, last = token.map or (0, 0)
            rows = [_CONTAINER_MARKS.sub("", line).rstrip() for line in self._lines[first:last]]
            self._code("\n".join(row for row in rows if row), MessageEntity.PRE)

    # What is inside a block.

    def _inline(self, token: Token) -> None:
        kind = token.type
        if kind == "text":
            self._words(token.content)
        elif kind in ("softbreak", "hardbreak"):
            self._write("\n")
        elif kind == "code_inline":
            self._code(token.content, MessageEntity.CODE)
        elif kind == "link_open":
            self._start(MessageEntity.TEXT_LINK, str(token.attrs.get("href", "")))
        elif kind == "link_close":
            self._stop(MessageEntity.TEXT_LINK)
        elif kind == "image":
            self._image(token)
        elif kind.endswith("_open") and (mark := _MARKS.get(kind.removesuffix("_open"))):
            self._start(mark)
        elif kind.endswith("_close") and (mark := _MARKS.get(kind.removesuffix("_close"))):
            self._stop(mark)
        else:
            self._words(token.content)

    def _image(self, token: Token) -> None:
        url = str(token.attrs.get("src", ""))
        self._start(MessageEntity.TEXT_LINK, url)
        self._write(token.content or url)
        self._stop(MessageEntity.TEXT_LINK)

    def _words(self, text: str) -> None:
        at = 0
        if not self._is_open(MessageEntity.TEXT_LINK):
            for match in MENTION.finditer(text):
                self._write(text[at : match.start()])
                self._code(match[0], MessageEntity.CODE)
                at = match.end()
        self._write(text[at:])

    def _write(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._length += utf16_units(text)

    # Entities.

    def _start(self, kind: str, url: str | None = None) -> None:
        shown = not self._is_open(kind) and (url is None or _WEB.match(url) is not None)
        self._open.append(_Open(kind, self._length, url, shown))

    def _stop(self, kind: str) -> None:
        found = next((one for one in reversed(self._open) if one.type == kind), None)
        if found is None:
            return
        self._open.remove(found)
        if found.shown:
            self._mark(found)
        elif found.url and not self._is_open(kind) and not _WEB.match(found.url):
            self._words(f" ({found.url})")  # a relative address, or none that may be a link: it is said

    def _is_open(self, kind: str) -> bool:
        return any(one.type == kind and one.shown for one in self._open)

    def _mark(self, of: _Open) -> None:
        if self._length > of.start:
            self._entities.append(MessageEntity(of.type, of.start, self._length - of.start, url=of.url))

    def _code(self, text: str, kind: str, language: str | None = None) -> None:
        """Code can be part of nothing but a quotation: what is open around it ends before and begins again after."""
        around = [one for one in self._open if one.shown and one.type != MessageEntity.BLOCKQUOTE]
        for one in around:
            self._mark(one)
        start = self._length
        self._write(text)
        if self._length > start:
            self._entities.append(MessageEntity(kind, start, self._length - start, language=language))
        for one in around:
            one.start = self._length

    def _harmless(self, text: str) -> str:
        """Names that came together only now, as of ``@**ann**``, or that are in a link, where code cannot be."""
        kinds = (MessageEntity.CODE, MessageEntity.PRE)
        code = sorted((one.offset, one.offset + one.length) for one in self._entities if one.type in kinds)
        seen = units = 0  # characters before the last name, and the same in UTF-16

        def judged(match: re.Match[str]) -> str:
            nonlocal seen, units
            units += utf16_units(text[seen : match.start()])
            seen = match.start()
            before = bisect.bisect_right(code, units, key=lambda span: span[0])
            inside = before > 0 and units < code[before - 1][1]  # no code is in another
            return match[0] if inside else _FULLWIDTH_AT + match[0][1:]

        return MENTION.sub(judged, text)

    def result(self) -> tuple[str, list[MessageEntity]]:
        """Without the space around it, which Telegram takes away as well."""
        text = self._harmless("".join(self._parts))
        stripped = text.strip()
        lead = utf16_units(text) - utf16_units(text.lstrip())
        end = utf16_units(stripped)
        moved = []
        for entity in self._entities:
            start = max(entity.offset - lead, 0)
            stop = min(entity.offset + entity.length - lead, end)
            if stop > start:
                moved.append(MessageEntity(entity.type, start, stop - start, url=entity.url, language=entity.language))
        return stripped, sorted(moved, key=lambda one: (one.offset, -one.length))


def _language(info: str) -> str | None:
    word = info.strip().partition(" ")[0]
    return word if _LANGUAGE.fullmatch(word) else None
