"""Waiting with a person looking on: a line of progress on stderr, renewed in place on a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, cast

import click

from hermesd.supervisor.control.errors import NoAnswer

from . import words
from .exits import CommandError, Exit
from .options import hint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hermesd.supervisor.control.client import Stream
    from hermesd.supervisor.control.shapes import OutcomesDocument

SLACK = 5.0
"""Seconds that hermesd may take beyond the time that it says is left, for its own last steps."""

PATIENCE = 1.0  # seconds before the first line
PIPED_EVERY = 5.0  # seconds between lines where they cannot be renewed in place


class Progress:
    """Shows what is going on, from the second second on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._in_place = sys.stderr.isatty()
        self._shown = ""
        self._shown_at = 0.0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if now - self._began < PATIENCE or text == self._shown:
            return
        if self._in_place:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
        elif now - self._shown_at < PIPED_EVERY:
            return
        else:
            click.echo(text, err=True)
        self._shown, self._shown_at = text, now

    def close(self) -> None:
        """Clears the line that was renewed in place."""
        if self._in_place and self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = ""


def stop_line(event: Mapping[str, Any]) -> str:
    """``draining: 3 of 8 workers busy, 41 s left``."""
    busy, workers = int(event.get("busy", 0)), int(event.get("workers", 0))
    left = f"{max(0.0, float(event.get('left_s', 0.0))):.0f} s left"
    if event.get("phase") == "draining":
        return f"draining: {busy} of {words.count(workers, 'worker')} busy, {left}"
    return f"{words.safe(event.get('phase', ''))}: {words.count(workers, 'worker')} left, {left}"


def watch(stream: Stream, timeout: float | None, no_wait: bool) -> float:
    """Follows ``stop`` to its result, with ``no_wait`` to its first event.

    Gives the time by which all should be over; raises `CommandError` when it passes. Ctrl-C ends the watching only.
    """
    progress = Progress()
    deadline = None if timeout is None else time.monotonic() + timeout + SLACK
    heard = False
    try:
        while True:
            event = stream.next(deadline)
            if event is None or no_wait:
                return deadline if deadline is not None else time.monotonic() + SLACK
            heard = True
            if timeout is None:
                deadline = time.monotonic() + float(event.get("left_s", 0.0)) + SLACK
            progress.show(stop_line(event))
    except NoAnswer as error:
        if not heard:
            raise
        raise CommandError(
            Exit.TIMED_OUT, "timed_out", "no end in time; it still goes on", "hermesctl status"
        ) from error
    except KeyboardInterrupt:
        progress.close()
        hint("no longer watching; it goes on all the same (hermesctl status)")
        raise
    finally:
        progress.close()


def of_sessions(stream: Stream, no_wait: bool) -> tuple[list[str], OutcomesDocument | None]:
    """Follows ``stop`` or ``restart`` of sessions, as `watch` does; hermesd itself says how long that may take.

    Gives the sessions that there are none of, and the result; None for it with ``no_wait``.
    """
    first = stream.next() or {}
    if not no_wait:
        watch(stream, float(first.get("left_s", 0.0)), no_wait)
    result = None if stream.result is None else cast("OutcomesDocument", stream.result)
    return list(first.get("not_found", ())), result
