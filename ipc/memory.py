"""The two ends of `hermesd.ipc.transport` within one process: for tests of what stands on them.

They behave as the sockets do where it matters: a bounded queue, "not now" for a peer that is not there, frames lost
with a dealer that closes, one thread on each side.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import Final

from .errors import LocalError
from .transport import OnFrame

_LOG: Final = logging.getLogger(__name__)
_BATCH: Final = 256


class MemoryRouter:
    """The supervisor's end. With a loop it calls ``on_frame`` there; without one, when a test calls `drain`."""

    def __init__(self, on_frame: OnFrame, loop: asyncio.AbstractEventLoop | None = None, capacity: int = 1000) -> None:
        self.endpoint = f"memory://{id(self):x}"
        self.capacity = capacity
        self._on_frame = on_frame
        self._loop = loop
        self._lock = threading.Lock()
        self._frames: deque[tuple[bytes, bytes]] = deque()
        self._dealers: dict[bytes, MemoryDealer] = {}
        self._scheduled = False
        self._closed = False

    def send(self, identity: bytes, frame: bytes) -> bool:
        """Whether the dealer of this identity took the frame."""
        if self._closed:
            raise LocalError("cannot send: the router is closed")
        with self._lock:
            dealer = self._dealers.get(identity)
        return dealer is not None and dealer.put(frame)

    def drain(self) -> int:
        """Deliver what has arrived; the number of frames."""
        with self._lock:
            self._scheduled = False
            frames = [self._frames.popleft() for _ in range(min(_BATCH, len(self._frames)))]
            if self._frames:
                self._schedule()
        for identity, frame in frames:
            if self._closed:
                break
            try:
                self._on_frame(identity, frame)
            except Exception:  # noqa: BLE001 - logged; the other frames go on
                _LOG.exception("a frame of %r could not be handled", identity)
        return len(frames)

    def close(self) -> None:
        """Dealers find nobody from now on."""
        with self._lock:
            self._closed = True
            self._frames.clear()
            self._dealers.clear()

    def attach(self, identity: bytes, dealer: MemoryDealer) -> None:
        """Called by a new dealer; as with ROUTER_HANDOVER, the newest of an identity is the one that is served."""
        with self._lock:
            self._dealers[identity] = dealer

    def detach(self, identity: bytes, dealer: MemoryDealer) -> None:
        """Called by a dealer that closes."""
        with self._lock:
            if self._dealers.get(identity) is dealer:
                del self._dealers[identity]

    def put(self, identity: bytes, frame: bytes) -> bool:
        """Called by a dealer that sends."""
        with self._lock:
            if self._closed or len(self._frames) >= self.capacity:
                return False
            self._frames.append((identity, frame))
            self._schedule()
        return True

    def _schedule(self) -> None:
        if self._loop is not None and not self._scheduled and not self._loop.is_closed():
            self._scheduled = True
            self._loop.call_soon_threadsafe(self.drain)


class MemoryDealer:
    """A worker's end, connected to its router by being made."""

    def __init__(self, router: MemoryRouter, identity: bytes) -> None:
        self._router = router
        self._identity = identity
        self._frames: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._woken = False
        self._closed = False
        router.attach(identity, self)

    def poll(self, timeout: float | None) -> tuple[bool, bool]:
        """(there are frames, somebody called `wake`)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._frames and not self._woken:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            woken, self._woken = self._woken, False
            return bool(self._frames), woken

    def recv_all(self) -> list[bytes]:
        """The frames that are there."""
        with self._changed:
            return [self._frames.popleft() for _ in range(min(_BATCH, len(self._frames)))]

    def send(self, frame: bytes) -> bool:
        """Whether the router took the frame."""
        if self._closed:
            raise LocalError("cannot send: the dealer is closed")
        return self._router.put(self._identity, frame)

    def wake(self) -> None:
        """End a running or the next `poll`."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def put(self, frame: bytes) -> bool:
        """Called by the router that sends."""
        with self._changed:
            if self._closed or len(self._frames) >= self._router.capacity:
                return False
            self._frames.append(frame)
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """What was not received yet is lost."""
        self._router.detach(self._identity, self)
        with self._changed:
            self._closed = True
            self._frames.clear()
