"""hermesd's logs have one writer: JSON lines under a size cap, and plain lines on the terminal in the foreground.

Workers send their records over the wire and they are written here too, so that no two processes ever rotate one file.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hermesd.ipc.redaction import Redactor, names_a_secret, secrets_of
from hermesd.supervisor.ticks import next_tick

from .capped import cut_back
from .file import Limits, LogFile
from .formats import JsonFormatter, PlainFormatter, rfc3339
from .tail import Tail

__all__ = ["Limits", "Tail", "install", "names_a_secret", "rfc3339", "secrets_of", "tend", "write_worker_record"]

TEND_SECONDS = 2.0

RAW_MAX_BYTES = 1 << 20
"""Of each file that processes write into by themselves: what hermesd and its keepers say outside of logging."""

RAW = ("start.log", "keeper*.log")


def install(path: Path, level: str, secrets: Iterable[str], *, terminal: bool, limits: Limits | None = None) -> Tail:
    """Called once, under the instance's lock. ``terminal``: plain lines on stderr besides."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    redactor = Redactor(secrets)
    formatter = JsonFormatter(redactor)
    tail = Tail(formatter)
    handlers: list[logging.Handler] = [LogFile(path, formatter, limits or Limits()), tail]
    if terminal:
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(PlainFormatter(redactor))
        handlers.append(stream)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    # It writes every request to INFO, and the access log of a busy API is nobody's evidence.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return tail


async def tend(directory: Path) -> None:
    """Look after the installed log file, and after what others write into ``directory``, as long as hermesd runs."""
    while True:
        await next_tick(TEND_SECONDS)
        now = time.monotonic()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, LogFile):
                handler.tend(now)
        for pattern in RAW:
            for path in directory.glob(pattern):
                if cut_back(path, RAW_MAX_BYTES):
                    logging.getLogger("hermesd.logs").warning("%s was longer than its cap and was cut", path)


def write_worker_record(at: float, level: int, name: str, text: str, **fields: Any) -> None:
    """One record of a worker, with its own time."""
    logger = logging.getLogger("worker")
    if not logger.isEnabledFor(level):
        return
    record = logger.makeRecord(name or "worker", level, "", 0, text, (), None, extra=fields)
    record.msg, record.args, record.created = text, (), at
    logger.handle(record)
