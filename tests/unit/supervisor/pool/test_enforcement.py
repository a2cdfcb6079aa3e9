"""Which workers without a turn are replaced or ended by what they use."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from hermesd.ipc.codec import Codec
from hermesd.ipc.ids import SessionKey, WorkerId
from hermesd.ipc.link import Link
from hermesd.ipc.messages import DOWN, UP
from hermesd.supervisor.pool.enforcement import Enforcer
from hermesd.supervisor.pool.limits import Limits
from hermesd.supervisor.pool.usage import Sample
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks
from hermesd.workers.containment import Usage

MIB = 1 << 20
KINDS = ["session", "holder", "spare"]


class Enforced:
    """Workers of every kind and what becomes of them."""

    def __init__(self, limits: Limits, memory: int, processes: int = 1):
        now = time.monotonic()
        self.workers = {kind: self._worker(kind, now) for kind in KINDS}
        self.workers["session"].session = SessionKey("agent:main:fake:dm:c1")
        self.workers["holder"].serves = "one"
        self.usage = Usage(1.0, memory, processes)
        self.busy: list[Worker] = []
        self.done: list[tuple[str, str, str]] = []
        self.tasks = Tasks(lambda name, error: None)
        pool: Any = SimpleNamespace(workers={worker.id: worker for worker in self.workers.values()})
        self.enforcer = Enforcer(
            pool, limits=limits, tasks=self.tasks, busy=lambda: self.busy,
            recycle=lambda worker, reason: self.done.append(("recycle", worker.id, reason)),
            end=lambda worker, reason: self.done.append(("end", worker.id, reason)),
        )  # fmt: skip

    def _worker(self, kind: str, now: float) -> Worker:
        link = Link(Codec(*DOWN, *UP))
        made = Worker(WorkerId(kind), kind.encode(), "", link, None, started_at=0.0, launched=now - 100.0)
        made.container = self  # type: ignore[assignment]
        made.containment = SimpleNamespace(glance=self.glance, usage=self.measure)  # type: ignore[assignment]
        return made

    def glance(self, container: Any, root: int) -> tuple[int, int]:
        return self.usage.memory_bytes, self.usage.processes

    def measure(self, containers: Any, roots: Any, *, memory: bool = False) -> dict[str, Usage]:
        return dict.fromkeys(containers, self.usage)

    async def look(self) -> list[tuple[str, str, str]]:
        names = [WorkerId(kind) for kind in KINDS]
        self.enforcer.of_idle(Sample(1.0, 1.0, dict.fromkeys(names, self.usage), 0.0, 0.0, {}))
        await self.tasks.settle(5.0)
        return sorted(self.done)


@pytest.mark.parametrize(
    ("limits", "memory", "processes", "what"),
    [
        (Limits(memory_soft=100 * MIB), 101 * MIB, 1, "memory_soft"),
        (Limits(memory_soft=100 * MIB, memory_hard=150 * MIB), 200 * MIB, 1, "memory_soft"),
        (Limits(processes=4), MIB, 5, "max_processes"),
        (Limits(age=99.0), MIB, 1, "max_age"),
    ],
)
async def test_every_kind_of_worker_is_recycled(limits: Limits, memory: int, processes: int, what: str) -> None:
    done = await Enforced(limits, memory, processes).look()
    assert [(verdict, worker) for verdict, worker, _ in done] == [("recycle", kind) for kind in sorted(KINDS)]
    assert all(what in reason for _, _, reason in done)


async def test_where_there_is_no_softer_limit_the_hard_one_ends_an_idle_worker_too() -> None:
    done = await Enforced(Limits(memory_hard=100 * MIB), 101 * MIB).look()
    assert [(verdict, worker) for verdict, worker, _ in done] == [("end", kind) for kind in sorted(KINDS)]


async def test_what_is_within_the_limits_busy_or_ending_is_left_alone() -> None:
    limits = Limits(memory_soft=100 * MIB, memory_hard=200 * MIB, processes=4, age=200.0)
    assert await Enforced(limits, 100 * MIB, 4).look() == []
    enforced = Enforced(limits, 101 * MIB)
    enforced.busy = [enforced.workers["holder"]]
    enforced.workers["session"].ended_for = "hung"
    enforced.workers["spare"].ending = True
    assert await enforced.look() == []


async def test_a_holder_is_looked_at_when_its_last_call_has_ended() -> None:
    enforced = Enforced(Limits(memory_soft=100 * MIB), 101 * MIB)
    enforced.enforcer.after_calls(enforced.workers["holder"])
    await enforced.tasks.settle(5.0)
    assert [(verdict, worker) for verdict, worker, _ in enforced.done] == [("recycle", "holder")]
