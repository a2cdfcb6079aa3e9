"""Lines of a file descriptor for an event loop, whatever the descriptor is."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

CHUNK = 1 << 16
LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands for a line over `LONGEST` bytes, which is left out."""

    size: int


async def lines(fd: int) -> AsyncIterator[str | TooLong]:
    """Each line of ``fd`` without its end, until the end of the file. Reads ahead by one chunk at most.

    Bytes that are no UTF-8 become U+FFFD. Raises `OSError`.
    """
    rest, lost = b"", 0
    while chunk := await read_some(fd):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield _line(line, lost)
            lost = 0
        if lost or len(rest) > LONGEST:
            # Its end may be far away, or never come: it is counted, not kept.
            lost, rest = lost + len(rest), b""
    if rest or lost:
        yield _line(rest, lost)


def _line(line: bytes, lost: int) -> str | TooLong:
    size = lost + len(line)
    return TooLong(size) if size > LONGEST else _decode(line)


async def read_some(fd: int) -> bytes:
    """What there is to read, b"" at the end.

    The descriptor stays blocking: O_NONBLOCK belongs to the open file, which a terminal or a parent's pipe shares with
    other descriptors and programs. So it is read when it is ready; epoll refuses regular files and /dev/null (EPERM),
    and Windows' loop everything (NotImplementedError): these are read in a thread that never delays the exit.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(fd, _settle, ready)
    except (PermissionError, NotImplementedError):
        return await _read_in_thread(loop, fd)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
    return os.read(fd, CHUNK)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _read_in_thread(loop: asyncio.AbstractEventLoop, fd: int) -> bytes:
    done: asyncio.Future[bytes] = loop.create_future()

    def finish(data: bytes, error: OSError | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(data)

    def read() -> None:
        data, failure = b"", None
        try:
            data = os.read(fd, CHUNK)
        except OSError as error:
            failure = error
        try:
            loop.call_soon_threadsafe(finish, data, failure)
        except RuntimeError:
            return  # the loop is closed: nobody waits for this any more

    threading.Thread(target=read, name="console-read", daemon=True).start()
    return await done


def _decode(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "replace")
