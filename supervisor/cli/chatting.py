"""Both halves of an attached chat: lines go up in the main thread, what comes back is shown in another one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import click

from hermesd.supervisor.control.api import TEXT_LIMIT
from hermesd.supervisor.control.errors import NoAnswer

from . import render, words
from .exits import CommandError, Exit
from .render import Paint

if TYPE_CHECKING:
    from .attachment import Attachment

PROMPT = "> "

READ_AHEAD = 64  # lines

PAUSE = 0.25
"""Seconds before a line after which it comes from a person, or from a program that watches."""

SIGNAL_AGAIN = 0.05
"""Seconds between two attempts to end the terminal's read."""

SILENT = ("open", "delta")
"""Events that a pipe does not print: the whole answer follows."""

_READ_SIZE = 64 * 1024


class Line(NamedTuple):
    """One line of a pipe. ``pause``: seconds since the line before it was read."""

    text: str
    pause: float


def may_go(line: Line, *, running: bool, asked: bool) -> bool:
    """Whether a line is sent now, or waits until the one before it is answered: the rule of ``hermesd --console``,
    where `hermesd.adapters.local.script` has it with its reasons."""
    return not running or (line.text.startswith("/") and (asked or line.pause >= PAUSE))


class Printer(Protocol):
    """Where lines come from and where events go. `show`, `tell` and `over` are called from another thread than the
    rest."""

    interactive: bool
    """A person sits there: the end of input means that he wants to go."""

    def lines(self) -> Iterator[str]:
        """What the user says, until the end of input or of the chat."""

    def on_interrupt(self, react: Callable[[], None]) -> None:
        """Have ``react`` called for each Ctrl-C, on a thread of its own, where Ctrl-C is not the end of the program."""

    def tell(self, text: str) -> None:
        """A word about the connection, on stderr."""

    def show(self, event: dict[str, Any]) -> None:
        """One event of hermesd."""

    def over(self) -> None:
        """The chat has ended: nothing more is read. Ends a read that waits."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


class Conversation:
    """One attached chat, from "open" to the last answer."""

    def __init__(self, attachment: Attachment, printer: Printer) -> None:
        self._attachment = attachment
        self._printer = printer
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._refused = 0  # lines that are too long
        self._left = False

    def run(self) -> str:
        """Talks until both sides are done. Gives "" or how many messages had no answer ("1 message"). Ctrl-C stops the
        running turn of a person, and else leaves at once. Raises `CommandError` when the time is over, and the client's
        errors."""
        self._printer.on_interrupt(self._interrupted)
        hearing = threading.Thread(target=self._hear, name="chat-hear", daemon=True)
        hearing.start()
        try:
            self._speak()
            # Not a join of the thread: a signal that interrupts one marks it as over (bpo-45274).
            self._over.wait()
            if self._left:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            if self._left or not self._over.is_set():
                click.echo("left; what was asked is still worked on", err=True)
                raise
        finally:
            self._printer.close()
        if self._error is not None:
            raise self._error
        failed = self._refused + self._attachment.failed
        return words.count(failed, "message") if failed else ""

    def _interrupted(self) -> None:
        if self._attachment.stop_turn():
            self._printer.tell("stopping the answer; Ctrl-C again leaves")
        else:
            self._left = True
            self._over.set()
            self._printer.over()

    def _speak(self) -> None:
        for line in self._printer.lines():
            if len(line) > TEXT_LIMIT:
                self._refused += 1
                text = f"not sent: {len(line)} characters; a message may have {TEXT_LIMIT}"
                self._printer.show({"kind": "failed", "text": text, "final": True})
            elif line.strip():
                self._attachment.say(line)
        self._attachment.end(leave=self._printer.interactive)

    def _hear(self) -> None:
        try:
            while (event := self._attachment.next()) is not None:
                self._printer.show(event)
        except NoAnswer:
            self._error = CommandError(Exit.TIMED_OUT, "timed_out", "no answer in time; hermesd still works on it")
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            self._error = error
        finally:
            self._over.set()
            self._printer.over()


class Pipe:
    """Lines from stdin, each sent when `may_go` says so. Their answers go to stdout, one after the other and whole; the
    rest to stderr."""

    interactive = False

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._held: deque[Line] = deque()
        self._partial = b""
        self._read_at = time.monotonic()
        self._shown_before = 0  # events, when the last line was read
        self._held_up = False  # there was input, and no room for it
        self._input_ended = False
        # Each of these has one thread that writes it.
        self._sent = 0
        self._ended = 0
        self._shown = 0
        self._asked = False
        self._over = False
        # Both ends live as long as the process: the other thread may still write when this one has left.
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def lines(self) -> Iterator[str]:
        while not self._over:
            if self._held and may_go(self._held[0], running=self._sent > self._ended, asked=self._asked):
                self._sent += 1
                yield self._held.popleft().text
            elif self._input_ended and not self._held:
                return
            else:
                self._wait()

    def _wait(self) -> None:
        """Until there is input to read, or something has happened that a line may have waited for."""
        stdin = sys.stdin.fileno()
        reading = not self._input_ended and len(self._held) < READ_AHEAD
        self._held_up = self._held_up or not reading
        ready = select.select([self._woken, stdin] if reading else [self._woken], [], [])[0]
        if self._woken in ready:
            os.read(self._woken, _READ_SIZE)
        if stdin in ready:
            self._take(os.read(stdin, _READ_SIZE))

    def _take(self, data: bytes) -> None:
        *whole, self._partial = (self._partial + data).split(b"\n")
        if not data:
            self._input_ended = True
            whole.append(self._partial)
        for raw in whole:
            text = raw.decode(sys.stdin.encoding, "replace").rstrip("\r")
            if text.strip():
                self._held.append(Line(text, self._pause()))
        self._held_up = False

    def _pause(self) -> float:
        """Since the line before. Who has been shown something since then may write because of that, however fast."""
        now, shown = time.monotonic(), self._shown
        pause = 0.0 if self._held_up else now - self._read_at
        if shown > self._shown_before and not self._held_up:
            pause = max(pause, PAUSE)
        self._read_at, self._shown_before = now, shown
        return pause

    def show(self, event: dict[str, Any]) -> None:
        if self._as_json or event.get("kind") not in SILENT:
            self._shown += 1  # before it is: the line that comes of it may be faster than the return
            self._print(event)
        if event.get("final"):
            self._ended += 1
            self._asked = False
        elif event.get("kind") == "question":
            self._asked = True
        else:
            return
        self._wake()

    def tell(self, text: str) -> None:
        click.echo(text, err=True)

    def on_interrupt(self, react: Callable[[], None]) -> None:
        """It is the end of the program."""

    def over(self) -> None:
        self._over = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full, so that it wakes anyway
            os.write(self._waker, b"!")

    def _print(self, event: dict[str, Any]) -> None:
        if self._as_json:
            render.json_line(event)
            return
        text = words.safe(event.get("text", ""), newlines=True)
        match event.get("kind"):
            case "answer" if event.get("final"):
                click.echo(text)
            case "failed":
                click.echo(f"failed: {text}", err=True)
            case _:  # also an answer to somebody else's line, or to one of an earlier chat
                click.echo(text, err=True)

    def close(self) -> None:
        """Nothing was changed."""


class _ChatOver(Exception):
    """Raised by the signal that ends the terminal's read."""


