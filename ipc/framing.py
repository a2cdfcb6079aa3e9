"""Frames over a stream socket: four bytes of length, big endian, then that many bytes.

The control socket and the keeper's socket speak it. `Deframer` and `FrameWriter` are for processes that wait for many
things at once; `send_frame` and `recv_frame` for clients that wait for one. A descriptor can travel beside a frame.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from .errors import LocalError, PeerError

MAX_FRAME: Final = 8 * 1024 * 1024

_HEADER: Final = 4
_CHUNK: Final = 65536
_MAX_DESCRIPTORS: Final = 4  # one is allowed; room to see that a peer sent more, and to close them
_CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # Linux; elsewhere set right after the receive


class Parcel(NamedTuple):
    """A frame and the descriptor that came beside it, which now belongs to whoever takes the parcel."""

    payload: bytes
    descriptor: int | None = None


def frame(payload: bytes, max_frame: int = MAX_FRAME) -> bytes:
    """The payload as it travels. Raises `LocalError` if it is too long."""
    if len(payload) > max_frame:
        raise LocalError(f"cannot send a frame: it has {len(payload)} bytes, {max_frame} at most")
    return len(payload).to_bytes(_HEADER, "big") + payload


class Deframer:
    """Takes a byte stream apart into frames; no socket.

    After a `PeerError` the stream has no known border any more: close the connection.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray()
        self._broken = False
        self._descriptor: int | None = None  # of the frame that is still incomplete

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that these bytes complete. Raises `PeerError` when a frame is announced that is too long."""
        return [parcel.payload for parcel in self.feed_with(data, ())]

    def feed_with(self, data: bytes, descriptors: Iterable[int]) -> list[Parcel]:
        """The same with the descriptors that `receive` gave together with the bytes.

        Linux ends a read at the bytes that a descriptor came with (``unix_stream_read_generic`` leaves its loop), so it
        belongs to the last frame that begins in ``data``. Whatever goes wrong, descriptors are closed, not leaked.
        """
        given = list(descriptors)
        try:
            parcels = self._take_apart(data, given)
        except PeerError:
            self._broken = True
            self.close()
            raise
        finally:
            for descriptor in given:
                os.close(descriptor)
        return parcels

    @property
    def incomplete(self) -> bool:
        """Whether the stream would end in the middle of a frame if it ended now."""
        return bool(self._buffer)

    def close(self) -> None:
        """Close a descriptor that came with a frame which never became complete."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take_apart(self, data: bytes, descriptors: list[int]) -> list[Parcel]:
        """The complete frames; takes the descriptor that it finds a frame for out of the list."""
        if self._broken:
            raise PeerError("cannot read the stream: a frame before was too long")
        if len(descriptors) > 1:
            raise PeerError(f"cannot read a frame: {len(descriptors)} descriptors came with it, one is allowed")
        old = len(self._buffer)
        self._buffer += data
        payloads: list[bytes] = []
        start = 0
        begun_here = -1  # index of the last frame that begins in this data
        while start < len(self._buffer):
            if start >= old:
                begun_here = len(payloads)
            body = start + _HEADER
            if len(self._buffer) < body:
                break
            size = int.from_bytes(self._buffer[start:body], "big")
            if size > self._max_frame:
                raise PeerError(f"cannot read a frame: {size} bytes are announced, {self._max_frame} at most")
            if len(self._buffer) < body + size:
                break
            payloads.append(bytes(self._buffer[body : body + size]))
            start = body + size
        if descriptors and begun_here < 0:
            raise PeerError("cannot read a frame: a descriptor came in the middle of it")
        del self._buffer[:start]
        parcels = [Parcel(payload) for payload in payloads]
        if self._descriptor is not None and parcels:
            parcels[0] = Parcel(payloads[0], self._descriptor)
            self._descriptor = None
        if descriptors:
            if begun_here < len(parcels):
                parcels[begun_here] = Parcel(payloads[begun_here], descriptors.pop())
            else:
                self._descriptor = descriptors.pop()
        return parcels


class FrameWriter:
    """Frames on their way into a non-blocking stream socket, each whole and in order."""

    def __init__(self, sock: socket.socket, max_frame: int = MAX_FRAME) -> None:
        self._socket = sock
        self._max_frame = max_frame
        self._waiting: deque[Parcel] = deque()

    def put(self, payload: bytes, descriptor: int | None = None) -> None:
        """Queue a frame; the descriptor is the writer's from now on and closed once it is sent.

        Raises `LocalError` for a frame that is too long; the descriptor stays the caller's then.
        """
        self._waiting.append(Parcel(frame(payload, self._max_frame), descriptor))

    def flush(self) -> bool:
        """Write what the socket takes. True: nothing waits. False: call again when it is writable. Raises OSError."""
        while self._waiting:
            data, descriptor = self._waiting[0]
            try:
                count = _send(self._socket, data, descriptor)
            except BlockingIOError:
                return False
            if descriptor is not None:
                os.close(descriptor)
            if count == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = Parcel(data[count:])
        return True

    def close(self) -> None:
        """Forget what waits. The socket stays the caller's."""
        for parcel in self._waiting:
            if parcel.descriptor is not None:
                os.close(parcel.descriptor)
        self._waiting.clear()


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One read of a stream socket: bytes (none: the end) and descriptors, closed on exec. For `Deframer.feed_with`.

    Raises OSError, BlockingIOError among them; `PeerError` if descriptors got lost for their number.
    """
    data, descriptors, flags, _address = socket.recv_fds(sock, _CHUNK, _MAX_DESCRIPTORS, _CLOSE_ON_EXEC)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    if flags & socket.MSG_CTRUNC:
        for descriptor in descriptors:
            os.close(descriptor)
        raise PeerError("cannot read a frame: more descriptors came with it than fit, one is allowed")
    return data, list(descriptors)


def send_frame(
    sock: socket.socket, payload: bytes, deadline: float, descriptor: int | None = None, max_frame: int = MAX_FRAME
) -> None:
    """Send a frame, and a descriptor beside it that stays the caller's, until ``deadline`` (``time.monotonic``).

    Sets the socket's time-out. Raises TimeoutError and other OSErrors; after one of them the stream is unusable.
    """
    data = memoryview(frame(payload, max_frame))
    while data:
        sock.settimeout(_left(deadline))
        count = _send(sock, data, descriptor)
        descriptor = None
        data = data[count:]


def recv_frame(sock: socket.socket, deadline: float, max_frame: int = MAX_FRAME) -> bytes:
    """The next frame, until ``deadline`` (``time.monotonic``); reads nothing beyond it. Sets the socket's time-out.

    Raises TimeoutError and other OSErrors (ConnectionError: the other end closed), `PeerError` for one too long.
    """
    size = int.from_bytes(_recv_exactly(sock, _HEADER, deadline), "big")
    if size > max_frame:
        raise PeerError(f"cannot read a frame: {size} bytes are announced, {max_frame} at most")
    return _recv_exactly(sock, size, deadline)


def _send(sock: socket.socket, data: bytes | memoryview, descriptor: int | None) -> int:
    return sock.send(data) if descriptor is None else socket.send_fds(sock, [data], [descriptor])


def _recv_exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        sock.settimeout(_left(deadline))
        part = sock.recv(min(size - len(data), _CHUNK))
        if not part:
            raise ConnectionError("cannot read a frame: the other end closed the connection")
        data += part
    return bytes(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the other end did not answer in time")
    return left
