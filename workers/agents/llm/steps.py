"""The finished steps of the running turn, on disk as they finish: a turn that lost its worker goes on from them.

One file for the conversation, a line for the turn and one for each message. It is removed when the end of its turn is
on disk, so that it is there after a turn that has failed or got lost. The next turn takes it up if it is the same
message (``/retry``), and removes it otherwise. A line is forced to the disk before the next step begins, so that no
tool that has finished runs twice.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hermesd.ipc.messages import Entry
from hermesd.workers.agents.contract import Turn

from .conversation import Message, in_order

log = logging.getLogger("hermesd.llm")


class Steps:
    """Of one conversation; used by one turn at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._first = ""
        self._there = path.exists()

    def begin(self, turn: Turn, history: Sequence[Entry]) -> list[Message]:
        """The steps that an earlier run of the same message finished; empty for any other."""
        self.close()
        head = _head(turn, history)
        self._first = json.dumps(head)
        found, good = self._read()
        if found and found[0] == head:
            os.truncate(self._path, good)
            self._open(os.O_APPEND)
            return in_order(found[1:])
        self.end()
        return []

    def add(self, message: Message) -> None:
        """A step's message: the model's with its tool calls, or the result of one. Raises OSError."""
        line = json.dumps(message)
        if self._file < 0:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._open(os.O_TRUNC)
            line = f"{self._first}\n{line}"
        os.write(self._file, line.encode() + b"\n")
        os.fdatasync(self._file)

    def end(self) -> None:
        """The turn has its answer, or its user wants none: nothing is left to go on from."""
        self.close()
        if self._there:
            self._path.unlink(missing_ok=True)
            self._there = False

    def close(self) -> None:
        """Let go of the file and leave it where it is."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, flags: int) -> None:
        self._there = True
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """The whole lines, and the bytes that they take: the last one was being written when its worker died."""
        if not self._there:
            return [], 0
        content = self._path.read_bytes()
        found, good = [], 0
        for line in content.split(b"\n")[:-1]:
            try:
                found.append(json.loads(line))
            except ValueError:
                log.warning("cannot read a step in %s: the turn goes on without it and those after it", self._path)
                break
            good += len(line) + 1
        return found, good


def _head(turn: Turn, history: Sequence[Entry]) -> dict[str, Any]:
    """What tells a message from others: a turn that is run again has another id."""
    return {
        "text": turn.text,
        "files": [file.path for file in turn.attachments],
        "after": history[-1].text[-200:] if history else "",
    }
