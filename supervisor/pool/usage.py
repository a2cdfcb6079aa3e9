"""CPU and memory per worker: whole trees with their dead, from the kernel.

With cgroups the kernel counts exactly; otherwise one scan of /proc serves all workers. A percentage needs two moments:
a cheap sample is taken every few seconds while somebody looks, so that each look has one to compare with. Where nobody
does it is taken once a minute; without cgroups as often as ever, for there only what was seen of the dead is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

from hermesd.ipc.ids import WorkerId
from hermesd.workers.containment import Usage
from hermesd.workers.containment.contract import Containment

from .census import PROCESSES
from .pool import Pool
from .worker import Worker

NOTHING = Usage(0.0, 0, 0)

BACKGROUND_SECONDS = 5.0

UNWATCHED_SECONDS = 60.0
"""Seconds between two samples while nobody looks."""

WATCHED_SECONDS = 3 * BACKGROUND_SECONDS
"""So long after a look somebody is taken to be there."""

STALE_SECONDS = 2 * BACKGROUND_SECONDS
"""A sample that is older says nothing of the moment; a look that may wait has a new one taken."""

MIN_GAP = 0.2
"""Seconds between two samples that a percentage is taken from; the kernel's ticks are 0.01 s."""


@dataclass(frozen=True, slots=True)
class Sample:
    """``at`` in monotonic seconds, ``taken_at`` in Unix seconds."""

    at: float
    taken_at: float
    workers: dict[WorkerId, Usage]
    supervisor: float
    keeper: float  # the one that starts new workers
    adopted: dict[int, float]  # the other keepers, by pid


@dataclass(frozen=True, slots=True)
class KeeperFigures:
    """What a keeper costs that an earlier hermesd has left."""

    cpu_seconds: float
    percent: float | None
    memory: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A sample and the percentages since an earlier one; 100 = one core."""

    sample: Sample
    percent: dict[WorkerId, float]
    supervisor_percent: float | None
    keeper_percent: float | None
    supervisor_memory: int
    keeper_memory: int
    adopted: dict[int, KeeperFigures]
    exact: bool
    source: str


class Sampler:
    """Owned by the app; `run` is its background task. ``on_sample`` is called with each sample that it takes."""

    def __init__(self, pool: Pool, on_sample: Callable[[Sample], None] = lambda sample: None):
        self._pool = pool
        self._on_sample = on_sample
        self._earlier: Sample | None = None
        self._looked_at = -math.inf
        self._looked = asyncio.Event()

    async def run(self) -> None:
        """Keeps one sample to compare with. Ends by cancellation."""
        while True:
            self._earlier = await self._take(memory=False)
            self._on_sample(self._earlier)
            self._looked.clear()
            await asyncio.sleep(BACKGROUND_SECONDS)
            watched = time.monotonic() - self._looked_at < WATCHED_SECONDS
            if not watched and self._containment().exact_cpu:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._looked.wait(), UNWATCHED_SECONDS - BACKGROUND_SECONDS)

    async def figures(self, *, wait: bool = True) -> Figures:
        """Figures of now, for one look of a person. ``wait`` False: rather no percentage than a pause for one."""
        self._looked_at = time.monotonic()
        self._looked.set()
        earlier = self._earlier
        if earlier is None or (wait and self._looked_at - earlier.at > STALE_SECONDS):
            earlier = self._earlier = await self._take(memory=False)
        if wait and (missing := earlier.at + MIN_GAP - time.monotonic()) > 0:
            await asyncio.sleep(missing)
        sample = await self._take(memory=True)
        self._on_sample(sample)
        gap = sample.at - earlier.at
        comparable = gap >= MIN_GAP
        containment = self._containment()
        percent = self._percentages(earlier, sample)
        return Figures(
            sample=sample,
            percent=percent,
            supervisor_percent=max(0.0, sample.supervisor - earlier.supervisor) / gap * 100.0 if comparable else None,
            keeper_percent=max(0.0, sample.keeper - earlier.keeper) / gap * 100.0 if comparable else None,
            supervisor_memory=PROCESSES.memory_of(os.getpid()),
            keeper_memory=PROCESSES.memory_of(self._pool.launcher.pid),
            adopted={
                pid: KeeperFigures(
                    seconds,
                    max(0.0, seconds - earlier.adopted.get(pid, seconds)) / gap * 100.0 if comparable else None,
                    PROCESSES.memory_of(pid),
                )
                for pid, seconds in sample.adopted.items()
            },
            exact=containment.exact_cpu,
            source="cgroup" if containment.exact_cpu else "proc",
        )

    def _percentages(self, earlier: Sample, later: Sample) -> dict[WorkerId, float]:
        """A worker that is younger than the earlier sample had used nothing when it was launched."""
        found = {}
        for name, usage in later.workers.items():
            before, since = earlier.workers.get(name, NOTHING).cpu_seconds, earlier.at
            if name not in earlier.workers:
                worker = self._pool.workers.get(name)
                since = worker.launched if worker is not None else later.at
            if (gap := later.at - since) >= MIN_GAP:
                found[name] = max(0.0, usage.cpu_seconds - before) / gap * 100.0
        return found

    def _containment(self) -> Containment:
        containment = self._pool.containment
        assert containment is not None  # the app makes the sampler after the pool has started
        return containment

    async def _take(self, *, memory: bool) -> Sample:
        at, taken_at = time.monotonic(), time.time()
        usage: dict[str, Usage] = {}
        for containment, workers in self._by_containment():
            containers = {str(worker.id): worker.container for worker in workers if worker.container is not None}
            roots = {str(worker.id): worker.pid for worker in workers}
            usage |= await asyncio.to_thread(containment.usage, containers, roots, memory=memory)
        own = resource.getrusage(resource.RUSAGE_SELF)
        return Sample(
            at=at,
            taken_at=taken_at,
            workers={WorkerId(name): figures for name, figures in usage.items()},
            supervisor=own.ru_utime + own.ru_stime,
            keeper=PROCESSES.own_cpu_seconds(self._pool.launcher.pid),
            adopted={launcher.pid: PROCESSES.own_cpu_seconds(launcher.pid) for launcher in self._pool.launchers[1:]},
        )

    def _by_containment(self) -> list[tuple[Containment, list[Worker]]]:
        """One scan serves all workers of a kind; those that were taken over may be of another one than new ones."""
        found: dict[str, tuple[Containment, list[Worker]]] = {}
        for worker in self._pool.workers.values():
            if worker.pid and worker.containment is not None:
                found.setdefault(worker.containment.name, (worker.containment, []))[1].append(worker)
        return list(found.values())
