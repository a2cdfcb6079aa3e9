"""Whether a worker that says nothing hangs or works in C. Pure: times in, verdicts out.

A worker's link thread beats whatever its agent does. It falls silent when C code holds the interpreter's lock (a
catastrophic regular expression does so for hours, and burns a core), or when the process does not run: stopped, stuck
in the kernel, deadlocked. Only the kernel can tell the two apart, so it is asked for the CPU time of the silent ones.

Silence counts only while hermesd was there to listen. A supervisor that was stopped, swapped out, blocked or suspended
finds a jump of its own clock at the next look, and no worker is to blame for that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from hermesd.workers.spec import IDLE_HEARTBEAT_FACTOR

LOOK_EVERY = 1.0
"""Seconds between two looks at all workers."""

OWN_PAUSE = 1.5 * LOOK_EVERY
"""A look that comes later than this after the one before was held up by hermesd's own pause."""

ASKED_BEATS = 2.0
"""After so many heartbeats that did not come the kernel is asked for the worker's CPU time."""

SILENT_BEATS = 3.0
"""After so many a worker is silent; one alone is late now and then."""

WORKING = 0.05
"""Seconds of CPU that show that a process works. ZeroMQ's own thread needs less than this in minutes of waiting."""

LONGEST_BEAT, SHORTEST_BEAT = 1.0, 0.1


class Verdict(StrEnum):
    """What is known of a worker by the signs it gives."""

    HEARD = "heard"
    SILENT = "silent"  # heartbeats are missing; it is working in C, or it is too early to tell
    HUNG = "hung"  # neither a heartbeat nor CPU time for as long as `hang_timeout`


@dataclass(frozen=True, slots=True)
class Signs:
    """What a look found. ``cpu``: seconds that the worker's own process has used, by the kernel; None: not asked, or it
    cannot tell. ``told_cpu``: the same in the last heartbeat. ``beat``: seconds between its heartbeats.
    """

    heard_at: float
    told_cpu: float
    beat: float
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """How far a worker's silence has come. ``unheard`` and ``moved`` are seconds in which hermesd listened."""

    heard_at: float
    cpu: float  # when it was last seen to work
    unheard: float = 0.0
    moved: float = 0.0  # what ``unheard`` was when it was last seen to work
    used: float = 0.0  # CPU seconds since it was last heard
    verdict: Verdict = Verdict.HEARD

    @property
    def still(self) -> float:
        """Seconds without a heartbeat and without CPU time."""
        return self.unheard - self.moved


UNSEEN = Silence(heard_at=-1.0, cpu=0.0)
"""Of a worker that was never looked at."""


def beat_of(hang_timeout: float) -> float:
    """Seconds between the heartbeats of a busy worker, such that an idle one's show a hang in time as well."""
    wanted = hang_timeout / (SILENT_BEATS * IDLE_HEARTBEAT_FACTOR)
    return min(LONGEST_BEAT, max(SHORTEST_BEAT, wanted))


def listened(gap: float) -> float:
    """Of the seconds between two looks, those that count: none when hermesd itself was not there.

    What came meanwhile may still lie in the socket, so nobody is judged by such a look.
    """
    return gap if gap <= OWN_PAUSE else 0.0


def is_overdue(before: Silence, signs: Signs, seconds: float) -> bool:
    """Whether the kernel should be asked about this worker. ``seconds``: as `listened` gave them for this look."""
    return signs.heard_at == before.heard_at and before.unheard + seconds >= ASKED_BEATS * signs.beat


def judge(before: Silence, signs: Signs, seconds: float, now: float, hang_timeout: float) -> Silence:
    """One worker at one look: the silence so far and the signs give the silence from here on, with its verdict."""
    if signs.heard_at != before.heard_at:
        # It may have been heard at any moment since the last look.
        return Silence(signs.heard_at, signs.told_cpu, min(seconds, max(0.0, now - signs.heard_at)))
    after = replace(before, unheard=before.unheard + seconds)
    if is_overdue(before, signs, seconds):
        if signs.cpu is None:
            after = replace(after, moved=after.unheard)  # nobody is judged where the kernel does not tell
        else:
            after = replace(after, used=max(0.0, signs.cpu - signs.told_cpu))
            if signs.cpu - after.cpu >= WORKING:
                after = replace(after, cpu=signs.cpu, moved=after.unheard)
    silent_after = SILENT_BEATS * signs.beat
    if after.unheard < silent_after:
        return after
    hung = seconds > 0.0 and after.unheard >= max(hang_timeout, silent_after) and after.still >= hang_timeout
    return replace(after, verdict=Verdict.HUNG if hung else Verdict.SILENT)
