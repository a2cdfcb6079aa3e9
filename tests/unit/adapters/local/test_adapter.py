from __future__ import annotations

import pytest

from hermesd.adapters.contract import AdapterSettings, Inbound, Outbound, Target
from hermesd.adapters.errors import Gone, NotAccepted, Rejected, Unattended
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
    def __init__(self) -> None:
        self.attended_chats: list[Target] = []

    async def receive(self, inbound: Inbound) -> bool:
        return True

    def cancel(self, inbound_chat: Target) -> None: ...

    def attended(self, chat: Target) -> None:
        self.attended_chats.append(chat)


@pytest.fixture
def core() -> Silent:
    return Silent()


@pytest.fixture
async def adapter(core: Silent) -> LocalAdapter:
    made = LocalAdapter(AdapterSettings("local"))
    await made.start(core)
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
    with pytest.raises(Unattended, match="nobody is attached to this chat; hermesctl chat room shows it"):
        await adapter.send(target, Outbound("k", "answer"))
    adapter.attach("room", two)
    await adapter.send(target, Outbound("k", "answer"))
    assert two.texts == ["answer"]


async def test_a_terminal_that_has_gone_is_detached(adapter: LocalAdapter) -> None:
    adapter.attach("room", Screen(gone=True))
    with pytest.raises(Unattended):
        await adapter.send(Target("local", "room"), Outbound("k", "answer"))
    assert adapter.describe()["attached"] == []


async def test_the_core_is_told_of_whoever_comes(adapter: LocalAdapter, core: Silent) -> None:
    adapter.attach("room", Screen())
    adapter.attach("", Screen())
    assert core.attended_chats == [Target("local", "room"), Target("local", "")]


async def test_who_comes_while_the_last_one_leaves_is_shown_the_message(adapter: LocalAdapter) -> None:
    late = Screen()

    class Leaving(Screen):
        async def answer(self, reply_to: str, message: Outbound) -> None:
            adapter.attach("room", late)
            raise Gone("closed")

    adapter.attach("room", Leaving())
    await adapter.send(Target("local", "room"), Outbound("k", "answer"))
    assert late.texts == ["answer"]


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
