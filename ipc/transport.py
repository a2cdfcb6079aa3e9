"""The two ends that carry frames: what `hermesd.ipc.sockets` (ZeroMQ) and `hermesd.ipc.memory` (one process) offer.

Neither promises delivery. ``send`` returning False means "not now" (the peer is not connected, or its queue is full):
nothing was sent, the frame may be offered again. What was taken can still be lost with the peer; `hermesd.ipc.link`
makes up for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OnFrame = Callable[[bytes, bytes], None]
"""Called with the identity of a peer and a frame of it."""


class RouterEnd(Protocol):
    """The supervisor's end: one for all workers. Belongs to one event loop, which calls its `OnFrame`."""

    @property
    def endpoint(self) -> str:
        """The address for the other ends, with the real port."""
        ...

    def send(self, identity: bytes, frame: bytes) -> bool:
        """Whether the frame was taken. Any size and identity is safe to offer."""
        ...

    def close(self) -> None:
        """Free everything; frames that were not on their way yet are gone. May be called twice."""
        ...


class DealerEnd(Protocol):
    """A worker's end. Everything but `wake` belongs to one thread."""

    def poll(self, timeout: float | None) -> tuple[bool, bool]:
        """Wait for at most ``timeout`` seconds (None: without end): (there are frames, somebody called `wake`)."""
        ...

    def recv_all(self) -> list[bytes]:
        """The frames that are there, without waiting; a bounded number, `poll` tells of more."""
        ...

    def send(self, frame: bytes) -> bool:
        """Whether the frame was taken."""
        ...

    def wake(self) -> None:
        """End a running or the next `poll`. For any thread; many calls may become one. Harmless after `close`."""
        ...

    def close(self) -> None:
        """Free everything; frames that were not on their way yet are gone. May be called twice."""
        ...
