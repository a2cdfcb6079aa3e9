"""The supervisor's end of a keeper's Unix socket, on the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from hermesd.ipc import codec, framing, keeping
from hermesd.ipc.errors import PeerError
from hermesd.ipc.messages import Message

log = logging.getLogger("hermesd.pool.keeper")

CODEC = codec.Codec(*keeping.TO_KEEPER, *keeping.FROM_KEEPER)


class KeeperConnection:
    """``on_message`` is called for what the keeper says; ``on_lost`` once, when the connection broke.

    A connection that broke takes nothing more. It is no evidence of the keeper's death: its pidfd is.
    """

    def __init__(self, sock: socket.socket, on_message: Callable[[Message], None], on_lost: Callable[[], None]):
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = sock
        self._on_message = on_message
        self._on_lost = on_lost
        self._deframer = framing.Deframer()
        self._unsent: list[tuple[bytes, int | None]] = []
        self._loop.add_reader(sock, self._readable)

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """The descriptor is closed once it is sent, or when it cannot be."""
        if self._socket is None:
            if descriptor is not None:
                os.close(descriptor)
            return
        self._unsent.append((framing.frame(CODEC.encode(message)), descriptor))
        self._flush()

    def drain(self) -> None:
        """Hear what the keeper said before it died, then close."""
        while self._socket is not None and self._hear():
            pass
        self.close()

    def _broken(self) -> None:
        self.close()
        self._on_lost()

    def close(self) -> None:
        """By our own choice; `drain` and this call nobody."""
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._socket = None
        for _, descriptor in self._unsent:
            if descriptor is not None:
                os.close(descriptor)
        self._unsent.clear()

    def _flush(self) -> None:
        while self._socket is not None and self._unsent:
            data, descriptor = self._unsent[0]
            try:
                sent = (
                    socket.send_fds(self._socket, [data], [descriptor])
                    if descriptor is not None
                    else self._socket.send(data)
                )
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError as error:
                log.warning("cannot write to the keeper: %s", error)
                # What it said last may still be waiting to be read.
                self.drain()
                return self._on_lost()
            if descriptor is not None:
                os.close(descriptor)
            if sent < len(data):
                self._unsent[0] = (data[sent:], None)
            else:
                self._unsent.pop(0)
        if self._socket is not None:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        if self._hear() is False:
            self._broken()

    def _hear(self) -> bool | None:
        """Take what is there. None: nothing now. False: nothing more will come, or what came makes no sense."""
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError as error:
            log.info("lost the keeper: %s", error)
            return False
        if not data:
            return False
        try:
            messages = [CODEC.decode(frame).message for frame in self._deframer.feed(data)]
        except PeerError as error:
            log.error("the keeper's answer makes no sense: %s", error)
            return False
        for message in messages:
            self._on_message(message)
        return True
