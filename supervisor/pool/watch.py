"""Looks at all workers about once a second, and ends those that hang, or burn the processor without a turn.

What hanging means is decided in `hang`, what burning means in `burning`. A keeper that owes an answer is looked at as
well: nobody could start or end a worker while it hangs.
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

from . import burning, evidence, hang
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
    """A worker that was judged hung, or burning. ``at`` in Unix seconds."""

    at: float
    worker: str
    session: str
    evidence: str  # the file, "" if none could be written
    reason: str = ""  # for people


class Watch:
    """Owned by the app; `run` is its background task.

    ``has_turn`` says whether a worker has something to do. ``on_hung`` is called for one with its evidence written and
    must have it killed, with a stack dump. ``on_look`` is called with the monotonic time at each look.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        hang_timeout: float,
        burn_timeout: float,
        directory: Path,
        tasks: Tasks,
        has_turn: Callable[[Worker], bool],
        on_hung: Callable[[Worker], None],
        on_look: Callable[[float], None],
    ):
        self._pool = pool
        self._hang_timeout = hang_timeout
        self._burn_timeout = burn_timeout
        self._directory = directory
        self._tasks = tasks
        self._has_turn = has_turn
        self._on_hung = on_hung
        self._on_look = on_look
        self._keepers: dict[int, Silence] = {}  # by pid
        self.hangs: deque[Hang] = deque(maxlen=KEPT_HANGS)

    def reconfigure(self, hang_timeout: float, burn_timeout: float) -> None:
        """Judge by other time limits from now on. Living workers keep their beat, which they tell with each one."""
        self._hang_timeout, self._burn_timeout = hang_timeout, burn_timeout

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
            # What was said meanwhile is heard late, and times between two words are none.
            for worker in self._pool.workers.values():
                worker.idle = worker.idle_tree = None
            log.warning("hermesd itself was away for %.1f s; no worker is judged by that time", gap - hang.LOOK_EVERY)
        for worker in list(self._pool.workers.values()):
            if worker.ending or worker.ended_for or not worker.pid:
                continue
            before = worker.silence or hang.UNSEEN
            signs = hang.Signs(worker.last_heard, worker.told_cpu, worker.beat)
            if hang.is_to_ask(before, signs, seconds):
                signs = signs._replace(cpu=own_cpu(Identity(worker.pid, worker.start_ticks)))
            worker.silence = after = hang.judge(before, signs, seconds, now, self._hang_timeout)
            if (burn := self._burns(worker, after, now)) is not None:
                worker.ended_for = str(burn)
                self._tasks.job(self._end(worker), f"end of {worker.id}")
                continue
            if after.verdict is before.verdict:
                continue
            if after.verdict is Verdict.SILENT:
                log.warning("worker %s (%s) is silent: no sign of life for %.1f s, %.2f s CPU since",
                            worker.id, worker.session or "spare", now - worker.last_heard, after.used)  # fmt: skip
            elif after.verdict is Verdict.HUNG:
                worker.ended_for = f"hung: no sign of life and no CPU time for {after.still:.0f} s"
                self._tasks.job(self._end(worker, may_come_back=True), f"hang of {worker.id}")
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

    def _burns(self, worker: Worker, silence: hang.Silence, now: float) -> burning.Burn | None:
        """Whether it has used the processor without a turn; looked at when there is a new figure, or it tells none."""
        if self._has_turn(worker) or not self._burn_timeout:
            worker.idle = worker.idle_tree = None
            worker.idle_tree_at = worker.tree_at  # what was measured during a turn
            return None
        burn = None
        news = bool(worker.told_at) and worker.told_at != worker.idle_told_at
        if news or silence.verdict is Verdict.SILENT:
            worker.idle_told_at = worker.told_at
            signs = burning.Signs(worker.turns, worker.told_at, worker.told_cpu)
            if silence.verdict is Verdict.SILENT:
                signs = burning.Signs(worker.turns, now, worker.told_cpu + silence.used)
            worker.idle, burn = burning.judge(worker.idle, signs, self._burn_timeout)
        # A look into the file system for each of many idle workers would cost more than all the rest here.
        if burn is None and (worker.processes > 1 or any(server.pid for server in worker.servers)):
            burn = self._burns_below(worker, now, news)
        return burn

    def _burns_below(self, worker: Worker, now: float, news: bool) -> burning.Burn | None:
        """The same of what it has started. ``news``: it has told a new figure of itself, which is a time to ask."""
        container, containment = worker.container, worker.containment
        if container is None or containment is None:
            return None
        if containment.exact_cpu:
            if not news:
                return None
            signs = burning.Signs(worker.turns, now, container.cpu_seconds(), whole=True)
        else:
            # Only a scan of all processes tells; one is made for the figures every few seconds anyhow.
            if worker.tree_at == worker.idle_tree_at:
                return None
            worker.idle_tree_at = worker.tree_at
            signs = burning.Signs(worker.turns, worker.tree_at, worker.tree_cpu, whole=True)
        worker.idle_tree, burn = burning.judge(worker.idle_tree, signs, self._burn_timeout)
        return burn

    async def _end(self, worker: Worker, *, may_come_back: bool = False) -> None:
        """Write down what there is to see while it lasts, then have it killed."""
        heard_at = worker.last_heard
        at = time.time()
        lines = evidence.facts_of(worker, at, time.monotonic())
        path = self._directory / evidence.name_of(worker.id, at)
        lines += ["", *await self._kernel_facts(worker.pid, worker.start_ticks)]
        if worker.id not in self._pool.workers or worker.ending:
            return
        if may_come_back and worker.last_heard != heard_at:
            worker.ended_for = ""  # it came back at the last moment
            return
        worker.evidence = str(path) if _write(path, lines) else ""
        who = worker.session or "a spare"
        log.error("worker %s of %s %s; it is ended%s", worker.id, who, worker.ended_for,
                  f", evidence: {path}" if worker.evidence else "",
                  extra={"session": worker.session or "", "worker": worker.id})  # fmt: skip
        self.hangs.append(Hang(at, worker.id, worker.session or "", worker.evidence, worker.ended_for))
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
