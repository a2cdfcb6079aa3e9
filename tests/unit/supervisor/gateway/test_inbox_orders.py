"""What an operator does to a message: tried afresh and answered once, or set aside without a word."""

from __future__ import annotations

import pytest
from harness.gateway import BrokenDisk, Gateway, until

from hermesd.adapters.contract import Inbound, Utterance
from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.gateway.busy import BusyMode
from hermesd.supervisor.gateway.inbox_orders import InboxOrders, Unsuitable
from hermesd.supervisor.journal import inbox
from hermesd.supervisor.journal.errors import JournalUnavailable, UnknownRow
from hermesd.supervisor.journal.rows import InboxRow
from hermesd.supervisor.journal.states import InboxState

KEY = SessionKey("agent:main:fake:dm:c1")


def orders(gateway: Gateway) -> InboxOrders:
    return InboxOrders(gateway.journal, gateway.lanes, gateway.reception.key_of)


async def row(gateway: Gateway, inbox_id: int = 1) -> InboxRow:
    return await gateway.journal.read(inbox.show, inbox_id)


async def dead_letter(gateway: Gateway) -> None:
    """Message 1 has killed two workers, and its chat was told."""
    await gateway.start(on_crash="retry")
    await gateway.say("one", chat="c1", message_id="one")
    for number in (1, 2):
        worker = await gateway.pool.ready(number)
        await worker.accept()
        worker.gone()
    assert "set aside" in (await gateway.shown(1))[0]
    assert await gateway.inbox() == ["dead"]


