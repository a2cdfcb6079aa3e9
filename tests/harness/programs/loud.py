"""An agent that logs and floods on command: what a log has to stand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

FORK = multiprocessing.get_context("fork")


class Loud:
    """One command a turn:

    children COUNT RECORDS  forked children that log so many records in all, each with its number
    killed RECORDS          the same with two children more that log without end, killed while they do
    nested                  a child whose own child logs
    print RATE SECONDS      that many MB/s to standard error, from a thread, while other turns are answered
    deltas SECONDS SIZE     streams pieces of so many characters as fast as it can, then answers [how many, when]
    call SERVER TOOL        call a tool
    say TEXT                one log record, at WARNING
    """

    def __init__(self, session: Any):
        self._session = session
        self._floods: list[threading.Thread] = []

    async def turn(self, turn: Any, out: Any) -> str:
        word, _, rest = turn.text.partition(" ")
        command = getattr(self, f"_{word}", None)
        if command is None:
            return f"heard {turn.text}"
        return str(await command(out, *rest.split()))

    async def _say(self, out: Any, *words: str) -> str:
        logging.getLogger("loud").warning(" ".join(words))
        return "said"

    async def _call(self, out: Any, server: str, tool: str) -> str:
        return str((await self._session.mcp.call(server, tool, {})).text)

    async def _children(self, out: Any, count: str, records: str) -> str:
        children = [FORK.Process(target=_log, args=(n, int(count), int(records))) for n in range(int(count))]
        for child in children:
            child.start()
        while any(child.is_alive() for child in children):
            await asyncio.sleep(0.01)
        return f"exit codes {sorted({child.exitcode for child in children})}"

    async def _killed(self, out: Any, records: str) -> str:
        endless = [FORK.Process(target=_log_endlessly, args=(n,)) for n in range(2)]
        with _heard() as heard:
            for child in endless:
                child.start()
            while {pid for name, pid in set(heard) if name == "loud.endless"} != {child.pid for child in endless}:
                await asyncio.sleep(0.01)
        for child in endless:
            os.kill(child.pid, signal.SIGKILL)  # of a child that nobody else reaps
        answer = await self._children(out, "2", records)
        for child in endless:
            child.join()
        logging.getLogger("loud").info("the worker itself logs on")
        return answer

    async def _nested(self, out: Any) -> str:
        child = FORK.Process(target=_fork_again)
        child.start()
        while child.is_alive():
            await asyncio.sleep(0.01)
        return f"exit code {child.exitcode}"

    async def _print(self, out: Any, rate: str, seconds: str) -> str:
        flood = threading.Thread(target=print_at, args=(float(rate), float(seconds)), daemon=True)
        flood.start()
        self._floods.append(flood)
        return "flooding"

    async def _deltas(self, out: Any, seconds: str, size: str) -> str:
        until = time.monotonic() + float(seconds)
        count, piece = 0, "x" * int(size)
        while time.monotonic() < until:
            await out.delta(piece)
            count += 1
            if count % 100 == 0:
                await asyncio.sleep(0)
        return f"[{count}, {time.time()}]"


def print_at(megabytes: float, seconds: float) -> int:
    """Write lines to standard error at a rate; returns the bytes. Blocks as long as nobody reads."""
    block = b"".join(b"%012d the quick brown fox jumps over the lazy dog %020d\n" % (n, n) for n in range(1000))
    began, written = time.monotonic(), 0
    while (now := time.monotonic()) - began < seconds:
        if written > (now - began) * megabytes * 1e6:
            time.sleep(0.001)
            continue
        with contextlib.suppress(BlockingIOError):
            written += os.write(2, block)
    return written


@contextlib.contextmanager
def _heard() -> Iterator[set[tuple[str, int | None]]]:
    """Who logs meanwhile, this process and its children: name and pid of each."""
    (sink,) = logging.getLogger().handlers
    heard: set[tuple[str, int | None]] = set()
    emit = sink.emit

    def noting(record: logging.LogRecord) -> None:
        heard.add((record.name, record.process))
        emit(record)

    sink.emit = noting  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        del sink.emit


def _log(number: int, of: int, records: int) -> None:
    log = logging.getLogger("loud.child")
    for index in range(number, records, of):
        log.info("record %d", index)


def _log_endlessly(number: int) -> None:
    while True:
        logging.getLogger("loud.endless").info("endless %d %s", number, "x" * 500)


def _fork_again() -> None:
    logging.getLogger("loud.child").info("from the child")
    grandchild = FORK.Process(target=_log, args=(0, 1, 3))
    grandchild.start()
    grandchild.join()
    sys.exit(grandchild.exitcode)


def make(session: Any) -> Loud:
    return Loud(session)
