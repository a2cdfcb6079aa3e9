"""The console when its input is no terminal: one message per line, their replies to stdout, all else to stderr."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hermesd.adapters.contract import AttachedChat, Outbound
from hermesd.adapters.errors import Gone, NotAccepted
from hermesd.adapters.local.lines import LONGEST, TooLong
from hermesd.adapters.local.output import Output
from hermesd.adapters.text import clean

READ_AHEAD = 64
PAUSE = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input. ``pause``: seconds since the line before it was read."""

    text: str
    pause: float


def may_go(line: Line, *, running: bool, asked: bool) -> bool:
    """Whether a line is handed in now, or waits until the one before it is answered.

    A script means its lines one after the other, whatever a session does with a message that comes while it is busy.
    But a command may be about what is running: one that answers a question (``asked``), or one that came after a pause,
    from a person or a program that watches.
    """
    return not running or (line.text.startswith("/") and (asked or line.pause >= PAUSE))


class ScriptConsole:
    """A front that reads its messages from lines. Its status is 1 when a line failed or could not be handed in."""

    def __init__(self, lines: AsyncIterator[str | TooLong], out: Output, err: Output):
        self._lines = lines
        self._out = out
        self._err = err
        self._held: deque[Line] = deque()
        self._running: set[str] = set()
        self._asked = False
        self._ended = False
        self._closed = False
        self._failed = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self, chat: AttachedChat) -> int:
        reading = asyncio.create_task(self._read(), name="console-input")
        try:
            await self._talk(chat)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            with contextlib.suppress(Gone):
                await self._err.drain()
        return 1 if self._failed or self._running else 0

    def interrupt(self) -> bool:
        return False

    async def answer(self, reply_to: str, message: Outbound) -> None:
        own = reply_to in self._running
        if message.kind == "error":
            self._err.write(_shown(message))
            self._failed = self._failed or own
        elif not own:
            self._err.write(_shown(message))  # to a line of an earlier chat, or to none
        elif message.kind in ("notice", "question") and not message.final:
            self._err.write(_shown(message))
            self._asked = self._asked or message.kind == "question"
        else:
            self._out.write(_shown(message))
        try:
            await self._out.drain()
        except Gone:
            self._failed = True
            self.closed()
            raise
        finally:
            if message.final and own:
                self._running.discard(reply_to)
                self._asked = False
            self._changed.set()

    def stream(self, reply_to: str, text: str) -> None:
        """A reply is printed whole."""

    def notice(self, reply_to: str, text: str) -> None:
        self._err.write(clean(text) + "\n")

    def closed(self) -> None:
        self._closed = True
        self._changed.set()

    async def _talk(self, chat: AttachedChat) -> None:
        while not self._closed:
            self._changed.clear()
            if self._held and may_go(self._held[0], running=bool(self._running), asked=self._asked):
                line = self._held.popleft()
                self._room.set()
                await self._say(chat, line.text)
            elif self._ended and not self._held and not self._running:
                return
            else:
                await self._changed.wait()

    async def _say(self, chat: AttachedChat, text: str) -> None:
        message_id = uuid.uuid4().hex
        self._running.add(message_id)
        try:
            await chat.say(text, message_id)
        except NotAccepted as error:
            self._running.discard(message_id)
            self._failed = True
            self._err.write(f"not accepted: {error.reason}\n")

    async def _read(self) -> None:
        before = time.monotonic()
        try:
            async for text in self._lines:
                now = time.monotonic()
                if isinstance(text, TooLong):
                    self._failed = True
                    self._err.write(
                        f"not accepted: a line of {text.size} bytes; a message may have {LONGEST}, and what is longer "
                        "belongs into a file\n"
                    )
                elif text.strip():
                    self._held.append(Line(text, now - before))
                    before = now
                    self._changed.set()
                while len(self._held) >= READ_AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except OSError as error:
            self._failed = True
            self._err.write(f"cannot read the input: {error}\n")
        self._ended = True
        self._changed.set()


def _shown(message: Outbound) -> str:
    files = "".join(f"[file {file.name}: {file.path}]\n" for file in message.files)
    return clean(message.text) + "\n" + clean(files)