class TestRetry:
    async def test_a_dead_letter_is_answered_and_its_deaths_are_forgotten(self, gateway: Gateway) -> None:
        await dead_letter(gateway)
        before = await row(gateway)
        assert await orders(gateway).retry(1) == KEY
        worker = await gateway.pool.ready(3)
        start = await worker.accept()
        again = await row(gateway)
        assert (start.text, start.attempt, again.killed) == ("one", 1, 0)
        assert start.turn != before.turn
        worker.finish(start, "re one")
        assert (await gateway.shown(2, reply_to="one"))[1] == "re one"
        assert await gateway.inbox() == ["answered"]

    async def test_it_may_kill_two_workers_again_before_it_is_set_aside_again(self, gateway: Gateway) -> None:
        await dead_letter(gateway)
        await orders(gateway).retry(1)
        for number in (3, 4):
            worker = await gateway.pool.ready(number)
            await worker.accept()
            worker.gone()
        assert "set aside" in (await gateway.shown(2))[1]
        assert (await row(gateway)).killed == 2

    async def test_of_two_at_once_one_is_refused_and_the_message_is_answered_once(self, gateway: Gateway) -> None:
        await dead_letter(gateway)
        await orders(gateway).retry(1)
        with pytest.raises(Unsuitable, match=r"it is (queued|dispatched) and will be answered by itself"):
            await orders(gateway).retry(1)
        worker = await gateway.pool.ready(3)
        await worker.answer("re one")
        await gateway.shown(2)
        with pytest.raises(Unsuitable, match="it was answered"):
            await orders(gateway).retry(1)

    async def test_what_the_agent_failed_at_is_tried_afresh(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.answer("", "failed", "no")
        await gateway.shown(1)
        await orders(gateway).retry(1)
        await worker.answer("re one")
        assert (await gateway.shown(2))[1] == "re one"

    async def test_a_lost_one_survives_a_restart_as_the_fresh_attempt_that_it_is(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        worker.gone()
        await gateway.shown(1)
        assert await gateway.inbox() == ["lost"]
        await orders(gateway).retry(1)
        await gateway.again()
        assert (await (await gateway.pool.ready()).answer("re one")).attempt == 1
        assert (await gateway.shown(2))[1] == "re one"

    async def test_a_dropped_one_that_never_had_a_session_gets_one(self, gateway: Gateway) -> None:
        await gateway.start()
        gateway.lanes.draining = True
        await gateway.journal.write(inbox.receive, Inbound("fake", "c1", "m1", "u1", "one"), 1.0)
        await gateway.journal.write(inbox.finish, 1, InboxState.DROPPED, 2.0)
        with pytest.raises(Unsuitable, match="hermesd is stopping"):
            await orders(gateway).retry(1)
        gateway.lanes.draining = False
        assert await orders(gateway).retry(1) == KEY
        gateway.chat._chats.add("c1")
        await (await gateway.pool.ready()).answer("re one")
        assert await gateway.shown(1) == ["re one"]

    async def test_who_was_refused_must_be_let_in_first(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("let me in", chat="c9", user="stranger")
        await until(lambda: gateway.reception.refused and not gateway.tasks._jobs)
        with pytest.raises(Unsuitable, match="it was refused"):
            await orders(gateway).retry(1)

    async def test_a_stateless_request_has_nobody_who_waits(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.receive("x", "r1", chat_id="req", trusted=True, history=(Utterance("user", "x"),))
        worker = await gateway.pool.ready()
        await worker.answer("", "failed", "no")
        await until(lambda: not gateway.tasks._jobs)
        with pytest.raises(Unsuitable, match="does not wait any more"):
            await orders(gateway).retry(1)

    async def test_a_quarantined_session_is_named(self, gateway: Gateway) -> None:
        await gateway.start()
        for number in range(1, 6):
            await gateway.say("!", chat="c1")
            worker = await gateway.pool.ready(number)
            await worker.accept()
            worker.gone()
        await until(lambda: gateway.life() == "quarantined")
        await until(lambda: not gateway.tasks._jobs)
        with pytest.raises(Unsuitable, match=f"quarantined; hermesctl restart {KEY}"):
            await orders(gateway).retry(1)
        assert (await gateway.inbox())[0] == "lost"

    async def test_a_full_disk_changes_nothing(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        await dead_letter(gateway)
        disk = BrokenDisk(gateway, monkeypatch, "afresh")
        with pytest.raises(JournalUnavailable):
            await orders(gateway).retry(1)
        disk.mend()
        assert await gateway.inbox() == ["dead"]
        assert gateway.lanes.waiting + gateway.lanes.running == 0

    async def test_an_unknown_number(self, gateway: Gateway) -> None:
        await gateway.start()
        with pytest.raises(UnknownRow):
            await orders(gateway).retry(7)
        with pytest.raises(UnknownRow):
            await orders(gateway).drop(7)


class TestDrop:
    async def test_a_dead_letter_is_set_aside_for_good(self, gateway: Gateway) -> None:
        await dead_letter(gateway)
        await orders(gateway).drop(1)
        assert (await row(gateway)).error == "dropped by hermesctl"
        assert await gateway.inbox() == ["dropped"]
        with pytest.raises(Unsuitable, match="it is over already: dropped"):
            await orders(gateway).drop(1)

    async def test_a_waiting_message_leaves_the_line_and_nobody_is_told(self, gateway: Gateway) -> None:
        await gateway.start()
        for text in ("one", "two", "three"):
            await gateway.say(text, chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        await orders(gateway).drop(2)
        assert await gateway.inbox() == ["accepted", "dropped", "queued"]
        worker.finish(start, "re one")
        await worker.answer("re three")
        assert await gateway.shown(2) == ["re one", "re three"]

    async def test_one_that_waits_for_its_worker_is_taken_from_it(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await gateway.say("two", chat="c1")
        worker = await gateway.pool.worker()
        await orders(gateway).drop(1)
        worker.ready()
        assert (await worker.answer("re two")).text == "two"
        assert await gateway.shown(1) == ["re two"]
        assert await gateway.inbox() == ["dropped", "answered"]

    async def test_one_that_had_a_worker_before_ends_with_its_turn(self, gateway: Gateway) -> None:
        await gateway.start(on_crash="retry")
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        worker.gone()
        await until(lambda: gateway.lanes.waiting + gateway.lanes.running == 1)
        await orders(gateway).drop(1)
        await until(lambda: not gateway.tasks._jobs)
        assert (await gateway.inbox(), await gateway.turns()) == (["dropped"], ["interrupted"])
        assert gateway.texts == []

    async def test_a_running_one_must_be_stopped_first(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        with pytest.raises(Unsuitable, match=f"it is being answered; stop that first: hermesctl stop {KEY}"):
            await orders(gateway).drop(1)
        worker.finish(start, "re one")
        assert await gateway.shown(1) == ["re one"]

    async def test_one_that_was_handed_to_a_running_answer_is_not_taken_back(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.STEER
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        await gateway.say("left", chat="c1")
        await until(lambda: gateway.lanes.lanes[KEY].steering)
        with pytest.raises(Unsuitable, match="handed to a running answer"):
            await orders(gateway).drop(2)
