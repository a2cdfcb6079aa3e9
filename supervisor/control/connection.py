"""One client of the control server: reads its frames, runs its requests as tasks, writes their answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from hermesd.ipc.errors import LocalError, PeerError
from hermesd.ipc.framing import Deframer, frame

from . import access
from .api import Done, Verb, bind, bind_input
from .errors import Code, Refused
from .protocol import (
    REQUEST_LIMIT,
    RESPONSE_LIMIT,
    UNREADABLE,
    Cancel,
    EndOfInput,
    Event,
    Fault,
    Input,
    Request,
    Result,
    ServerFrame,
    decode_client_frame,
    encode,
)

if TYPE_CHECKING:
    from .server import Counters, Limits

log = logging.getLogger(__name__)

_READ_SIZE = 64 * 1024
_FLUSH = 1.0  # seconds for a client to take the last bytes


class _Inputs:
    """What the client sends into one request: an async iterator for the handler."""

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(size)
        self._ended = False

    async def put(self, data: dict[str, Any] | None) -> None:
        """Waits while the handler is behind; None is the end."""
        if not self._ended:
            await self._queue.put(data)

    def close(self) -> None:
        """The handler is done: whoever waits in `put` goes on."""
        self._ended = True
        while not self._queue.empty():
            self._queue.get_nowait()

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        data = None if self._ended else await self._queue.get()
        if data is None:
            self._ended = True
            raise StopAsyncIteration
        return data


class _Open:
    """A request that has not been answered yet."""

    def __init__(self, request: Request, inputs: _Inputs) -> None:
        self.verb = request.verb
        self.inputs = inputs
        self.input_ended = False
        self.task: asyncio.Task[None] | None = None


class Connection:
    """Owned by `hermesd.supervisor.control.server.ControlServer`, which runs `serve` as a task."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: access.Peer,
        handlers: object,
        contained: access.Contained,
        limits: Limits,
        counters: Counters,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._handlers = handlers
        self._contained = contained
        self._limits = limits
        self._counters = counters
        self._open: dict[int, _Open] = {}
        self._malformed = 0
        self._closed = False
        writer.transport.set_write_buffer_limits(high=limits.buffer)

    async def serve(self) -> None:
        """Reads until the client leaves or breaks a rule; returns when none of its requests runs any more."""
        deframer = Deframer(REQUEST_LIMIT)
        try:
            while not self._closed:
                data = await self._read()
                if not data:
                    break
                for payload in deframer.feed(data):
                    if not self._closed:
                        await self._take(payload)
        except PeerError as error:  # a length beyond the limit: where the next frame begins is unknown
            self._counters.malformed += 1
            await self.refuse(Fault(UNREADABLE, Code.MALFORMED, str(error)))
        except ConnectionError as error:
            log.debug("control: pid %d left: %s", self._peer.pid, error)
        finally:
            await self._end_requests()

    async def refuse(self, fault: Fault) -> None:
        """Tells the client why the connection ends; `serve` then returns."""
        self._closed = True
        try:
            await self._send(fault)
        except ConnectionError as error:
            log.debug("control: pid %d left before it was refused: %s", self._peer.pid, error)

    async def settle(self, grace: float) -> None:
        """Waits at most ``grace`` seconds for the open requests to be answered. Called before hermesd closes."""
        tasks = self._tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def close(self) -> None:
        """Ends the connection. What is written still reaches a client that reads."""
        self._closed = True
        self._writer.close()
        try:
            async with asyncio.timeout(_FLUSH):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            self._writer.transport.abort()

    async def _read(self) -> bytes:
        """The next bytes; none at the end of the connection or after an idle time without an open request."""
        while True:
            try:
                async with asyncio.timeout(self._limits.idle):
                    return await self._reader.read(_READ_SIZE)
            except TimeoutError:
                if not self._open:
                    return b""

    async def _take(self, payload: bytes) -> None:
        try:
            message = decode_client_frame(payload)
        except PeerError as error:
            self._counters.malformed += 1
            self._malformed += 1
            fault = Fault(UNREADABLE, Code.MALFORMED, str(error))
            await (self.refuse(fault) if self._malformed >= self._limits.malformed else self._send(fault))
            return
        match message:
            case Request():
                await self._start(message)
            case Input():
                await self._input(message)
            case EndOfInput():
                if (request := self._open.get(message.id)) is not None and not request.input_ended:
                    request.input_ended = True
                    await request.inputs.put(None)
            case Cancel():
                if (request := self._open.get(message.id)) is not None and request.task is not None:
                    request.task.cancel()

    async def _start(self, request: Request) -> None:
        self._counters.requests += 1
        try:
            if request.id in self._open:
                raise Refused(Code.MALFORMED, f"request {request.id} is still open")
            if len(self._open) >= self._limits.requests:
                raise Refused(Code.BUSY, f"this connection has {len(self._open)} open requests, which is the most")
            verb, params = bind(request.verb, request.params)
            self._check_access(request.verb, verb)
        except Refused as refused:
            self._counters.failed += 1
            await self._send(Fault(request.id, refused.code, refused.message, refused.next_step))
            return
        opened = _Open(request, _Inputs(self._limits.waiting_inputs))
        self._open[request.id] = opened
        opened.task = asyncio.create_task(
            self._answer(request.id, request.verb, verb, params, opened.inputs),
            name=f"control-{self._peer.pid}-{request.verb}-{request.id}",
        )

    def _check_access(self, name: str, verb: Verb) -> None:
        try:
            why_not = access.refusal(verb.access, self._peer, self._contained)
        except Exception:
            log.exception("control: cannot tell where pid %d runs", self._peer.pid)
            why_not = f"hermesd cannot tell where process {self._peer.pid} runs; its log says why"
        if why_not:
            self._counters.denied += 1
            log.warning("control: refused %s of pid %d: %s", name, self._peer.pid, why_not)
            raise Refused(Code.DENIED, f"{name} is not allowed: {why_not}")

    async def _input(self, message: Input) -> None:
        request = self._open.get(message.id)
        if request is None or request.input_ended:
            return  # it crossed the answer on its way
        try:
            data = bind_input(request.verb, message.data)
        except Refused as refused:
            if request.task is not None:
                request.task.cancel()
            del self._open[message.id]
            self._counters.failed += 1
            await self._send(Fault(message.id, refused.code, refused.message, refused.next_step))
            return
        await request.inputs.put(data)

    async def _answer(self, number: int, name: str, verb: Verb, params: dict[str, Any], inputs: _Inputs) -> None:
        """One request, from the handler's start to its last frame. Runs as a task of its own."""
        try:
            last: ServerFrame = Result(number, await self._run(number, verb, params, inputs))
        except Refused as refused:
            last = Fault(number, refused.code, refused.message, refused.next_step)
        except ConnectionError:
            return
        except Exception as error:
            log.exception("control: %s failed", name)
            last = Fault(number, Code.INTERNAL, f"{name} failed: {type(error).__name__}: {error}", "hermesctl logs")
        finally:
            self._open.pop(number, None)
            inputs.close()
        if isinstance(last, Fault):
            self._counters.failed += 1
        await self._send_last(last, name)

    async def _run(self, number: int, verb: Verb, params: dict[str, Any], inputs: _Inputs) -> dict[str, Any]:
        method = getattr(self._handlers, verb.handler)
        if not verb.streams:
            return dict(await method(params))
        events: AsyncGenerator[Any, None] = method(params, inputs) if verb.inputs else method(params)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Done):
                    return dict(event.result)
                await self._send(Event(number, dict(event)))
        return {}

    async def _send_last(self, last: ServerFrame, name: str) -> None:
        try:
            await self._send(last)
        except LocalError as error:
            log.error("control: the answer to %s cannot be sent: %s", name, error)
            await self._send_last(Fault(last.id, Code.INTERNAL, f"the answer to {name} cannot be sent: {error}"), name)
        except ConnectionError as error:
            log.debug("control: pid %d left before the answer to %s: %s", self._peer.pid, name, error)

    async def _send(self, message: ServerFrame) -> None:
        """Writes one frame. Raises ConnectionError when the client is gone or does not read."""
        if self._writer.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(frame(encode(message), RESPONSE_LIMIT))
        try:
            async with asyncio.timeout(self._limits.slow):
                await self._writer.drain()
        except TimeoutError:
            self._counters.slow += 1
            log.warning("control: cut off pid %d: it does not read what it asked for", self._peer.pid)
            self._writer.transport.abort()
            raise ConnectionAbortedError("the client does not read") from None

    async def _end_requests(self) -> None:
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [request.task for request in self._open.values() if request.task is not None]
