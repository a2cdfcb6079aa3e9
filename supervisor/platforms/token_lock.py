"""One connector per token on this machine: a lock file in the place and format of hermes-agent's gateway.

Two pollers with one token take each other's messages. The file is ``<scope>-<hash>.lock``, where the hash is the first
16 hexadecimal digits of the SHA-256 of the token; the token itself is never stored. Format and rules are those of
``gateway/status.py`` of hermes-agent 0.8 to 0.19, so that its gateway and hermesd respect each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import Identity
from hermesd.supervisor.instance.process import boot_id, is_same, start_ticks

_TRIES = 3
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a token."""

    pid: int
    program: str
    home: str = ""

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid}{f', home {self.home}' if self.home else ''})"


class TokenLock:
    """Held from `take` to `release`, or until this process is dead."""

    def __init__(self, identity: Identity, environ: Mapping[str, str], home: Path):
        digest = hashlib.sha256(identity.secret.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self._identity = identity
        self._digest = digest
        self._home = home
        self.path = directory(environ) / f"{identity.scope}-{digest}.lock"

    def take(self) -> Owner | None:
        """None: it is ours now. Else who holds it. Raises OSError where no lock can be kept."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for _ in range(_TRIES):
            if self._create():
                return None
            found = self._read()
            if found is not None and _holds(found) and not _is_ours(found):
                return _owner(found)
            # Ours from before an exec in place, a dead one's, or one that its writer was killed over.
            self._remove(found)
        return Owner(0, "another program that has just started")

    def release(self) -> None:
        """Give it up, if it is ours."""
        found = self._read()
        if found is not None and _is_ours(found):
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _create(self) -> bool:
        """Whole or not at all: one that another process finds half written it would take for a dead one's."""
        draft = self._aside("new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(self._record(), stream)
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _remove(self, found: dict[str, Any] | None) -> None:
        """Take away what was found there, and nothing that somebody has put in its place meanwhile."""
        moved = self._aside("old")
        try:
            os.rename(self.path, moved)
        except FileNotFoundError:
            return
        try:
            if self._read(moved) != found:
                with contextlib.suppress(FileExistsError):
                    os.link(moved, self.path)
        finally:
            moved.unlink()

    def _aside(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.{what}")

    def _record(self) -> dict[str, Any]:
        pid = os.getpid()
        return {
            "pid": pid,
            "kind": "hermes-gateway",
            "argv": list(sys.argv),
            # hermes-agent 0.19 takes a lock for stale whose start_time it can compare and whose command line is not
            # its own gateway's (status.py, acquire_scoped_lock); where it is null it goes by the pid alone.
            "start_time": None,
            "scope": self._identity.scope,
            "identity_hash": self._digest,
            "metadata": {
                "program": "hermesd", "home": str(self._home), "start_ticks": start_ticks(pid), "boot_id": boot_id(),
            },
            "updated_at": datetime.now(UTC).isoformat(),
        }  # fmt: skip

    def _read(self, path: Path | None = None) -> dict[str, Any] | None:
        try:
            with (path or self.path).open("rb") as stream:
                found = json.loads(stream.read(_MAX_BYTES))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def directory(environ: Mapping[str, str]) -> Path:
    """Where the locks of this machine's user are, outside of any home."""
    if override := environ.get("HERMES_GATEWAY_LOCK_DIR"):
        return Path(override)
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local" / "state")
    return Path(state) / "hermes" / "gateway-locks"


def _metadata(found: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = found.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _holds(found: Mapping[str, Any]) -> bool:
    """Whether the process that wrote it still lives and can poll: a stopped one does not."""
    pid = _number(found.get("pid"))
    ticks = _number(found.get("start_time")) or _number(_metadata(found).get("start_ticks"))
    if pid <= 0 or not is_same(pid, ticks, str(_metadata(found).get("boot_id") or "")):
        return False
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return status[0] not in (b"T", b"t", b"Z", b"X")
    return True


def _is_ours(found: Mapping[str, Any]) -> bool:
    return _number(found.get("pid")) == os.getpid() and _number(_metadata(found).get("start_ticks")) in (
        0, start_ticks(os.getpid()),
    )  # fmt: skip


def _owner(found: Mapping[str, Any]) -> Owner:
    argv = found.get("argv")
    program = str(_metadata(found).get("program") or "")
    if not program and isinstance(argv, list) and argv:
        program = " ".join(str(part) for part in argv[:3])
    return Owner(_number(found.get("pid")), program or "another program", str(_metadata(found).get("home") or ""))
