"""The keeper's side of its socket: who may be its supervisor, and what waits until one is there.

Several may connect; one is the supervisor, the latest that has proved itself by the instance's secret. What the keeper
has to say while there is none waits, and goes to the next one right behind the answer to its claim.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hermesd.ipc import codec, framing, keeping
from hermesd.ipc.errors import PeerError
from hermesd.ipc.messages import Message
from hermesd.workers.containment import identity
from hermesd.workers.patience import Stretch

log = logging.getLogger("hermesd.keeper")

MAX_CLAIMANTS = 4
"""Connections that have proved nothing; one more and the oldest goes."""

LAST_WORDS = 1.0
"""Seconds that a leaving keeper gives its supervisor to read what it still has to say."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message of the supervisor; the descriptor that came with it belongs to whoever handles it."""

    message: Message
    descriptor: int | None = None


class Claims:
    """``secret``: the SHA-256 digest of the instance's secret; ``ready`` makes the answer to a believed claim."""

    def __init__(self, path: str, secret: bytes, ready: Callable[[], keeping.KeeperReady]):
        self._path = path
        self._secret = secret
        self._ready = ready
        self._codec = codec.Codec(*keeping.TO_KEEPER, *keeping.FROM_KEEPER)
        self._claimants: dict[int, tuple[socket.socket, framing.Deframer]] = {}
        self._connection: socket.socket | None = None
        self._deframer = framing.Deframer()
        self._unsent: deque[tuple[Message, bytes]] = deque()
        self._sent_of_first = 0
        self._listener = self._listen()
        self.claimed = False  # ever
        self.protocol = keeping.PROTOCOL  # of the latest supervisor
        self.alone = Stretch()  # how long there has been no supervisor

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        old = os.umask(0o077)
        try:
            listener.bind(self._path)
        finally:
            os.umask(old)
        listener.listen(4)
        return listener

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def waiting(self) -> Iterator[Message]:
        """What has not gone out in full."""
        return (message for message, _ in self._unsent)

    def send(self, message: Message) -> None:
        """Send, now or to the next supervisor. Order is kept."""
        self._unsent.append((message, framing.frame(self._codec.encode(message))))
        self._flush()

    def register(self, poller: select.poll) -> None:
        """Have a poller wait for whatever `serve` would handle."""
        poller.register(self._listener, select.POLLIN)
        for claimant, _ in self._claimants.values():
            poller.register(claimant, select.POLLIN)
        if self._connection is not None:
            poller.register(self._connection, select.POLLIN | (select.POLLOUT if self._unsent else 0))

    def serve(self, ready: Mapping[int, int], now: float) -> list[Request]:
        """Handle what the poller found; the requests that came. Never blocks."""
        if self._listener.fileno() in ready:
            self._accept()
        requests: list[Request] = []
        for descriptor in [descriptor for descriptor in self._claimants if descriptor in ready]:
            requests += self._hear(descriptor)
        if self._connection is not None and self._connection.fileno() in ready:
            self._flush()
            requests += self._read()
        self.alone = Stretch() if self.connected else self.alone.look(now)
        return requests

    def close(self) -> None:
        """Say the last words and remove the socket."""
        if self._connection is not None:
            self._connection.settimeout(LAST_WORDS)
            self._flush()
        self._disconnect()
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    # ---- claimants ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        if hasattr(socket, "SO_PEERCRED"):
            packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            peer, uid, _ = struct.unpack("3i", packed)
            if uid != os.getuid():
                log.warning("refused a connection of uid %d", uid)
                connection.close()
                return
            if _is_below(peer):
                log.warning("refused a connection of pid %d: it is one of ours", peer)
                connection.close()
                return
        connection.setblocking(False)
        if len(self._claimants) >= MAX_CLAIMANTS:
            oldest, _ = self._claimants.pop(next(iter(self._claimants)))
            oldest.close()
        self._claimants[connection.fileno()] = (connection, framing.Deframer())

    def _hear(self, descriptor: int) -> list[Request]:
        """Let somebody who is connected prove that he is the supervisor; who is that already goes on meanwhile."""
        connection, deframer = self._claimants[descriptor]
        try:
            data, descriptors = framing.receive(connection)
            requests = self._read_requests(deframer, data, descriptors) if data else []
        except (OSError, PeerError) as error:
            log.warning("dropped a connection that did not claim: %s", error)
            data, requests = b"", []
        if data and not requests:
            return []
        del self._claimants[descriptor]
        claim = requests[0].message if requests else None
        digest = hashlib.sha256(claim.secret.encode()).digest() if isinstance(claim, keeping.Claim) else b""
        if not isinstance(claim, keeping.Claim) or not hmac.compare_digest(digest, self._secret):
            if data:
                log.error("refused a claim with a wrong secret")
            for request in requests:
                if request.descriptor is not None:
                    os.close(request.descriptor)
            connection.close()
            return []
        # The newest claim wins: a supervisor that lost its connection must not be locked out by its own ghost.
        self._disconnect()
        self._connection, self._deframer = connection, deframer
        self.claimed = True
        self.protocol = claim.protocol
        answer = self._ready()
        self._unsent.appendleft((answer, framing.frame(self._codec.encode(answer))))
        self._flush()
        return requests[1:]

    # ---- the supervisor ----------------------------------------------------------------------------------------------

    def _read(self) -> list[Request]:
        if self._connection is None:
            return []
        try:
            data, descriptors = framing.receive(self._connection)
            if data:
                return self._read_requests(self._deframer, data, descriptors)
        except BlockingIOError:
            return []
        except (OSError, PeerError) as error:
            log.warning("lost the supervisor: %s", error)
        self._disconnect()
        return []

    def _read_requests(self, deframer: framing.Deframer, data: bytes, descriptors: list[int]) -> list[Request]:
        """Raises `PeerError`; no descriptor is left open then."""
        parcels = deframer.feed_with(data, descriptors)
        requests: list[Request] = []
        try:
            for parcel in parcels:
                requests.append(Request(self._codec.decode(parcel.payload).message, parcel.descriptor))
        except PeerError:
            for parcel in parcels:
                if parcel.descriptor is not None:
                    os.close(parcel.descriptor)
            raise
        return requests

    def _flush(self) -> None:
        while self._connection is not None and self._unsent:
            _, data = self._unsent[0]
            try:
                self._sent_of_first += self._connection.send(data[self._sent_of_first :])
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("lost the supervisor: %s", error)
                return self._disconnect()
            if self._sent_of_first == len(data):
                self._unsent.popleft()
                self._sent_of_first = 0

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._deframer.close()
        # What went out in part has not been read; the answer to a claim is for whoever claimed.
        self._sent_of_first = 0
        self._unsent = deque(entry for entry in self._unsent if not isinstance(entry[0], keeping.KeeperReady))


def _is_below(pid: int) -> bool:
    """Whether a process is a descendant of the keeper: a worker, or something that one has started."""
    keeper = os.getpid()
    while pid > 1:
        if pid == keeper:
            return True
        fields = identity.stat_fields(pid)
        pid = int(fields[1]) if fields is not None else 0
    return False
