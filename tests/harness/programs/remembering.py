"""An agent whose state is more than the conversation's texts: the numbers it has drawn, which it tells nobody twice.

The answer says what it found again when it was made, and what it has drawn so far, as JSON.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any


class Remembering:
    def __init__(self) -> None:
        self._drawn: list[int] = []
        self._restored: list[int] = []

    def turn(self, turn: Any, out: Any) -> str:
        self._drawn.append(random.getrandbits(32))
        return json.dumps({"restored": self._restored, "drawn": self._drawn, "pid": os.getpid()})

    def snapshot(self) -> bytes:
        return json.dumps(self._drawn).encode()

    def restore(self, kept: bytes) -> None:
        self._drawn = json.loads(kept)
        self._restored = list(self._drawn)


def make(session: Any) -> Remembering:
    return Remembering()
