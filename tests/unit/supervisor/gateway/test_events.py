"""Events: their answers go elsewhere than to who sent them, and nobody waits for them at a connection."""

from __future__ import annotations

from typing import Any

import pytest
from harness.gateway import BrokenDisk, Gateway, until

from hermesd.adapters.contract import Delivery, Target
from hermesd.adapters.errors import NotAccepted
from hermesd.ipc.messages import Ask
from hermesd.supervisor.gateway import words
from hermesd.supervisor.gateway.reception import Rules
from hermesd.supervisor.journal import workers

OPS = Target("fake", "ops", "t1")
TO_OPS = Delivery(OPS)
KEY = "agent:main:hook:dm:r:1"


async def ready(gateway: Gateway) -> Gateway:
    await gateway.start()
    rules(gateway)
    return gateway


def rules(gateway: Gateway, **homes: Target) -> None:
    gateway.chat._chats.update({"ops", "home"})  # type: ignore[attr-defined]
    gateway.reception.reconfigure(
        Rules(gateway.policy, gateway.busy, True, False, platforms=frozenset({"fake", "api_server"}), homes=homes)
    )


async def event(gateway: Gateway, text: str = "push", delivery: Delivery = TO_OPS, **fields: Any) -> bool:
    given = {
        "platform": "hook", "chat_id": "r:1", "user_id": "hook:r", "trusted": True, "history": (),
        "chat_name": "hook/r", "delivery": delivery,
    }  # fmt: skip
    return await gateway.receive(text, "1", **(given | fields))


async def test_the_answer_goes_to_another_chat_and_answers_nobody_there(gateway: Gateway) -> None:
    await ready(gateway)
    await event(gateway)
    assert (await (await gateway.pool.ready()).answer("seen")).text == "push"
    assert await gateway.shown(1, chat="ops") == ["seen"]
    ((thread, reply_to),) = await gateway.rows("SELECT thread_id, reply_to FROM outbox")
    assert (thread, reply_to) == ("t1", "")
    await until(lambda: not gateway.lanes.lanes)
    assert await gateway.rows("SELECT key, ended_at IS NULL FROM sessions") == [(KEY, 0)]


async def test_what_begins_like_a_command_is_none(gateway: Gateway) -> None:
    await ready(gateway)
    await event(gateway, "/stop")
    assert (await (await gateway.pool.ready()).accept()).text == "/stop"


async def test_a_question_is_refused_at_once(gateway: Gateway) -> None:
    await ready(gateway)
    await event(gateway)
    worker = await gateway.pool.ready()
    start = await worker.accept()
    worker.say(Ask("a1", start.turn, "May I?", ("yes", "no"), 60.0))
    await until(lambda: any(getattr(message, "ask", "") == "a1" for message in worker.told))
    assert gateway.texts == []


async def test_a_text_that_is_for_the_chat_as_it_is_starts_nobody(gateway: Gateway) -> None:
    await ready(gateway)
    await event(gateway, "disk full", Delivery(OPS, verbatim=True))
    assert await gateway.shown(1, chat="ops") == ["disk full"]
    assert await gateway.inbox() == ["answered"]
    assert not gateway.pool.all


async def test_a_chat_that_is_not_named_is_the_home_channel(gateway: Gateway) -> None:
    await ready(gateway)
    rules(gateway, fake=Target("fake", "home", "t9"))
    await event(gateway, "hello", Delivery(Target("fake", ""), verbatim=True))
    assert await gateway.shown(1, chat="home") == ["hello"]
    assert await gateway.rows("SELECT thread_id FROM outbox") == [("t9",)]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target("telegram", "1"), "'telegram' is not configured"),
        (Target("fake", ""), "no home channel"),
        (Target("api_server", "x"), "nobody to send something to"),
    ],
)
async def test_one_whose_answer_has_nowhere_to_go_is_not_taken(gateway: Gateway, target: Target, said: str) -> None:
    await ready(gateway)
    with pytest.raises(NotAccepted, match=said) as error:
        await event(gateway, delivery=Delivery(target))
    assert error.value.code == "undeliverable"
    assert await gateway.inbox() == []


async def test_a_failure_says_what_it_is_about(gateway: Gateway) -> None:
    await ready(gateway)
    await event(gateway)
    await (await gateway.pool.ready()).answer("", "failed", "no model")
    assert await gateway.shown(1, chat="ops") == [words.about_event("hook/r", 1, words.failed("no model"))]


async def test_it_outlives_hermesd_before_and_after_it_has_begun(gateway: Gateway) -> None:
    await ready(gateway)
    await event(gateway)
    await gateway.pool.worker()
    await gateway.again()
    rules(gateway)
    assert (await (await gateway.pool.ready()).answer("seen")).text == "push"
    assert await gateway.shown(1, chat="ops") == ["seen"]
    assert not await event(gateway), "its id is known in the next life, too"


async def test_a_running_one_is_taken_over_with_its_worker(gateway: Gateway) -> None:
    await ready(gateway)
    await event(gateway)
    start = await (await gateway.pool.ready()).accept()
    (worker,) = await gateway.taken_over()
    rules(gateway)
    (estate,) = await gateway.journal.read(workers.left)
    assert estate.outlives_its_caller
    worker.snapshot(turn=start.turn)
    worker.finish(start, "seen")
    assert await gateway.shown(1, chat="ops") == ["seen"]
    await until(lambda: worker.stopped or not worker.alive)


async def test_its_worker_stays_until_its_answer_is_on_disk(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a hermesd that is killed at that moment leaves a worker that ends, and an answer that nobody has."""
    await ready(gateway)
    await event(gateway)
    worker = await gateway.pool.ready()
    start = await worker.accept()
    disk = BrokenDisk(gateway, monkeypatch, "finish")
    worker.finish(start, "seen")
    await disk.refuses("finish")
    assert not worker.stopped
    disk.mend()
    await until(lambda: worker.stopped)
    assert await gateway.shown(1, chat="ops") == ["seen"]


async def test_one_that_was_lost_with_hermesd_is_told_and_its_session_ends(gateway: Gateway) -> None:
    await ready(gateway)
    await event(gateway)
    await (await gateway.pool.ready()).accept()
    gateway.chat._chats.add("ops")  # type: ignore[attr-defined]
    await gateway.again()
    text = words.about_event("hook/r", 1, words.lost_with_hermesd(may_retry=False))
    assert await gateway.shown(1, chat="ops") == [text]
    assert "/retry" not in text
    await until(lambda: not gateway.tasks._jobs)
    assert await gateway.rows("SELECT ended_at IS NULL FROM sessions") == [(0,)]
