"""The next hermesd over the same disk, while the workers of the one before live on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from harness.gateway import Chat, Gateway, Played, until

from hermesd.adapters.contract import Press, Pressed
from hermesd.ipc.messages import Accept, Answer, Ask, Finished, Send, StartTurn, Steer
from hermesd.supervisor.gateway import words
from hermesd.supervisor.gateway.busy import BusyMode
from hermesd.supervisor.journal import workers

ASK = ("approve", "deny")


async def test_a_running_turn_ends_in_its_worker_and_is_answered_once(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    start = await (await gateway.pool.ready()).accept()
    (worker,) = await gateway.taken_over()
    assert gateway.life() == "busy"
    worker.snapshot(turn=start.turn, text="so f")
    assert isinstance(gateway.chat, Chat)
    assert [text for _, text in gateway.chat.streamed] == ["so f"]
    worker.finish(start, "so far, so good")
    assert await gateway.shown(1) == ["so far, so good"]
    await until(lambda: gateway.life() == "idle")
    assert await gateway.inbox() == ["answered"]
    assert not [message for message in worker.told if isinstance(message, StartTurn)]
    assert len(gateway.pool.all) == 1


async def test_an_end_that_was_on_its_way_comes_before_the_snapshot(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    start = await (await gateway.pool.ready()).accept()
    (worker,) = await gateway.taken_over()
    worker.finish(start, "done meanwhile")
    worker.snapshot()
    assert await gateway.shown(1) == ["done meanwhile"]
    assert worker.told == []


async def test_a_turn_that_never_reached_its_worker_is_sent_again(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    first = await gateway.pool.ready()
    lost = await first.turn()
    (worker,) = await gateway.taken_over()
    assert await gateway.inbox() == ["dispatched"]
    worker.snapshot()
    again = await worker.turn()
    assert again == lost, "the same turn: a worker that knows it does not run it twice"
    await worker.answer("here I am")
    assert await gateway.shown(1) == ["here I am"]
    assert await gateway.turns() == ["done"]


async def test_an_accept_and_an_end_that_were_not_on_disk_come_again_and_count_once(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    start = await (await gateway.pool.ready()).turn()
    (worker,) = await gateway.taken_over()
    accept = Accept(start.turn)
    worker.say(accept)
    await until(lambda: accept in worker.settled)
    worker.say(Send("s1", start.turn, "", "besides"))
    worker.finish(start, "the end")
    worker.snapshot()
    assert sorted(await gateway.shown(2)) == ["besides", "the end"]
    await until(lambda: len(worker.settled) == 3)
    assert await gateway.turns() == ["done"]
    # The same words once more, as after another lost acknowledgement.
    worker.say(Finished(start.turn, "done", "the end"))
    assert await gateway.shown(2) == gateway.texts
    assert await gateway.inbox() == ["answered"]


async def test_an_open_question_waits_on_and_its_user_is_not_asked_again(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    first = await gateway.pool.ready()
    start = await first.accept()
    ask = Ask("a1", start.turn, "May I?", ASK, 60.0)
    first.say(ask)
    await gateway.shown(1)
    (worker,) = await gateway.taken_over()
    worker.snapshot(turn=start.turn, asks=(ask,))
    assert gateway.life() == "waiting"
    await gateway.say("/approve", chat="c1")
    await until(lambda: [message for message in worker.told if isinstance(message, Answer)])
    assert worker.told == [Answer("a1", "approve", "u1")]
    assert gateway.life() == "busy"
    worker.finish(start, "did it")
    await until(lambda: "did it" in gateway.texts)
    assert sum("May I?" in text for text in gateway.texts) == 1


@pytest.mark.parametrize("heard_of", [True, False])
async def test_an_answer_that_was_on_the_wire_reaches_the_worker_and_nobody_is_asked_again(
    gateway: Gateway, heard_of: bool
) -> None:
    """``heard_of``: whether the worker knows that its question is on disk."""
    await gateway.start()
    await gateway.say("one", chat="c1")
    first = await gateway.pool.ready()
    start = await first.accept()
    ask = Ask("a1", start.turn, "May I?", ASK, 60.0)
    first.say(ask)
    await gateway.shown(1)
    await gateway.say("/approve", chat="c1")
    await gateway.shown(2)
    (worker,) = await gateway.taken_over()
    if not heard_of:
        worker.say(ask)
    worker.snapshot(turn=start.turn, asks=(ask,))
    await until(lambda: worker.told == [Answer("a1", "approve", "u1")])
    assert gateway.life() == "busy"
    if not heard_of:
        await until(lambda: ask in worker.settled)
    worker.finish(start, "did it")
    assert "did it" in await gateway.shown(3)
    assert len([text for text in gateway.texts if "May I?" in text]) == 1
    assert worker.told == [Answer("a1", "approve", "u1")], "once"
    assert await gateway.rows("SELECT * FROM answers") == []


async def asked_and_taken_over(gateway: Gateway, *names: str) -> tuple[StartTurn, tuple[Ask, ...], Played]:
    """A turn whose user was asked by the hermesd before, in a worker that has not spoken to this one yet."""
    await gateway.start()
    await gateway.say("one", chat="c1")
    first = await gateway.pool.ready()
    start = await first.accept()
    asks = tuple(Ask(name, start.turn, f"May I {name}?", ASK, 60.0) for name in names)
    for ask in asks:
        first.say(ask)
    await gateway.shown(len(asks))
    (worker,) = await gateway.taken_over()
    return start, asks, worker


def press(ask: str, choice: str = "approve", user: str = "u1") -> Press:
    return Press("fake", "c1", "m", user, ask, choice)


async def test_a_press_before_the_worker_has_spoken_is_what_its_user_has_decided(gateway: Gateway) -> None:
    start, asks, worker = await asked_and_taken_over(gateway, "a1", "a2")
    for wrong in (press("a1", "perhaps"), press("a3"), press("a1", user="stranger")):
        assert not (await gateway.reception.pressed(wrong)).taken
    assert await gateway.reception.pressed(press("a1")) == Pressed(True, "approve, by u1")
    assert await gateway.reception.pressed(press("a1", "deny")) == Pressed(False, words.QUESTION_IS_OVER)
    assert worker.told == []
    # It is on disk: the next hermesd knows it as well.
    (worker,) = await gateway.taken_over()
    worker.snapshot(turn=start.turn, asks=asks)
    assert worker.told == [Answer("a1", "approve", "u1")]
    assert gateway.life() == "waiting"
    assert (await gateway.reception.pressed(replace(press("a2", "den"), number=1))).taken
    await until(lambda: worker.told[1:] == [Answer("a2", "deny", "u1")])
    worker.finish(start, "did it")
    assert "did it" in await gateway.shown(3)
    assert not (await gateway.reception.pressed(press("a2"))).taken


async def test_of_two_who_press_before_the_worker_has_spoken_one_counts(gateway: Gateway) -> None:
    start, asks, worker = await asked_and_taken_over(gateway, "a1")
    presses = (replace(press("a1", "?"), number=number) for number in range(2))
    taken = [pressed.taken for pressed in await asyncio.gather(*map(gateway.reception.pressed, presses))]
    assert sorted(taken) == [False, True]
    worker.snapshot(turn=start.turn, asks=asks)
    assert worker.told == [Answer("a1", ASK[taken.index(True)], "u1")]


async def test_a_press_while_the_worker_speaks_reaches_it_once(gateway: Gateway) -> None:
    start, asks, worker = await asked_and_taken_over(gateway, "a1")
    pressing = asyncio.ensure_future(gateway.reception.pressed(press("a1")))
    await asyncio.sleep(0)
    worker.snapshot(turn=start.turn, asks=asks)
    assert (await pressing).taken
    await until(lambda: worker.told)
    assert worker.told == [Answer("a1", "approve", "u1")]
    assert gateway.life() == "busy"


async def test_a_command_answers_the_oldest_question_before_the_worker_has_spoken(gateway: Gateway) -> None:
    start, asks, worker = await asked_and_taken_over(gateway, "a1", "a2")
    await gateway.say("/approve", chat="c1")
    await gateway.say("/deny", chat="c1")
    assert (await gateway.shown(4))[2:] == ["Answered: approve.", "Answered: deny."]
    await gateway.say("/deny", chat="c1")
    assert (await gateway.shown(5))[4:] == ["Nothing waits for an answer."]
    worker.snapshot(turn=start.turn, asks=asks)
    assert worker.told == [Answer("a1", "approve", "u1"), Answer("a2", "deny", "u1")]
    assert gateway.life() == "busy"


async def test_nobody_is_told_that_an_answer_counts_whose_worker_has_died(gateway: Gateway) -> None:
    _, _, worker = await asked_and_taken_over(gateway, "a1")
    worker.gone(-9)
    assert not (await gateway.reception.pressed(press("a1"))).taken


async def test_a_second_question_of_an_adopted_turn_waits_while_the_first_is_answered(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    first = await gateway.pool.ready()
    start = await first.accept()
    asks = tuple(Ask(name, start.turn, f"May I {name}?", ASK, 60.0) for name in ("a1", "a2"))
    for ask in asks:
        first.say(ask)
    await gateway.shown(2)
    await gateway.say("/approve", chat="c1")
    await gateway.shown(3)
    (worker,) = await gateway.taken_over()
    worker.snapshot(turn=start.turn, asks=asks)
    assert worker.told == [Answer("a1", "approve", "u1")]
    assert gateway.life() == "waiting"
    await gateway.say("/deny", chat="c1")
    await until(lambda: worker.told[1:] == [Answer("a2", "deny", "u1")])


async def test_a_question_that_was_not_on_disk_is_asked_once_although_the_snapshot_has_it_too(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    start = await (await gateway.pool.ready()).accept()
    ask = Ask("a1", start.turn, "May I?", ASK, 60.0)
    (worker,) = await gateway.taken_over()
    worker.say(ask)
    worker.snapshot(turn=start.turn, asks=(ask,))
    assert len(await gateway.shown(1)) == 1
    await until(lambda: ask in worker.settled)
    assert gateway.life() == "waiting"
    await gateway.say("/deny", chat="c1")
    await until(lambda: worker.told == [Answer("a1", "deny", "u1")])
    assert gateway.life() == "busy"


async def test_a_session_never_gets_a_second_worker_also_while_the_first_is_silent(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    start = await (await gateway.pool.ready()).accept()
    await gateway.say("two", chat="c1")
    (worker,) = await gateway.taken_over()
    await gateway.say("three", chat="c1")
    assert gateway.life() == "busy"
    worker.snapshot(turn=start.turn)
    worker.finish(start, "1")
    for text in ("2", "3"):
        await worker.answer(text)
    assert await gateway.shown(3) == ["1", "2", "3"]
    assert gateway.pool.most_alive == 0
    assert gateway.pool.all == [worker], "no worker was started"


async def test_an_idle_worker_takes_the_next_message_before_its_hello(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    await (await gateway.pool.ready()).answer("1")
    await gateway.shown(1)
    (worker,) = await gateway.taken_over()
    assert gateway.life() == "idle"
    await gateway.say("two", chat="c1")
    start = await worker.turn()
    worker.snapshot()  # it had not heard of the turn when it wrote this
    assert worker.told.count(start) == 2
    worker.taken += 1
    await worker.answer("2")
    assert (await gateway.shown(2))[-1] == "2"


async def test_a_stop_before_the_hello_reaches_the_turn(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    start = await (await gateway.pool.ready()).accept()
    (worker,) = await gateway.taken_over()
    await gateway.say("/stop", chat="c1")
    await until(worker.interrupts)
    worker.snapshot(turn=start.turn)
    worker.has(worker.interrupts()[0])
    worker.finish(start, "", "interrupted")
    assert words.interrupted("") in await gateway.shown(1)


async def test_a_stop_of_a_turn_that_the_worker_never_had_comes_after_the_turn(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    start = await (await gateway.pool.ready()).turn()
    (worker,) = await gateway.taken_over()
    await gateway.say("/stop", chat="c1")
    await until(worker.interrupts)
    worker.told.clear()
    worker.snapshot()
    assert [type(message).__name__ for message in worker.told] == ["StartTurn", "Interrupt"]
    worker.has(worker.interrupts()[0])
    worker.finish(start, "", "interrupted")
    await until(lambda: gateway.life() == "idle")


async def test_a_worker_that_died_meanwhile_ends_its_turn_as_any_other(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    await (await gateway.pool.ready()).accept()
    (worker,) = await gateway.taken_over()
    worker.gone(-9)
    (told,) = await gateway.shown(1)
    assert told == words.lost("killed by SIGKILL")
    assert await gateway.inbox() == ["lost"]
    assert await gateway.rows("SELECT * FROM workers WHERE worker = ?", worker.worker.id) == []


async def test_a_worker_without_its_session_is_ended_and_another_one_answers(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    first = await gateway.pool.worker()
    await until(lambda: first.worker.session)
    (worker,) = await gateway.taken_over()
    worker.snapshot(session_key="", session_id="", ready=False)
    await until(lambda: worker.stopped)
    other = await gateway.pool.ready(2)
    await other.answer("1")
    assert await gateway.shown(1) == ["1"]


async def test_a_message_whose_worker_is_gone_is_told_as_lost(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    await (await gateway.pool.ready()).accept()
    await gateway.again()
    assert await gateway.shown(1) == [words.lost_with_hermesd()]


async def test_every_worker_with_a_session_is_on_disk_for_as_long_as_it_lives(gateway: Gateway) -> None:
    await gateway.start()
    await gateway.say("one", chat="c1")
    worker = await gateway.pool.ready()
    await worker.turn()
    ((name, key, wire_name, proof),) = await gateway.rows("SELECT worker, session_key, wire_name, proof FROM workers")
    assert (name, key) == (worker.worker.id, "agent:main:fake:dm:c1")
    assert wire_name == worker.worker.identity.decode()
    assert proof == worker.worker.proof
    worker.gone(0)
    await gateway.journal.write(workers.forget, "the next write comes after those before it")
    # Its session gets another worker after a pause, perhaps by now.
    assert await gateway.rows("SELECT * FROM workers WHERE worker = ?", name) == []


@pytest.mark.parametrize("outcome", ["done", "failed"])
async def test_what_a_turn_has_taken_before_is_not_handed_to_it_twice_and_goes_by_its_end(
    gateway: Gateway, outcome: str
) -> None:
    gateway.busy = BusyMode.STEER
    await gateway.start()
    await gateway.say("one", chat="c1")
    first = await gateway.pool.ready()
    start = await first.accept()
    await gateway.hand_over("left", first, start)
    (worker,) = await gateway.taken_over()
    worker.snapshot(turn=start.turn)
    worker.finish(start, "the end", outcome)
    if outcome == "failed":
        assert (await worker.answer("re left")).text == "left"
    await gateway.shown(2 if outcome == "done" else 3)
    assert await gateway.inbox() == ["answered" if outcome == "done" else "failed", "answered"]
    assert not [message for message in worker.told if isinstance(message, Steer)]


async def test_what_a_turn_had_taken_that_went_with_its_worker_is_answered_by_another(gateway: Gateway) -> None:
    gateway.busy = BusyMode.STEER
    await gateway.start()
    await gateway.say("one", chat="c1")
    first = await gateway.pool.ready()
    start = await first.accept()
    await gateway.hand_over("left", first, start)
    await gateway.again()
    second = await gateway.pool.ready()
    assert (await second.answer("re left")).text == "left"
    await gateway.shown(3)
    assert await gateway.inbox() == ["lost", "answered"]


async def test_a_turn_that_was_taken_over_has_the_text_that_its_agent_was_given(gateway: Gateway) -> None:
    await gateway.start()
    group = {"chat": "g1", "chat_type": "group", "thread": "shared", "user_name": "Ann", "reply_text": "which way?"}
    await gateway.say("left", **group)
    lost = await (await gateway.pool.ready()).turn()
    assert lost.text == '[In reply to: "which way?"]\n[Ann] left'
    (worker,) = await gateway.taken_over()
    worker.snapshot()
    assert (await worker.answer("here I am")).text == lost.text
    await gateway.shown(1)
    assert await gateway.rows("SELECT text FROM transcripts ORDER BY seq") == [(lost.text,), ("here I am",)]
