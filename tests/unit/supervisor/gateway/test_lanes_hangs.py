"""Workers that the watch has judged hung."""

from __future__ import annotations

import pytest
from harness.gateway import Gateway, Played, until

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.pool import backoff

KEY = SessionKey("agent:main:fake:dm:c1")
HUNG = "hung: no sign of life and no CPU time for 60 s"


def hang(gateway: Gateway, worker: Played) -> None:
    worker.worker.ended_for = HUNG
    gateway.lanes.worker_hung(worker.worker)


async def test_the_running_turn_is_lost_and_its_chat_is_told_once_why(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    await worker.accept()
    hang(gateway, worker)
    (text,) = await gateway.shown(1)
    assert HUNG in text
    assert "/retry" in text
    assert worker.killed == [True], "with a stack dump"
    assert await gateway.inbox() == ["lost"]
    lane = gateway.lanes.lanes[KEY]
    assert (lane.restarts, lane.last_end) == (1, HUNG)
    await gateway.say("two", chat="c1")
    await (await gateway.pool.ready(2)).answer("re two")
    assert (await gateway.shown(2))[1] == "re two"
    assert len(gateway.texts) == 2


async def test_on_crash_retry_runs_it_again_and_a_second_hang_makes_it_a_dead_letter(gateway: Gateway) -> None:
    await gateway.start(on_crash="retry")
    await gateway.say("one", chat="c1")
    for number in (1, 2):
        worker = await gateway.pool.ready(number)
        await worker.accept()
        hang(gateway, worker)
    (text,) = await gateway.shown(1)
    assert "2 processes have died" in text
    assert await gateway.inbox() == ["dead"]


async def test_an_idle_one_is_replaced_at_the_next_message_and_nobody_is_told(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    await worker.answer("re one")
    await gateway.shown(1)
    hang(gateway, worker)
    await until(lambda: gateway.life() == "hibernated")
    assert worker.killed == [True]
    await gateway.say("two", chat="c1")
    await (await gateway.pool.ready(2)).answer("re two")
    assert await gateway.shown(2) == ["re one", "re two"]
    assert gateway.lanes.lanes[KEY].restarts == 0


async def test_a_message_to_a_hung_worker_that_had_not_accepted_it_is_answered_by_the_next(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    await worker.turn()
    hang(gateway, worker)
    await (await gateway.pool.ready(2)).answer("re one")
    assert await gateway.shown(1) == ["re one"]


async def test_one_that_ends_its_turn_while_it_is_killed_gets_no_other_turn(gateway: Gateway) -> None:
    """The kill continues a stopped process for its stack dump, and it may come to its answer in that time."""
    await gateway.start()
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    start = await worker.accept()
    gateway.pool.on_kill = lambda played: None
    await gateway.say("two", chat="c1")
    hang(gateway, worker)
    worker.finish(start, "re one")
    assert await gateway.shown(1) == ["re one"]
    await until(lambda: gateway.lanes.running == 1)
    assert worker.open_turn is None
    worker.gone(-9)
    await (await gateway.pool.ready(2)).answer("re two")
    assert await gateway.shown(2) == ["re one", "re two"]
    assert await gateway.inbox() == ["answered", "answered"]


async def test_one_that_hangs_while_it_starts_is_tried_again(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    hang(gateway, await gateway.pool.worker(1))
    await (await gateway.pool.ready(2)).answer("re one")
    assert await gateway.shown(1) == ["re one"]


async def test_a_hung_one_that_stops_already_is_killed(gateway: Gateway) -> None:
    await gateway.start(idle_timeout=0.0)
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    gateway.pool.on_stop = lambda played: None
    await worker.answer("re one")
    await until(lambda: gateway.life() == "stopping")
    hang(gateway, worker)
    await until(lambda: gateway.life() == "hibernated")


async def test_a_quarantine_ends_by_itself_when_its_time_is_over(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "QUARANTINE_SECONDS", 0.05)
    monkeypatch.setattr(backoff, "FIRST_DELAY", 0.001)
    await gateway.start()
    await gateway.say("one", chat="c1")
    for number in range(1, 6):
        (await gateway.pool.worker(number)).gone(1)
    await until(lambda: gateway.life() == "quarantined")
    await until(lambda: gateway.life() == "hibernated")
    await gateway.say("two", chat="c1")
    worker = await gateway.pool.ready(6)
    await worker.answer("re two")
    assert (await gateway.shown(2))[1] == "re two"
    worker.gone(1)
    await until(lambda: gateway.life() == "backoff")  # the crashes of before are forgotten
