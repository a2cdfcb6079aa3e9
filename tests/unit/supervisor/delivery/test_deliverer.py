"""From the outbox to the platform: in order, once, and visibly where that is not certain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from harness import skipping
from harness.skipping import HeldJournal, SkippingLoop

from hermesd.adapters.contract import Adapter, Capabilities, Outbound, Rate, Sent, Target
from hermesd.adapters.errors import Gone, Rejected, Retry, Unattended, Unauthorized, Uncertain
from hermesd.supervisor.delivery import absence
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN, Deliverer
from hermesd.supervisor.journal import Journal, outbox
from hermesd.supervisor.journal.errors import IllegalTransition
from hermesd.supervisor.tasks import Tasks

ANN, BOB = Target("fake", "ann"), Target("fake", "bob")


postponed = outbox.postponed


class Platform:
    """Takes messages; ``answers`` is what the next sends come to."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.answers: list[Exception] = []
        self.on_answer: Callable[[], Any] = lambda: None
        self.open = asyncio.Event()
        self.open.set()
        self.facts = Capabilities()

    def capabilities(self, target: Target) -> Capabilities:
        return self.facts

    async def send(self, target: Target, message: Outbound) -> Sent:
        if target.chat_id == "slow":
            await self.open.wait()
        if self.answers:
            self.on_answer()
            raise self.answers.pop(0)
        self.texts.append(message.text)
        return Sent(f"p{len(self.texts)}")


class Scene:
    def __init__(self, path: Path, loop: SkippingLoop | None = None):
        self.platform = Platform()
        self.adapters: dict[str, Any] = {"fake": self.platform}
        self.tasks = Tasks(lambda name, error: None)
        self.journal = Journal(path / "state.db") if loop is None else HeldJournal(path / "state.db", loop)
        self.deliverer = Deliverer(self.journal, self.adapters, self.tasks)
        self.count = 0

    async def close(self) -> None:
        await self.tasks.close()
        await self.journal.close()

    async def say(self, text: str, target: Target = ANN) -> None:
        self.count += 1
        await self.deliverer.say(target, Outbound(f"k{self.count}", text))

    async def states(self) -> list[tuple[Any, ...]]:
        return await self.journal.read(
            lambda connection: [
                tuple(row) for row in connection.execute("SELECT state, error, attempts FROM outbox ORDER BY id")
            ]
        )

    async def until_sent(self, count: int) -> None:
        async with asyncio.timeout(30.0):
            while [state for state, _, _ in await self.states()].count("sent") < count:
                await asyncio.sleep(0)

    async def idle(self) -> None:
        assert await self.deliverer.wait_idle(30.0)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    await made.journal.open()
    yield made
    await made.close()


def in_no_time(path: Path, work: Callable[[Scene, SkippingLoop], Coroutine[Any, Any, None]]) -> None:
    """``work`` where waiting takes no time, and neither the disk nor a busy machine is slow."""

    async def scenario(loop: SkippingLoop) -> None:
        scene = Scene(path, loop)
        await scene.journal.open()
        await work(scene, loop)
        await scene.close()

    skipping.run(scenario)


async def test_the_order_of_a_chat_is_kept(scene: Scene) -> None:
    for text in "abc":
        await scene.say(text)
    await scene.idle()
    assert scene.platform.texts == ["a", "b", "c"]
    assert await scene.states() == [("sent", "", 1)] * 3


async def test_a_slow_chat_does_not_hold_up_another(scene: Scene) -> None:
    scene.platform.open.clear()
    await scene.say("slow", Target("fake", "slow"))
    await scene.say("quick", BOB)
    while scene.platform.texts != ["quick"]:
        await asyncio.sleep(0)
    assert not await scene.deliverer.wait_idle(0.0)
    scene.platform.open.set()
    await scene.idle()


