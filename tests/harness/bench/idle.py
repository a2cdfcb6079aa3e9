"""CPU time that a hermesd takes while nobody writes, and its idle workers with it.

Beside it, in the same seconds: PyPI's Supervisor with as many programs that only sleep.
"""

from __future__ import annotations

import time

from . import idle_sessions, supervisord
from .cpu import run_seconds
from .effort import Effort, Say
from .row import Row, Series


def measure(effort: Effort, say: Say) -> list[Row]:
    supervisor: list[float] = []
    workers: list[float] = []
    theirs: list[float] = []
    with idle_sessions.scene(effort.idle_workers) as scene, supervisord.running(effort.idle_workers) as other:
        pids = idle_sessions.pids(scene, effort.idle_workers)
        others = [] if other is None else [other.pid]
        for number in range(effort.runs):
            before = run_seconds([scene.daemon.pid]), run_seconds(pids), run_seconds(others)
            began = time.monotonic()
            time.sleep(effort.idle_seconds)
            took = time.monotonic() - began
            supervisor.append((run_seconds([scene.daemon.pid]) - before[0]) / took * 100)
            workers.append((run_seconds(pids) - before[1]) / took * 100)
            theirs.append((run_seconds(others) - before[2]) / took * 100)
            say(f"run {number + 1} of {effort.runs}: {supervisor[-1]:.2f} % of a core, {workers[-1]:.2f} % the workers")
    title = f"CPU over {effort.idle_seconds:g} s with {effort.idle_workers} idle workers"
    baselines = () if other is None else (Series("supervisord, programs that sleep", theirs),)
    return [
        Row("idle", f"{title}: hermesd", "% of a core", Series("hermesd", supervisor), baselines),
        Row("idle", f"{title}: all workers together", "% of a core", Series("workers", workers)),
    ]
