"""Sessions at work: a real journal, a platform that does what it is told, and workers that the test plays."""

from __future__ import annotations

import pytest
from harness.gateway import Chat, Gateway, until

from hermesd.adapters.contract import Target, Utterance
from hermesd.ipc.messages import Answer, Ask, Delta, Logs, Send

LIFE = "agent:main:fake:dm:"


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