async def test_what_is_to_be_tried_again_keeps_its_place(scene: Scene) -> None:
    scene.platform.answers = [Retry("flood", after=0.01), Retry("flood", after=0.01)]
    await scene.say("a")
    await scene.say("b")
    await scene.idle()
    assert scene.platform.texts == ["a", "b"]
    assert [attempts for _, _, attempts in await scene.states()] == [3, 1]


@pytest.mark.parametrize("error", [Gone("no chat"), Rejected("no")])
async def test_what_the_platform_will_never_take_fails_and_the_next_one_goes_on(scene: Scene, error: Exception) -> None:
    scene.platform.answers = [error]
    await scene.say("a")
    await scene.say("b")
    await scene.idle()
    assert scene.platform.texts == ["b"]
    assert (await scene.states())[0] == ("failed", str(error), 1)


async def test_what_a_platform_refuses_because_of_who_we_are_waits_in_order_until_it_is_up_again(scene: Scene) -> None:
    told: list[tuple[str, str]] = []
    scene.deliverer = Deliverer(
        scene.journal, scene.adapters, scene.tasks, on_denied=lambda name, error: told.append((name, str(error)))
    )
    scene.platform.answers = [Unauthorized("M_UNKNOWN_TOKEN")]
    await scene.say("a")
    await scene.say("b")
    async with asyncio.timeout(30.0):
        while not told:
            await asyncio.sleep(0)
    assert told == [("fake", "M_UNKNOWN_TOKEN")]
    assert not await scene.deliverer.wait_idle(0.0)
    assert scene.platform.texts == []
    assert await scene.states() == [("pending", "M_UNKNOWN_TOKEN", 1), ("pending", "", 0)]
    await scene.deliverer.platform_up("other")
    assert scene.platform.texts == []
    await scene.deliverer.platform_up("fake")
    await scene.idle()
    assert scene.platform.texts == ["a", "b"]
    assert [state for state, _, _ in await scene.states()] == ["sent", "sent"]


async def test_a_fault_of_the_adapter_is_ambiguous_and_not_repeated_in_this_life(scene: Scene) -> None:
    scene.platform.answers = [ValueError("oops")]
    await scene.say("a")
    await scene.say("b")
    await scene.idle()
    assert [state for state, _, _ in await scene.states()] == ["ambiguous", "sent"]
    assert scene.platform.texts == ["b"]


async def test_what_is_for_a_platform_that_is_not_up_waits_for_a_later_start(scene: Scene) -> None:
    await scene.say("a", Target("telegram", "c"))
    await scene.idle()
    assert await scene.states() == [("pending", "", 0)]


async def test_a_platform_that_messages_wait_for_is_told_of(scene: Scene) -> None:
    missing: list[str] = []
    scene.deliverer = Deliverer(scene.journal, scene.adapters, scene.tasks, on_missing=missing.append)
    await scene.say("now", Target("elsewhere", "ann"))
    await scene.idle()
    assert missing == ["elsewhere"]
    await scene.deliverer.recover()
    await scene.deliverer.take_up()
    assert missing == ["elsewhere"] * 2


async def test_the_same_message_again_is_not_sent_again(scene: Scene) -> None:
    await scene.deliverer.say(ANN, Outbound("k", "a"))
    await scene.idle()
    await scene.deliverer.say(ANN, Outbound("k", "a"))
    await scene.idle()
    assert scene.platform.texts == ["a"]


async def test_a_row_that_is_not_what_it_seems_does_not_stop_its_chat(scene: Scene) -> None:
    row = await scene.journal.write(outbox.add, ANN, Outbound("k", "a"), time.time())
    await scene.journal.write(outbox.failed, row.id, "meanwhile", time.time())
    scene.deliverer.deliver([row])
    await scene.say("b")
    await scene.idle()
    assert scene.platform.texts == ["b"]


