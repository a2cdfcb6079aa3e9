"""The life of turns: order, places, and how each one ends."""

from __future__ import annotations

from typing import Any

import pytest
from harness.gateway import BrokenDisk, Gateway, Played, until

from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.fake import FakeAdapter
from hermesd.ipc.messages import Answer, Ask, Finished, Send


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

    async def test_the_conversation_has_the_text_that_the_agent_was_given(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        worker.say(Finished(start.turn, "done", "a cat", given="[The user sent a sticker.]"))
        await gateway.shown(1)
        texts = await gateway.rows("SELECT text FROM transcripts ORDER BY seq")
        assert texts == [("[The user sent a sticker.]",), ("a cat",)]

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
        assert text.startswith("This message cannot be given to the agent: cannot send start_turn")
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
        late = Finished(start.turn, "done", "twice")
        worker.say(late)
        assert late in worker.settled
        assert gateway.texts == ["re one"]

    async def test_what_an_agent_sends_after_its_turn_comes_into_the_chat(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.answer("re one")
        await gateway.shown(1)
        late = Send("s1", start.turn, "", "by the way")
        worker.say(late)
        await gateway.shown(2)
        assert late in worker.settled
        assert gateway.texts == ["re one", "by the way"]

    async def test_an_agent_sends_to_chats_that_somebody_has_written_from_and_to_no_other(
        self, gateway: Gateway
    ) -> None:
        await gateway.start()
        for number, chat in enumerate(("c1", "c2"), 1):
            await gateway.say("one", chat=chat)
            worker = await gateway.pool.ready(number)
            start = await worker.accept()
            if chat == "c1":
                worker.finish(start, "re one")
                await gateway.shown(1)
        worker.say(Send("s1", start.turn, "fake:c1", "psst"))
        await gateway.shown(2)
        worker.say(Send("s2", start.turn, "fake:c9", "psst"))
        await gateway.shown(3)
        assert [(shown.chat, shown.text) for shown in gateway.chat.transcript()[1:]] == [
            ("c1", "psst"),
            ("c2", "A message of the agent was not sent: nobody has ever written from 'fake:c9'."),
        ]

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

    async def test_a_plain_approve_is_for_once_where_there_is_more_than_one_yes(self, gateway: Gateway) -> None:
        worker, start = await self.ask(gateway)
        worker.say(Ask("q2", start.turn, "may I?", ("once", "session", "always", "deny"), 60.0))
        await gateway.shown(2)
        await gateway.say("/approve", chat="c1")
        await gateway.say("/approve", chat="c1")
        await until(lambda: Answer("q2", "once", "u1") in worker.told)

    async def test_one_that_cannot_be_delivered_is_answered_at_once(self, gateway: Gateway) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        gateway.chat.close_chat("c1")
        worker.say(Ask("q1", start.turn, "may I?", ("approve", "deny"), 300.0))
        await until(lambda: Answer("q1", "", "undeliverable") in worker.told)
        assert gateway.life() == "busy"

    async def test_another_session_cannot_answer(self, gateway: Gateway) -> None:
        worker, _ = await self.ask(gateway)
        await gateway.say("/approve", chat="c2")
        assert await gateway.shown(1, chat="c2") == ["Nothing waits for an answer."]
        assert not [message for message in worker.told if isinstance(message, Answer)]
