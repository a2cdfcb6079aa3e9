from __future__ import annotations

import pytest

from hermesd.adapters.contract import AdapterSettings, Inbound, Outbound, Target
from hermesd.adapters.errors import Gone, NotAccepted, Rejected
from hermesd.adapters.local.adapter import LocalAdapter


class Screen:
    def __init__(self, *, gone: bool = False) -> None:
        self.texts: list[str] = []
        self.gone = gone
        self.was_closed = False

    async def answer(self, reply_to: str, message: Outbound) -> None:
        if self.gone:
            raise Gone("closed")
        self.texts.append(message.text)

    def stream(self, reply_to: str, text: str) -> None:
        self.texts.append(f"~{text}")

    def notice(self, reply_to: str, text: str) -> None: ...

    def closed(self) -> None:
        self.was_closed = True


class Silent:
    async def receive(self, inbound: Inbound) -> bool:
        return True

    def cancel(self, inbound_chat: Target) -> None: ...


@pytest.fixture
async def adapter() -> LocalAdapter:
    made = LocalAdapter(AdapterSettings("local"))
    await made.start(Silent())
    return made


async def test_an_answer_goes_to_the_terminal_that_asked_and_all_else_to_everybody(adapter: LocalAdapter) -> None:
    one, two, other = Screen(), Screen(), Screen()
    asking = adapter.attach("room", one)
    adapter.attach("room", two)
    adapter.attach("other", other)
    asked = await asking.say("hello")
    await adapter.send(Target("local", "room", reply_to=asked), Outbound("k1", "answer"))
    await adapter.send(Target("local", "room"), Outbound("k2", "to all"))
    assert (one.texts, two.texts, other.texts) == (["answer", "to all"], ["to all"], [])


async def test_the_answer_of_one_who_left_goes_to_whoever_is_there(adapter: LocalAdapter) -> None:
    one, two = Screen(), Screen()
    asking = adapter.attach("room", one)
    asked = await asking.say("hello")
    asking.detach()
    target = Target("local", "room", reply_to=asked)
    with pytest.raises(Gone, match="nobody is attached"):
        await adapter.send(target, Outbound("k", "answer"))
    adapter.attach("room", two)
    await adapter.send(target, Outbound("k", "answer"))
    assert two.texts == ["answer"]


async def test_a_terminal_that_has_gone_is_detached(adapter: LocalAdapter) -> None:
    adapter.attach("room", Screen(gone=True))
    with pytest.raises(Gone):
        await adapter.send(Target("local", "room"), Outbound("k", "answer"))
    assert adapter.describe()["attached"] == []


async def test_a_chat_needs_a_usable_name_and_a_running_adapter(adapter: LocalAdapter) -> None:
    with pytest.raises(Rejected, match="'two words': it holds a space"):
        adapter.attach("two words", Screen())
    screen = Screen()
    chat = adapter.attach("", screen)
    await adapter.stop()
    assert screen.was_closed
    with pytest.raises(NotAccepted):
        await chat.say("hello")
    with pytest.raises(Rejected, match="not taking messages"):
        adapter.attach("", Screen())
