"""Workers that have used up what they may: recycled between turns, ended for what endangers others."""

from __future__ import annotations

from typing import Any

from harness.gateway import Gateway, Played, until

from hermesd.ipc.ids import SessionKey
from hermesd.ipc.keeping import Gone
from hermesd.supervisor.pool.limits import Limits
from hermesd.workers.containment import Usage

KEY = SessionKey("agent:main:fake:dm:c1")
MIB = 1 << 20


class Figures:
    """What the kernel would say of a worker: its memory at a glance, and without what it shares."""

    def __init__(self, resident: int, own: int, processes: int = 1):
        self.resident, self.own, self.processes = resident, own, processes

    def glance(self, container: Any, root: int) -> tuple[int, int]:
        return self.resident, self.processes

    def usage(self, containers: Any, roots: Any, *, memory: bool = False) -> dict[str, Usage]:
        return {name: Usage(0.0, self.own, self.processes) for name in containers}


async def answered(gateway: Gateway, worker: Played, text: str) -> None:
    await gateway.say(text, chat="c1")
    await worker.answer(f"re {text}")


async def test_after_its_last_turn_a_worker_is_replaced_and_the_next_message_finds_the_conversation(
    gateway: Gateway,
) -> None:
    await gateway.start(limits=Limits(turns=2))
    await gateway.say("one", chat="c1")
    first = await gateway.pool.ready()
    first.worker.turns = 1
    await first.answer("re one")
    await gateway.say("two", chat="c1")
    await gateway.say("three", chat="c1")
    await first.turn()
    first.worker.turns = 2
    await first.answer("re two")
    second = await gateway.pool.ready(2)
    assert (first.stopped, first.killed) == (["hermesd ends it"], [])
    assert [entry.text for entry in second.assign.history] == ["one", "re one", "two", "re two"]
    await second.answer("re three")
    assert await gateway.shown(3) == ["re one", "re two", "re three"]
    lane = gateway.lanes.lanes[KEY]
    assert (lane.restarts, lane.last_end) == (0, "recycled: it has had 2 turns, which is max_turns_per_worker")


async def test_memory_that_it_shares_with_others_does_not_count(gateway: Gateway) -> None:
    await gateway.start(limits=Limits(memory_soft=100 * MIB))
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    worker.worker.containment = Figures(130 * MIB, 90 * MIB)  # type: ignore[assignment]
    await worker.answer("re one")
    await gateway.say("two", chat="c1")
    await worker.answer("re two")
    await until(lambda: not gateway.lanes.lanes[KEY].held)  # it was asked for, and is not over
    worker.worker.containment = Figures(130 * MIB, 101 * MIB)  # type: ignore[assignment]
    await answered(gateway, worker, "three")
    await gateway.say("four", chat="c1")
    await (await gateway.pool.ready(2)).answer("re four")
    assert (await gateway.shown(4))[-1] == "re four"
    assert "memory_soft" in gateway.lanes.lanes[KEY].last_end


async def test_while_the_kernel_is_asked_no_turn_begins(gateway: Gateway) -> None:
    await gateway.start(limits=Limits(memory_soft=100 * MIB))
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    worker.worker.containment = Figures(130 * MIB, 101 * MIB)  # type: ignore[assignment]
    await worker.turn()
    await gateway.say("two", chat="c1")
    await worker.answer("re one")
    await (await gateway.pool.ready(2)).answer("re two")
    assert worker.open_turn is None
    assert await gateway.shown(2) == ["re one", "re two"]


async def test_over_the_hard_limit_it_is_killed_its_chat_told_and_the_next_message_answered(gateway: Gateway) -> None:
    await gateway.start(limits=Limits(memory_hard=100 * MIB))
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    await worker.accept()
    gateway.lanes.recycling.end(worker.worker, "it used more than 100M of memory, which is memory_hard")
    (text,) = await gateway.shown(1)
    assert "it used more than 100M of memory" in text
    assert worker.killed == [True], "with a stack dump"
    await gateway.say("two", chat="c1")
    await (await gateway.pool.ready(2)).answer("re two")
    assert (await gateway.shown(2))[1] == "re two"


async def test_what_the_kernel_itself_has_killed_for_its_memory_is_told_as_that(gateway: Gateway) -> None:
    await gateway.start(limits=Limits(memory_hard=100 * MIB))
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    await worker.accept()
    del gateway.pool.workers[worker.worker.id]
    gateway.lanes.worker_gone(worker.worker, Gone(worker.worker.id, -9, 0.1, 0, 0, 0.0, out_of_memory=True))
    (text,) = await gateway.shown(1)
    assert "it used more than 100M of memory, which is memory_hard" in text


async def test_one_that_is_too_old_is_recycled_when_it_is_looked_at(gateway: Gateway) -> None:
    await gateway.start(limits=Limits(age=3600.0))
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    await worker.answer("re one")
    await gateway.shown(1)
    gateway.lanes.recycling.recycle(worker.worker, "it was 3600 s old")
    await until(lambda: gateway.life() == "hibernated")
    gateway.lanes.recycling.recycle(worker.worker, "it was 3600 s old")  # a look that comes too late does nothing
    assert worker.stopped == ["hermesd ends it"]


async def test_nobody_is_recycled_during_a_turn(gateway: Gateway) -> None:
    await gateway.start(limits=Limits(age=3600.0))
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    start = await worker.accept()
    gateway.lanes.recycling.recycle(worker.worker, "it was 3600 s old")
    worker.worker.assigned_at = worker.worker.launched - 4000.0
    worker.finish(start, "re one")
    assert await gateway.shown(1) == ["re one"]
    await until(lambda: gateway.life() == "hibernated")
