"""Threads that we take part in: remembered over restarts, so that nobody has to mention us there again. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

CURSOR = "threads"
KEPT = 500


class Threads:
    """The latest `KEPT`, oldest first."""

    def __init__(self, kept: str = ""):
        self._known: dict[str, None] = dict.fromkeys(json.loads(kept) if kept else ())

    def __contains__(self, thread: object) -> bool:
        return thread in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def join(self, thread: str) -> None:
        self._known.pop(thread, None)
        self._known[thread] = None
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]

    def dump(self) -> str:
        return json.dumps([*self._known])
