"""Claiming the keepers that an earlier hermesd left: first thing under the lock, before anything heavy is imported.

A keeper whose supervisor is gone kills everything when nobody has claimed it within its time; so this is blocking,
stdlib and `hermesd.ipc` only, and done within a tenth of a second of the start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from hermesd.ipc import codec, framing, keeping
from hermesd.ipc.errors import PeerError
from hermesd.supervisor.instance.keepers import KeeperRecord

log = logging.getLogger("hermesd.pool.claiming")

CLAIM_SECONDS = 3.0
"""For all keepers together. One that imports what workers need has been seen to take a second until it answers."""


@dataclass(eq=False, slots=True)
class Claimed:
    """A keeper that has believed us: its connection, and a pidfd that is proved to be its process."""

    record: KeeperRecord
    ready: keeping.KeeperReady
    socket: socket.socket
    pidfd: int

    def close(self) -> None:
        """Let go of it unheard: it waits for the next supervisor again."""
        self.socket.close()
        os.close(self.pidfd)


@dataclass(eq=False, slots=True)
class Claims:
    """What came of the list. ``leaving``: pids of keepers that speak another protocol and were told to leave."""

    held: list[Claimed] = field(default_factory=list)
    leaving: list[int] = field(default_factory=list)

    def close(self) -> None:
        """For a start that fails before anybody has taken the connections over."""
        while self.held:
            self.held.pop().close()


def claim_all(records: Iterable[KeeperRecord], seconds: float = CLAIM_SECONDS) -> Claims:
    """Claim every keeper of the list that lives. Never raises for a keeper that is dead, mute, or no keeper of ours.

    A mute one is treated as dead: it is swept, and its workers are another keeper's then.
    """
    deadline = time.monotonic() + seconds
    claims = Claims()
    asked = [(record, asking) for record in records if (asking := _ask(record, deadline)) is not None]
    for record, (connection, pidfd) in asked:
        try:
            ready = _hear(connection, deadline)
        except (OSError, PeerError) as error:
            log.warning("%r did not answer to its claim and is given up: %s", record, error)
            connection.close()
            os.close(pidfd)
            continue
        if ready is None or ready.protocol != keeping.PROTOCOL:
            log.warning("%r speaks another protocol: it ends its workers and leaves", record)
            with contextlib.suppress(OSError):
                framing.send_frame(connection, _codec().encode(keeping.Leave()), time.monotonic() + 1.0)
            claims.leaving.append(record.pid)
            connection.close()
            os.close(pidfd)
            continue
        claims.held.append(Claimed(record, ready, connection, pidfd))
    return claims


def _codec() -> codec.Codec:
    return codec.Codec(*keeping.TO_KEEPER, *keeping.FROM_KEEPER)


def _ask(record: KeeperRecord, deadline: float) -> tuple[socket.socket, int] | None:
    """Connect to a living keeper and send the claim; None for one that cannot be reached."""
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return None
    # What is compared after the open is what the pidfd means.
    if not record.is_alive():
        os.close(pidfd)
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        connection.connect(record.socket)
        framing.send_frame(connection, _codec().encode(keeping.Claim(record.secret)), deadline)
    except OSError as error:
        log.warning("%r cannot be claimed: %s", record, error)
        connection.close()
        os.close(pidfd)
        return None
    return connection, pidfd


def _hear(connection: socket.socket, deadline: float) -> keeping.KeeperReady | None:
    """The keeper's answer, and not a byte more: what follows belongs to the event loop. None: it is not understood."""
    frame = framing.recv_frame(connection, deadline)
    try:
        message = _codec().decode(frame).message
    except PeerError:
        return None
    return message if isinstance(message, keeping.KeeperReady) else None
