"""The control server of hermesd: listens on the instance's Unix socket and hands requests to the app's handlers.

It never waits for a client: each connection has tasks of its own, and one that does not read is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from . import access
from .api import check_handlers
from .connection import Connection
from .errors import CannotServe, Code
from .protocol import UNREADABLE, Fault

log = logging.getLogger(__name__)

BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client, and all of them together, may take. Times in seconds."""

    connections: int = 128
    requests: int = 16  # open at once on one connection
    malformed: int = 8  # unreadable frames before a connection is dropped
    waiting_inputs: int = 64  # of one request; after that the connection is read no further
    buffer: int = 256 * 1024  # bytes that may wait for a slow reader before its handlers are held up
    slow: float = 10.0  # how long a reader may hold its handlers up
    idle: float = 300.0  # how long a connection may stay without an open request


@dataclass(slots=True)
class Counters:
    """For ``/metrics`` and ``doctor``; all since the start."""

    connections: int = 0
    requests: int = 0
    failed: int = 0  # requests that ended in a fault
    strangers: int = 0  # connections of other users
    crowded: int = 0  # connections refused because there were too many
    denied: int = 0  # requests refused by the table
    malformed: int = 0  # frames that are no request
    slow: int = 0  # connections cut off because they did not read

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class ControlServer:
    """Owned by the app: ``await open()`` under the instance's lock, ``await close()`` at the end.

    ``handlers`` has one method per row of `hermesd.supervisor.control.api.VERBS`. ``contained`` says whether a pid lies
    in one of our containers; it is asked for every request that changes something and must not block.
    """

    def __init__(self, path: Path, handlers: object, contained: access.Contained, limits: Limits | None = None) -> None:
        check_handlers(handlers)
        self.counters = Counters()
        self._path = path
        self._handlers = handlers
        self._contained = contained
        self._limits = limits or Limits()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] = (0, 0)

    async def open(self) -> None:
        """Binds the socket, replacing what an earlier life left there. Raises `CannotServe`."""
        access.check_supported()
        try:
            self._check_directory()
            listening = self._bind()
        except OSError as error:
            raise CannotServe(f"cannot open the control socket {self._path}: {error}") from error
        self._server = await asyncio.start_unix_server(self._connected, sock=listening, backlog=BACKLOG)

    async def close(self, grace: float = 0.5) -> None:
        """Ends every connection and removes the socket; requests have ``grace`` seconds for their last word.

        What requests have set in motion goes on.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
            self._unlink()
        if self._connections:
            await asyncio.gather(*(connection.settle(grace) for connection in self._connections))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _check_directory(self) -> None:
        directory = self._path.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_uid != os.geteuid():
            raise CannotServe(f"cannot open the control socket: {directory} belongs to uid {found.st_uid}")
        if stat.S_IMODE(found.st_mode) & 0o077:
            directory.chmod(0o700)

    def _bind(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # On Linux the file gets the mode of the socket itself, so it is never open to others, not for a moment.
            os.fchmod(listening.fileno(), 0o600)
            self._path.unlink(missing_ok=True)
            listening.bind(str(self._path))
            os.chmod(self._path, 0o600)
            found = self._path.stat()
            self._inode = (found.st_dev, found.st_ino)
        except BaseException:
            listening.close()
            raise
        return listening

    def _unlink(self) -> None:
        try:
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("cannot remove the control socket %s: %s", self._path, error)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counters.connections += 1
        task = asyncio.create_task(self._serve(reader, writer), name=f"control-{self.counters.connections}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the accept to the end. Runs as a task of its own."""
        try:
            peer = access.peer_of(writer.get_extra_info("socket"))
        except OSError as error:
            log.warning("control: cannot tell who connected: %s", error)
            writer.transport.abort()
            return
        connection = Connection(reader, writer, peer, self._handlers, self._contained, self._limits, self.counters)
        try:
            fault = self._admit(peer)
            if fault is not None:
                await connection.refuse(fault)
                return
            self._connections.add(connection)
            await connection.serve()
        except Exception:
            log.exception("control: the connection of pid %d failed", peer.pid)
        finally:
            self._connections.discard(connection)
            await connection.close()
            peer.close()

    def _admit(self, peer: access.Peer) -> Fault | None:
        ours = os.geteuid()
        if not access.may_connect(peer, ours):
            self.counters.strangers += 1
            log.warning("control: refused uid %d (pid %d)", peer.uid, peer.pid)
            return Fault(UNREADABLE, Code.DENIED, f"this hermesd belongs to uid {ours}, not to uid {peer.uid}")
        if len(self._connections) >= self._limits.connections:
            self.counters.crowded += 1
            return Fault(UNREADABLE, Code.BUSY, f"hermesd serves {len(self._connections)} control connections already")
        return None
