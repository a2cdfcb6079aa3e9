"""One message as the parts that a platform takes. Pure.

Text is cut where the platform's limit is, and numbered; each file is a part of its own, and those which the platform
shows together have the same album. Files that a platform does not take are named in the text instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hermesd.adapters.contract import Albums, Attachment, Capabilities, Outbound
from hermesd.adapters.text import SMALLEST_LIMIT, split

PERHAPS_AGAIN = "(You may have got this before: it is not known whether an earlier try arrived.)"
"""The mark of what goes again after a cut call."""

ROOM_FOR_MARK = len(PERHAPS_AGAIN) + 2
MARKED_FROM = 512
"""Limits below this are too small to keep room for the mark."""

EMPTY = "(The answer is empty.)"

_FENCE_END = re.compile(r"(?:^|\n) {0,3}(`{3,}|~{3,})[^\n]*$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a message's text, and the messages at the platform that show it, or a part of it, already."""

    text: str
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """``edits``: the id of the message that this part replaces, "" for one that is sent."""

    message: Outbound
    edits: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """In the order in which they go out. ``surplus``: ids of shown messages for which there is no text."""

    parts: tuple[Part, ...]
    surplus: tuple[str, ...] = ()


def key_of(key: str, number: int) -> str:
    """The key of the ``number``-th part, from 1."""
    return key if number == 1 else f"{key}:{number}"


def parts_of(
    message: Outbound,
    capabilities: Capabilities,
    *,
    reply_to_mode: str = "first",
    pieces: Sequence[Piece] | None = None,
    above: Sequence[Piece] = (),
    begun: bool = False,
) -> Parts:
    """``pieces``: the message's text with what is shown of it (default: all of it, not shown). ``above``: what comes
    before it and is not counted, being no text of this message. ``begun``: something of this answer is at the platform
    already, so that the first part is not the first that its reader gets.

    There is always at least one part: a message without anything to show says so.
    """
    files, text_only = _takeable(message, capabilities)
    given = [Piece(message.text)] if pieces is None else list(pieces)
    if text_only:
        given[-1:] = [Piece("\n".join(filter(None, [given[-1].text.rstrip(), *text_only])), given[-1].shown)]
    if not files and not any(piece.text.strip() for piece in given):
        given[-1:] = [Piece(EMPTY, given[-1].shown)]
    texts, surplus = _texts(given, capabilities)
    caption = ""
    if _is_caption(texts, files, message, capabilities):
        caption, texts = texts[0][0], []
    before = _above(above, capabilities)
    made = [Part(replace(message, text=text, files=()), edits) for text, edits in (*before, *texts)]
    for number, file in enumerate(files):
        made.append(Part(replace(message, text=caption if number == 0 else "", files=(file,))))
    last_text = len(before) + max(0, len(texts) - 1)
    numbered = []
    for index, part in enumerate(made):
        last = index == len(made) - 1
        first = index == 0 and not begun
        sealed = replace(
            part.message,
            key=key_of(message.key, index + 1),
            final=message.final and last,
            usage=message.usage if last else {},
            question=message.question if index == last_text else None,
            quotes=message.quotes and (reply_to_mode == "all" or (reply_to_mode != "off" and first)),
        )
        numbered.append(Part(sealed, part.edits))
    if capabilities.albums is not None:
        numbered = _in_albums(numbered, capabilities.albums)
    return Parts(tuple(numbered), surplus)


def marked(message: Outbound, capabilities: Capabilities) -> Outbound:
    """The same with a word that it may have come before, as far as the platform's limit has room for it."""
    text = f"{PERHAPS_AGAIN}\n\n{message.text}" if message.text else PERHAPS_AGAIN
    limit = capabilities.max_caption if message.files else capabilities.max_length
    if limit == 0:
        fits = not message.files or not capabilities.max_file_bytes
    else:
        fits = capabilities.unit(text) <= limit
    return replace(message, text=text) if fits else message


