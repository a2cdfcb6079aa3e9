"""Updates that wait until they are acknowledged: by a later offset, or by a webhook's 200."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any


class Updates:
    """The queue of one bot. Nothing is removed from it but by `forget`."""

    def __init__(self, seed: int = 0):
        # Ids are sequential, and begin anywhere.
        self._next = random.Random(seed).randrange(10**8, 9 * 10**8)
        self._waiting: dict[int, dict[str, Any]] = {}

    def add(self, kind: str, what: dict[str, Any]) -> int:
        update_id = self._next
        self._next += 1
        self._waiting[update_id] = {"update_id": update_id, kind: what}
        return update_id

    def add_raw(self, update: dict[str, Any]) -> int:
        """Something no client library expects."""
        update_id = self._next
        self._next += 1
        self._waiting[update_id] = {"update_id": update_id, **update}
        return update_id

    def begin_anew(self, update_id: int) -> None:
        """After a week without updates ids begin anywhere: core.telegram.org/bots/api#update."""
        self._next = update_id

    def drop(self) -> None:
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(list(self._waiting.values()))

    def __contains__(self, update_id: int) -> bool:
        return update_id in self._waiting

    def acknowledge(self, offset: int) -> None:
        """Client.cpp `do_get_updates`: an offset in the future counts as none, a negative one keeps the last ones."""
        if offset < 0:
            for update_id in list(self._waiting)[: len(self._waiting) + offset]:
                del self._waiting[update_id]
        elif 0 < offset <= self._next:
            for update_id in [known for known in self._waiting if known < offset]:
                del self._waiting[update_id]

    def forget(self, update_id: int) -> None:
        self._waiting.pop(update_id, None)

    def first(self, limit: int) -> list[dict[str, Any]]:
        return list(self._waiting.values())[:limit]
