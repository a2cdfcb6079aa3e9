"""Where a message enters: once, past the gate, to a command or to its session; and what a restart takes up again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.gateway import Gateway, Played, until

from hermesd.adapters.contract import Attachment, Target, Utterance
from hermesd.ipc.ids import SessionKey
from hermesd.ipc.messages import Steer, Steered
from hermesd.supervisor.gateway.busy import BusyMode

KEY = SessionKey("agent:main:fake:dm:c1")


async def running(gateway: Gateway, **settings: Any) -> tuple[Played, Any]:
    """A gateway whose session c1 answers the message "one"."""
    await gateway.start(**settings)
    await gateway.say("one", chat="c1", message_id="one")
    worker = await gateway.pool.ready()
    return worker, await worker.accept()


class TestTheDoor:
    async def test_a_message_that_was_there_already_changes_nothing(self, gateway: Gateway) -> None:
        await gateway.start()
        assert await gateway.receive("one", "m1")
        assert not await gateway.receive("one", "m1")
        await (await gateway.pool.ready()).answer("re one")
        await gateway.shown(0)
        assert not await gateway.receive("one", "m1")
        assert await gateway.turns() == ["done"]

    async def test_a_stranger_costs_a_row_and_no_session(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("let me in", chat="c9", user="stranger")
        await gateway.say("/stop", chat="c9", user="stranger")
        await until(lambda: gateway.reception.refused == 2)
        await until(lambda: not gateway.tasks._tasks)
        assert await gateway.inbox() == ["refused", "refused"]
        assert not gateway.lanes.lanes
        assert gateway.texts == [], "a stranger is told nothing"

    async def test_a_command_is_answered_while_the_agent_is_busy(self, gateway: Gateway) -> None:
        worker, start = await running(gateway)
        await gateway.say("/status", chat="c1", message_id="status")
        (text,) = await gateway.shown(1, reply_to="status")
        assert "agent: busy" in text
        worker.finish(start, "re one")
        await gateway.shown(2)

    async def test_an_adapter_that_is_cancelled_in_mid_call_leaves_no_message_lying(self, gateway: Gateway) -> None:
        await gateway.start()
        gateway.chat._chats.add("c1")
        arriving = asyncio.ensure_future(gateway.receive("one", "m1"))
        await asyncio.sleep(0)
        arriving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await arriving
        assert (await (await gateway.pool.ready()).answer("re one")).text == "one"
        await gateway.shown(1)
        assert not await gateway.receive("one", "m1"), "the platform brings again what it was not told of"

    async def test_a_caller_who_leaves_before_his_message_is_on_disk_costs_no_turn(self, gateway: Gateway) -> None:
        await gateway.start()
        arriving = asyncio.ensure_future(gateway.receive("one", "m1", thread_id="t"))
        await asyncio.sleep(0)
        gateway.reception.cancel(Target("fake", "c1", reply_to="m1"))
        assert await arriving
        await until(lambda: not gateway.tasks._jobs)
        assert await gateway.inbox() == ["dropped"]
        assert not gateway.lanes.lanes

    async def test_a_stateless_request_is_never_a_command(self, gateway: Gateway) -> None:
        await gateway.start()
        gateway.chat._chats.add("req")
        await gateway.receive("/help", "r1", chat_id="req", trusted=True, history=(Utterance("user", "x"),))
        assert (await (await gateway.pool.ready()).accept()).text == "/help"


class TestBusy:
    async def test_queue(self, gateway: Gateway) -> None:
        worker, start = await running(gateway)
        await gateway.say("two", chat="c1")
        await until(lambda: gateway.lanes.waiting == 1)
        assert not worker.interrupts()
        worker.finish(start, "re one")
        await worker.answer("re two")
        assert await gateway.shown(2) == ["re one", "re two"]

    async def test_interrupt(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.INTERRUPT
        worker, start = await running(gateway)
        await gateway.say("two", chat="c1")
        await until(worker.interrupts)
        worker.finish(start, "half", "interrupted")
        await worker.answer("re two")
        assert await gateway.shown(2) == ["half\n\n(interrupted)", "re two"]

    async def test_an_interrupting_message_never_interrupts_itself(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.INTERRUPT
        worker, start = await running(gateway)
        await gateway.say("two", chat="c1")
        worker.finish(start, "re one")  # at the same moment
        await worker.answer("re two")
        assert await gateway.shown(2) == ["re one", "re two"]

    async def test_steer_that_is_taken(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.STEER
        worker, start = await running(gateway)
        await gateway.say("left", chat="c1", message_id="left")
        await until(lambda: Steer(start.turn, "left") in worker.told)
        worker.say(Steered(start.turn, True))
        assert await gateway.shown(1, reply_to="left") == ["Passed on to the answer that is being written."]
        worker.finish(start, "re one")
        await gateway.shown(2)
        assert await gateway.inbox() == ["answered", "answered"]
        assert await gateway.turns() == ["done"]

    async def test_it_is_handed_over_with_its_writer_and_what_it_answers(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.STEER
        await gateway.start()
        group = {"chat": "g1", "chat_type": "group", "thread": "shared", "user_name": "Ann"}
        await gateway.say("one", **group)
        worker = await gateway.pool.ready()
        start = await worker.accept()
        await gateway.say("left", reply_text="which way?", **group)
        await until(lambda: len(worker.told) == 2)
        assert worker.told[1] == Steer(start.turn, '[In reply to: "which way?"]\n[Ann] left')

    @pytest.mark.parametrize("text", ["", "look at this"])
    async def test_a_message_with_a_file_has_a_turn_of_its_own(self, gateway: Gateway, text: str) -> None:
        gateway.busy = BusyMode.STEER
        worker, start = await running(gateway)
        photo = Attachment("/media/photo.png", "photo.png", "image/png")
        gateway.chat._chats.add("c1")
        await gateway.receive(text, "photo", attachments=(photo,))
        await until(lambda: gateway.lanes.waiting == 1)
        worker.finish(start, "re one")
        second = await worker.answer("a cat")
        assert (second.text, [found.name for found in second.attachments]) == (text, ["photo.png"])
        assert await gateway.shown(2) == ["re one", "a cat"]
        assert not [message for message in worker.told if isinstance(message, Steer)]

    @pytest.mark.parametrize("end", ["failed", "died", "overran"])
    async def test_one_that_was_taken_is_a_message_of_its_own_after_a_turn_that_did_not_end_well(
        self, gateway: Gateway, end: str
    ) -> None:
        gateway.busy = BusyMode.STEER
        worker, start = await running(gateway)
        await gateway.hand_over("left", worker, start)
        if end == "failed":
            worker.finish(start, "", "failed", "no such model")
        elif end == "died":
            worker.gone(-9)
        else:
            lane = gateway.lanes.lanes[KEY]
            assert lane.current is not None
            gateway.lanes.turns.overrun(lane, lane.current, "its time is over")
            worker.finish(start, "", "interrupted")
        second = worker if end != "died" else await gateway.pool.ready(2)
        assert (await second.answer("re left")).text == "left"
        assert (await gateway.shown(3))[-1] == "re left"
        assert (await gateway.inbox())[-1] == "answered"
        assert len(gateway.texts) == 3

    async def test_what_a_stopped_answer_has_taken_ends_with_it(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.STEER
        worker, start = await running(gateway)
        await gateway.hand_over("left", worker, start)
        assert await gateway.inbox() == ["accepted", "received"]
        await gateway.say("/stop", chat="c1")
        await until(worker.interrupts)
        worker.finish(start, "half", "interrupted")
        await gateway.shown(3)
        assert await gateway.inbox() == ["answered"] * 3
        assert await gateway.turns() == ["interrupted"]

    async def test_retry_repeats_the_message_and_not_what_its_answer_has_taken(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.STEER
        worker, start = await running(gateway)
        await gateway.say("left", chat="c1")
        await until(lambda: any(isinstance(message, Steer) for message in worker.told))
        worker.say(Steered(start.turn, True))
        worker.finish(start, "re one")
        await gateway.shown(2)
        await gateway.say("/retry", chat="c1")
        assert (await worker.answer("once more")).text == "one"

    async def test_retry_repeats_what_was_quoted_too(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("left", chat="c1", reply_text="which way?")
        worker = await gateway.pool.ready()
        first = await worker.answer("", "failed", "no such model")
        await gateway.shown(1)
        await gateway.say("/retry", chat="c1")
        assert (await worker.answer("once more")).text == first.text

    async def test_several_that_come_before_the_agent_answers_are_all_kept(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.STEER
        worker, start = await running(gateway)
        for text in ("left", "right", "up"):
            await gateway.say(text, chat="c1", message_id=text)
        await until(lambda: sum(isinstance(message, Steer) for message in worker.told) == 3)
        worker.say(Steered(start.turn, True))
        worker.say(Steered(start.turn, False))
        worker.finish(start, "re one")  # the third has no answer
        assert (await worker.answer("re right")).text == "right"
        assert (await worker.answer("re up")).text == "up"
        await gateway.shown(4)
        assert await gateway.inbox() == ["answered"] * 4

    async def test_a_steer_survives_the_death_of_its_worker(self, gateway: Gateway) -> None:
        gateway.busy = BusyMode.STEER
        worker, _ = await running(gateway, on_crash="retry")
        await gateway.say("left", chat="c1")
        await until(lambda: any(isinstance(message, Steer) for message in worker.told))
        worker.gone()
        second = await gateway.pool.ready(2)
        assert (await second.answer("re one")).text == "one"
        assert (await second.answer("re left")).text == "left"
        assert await gateway.shown(2) == ["re one", "re left"]


class TestRestart:
    async def test_what_comes_early_waits_behind_what_an_earlier_life_left_and_is_run_once(
        self, gateway: Gateway
    ) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready()).turn()
        await gateway.die()
        await gateway.begin()
        await gateway.say("two", chat="c1")
        await gateway.say("elsewhere", chat="c2")
        assert await gateway.inbox() == ["dispatched", "received", "received"]
        assert not gateway.lanes.lanes
        await gateway.reception.resume()
        worker, other = await gateway.pool.ready(1), await gateway.pool.ready(2)
        if worker.assign.chat_id != "c1":
            worker, other = other, worker
        assert [(await worker.answer(f"re {text}")).text for text in ("one", "two")] == ["one", "two"]
        assert (await other.answer("re elsewhere")).text == "elsewhere"
        await gateway.shown(3)
        assert await gateway.turns() == ["done"] * 3

    async def test_what_was_only_received_is_judged_and_answered(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        monkeypatch.setattr(gateway.reception, "_admit", lambda row: None)
        await gateway.say("one", chat="c1")
        await gateway.say("two", chat="c2", user="stranger")
        assert await gateway.inbox() == ["received", "received"]
        await gateway.again()
        await (await gateway.pool.ready()).answer("re one")
        assert await gateway.shown(1) == ["re one"]
        assert await gateway.inbox() == ["answered", "refused"]

    async def test_the_order_of_a_session_survives(self, gateway: Gateway) -> None:
        await gateway.start()
        for text in ("one", "two", "three"):
            await gateway.say(text, chat="c1")
        first = await (await gateway.pool.ready()).turn()
        assert await gateway.inbox() == ["dispatched", "queued", "queued"]
        await gateway.again()
        worker = await gateway.pool.ready()
        start = await worker.answer("re one")
        assert (start.turn, start.text, start.attempt) == (first.turn, "one", 2)
        await worker.answer("re two")
        await worker.answer("re three")
        assert await gateway.shown(3) == ["re one", "re two", "re three"]
        assert await gateway.turns() == ["done"] * 3

    async def test_a_stateless_request_that_comes_early_is_not_taken_for_one_of_an_earlier_life(
        self, gateway: Gateway
    ) -> None:
        await gateway.begin()
        gateway.chat._chats.add("req")
        stateless = {"chat_id": "req", "trusted": True, "history": (Utterance("user", "x"),)}
        arriving = [asyncio.ensure_future(gateway.receive("now", f"r{number}", **stateless)) for number in range(3)]
        await asyncio.sleep(0)
        await gateway.reception.resume()
        assert await asyncio.gather(*arriving) == [True] * 3
        await (await gateway.pool.ready()).answer("re now")
        await gateway.shown(1)
        assert "failed" not in await gateway.inbox()
        assert "dropped" not in await gateway.inbox()

    async def test_what_an_agent_had_begun_is_told_and_not_repeated(self, gateway: Gateway) -> None:
        await running(gateway)
        await gateway.again()
        (text,) = await gateway.shown(1)
        assert "hermesd was restarted while this was being answered" in text
        assert gateway.chat.transcript()[0].reply_to == "one"
        assert await gateway.inbox() == ["lost"]
        assert not gateway.pool.all
        await gateway.say("/retry", chat="c1")
        assert (await (await gateway.pool.ready()).answer("re one")).text == "one"
        await gateway.shown(2)

    async def test_with_on_crash_retry_it_is_repeated(self, gateway: Gateway) -> None:
        await running(gateway)
        await gateway.again(on_crash="retry")
        await (await gateway.pool.ready()).answer("re one")
        assert await gateway.shown(1) == ["re one"]

    async def test_a_requeued_turn_goes_on_under_its_own_name(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        first = await worker.turn()
        worker.gone()
        await until(lambda: gateway.lanes.waiting + gateway.lanes.running == 1)
        await gateway.again()
        start = await (await gateway.pool.ready()).answer("re one")
        assert start.turn == first.turn
        await gateway.shown(1)
        assert await gateway.turns() == ["done"]

    async def test_a_message_that_killed_a_worker_in_each_life_is_set_aside(self, gateway: Gateway) -> None:
        worker, _ = await running(gateway, on_crash="retry")
        worker.gone()
        await until(lambda: gateway.lanes.waiting + gateway.lanes.running == 1)
        await gateway.again()
        worker = await gateway.pool.ready()
        await worker.accept()
        worker.gone()
        assert "set aside" in (await gateway.shown(1))[0]
        assert await gateway.inbox() == ["dead"]

    @pytest.mark.parametrize("state", ["queued", "dispatched", "accepted"])
    async def test_a_stateless_request_ends_with_the_life_that_took_it(self, gateway: Gateway, state: str) -> None:
        await gateway.start()
        gateway.chat._chats.add("req")
        await gateway.receive("now", "r1", chat_id="req", trusted=True, history=(Utterance("user", "x"),))
        worker = await gateway.pool.worker()
        if state != "queued":
            worker.ready()
            await (worker.turn() if state == "dispatched" else worker.accept())
        assert await gateway.inbox() == [state]
        await gateway.again()
        assert await gateway.inbox() == ["dropped" if state == "queued" else "failed"]
        assert await gateway.turns() == ([] if state == "queued" else ["failed"])
        assert await gateway.rows("SELECT key FROM sessions WHERE ended_at IS NULL") == []
        assert not gateway.lanes.lanes

    async def test_what_ended_stays_ended(self, gateway: Gateway) -> None:
        worker, start = await running(gateway)
        worker.finish(start, "re one")
        await gateway.shown(1)
        await until(lambda: gateway.lanes.running == 0)
        await gateway.again()
        assert not gateway.lanes.lanes
        # A chat keeps its order: whatever of the first message were still to come would come before the second.
        await gateway.say("two", chat="c1", message_id="two")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        assert start.text == "two"
        worker.finish(start, "re two")
        assert await gateway.shown(2) == ["re one", "re two"]
