"""What stickers show, once an agent has looked at one: ``sticker_cache.json`` in the home, in hermes-agent's format.

``{file_unique_id: {description, emoji, set_name, cached_at}}``; a file that is missing or broken is an empty one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import Attachment, Sticker
from hermesd.adapters.text import clean

log = logging.getLogger("hermesd.gateway")

DESCRIPTION_LIMIT = 1000
"""Characters of a description that are kept."""


class Stickers:
    """Read when it is first needed, written whole at each new description."""

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, dict[str, Any]] | None = None
        self._writing = asyncio.Lock()

    async def described(self, file: Attachment) -> Attachment:
        """The same file, with what an agent has said of this sticker before, if one has."""
        if file.sticker is None or not file.sticker.unique_id:
            return file
        known = (await self._load()).get(file.sticker.unique_id)
        description = known.get("description") if known is not None else None
        if not isinstance(description, str) or not description:
            return file
        return replace(file, sticker=replace(file.sticker, description=description))

    async def learn(self, sticker: Sticker, description: str) -> None:
        """An agent has looked at it."""
        known = await self._load()
        known[sticker.unique_id] = {
            "description": clean(description)[:DESCRIPTION_LIMIT],
            "emoji": sticker.emoji,
            "set_name": sticker.set_name,
            "cached_at": time.time(),
        }
        async with self._writing:
            try:
                await asyncio.to_thread(_write, self._path, json.dumps(known, ensure_ascii=False, indent=2))
            except OSError as error:
                log.warning("cannot keep the description of a sticker in %s: %s", self._path, error)

    async def _load(self) -> dict[str, dict[str, Any]]:
        if self._known is None:
            self._known = await asyncio.to_thread(_read, self._path)
        return self._known


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read and counts as empty: %s", path, error)
        return {}
    if not isinstance(found, dict):
        log.warning("%s holds no JSON object and counts as empty", path)
        return {}
    return {key: value for key, value in found.items() if isinstance(value, dict)}


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
