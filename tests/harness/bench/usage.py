"""One look at CPU time and memory of 100 processes, as ``hermesctl ps`` and the limits need it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from hermesd.workers.containment import cgroupfs

from . import trees
from .effort import Effort, Say
from .row import Row, Series


def measure(effort: Effort, say: Say) -> list[Row]:
    names = {"cgroup": "with a cgroup", "subreaper": "without, one scan of /proc"}
    rows = []
    with trees.keepers() as keepers:
        if "cgroup" in keepers:
            rows.append(_cpu_alone(keepers["cgroup"], effort))
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


def _cpu_alone(keeper: Any, effort: Effort) -> Row:
    """What the kernel counts for the container as a whole, its dead included: one file, however many processes."""
    ours: list[float] = []
    theirs: list[float] = []
    with trees.hostile(keeper) as (_, root):
        path = cgroupfs.directory_of(root)
        pids = keeper.usage()["workers"]["bench"]["pids"]
        if sorted(cgroupfs.members(path)) != sorted(pids):
            raise RuntimeError(f"{path} is not the cgroup of the whole tree")
        for _ in range(effort.runs):
            ours.append(statistics.median(_time(cgroupfs.cpu_seconds, path) for _ in range(effort.starts)))
            theirs.append(statistics.median(_time(_cpu_of, pids) for _ in range(effort.starts)))
    return Row(
        "usage",
        f"CPU alone of {trees.SIZE} processes, with a cgroup",
        "ms",
        Series("one sample", ours),
        (Series("psutil, process by process", theirs),),
    )


def _cpu_of(pids: Sequence[int]) -> None:
    for pid in pids:
        psutil.Process(pid).cpu_times()


def _time(function: Callable[[Any], object], argument: Any) -> float:
    began = time.perf_counter()
    function(argument)
    return (time.perf_counter() - began) * 1000


def _look(pids: Sequence[int], memory: bool) -> float:
    began = time.perf_counter()
    for pid in pids:
        process = psutil.Process(pid)
        with process.oneshot():
            process.cpu_times()
            process.memory_full_info() if memory else process.memory_info()
    return (time.perf_counter() - began) * 1000
