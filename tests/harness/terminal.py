"""A program on a terminal of its own, typed at and read as a person would."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self


class Terminal:
    """``with Terminal([program, ...], env) as terminal``: the program is killed at the end if it still runs."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]):
        self.status: int | None = None
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], list(command), {**env, "TERM": "xterm"})

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, pattern: str, seconds: float = 60.0) -> str:
        """Wait for a pattern, and forget what came before and with it. Returns what came before it."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            if not select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
            if not self._read():
                raise AssertionError(f"the program ended before {pattern!r}: {self.seen!r}")
        before, self.seen = self.seen[: match.start()], self.seen[match.end() :]
        return before

    def reads(self) -> bool:
        """Whether the program reads key by key just now, as readline does; what is typed before may have no meaning."""
        return not termios.tcgetattr(self.fd)[3] & termios.ICANON

    def wait(self, seconds: float = 60.0) -> int:
        """The exit status, once the program has ended; negative for a signal."""
        deadline = time.monotonic() + seconds
        while select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not self._read():
                self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                return self.status
        raise AssertionError(f"it has not ended within {seconds} s: {self.seen!r}")

    def _read(self) -> bool:
        try:
            data = os.read(self.fd, 4096)
        except OSError:  # EIO: nobody holds the other side any more
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)  # our own child, not reaped yet: its number is still its own
            os.waitpid(self.pid, 0)
        os.close(self.fd)
