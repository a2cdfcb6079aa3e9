"""Writing to a terminal or a pipe that may be slow, stopped (Ctrl-S) or gone, without ever blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading

from hermesd.adapters.errors import Gone


class Output:
    """One descriptor with a daemon thread of its own, which starts at the first write and never delays the exit."""

    def __init__(self, fd: int, name: str):
        self._fd = fd
        self._name = name
        self._queue: queue.SimpleQueue[bytes | tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None

    def write(self, text: str) -> None:
        """Write after all that was written before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"console-{self._name}", daemon=True)
            self._thread.start()
        self._queue.put(text.encode("utf-8", "replace"))

    async def drain(self) -> None:
        """Return once everything is written. Raises `Gone` when the other side has closed."""
        if self._thread is not None:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[None] = loop.create_future()
            self._queue.put((loop, done))
            await done
        if self._failure is not None:
            raise Gone(f"cannot write to {self._name}: {self._failure.strerror}") from self._failure

    def _serve(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, bytes):
                if self._failure is None:
                    self._write_all(item)
                continue
            loop, done = item
            try:
                loop.call_soon_threadsafe(_settle, done)
            except RuntimeError:
                return  # the loop is closed: the program ends

    def _write_all(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # Another program has set O_NONBLOCK on the open file that we share with it.
                select.select([], [self._fd], [])
            except OSError as error:
                self._failure = error
                return


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
