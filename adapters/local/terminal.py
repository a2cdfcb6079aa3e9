"""The console on a terminal: a prompt, answers shown as they come, Ctrl-C for the turn and Ctrl-D for the chat."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import uuid

from hermesd.adapters.contract import AttachedChat, Outbound
from hermesd.adapters.errors import Gone, NotAccepted
from hermesd.adapters.local.output import Output
from hermesd.adapters.text import clean

try:
    import readline
except ImportError:  # Windows, and Pythons built without it: the terminal's own line editing
    HAS_READLINE = False
else:
    HAS_READLINE = True

try:
    import termios
except ImportError:  # Windows
    HAS_TERMIOS = False
else:
    HAS_TERMIOS = True

PROMPT = "> "

log = logging.getLogger(__name__)


class TerminalConsole:
    """A front with a prompt.

    ``input()`` runs in a daemon thread, so that history, editing and pasting work as in any shell: readline takes a
    bracketed paste of many lines as one message. What is shown meanwhile replaces the prompt's line, and the prompt is
    written again below it with what was typed so far, which is where readline believes the cursor to be.
    """

    def __init__(self, out: Output):
        self._out = out
        self._typed: asyncio.Queue[str | None] = asyncio.Queue()
        self._running: set[str] = set()
        self._over = asyncio.Event()  # nothing runs that an answer is waited for, or nothing will be shown any more
        self._streamed: dict[str, str] = {}
        self._streaming = ""
        self._stop_asked = False
        self._chat: AttachedChat | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._erase = "\r" if os.environ.get("TERM", "dumb") == "dumb" else "\r\x1b[K"

    async def run(self, chat: AttachedChat) -> int:
        self._chat = chat
        before = termios.tcgetattr(0) if HAS_TERMIOS else None
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="console-input", daemon=True).start()
        try:
            while (text := await self._typed.get()) is not None:
                if text.strip():
                    await self._say(text)
            if self._running:
                await self._over.wait()
        finally:
            if self._stopping is not None:
                self._stopping.cancel()
            if before is not None:
                # The thread may still be inside readline, which has changed the terminal.
                termios.tcsetattr(0, termios.TCSADRAIN, before)
                self._out.write("\x1b[?2004l" if HAS_READLINE else "")
            with contextlib.suppress(Gone):
                await self._out.drain()
        return 0

    def interrupt(self) -> bool:
        """The first Ctrl-C of a turn stops the turn; one more, or one without a turn, is for the program."""
        if not self._running or self._stop_asked:
            return False
        self._stop_asked = True
        self._stopping = asyncio.create_task(self._say("/stop"), name="console-stop")
        return True

    async def answer(self, reply_to: str, message: Outbound) -> None:
        text = clean(message.text)
        files = "".join(f"\n[file {clean(file.name)}: {clean(file.path)}]" for file in message.files)
        if message.kind == "error":
            self._show(f"error: {text}{files}")
        elif message.kind == "notice" and not message.final:
            self._show(f"[{text}]{files}")
        elif message.final and (streamed := self._streamed.get(reply_to, "")):
            rest = text.removeprefix(streamed) if text.startswith(streamed) else "\n" + text
            self._write_stream(reply_to, rest + files)
            self._end_stream()
        else:
            self._show(text + files)
        if message.final:
            self._streamed.pop(reply_to, None)
            self._running.discard(reply_to)
            self._stop_asked = self._stop_asked and bool(self._running)
        await self._out.drain()
        if message.final and not self._running:
            self._over.set()

    def stream(self, reply_to: str, text: str) -> None:
        text = clean(text)
        self._streamed[reply_to] = self._streamed.get(reply_to, "") + text
        self._write_stream(reply_to, text)

    def notice(self, reply_to: str, text: str) -> None:
        self._show(f"[{clean(text)}]")

    def closed(self) -> None:
        self._running.clear()
        self._over.set()
        self._typed.put_nowait(None)

    async def _say(self, text: str) -> None:
        assert self._chat is not None
        message_id = uuid.uuid4().hex
        self._running.add(message_id)
        self._over.clear()
        try:
            await self._chat.say(text, message_id)
        except NotAccepted as error:
            self._running.discard(message_id)
            if not self._running:
                self._over.set()
            self._show(f"not accepted: {error.reason}")

    def _show(self, text: str) -> None:
        self._end_stream()
        self._out.write(f"{self._erase}{text}\n{self._prompt()}")

    def _write_stream(self, reply_to: str, text: str) -> None:
        if self._streaming != reply_to:
            self._end_stream()
            self._out.write(self._erase)
            self._streaming = reply_to
        self._out.write(text)

    def _end_stream(self) -> None:
        if self._streaming:
            self._out.write(f"\n{self._prompt()}")
            self._streaming = ""

    def _prompt(self) -> str:
        return PROMPT + (readline.get_line_buffer() if HAS_READLINE else "")

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread: hands lines over until the end of the input."""
        text: str | None = ""
        while text is not None:
            try:
                text = input(PROMPT)
            except EOFError:
                text = None
            except (OSError, ValueError) as error:
                log.warning("cannot read the terminal: %s", error)
                text = None
            try:
                loop.call_soon_threadsafe(self._typed.put_nowait, text)
            except RuntimeError:
                return  # the loop is closed: the program ends
        sys.stdout.flush()
