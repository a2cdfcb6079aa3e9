"""CURVE keys of one instance, for workers that reach hermesd over TCP: its own pair, and which public keys it lets in.

They lie in a directory that only their owner may enter, because workers outlive hermesd: a later one has to prove
itself with the same key, and to know whose keys it may believe. A worker's secret key is in no file; it is told at
birth.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from hermesd.ipc.sockets import CurveServer, new_keys
from hermesd.supervisor.errors import StartFailed
from hermesd.workers.spec import CurveKeys

_SERVER = "hermesd.key"
_SUFFIX = ".pub"
_KEY_BYTES = 40  # as Z85


class Keys:
    """Belongs to the event loop's thread. Raises `StartFailed` where the directory cannot be used."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._allowed: dict[bytes, str] = {}
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            os.chmod(directory, 0o700)
            self._public, self._secret = self._own()
        except OSError as error:
            raise StartFailed(f"cannot keep the keys of workers in {directory}: {error.strerror}") from error

    def server(self, refused: Callable[[], None]) -> CurveServer:
        """For the ROUTER: it lets in whose key is on the list at that moment, and calls ``refused`` for the others."""

        def allowed(public: bytes) -> bool:
            if public not in self._allowed:
                refused()
                return False
            return True

        return CurveServer(self._secret, allowed)

    def issue(self, worker: str) -> CurveKeys:
        """A new pair for a worker that is about to start; its public key is on the list from now on."""
        public, secret = new_keys()
        self._allowed[public] = worker
        try:
            _write(self._directory / f"{worker}{_SUFFIX}", public)
        except OSError as error:
            raise StartFailed(f"cannot keep the key of {worker} in {self._directory}: {error.strerror}") from error
        return CurveKeys(public.decode(), secret.decode(), self._public.decode())

    def expect(self, worker: str) -> None:
        """A worker that an earlier hermesd started: its key, if it has one, is on the list again."""
        with contextlib.suppress(OSError):
            public = (self._directory / f"{worker}{_SUFFIX}").read_bytes().strip()
            if len(public) == _KEY_BYTES:
                self._allowed[public] = worker

    def revoke(self, worker: str) -> None:
        """The worker is gone."""
        for public in [public for public, owner in self._allowed.items() if owner == worker]:
            del self._allowed[public]
        (self._directory / f"{worker}{_SUFFIX}").unlink(missing_ok=True)

    def forget_others(self) -> None:
        """Remove the keys of workers that nobody expects any more; called once, after the last `expect`."""
        for path in self._directory.glob(f"*{_SUFFIX}"):
            if path.name.removesuffix(_SUFFIX) not in self._allowed.values():
                path.unlink(missing_ok=True)

    def _own(self) -> tuple[bytes, bytes]:
        path = self._directory / _SERVER
        with contextlib.suppress(FileNotFoundError):
            public, _, secret = path.read_bytes().strip().partition(b"\n")
            if len(public) == len(secret) == _KEY_BYTES:
                return public, secret
        public, secret = new_keys()
        _write(path, public + b"\n" + secret)
        return public, secret


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as stream:
        stream.write(content + b"\n")
    os.replace(temporary, path)
