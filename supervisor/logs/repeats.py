"""Folds equal records that follow each other into one line and "repeated n times". Pure: the time is passed in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

Line = dict[str, Any]

PATIENCE: Final = 10.0
"""Seconds after which a run that goes on is told of, so that a reader sees that it does."""

MAX_SOURCES: Final = 256

_SHOWN: Final = 200  # characters of the message that a "repeated" line shows again


@dataclass(slots=True)
class _Run:
    identity: tuple[object, ...]
    line: Line  # the latest of the equal ones
    count: int
    since: float


class Repeats:
    """A run belongs to a source (a worker, or hermesd itself), so that those of many that log at once go on."""

    def __init__(self, patience: float = PATIENCE):
        self._patience = patience
        self._runs: OrderedDict[object, _Run] = OrderedDict()

    def take(self, line: Line, now: float) -> list[Line]:
        """What is to be written now that this line has come; the line itself unless it repeats the one before it."""
        source = line.get("worker", "")
        identity = (line["level"], line["logger"], line["msg"], line.get("session"), line.get("pid"))
        run = self._runs.get(source)
        if run is not None and run.identity == identity:
            run.count += 1
            run.line = line
            return self._told(run, now) if now - run.since >= self._patience else []
        written = [] if run is None else self._told(run, now)
        self._runs[source] = _Run(identity, line, 0, now)
        self._runs.move_to_end(source)
        if len(self._runs) > MAX_SOURCES:
            _, oldest = self._runs.popitem(last=False)
            written += self._told(oldest, now)
        return [*written, line]

    def overdue(self, now: float) -> list[Line]:
        """The counts that have waited long enough, for a time in which nothing more comes."""
        return [
            line for run in self._runs.values() if now - run.since >= self._patience for line in self._told(run, now)
        ]

    def rest(self, now: float) -> list[Line]:
        """Every count that waits: the end."""
        return [line for run in self._runs.values() for line in self._told(run, now)]

    @staticmethod
    def _told(run: _Run, now: float) -> list[Line]:
        if not run.count:
            return []
        times = "once more" if run.count == 1 else f"{run.count} times"
        said = {**run.line, "msg": f"repeated {times}: {run.line['msg'][:_SHOWN]}", "repeated": run.count}
        run.count, run.since = 0, now
        return [said]
