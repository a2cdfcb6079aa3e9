"""Looks at all workers about once a second, and ends those that hang. What hanging means is decided in `hang`.

A keeper that owes an answer is looked at as well: nobody could start or end a worker while it hangs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hermesd.supervisor.tasks import Tasks
from hermesd.supervisor.ticks import next_tick
from hermesd.workers.containment.identity import Identity
from hermesd.workers.containment.kernel_view import own_cpu

from . import evidence, hang
from .hang import Silence, Verdict
from .launchers.contract import Launcher
from .pool import Pool
from .worker import Worker

log = logging.getLogger("hermesd.pool.watch")

KERNEL_SECONDS = 2.0
"""What the kernel has to say about a hung process must be there by then; a stuck one can make the question hang too."""

KEPT_HANGS = 50


@dataclass(frozen=True, slots=True)
class Hang:
    """A worker that was judged hung. ``at`` in Unix seconds."""

    at: float
    worker: str
    session: str
    evidence: str  # the file, "" if none could be written


class Watch:
    """Owned by the app; `run` is its background task.

    ``on_hung`` is called for a worker with its evidence written and must have it killed, with a stack dump. ``on_look``
    is called with the monotonic time at each look.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        hang_timeout: float,
        directory: Path,
        tasks: Tasks,
        on_hung: Callable[[Worker], None],
        on_look: Callable[[float], None],
    ):
        self._pool = pool
        self._hang_timeout = hang_timeout
        self._directory = directory
        self._tasks = tasks
        self._on_hung = on_hung
        self._on_look = on_look
        self._keepers: dict[int, Silence] = {}  # by pid
        self.hangs: deque[Hang] = deque(maxlen=KEPT_HANGS)

    def reconfigure(self, hang_timeout: float) -> None:
        """Judge by another time limit from now on. Living workers keep their beat, which they tell with each one."""
        self._hang_timeout = hang_timeout

    async def run(self) -> None:
        last = time.monotonic()
        while True:
            await next_tick(hang.LOOK_EVERY)
            now = time.monotonic()
            self.look(now, now - last)
            last = now
            self._on_look(now)

    def look(self, now: float, gap: float) -> None:
        """Judge every worker; ``gap`` is the time since the last look."""
        seconds = hang.listened(gap)
        if not seconds:
            log.warning("hermesd itself was away for %.1f s; no worker is judged by that time", gap - hang.LOOK_EVERY)
        for worker in list(self._pool.workers.values()):
            if worker.ending or worker.hung or not worker.pid:
                continue
            before = worker.silence or hang.UNSEEN
            signs = hang.Signs(worker.last_heard, worker.told_cpu, worker.beat)
            if hang.is_to_ask(before, signs, seconds):
                signs = signs._replace(cpu=own_cpu(Identity(worker.pid, worker.start_ticks)))
            worker.silence = after = hang.judge(before, signs, seconds, now, self._hang_timeout)
            if after.verdict is before.verdict:
                continue
            if after.verdict is Verdict.SILENT:
                log.warning("worker %s (%s) is silent: no sign of life for %.1f s, %.2f s CPU since",
                            worker.id, worker.session or "spare", now - worker.last_heard, after.used)  # fmt: skip
            elif after.verdict is Verdict.HUNG:
                worker.hung = f"hung: no sign of life and no CPU time for {after.still:.0f} s"
                self._tasks.job(self._end(worker), f"hang of {worker.id}")
            elif before.verdict is Verdict.SILENT:
                log.warning("worker %s (%s) gives signs of life again", worker.id, worker.session or "spare")
        owing = [launcher for launcher in self._pool.launchers if launcher.owes_since and launcher.state == "running"]
        self._keepers = {launcher.pid: self._look_at_keeper(launcher, seconds, now) for launcher in owing}

    def _look_at_keeper(self, keeper: Launcher, seconds: float, now: float) -> Silence:
        before = self._keepers.get(keeper.pid, hang.UNSEEN)
        signs = hang.Signs(keeper.owes_since, 0.0, hang.LONGEST_BEAT)
        if hang.is_to_ask(before, signs, seconds):
            signs = signs._replace(cpu=own_cpu(Identity(keeper.pid, keeper.start_ticks)))
        after = hang.judge(before, signs, seconds, now, self._hang_timeout)
        if after.verdict is Verdict.HUNG and before.verdict is not Verdict.HUNG:
            self._tasks.job(self._end_keeper(keeper, after.still), f"hang of keeper {keeper.pid}")
        return after

    async def _end_keeper(self, keeper: Launcher, still: float) -> None:
        owed = keeper.owes_since
        at = time.time()
        path = self._directory / evidence.name_of(f"keeper-{keeper.pid}", at)
        lines = [f"keeper      pid {keeper.pid}", "", *await self._kernel_facts(keeper.pid, keeper.start_ticks)]
        if keeper.state != "running" or keeper.owes_since != owed:
            return  # it came back at the last moment
        where = f", evidence: {path}" if _write(path, lines) else ""
        log.error("the keeper %d hung: no answer and no CPU time for %.0f s; it is ended%s", keeper.pid, still, where)
        keeper.end_hung()

    @staticmethod
    async def _kernel_facts(pid: int, start_ticks: int) -> list[str]:
        try:
            return await asyncio.wait_for(asyncio.to_thread(evidence.kernel_facts, pid, start_ticks), KERNEL_SECONDS)
        except TimeoutError:
            return [f"the kernel did not answer within {KERNEL_SECONDS:g} s what the process waits for"]

    async def _end(self, worker: Worker) -> None:
        """Write down what there is to see while it hangs, then have it killed."""
        heard_at = worker.last_heard
        at = time.time()
        lines = evidence.facts_of(worker, at, time.monotonic())
        path = self._directory / evidence.name_of(worker.id, at)
        lines += ["", *await self._kernel_facts(worker.pid, worker.start_ticks)]
        if worker.id not in self._pool.workers or worker.ending:
            return
        if worker.last_heard != heard_at:
            worker.hung = ""  # it came back at the last moment
            return
        worker.evidence = str(path) if _write(path, lines) else ""
        who = worker.session or "a spare"
        log.error("worker %s of %s %s; it is ended%s", worker.id, who, worker.hung,
                  f", evidence: {path}" if worker.evidence else "",
                  extra={"session": worker.session or "", "worker": worker.id})  # fmt: skip
        self.hangs.append(Hang(at, worker.id, worker.session or "", worker.evidence))
        self._on_hung(worker)
        self.prune(time.time())

    def prune(self, now: float) -> None:
        """Remove evidence and stack dumps that are too old or too many; ``now`` in Unix seconds."""
        used = {Path(worker.evidence).name for worker in self._pool.workers.values() if worker.evidence}
        evidence.prune(self._directory, now, used)
        self._pool.prune_stacks(now)

    def last_of(self, session: str) -> Hang | None:
        """The newest hang of a session in this life of hermesd."""
        return next((one for one in reversed(self.hangs) if one.session == session), None)


def _write(path: Path, lines: list[str]) -> bool:
    try:
        evidence.write(path, lines)
    except OSError as error:
        log.error("cannot write the evidence %s: %s", path, error)
        return False
    return True
