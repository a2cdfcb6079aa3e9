"""What the fake platform remembers over the death of its process: its own disk, one JSON object a line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import Inbound

log = logging.getLogger(__name__)

_FIELDS = {
    "chat": "chat_id", "message_id": "message_id", "user": "user_id", "text": "text", "user_name": "user_name",
    "chat_type": "chat_type", "thread": "thread_id", "trusted": "trusted", "sent_at": "sent_at",
}  # fmt: skip
"""Words of the record, and the fields of `Inbound` that they are."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One message that the platform took from the core, as its users see it by now."""

    number: int
    chat: str
    thread: str
    reply_to: str
    key: str
    text: str
    kind: str
    final: bool
    files: tuple[str, ...] = ()
    usage: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0
    message_id: str = ""
    quotes: bool = True
    choices: tuple[str, ...] | None = None  # the buttons under it; None: it has none
    ask: str = ""
    edits: int = 0
    deleted: bool = False


@dataclass(slots=True)
class Memory:
    """What an earlier life of the platform left. Messages by (chat, id), oldest first."""

    said: dict[tuple[str, str], Inbound] = field(default_factory=dict)
    confirmed: set[tuple[str, str]] = field(default_factory=set)
    shown: list[Shown] = field(default_factory=list)


class Record:
    """``path`` "": nothing outlives the process. Each entry is in the file when its method returns."""

    def __init__(self, path: str):
        self._path = path
        self._descriptor = -1

    def said(self, inbound: Inbound) -> None:
        self._append({"in": {word: getattr(inbound, name) for word, name in _FIELDS.items()}})

    def confirmed(self, chat: str, message_id: str) -> None:
        self._append({"confirmed": {"chat": chat, "message_id": message_id}})

    def shown(self, shown: Shown) -> None:
        """A new message, or an earlier one as it is now."""
        self._append({"out": asdict(shown)})

    def load(self, platform: str) -> Memory:
        memory = Memory()
        if not self._path or not Path(self._path).exists():
            return memory
        for line in Path(self._path).read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                log.warning("fake platform: a torn line in %s is left out", self._path)
                continue
            self._take(memory, platform, entry)
        return memory

    @staticmethod
    def _take(memory: Memory, platform: str, entry: Mapping[str, Any]) -> None:
        match entry:
            case {"in": said}:
                given = {name: said[word] for word, name in _FIELDS.items() if word in said}
                inbound = Inbound(platform=platform, **({"user_id": ""} | given))
                memory.said[(inbound.chat_id, inbound.message_id)] = inbound
            case {"confirmed": {"chat": chat, "message_id": message_id}}:
                memory.confirmed.add((chat, message_id))
            case {"out": shown}:
                choices = tuple(shown["choices"]) if shown.get("choices") is not None else None
                known = Shown(**{**shown, "files": tuple(shown["files"]), "choices": choices})
                if known.number <= len(memory.shown):
                    memory.shown[known.number - 1] = known  # it was changed
                else:
                    memory.shown.append(known)

    def _append(self, entry: dict[str, Any]) -> None:
        if self._path:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.write(self._descriptor, json.dumps(entry).encode() + b"\n")

    def close(self) -> None:
        """Called when the platform stops; a later entry opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
