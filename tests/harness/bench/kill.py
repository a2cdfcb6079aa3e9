"""The end of a hostile tree of 100 processes, and how many of them outlive it.

Ours is timed until the container is proved empty and removed; the baselines only until nothing more dies, and what they
leave is counted by the connections that the processes of the tree hold.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil

from . import trees
from .effort import Effort, Say
from .row import Row, Series

STILL = 0.1
"""Seconds without a death after which no more is expected."""


def measure(effort: Effort, say: Say) -> list[Row]:
    with trees.keepers() as keepers:
        ours: dict[str, list[float]] = {name: [] for name in keepers}
        theirs: dict[str, list[float]] = {name: [] for name in BASELINES}
        survivors: dict[str, int] = dict.fromkeys((*keepers, *BASELINES), 0)
        some = next(iter(keepers.values()))
        for number in range(effort.runs):
            for name, keeper in keepers.items():
                took = []
                for _ in range(effort.kills):
                    with trees.hostile(keeper) as (oracle, _):
                        took.append(keeper.kill(worker="bench", seconds=30.0)["took"] * 1000)
                        survivors[name] += oracle.alive
                ours[name].append(statistics.median(took))
            for name, end in BASELINES.items():
                with trees.hostile(some) as (oracle, root):
                    theirs[name].append(_time(end, root, oracle) * 1000)
                    survivors[name] += oracle.alive
            say(f"run {number + 1} of {effort.runs}: survivors {survivors}")

    def series(name: str, values: list[float]) -> Series:
        kills = effort.runs * (1 if name in BASELINES else effort.kills)
        return Series(name, values, {f"survivors in {kills}": survivors[name]})

    baselines = tuple(series(name, values) for name, values in theirs.items())
    return [
        Row("kill", f"a hostile tree of {trees.SIZE}: kill to empty, {name}", "ms", series(name, values), baselines)
        for name, values in ours.items()
    ]


def _time(end: Callable[[int], None], root: int, oracle: Any) -> float:
    began = last = time.perf_counter()
    end(root)
    alive = trees.SIZE
    while alive == trees.SIZE or time.perf_counter() - last < STILL:
        if (now_alive := oracle.alive) != alive:
            alive, last = now_alive, time.perf_counter()
        time.sleep(0.0005)
    return last - began


def _kill_group(root: int) -> None:
    # The root is the keeper's child, not reaped before the keeper is asked to: its number cannot be somebody else's.
    os.killpg(root, signal.SIGKILL)


def _kill_descendants(root: int) -> None:
    parent = psutil.Process(root)
    for process in (*parent.children(recursive=True), parent):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


BASELINES: dict[str, Callable[[int], None]] = {
    "killpg": _kill_group,
    "psutil children(recursive), kill": _kill_descendants,
}
