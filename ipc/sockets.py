"""ZeroMQ: a ROUTER for the supervisor's event loop, a DEALER for a worker's link thread.

The only file that imports zmq. Each object has a context of its own, because a context must not cross a fork: its I/O
threads stay behind in the parent.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from .codec import MAX_FRAME
from .errors import LocalError
from .transport import OnFrame

_LOG: Final = logging.getLogger(__name__)

MAX_PATH: Final = 100
"""Bytes of an ipc path. The kernel's ``sun_path`` has 108 with its final NUL; some room is kept for other systems."""

_BATCH: Final = 256  # messages handled before other work of the loop gets its turn
_BATCH_SECONDS: Final = 0.005  # and for how long: an answer passes the loop several times, each time behind a batch
_HIGH_WATER: Final = 1000  # messages per peer and direction
_NOT_NOW: Final = frozenset({zmq.EAGAIN, zmq.EHOSTUNREACH})
# At import, which is in the keeper: an enum walks over its members to make a value that it has not had yet.
_WATCHED: Final = int(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
_GONE: Final = frozenset({zmq.ENOTSOCK, zmq.ETERM})


@dataclass(frozen=True, slots=True)
class CurveServer:
    """Keys of a ROUTER on tcp, and whom it lets in: public keys as `new_keys` gives them (Z85, 40 bytes).

    ``allowed`` is asked in the loop, once for each connection; one that has no key at all does not get so far.
    """

    secret: bytes = field(repr=False)
    allowed: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class CurveClient:
    """Keys of a DEALER on tcp; ``server`` is the public key that the ROUTER has to prove."""

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes


def new_keys() -> tuple[bytes, bytes]:
    """A public and a secret key for CURVE, as `CurveServer` and `CurveClient` have them."""
    return zmq.curve_keypair()


class Router:
    """Binds and serves all workers from an asyncio loop; has to be made, used and closed in the loop's thread.

    Bind only under the home's lock: a second bind on a live ipc path succeeds and takes over its new connections.

    ``on_frame(identity, frame)`` is called for what arrives; what it raises is logged and does not stop the others.
    Raises `LocalError` for an address it cannot bind.
    """

    def __init__(
        self,
        endpoint: str,
        on_frame: OnFrame,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        security: CurveServer | None = None,
        high_water: int = _HIGH_WATER,
        max_frame: int = MAX_FRAME,
    ) -> None:
        _check_endpoint("bind", endpoint, security)
        loop = loop or asyncio.get_running_loop()
        self.malformed = 0  # messages that were no pair of identity and frame
        self._on_frame = on_frame
        self._pid = os.getpid()
        self._context = zmq.Context()
        self._gate: _KeyGate | None = None
        socket = self._context.socket(zmq.ROUTER)
        try:
            socket.set(zmq.ROUTER_MANDATORY, 1)
            # A child that an agent forked holds its worker's descriptors and so keeps the old connection open; without
            # the handover the worker's new connection would be ignored until that child is gone.
            socket.set(zmq.ROUTER_HANDOVER, 1)
            _set_common(socket, high_water, max_frame)
            if security is not None:
                self._gate = _KeyGate(self._context, loop, security.allowed)
                socket.set(zmq.CURVE_SERVER, 1)
                socket.set(zmq.CURVE_SECRETKEY, security.secret)
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                raise LocalError(f"cannot bind {endpoint}: {error}") from error
            self.endpoint = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
            self._file = _SocketFile(endpoint)
        except BaseException:
            socket.close(linger=0)
            if self._gate is not None:
                self._gate.close()
            self._context.term()
            raise
        self._socket = socket
        self._pump = _Pump(loop, socket, self._on_message)

    def send(self, identity: bytes, frame: bytes) -> bool:
        """Whether ZeroMQ took the frame; False while this peer is not connected or has a full queue."""
        self._check_process()
        try:
            self._socket.send_multipart((identity, frame), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            return _not_now(error)
        finally:
            self._pump.look_again()
        return True

    def close(self) -> None:
        """Leave the loop, drop every connection, remove the ipc socket file."""
        if self._socket.closed or os.getpid() != self._pid:
            return
        self._pump.close()
        self._file.remove()
        self._socket.close(linger=0)
        if self._gate is not None:
            self._gate.close()
        self._context.term()

    def _on_message(self, parts: list[bytes]) -> None:
        if len(parts) == 2:
            self._on_frame(parts[0], parts[1])
        else:
            self.malformed += 1

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise LocalError(f"cannot use the router of process {self._pid} in its fork {os.getpid()}")


class Dealer:
    """Connects a worker to the supervisor. One thread owns it; any thread may call `wake`, and `send` if it calls
    `look_again` afterwards.

    ZeroMQ connects again by itself when the other end has gone, and whoever binds the address next is the other end
    then. `poll` keeps count of it in ``connections`` and ``connected``.

    ``identity``: 1 to 255 bytes, not beginning with a zero byte, unique for each life of a worker.
    """

    def __init__(
        self,
        endpoint: str,
        identity: bytes,
        *,
        security: CurveClient | None = None,
        high_water: int = _HIGH_WATER,
        max_frame: int = MAX_FRAME,
    ) -> None:
        _check_endpoint("connect to", endpoint, security)
        if not 1 <= len(identity) <= 255 or identity[0] == 0:
            raise LocalError(f"cannot connect to {endpoint}: {identity!r} is no identity for ZeroMQ")
        self._pid = os.getpid()
        self._context = zmq.Context()
        socket = self._context.socket(zmq.DEALER)
        try:
            # Frames queue only for a live connection: what is offered while there is none comes back as "not now", and
            # resending cannot pile up copies for the moment of the reconnect.
            socket.set(zmq.IMMEDIATE, 1)
            socket.set(zmq.RECONNECT_IVL, 50)
            socket.set(zmq.RECONNECT_IVL_MAX, 250)
            socket.set(zmq.ROUTING_ID, identity)
            _set_common(socket, high_water, max_frame)
            if security is not None:
                socket.set(zmq.CURVE_PUBLICKEY, security.public)
                socket.set(zmq.CURVE_SECRETKEY, security.secret)
                socket.set(zmq.CURVE_SERVERKEY, security.server)
            self._monitor = _Monitor(socket)
            try:
                socket.connect(endpoint)
            except zmq.ZMQError as error:
                self._monitor.close()
                raise LocalError(f"cannot connect to {endpoint}: {error}") from error
            self._wakener = _Wakener()
        except BaseException:
            socket.close(linger=0)
            self._context.term()
            raise
        self._socket = socket
        self._lock = threading.Lock()  # a socket may change its thread where there is a barrier in between
        # Of descriptors only: zmq_poll would look into the sockets while it waits, which another thread may be using.
        self._poller = zmq.Poller()
        self._fd = int(socket.get(zmq.FD))
        for fd in (self._fd, self._wakener.fd, self._monitor.fd):
            self._poller.register(fd, zmq.POLLIN)
        self._watched: set[int] = set()
        self.readable: frozenset[int] = frozenset()  # of the watched descriptors, at the last `poll`

    @property
    def connections(self) -> int:
        """How many connections have been made so far, as of the last `poll`."""
        return self._monitor.made

    @property
    def connected(self) -> bool:
        """Whether there is one, as of the last `poll`."""
        return self._monitor.stands

    def watch(self, descriptor: int) -> None:
        """Have `poll` end when this descriptor is readable, too."""
        self._poller.register(descriptor, zmq.POLLIN)
        self._watched.add(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """To be called before the descriptor is closed."""
        self._poller.unregister(descriptor)
        self._watched.discard(descriptor)

    def wait_connected(self, timeout: float) -> bool:
        """Wait for at most ``timeout`` seconds until a frame can be sent: until then `send` would say "not now"."""
        self._check_process()
        return bool(self._socket.poll(max(0, math.ceil(timeout * 1000)), zmq.POLLOUT))

    def poll(self, timeout: float | None) -> tuple[bool, bool]:
        """Wait for at most ``timeout`` seconds (None: without end): (there are frames, somebody called `wake`).

        Ends as well when a connection was made or lost, and for a watched descriptor. zmq waits in whole milliseconds;
        it is rounded up, so that a caller with a deadline does not spin before it.
        """
        self._check_process()
        with self._lock:
            there = _has_more(self._socket)  # a send may have taken the edge of the FD
        if there:
            timeout = 0.0
        ready = dict(self._poller.poll(None if timeout is None else max(0, math.ceil(timeout * 1000))))
        woken = self._wakener.fd in ready
        if woken:
            self._wakener.clear()
        if self._monitor.fd in ready:
            self._monitor.read()
        self.readable = frozenset(self._watched & ready.keys())
        if not there and self._fd in ready:
            with self._lock:
                there = _has_more(self._socket)  # it is readable for ZeroMQ's own news as well
        return there, woken

    def recv_all(self) -> list[bytes]:
        """The frames that are there, 256 at most; `poll` tells of more at once."""
        self._check_process()
        frames: list[bytes] = []
        with self._lock:
            try:
                while len(frames) < _BATCH:
                    if len(frames) == 1 and not _has_more(self._socket):
                        break
                    parts = _receive(self._socket)
                    if len(parts) == 1:
                        frames.append(parts[0])
            except zmq.ZMQError as error:
                _not_now(error)
        return frames

    def send(self, frame: bytes) -> bool:
        """Whether ZeroMQ took the frame; False while there is no connection or its queue is full."""
        self._check_process()
        with self._lock:
            try:
                self._socket.send(frame, zmq.NOBLOCK)
            except zmq.ZMQError as error:
                return _not_now(error)
        return True

    def look_again(self) -> None:
        """To be called after a `send` of another thread than that of `poll`: what has come may not end that by now."""
        with self._lock:
            there = _has_more(self._socket)
        if there:
            self._wakener.wake()

    def wake(self) -> None:
        """End a running or the next `poll`."""
        self._wakener.wake()

    def close(self) -> None:
        """Drop the connection and what was not on its way yet."""
        if self._socket.closed or os.getpid() != self._pid:
            return
        self._wakener.close()
        self._monitor.close()
        self._socket.close(linger=0)
        self._context.term()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise LocalError(f"cannot use the dealer of process {self._pid} in its fork {os.getpid()}")


class _SocketFile:
    """The file of an ipc address, which libzmq leaves behind unless it chose the name itself."""

    def __init__(self, endpoint: str) -> None:
        self._path = Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None
        self._inode = self._path.stat().st_ino if self._path is not None else 0

    def remove(self) -> None:
        """Unless the path has a new owner already."""
        try:
            if self._path is not None and self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            _LOG.debug("the socket file %s was gone already", self._path)


class _Pump:
    """Calls back for every message of a ZeroMQ socket, in an asyncio loop.

    A socket's FD is edge-triggered, and every operation on the socket may take the edge away. So all that is there is
    read in one go, in batches between which the loop runs, and looked for once more after every send.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, socket: zmq.Socket[bytes], on_message: Callable[[list[bytes]], None]
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._on_message = on_message
        self._draining = False
        self._scheduled = False
        self._closed = False
        self._fd = int(socket.get(zmq.FD))
        loop.add_reader(self._fd, self._drain)
        self._schedule()  # what arrived between the bind and here has used up its edge

    def look_again(self) -> None:
        """To be called after every send, also one that failed: it too may have taken the edge."""
        if self._closed:
            return
        if not self._draining and not self._scheduled and _has_more(self._socket):
            self._schedule()

    def close(self) -> None:
        """Before the socket is closed."""
        self._closed = True
        self._loop.remove_reader(self._fd)

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        if self._closed or self._draining:
            return
        self._draining = True
        until = time.monotonic() + _BATCH_SECONDS
        try:
            for number in range(_BATCH):
                if number == 1 and not _has_more(self._socket):
                    return
                if number and time.monotonic() > until:
                    break
                try:
                    parts = _receive(self._socket)
                except zmq.ZMQError as error:
                    _not_now(error)
                    return
                try:
                    self._on_message(parts)
                except Exception:  # noqa: BLE001 - logged; the other frames go on
                    _LOG.exception("a message of %d parts could not be handled", len(parts))
                if self._socket.closed:  # by what was called just now
                    return
            self._schedule()
        finally:
            self._draining = False


class _KeyGate:
    """Answers libzmq's question whether a CURVE client may connect (ZAP, RFC 27), in the ROUTER's loop and context."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], loop: asyncio.AbstractEventLoop, allowed: Callable[[bytes], bool]
    ) -> None:
        self._allowed = allowed
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind("inproc://zeromq.zap.01")
        self._pump = _Pump(loop, self._socket, self._on_request)

    def close(self) -> None:
        """Before the context is terminated."""
        self._pump.close()
        self._socket.close(linger=0)

    def _on_request(self, parts: list[bytes]) -> None:
        asker, _empty, version, request, _domain, address, _identity, mechanism, *credentials = parts
        known = mechanism == b"CURVE" and len(credentials) == 1 and self._allowed(z85.encode(credentials[0]))
        if not known:
            _LOG.warning("a peer at %s was refused: its key is not on the list", address.decode("ascii", "replace"))
        status, text = (b"200", b"OK") if known else (b"400", b"unknown key")
        self._socket.send_multipart((asker, b"", version, request, status, text, b"", b""), zmq.NOBLOCK)
        self._pump.look_again()


class _Monitor:
    """What libzmq tells of a socket's connection: made (its handshake included), and lost."""

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        self.made = 0
        self.stands = False
        self._watched = watched
        self._socket = watched.get_monitor_socket(_WATCHED)
        self.fd = int(self._socket.get(zmq.FD))
        self.read()  # there is an edge only for what comes after a look that found nothing

    def read(self) -> None:
        """Take what has happened, without waiting."""
        try:
            while True:
                event, _address = self._socket.recv_multipart(zmq.NOBLOCK)
                self.stands = int.from_bytes(event[:2], sys.byteorder) == zmq.EVENT_HANDSHAKE_SUCCEEDED
                self.made += self.stands
        except zmq.ZMQError as error:
            _not_now(error)

    def close(self) -> None:
        """Before the socket that it watches."""
        self._watched.disable_monitor()
        self._socket.close(linger=0)


class _Wakener:
    """A descriptor that any thread makes readable; one write for many calls until it is cleared."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._write_end = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.fd, self._write_end = os.pipe()
            os.set_blocking(self.fd, False)
        self._lock = threading.Lock()
        self._woken = False
        self._closed = False

    def wake(self) -> None:
        with self._lock:
            if not self._woken and not self._closed:
                self._woken = True
                os.write(self._write_end, b"\1\0\0\0\0\0\0\0")  # an eventfd wants 8 bytes in native order; a pipe any

    def clear(self) -> None:
        with self._lock:
            if self._woken:
                os.read(self.fd, 8)
                self._woken = False

    def close(self) -> None:
        """Under the lock, so that a late `wake` cannot write into a descriptor that has a new meaning by then."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for fd in {self.fd, self._write_end}:
                    os.close(fd)


def _set_common(socket: zmq.Socket[bytes], high_water: int, max_frame: int) -> None:
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDHWM, high_water)
    socket.set(zmq.RCVHWM, high_water)
    socket.set(zmq.MAXMSGSIZE, max_frame)


def _has_more(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message is there. For the look after the first one, usually the last: "no" by exception costs thrice.

    From the second message on that exception is shared by many, and asking before each would cost more.
    """
    return bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN)


def _receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """The parts of the next message. As ``recv_multipart``, which asks the socket after each part for another one."""
    parts: list[bytes] = []
    more = True
    while more:
        part = socket.recv(zmq.NOBLOCK, copy=False)
        parts.append(part.bytes)
        more = part.more
    return parts


def _not_now(error: zmq.ZMQError) -> bool:
    """False where ZeroMQ says "not now"; anything else is a fault of ours."""
    if error.errno in _NOT_NOW:
        return False
    if error.errno in _GONE:
        raise LocalError("cannot use the socket: it is closed") from error
    raise LocalError(f"cannot use the socket: {error}") from error


def _check_endpoint(what: str, endpoint: str, security: object | None) -> None:
    """Raises `LocalError` but for safe addresses. ZeroMQ would take open tcp and abstract names, which all may join."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in ("ipc", "tcp"):
        raise LocalError(f"cannot {what} {endpoint}: an address begins with ipc:// or tcp://")
    if scheme == "tcp":
        if security is None:
            raise LocalError(f"cannot {what} {endpoint}: tcp needs CURVE keys")
        return
    if security is not None:
        raise LocalError(f"cannot {what} {endpoint}: CURVE keys are for tcp")
    size = len(os.fsencode(rest))
    if size > MAX_PATH:
        raise LocalError(f"cannot {what} {endpoint}: the path has {size} bytes, {MAX_PATH} at most")
    if not rest.startswith("/"):
        raise LocalError(f"cannot {what} {endpoint}: the path has to be absolute")
    if what == "bind":
        _make_private(Path(rest).parent)


def _make_private(directory: Path) -> None:
    """The directory is what keeps other users out: the socket's own mode follows the umask."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise LocalError(f"cannot bind in {directory}: {error.strerror}") from error
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077):
        found = f"mode {stat.S_IMODE(status.st_mode):o} and uid {status.st_uid}"
        raise LocalError(f"cannot bind in {directory}: it has to be yours alone (mode 700), it has {found}")
