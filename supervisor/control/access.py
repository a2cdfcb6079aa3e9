"""Who may do what over the control socket.

The system says which process connected (not ZeroMQ, not the client): its uid decides whether it may talk at all, and
where it runs decides whether it may change anything. An agent runs as the same user as hermesd, so without the second
rule it could approve its own tool calls.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .errors import CannotServe

ROOT = 0
NO_PID = 0

Contained = Callable[[int], bool]
"""Whether the process with this pid lies in a container of ours. Owned by the pool; asked anew for each request."""


class Access(StrEnum):
    """What a verb needs."""

    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a connection, as it was when it connected."""

    uid: int
    pid: int  # NO_PID where the system does not say, or its pid namespace is not ours
    pidfd: int = -1  # -1: it was gone when we looked, or the system has no pidfds

    @property
    def alive(self) -> bool:
        """Whether the process that connected still lives; a pid that was given anew does not count."""
        if self.pidfd < 0:
            return False
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return not poller.poll(0)

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)


def may_connect(peer: Peer, our_uid: int) -> bool:
    """Only our own user and root."""
    return peer.uid in (our_uid, ROOT)


def refusal(access: Access, peer: Peer, contained: Contained) -> str:
    """Why this peer may not use a verb that needs ``access``; "" if it may.

    A peer that died is taken as contained: a contained process could fork a child that connects, inherit the
    connection and let the child exit, so that nobody can say any more where the child ran.
    """
    if access is Access.READ:
        return ""
    if peer.pid == NO_PID:
        return "the process that asks lies in another pid namespace and may only look"
    # The order matters: alive *after* the look means that the pid was the peer's own all the time.
    inside = contained(peer.pid)
    if not peer.alive:
        return "the process that connected is gone, so nobody can say where it ran; it may only look"
    if inside:
        return f"process {peer.pid} runs in a container of this hermesd and may only look"
    return ""


_SO_PEERPIDFD = 77  # Linux 6.5, asm-generic/socket.h; Python has no name for it


def peer_of(connection: socket.socket) -> Peer:
    """The credentials of a connected Unix socket. Raises OSError if the system refuses them."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII"))
    pid, uid, _gid = struct.unpack("=iII", packed)
    if pid <= NO_PID:
        return Peer(uid, NO_PID)
    return Peer(uid, pid, _pidfd(connection, pid))


def check_supported() -> None:
    """Raises `CannotServe` where the system does not say who connects."""
    if not hasattr(socket, "SO_PEERCRED"):
        raise CannotServe(f"cannot tell who connects to the control socket on {sys.platform}")


def _pidfd(connection: socket.socket, pid: int) -> int:
    try:
        pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:  # ESRCH: dead already, and its number may be another's by now
            return -1
        try:
            return os.pidfd_open(pid)
        except OSError:
            return -1
    os.set_inheritable(pidfd, False)
    return pidfd
