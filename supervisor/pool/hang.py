"""Whether a worker that says nothing hangs or works in C. Pure: times in, verdicts out.

A worker's link thread beats whatever its agent does. It falls silent when C code holds the interpreter's lock (a
catastrophic regular expression does so for hours, and burns a core), or when the process does not run: stopped, stuck
in the kernel, deadlocked. Only the kernel can tell the two apart, so it is asked for the CPU time of the silent ones.

Silence counts only while hermesd was there to listen. A supervisor that was stopped, swapped out, blocked or suspended
finds a jump of its own clock at the next look, and no worker is to blame for that.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

LOOK_EVERY = 1.0
"""Seconds between two looks at all workers."""

OWN_PAUSE = 1.5 * LOOK_EVERY
"""A look that comes later than this after the one before was held up by hermesd's own pause."""

LATE = 5.0
"""Seconds that a heartbeat may be late at most, however rare they are. Frequent ones: as long as they are apart."""

ASKED_LATE = 1.0
"""A heartbeat that is later than this many times what it may be: the kernel is asked at each look."""

SILENT_LATE = 2.0
"""After so many times the worker is silent; one heartbeat alone is late now and then."""

ASK_EVERY = 3.0
"""Seconds without a heartbeat after which the kernel is asked, also when none is due yet. CPU time that was used before
a worker came to a stop cannot be dated later: what is used between two questions delays the verdict by their distance.
"""

WORKING = 0.05
"""Seconds of CPU that show that a process works. ZeroMQ's own thread needs less than this in minutes of waiting."""

LONGEST_BEAT, SHORTEST_BEAT = 1.0, 0.1

LONGEST_IDLE_BEAT = 20.0

FIRST_BEAT = 5.0
"""Of a worker that has not said yet when its next heartbeat is due."""


class Verdict(StrEnum):
    """What is known of a worker by the signs it gives."""

    HEARD = "heard"
    SILENT = "silent"  # heartbeats are missing; it is working in C, or it is too early to tell
    HUNG = "hung"  # neither a heartbeat nor CPU time for as long as `hang_timeout`


class Signs(NamedTuple):
    """What a look found. ``cpu``: seconds that the worker's own process has used, by the kernel; None: not asked, or it
    cannot tell. ``told_cpu``: the same in the last heartbeat. ``beat``: seconds between its heartbeats.
    """

    heard_at: float
    told_cpu: float
    beat: float
    cpu: float | None = None


class Silence(NamedTuple):
    """How far a worker's silence has come. ``unheard``, ``moved``, ``asked``: seconds in which hermesd listened."""

    heard_at: float
    cpu: float  # when it was last seen to work
    unheard: float = 0.0
    moved: float = 0.0  # what ``unheard`` was when it was last seen to work
    asked: float = 0.0  # what ``unheard`` was when the kernel was last asked
    used: float = 0.0  # CPU seconds since it was last heard
    verdict: Verdict = Verdict.HEARD

    @property
    def still(self) -> float:
        """Seconds without a heartbeat and without CPU time."""
        return self.unheard - self.moved


UNSEEN = Silence(heard_at=-1.0, cpu=0.0)
"""Of a worker that was never looked at."""


def beat_of(hang_timeout: float) -> float:
    """Seconds between the heartbeats of a busy worker."""
    return min(LONGEST_BEAT, max(SHORTEST_BEAT, hang_timeout / 15.0))


def idle_beat_of(hang_timeout: float, burn_timeout: float = 0.0) -> float:
    """Seconds between the heartbeats of an idle worker: three fit into the time limit, for one may get lost.

    With a ``burn_timeout``, 0 for none, they lie hardly further apart than that: they tell who uses the processor.
    """
    rare = min(LONGEST_IDLE_BEAT, max(SHORTEST_BEAT, hang_timeout / 3.0))
    return min(rare, max(beat_of(hang_timeout), burn_timeout * 4.0 / 3.0)) if burn_timeout else rare


def listened(gap: float) -> float:
    """Of the seconds between two looks, those that count: none when hermesd itself was not there.

    What came meanwhile may still lie in the socket, so nobody is judged by such a look.
    """
    return gap if gap <= OWN_PAUSE else 0.0


def overdue(beat: float, lateness: float) -> float:
    """Seconds since the last heartbeat after which the next one is ``lateness`` times later than it may be."""
    return beat + lateness * min(beat, LATE)


def is_to_ask(before: Silence, signs: Signs, seconds: float) -> bool:
    """Whether the kernel should be asked about this worker. ``seconds``: as `listened` gave them for this look."""
    if signs.heard_at != before.heard_at:
        return False
    unheard = before.unheard + seconds
    return unheard - before.asked >= ASK_EVERY or unheard >= overdue(signs.beat, ASKED_LATE)


def judge(before: Silence, signs: Signs, seconds: float, now: float, hang_timeout: float) -> Silence:
    """One worker at one look: the silence so far and the signs give the silence from here on, with its verdict."""
    if signs.heard_at != before.heard_at:
        # It may have been heard at any moment since the last look.
        return Silence(signs.heard_at, signs.told_cpu, min(seconds, max(0.0, now - signs.heard_at)))
    unheard = before.unheard + seconds
    _, cpu, _, moved, asked, used, verdict = before
    if is_to_ask(before, signs, seconds):
        asked = unheard
        if signs.cpu is None:
            moved = unheard  # nobody is judged where the kernel does not tell
        else:
            used = max(0.0, signs.cpu - signs.told_cpu)
            if signs.cpu - cpu >= WORKING:
                cpu, moved = signs.cpu, unheard
    if unheard >= (silent_after := overdue(signs.beat, SILENT_LATE)):
        hung = seconds > 0.0 and unheard >= max(hang_timeout, silent_after) and unheard - moved >= hang_timeout
        verdict = Verdict.HUNG if hung else Verdict.SILENT
    return Silence(signs.heard_at, cpu, unheard, moved, asked, used, verdict)
