"""An agent that uses things up: memory that it keeps, processes that it leaves behind, the processor between turns.

``leak MIB``: keep so much more. ``hog MIB``: use so much at once. ``leave COUNT``: start sleeping children. ``flood
COUNT``: the same, and stay at it. ``burn``: spin in a thread that outlives the turn. ``rest SECONDS``: take so long.
The answer says how many turns the conversation has had before, and how many this process has answered.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import Any

MIB = 1 << 20


class Wasteful:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._kept: list[bytearray] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._turns = 0

    def turn(self, turn: Any, out: Any) -> str:
        self._turns += 1
        word, _, count = turn.text.partition(" ")
        match word:
            case "leak":
                self._kept.append(filled(int(count)))
            case "hog":
                used = filled(int(count))
                time.sleep(60)  # where nobody but a look now and then finds it
                del used
            case "leave" | "flood":
                self._children += [subprocess.Popen(["sleep", "600"]) for _ in range(int(count))]
                if word == "flood":
                    time.sleep(60)
            case "rest":
                time.sleep(float(count))
            case "burn":
                threading.Thread(target=spin, daemon=True).start()
        return f"{len(self._session.history) // 2} turns before, {self._turns} of this process {os.getpid()}"


def filled(mib: int) -> bytearray:
    """Pages that are written to are the process's own."""
    block = bytearray(mib * MIB)
    block[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * len(range(0, len(block), os.sysconf("SC_PAGE_SIZE")))
    return block


def spin() -> None:
    while True:
        pass


def make(session: Any) -> Wasteful:
    return Wasteful(session)
