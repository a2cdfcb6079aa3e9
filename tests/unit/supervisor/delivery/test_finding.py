"""A platform that can be asked whether a message arrived is asked before one goes again whose call was cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness.delivery_life import DeliveryLife

from hermesd.adapters.contract import Capabilities, Outbound, Sent, Target
from hermesd.adapters.errors import AdapterError, Gone, Retry, Unauthorized, Uncertain
from hermesd.supervisor.delivery import attempt as attempts
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN
from hermesd.supervisor.journal import outbox

TARGET = Target("fake", "ann", reply_to="m1")
MARKED = f"{PERHAPS_AGAIN}\n\nhello"


@dataclass
class Platform:
    """``found``: what looking comes to, the last one for ever."""

    sent: list[str] = field(default_factory=list)
    trouble: list[Exception] = field(default_factory=list)  # of the next sends
    found: list[str | Exception | None] = field(default_factory=lambda: [None])
    asked: list[tuple[list[str], float, set[str]]] = field(default_factory=list)

    def capabilities(self, target: Target) -> Capabilities:
        return Capabilities()

    async def send(self, target: Target, message: Outbound) -> Sent:
        if self.trouble:
            raise self.trouble.pop(0)
        self.sent.append(message.text)
        return Sent(f"p{len(self.sent)}")

    async def edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        raise Gone("it is not there any more")

    async def find(
        self, target: Target, forms: Sequence[Outbound], *, since: float, others: Collection[str]
    ) -> str | None:
        self.asked.append(([form.text for form in forms], since, set(others)))
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(found, Exception):
            raise found
        return found


class Life(DeliveryLife[Platform]):
    async def say(self, text: str, key: str = "k") -> None:
        await self.deliverer.say(TARGET, Outbound(key, text))
        assert await self.deliverer.wait_idle(30.0)

    async def rows(self) -> list[tuple[str, str, str]]:
        return await self.journal.read(
            lambda connection: [
                tuple(row)
                for row in connection.execute("SELECT state, platform_message_id, error FROM outbox ORDER BY id")
            ]
        )


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
async def life(tmp_path: Path, platform: Platform) -> AsyncIterator[Life]:
    made = await Life(tmp_path, platform).begin()
    yield made
    await made.end()


async def test_one_that_arrived_is_not_sent_again(life: Life, platform: Platform) -> None:
    begun = time.time()
    await life.say("before", "k0")
    platform.trouble, platform.found = [Uncertain("cut", after=0.01)], ["p7"]
    await life.say("hello")
    assert platform.sent == ["before"]
    assert (await life.rows())[1] == ("sent", "p7", "")
    [(forms, since, others)] = platform.asked
    assert (forms, others) == (["hello", MARKED], {"p1"})
    assert begun <= since <= time.time()


async def test_one_that_did_not_arrive_goes_again_without_a_mark(life: Life, platform: Platform) -> None:
    platform.trouble = [Uncertain("cut", after=0.01)]
    await life.say("hello")
    assert platform.sent == ["hello"]


@pytest.mark.parametrize("fault", [Uncertain("may not look"), KeyError("a bug")])
async def test_where_nobody_can_tell_it_goes_with_a_mark_and_holds_nothing_up(
    life: Life, platform: Platform, fault: Exception
) -> None:
    platform.trouble, platform.found = [Uncertain("cut", after=0.01)], [fault]
    await life.say("hello")
    await life.say("behind", "k2")
    assert platform.sent == [MARKED, "behind"]
    assert len(platform.asked) == 1


@pytest.mark.parametrize("fault", [Retry("503", after=0.01), Unauthorized("token")])
async def test_where_it_cannot_be_asked_now_it_is_asked_later(
    life: Life, platform: Platform, monkeypatch: pytest.MonkeyPatch, fault: AdapterError
) -> None:
    monkeypatch.setattr(attempts, "DENIED_SECONDS", 0.01)
    platform.trouble, platform.found = [Uncertain("cut", after=0.01)], [fault, fault, None]
    await life.say("hello")
    assert platform.sent == ["hello"]
    assert len(platform.asked) == 3


async def test_where_its_chat_is_gone_it_fails(life: Life, platform: Platform) -> None:
    platform.trouble, platform.found = [Uncertain("cut", after=0.01)], [Gone("no channel")]
    await life.say("hello")
    [(state, _, error)] = await life.rows()
    assert (state, error.endswith("; no channel"), platform.sent) == ("failed", True, [])


@pytest.mark.parametrize("error", [Retry("limit", after=0.01), Unauthorized("token")])
async def test_one_that_certainly_did_not_arrive_is_not_looked_for(
    life: Life, platform: Platform, monkeypatch: pytest.MonkeyPatch, error: AdapterError
) -> None:
    monkeypatch.setattr(attempts, "DENIED_SECONDS", 0.01)
    platform.trouble = [error]
    await life.say("hello")
    await life.say("hello", "k2")
    assert (platform.sent, platform.asked) == (["hello"] * 2, [])


async def test_one_that_was_being_sent_when_hermesd_died_is_looked_for_by_the_next(
    tmp_path: Path, life: Life, platform: Platform
) -> None:
    row = await life.journal.write(outbox.add, TARGET, Outbound("k", "hello"), time.time() - 600)
    await life.journal.write(outbox.sending, row.id, time.time())
    await life.end()
    platform.found = ["p7"]
    second = await Life(tmp_path, platform).begin()
    assert await second.deliverer.wait_idle(30.0)
    assert (await second.rows(), platform.sent) == ([("sent", "p7", "")], [])
    assert platform.asked[0][1] == pytest.approx(time.time() - 600, abs=60)
    await second.end()


async def test_one_of_which_the_beginning_may_be_there_keeps_its_mark_over_a_death_whatever_is_found(
    tmp_path: Path, life: Life, platform: Platform
) -> None:
    """What may be there is not the message that would be looked for."""
    row = await life.journal.write(outbox.add, TARGET, Outbound("k", "hello"), time.time())
    await life.journal.write(outbox.doubt, row)
    await life.journal.write(outbox.sending, row.id, time.time())
    await life.end()
    platform.trouble = [Uncertain("cut", after=0.01)]
    second = await Life(tmp_path, platform).begin()
    assert await second.deliverer.wait_idle(30.0)
    assert (platform.sent, platform.asked) == ([MARKED], [])
    await second.end()


# ---- the beginning of an answer --------------------------------------------------------------------------------------


async def shown(life: Life, platform: Platform, tries: int) -> None:
    life.deliverer.stream(TARGET, "The answer, of which there is more", "t1")
    async with asyncio.timeout(30.0):
        while len(platform.sent) + len(platform.trouble) > tries or not await life.journal.read(
            lambda connection: connection.execute("SELECT 1 FROM progress").fetchall()
        ):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("found", "texts"),
    [
        ("p9", ["The answer, of which there is more than this."]),
        (None, ["The answer, of which there is more ▉", "The answer, of which there is more than this."]),
        (Uncertain("may not look"), [f"{PERHAPS_AGAIN}\n\nThe answer, of which there is more than this."]),
    ],
)  # fmt: skip
async def test_a_beginning_that_was_being_shown_is_looked_for(
    life: Life, platform: Platform, found: str | Exception | None, texts: list[str]
) -> None:
    platform.trouble, platform.found = [Uncertain("cut", after=60.0)], [found]
    await shown(life, platform, 0)
    await life.deliverer.say(TARGET, Outbound("t1:answer", texts[-1].split("\n\n")[-1]), turn="t1")
    assert await life.deliverer.wait_idle(30.0)
    assert platform.sent == texts
    assert len(platform.asked) == 1


async def test_a_fault_of_an_edit_says_nothing_of_a_message(life: Life, platform: Platform) -> None:
    """An edit that breaks in a way that nobody knows leaves the mark: there is no earlier try to look for."""

    async def broken(target: Target, message_id: str, message: Outbound) -> Sent:
        raise KeyError("a bug")

    platform.edit = broken  # type: ignore[method-assign]
    row = await life.journal.write(outbox.add, TARGET, Outbound("k", "hello"), time.time())
    await life.journal.write(outbox.cut, row.id, [(row.message, "p3")], time.time())
    life.deliverer.deliver([await life.journal.read(outbox.show, row.id)])
    assert await life.deliverer.wait_idle(30.0)
    assert (platform.sent, platform.asked) == ([MARKED], [])


async def test_the_ids_of_others_are_those_of_its_chat(life: Life, platform: Platform) -> None:
    await life.say("one", "k1")
    await life.deliverer.say(Target("fake", "ben"), Outbound("k2", "two"))
    await life.say("three", "k3")
    assert await life.journal.read(outbox.ids_of_others, TARGET, 1) == {"p3"}
    assert await life.journal.read(outbox.ids_of_others, TARGET) == {"p1", "p3"}
