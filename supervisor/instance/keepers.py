"""``keepers.json``: every keeper of this instance that may live, so that a later hermesd can take them over.

Written by the hermesd that holds the lock, by rename, 0600: it holds what a supervisor proves itself with. A keeper's
guard reads it too. A keeper that is not on the list is nobody's, and is swept at the next start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import HomeUnusable
from .process import is_same

SCHEMA = 1

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class KeeperRecord:
    """One keeper. ``socket`` is the path it listens on, ``secret`` what it believes a supervisor by."""

    pid: int
    start_ticks: int
    socket: str
    secret: str

    def is_alive(self) -> bool:
        """Whether exactly this process lives, and not a later one of the same pid."""
        return self.start_ticks > 0 and is_same(self.pid, self.start_ticks, "")

    def __repr__(self) -> str:
        return f"<keeper {self.pid} at {self.socket}>"


class Keepers:
    """The list and its file; every change is on disk when the call returns."""

    def __init__(self, path: Path, known: Iterable[KeeperRecord] = ()):
        self.path = path
        self._known = list(known)

    def add(self, record: KeeperRecord) -> None:
        """Called before the keeper is told anything. Raises `HomeUnusable`."""
        self._known.append(record)
        write(self.path, self._known)

    def drop(self, record: KeeperRecord) -> None:
        """It is dead. Raises `HomeUnusable`."""
        self._known = [known for known in self._known if known != record]
        write(self.path, self._known)


def read(path: Path) -> list[KeeperRecord]:
    """The keepers on the list; none for a file that is missing, unreadable, another user's, or no such list."""
    try:
        # O_NONBLOCK: a FIFO in its place would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            return []
        value = json.loads(os.read(descriptor, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return []
    finally:
        os.close(descriptor)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or not isinstance(value.get("keepers"), list):
        return []
    return [record for entry in value["keepers"] if (record := _record(entry)) is not None]


def write(path: Path, records: Iterable[KeeperRecord]) -> None:
    """Put the list in place at once, 0600; an empty one is no file. Raises `HomeUnusable`."""
    entries = [asdict(record) for record in records]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        if not entries:
            path.unlink(missing_ok=True)
            return
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(json.dumps({"schema": SCHEMA, "keepers": entries}).encode() + b"\n")
        os.replace(temporary, path)
    except OSError as error:
        raise HomeUnusable(f"cannot write the list of keepers {path}: {error.strerror}") from error


def _record(entry: object) -> KeeperRecord | None:
    if not isinstance(entry, dict):
        return None
    kinds: dict[str, type] = {"pid": int, "start_ticks": int, "socket": str, "secret": str}
    if any(type(entry.get(name)) is not kind for name, kind in kinds.items()) or entry["pid"] <= 0:
        return None
    return KeeperRecord(**{name: entry[name] for name in kinds})
