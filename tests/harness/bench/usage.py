"""One look at CPU time and memory of 100 processes, as ``hermesctl ps`` and the limits need it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence

import psutil

from . import trees
from .effort import Effort, Say
from .row import Row, Series


def measure(effort: Effort, say: Say) -> list[Row]:
    names = {"cgroup": "with a cgroup", "subreaper": "without, one scan of /proc"}
    rows = []
    with trees.keepers() as keepers:
        for memory, what in ((False, "CPU and resident memory"), (True, "CPU and proportional memory (PSS)")):
            ours: dict[str, list[float]] = {name: [] for name in keepers}
            theirs: list[float] = []
            with contextlib.ExitStack() as stack:
                for keeper in keepers.values():
                    stack.enter_context(trees.hostile(keeper))
                pids = next(iter(keepers.values())).usage()["workers"]["bench"]["pids"]
                for _ in range(effort.runs):
                    for name, keeper in keepers.items():
                        looks = [keeper.usage(memory=memory)["took"] * 1000 for _ in range(effort.starts)]
                        ours[name].append(statistics.median(looks))
                    theirs.append(statistics.median(_look(pids, memory) for _ in range(effort.starts)))
            say(f"{what}: done")
            rows += [
                Row(
                    "usage",
                    f"{what} of {trees.SIZE} processes, {names[name]}",
                    "ms",
                    Series("one sample", values),
                    (Series("psutil, process by process", theirs),),
                )
                for name, values in ours.items()
            ]
    return rows


def _look(pids: Sequence[int], memory: bool) -> float:
    began = time.perf_counter()
    for pid in pids:
        process = psutil.Process(pid)
        with process.oneshot():
            process.cpu_times()
            process.memory_full_info() if memory else process.memory_info()
    return (time.perf_counter() - began) * 1000
