"""What users and operators order: stop, restart, reset, cancel, drain."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from harness.gateway import Gateway, Played, until

from hermesd.adapters.errors import NotAccepted
from hermesd.ipc.ids import SessionKey
from hermesd.ipc.messages import Interrupt, Rewind, StartTurn
from hermesd.supervisor import patience
from hermesd.supervisor.gateway import turns as turns_module

KEY = SessionKey("agent:main:fake:dm:c1")


async def stopped_at_work(gateway: Gateway) -> tuple[Played, StartTurn, asyncio.Future[int]]:
    """A turn that is accepted, and an order to end it that its worker has been told: who runs it, and the order."""
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    start = await worker.accept()
    stopping = asyncio.ensure_future(gateway.lanes.orders.interrupt(KEY, "enough"))
    await until(worker.interrupts)
    return worker, start, stopping


class TestStop:
    async def test_what_waits_is_dropped_and_told(self, gateway: Gateway) -> None:
        await gateway.start()
        for text in ("one", "two", "three"):
            await gateway.say(text, chat="c1", message_id=text)
        worker = await gateway.pool.ready()
        start = await worker.accept()
        await gateway.say("/stop", chat="c1", message_id="stop")
        await until(worker.interrupts)
        worker.finish(start, "half", "interrupted")
        await gateway.shown(4)
        answers = {shown.reply_to: shown.text for shown in gateway.chat.transcript()}
        assert answers == {
            "one": "half\n\n(interrupted)",
            "two": "Interrupted.",
            "three": "Interrupted.",
            "stop": "Stopped; 2 waiting messages were dropped.",
        }
        assert await gateway.inbox() == ["answered", "dropped", "dropped", "answered"]

    async def test_a_turn_whose_worker_is_still_starting(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.worker()
        assert await gateway.lanes.orders.interrupt(KEY, "enough", clear_queue=True) == 1
        assert await gateway.shown(1) == ["Interrupted."]
        worker.ready()
        assert gateway.life() == "idle"
        assert await gateway.inbox() == ["dropped"]

    async def test_a_dispatched_turn(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.turn()
        stopping = asyncio.ensure_future(gateway.lanes.orders.interrupt(KEY, "enough"))
        await until(worker.interrupts)
        await worker.accept()
        worker.finish(start, "", "interrupted")
        assert await stopping == 1
        assert await gateway.shown(1) == ["Interrupted."]
        assert await gateway.turns() == ["interrupted"]

    async def test_nothing_runs(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("/stop", chat="c1")
        assert await gateway.shown(1) == ["Nothing is running."]
        assert not gateway.pool.all

    async def test_a_worker_whose_link_is_silent_is_killed_first(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        assert await gateway.lanes.orders.interrupt(KEY, "enough") == 1
        assert worker.killed == [True], "with a stack dump, once"
        assert await gateway.shown(1) == ["Interrupted."]
        assert await gateway.inbox() == ["answered"]
        await until(lambda: gateway.life() == "hibernated")
        assert gateway.lanes.past_of(KEY).restarts == 0, "a kill of ours is no crash"

    async def test_a_worker_that_heard_it_has_the_whole_grace(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        kills = []
        insist = gateway.lanes.turns._insist

        def noted(lane: Any, turn: Any, last: bool) -> None:
            insist(lane, turn, last)
            kills.append((last, len(worker.killed)))

        monkeypatch.setattr(gateway.lanes.turns, "_insist", noted)
        worker, start, stopping = await stopped_at_work(gateway)
        worker.has(Interrupt(start.turn, "enough"))
        assert await stopping == 1
        assert kills == [(False, 0), (True, 1)]

    async def test_a_worker_has_its_time_after_a_pause_of_hermesds_own(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience, "OWN_PAUSE", 0.05)
        await gateway.start()
        worker, start, stopping = await stopped_at_work(gateway)
        time.sleep(0.5)  # noqa: ASYNC251 - all of hermesd stands still
        for _ in range(5):
            await asyncio.sleep(0)
        assert not worker.killed
        worker.finish(start, "", "interrupted")
        await stopping
        assert gateway.life() == "idle"

    async def test_a_turn_that_ends_by_itself_keeps_its_worker(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("INTERRUPT_ARRIVES", "INTERRUPT_GRACE"):
            monkeypatch.setattr(turns_module, name, 3600.0)
        await gateway.start()
        worker, start, stopping = await stopped_at_work(gateway)
        lane = gateway.lanes.lane_of(KEY)
        assert lane is not None
        turn = lane.current
        assert turn is not None
        worker.finish(start, "", "interrupted")
        await stopping
        for last in (False, True):  # as when their times have come
            gateway.lanes.turns._insist(lane, turn, last)
        assert not worker.killed
        assert gateway.life() == "idle"

    async def test_a_requeued_turn_that_is_stopped_leaves_no_open_row(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        first = await gateway.pool.ready(1)
        await first.turn()
        first.gone()
        await until(lambda: gateway.lanes.waiting == 1 or gateway.lanes.running == 1)
        assert await gateway.lanes.orders.interrupt(KEY, "enough", clear_queue=True) == 1
        assert await gateway.shown(1) == ["Interrupted."]
        assert await gateway.turns() == ["interrupted"]
        assert await gateway.inbox() == ["answered"]

    async def test_the_one_who_asked_is_gone(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1", message_id="m1")
        await gateway.say("two", chat="c1", message_id="m2")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        gateway.chat.hang_up("c1", "m2")
        gateway.chat.hang_up("c1", "m1")
        await until(worker.interrupts)
        worker.finish(start, "half", "interrupted")
        await gateway.shown(1)
        assert await gateway.inbox() == ["answered", "dropped"]

    async def test_the_one_who_asked_in_a_group_is_found_too(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="g1", message_id="m1", chat_type="group", thread="7")
        worker = await gateway.pool.ready()
        await worker.accept()
        gateway.chat.hang_up("g1", "m1")
        await until(worker.interrupts)


async def _last(worker: Played) -> Any:
    return [message for message in worker.told if hasattr(message, "sender")][-1]


class TestSessionOrders:
    async def test_new_begins_another_conversation_with_another_worker(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        first = await gateway.pool.ready(1)
        await first.answer("re one")
        await gateway.say("/new", chat="c1")
        await gateway.shown(2)
        assert not first.alive
        await gateway.say("two", chat="c1")
        second = await gateway.pool.worker(2)
        assert second.assign.history == ()
        assert second.assign.session_id != first.assign.session_id

    async def test_a_message_right_behind_new_belongs_to_the_new_conversation(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        first = await gateway.pool.ready(1)
        await first.answer("re one")
        await gateway.shown(1)
        await asyncio.gather(gateway.say("/new", chat="c1"), gateway.say("two", chat="c1"))
        second = await gateway.pool.ready(2)
        await second.answer("re two")
        assert "re two" in await gateway.shown(3)
        assert second.assign.history == ()

    async def test_new_where_nothing_was_said(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("/new", chat="c1")
        assert await gateway.shown(1) == ["This is a new conversation already."]

    async def test_a_stopped_session_answers_what_waits_in_another_worker(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await gateway.say("two", chat="c1")
        first = await gateway.pool.ready(1)
        await first.accept()
        stopping = asyncio.ensure_future(gateway.lanes.orders.stop_session(KEY, "stopped"))
        await until(first.interrupts)
        first.finish((await _last(first)), "", "interrupted")
        assert await stopping
        await (await gateway.pool.ready(2)).answer("re two")
        assert await gateway.shown(2) == ["Interrupted.", "re two"]

    async def test_a_running_turn_may_end_by_itself_for_as_long_as_was_said(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        stopping = asyncio.ensure_future(gateway.lanes.orders.stop_session(KEY, "stopped", 60.0))
        await until(lambda: gateway.life() == "draining")
        worker.finish(start, "re one")
        assert await stopping
        assert await gateway.shown(1) == ["re one"]
        assert not worker.interrupts()
        assert gateway.life() == "hibernated"

    async def test_when_that_time_is_over_it_is_interrupted(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        assert await gateway.lanes.orders.stop_session(KEY, "stopped", 0.02)
        assert await gateway.shown(1) == ["Interrupted."]
        assert worker.interrupts()

    async def test_a_worker_that_dies_meanwhile_ends_the_wait(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.turn()
        stopping = asyncio.ensure_future(gateway.lanes.orders.stop_session(KEY, "stopped", 60.0))
        await until(lambda: gateway.life() == "draining")
        worker.gone(1)
        assert await stopping

    async def test_nothing_to_stop(self, gateway: Gateway) -> None:
        await gateway.start()
        assert not await gateway.lanes.orders.stop_session(KEY, "stopped")

    async def test_a_restarted_session_has_a_new_worker_with_its_conversation(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready(1)).answer("re one")
        await gateway.shown(1)
        starting = await gateway.lanes.orders.restart_session(KEY, "restarted")
        assert starting is not None
        second = await gateway.pool.worker(2)
        assert not starting.done(), "its agent is not there yet"
        second.ready()
        assert await starting == ""
        assert len(second.assign.history) == 2
        assert gateway.life() == "idle"
        assert await gateway.lanes.orders.restart_session(SessionKey("agent:main:fake:dm:nobody"), "restarted") is None

    @pytest.mark.parametrize("busy", [False, True])
    async def test_a_restart_of_a_hibernated_session_keeps_to_the_most_workers(
        self, gateway: Gateway, busy: bool
    ) -> None:
        await gateway.start(max_workers=1)
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready(1)).answer("re one")
        await gateway.shown(1)
        await gateway.say("two", chat="c2")
        second = await gateway.pool.ready(2)  # the first one has made room for it
        start = await second.accept()
        if not busy:
            second.finish(start, "re two")
            await gateway.shown(2)
        starting = await gateway.lanes.orders.restart_session(KEY, "restarted")
        assert starting is not None
        if busy:
            await gateway.say("/status", chat="c3")
            await gateway.shown(2)
            assert len(gateway.pool.all) == 2
            second.finish(start, "re two")
        await gateway.pool.ready(3)
        assert await starting == ""
        assert gateway.pool.most_alive == 1
        assert (gateway.life(), gateway.life("agent:main:fake:dm:c2")) == ("idle", "hibernated")

    @pytest.mark.parametrize("dies", [False, True])
    async def test_a_restart_tells_why_there_is_no_agent(self, gateway: Gateway, dies: bool) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready(1)).answer("re one")
        await gateway.shown(1)
        starting = await gateway.lanes.orders.restart_session(KEY, "restarted")
        assert starting is not None
        second = await gateway.pool.worker(2)
        second.gone(3) if dies else second.ready("no such agent")
        assert await starting == ("its new worker has ended: exit status 3" if dies else "no such agent")

    async def test_retry_runs_the_last_message_again_without_its_first_answer(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.answer("bad")
        await gateway.shown(1)
        for number in (2, 3):
            await gateway.say("/retry", chat="c1")
            again = await worker.answer(f"better {number}")
            assert again.text == "one", "also the second time"
            await gateway.shown(number)
        assert [message for message in worker.told if isinstance(message, Rewind)] == [Rewind(2), Rewind(2)]
        kept = await gateway.rows("SELECT text FROM transcripts ORDER BY seq")
        assert kept == [("one",), ("better 3",)]

    async def test_retry_of_a_message_that_was_stopped_before_its_answer_keeps_the_one_before(
        self, gateway: Gateway
    ) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.answer("re one")
        await gateway.say("two", chat="c1")
        start = await worker.accept()
        worker.finish(start, "", "interrupted")
        await gateway.shown(2)
        await gateway.say("/retry", chat="c1")
        again = await worker.answer("re two")
        await gateway.shown(3)
        assert again.text == "two"
        kept = await gateway.rows("SELECT text FROM transcripts ORDER BY seq")
        assert kept == [("one",), ("re one",), ("two",), ("re two",)]
        assert not any(isinstance(message, Rewind) for message in worker.told)

    async def test_retry_survives_a_restart_of_hermesd(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        worker.gone()
        await gateway.shown(1)
        await gateway.say("/retry", chat="c1")
        await until(lambda: gateway.lanes.running + gateway.lanes.waiting == 1)
        await gateway.again()
        again = await (await gateway.pool.ready()).answer("re one")
        assert again.text == "one"

    async def test_retry_where_nothing_can_be_repeated(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("/retry", chat="c1")
        assert await gateway.shown(1) == ["There is no message to repeat in this conversation."]
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready()).accept()
        await gateway.say("/retry", chat="c1")
        assert (await gateway.shown(2))[1] == "The last message is still being answered; /stop ends that."

    async def test_status_and_help(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("/status", chat="c1")
        await gateway.say("/help", chat="c1")
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready()).accept()
        await gateway.say("/status", chat="c1")
        shown = await gateway.shown(3)
        # Each command is answered when its answer is known: /help waits for no journal.
        assert sum("no conversation yet" in text and "agent: hibernated" in text for text in shown) == 1
        assert sum("/stop - end the running answer" in text for text in shown) == 1
        assert sum("running: running for 0 s" in text for text in shown) == 1
        await gateway.say("/nonsense", chat="c1")
        assert (await gateway.shown(4))[3] == "There is no command /nonsense. /help lists them."


class TestDraining:
    async def test_what_runs_may_end_and_nothing_else_begins(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await gateway.say("two", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        told: list[int] = []
        draining = asyncio.ensure_future(gateway.lanes.stopping.drain(5.0, told.append))
        await until(lambda: told)
        with pytest.raises(NotAccepted, match="stopping"):
            await gateway.say("three", chat="c1")
        worker.finish(start, "re one")
        assert await draining == 0
        assert await gateway.shown(1) == ["re one"]
        assert await gateway.lanes.stopping.stop_workers(1.0)
        assert worker.stopped
        assert await gateway.inbox() == ["answered", "queued"], "what waits is for the next life"

    async def test_what_does_not_end_is_interrupted(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        assert await gateway.lanes.stopping.drain(0.0, lambda busy: None) == 1
        assert worker.killed == [True]
        assert await gateway.lanes.stopping.stop_workers(1.0)
        assert await gateway.shown(1) == ["Interrupted."]

    async def test_a_worker_that_does_not_obey_is_killed_in_time(self, gateway: Gateway) -> None:
        await gateway.start(stop_grace=0.0)
        gateway.pool.on_stop = lambda played: None
        object.__setattr__(gateway.settings, "stop_grace", -0.49)  # reap: 0.02 s
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.answer("re one")
        await gateway.shown(1)
        assert await gateway.lanes.orders.stop_session(KEY, "enough")
        assert worker.killed == [False]
