"""Where everything of one instance lies. An instance is a home; its id is a hash of the home's real path.

Making a `Paths` touches nothing on disk, so that ``hermesctl`` can ask about a home that is not there.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import HomeUnusable

LONGEST_SOCKET_PATH = 100
"""Bytes. The kernel's limit is 107 on Linux and 103 on macOS, and ZeroMQ adds nothing to it."""

LONGEST_SOCKET_NAME = len("keeper-0123456789abcdef.sock")


@dataclass(frozen=True, slots=True)
class Paths:
    """Files and directories of one instance. ``sockets`` is ``run`` unless its path would be too long for a socket."""

    home: Path
    instance: str  # 12 hex digits
    sockets: Path

    @property
    def ours(self) -> Path:
        return self.home / "hermesd"

    @property
    def run(self) -> Path:
        return self.ours / "run"

    @property
    def lock(self) -> Path:
        return self.run / "hermesd.lock"

    @property
    def pid_file(self) -> Path:
        return self.run / "hermesd.pid"

    @property
    def keepers(self) -> Path:
        return self.run / "keepers.json"

    @property
    def journal(self) -> Path:
        return self.ours / "state.db"

    @property
    def mcp(self) -> Path:
        """What is known of MCP servers (`hermesd.supervisor.mcp.memory`)."""
        return self.ours / "mcp.json"

    @property
    def logs(self) -> Path:
        return self.ours / "logs"

    @property
    def start_log(self) -> Path:
        return self.logs / "start.log"

    @property
    def session_logs(self) -> Path:
        return self.logs / "sessions"

    @property
    def media(self) -> Path:
        return self.ours / "media"

    @property
    def hermes_view(self) -> Path:
        """The home as the agent ``hermes`` sees it."""
        return self.ours / "hermes-home"

    @property
    def control_socket(self) -> Path:
        return self.sockets / "control.sock"

    @property
    def worker_socket(self) -> Path:
        """The supervisor's ROUTER; ``ipc://`` before it is its ZeroMQ address."""
        return self.sockets / "workers.sock"

    def socket(self, name: str) -> Path:
        """A further socket. Raises ValueError for a name that might make the path too long."""
        if len(name) > LONGEST_SOCKET_NAME:
            raise ValueError(f"a socket's name must not be longer than {LONGEST_SOCKET_NAME} bytes: {name}")
        return self.sockets / name

    def prepare_logs(self) -> None:
        """Make what a start writes its log into, and no more. Raises `HomeUnusable`."""
        _make(self.home, "home", private=False)
        for directory in (self.ours, self.logs):
            _make(directory, "directory", private=True)

    def prepare(self) -> None:
        """Make the directories, 0700. Called before the lock is taken. Raises `HomeUnusable`."""
        self.prepare_logs()
        for directory in (self.run, self.media):
            _make(directory, "directory", private=True)
        if self.sockets != self.run:
            _make(self.sockets, "runtime directory", private=True)

    def clear_sockets(self, remove: bool = False, spare: Collection[Path] = ()) -> None:
        """Unlink what an earlier life left in ``sockets``; only under the lock. ``remove``: then the place too.

        ``spare``: sockets of keepers that live on.
        """
        if not self.sockets.is_dir() or self.sockets.is_symlink():
            return
        for path in self.sockets.iterdir():
            if path not in spare and stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink(missing_ok=True)
        if remove and self.sockets != self.run and not any(self.sockets.iterdir()):
            self.sockets.rmdir()


def session_log_name(session: str) -> str:
    """The file name of a session's own log, in ``logs/sessions``. A key may hold anything, also slashes."""
    digest = hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain(session)}-{digest[:8]}.log"


def plain(text: str) -> str:
    """The end of a text in characters that any file name may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[-80:].lstrip(".")


def resolve_home(option: Path | None, environ: Mapping[str, str]) -> Path:
    """``--home``, else ``$HERMES_HOME``, else ``~/.hermes``; absolute, links of the home itself followed.

    Raises `HomeUnusable` where a link on the way may not be followed.
    """
    named = str(option) if option else environ.get("HERMES_HOME") or str(Path(environ.get("HOME") or "~") / ".hermes")
    try:
        return Path(os.path.realpath(Path(named).expanduser()))
    except OSError as error:
        raise HomeUnusable(f"cannot use {named} as home: {error.strerror} ({error.filename})") from error


def paths_of(home: Path, environ: Mapping[str, str]) -> Paths:
    """The places of this home's instance."""
    home = Path(os.path.realpath(home))
    instance = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    run = home / "hermesd" / "run"
    if len(os.fsencode(run)) + 1 + LONGEST_SOCKET_NAME <= LONGEST_SOCKET_PATH:
        return Paths(home, instance, run)
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    moved = Path(runtime) / f"hermesd-{instance}"
    fits = len(os.fsencode(moved)) + 1 + LONGEST_SOCKET_NAME <= LONGEST_SOCKET_PATH
    if not (runtime.startswith("/") and fits and os.path.isdir(runtime)):
        moved = Path("/tmp") / f"hermesd-{os.getuid()}-{instance}"
    return Paths(home, instance, moved)


def _make(path: Path, what: str, private: bool) -> None:
    try:
        path.mkdir(mode=0o700, parents=not private, exist_ok=True)
        found = path.lstat() if private else path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise HomeUnusable(f"cannot use {path} as {what}: it is not a directory")
        # In /tmp anybody may have made a directory, or a link, of the name that we would choose.
        if private and found.st_uid != os.getuid():
            raise HomeUnusable(f"cannot use {path} as {what}: it belongs to uid {found.st_uid}, not to {os.getuid()}")
        if private and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    except FileExistsError as error:
        raise HomeUnusable(f"cannot use {path} as {what}: it is not a directory") from error
    except OSError as error:
        raise HomeUnusable(f"cannot make the {what} {path}: {error.strerror}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise HomeUnusable(f"cannot use {path} as {what}: this user (uid {os.getuid()}) may not write there")
