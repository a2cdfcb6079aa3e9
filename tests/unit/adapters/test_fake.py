from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hermesd.adapters.contract import AdapterSettings, Inbound, Outbound, Target
from hermesd.adapters.errors import DeliveryError, Gone, NotAccepted, Rejected, Retry, Unauthorized, Uncertain
from hermesd.adapters.fake import FakeAdapter


class Core:
    def __init__(self) -> None:
        self.received: list[Inbound] = []
        self.refuse = False
        self.cancelled: list[Target] = []

    async def receive(self, inbound: Inbound) -> bool:
        if self.refuse:
            raise NotAccepted("draining", code="draining")
        new = inbound.message_id not in [known.message_id for known in self.received]
        self.received.append(inbound)
        return new

    def cancel(self, inbound_chat: Target) -> None:
        self.cancelled.append(inbound_chat)


@pytest.fixture
def core() -> Core:
    return Core()


def make(**extra: Any) -> FakeAdapter:
    return FakeAdapter(AdapterSettings("fake", extra=extra))


@pytest.fixture
async def fake(core: Core) -> AsyncIterator[FakeAdapter]:
    made = make()
    await made.start(core)
    yield made
    await made.stop()


def to(chat: str, reply_to: str = "") -> Target:
    return Target("fake", chat, reply_to=reply_to)


async def test_every_message_has_a_number_of_its_own(fake: FakeAdapter, core: Core) -> None:
    for text in "abc":
        assert await fake.say(text)
    assert len({inbound.message_id for inbound in core.received}) == 3


async def test_what_was_not_confirmed_comes_again_with_the_same_number(fake: FakeAdapter, core: Core) -> None:
    core.refuse = True
    with pytest.raises(NotAccepted):
        await fake.say("hello", message_id="m1")
    assert fake.unconfirmed() == ["m1"]
    core.refuse = False
    assert await fake.redeliver() == 1
    assert fake.unconfirmed() == []
    assert await fake.redeliver() == 0
    assert await fake.redeliver(confirmed=True) == 0
    assert [inbound.message_id for inbound in core.received] == ["m1", "m1"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("retry", Retry),
        ("gone", Gone),
        ("rejected", Rejected),
        ("unauthorized", Unauthorized),
        ("uncertain", Uncertain),
    ],
)
async def test_a_cut_fails_the_next_sends_and_no_more(fake: FakeAdapter, error: str, kind: type[Exception]) -> None:
    await fake.say("hello", chat="c")
    fake.cut(2, error=error)
    for _ in range(2):
        with pytest.raises(kind):
            await fake.send(to("c"), Outbound("k", "text"))
    await fake.send(to("c"), Outbound("k", "text"))
    assert [shown.text for shown in fake.transcript()] == ["text"]


async def test_a_cut_may_lose_only_the_confirmation(fake: FakeAdapter) -> None:
    await fake.say("hello", chat="c")
    fake.cut(delivered=True)
    with pytest.raises(Uncertain):
        await fake.send(to("c"), Outbound("k", "text"))
    await fake.send(to("c"), Outbound("k", "text"))
    assert [(shown.number, shown.key) for shown in fake.transcript(chat="c")] == [(1, "k"), (2, "k")]


async def test_a_closed_chat_is_gone(fake: FakeAdapter) -> None:
    await fake.say("hello", chat="c")
    fake.close_chat("c")
    with pytest.raises(DeliveryError):
        await fake.send(to("c"), Outbound("k", "text"))


async def test_waiting_ends_with_the_message_that_was_missing(fake: FakeAdapter) -> None:
    await fake.say("hello", chat="c")
    waiting = asyncio.create_task(fake.wait(1, 5, chat="c", final=True))
    await fake.send(to("c"), Outbound("k1", "soon", final=False))
    await fake.send(to("c"), Outbound("k2", "done"))
    assert await waiting
    assert not await fake.wait(3, 0.01)


async def test_a_hang_up_is_told_to_the_core(fake: FakeAdapter, core: Core) -> None:
    fake.hang_up("c", "m1")
    assert core.cancelled == [to("c", "m1")]


async def test_the_record_outlives_the_process(core: Core, tmp_path: Path) -> None:
    record = tmp_path / "record"
    first = make(record=str(record))
    await first.start(core)
    await first.say("hello", chat="c")
    await first.send(to("c"), Outbound("k1", "answer"))
    with record.open("a") as file:
        file.write('{"out": {"torn')
    second = make(record=str(record))
    await second.start(core)
    assert [shown.text for shown in second.transcript()] == ["answer"]
    await second.send(to("c"), Outbound("k2", "the chat is still known"))
    assert second.transcript()[-1].number == 2


