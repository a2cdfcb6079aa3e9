"""``hermesctl status`` as a program, from its start to its end, beside a running hermesd."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from harness.scene import Scene

from . import supervisord
from .effort import Effort, Say
from .row import Row, Series

PATIENCE = 30.0


def measure(effort: Effort, say: Say) -> list[Row]:
    ours: list[float] = []
    click: list[float] = []
    theirs: list[float] = []
    with Scene() as scene, supervisord.running() as other:
        scene.start()
        for number in range(effort.runs):
            ours.append(_time(scene.daemon.command("hermesctl", "status"), scene.daemon.env, effort.starts))
            click.append(_time([sys.executable, "-c", "import click"], scene.daemon.env, effort.starts))
            if other is not None:
                theirs.append(_time(other.status, other.environment, effort.starts))
            say(f"run {number + 1} of {effort.runs}: {ours[-1]:.0f} ms")
    baselines = [Series("python -c 'import click'", click)]
    if theirs:
        baselines.append(Series("supervisorctl status", theirs))
    return [Row("status", "hermesctl status, start to end", "ms", Series("hermesctl status", ours), baselines)]


def _time(command: Sequence[str], environment: Mapping[str, str], times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
        took.append((time.perf_counter() - began) * 1000)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return statistics.median(took)
