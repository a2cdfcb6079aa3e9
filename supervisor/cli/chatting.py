"""Both halves of an attached chat: lines go up in the main thread, what comes back is shown in another one."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import click

from hermesd.supervisor.control.api import TEXT_LIMIT
from hermesd.supervisor.control.errors import NoAnswer

from . import render, words
from .exits import CommandError, Exit
from .render import Paint

if TYPE_CHECKING:
    from hermesd.supervisor.control.client import Stream

PROMPT = "> "


class Printer(Protocol):
    """Where lines come from and where events go. `show` is called from another thread than the rest."""

    def lines(self) -> Iterator[str]:
        """What the user says, until the end of input."""

    def show(self, event: dict[str, Any]) -> None:
        """One event of hermesd."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


class Conversation:
    """One attached chat, from "open" to the last answer."""

    def __init__(self, stream: Stream, printer: Printer, timeout: float | None) -> None:
        self._stream = stream
        self._printer = printer
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._main = threading.main_thread().ident
        self._reading = False  # the main thread waits for the user and can be woken by a signal
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._refused = 0  # lines that hermesd would not take

    def run(self) -> str:
        """Talks until both sides are done. Gives "" or how many messages had no answer ("1 message"). Ctrl-C leaves at
        once. Raises `CommandError` when the time is over, and the client's errors."""
        hearing = threading.Thread(target=self._hear, name="chat-hear", daemon=True)
        hearing.start()
        try:
            self._speak()
            hearing.join()
        except KeyboardInterrupt:
            if not self._over.is_set():
                click.echo("left; what was asked is still worked on", err=True)
                raise
        finally:
            self._printer.close()
        if self._error is not None:
            raise self._error
        failed = self._refused + int((self._stream.result or {}).get("failed", 0))
        return words.count(failed, "message") if failed else ""

    def _speak(self) -> None:
        lines = self._printer.lines()
        while (line := self._next(lines)) is not None:
            if len(line) > TEXT_LIMIT:
                self._refused += 1
                text = f"not sent: {len(line)} characters; a message may have {TEXT_LIMIT}"
                self._printer.show({"kind": "failed", "text": text})
            elif line.strip():
                self._stream.send({"text": line})
        self._stream.end_input()

    def _next(self, lines: Iterator[str]) -> str | None:
        """The next line; None at the end of input or of the chat."""
        self._reading = True  # before the look: the other thread sets its flag first and looks at this one then
        try:
            return None if self._over.is_set() else next(lines, None)
        finally:
            self._reading = False

    def _hear(self) -> None:
        try:
            while (event := self._stream.next(self._deadline)) is not None:
                self._printer.show(event)
        except NoAnswer:
            self._error = CommandError(Exit.TIMED_OUT, "timed_out", "no answer in time; hermesd still works on it")
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            self._error = error
        finally:
            self._over.set()
            if self._reading and self._main is not None:
                # A read from a terminal or a pipe cannot be ended in another way.
                signal.pthread_kill(self._main, signal.SIGINT)


class Pipe:
    """Lines from stdin. Answers to stdout, one after the other and whole; the rest to stderr."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json

    def lines(self) -> Iterator[str]:
        for line in sys.stdin:
            yield line.rstrip("\n")

    def show(self, event: dict[str, Any]) -> None:
        if self._as_json:
            render.json_line(event)
            return
        text = words.safe(event.get("text", ""), newlines=True)
        match event.get("kind"):
            case "answer":
                click.echo(text)
            case "failed":
                click.echo(f"failed: {text}", err=True)
            case "notice" | "status":
                click.echo(text, err=True)
            case _:  # "open", "delta": the whole answer follows
                pass

    def close(self) -> None:
        """Nothing was changed."""


class Terminal:
    """A prompt with line editing; text appears as it is written, above the line that is being typed."""

    def __init__(self, paint: Paint) -> None:
        import readline
        import termios

        self._paint = paint
        self._line_buffer: Callable[[], str] = readline.get_line_buffer
        self._restore = partial(termios.tcsetattr, 0, termios.TCSADRAIN, termios.tcgetattr(0))
        self._lock = threading.Lock()
        self._prompting = False
        self._streaming = ""  # the turn whose text is in the line that is being written
        self._streamed: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        while True:
            self._prompting = True
            try:
                line = input(PROMPT)
            except EOFError:
                click.echo()
                return
            finally:
                self._prompting = False
            yield line

    def show(self, event: dict[str, Any]) -> None:
        text = words.safe(event.get("text", ""), newlines=True)
        turn = str(event.get("turn", ""))
        with self._lock:
            match event.get("kind"):
                case "open":
                    self._above(self._paint(f"attached to {words.safe(event.get('session', ''))}; Ctrl-D ends", "dim"))
                case "delta":
                    self._delta(turn, text)
                case "answer":
                    self._answer(turn, text)
                case "failed":
                    self._streamed.pop(turn, None)
                    self._above(self._paint("failed: ", "red") + text)
                case "notice":
                    self._above(self._paint(text, "yellow"))
                case "status":
                    self._above(self._paint(text, "dim"))
                case _:
                    pass

    def close(self) -> None:
        # The read that a signal ended may have left the terminal without echo.
        with contextlib.suppress(OSError):
            self._restore()

    def _delta(self, turn: str, text: str) -> None:
        if self._streaming != turn:
            self._begin_line()
            self._streaming = turn
        self._streamed[turn] = self._streamed.get(turn, "") + text
        self._write(text)

    def _answer(self, turn: str, text: str) -> None:
        before = self._streamed.pop(turn, "")
        if self._streaming == turn and before and text.startswith(before):
            self._write(text[len(before) :])
            self._end_line()
        else:  # another answer came in between, or the text was changed: say it whole
            self._above(text)

    def _above(self, text: str) -> None:
        self._begin_line()
        self._write(text)
        self._end_line()

    def _begin_line(self) -> None:
        """An empty line to write in: below a text that is being streamed, or in place of the prompt."""
        self._write("\n" if self._streaming else "\r\x1b[K")
        self._streaming = ""

    def _end_line(self) -> None:
        self._streaming = ""
        self._write("\n" + (PROMPT + self._line_buffer() if self._prompting else ""))

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
