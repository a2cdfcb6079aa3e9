"""An answer that hermesd was sending when it died: it goes again, and says that it may be a repetition."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hermesd.adapters.contract import AdapterSettings, Inbound, Outbound, Target
from hermesd.adapters.fake import FakeAdapter
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN, Deliverer
from hermesd.supervisor.journal import Journal, outbox
from hermesd.supervisor.journal.states import OutboxState
from hermesd.supervisor.tasks import Tasks

TARGET = Target("fake", "chat", reply_to="m1")


class Life:
    """One life of hermesd as far as delivery goes; ``end`` leaves the journal as a death would."""

    def __init__(self, place: Path):
        self.journal = Journal(place / "state.db")
        self.fake = FakeAdapter(AdapterSettings("fake", extra={"record": str(place / "shown.jsonl")}))
        self.tasks = Tasks(lambda name, error: pytest.fail(f"{name}: {error}"))
        self.deliverer = Deliverer(self.journal, {"fake": self.fake}, self.tasks)

    async def begin(self) -> None:
        await self.journal.open()
        await self.fake.start(self)  # type: ignore[arg-type]
        await self.deliverer.recover()
        await self.deliverer.take_up()

    async def receive(self, inbound: Inbound) -> bool:
        return True

    async def end(self) -> None:
        await self.tasks.close()
        await self.journal.close()

    async def cut_in_mid_call(self) -> int:
        """An answer whose row says *sending*; returns the row's id."""
        await self.fake.say("hello", chat="chat", message_id="m1")
        row = await self.journal.write(outbox.add, TARGET, Outbound("t1:answer", "42"), time.time())
        await self.journal.write(outbox.sending, row.id, time.time())
        return row.id

    @property
    def texts(self) -> list[str]:
        return [shown.text for shown in self.fake.transcript(chat="chat")]


async def test_a_cut_answer_goes_again_with_a_mark_once(tmp_path: Path) -> None:
    first = Life(tmp_path)
    await first.begin()
    number = await first.cut_in_mid_call()
    await first.end()

    second = Life(tmp_path)
    await second.begin()
    assert await second.fake.wait(1, 5.0, chat="chat")
    assert await second.deliverer.wait_idle(30.0)
    assert (await second.journal.read(outbox.show, number)).state is OutboxState.SENT
    await second.end()

    third = Life(tmp_path)
    await third.begin()
    assert await third.deliverer.wait_idle(30.0)
    assert third.texts == [f"{PERHAPS_AGAIN}\n\n42"]
    await third.end()


async def test_the_mark_outlives_a_second_death_before_the_answer_could_go(tmp_path: Path) -> None:
    first = Life(tmp_path)
    await first.begin()
    number = await first.cut_in_mid_call()
    await first.end()

    second = Life(tmp_path)
    second.fake.cut(1, after=3600.0)
    await second.begin()
    while (await second.journal.read(outbox.show, number)).next_try_at < time.time() + 60.0:
        assert not second.texts
    await second.journal.write(outbox.sending, number, time.time())
    await second.end()

    third = Life(tmp_path)
    await third.begin()
    assert await third.fake.wait(1, 5.0, chat="chat")
    assert third.texts == [f"{PERHAPS_AGAIN}\n\n42"]
    assert await third.deliverer.wait_idle(30.0)
    await third.end()