async def test_what_was_not_confirmed_outlives_the_process_and_comes_again(core: Core, tmp_path: Path) -> None:
    record = str(tmp_path / "record")
    first = make(record=record)
    await first.start(core)
    await first.say("taken", chat="c", message_id="m1")
    core.refuse = True
    for number in (2, 3):
        with pytest.raises(NotAccepted):
            await first.say("not taken", chat="c", message_id=f"m{number}", user="u7", trusted=True)
    core.refuse = False
    second = make(record=record)
    assert second.unconfirmed() == ["m2", "m3"]
    await second.start(core)
    while second.unconfirmed():
        await asyncio.sleep(0)
    assert [(one.message_id, one.user_id, one.trusted) for one in core.received[1:]] == [
        ("m2", "u7", True),
        ("m3", "u7", True),
    ]
    assert await second.redeliver(confirmed=True) == 0
    await second.stop()
    assert make(record=record).unconfirmed() == []


async def test_a_broken_connection_keeps_what_is_said_and_delivers_it_in_order(fake: FakeAdapter, core: Core) -> None:
    await fake.say("before", chat="c", message_id="m0")
    fake.disconnect(60.0)
    assert fake.state().word == "backing_off"
    with pytest.raises(Retry):
        await fake.send(to("c"), Outbound("k", "text"))
    for number in (1, 2):
        with pytest.raises(NotAccepted):
            await fake.say("meanwhile", chat="c", message_id=f"m{number}")
    fake.disconnect(0.0, confirmed=True)
    while fake.unconfirmed():
        await asyncio.sleep(0.001)
    assert [inbound.message_id for inbound in core.received] == ["m0", "m0", "m1", "m2"]
    assert fake.state().word == "online"


async def test_a_chat_that_waits_is_delivered_before_what_is_said_next(fake: FakeAdapter, core: Core) -> None:
    core.refuse = True
    with pytest.raises(NotAccepted):
        await fake.say("one", chat="c", message_id="m1")
    core.refuse = False
    assert await fake.say("two", chat="c", message_id="m2")
    assert [inbound.message_id for inbound in core.received] == ["m1", "m2"]


@pytest.mark.parametrize("shown", [[], ["text"]])
async def test_a_break_in_mid_send_leaves_the_core_uncertain(core: Core, shown: list[str]) -> None:
    fake = make(latency=1.0)
    await fake.start(core)
    await fake.say("hello", chat="c")
    sending = asyncio.create_task(fake.send(to("c"), Outbound("k", "text")))
    await asyncio.sleep(0)  # it is on its way
    assert await fake.wait(len(shown), 30.0)
    fake.disconnect(60.0)
    with pytest.raises(Uncertain):
        await sending
    assert [one.text for one in fake.transcript()] == shown
    await fake.stop()


async def test_the_socket_takes_every_operation_and_survives_nonsense(core: Core, tmp_path: Path) -> None:
    path = str(tmp_path / "fake.sock")
    fake = make(socket=path)
    await fake.start(core)
    reader, writer = await asyncio.open_unix_connection(path)

    async def do(**request: Any) -> Any:
        writer.write(json.dumps(request).encode() + b"\n")
        return json.loads(await reader.readline())

    said = await do(op="say", text="hello", chat="c")
    assert (said["accepted"], said["new"]) == (True, True)
    assert said["message_id"] == core.received[0].message_id
    assert (await do(op="say", text="hello", chat="c", message_id=said["message_id"]))["new"] is False
    assert (await do(op="cut", count=1, error="gone")) == {"ok": True}
    with pytest.raises(Gone):
        await fake.send(to("c"), Outbound("k", "x"))
    await fake.send(to("c", said["message_id"]), Outbound("k", "x"))
    assert await do(op="wait", count=1, timeout=5) == {"met": True, "count": 1}
    assert (await do(op="transcript", chat="c"))["messages"][0]["text"] == "x"
    core.refuse = True
    refused = await do(op="say", text="later", chat="c")
    assert (refused["accepted"], refused["code"]) == (False, "draining")
    assert len((await do(op="unconfirmed"))["message_ids"]) == 1
    assert "operations: say" in (await do(op="dance"))["error"]
    assert "unexpected" in (await do(op="say", text="x", colour="red"))["error"]
    assert "cannot cut with 'sun'" in (await do(op="cut", error="sun"))["error"]
    writer.write(b"no json\n")
    assert "error" in json.loads(await reader.readline())
    await fake.stop()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert not Path(path).exists()
