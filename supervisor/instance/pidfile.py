"""The PID file: what a running hermesd says of itself. Information only; whether it runs is decided by the lock."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from hermesd.ipc.version import VERSION

from .errors import HomeUnusable
from .process import boot_id, is_same, start_ticks

_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """Who holds a home."""

    pid: int
    start_ticks: int = 0  # 0 = unknown
    boot_id: str = ""
    version: str = ""
    control_socket: str = ""
    started_at: float = 0.0  # Unix seconds

    def is_alive(self) -> bool:
        """Whether exactly this process lives: neither a later one of the same pid nor one of an earlier boot."""
        return is_same(self.pid, self.start_ticks, self.boot_id)


def own_record(control_socket: Path) -> Record:
    """The record of the calling process."""
    pid = os.getpid()
    return Record(pid, start_ticks(pid), boot_id(), VERSION, str(control_socket), time.time())


def encode(record: Record) -> bytes:
    return json.dumps(asdict(record)).encode() + b"\n"


def write(path: Path, record: Record) -> None:
    """Put the record in place at once, 0600. Raises `HomeUnusable`."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(encode(record))
        try:
            os.replace(temporary, path)
        except IsADirectoryError:
            # Whatever stands in the place of the file must not keep hermesd from starting.
            os.replace(path, path.with_name(f"{path.name}.{time.time_ns()}.aside"))
            os.replace(temporary, path)
    except OSError as error:
        raise HomeUnusable(f"cannot write the PID file {path}: {error.strerror}") from error


def remove(path: Path) -> None:
    """At the end of a hermesd, under its lock; leaves the record of another process alone."""
    record = read(path)
    if record is not None and record.pid == os.getpid():
        path.unlink(missing_ok=True)


def read(path: Path) -> Record | None:
    """The record; None for a file that is missing, unreadable, or no record. A bare pid is one."""
    try:
        # O_NONBLOCK: a FIFO in its place would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return parse(os.read(descriptor, _MAX_BYTES))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def parse(raw: bytes) -> Record | None:
    """The record in these bytes; None for anything else."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"pid": value}
    if not isinstance(value, dict):
        return None
    kinds: dict[str, type] = {"pid": int, "start_ticks": int, "boot_id": str, "version": str, "control_socket": str}
    known = {name: value[name] for name, kind in kinds.items() if type(value.get(name)) is kind}
    started = value.get("started_at")
    if isinstance(started, int | float) and not isinstance(started, bool):
        known["started_at"] = float(started)
    if not 0 < known.get("pid", 0) < 1 << 31:
        return None
    return Record(**known)
