"""Sessions at work: a real journal, a platform that does what it is told, and workers that the test plays."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from harness.gateway import Chat, Gateway, Played, until

from hermesd.adapters.contract import AdapterSettings, Target, Utterance
from hermesd.adapters.errors import NotAccepted
from hermesd.adapters.fake import FakeAdapter
from hermesd.ipc.ids import SessionKey
from hermesd.ipc.messages import Answer, Ask, Delta, Finished, Interrupt, Logs, Rewind, Send
from hermesd.supervisor.gateway import lanes as lanes_module
from hermesd.supervisor.gateway import turns as turns_module
from hermesd.supervisor.journal import persistence
from hermesd.supervisor.journal.errors import JournalUnavailable
from hermesd.supervisor.pool import backoff

KEY = SessionKey("agent:main:fake:dm:c1")
LIFE = "agent:main:fake:dm:"


class BrokenDisk:
    """Lets the journal's writes of some operations end as on a full disk, until it is mended."""

    def __init__(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, *names: str):
        self.refused: list[str] = []
        self.names = names
        self.broken = True
        real = gateway.journal.write

        def write(operation: Callable[..., Any], /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
            if not self.broken or (self.names and operation.__name__ not in self.names):
                return real(operation, *args, **kwargs)
            self.refused.append(operation.__name__)

            def fail(connection: sqlite3.Connection) -> None:
                raise JournalUnavailable("cannot write to the journal: disk full")

            return real(fail)

        monkeypatch.setattr(gateway.journal, "write", write)

    async def refuses(self, name: str) -> None:
        await until(lambda: name in self.refused)

    def mend(self) -> None:
        self.broken = False


class TestOrder:
    async def test_a_session_answers_one_message_after_the_other(self, gateway: Gateway) -> None:
        await gateway.start()
        for text in ("one", "two", "three"):
            await gateway.say(text, chat="c1")
        worker = await gateway.pool.ready()
        for text in ("one", "two", "three"):
            start = await worker.accept()
            assert start.text == text
            assert worker.open_turn is None
            worker.finish(start, f"re {text}")
        assert await gateway.shown(3) == ["re one", "re two", "re three"]
        assert len(gateway.pool.all) == 1
        assert await gateway.inbox() == ["answered"] * 3
        assert await gateway.turns() == ["done"] * 3

    async def test_sessions_do_not_wait_for_each_other(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("a", chat="c1")
        await gateway.say("b", chat="c2")
        first, second = await gateway.pool.ready(1), await gateway.pool.ready(2)
        await first.accept()
        await second.answer("re b")
        assert await gateway.shown(1) == ["re b"]

    async def test_over_max_turns_the_next_one_waits_and_is_told_its_place(self, gateway: Gateway) -> None:
        await gateway.start(max_turns=1)
        for chat in ("c1", "c2", "c3"):
            await gateway.say(chat, chat=chat, message_id=f"m-{chat}")
        first = await gateway.pool.ready(1)
        start = await first.accept()
        line = "The one place is taken: your message is number {} in the line."
        assert gateway.notices == [("m-c2", line.format(1)), ("m-c3", line.format(2))]
        first.finish(start, "re")
        second = await gateway.pool.ready(2)
        await second.accept()
        assert gateway.notices[2:] == [("m-c3", line.format(1))]
        assert gateway.pool.most_alive == 2

    async def test_over_max_workers_an_idle_one_makes_room(self, gateway: Gateway) -> None:
        await gateway.start(max_workers=1)
        await gateway.say("a", chat="c1")
        first = await gateway.pool.ready(1)
        await first.answer("re a")
        await gateway.say("b", chat="c2")
        second = await gateway.pool.ready(2)
        await second.answer("re b")
        await gateway.shown(2)
        assert first.stopped
        assert gateway.life() == "hibernated"
        assert gateway.pool.most_alive == 1
        assert not gateway.notices, "nobody was before it"

    async def test_where_a_platform_shows_no_notices_the_place_is_said_once(self, gateway: Gateway) -> None:
        gateway.chat = FakeAdapter(AdapterSettings("fake"))
        await gateway.start(max_turns=1)
        for chat in ("c1", "c2", "c3"):
            await gateway.say(chat, chat=chat)
        first = await gateway.pool.ready(1)
        await first.answer("re")
        await gateway.pool.ready(2)
        assert len(await gateway.shown(1, chat="c3")) == 1
        assert "number 2" in gateway.chat.transcript(chat="c3")[0].text
        assert not gateway.chat.transcript(chat="c3")[0].final

    async def test_an_idle_worker_hibernates_and_the_next_one_is_given_the_conversation(self, gateway: Gateway) -> None:
        await gateway.start(idle_timeout=0.01)
        await gateway.say("hello", chat="c1")
        await (await gateway.pool.ready(1)).answer("hi")
        await until(lambda: gateway.life() == "hibernated")
        await gateway.say("again", chat="c1")
        second = await gateway.pool.worker(2)
        assert [(entry.role, entry.text) for entry in second.assign.history] == [("user", "hello"), ("assistant", "hi")]


class TestEndsOfATurn:
    async def test_a_failed_turn_keeps_the_worker(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await gateway.say("two", chat="c1")
        worker = await gateway.pool.ready()
        await worker.answer("", outcome="failed", error="ValueError: no")
        await worker.answer("re two")
        assert await gateway.shown(2) == ["The agent failed: ValueError: no", "re two"]
        assert len(gateway.pool.all) == 1
        assert not worker.killed
        assert await gateway.inbox() == ["failed", "answered"]
        assert gateway.chat.transcript()[0].kind == "error"

    async def test_a_failed_turn_leaves_no_trace_in_the_conversation(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready()).answer("half", outcome="failed", error="x")
        await gateway.shown(1)
        assert await gateway.rows("SELECT text FROM transcripts") == []

    async def test_an_agent_that_could_not_be_made_fails_each_turn(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.worker()
        worker.ready(error="no such module")
        await worker.answer("", outcome="failed", error="cannot make the agent")
        assert await gateway.shown(1) == ["The agent failed: cannot make the agent"]

    async def test_a_worker_that_dies_before_it_accepted_is_replaced_and_the_turn_runs_once(
        self, gateway: Gateway
    ) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        first = await gateway.pool.ready(1)
        lost = await first.turn()
        first.gone()
        second = await gateway.pool.ready(2)
        again = await second.answer("re one")
        assert (again.turn, again.attempt) == (lost.turn, 2)
        assert await gateway.shown(1) == ["re one"]
        assert await gateway.turns() == ["done"]

    async def test_after_the_accept_the_user_is_told_and_nothing_is_repeated(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        worker.gone(-11)
        (text,) = await gateway.shown(1)
        assert "killed by SIGSEGV" in text
        assert "/retry" in text
        assert await gateway.inbox() == ["lost"]
        await until(lambda: gateway.life() == "hibernated")
        assert len(gateway.pool.all) == 1

    async def test_with_on_crash_retry_it_is_repeated(self, gateway: Gateway) -> None:
        await gateway.start(on_crash="retry")
        await gateway.say("one", chat="c1")
        first = await gateway.pool.ready(1)
        await first.accept()
        first.gone()
        await (await gateway.pool.ready(2)).answer("re one")
        assert await gateway.shown(1) == ["re one"]

    @pytest.mark.parametrize("accepts", [False, True])
    async def test_a_message_that_has_killed_two_workers_is_set_aside(self, gateway: Gateway, accepts: bool) -> None:
        await gateway.start(on_crash="retry")
        await gateway.say("poison", chat="c1")
        for number in (1, 2):
            worker = await gateway.pool.ready(number)
            await (worker.accept() if accepts else worker.turn())
            worker.gone()
        (text,) = await gateway.shown(1)
        assert "set aside: 2 processes have died" in text
        assert await gateway.inbox() == ["dead"]
        await gateway.say("harmless", chat="c1")
        await (await gateway.pool.ready(3)).answer("re harmless")
        await gateway.shown(2)

    async def test_a_message_that_no_frame_can_hold_fails_and_the_worker_stays(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("x" * 9_000_000, chat="c1")
        worker = await gateway.pool.ready()
        (text,) = await gateway.shown(1)
        assert text.startswith("The agent failed: cannot send start_turn")
        await gateway.say("short", chat="c1")
        await worker.answer("re short")
        await gateway.shown(2)
        assert await gateway.inbox() == ["failed", "answered"]

    async def test_what_a_worker_says_of_an_ended_turn_is_settled_and_changes_nothing(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.answer("re one")
        await gateway.shown(1)
        late = Send("s1", start.turn, "", "late")
        worker.say(late)
        worker.say(Finished(start.turn, "done", "twice"))
        assert late in worker.settled
        assert gateway.texts == ["re one"]

    async def test_an_ack_comes_only_after_the_disk_has_it(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        disk = BrokenDisk(gateway, monkeypatch)
        worker.finish(start, "re one")
        await disk.refuses("finish")
        assert not any(isinstance(message, Finished) for message in worker.settled)
        disk.mend()
        assert await gateway.shown(1) == ["re one"]
        assert any(isinstance(message, Finished) for message in worker.settled)


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
        assert await gateway.lanes.interrupt(KEY, "enough", clear_queue=True) == 1
        assert await gateway.shown(1) == ["Interrupted."]
        worker.ready()
        assert gateway.life() == "idle"
        assert await gateway.inbox() == ["dropped"]

    async def test_a_dispatched_turn(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.turn()
        stopping = asyncio.ensure_future(gateway.lanes.interrupt(KEY, "enough"))
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
        assert await gateway.lanes.interrupt(KEY, "enough") == 1
        assert worker.killed == [True], "with a stack dump, once"
        assert await gateway.shown(1) == ["Interrupted."]
        assert await gateway.inbox() == ["answered"]
        await until(lambda: gateway.life() == "hibernated")
        lane = gateway.lanes.lane_of(KEY)
        assert lane is not None
        assert lane.restarts == 0, "a kill of ours is no crash"

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
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        stopping = asyncio.ensure_future(gateway.lanes.interrupt(KEY, "enough"))
        await until(worker.interrupts)
        worker.has(Interrupt(start.turn, "enough"))
        assert await stopping == 1
        assert kills == [(False, 0), (True, 1)]

    async def test_a_turn_that_ends_by_itself_keeps_its_worker(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        stopping = asyncio.ensure_future(gateway.lanes.interrupt(KEY, "enough"))
        await until(worker.interrupts)
        worker.finish(start, "", "interrupted")
        await stopping
        await asyncio.sleep(turns_module.INTERRUPT_GRACE * 1.5)
        assert not worker.killed
        assert gateway.life() == "idle"

    async def test_a_requeued_turn_that_is_stopped_leaves_no_open_row(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        first = await gateway.pool.ready(1)
        await first.turn()
        first.gone()
        await until(lambda: gateway.lanes.waiting == 1 or gateway.lanes.running == 1)
        assert await gateway.lanes.interrupt(KEY, "enough", clear_queue=True) == 1
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
        stopping = asyncio.ensure_future(gateway.lanes.stop_session(KEY, "stopped"))
        await until(first.interrupts)
        first.finish((await _last(first)), "", "interrupted")
        assert await stopping
        await (await gateway.pool.ready(2)).answer("re two")
        assert await gateway.shown(2) == ["Interrupted.", "re two"]

    async def test_nothing_to_stop(self, gateway: Gateway) -> None:
        await gateway.start()
        assert not await gateway.lanes.stop_session(KEY, "stopped")

    async def test_a_restarted_session_has_a_new_worker_with_its_conversation(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready(1)).answer("re one")
        await gateway.shown(1)
        assert await gateway.lanes.restart_session(KEY, "restarted")
        second = await gateway.pool.ready(2)
        assert len(second.assign.history) == 2
        assert gateway.life() == "idle"
        assert not await gateway.lanes.restart_session(SessionKey("agent:main:fake:dm:nobody"), "restarted")

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
        assert await gateway.shown(1) == ["There is no message to repeat."]
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


async def _last(worker: Played) -> Any:
    return [message for message in worker.told if hasattr(message, "sender")][-1]


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


class TestStatelessRequests:
    async def ask(self, gateway: Gateway, message_id: str = "r1") -> None:
        gateway.chat._chats.add("req")
        history = (Utterance("user", "before"), Utterance("assistant", "indeed"))
        await gateway.receive("now", message_id, chat_id="req", trusted=True, history=history)

    async def test_the_session_ends_with_its_reply(self, gateway: Gateway) -> None:
        await gateway.start()
        await self.ask(gateway)
        worker = await gateway.pool.ready()
        assert [entry.text for entry in worker.assign.history] == ["before", "indeed"]
        await worker.answer("re now")
        assert await gateway.shown(1) == ["re now"]
        await until(lambda: gateway.life(LIFE + "req") == "forgotten")
        assert worker.stopped
        (row,) = await gateway.rows("SELECT ephemeral, ended_at IS NOT NULL FROM sessions")
        assert row == (1, 1)

    async def test_nobody_can_be_asked(self, gateway: Gateway) -> None:
        await gateway.start()
        await self.ask(gateway)
        worker = await gateway.pool.ready()
        start = await worker.accept()
        worker.say(Ask("q1", start.turn, "may I?", ("approve", "deny"), 60.0))
        await until(lambda: Answer("q1", "", "undeliverable") in worker.told)
        assert await gateway.rows("SELECT * FROM outbox") == []
        worker.finish(start, "re")
        await gateway.shown(1)

    @pytest.mark.parametrize("when", ["queued", "starting", "running", "crashed"])
    async def test_one_that_is_taken_back_leaves_no_session(self, gateway: Gateway, when: str) -> None:
        await gateway.start(max_turns=1 if when == "queued" else 4)
        if when == "queued":
            await gateway.say("first", chat="c1")
            await (await gateway.pool.ready(1)).accept()
        await self.ask(gateway)
        number = 2 if when == "queued" else 1
        if when != "queued":
            worker = await gateway.pool.worker(number)
        if when in ("running", "crashed"):
            worker.ready()
            start = await worker.accept()
        if when == "crashed":
            worker.gone()
            await until(lambda: gateway.life(LIFE + "req") == "forgotten")
            return
        gateway.reception.cancel(Target("fake", "req", reply_to="r1"))
        if when == "running":
            await until(worker.interrupts)
            worker.finish(start, "", "interrupted")
        if when == "starting":
            await until(lambda: worker.stopped)
        await until(lambda: gateway.life(LIFE + "req") == "forgotten")


class TestQuestions:
    async def ask(self, gateway: Gateway, timeout: float = 60.0) -> tuple[Played, Any]:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        ask = Ask("q1", start.turn, "may I?", ("approve", "deny"), timeout)
        worker.say(ask)
        await until(lambda: gateway.life() == "waiting")
        assert ask in worker.settled
        return worker, start

    @pytest.mark.parametrize(("word", "choice"), [("/approve", "approve"), ("/deny", "deny")])
    async def test_the_user_answers(self, gateway: Gateway, word: str, choice: str) -> None:
        worker, start = await self.ask(gateway)
        assert await gateway.shown(1) == ["may I?\n\nAnswer with /approve or /deny."]
        await gateway.say(word, chat="c1")
        await until(lambda: Answer("q1", choice, "u1") in worker.told)
        assert gateway.life() == "busy"
        worker.finish(start, "re")
        assert set(await gateway.shown(3)) == {gateway.texts[0], f"Answered: {choice}.", "re"}

    async def test_nobody_answers_in_time(self, gateway: Gateway) -> None:
        worker, _ = await self.ask(gateway, timeout=0.01)
        await until(lambda: Answer("q1", "", "nobody in time") in worker.told)
        assert gateway.life() == "busy"
        await gateway.say("/approve", chat="c1")
        assert (await gateway.shown(2))[1] == "Nothing waits for an answer."

    async def test_a_choice_that_is_none(self, gateway: Gateway) -> None:
        await self.ask(gateway)
        await gateway.say("/approve maybe", chat="c1")
        assert (await gateway.shown(2))[1] == (
            "'maybe' is not one of: approve, deny. Write /approve followed by one of them."
        )
        assert gateway.life() == "waiting"

    async def test_two_questions_are_answered_oldest_first(self, gateway: Gateway) -> None:
        worker, start = await self.ask(gateway)
        worker.say(Ask("q2", start.turn, "which?", ("red", "blue"), 60.0))
        await gateway.shown(2)
        await gateway.say("/approve", chat="c1")
        await until(lambda: Answer("q1", "approve", "u1") in worker.told)
        assert gateway.life() == "waiting"
        await gateway.say("/approve BLUE", chat="c1")
        await until(lambda: Answer("q2", "blue", "u1") in worker.told)
        assert gateway.life() == "busy"

    async def test_a_turn_that_ends_takes_its_questions_along(self, gateway: Gateway) -> None:
        worker, start = await self.ask(gateway)
        worker.finish(start, "without an answer")
        await gateway.shown(2)
        await gateway.say("/approve", chat="c1")
        assert (await gateway.shown(3))[2] == "Nothing waits for an answer."

    async def test_another_session_cannot_answer(self, gateway: Gateway) -> None:
        worker, _ = await self.ask(gateway)
        await gateway.say("/approve", chat="c2")
        assert await gateway.shown(1, chat="c2") == ["Nothing waits for an answer."]
        assert not [message for message in worker.told if isinstance(message, Answer)]


class TestBesides:
    async def test_sends_and_deltas_go_to_the_chat_of_the_turn(self, gateway: Gateway) -> None:
        chat = gateway.chat = Chat()
        await gateway.start()
        await gateway.say("one", chat="c1", message_id="m1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        send = Send("s1", start.turn, "", "besides")
        worker.say(send)
        worker.say(Delta(start.turn, "re"))
        await gateway.shown(1)
        worker.finish(start, "re")
        await gateway.shown(2)
        assert [(shown.text, shown.kind, shown.final) for shown in gateway.chat.transcript(reply_to="m1")] == [
            ("besides", "extra", False),
            ("re", "answer", True),
        ]
        assert send in worker.settled
        assert chat.streamed == [("m1", "re")]

    async def test_logs_are_handed_on(self, gateway: Gateway) -> None:
        await gateway.start()
        seen: list[Logs] = []
        gateway.lanes._on_logs = lambda worker, logs: seen.append(logs)
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        gateway.lanes.worker_logs(worker.worker, Logs((), 3))
        assert seen == [Logs((), 3)]


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
        assert await gateway.lanes.interrupt(KEY, "enough") == 1
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
        assert await asyncio.wait_for(gateway.lanes.stop_session(KEY, "enough"), 2.0)
        assert gateway.life() == "hibernated"
        assert not gateway.pool.all

    async def test_the_answer_of_hermesd_itself_is_not_lost_either(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await gateway.pool.worker()
        disk = BrokenDisk(gateway, monkeypatch)
        assert await gateway.lanes.interrupt(KEY, "enough") == 1
        await disk.refuses("add")
        disk.mend()
        assert await gateway.shown(1) == ["Interrupted."]


class TestDraining:
    async def test_what_runs_may_end_and_nothing_else_begins(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        await gateway.say("two", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        told: list[int] = []
        draining = asyncio.ensure_future(gateway.lanes.drain(5.0, told.append))
        await until(lambda: told)
        with pytest.raises(NotAccepted, match="stopping"):
            await gateway.say("three", chat="c1")
        worker.finish(start, "re one")
        assert await draining == 0
        assert await gateway.shown(1) == ["re one"]
        assert await gateway.lanes.stop_workers(1.0)
        assert worker.stopped
        assert await gateway.inbox() == ["answered", "queued"], "what waits is for the next life"

    async def test_what_does_not_end_is_interrupted(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        assert await gateway.lanes.drain(0.0, lambda busy: None) == 1
        assert worker.killed == [True]
        assert await gateway.lanes.stop_workers(1.0)
        assert await gateway.shown(1) == ["Interrupted."]

    async def test_a_worker_that_does_not_obey_is_killed_in_time(self, gateway: Gateway) -> None:
        await gateway.start(stop_grace=0.0)
        gateway.pool.on_stop = lambda played: None
        object.__setattr__(gateway.settings, "stop_grace", -0.49)  # reap: 0.02 s
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.answer("re one")
        await gateway.shown(1)
        assert await gateway.lanes.stop_session(KEY, "enough")
        assert worker.killed == [False]
