"""Measures what workers have used up and has the gateway replace or end them. What is too much is decided in `limits`.

After each turn, for nothing else makes a worker's figures grow as fast; once a minute for those that are idle, with the
figures that are taken then anyhow; and four times a second while a turn runs, where the kernel does not hold the worker
to its limits itself. The calls of a worker that holds a shared MCP server are its turns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from hermesd.ipc.keeping import Gone
from hermesd.supervisor.tasks import Tasks
from hermesd.supervisor.ticks import next_tick

from .limits import Limits, Spent, endangers, out_of_memory, worn
from .pool import Pool
from .usage import Sample
from .worker import Worker

log = logging.getLogger("hermesd.pool.limits")

POLL_SECONDS = 0.25

MEASURE_SECONDS = 2.0
"""For the kernel's answer about shared pages; of a process that is stuck it may never come."""


class Enforcer:
    """Owned by the app; `run` is its background task.

    ``busy`` gives the workers that have a turn or a call. ``recycle`` has one end between those, which may be now;
    ``end`` has it killed. Both get a reason for people.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        limits: Limits,
        tasks: Tasks,
        busy: Callable[[], Iterable[Worker]],
        recycle: Callable[[Worker, str], None],
        end: Callable[[Worker, str], None],
    ):
        self._pool = pool
        self._limits = limits
        self._tasks = tasks
        self._busy = busy
        self._recycle = recycle
        self._end = end
        self._began = asyncio.Event()

    def reconfigure(self, limits: Limits) -> None:
        """Judge by these from now on. What the kernel was told of a living worker stays."""
        self._limits = limits

    async def run(self) -> None:
        """Ends by cancellation. Sleeps as long as no turn runs."""
        while True:
            await self._began.wait()
            await next_tick(POLL_SECONDS)
            busy = [worker for worker in self._busy() if worker.pid and not worker.ending and not worker.ended_for]
            if not busy:
                self._began.clear()
                continue
            if polled := [worker for worker in busy if self._is_polled(worker)]:
                await self._look(polled)

    def _is_polled(self, worker: Worker) -> bool:
        launcher, limits = worker.launcher, self._limits
        if launcher is None:
            return True
        return bool(
            (limits.memory_hard and not launcher.memory_limit) or (limits.processes and not launcher.tasks_limit)
        )

    async def _look(self, workers: list[Worker]) -> None:
        for worker in workers:
            spent = await asyncio.to_thread(_measured, worker)
            if not (reason := endangers(self._limits, spent)):
                continue
            if spent.memory > self._limits.memory_hard > 0:
                reason = endangers(self._limits, await _exact(worker, spent))
            if reason and worker.id in self._pool.workers and not worker.ending and not worker.ended_for:
                self._end(worker, reason)

    # ---- for the gateway ---------------------------------------------------------------------------------------------

    def turn_begins(self) -> None:
        self._began.set()

    def after_turn(self, worker: Worker, doubtful: Callable[[], Callable[[], None]]) -> str:
        """Why the worker is to be recycled now that its turn has ended; "" if it may have the next one.

        Where only a longer look can tell, ``doubtful`` is called: it keeps the session's next turn back until what it
        returned is called, and meanwhile ``recycle`` may come.
        """
        spent = replace(_measured(worker), turns=worker.turns, age=self._age(worker))
        if not (reason := worn(self._limits, spent)):
            return ""
        if not (spent.memory > self._limits.memory_soft > 0):
            return reason
        self._tasks.job(self._decide(worker, spent, doubtful()), f"memory of {worker.id}")
        return ""

    async def _decide(self, worker: Worker, spent: Spent, done: Callable[[], None]) -> None:
        try:
            spent = await _exact(worker, spent)
            if worker.ending or worker.ended_for:
                return
            if reason := worn(self._limits, spent):
                self._recycle(worker, reason)
            elif reason := endangers(self._limits, spent):
                self._end(worker, reason)
        finally:
            done()

    def of_idle(self, sample: Sample) -> None:
        """Called with figures that were taken for another purpose: about once a minute, and whenever somebody looks."""
        busy = {worker.id for worker in self._busy()}
        for name, usage in sample.workers.items():
            worker = self._pool.workers.get(name)
            if worker is None:
                continue
            worker.processes = usage.processes
            worker.tree_cpu, worker.tree_at = usage.cpu_seconds, sample.at
            if name not in busy:
                self._judge_idle(worker, Spent(usage.memory_bytes, usage.processes))

    def after_calls(self, worker: Worker) -> None:
        """A worker that holds a shared MCP server has answered its last call for now; ``recycle`` may follow."""
        self._judge_idle(worker, _measured(worker))

    def _judge_idle(self, worker: Worker, spent: Spent) -> None:
        spent = replace(spent, turns=worker.turns, age=self._age(worker))
        if worker.ending or worker.ended_for or not (worn(self._limits, spent) or endangers(self._limits, spent)):
            return
        self._tasks.job(self._decide(worker, spent, lambda: None), f"memory of {worker.id}")

    def why_it_ended(self, worker: Worker, gone: Gone) -> str:
        """The limit that the kernel itself has ended it for; "" if it was none."""
        return out_of_memory(self._limits) if gone.out_of_memory and not worker.ended_for else ""

    def _age(self, worker: Worker) -> float:
        return time.monotonic() - (worker.assigned_at or worker.launched)


def _measured(worker: Worker) -> Spent:
    """A cheap look; its memory is RSS, which is never less than its share."""
    if worker.containment is None or worker.container is None:
        return Spent()
    memory, processes = worker.containment.glance(worker.container, worker.pid)
    return Spent(memory, processes)


async def _exact(worker: Worker, spent: Spent) -> Spent:
    """The same with the worker's share of the pages that it has in common with others."""
    if worker.containment is None or worker.container is None:
        return spent
    looked = asyncio.to_thread(
        worker.containment.usage, {worker.id: worker.container}, {worker.id: worker.pid}, memory=True
    )
    try:
        usage = (await asyncio.wait_for(looked, MEASURE_SECONDS))[worker.id]
    except (TimeoutError, OSError):
        log.warning("the kernel does not tell what worker %s shares with others: its whole memory counts", worker.id)
        return spent
    return replace(spent, memory=usage.memory_bytes, processes=usage.processes)
