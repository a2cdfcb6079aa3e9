"""The client of the control socket: what ``hermesctl`` and other local programs use. Standard library and msgpack only.

One `Client` is one connection with one request open at a time. It is made for short lives: connect, ask, leave.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hermesd.ipc.errors import PeerError
from hermesd.ipc.framing import Deframer, frame

from .errors import Hangup, NoAnswer, NobodyThere, NotAllowed, Refused, Unintelligible
from .protocol import (
    REQUEST_LIMIT,
    RESPONSE_LIMIT,
    UNREADABLE,
    ClientFrame,
    EndOfInput,
    Event,
    Fault,
    Input,
    Request,
    Result,
    decode_server_frame,
    encode,
)

BUDGET = 1.0
"""Seconds for connecting and the first answer together, unless the caller says otherwise. Only what was waited for is
counted: when this process is kept from running, hermesd perhaps is as well, and that is not its silence."""

LOOK_EVERY = 0.5
"""Seconds that a caller waits on, beyond the budget, before he looks again whether an answer may still come."""

_SLICE = 0.1  # seconds of one wait: what it takes beyond them is a pause of ours
_READ_SIZE = 256 * 1024
_BUSY_RETRY = 0.01  # seconds between tries while the listener's backlog is full


def call(path: Path, verb: str, params: Mapping[str, Any] | None = None, budget: float = BUDGET) -> dict[str, Any]:
    """One question, one answer, within ``budget`` seconds in all.

    Raises `Refused` when hermesd says no, else one of the `Unreachable` errors.
    """
    with Client(path, budget) as client:
        return client.call(verb, params)


class Client:
    """A connection. ``budget`` is for connecting and for the first answer, together; a stream then has no limit.

    ``may_come`` is asked when the budget is over, and every `LOOK_EVERY` seconds from then on, whether an answer may
    still come.
    """

    def __init__(self, path: Path, budget: float = BUDGET, *, may_come: Callable[[], bool] = lambda: False) -> None:
        self._path = path
        self._budget = budget
        self._may_come = may_come
        self._left = budget
        self._deframer = Deframer(RESPONSE_LIMIT)
        self._payloads: list[bytes] = []
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._connect()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def call(self, verb: str, params: Mapping[str, Any] | None = None, budget: float | None = None) -> dict[str, Any]:
        """One question, one answer; ``budget`` seconds for this one, where it is not the first of the connection."""
        if budget is not None:
            self._budget = self._left = budget
        number = self._request(verb, params)
        while True:
            answer = self._receive(number, None, budgeted=True)
            if isinstance(answer, Result):
                return answer.data

    def stream(self, verb: str, params: Mapping[str, Any] | None = None) -> Stream:
        """Starts a request that answers with many events."""
        return Stream(self, self._request(verb, params))

    def _connect(self) -> None:
        while True:
            try:
                self._socket.connect(os.fspath(self._path))
                return
            except BlockingIOError:  # on Linux: the listener accepts nothing and its backlog is full
                if self._is_over():
                    raise self._no_answer() from None
                time.sleep(_BUSY_RETRY)
                self._left -= _BUSY_RETRY
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
                raise NobodyThere(f"nobody listens on {self._path}: {error.strerror}") from error
            except PermissionError as error:
                raise NotAllowed(f"cannot open {self._path}: {error.strerror}") from error
            except OSError as error:
                raise NobodyThere(f"cannot connect to {self._path}: {error}") from error

    def _request(self, verb: str, params: Mapping[str, Any] | None) -> int:
        self._last_id += 1
        self._send(Request(self._last_id, verb, dict(params or {})), budgeted=True)
        return self._last_id

    def _send(self, message: ClientFrame, *, budgeted: bool = False) -> None:
        """Safe beside a thread that receives: neither side touches the socket's blocking mode."""
        left = memoryview(frame(encode(message), REQUEST_LIMIT))
        while left:
            try:
                left = left[self._socket.send(left, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, None, budgeted)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                    raise
                # It may have said why before it hung up; that is found by the next receive.
                return

    def _receive(self, number: int, deadline: float | None, *, budgeted: bool) -> Event | Result:
        while True:
            while self._payloads:
                try:
                    answer = decode_server_frame(self._payloads.pop(0))
                except PeerError as error:
                    raise Unintelligible(f"{self._path} answers with something else: {error}") from error
                if answer.id not in (number, UNREADABLE):
                    continue  # the rest of an answer that nobody waits for any more
                if isinstance(answer, Fault):
                    raise Refused(answer.code, answer.message, answer.next_step)
                return answer
            self._fill(deadline, budgeted)

    def _fill(self, deadline: float | None, budgeted: bool) -> None:
        try:
            data = self._socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._wait(select.POLLIN, deadline, budgeted)
            return
        except ConnectionError as error:
            raise Hangup(f"hermesd ended the connection: {error.strerror}") from error
        if not data:
            raise Hangup("hermesd ended the connection before its answer was complete")
        try:
            self._payloads += self._deframer.feed(data)
        except PeerError as error:
            raise Unintelligible(f"{self._path} answers with something else: {error}") from error

    def _wait(self, event: int, deadline: float | None, budgeted: bool) -> None:
        poller = select.poll()
        poller.register(self._socket, event)
        limits = [] if deadline is None else [deadline - time.monotonic()]
        if (limits and limits[0] <= 0) or (budgeted and self._is_over()):
            raise self._no_answer()
        if budgeted:
            limits.append(self._left)
        if not limits:
            poller.poll()
            return
        began, seconds = time.monotonic(), min(_SLICE, *limits)
        poller.poll(seconds * 1000)
        if budgeted:
            self._left -= min(seconds, time.monotonic() - began)

    def _is_over(self) -> bool:
        """Whether the budget is, and an answer will not come any more."""
        if self._left > 0:
            return False
        if not self._may_come():
            return True
        self._budget += LOOK_EVERY
        self._left = LOOK_EVERY
        return False

    def _no_answer(self) -> NoAnswer:
        return NoAnswer(f"no answer within {self._budget:g} s")


class Stream:
    """The answer to one streaming request: iterate over its events, then read ``result``.

    One thread may iterate while another one sends.
    """

    def __init__(self, client: Client, number: int) -> None:
        self._client = client
        self._number = number
        self._heard = False
        self.result: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (event := self.next()) is not None:
            yield event

    def next(self, deadline: float | None = None) -> dict[str, Any] | None:
        """The next event, or None after the last one.

        ``deadline`` is on the monotonic clock; past it, `NoAnswer`. The first event has the client's budget at most.
        """
        if self.result is not None:
            return None
        answer = self._client._receive(self._number, deadline, budgeted=not self._heard)
        self._heard = True
        if isinstance(answer, Event):
            return answer.data
        self.result = answer.data
        return None

    def send(self, data: Mapping[str, Any]) -> None:
        """An input for an interactive verb. Waits while hermesd is behind; says nothing when the connection is gone,
        for the side that iterates finds out why."""
        self._client._send(Input(self._number, dict(data)))

    def end_input(self) -> None:
        """Nothing more will be sent; the stream ends when all is answered."""
        self._client._send(EndOfInput(self._number))
