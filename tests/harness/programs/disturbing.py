"""Quiet turns, and turns that disturb others: a function for threads, and an agent of it.

``hello`` is a quiet turn. ``WAY SECONDS`` disturbs for that long, and answers with the times between which it did. A
time in which the machine stood still is none: the others had no chance to be disturbed in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

PIECES = 3
PIECE_SECONDS = 0.001
"""Of waiting for each piece of a quiet answer, as for a model's."""

DELTA = "x" * 100
AT_ONCE = 8  # children
BLOCK = 4 << 20
BLOCKS = 32
PAGE = 4096

LONGEST_STEP = 0.1
"""Seconds that one step counts for at most."""

log = logging.getLogger("disturbing")

State = dict[str, Any]


def turn(text: str, out: Any) -> str:
    """In a thread; ``out.delta`` is called from there."""
    way, _, seconds = text.partition(" ")
    if way not in WAYS:
        return _quiet(text, out)
    step, state, count = WAYS[way], {"out": out}, 0
    began = time.time()
    for _ in steps(float(seconds)):
        step(state)
        count += 1
    return _times(began, count)


def steps(seconds: float) -> Iterator[None]:
    """As many as there are until the time between them has come to so much."""
    lasted, last = 0.0, time.monotonic()
    while lasted < seconds:
        yield
        now = time.monotonic()
        lasted, last = lasted + min(now - last, LONGEST_STEP), now


def _times(began: float, count: int) -> str:
    return json.dumps({"began": began, "ended": time.time(), "count": count})


class Disturbing:
    """The same as an agent."""

    async def turn(self, asked: Any, out: Any) -> str:
        way, _, seconds = asked.text.partition(" ")
        if way == "flood":
            return await _flood_from_the_loop(float(seconds), out)
        return await asyncio.to_thread(turn, asked.text, _FromThread(out))


class _FromThread:
    def __init__(self, out: Any):
        self._out = out
        self._loop = asyncio.get_running_loop()

    def delta(self, text: str) -> None:
        asyncio.run_coroutine_threadsafe(self._out.delta(text), self._loop).result()


async def _flood_from_the_loop(seconds: float, out: Any) -> str:
    """Many times what a thread of a worker gets through, for its every piece waits for the loop."""
    count, began = 0, time.time()
    for _ in steps(seconds):
        await out.delta(DELTA)
        count += 1
        if count % 100 == 0:
            await asyncio.sleep(0)
    return _times(began, count)


def _quiet(text: str, out: Any) -> str:
    answer = ""
    for number in range(PIECES):
        time.sleep(PIECE_SECONDS)
        piece = f"{number}: you said {text}. "
        out.delta(piece)
        answer += piece
    log.info("answered with %d characters", len(answer))
    return answer


def _rest(state: State) -> None:
    time.sleep(0.01)


def _spin(state: State) -> None:
    for _ in range(10_000):
        pass


def _fork(state: State) -> None:
    children = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: that is what is shown here
        for _ in range(AT_ONCE):
            if (pid := os.fork()) == 0:
                os._exit(0)
            children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


def _allocate(state: State) -> None:
    held = state.setdefault("held", [])
    if len(held) == BLOCKS:
        held.clear()
    block = bytearray(BLOCK)
    block[::PAGE] = b"\1" * (BLOCK // PAGE)  # an untouched page costs no memory
    held.append((block, [[number] for number in range(10_000)]))


def _log(state: State) -> None:
    log.info("the quick brown fox jumps over the lazy dog")


def _flood(state: State) -> None:
    state["out"].delta(DELTA)


WAYS: dict[str, Callable[[State], None]] = {
    "rest": _rest,
    "spin": _spin,
    "fork": _fork,
    "allocate": _allocate,
    "log": _log,
    "flood": _flood,
}


def make(session: Any) -> Disturbing:
    return Disturbing()
