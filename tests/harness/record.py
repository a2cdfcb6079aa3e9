"""What people were shown, read from the fake platform's own disk: also while hermesd is dead."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class Shown:
    """``path``: ``platforms.fake.extra.record``. May be asked from several threads."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._read = 0
        self._messages: list[dict[str, Any]] = []

    def messages(self) -> list[dict[str, Any]]:
        """All of them, oldest first."""
        with self._lock:
            self._read_on()
            return list(self._messages)

    def finals(self, message_id: str) -> list[dict[str, Any]]:
        """The final answers to one message."""
        return [one for one in self.messages() if one["reply_to"] == message_id and one["final"]]

    def wait_final(self, message_id: str, seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while not (found := self.finals(message_id)):
            assert time.monotonic() < until, f"{message_id} was not answered within {seconds} s"
            time.sleep(0.02)
        return found[0]

    def _read_on(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written, or torn by a death
                self._read += len(line)
                entry = json.loads(line)
                if "out" in entry:
                    self._messages.append(entry["out"])