def _in_albums(parts: list[Part], albums: Albums) -> list[Part]:
    """Neighbours only: the order is what the agent said."""
    runs: list[list[Part]] = []
    sort, size = "", 0
    for part in parts:
        file = part.message.files[0] if part.message.files and part.message.question is None else None
        word = albums.sort(file) if file is not None else ""
        weight = file.size if file is not None else 0
        light = not albums.most_bytes or size + weight <= albums.most_bytes
        if word and word == sort and len(runs[-1]) < albums.most and light:
            runs[-1].append(part)
            size += weight
        else:
            runs.append([part])
            sort, size = word, weight
    return [
        replace(part, message=replace(part.message, album=run[0].message.key if len(run) > 1 else ""))
        for run in runs
        for part in run
    ]


def _takeable(message: Outbound, capabilities: Capabilities) -> tuple[list[Attachment], list[str]]:
    """The files that the platform takes, and a line for each of the others."""
    files, lines = [], []
    for file in message.files:
        if capabilities.max_file_bytes == 0:
            lines.append(f"[file {file.name}]")
        elif file.size > capabilities.max_file_bytes:
            lines.append(
                f"[file {file.name}: not sent, {file.size} bytes are more than the {capabilities.max_file_bytes} that "
                f"this platform takes]"
            )
        else:
            files.append(file)
    return files, lines


def _is_caption(
    texts: list[tuple[str, str]], files: list[Attachment], message: Outbound, capabilities: Capabilities
) -> bool:
    if len(texts) != 1 or not files or message.question is not None:
        return False
    if files[0].kind in capabilities.bare:
        return False
    text, edits = texts[0]
    room = capabilities.max_caption - _reserve(capabilities.max_caption, capabilities.exact_resends)
    return not edits and capabilities.max_caption > 0 and capabilities.unit(text) <= room


def _reserve(limit: int, exact: bool) -> int:
    """Room that every text leaves for the mark of a second try."""
    return ROOM_FOR_MARK if not exact and limit >= MARKED_FROM else 0


def _texts(pieces: Sequence[Piece], capabilities: Capabilities) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Each text with the id of the message that it replaces, and the ids that are left over."""
    limit = capabilities.max_length
    if limit:
        limit = max(SMALLEST_LIMIT, limit - _reserve(limit, capabilities.exact_resends))
    cut = [_cut(piece.text, limit, capabilities) for piece in pieces]
    total = sum(map(len, cut))
    while total > 1 and limit:
        # The numbers need room, and with less room there may be more numbers.
        room = limit - _number_room(total)
        if room < SMALLEST_LIMIT:
            return _paired(pieces, cut)
        cut = [_cut(piece.text, room, capabilities) for piece in pieces]
        if _number_room(now := sum(map(len, cut))) <= _number_room(total):
            numbers = iter(range(1, now + 1))
            if any(len(texts) > 1 for texts in cut):
                cut = [[_numbered(text, next(numbers), now) for text in texts] for texts in cut]
            break
        total = now
    return _paired(pieces, cut)


def _above(pieces: Sequence[Piece], capabilities: Capabilities) -> list[tuple[str, str]]:
    limit = capabilities.max_length and max(SMALLEST_LIMIT, capabilities.max_length)
    paired, _ = _paired(pieces, [_cut(piece.text, limit, capabilities) for piece in pieces])
    return paired


def _cut(text: str, limit: int, capabilities: Capabilities) -> list[str]:
    if not text.strip():
        return []
    return split(text, limit, capabilities.unit) if limit else [text]


def _number_room(total: int) -> int:
    return len(f" ({total}/{total})")


def _numbered(text: str, number: int, total: int) -> str:
    # Behind the end of a fence it would be taken for the name of a language.
    apart = "\n" if _FENCE_END.search(text) else " "
    return f"{text.rstrip()}{apart}({number}/{total})"


def _paired(pieces: Sequence[Piece], cut: list[list[str]]) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    paired: list[tuple[str, str]] = []
    surplus: list[str] = []
    for piece, texts in zip(pieces, cut, strict=True):
        paired += [(text, piece.shown[index] if index < len(piece.shown) else "") for index, text in enumerate(texts)]
        surplus += piece.shown[len(texts) :]
    return paired, tuple(surplus)