@pytest.mark.parametrize("then", [[], [Retry("flood", after=0.01)], [Uncertain("cut", after=0.01)]])
async def test_a_call_that_was_cut_goes_again_with_a_mark_that_stays(scene: Scene, then: list[Exception]) -> None:
    scene.platform.answers = [Uncertain("cut", after=0.01), *then]
    await scene.say("a")
    await scene.say("b")
    await scene.idle()
    assert scene.platform.texts == [f"{PERHAPS_AGAIN}\n\na", "b"]
    assert [state for state, _, _ in await scene.states()] == ["sent", "sent"]


class TestParts:
    async def test_a_message_goes_out_in_parts_each_with_a_row_of_its_own(self, scene: Scene) -> None:
        scene.platform.facts = Capabilities(max_length=60)
        scene.platform.answers = [Retry("flood", after=0.01)]
        await scene.say("one two three " * 10)
        await scene.say("behind it")
        await scene.idle()
        assert [text[-5:] for text in scene.platform.texts] == ["(1/3)", "(2/3)", "(3/3)", "nd it"]
        assert {attempts for _, _, attempts in await scene.states()} == {1, 2}

    async def test_one_that_was_said_while_the_platform_was_down_is_cut_when_it_is_up(self, scene: Scene) -> None:
        del scene.adapters["fake"]
        for text in ("word " * 20, "behind it"):
            await scene.say(text)
        await scene.idle()
        assert [state for state, _, _ in await scene.states()] == ["pending"] * 2
        scene.platform.facts = Capabilities(max_length=60)
        scene.adapters["fake"] = scene.platform
        await scene.deliverer.platform_up("fake")
        await scene.idle()
        assert [text[-5:] for text in scene.platform.texts] == ["(1/2)", "(2/2)", "nd it"]

    async def test_the_parts_that_were_left_go_out_before_what_came_after_them(self, scene: Scene) -> None:
        rows = [await scene.journal.write(outbox.add, ANN, Outbound(key, key), 1.0) for key in ("a", "b")]
        parts = [(Outbound(key, key), "") for key in ("a", "a:2", "a:3")]
        first, *_ = await scene.journal.write(outbox.cut, rows[0].id, parts, 1.0)
        await scene.journal.write(outbox.sending, first.id, 1.0)
        await scene.journal.write(outbox.sent, first.id, "p1", 1.0)
        await scene.deliverer.recover()
        await scene.deliverer.take_up()
        await scene.idle()
        assert scene.platform.texts == ["a:2", "a:3", "b"]

    async def test_a_message_is_watched_until_its_last_part(self, scene: Scene) -> None:
        scene.platform.facts = Capabilities(max_length=60)
        row = await scene.journal.write(outbox.add, ANN, Outbound("k", "word " * 20), time.time())
        over = scene.deliverer.watch(row)
        scene.deliverer.deliver([row])
        await over
        assert len(scene.platform.texts) == 2

    async def test_files_that_cannot_be_looked_at_do_not_cost_the_text(self, scene: Scene) -> None:
        await scene.say("Here.\nMEDIA:/tmp/" + "x" * 300 + ".png")
        await scene.idle()
        assert scene.platform.texts[0].startswith("Here.\n[file x")
        assert "File name too long" in scene.platform.texts[0]


