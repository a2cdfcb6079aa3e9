"""The live screen of ``hermesctl top``: keys in, a new picture every interval, the terminal as before at the end."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from . import render
from .exits import CommandError
from .topview import Sample, View, measured, press, screen

_ESCAPE = "\x1b"


class Screen:
    """``take`` gives a sample of hermesd, if asked for with every process."""

    def __init__(self, take: Callable[[bool], Sample], interval: float, paint: render.Paint, view: View) -> None:
        self._take = take
        self._interval = interval
        self._paint = paint
        self._view = view
        self._raw: Sample | None = None
        self._shown: Sample | None = None
        self._trouble = ""

    def run(self) -> None:
        """Until ``q``, or an end by signal. A hermesd that does not answer at the start raises `CommandError`."""
        self._shown = self._raw = self._take(self._view.tree)
        # Plain text with our own colours: rich is here for the alternate screen and for drawing without flicker.
        console = Console(file=sys.stdout, force_terminal=True, highlight=False, no_color=not self._paint.on)
        with _keyboard(), _ends_politely(), Live(console=console, screen=True, auto_refresh=False) as live:
            due = time.monotonic() + self._interval
            self._draw(live, console)
            while not self._view.over:
                tree = self._view.tree
                for key in _keys(max(0.0, due - time.monotonic())):
                    self._view = press(self._view, key)
                if time.monotonic() >= due or self._view.tree > tree:  # the processes are not in the last sample
                    due = time.monotonic() + self._interval
                    if not self._view.paused:
                        self._sample()
                self._draw(live, console)

    def _sample(self) -> None:
        try:
            sample = self._take(self._view.tree)
        except CommandError as error:  # it may come back; the last figures stay, marked as old
            self._trouble = error.message
            return
        assert self._raw is not None
        self._shown = Sample(measured(self._raw.ps, sample.ps), sample.status)
        self._raw = sample
        self._trouble = ""

    def _draw(self, live: Live, console: Console) -> None:
        assert self._shown is not None
        width, height = console.size
        lines = screen(self._shown, self._view, datetime.now(UTC), self._paint, width, self._trouble)
        picture = Text.from_ansi("\n".join(lines[:height]), no_wrap=True, overflow="ellipsis")
        live.update(picture, refresh=True)


@contextmanager
def _keyboard() -> Iterator[None]:
    """Keys one by one and unseen, Ctrl-C still a signal."""
    descriptor = sys.stdin.fileno()
    saved = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)


@contextmanager
def _ends_politely() -> Iterator[None]:
    """A terminal that closes or a ``kill`` leaves the screen as it was, too."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    saved = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)


def _keys(seconds: float) -> str:
    """What was typed within the time; nothing for keys such as F1, which arrive as a sequence that begins with ESC."""
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return ""
    data = os.read(sys.stdin.fileno(), 64)
    if not data:  # the terminal is gone
        return "q"
    text = data.decode("utf-8", "replace")
    return "" if text.startswith(_ESCAPE) else text
