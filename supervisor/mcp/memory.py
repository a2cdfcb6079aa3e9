"""What is known of MCP servers, on disk: their tools and their budgets outlive hermesd. ``hermesd/mcp.json``.

Figures, not promises: a hermesd that is killed loses the last second of it, and a file that is missing or broken is an
empty one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hermesd.ipc.mcp import ToolInfo
from hermesd.supervisor.tasks import Tasks

from .budget import Budget, State

log = logging.getLogger("hermesd.mcp")

VERSION = 1

WRITE_AFTER = 1.0
"""Seconds from a change to the file: what comes within them is one writing."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of one server in one configuration."""

    name: str
    config: str
    budget: Budget
    tools: tuple[ToolInfo, ...] | None


class Memory:
    """Read once, at the start; written whole, a while after each change and by `flush`."""

    def __init__(self, path: Path, tasks: Tasks):
        self._path = path
        self._tasks = tasks
        self._read = {(kept.name, kept.config): kept for kept in read(path)}
        self._now: tuple[Kept, ...] = ()
        self._written: tuple[Kept, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, name: str, config: str) -> Kept | None:
        """What an earlier hermesd knew of it. Once: what it was before a change of the configuration is over."""
        return self._read.pop((name, config), None)

    def keep(self, known: Iterable[Kept]) -> None:
        """This is all that is known now."""
        self._now = tuple(known)
        if self._timer is None and self._now != self._written:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return  # before the start nothing has been learnt
            self._timer = loop.call_later(WRITE_AFTER, self._write_soon)

    def flush(self) -> None:
        """At the end of a hermesd: write what waits, here and now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._write(self._now)

    def _write_soon(self) -> None:
        self._timer = None
        self._tasks.job(asyncio.to_thread(self._write, self._now), "write what is known of MCP servers")

    def _write(self, known: tuple[Kept, ...]) -> None:
        try:
            write(self._path, known)
            self._written = known
        except OSError as error:
            log.warning("cannot keep what is known of MCP servers in %s: %s", self._path, error.strerror)


def write(path: Path, known: Iterable[Kept]) -> None:
    """Replace the file, 0600. Raises OSError."""
    document = {"version": VERSION, "servers": [asdict(kept) for kept in known]}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(document, stream, ensure_ascii=False)
    os.replace(temporary, path)


def read(path: Path) -> list[Kept]:
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["version"] != VERSION:
            return []
        return [_kept(entry) for entry in document["servers"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read and counts as empty: %s", path, error)
        return []


def _kept(entry: dict[str, Any]) -> Kept:
    names = {one.name for one in fields(Budget)}
    given = {name: value for name, value in entry["budget"].items() if name in names}
    state = State(given.pop("state"))
    if state is State.TRYING:  # whose try that was is not known any more
        state = State.UNTRIED
    tools = entry["tools"]
    return Kept(
        str(entry["name"]),
        str(entry["config"]),
        Budget(state=state, **given),
        None if tools is None else tuple(ToolInfo(tool["name"], tool["description"], tool["schema"]) for tool in tools),
    )
