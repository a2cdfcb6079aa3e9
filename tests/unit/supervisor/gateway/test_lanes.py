"""Sessions at work: a real journal, a platform that does what it is told, and workers that the test plays."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from harness.gateway import Chat, Gateway, until

from hermesd.adapters.contract import Target, Utterance
from hermesd.ipc.ids import SessionKey
from hermesd.ipc.messages import Answer, Ask, Delta, Logs, Send
from hermesd.supervisor.gateway import past as past_module
from hermesd.supervisor.gateway.lane import Lane
from hermesd.supervisor.gateway.past import Pasts
from hermesd.supervisor.pool import backoff

LIFE = "agent:main:fake:dm:"
KEY = SessionKey(LIFE + "c1")


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
        await until(lambda: gateway.lanes.lane_of(SessionKey(LIFE + "req")) is None)
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
            await until(lambda: gateway.lanes.lane_of(SessionKey(LIFE + "req")) is None)
            return
        gateway.reception.cancel(Target("fake", "req", reply_to="r1"))
        if when == "running":
            await until(worker.interrupts)
            worker.finish(start, "", "interrupted")
        if when == "starting":
            await until(lambda: worker.stopped)
        await until(lambda: gateway.lanes.lane_of(SessionKey(LIFE + "req")) is None)


class TestForgetting:
    async def test_a_thousand_sessions_that_came_and_hibernated_leave_no_lane(self, gateway: Gateway) -> None:
        most, batches = 50, 20
        await gateway.start(max_workers=most, max_turns=most)
        for batch in range(batches):
            before = len(gateway.pool.all)
            chats = [f"c{batch}-{number}" for number in range(most)]
            await asyncio.gather(*(gateway.say("hello", chat=chat) for chat in chats))

            async def answer(number: int) -> None:
                await (await gateway.pool.ready(number)).answer("hi")

            await asyncio.gather(*(answer(before + number) for number in range(1, most + 1)))
            await gateway.shown((batch + 1) * most)
            assert len(gateway.lanes.lanes) <= 2 * most, "those with a worker, and those whose worker is ending"
        assert len(gateway.pool.all) == most * batches == 1000
        gateway.lanes.reconfigure(replace(gateway.settings, idle_timeout=0.0))
        await until(lambda: not gateway.lanes.lanes)
        assert gateway.pool.most_alive <= most
        assert await gateway.rows("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == [(1000,)]

    async def test_a_session_goes_on_where_it_was_when_its_lane_was_forgotten(self, gateway: Gateway) -> None:
        await gateway.start(idle_timeout=0.0)
        await gateway.say("one", chat="c1")
        first = await gateway.pool.ready(1)
        await first.answer("re one")
        await until(lambda: not gateway.lanes.lanes)
        assert gateway.lanes.past_of(KEY).last_end == "exit status 0"
        await gateway.say("/status", chat="c1")
        assert "agent: hibernated" in (await gateway.shown(2))[-1]
        await gateway.say("two", chat="c1")
        second = await gateway.pool.ready(2)
        assert second.assign.session_id == first.assign.session_id
        assert [entry.text for entry in second.assign.history] == ["one", "re one"]
        await second.answer("re two")
        await gateway.shown(3)

    @pytest.mark.parametrize("command", ["/stop", "/new"])
    async def test_commands_about_a_message_that_waited_leave_no_lane(self, gateway: Gateway, command: str) -> None:
        await gateway.start(max_turns=1)
        await gateway.say("one", chat="c1")
        await (await gateway.pool.ready(1)).accept()
        await gateway.say("two", chat="c2")
        await until(lambda: gateway.lanes.waiting)
        await gateway.say(command, chat="c2")
        await gateway.shown(2, chat="c2")
        await until(lambda: list(gateway.lanes.lanes) == [KEY])

    async def test_crashes_of_the_last_minute_are_not_forgotten(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await gateway.start()
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        worker.gone(3)
        await gateway.shown(1)
        await until(lambda: gateway.life() == "hibernated")
        gateway.lanes.plan_soon()
        await asyncio.sleep(0)
        lane = gateway.lanes.lane_of(KEY)
        assert lane is not None
        assert lane.crashes.times
        monkeypatch.setattr(backoff, "CRASH_WINDOW", -1.0)
        gateway.lanes.plan_soon()
        await until(lambda: not gateway.lanes.lanes)
        past = gateway.lanes.past_of(KEY)
        assert (past.restarts, past.last_end) == (1, "exit status 3")
        await gateway.say("two", chat="c1")
        await gateway.pool.ready(2)
        lane = gateway.lanes.lane_of(KEY)
        assert lane is not None
        assert lane.restarts == 1

    async def test_what_is_known_of_the_forgotten_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(past_module, "KEPT", 2)
        pasts = Pasts()
        for name in ("a", "b", "a", "c"):
            lane = Lane(SessionKey(name), False, 0.0)
            lane.last_end = f"end of {name}"
            pasts.keep(lane)
        ends = [pasts.of(SessionKey(name)).last_end for name in ("a", "b", "c")]
        assert ends == ["end of a", "", "end of c"]


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
