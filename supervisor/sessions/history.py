"""How much of a conversation a new worker is given. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hermesd.ipc.messages import Entry

MAX_BYTES = 4 * 1024 * 1024
"""Of text. Half of what one frame of the wire may have; no model reads as much."""


MAX_ENTRIES = 20_000
"""A frame of the wire may have three times as many."""


def newest(entries: Iterable[Entry], limit: int = MAX_BYTES) -> tuple[Entry, ...]:
    """The newest entries that fit, oldest first; the last one always, cut from its beginning if need be."""
    kept: list[Entry] = []
    left = limit
    for entry in reversed(list(entries)[-MAX_ENTRIES:]):
        size = len(entry.text.encode("utf-8", "replace"))
        if size > left:
            if not kept:
                kept.append(Entry(entry.role, entry.text[-(limit // 4) :], entry.at))
            break
        kept.append(entry)
        left -= size
    kept.reverse()
    return tuple(kept)