class Terminal:
    """A prompt with line editing; text appears as it is written, above the line that is being typed."""

    interactive = True

    def __init__(self, paint: Paint) -> None:
        import readline
        import termios

        self._paint = paint
        self._line_buffer: Callable[[], str] = readline.get_line_buffer
        self._restore = partial(termios.tcsetattr, 0, termios.TCSADRAIN, termios.tcgetattr(0))
        self._lock = threading.Lock()
        self._prompting = False
        self._over = False
        # A read inside readline cannot be ended in another way. Not by SIGINT, which may have come ignored: a shell
        # does that for what runs behind its back.
        signal.signal(signal.SIGUSR1, self._end_read)
        self._streaming = ""  # the turn whose text is in the line that is being written
        self._streamed: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        with contextlib.suppress(_ChatOver):
            while (line := self._read()) is not None:
                yield line

    def _read(self) -> str | None:
        self._prompting = True  # before the look: `over` sets its flag first and looks at this one then
        try:
            return None if self._over else input(PROMPT)
        except EOFError:
            click.echo()
            return None
        finally:
            self._prompting = False

    def tell(self, text: str) -> None:
        with self._lock:
            self._begin_line()
            click.echo(text, err=True)
            self._prompt_again()

    def over(self) -> None:
        self._over = True
        main = threading.main_thread().ident
        while self._prompting and main is not None:
            # Again and again: one that comes just before readline begins to wait is noted, and ends no wait.
            signal.pthread_kill(main, signal.SIGUSR1)
            time.sleep(SIGNAL_AGAIN)

    def _end_read(self, number: int, frame: FrameType | None) -> None:
        if self._prompting and self._over:
            raise _ChatOver

    def on_interrupt(self, react: Callable[[], None]) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            return
        # An exception would end the read and with it what is being typed, and one that comes just before readline
        # begins to wait would be noted only. The byte is written by the C handler, whatever the main thread is at.
        woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, lambda number, frame: None)

        def see() -> None:
            while numbers := os.read(woken, _READ_SIZE):
                for _ in range(numbers.count(signal.SIGINT)):
                    react()

        threading.Thread(target=see, name="chat-interrupts", daemon=True).start()

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
                case "notice" | "question":
                    self._above(self._paint(text, "yellow"))
                case "status":
                    self._above(self._paint(text, "dim"))
                case _:
                    pass

    def close(self) -> None:
        # The read that a signal ended may have left the terminal without echo.
        with contextlib.suppress(OSError):
            self._restore()
        signal.set_wakeup_fd(-1)

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
        self._write("\n")
        self._prompt_again()

    def _prompt_again(self) -> None:
        if self._prompting:
            self._write(PROMPT + self._line_buffer())

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
