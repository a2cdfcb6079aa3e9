"""Who lives: programs of a test connect here and say their pid; the connection's end proves the process's death."""

from __future__ import annotations

import os
import select
import socket
import time
from pathlib import Path


class Roll:
    """A listening Unix socket. Programs find it in CONNECT_BACK."""

    def __init__(self, path: Path):
        self.path = path
        self._connections: dict[socket.socket, int] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        # Programs of an ordinary user connect too.
        os.chmod(path, 0o777)
        self._listener.listen(1000)
        self._listener.setblocking(False)

    def alive(self) -> list[int]:
        """The pids of those who called and have not ended."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                break
            connection.setblocking(True)
            connection.settimeout(60.0)
            try:
                self._connections[connection] = int(connection.makefile("rb").readline() or b"0")
            except ConnectionResetError:
                self._connections[connection] = 0
        poller = select.poll()
        numbers = {connection.fileno(): connection for connection in self._connections}
        for number in numbers:
            poller.register(number, select.POLLRDHUP | select.POLLHUP)
        for number, _ in poller.poll(0):
            connection = numbers[number]
            del self._connections[connection]
            connection.close()
        return sorted(self._connections.values())

    def wait_alive(self, count: int, seconds: float = 30.0) -> list[int]:
        """Wait until ``count`` processes are there."""
        until = time.monotonic() + seconds
        while len(pids := self.alive()) != count:
            if time.monotonic() > until:
                raise AssertionError(f"{len(pids)} processes have called instead of {count}: {pids}")
            time.sleep(0.005)
        return pids

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)
