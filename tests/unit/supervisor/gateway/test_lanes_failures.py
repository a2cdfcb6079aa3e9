"""Crashing workers and a disk that refuses."""

from __future__ import annotations

import asyncio

import pytest
from harness.gateway import BrokenDisk, Gateway, until

from hermesd.adapters.errors import NotAccepted
from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.gateway import lanes as lanes_module
from hermesd.supervisor.journal import persistence
from hermesd.supervisor.pool import backoff

KEY = SessionKey("agent:main:fake:dm:c1")


class TestCrashes:
    async def crash(self, gateway: Gateway, times: int) -> None:
        for number in range(1, times + 1):
            (await gateway.pool.worker(number)).gone(1)

    async def test_five_crashes_take_a_session_out_of_service_and_tell_it_once(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await gateway.say("two", chat="c1")
        await self.crash(gateway, 5)
        texts = await gateway.shown(2)
        assert all("has crashed 5 times within a minute" in text for text in texts), "each message has its answer"
        assert gateway.life() == "quarantined"
        assert await gateway.inbox() == ["failed", "failed"]
        await gateway.say("three", chat="c1")
        assert "out of service for another 15 minutes" in (await gateway.shown(3))[2]
        assert len(gateway.pool.all) == 5
        assert gateway.escalations == []

    async def test_a_message_right_behind_the_new_that_ends_a_quarantine_is_answered(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await self.crash(gateway, 5)
        await gateway.shown(1)
        await asyncio.gather(gateway.say("/new", chat="c1"), gateway.say("two", chat="c1"))
        await (await gateway.pool.ready(6)).answer("re two")
        assert "re two" in await gateway.shown(3)

    async def test_one_behind_a_new_that_fails_is_told_of_the_quarantine(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await self.crash(gateway, 5)
        await gateway.shown(1)
        disk = BrokenDisk(gateway, monkeypatch, "reset")
        await asyncio.gather(gateway.say("/new", chat="c1"), gateway.say("two", chat="c1"))
        texts = await gateway.shown(3)
        assert disk.refused == ["reset"]
        assert sum("out of service for another" in text for text in texts) == 1
        assert gateway.life() == "quarantined"

    async def test_a_quarantine_that_begins_without_a_message_is_told_once(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backoff, "QUARANTINE_AFTER", 2)
        await gateway.start()
        for number, text in enumerate(("one", "two"), start=1):
            await gateway.say(text, chat="c1")
            worker = await gateway.pool.ready(number)
            await worker.answer("re")
            await gateway.shown(number)
            worker.gone()
        texts = await gateway.shown(3)
        assert "has crashed 2 times" in texts[2]
        assert gateway.chat.transcript()[2].reply_to == ""

    async def test_new_pardons(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await self.crash(gateway, 5)
        await gateway.shown(1)
        await gateway.say("/new", chat="c1")
        await gateway.shown(2)
        await gateway.say("two", chat="c1")
        await (await gateway.pool.ready(6)).answer("re two")
        assert (await gateway.shown(3))[2] == "re two"

    async def test_time_pardons(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backoff, "QUARANTINE_SECONDS", 0.01)
        await gateway.start()
        await gateway.say("one", chat="c1")
        await self.crash(gateway, 5)
        await until(lambda: gateway.life() == "hibernated")

    async def test_crashes_all_over_are_escalated(self, gateway: Gateway) -> None:
        await gateway.start(max_workers=30, max_turns=30)
        for number in range(backoff.ESCALATE_AFTER + 1):
            await gateway.say("one", chat=f"c{number}")
        await gateway.pool.worker(backoff.ESCALATE_AFTER + 1)
        for worker in gateway.pool.all[: backoff.ESCALATE_AFTER]:
            worker.gone()
        assert gateway.escalations == []
        gateway.pool.all[backoff.ESCALATE_AFTER].gone()
        assert gateway.escalations == [backoff.ESCALATE_AFTER + 1]

    async def test_an_agent_that_never_gets_ready_is_killed(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lanes_module, "START_SECONDS", 0.01)
        await gateway.start()
        await gateway.say("one", chat="c1")
        first = await gateway.pool.worker(1)
        await until(lambda: first.killed)
        second = await gateway.pool.worker(2)
        second.ready()
        await second.answer("re one")
        await gateway.shown(1)


class TestAFailingDisk:
    @pytest.mark.parametrize(
        "operation", ["queued", "get_or_create", "load", "dispatched", "accepted", "finish", "requeued"]
    )
    async def test_any_write_that_fails_for_a_while_only_delays(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, operation: str
    ) -> None:
        await gateway.start()
        disk = BrokenDisk(gateway, monkeypatch, operation)
        await gateway.say("one", chat="c1")
        dies = operation == "requeued"
        serving = asyncio.ensure_future(self.serve(gateway, dies))
        await disk.refuses(operation)
        await asyncio.sleep(persistence.RETRY_SECONDS * 2.5)
        assert gateway.texts == []
        disk.mend()
        assert await gateway.shown(1) == ["re one"]
        await serving
        assert await gateway.inbox() == ["answered"]
        assert await gateway.turns() == ["done"]
        lane = gateway.lanes.lane_of(KEY)
        assert lane is not None
        assert lane.restarts == dies, "the disk's fault is no crash of the agent"

    async def serve(self, gateway: Gateway, dies: bool) -> None:
        number = 1
        if dies:
            worker = await gateway.pool.ready(1)
            await worker.turn()
            worker.gone()
            number = 2
        await (await gateway.pool.ready(number)).answer("re one")

    async def test_a_message_that_is_not_on_disk_is_not_confirmed(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        disk = BrokenDisk(gateway, monkeypatch)
        with pytest.raises(NotAccepted, match="disk full"):
            await gateway.say("one", chat="c1", message_id="m1")
        assert gateway.chat.unconfirmed() == ["m1"]
        disk.mend()
        assert await gateway.chat.redeliver() == 1
        await (await gateway.pool.ready()).answer("re one")
        assert await gateway.shown(1) == ["re one"]

    async def test_stop_during_a_dispatch_that_the_disk_does_not_take(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        disk = BrokenDisk(gateway, monkeypatch, "dispatched")
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await disk.refuses("dispatched")
        assert await gateway.lanes.orders.interrupt(KEY, "enough") == 1
        assert await gateway.shown(1) == ["Interrupted."]
        assert not worker.killed
        assert gateway.life() == "idle"

    async def test_a_session_that_is_stopped_while_its_start_waits_for_the_disk(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        disk = BrokenDisk(gateway, monkeypatch, "get_or_create")
        await gateway.say("one", chat="c1")
        await disk.refuses("get_or_create")
        assert await asyncio.wait_for(gateway.lanes.orders.stop_session(KEY, "enough"), 30.0)
        assert gateway.life() == "hibernated"
        assert not gateway.pool.all

    async def test_the_answer_of_hermesd_itself_is_not_lost_either(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await gateway.pool.worker()
        disk = BrokenDisk(gateway, monkeypatch)
        assert await gateway.lanes.orders.interrupt(KEY, "enough") == 1
        await disk.refuses("add")
        disk.mend()
        assert await gateway.shown(1) == ["Interrupted."]