class TestParking:
    async def test_chats_that_wait_are_timers_and_no_tasks(self, scene: Scene) -> None:
        count = 1000
        scene.platform.answers = [Retry("flood", after=3600.0) for _ in range(count)]
        before = asyncio.all_tasks()
        for number in range(count):
            scene.deliverer.say_soon(Target("fake", f"c{number}"), Outbound(f"k{number}", "x"))
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.01)
        assert await scene.states() == [("pending", "flood", 1)] * count
        assert not await scene.deliverer.wait_idle(0.0)
        await scene.deliverer.say(Target("fake", "c7"), Outbound("behind", "behind"))
        assert asyncio.all_tasks() == before, "what waits in a parked chat wakes nobody"
        [(row,)] = await scene.journal.read(
            lambda connection: [tuple(row) for row in connection.execute("SELECT id FROM outbox WHERE key = 'k7'")]
        )
        await scene.deliverer.drop(row, "by somebody")
        while not scene.platform.texts:
            await asyncio.sleep(0.001)
        assert scene.platform.texts == ["behind"]

    def test_a_chat_waits_for_its_rate(self, tmp_path: Path) -> None:
        async def work(scene: Scene, loop: SkippingLoop) -> None:
            scene.platform.facts = Capabilities(chat_rate=Rate(2, 100.0))
            began = loop.time()
            for text in "abcde":
                await scene.say(text)
            await scene.say("other", BOB)
            assert await scene.deliverer.wait_idle(1000.0)
            assert loop.time() - began >= 200.0
            assert [text for text in scene.platform.texts if text != "other"] == list("abcde")
            assert scene.platform.texts.index("other") <= 3, "another chat does not wait for it"

        in_no_time(tmp_path, work)

    def test_all_chats_wait_for_the_platform_s_rate_in_their_order(self, tmp_path: Path) -> None:
        async def work(scene: Scene, loop: SkippingLoop) -> None:
            scene.platform.facts = Capabilities(overall_rate=Rate(2, 100.0))
            began = loop.time()
            for number in range(6):
                await scene.say(str(number), Target("fake", f"c{number}"))
            assert await scene.deliverer.wait_idle(1000.0)
            assert loop.time() - began >= 200.0
            assert scene.platform.texts == list("012345")

        in_no_time(tmp_path, work)

    def test_a_chat_that_is_closed_after_its_token_was_booked_is_not_called(self, tmp_path: Path) -> None:
        async def work(scene: Scene, loop: SkippingLoop) -> None:
            scene.platform.facts = Capabilities(overall_rate=Rate(1, 100.0))
            for text, target in (("a", ANN), ("b", BOB)):
                await scene.say(text, target)
            while [state for state, _, _ in await scene.states()] != ["sent", "pending"]:
                await asyncio.sleep(0)
            scene.deliverer.heed(BOB, Retry("flood", after=300.0, flood=True))
            while scene.deliverer.closed_for(BOB) > 10.0:
                assert scene.platform.texts == ["a"]
                await asyncio.sleep(5.0)
            assert await scene.deliverer.wait_idle(1000.0)
            assert scene.platform.texts == ["a", "b"]

        in_no_time(tmp_path, work)

    async def test_a_chat_is_closed_before_what_was_said_is_on_disk(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[float] = []
        loop = asyncio.get_running_loop()

        def looked(*row: Any) -> None:
            closed.append(scene.deliverer._rates["fake"].closed_for("ann", loop.time()))
            postponed(*row)

        monkeypatch.setattr(outbox, "postponed", looked)
        scene.platform.answers = [Retry("flood", after=3600.0)]
        await scene.say("a")
        async with asyncio.timeout(30.0):
            while not closed:
                await asyncio.sleep(0.001)
        assert closed[0] > 0

    async def test_an_adapter_s_fault_in_its_facts_does_not_stop_the_chat(self, scene: Scene) -> None:
        await scene.say("before")
        await scene.idle()
        facts = scene.platform.capabilities
        scene.platform.capabilities = None  # type: ignore[assignment, method-assign]
        await scene.say("a")
        await scene.idle()
        scene.platform.capabilities = facts  # type: ignore[method-assign]
        await scene.say("b")
        await scene.idle()
        assert scene.platform.texts == ["before", "b"]
        assert [state for state, _, _ in await scene.states()] == ["sent", "pending", "sent"]


class TestOrders:
    async def test_a_failed_one_is_sent_again(self, scene: Scene) -> None:
        scene.platform.answers = [Rejected("no")]
        await scene.say("a")
        await scene.idle()
        await scene.deliverer.retry(1)
        await scene.idle()
        assert scene.platform.texts == ["a"]
        assert await scene.states() == [("sent", "", 2)]

    async def test_an_ambiguous_one_is_sent_again_with_a_mark(self, scene: Scene) -> None:
        scene.platform.answers = [ValueError("oops")]
        await scene.say("a")
        await scene.idle()
        assert (await scene.deliverer.retry(1)).uncertain
        await scene.idle()
        assert scene.platform.texts == [f"{PERHAPS_AGAIN}\n\na"]

    async def test_one_that_failed_after_it_was_cut_keeps_its_mark(self, scene: Scene) -> None:
        scene.platform.answers = [Uncertain("cut", after=0.0), Rejected("no")]
        await scene.say("a")
        await scene.idle()
        assert [state for state, _, _ in await scene.states()] == ["failed"]
        await scene.deliverer.retry(1)
        await scene.idle()
        assert scene.platform.texts == [f"{PERHAPS_AGAIN}\n\na"]

    async def test_one_that_was_sent_is_not_sent_again(self, scene: Scene) -> None:
        await scene.say("a")
        await scene.idle()
        with pytest.raises(IllegalTransition):
            await scene.deliverer.retry(1)
        with pytest.raises(IllegalTransition):
            await scene.deliverer.drop(1, "by somebody")

    async def test_one_that_is_given_up_holds_nobody_behind_it_up(self, scene: Scene) -> None:
        scene.platform.answers = [Retry("flood", after=3600.0)]
        await scene.say("a")
        await scene.say("b")
        while (await scene.states())[0] != ("pending", "flood", 1):
            assert not scene.platform.texts
        await scene.deliverer.drop(1, "by somebody")
        await scene.idle()
        assert scene.platform.texts == ["b"]
        assert (await scene.states())[0] == ("dropped", "by somebody", 1)

    async def test_one_that_is_given_up_before_its_turn_is_left_out(self, scene: Scene) -> None:
        scene.platform.open.clear()
        slow = Target("fake", "slow")
        for text in "abc":
            await scene.say(text, slow)
        await scene.deliverer.drop(2, "by somebody")
        scene.platform.open.set()
        await scene.idle()
        assert scene.platform.texts == ["a", "c"]


NOBODY = "nobody is attached"


class TestAbsence:
    async def test_what_nobody_looks_at_waits_and_goes_in_order_when_somebody_does(self, scene: Scene) -> None:
        scene.platform.answers = [Unattended(NOBODY), Unattended(NOBODY)]
        await scene.say("a")
        await scene.say("b")
        await scene.idle()
        await scene.say("other", BOB)
        await scene.idle()
        assert await scene.states() == [("waiting", NOBODY, 1), ("waiting", NOBODY, 1), ("sent", "", 1)]
        scene.deliverer.attended(ANN)
        await scene.say("c")
        await scene.until_sent(4)
        assert scene.platform.texts == ["other", "a", "b", "c"]

    async def test_what_is_in_the_lane_when_somebody_comes_goes_after_what_waited(self, scene: Scene) -> None:
        slow = Target("fake", "slow")
        scene.platform.answers = [Unattended(NOBODY), Unattended(NOBODY)]
        await scene.say("a", slow)
        await scene.idle()
        scene.platform.open.clear()
        for text in "bcd":
            await scene.say(text, slow)
        # Nobody is there for b, and then somebody comes, before the disk has that b waits.
        scene.platform.on_answer = lambda: asyncio.get_running_loop().call_soon(scene.deliverer.attended, slow)
        scene.platform.open.set()
        await scene.until_sent(4)
        assert scene.platform.texts == ["a", "b", "c", "d"]

    async def test_two_who_come_at_once_get_each_message_once(self, scene: Scene) -> None:
        scene.platform.answers = [Unattended(NOBODY)]
        await scene.say("a")
        await scene.idle()
        scene.deliverer.attended(ANN)
        scene.deliverer.attended(ANN)
        await scene.say("b")
        await scene.until_sent(2)
        assert scene.platform.texts == ["a", "b"]

    async def test_a_chat_keeps_so_many_of_them(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(absence, "KEPT", 2)
        scene.platform.answers = [Unattended(NOBODY) for _ in range(3)]
        for text in "abc":
            await scene.say(text)
        await scene.idle()
        assert [state for state, _, _ in await scene.states()] == ["dropped", "waiting", "waiting"]

    async def test_one_that_waits_can_be_given_up_and_not_be_retried(self, scene: Scene) -> None:
        scene.platform.answers = [Unattended(NOBODY)]
        await scene.say("a")
        await scene.idle()
        with pytest.raises(IllegalTransition):
            await scene.deliverer.retry(1)
        await scene.deliverer.drop(1, "by somebody")
        scene.deliverer.attended(ANN)
        await scene.say("b")
        await scene.until_sent(1)
        assert scene.platform.texts == ["b"]


class TestRecovery:
    async def test_what_is_new_waits_for_what_is_older(self, scene: Scene) -> None:
        for text in ("old one", "old two"):
            await scene.journal.write(outbox.add, ANN, Outbound(text, text), time.time())
        await scene.deliverer.recover()
        await scene.say("new")
        assert not scene.platform.texts
        await scene.deliverer.take_up()
        await scene.idle()
        assert scene.platform.texts == ["old one", "old two", "new"]

    async def test_all_that_waited_goes_out_in_order(self, scene: Scene) -> None:
        for number in range(3):
            for target in (ANN, BOB):
                key = f"{target.chat_id}{number}"
                await scene.journal.write(outbox.add, target, Outbound(key, key), time.time())
        await scene.deliverer.recover()
        await scene.deliverer.take_up()
        await scene.idle()
        assert [text for text in scene.platform.texts if "ann" in text] == ["ann0", "ann1", "ann2"]
        assert [text for text in scene.platform.texts if "bob" in text] == ["bob0", "bob1", "bob2"]

    async def test_what_was_being_sent_goes_again_first_and_says_so(self, scene: Scene) -> None:
        row = await scene.journal.write(outbox.add, ANN, Outbound("k", "a"), time.time())
        await scene.journal.write(outbox.sending, row.id, time.time())
        await scene.journal.write(outbox.add, ANN, Outbound("k2", "b"), time.time())
        await scene.deliverer.recover()
        await scene.deliverer.take_up()
        await scene.idle()
        first, second = scene.platform.texts
        assert first != "a"
        assert "a" in first
        assert second == "b"
        assert [state for state, _, _ in await scene.states()] == ["sent", "sent"]

    async def test_what_was_postponed_waits_for_its_time(self, scene: Scene) -> None:
        row = await scene.journal.write(outbox.add, ANN, Outbound("k", "a"), time.time())
        await scene.journal.write(outbox.sending, row.id, time.time())
        due = time.time() + 0.05
        await scene.journal.write(outbox.postponed, row.id, due, "flood", time.time())
        await scene.deliverer.recover()
        await scene.deliverer.take_up()
        await scene.idle()
        assert scene.platform.texts == ["a"]
        assert time.time() >= due

    async def test_a_platform_that_is_missing_keeps_its_rows(self, scene: Scene) -> None:
        await scene.journal.write(outbox.add, Target("telegram", "c"), Outbound("k", "a"), time.time())
        await scene.deliverer.recover()
        await scene.deliverer.take_up()
        await scene.idle()
        assert await scene.states() == [("pending", "", 0)]

    async def test_what_is_on_its_way_already_goes_once(self, scene: Scene) -> None:
        scene.platform.open.clear()
        await scene.say("slow", Target("fake", "slow"))
        await scene.deliverer.recover()
        await scene.deliverer.take_up()
        scene.platform.open.set()
        await scene.idle()
        assert scene.platform.texts == ["slow"]


def test_the_platform_of_this_test_sends_as_an_adapter_does() -> None:
    assert Platform.send.__annotations__ == Adapter.send.__annotations__
    assert Platform.capabilities.__annotations__ == Adapter.capabilities.__annotations__
