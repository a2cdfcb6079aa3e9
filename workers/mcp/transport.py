"""Newline-delimited JSON-RPC over a server's stdin and stdout, as the streams that the SDK's ``ClientSession`` takes.

The SDK's own stdio client starts and ends the process as well, in one context; the process is ours
(`hermesd.workers.mcp.process`), so this is the wire and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from hermesd.workers.mcp import sdk
from hermesd.workers.mcp.lines import Lines

log = logging.getLogger(__name__)

MAX_LINE = 16 << 20  # bytes of one message; what is longer is dropped, and its request runs into its time-out
_CHUNK = 1 << 16
_SHOWN = 120  # bytes of an invalid line in the log

Reading = MemoryObjectReceiveStream[SessionMessage | Exception]
Writing = MemoryObjectSendStream[SessionMessage]


@asynccontextmanager
async def wire(
    name: str, stdout: asyncio.StreamReader, stdin: asyncio.StreamWriter
) -> AsyncIterator[tuple[Reading, Writing, asyncio.Event]]:
    """The session's two streams, and an event that is set when the server has closed either end.

    The streams hold no message of their own: a session that does not read stops the reading of the pipe, and the server
    waits in its write. Neither pipe is closed here.
    """
    incoming, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    closed = asyncio.Event()
    tasks = [
        asyncio.create_task(_read(name, stdout, incoming, closed), name=f"mcp {name} reads"),
        asyncio.create_task(_write(stdin, outgoing, incoming, closed), name=f"mcp {name} writes"),
    ]
    try:
        yield reading, writing, closed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for stream in (incoming, reading, writing, outgoing):
            stream.close()


@asynccontextmanager
async def relay(
    name: str, reading: ObjectReceiveStream[SessionMessage | Exception]
) -> AsyncIterator[tuple[Reading, asyncio.Event]]:
    """The same stream, and an event that is set at its end, which the SDK's own transports keep to themselves."""
    passing, passed = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    closed = asyncio.Event()

    async def run() -> None:
        try:
            async for message in reading:
                await passing.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            log.debug("MCP server %s: reading ended: %r", name, error)
        finally:
            closed.set()
            passing.close()

    task = asyncio.create_task(run(), name=f"mcp {name} reads")
    try:
        yield passed, closed
    finally:
        task.cancel()
        await asyncio.wait([task])
        passed.close()
        await reading.aclose()  # version 1 of the SDK leaves it to the collector, which warns of it


async def _read(
    name: str,
    stdout: asyncio.StreamReader,
    incoming: MemoryObjectSendStream[SessionMessage | Exception],
    closed: asyncio.Event,
) -> None:
    lines, invalid, dropped = Lines(MAX_LINE), 0, 0
    try:
        while data := await stdout.read(_CHUNK):
            for line in lines.feed(data):
                if not line.strip():
                    continue
                try:
                    message = sdk.parse(line)
                except ValueError:
                    invalid += 1
                    if invalid & (invalid - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a server that prints floods
                        log.warning("MCP server %s: line %d that is no message: %r", name, invalid, line[:_SHOWN])
                    continue
                await incoming.send(message)
            if lines.dropped != dropped:
                dropped = lines.dropped
                log.warning("MCP server %s: dropped a message of more than %d bytes", name, MAX_LINE)
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        log.debug("MCP server %s: reading ended: %r", name, error)
    finally:
        closed.set()
        incoming.close()


async def _write(
    stdin: asyncio.StreamWriter,
    outgoing: MemoryObjectReceiveStream[SessionMessage],
    incoming: MemoryObjectSendStream[SessionMessage | Exception],
    closed: asyncio.Event,
) -> None:
    try:
        async for message in outgoing:
            stdin.write(sdk.encode(message))
            await stdin.drain()
    except OSError:
        # A server that closed its input cannot answer any more: the session must see the end instead of waiting.
        closed.set()
        incoming.close()
    finally:
        with contextlib.suppress(anyio.ClosedResourceError):
            outgoing.close()
