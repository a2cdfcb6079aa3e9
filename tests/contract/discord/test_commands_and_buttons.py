"""Interactions: each is answered within three seconds, whatever the agent does."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from harness.discord.bot import Bot, eventually, outbound
from harness.discord.rest import ACKNOWLEDGE_SECONDS
from harness.discord.server import DiscordServer

from hermesd.adapters.contract import HasButtons, HasMenu, MenuEntry, Question, Target
from hermesd.adapters.discord import slash
from hermesd.adapters.errors import Uncertain

MENU = (MenuEntry("status", "what is going on"), MenuEntry("title", "name this conversation", "the new name"))


async def test_the_menu_is_registered_once(bot: Bot, server: DiscordServer) -> None:
    assert isinstance(bot.adapter, HasMenu)
    await bot.adapter.show_menu(MENU)
    assert [(one["name"], len(one["options"])) for one in server.world.commands] == [("status", 0), ("title", 1)]
    await bot.stop()
    await bot.start()
    await bot.adapter.show_menu(MENU)
    assert len(server.calls("PUT", "/commands$")) == 1
    await bot.adapter.show_menu(MENU[:1])
    assert [one["name"] for one in server.world.commands] == ["status"]


async def test_a_command_is_acknowledged_and_its_answer_takes_that_place(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    command = server.slash(anna, "title", "a new name")
    assert await bot.heard(1) == ["/title a new name"]
    inbound = bot.core.inbound(command.id)
    assert (inbound.chat_id, inbound.user_id, inbound.cursor) == (anna, server.user_id("anna"), None)
    await eventually(lambda: command.acknowledged is not None)
    assert command.response == {"type": 5}
    await bot.adapter.react(bot.target(command.id), "👀")
    assert server.calls("PUT", "reactions") == []
    target = bot.target(command.id)
    assert await bot.adapter.find(target, [outbound("done")], since=0.0, others=()) is None
    sent = await bot.adapter.send(target, outbound("done"))
    assert await bot.adapter.find(target, [outbound("done")], since=0.0, others=()) == sent.message_id
    assert [one["content"] for one in server.by_bot(anna)] == ["done"]
    assert command.message is not None
    assert command.message["content"] == "done"
    await bot.adapter.edit(target, sent.message_id, outbound("done, edited"))


async def test_the_answer_finds_its_place_after_a_restart(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    command = server.slash(anna, "status")
    await eventually(lambda: command.acknowledged is not None)
    await bot.stop()
    await bot.start()
    await bot.adapter.send(bot.target(command.id), outbound("fine"))
    assert command.message is not None
    assert command.message["content"] == "fine"


async def test_an_answer_that_is_in_its_place_by_an_earlier_try_stays_there(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    command = server.slash(anna, "status")
    await eventually(lambda: command.acknowledged is not None)
    target = bot.target(command.id)
    server.fail("PATCH", "/webhooks/", carried_out=True)
    with pytest.raises(Uncertain):
        await bot.adapter.send(target, outbound("fine"))
    assert await bot.adapter.find(target, [outbound("fine")], since=0.0, others=()) is None, "it may be put there again"
    late = time.time() + slash.TOKEN_SECONDS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slash.time, "time", lambda: late)
        assert command.message is not None
        found = await bot.adapter.find(target, [outbound("fine")], since=0.0, others=())
        assert found == command.message["id"]
        await bot.adapter.slash.expire(late)
    assert [one["content"] for one in server.by_bot(anna)] == ["fine"]


@pytest.mark.parametrize(
    ("status", "code", "message"), [(404, 10015, "Unknown Webhook"), (401, 50027, "Invalid Webhook Token")]
)
async def test_an_answer_that_comes_too_late_goes_into_the_channel(
    bot: Bot, server: DiscordServer, status: int, code: int, message: str
) -> None:
    anna = server.direct("anna")
    command = server.slash(anna, "status")
    await eventually(lambda: command.acknowledged is not None)
    server.fail("PATCH", "/webhooks/", status=status, body={"code": code, "message": message})
    await bot.adapter.send(bot.target(command.id), outbound("late"))
    assert server.by_bot(anna)[-1]["content"] == "late"
    assert server.by_bot(anna)[-1] is not command.message


async def test_a_slow_journal_does_not_miss_the_three_seconds(
    bot: Bot, server: DiscordServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slash.ACKNOWLEDGE_SECONDS < ACKNOWLEDGE_SECONDS
    monkeypatch.setattr(slash, "ACKNOWLEDGE_SECONDS", 0.1)
    bot.core.commit.clear()
    command = server.slash(server.direct("anna"), "status")
    await eventually(lambda: command.acknowledged is not None)
    assert bot.core.texts == []
    bot.core.commit.set()
    assert await bot.heard(1) == ["/status"]


async def test_a_command_that_cannot_be_kept_says_so_to_its_user_alone(bot: Bot, server: DiscordServer) -> None:
    bot.core.refusal = "the disk is full"
    command = server.slash(server.direct("anna"), "status")
    await eventually(lambda: server.world.ephemeral)
    assert server.world.ephemeral == [(command.id, "hermesd cannot take this now: the disk is full")]


async def test_a_command_in_a_channel_that_is_ignored(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    ignored = bot.server.channel("ignored")
    bot.extra["ignored_channels"] = [ignored]
    await bot.start()
    bot.server.slash(ignored, "status")
    await eventually(lambda: bot.server.world.ephemeral)
    assert bot.server.world.ephemeral[0][1] == slash.NOT_HERE
    assert bot.core.texts == []


async def test_what_is_never_answered_stops_thinking(bot: Bot, server: DiscordServer) -> None:
    command = server.slash(server.direct("stranger"), "status", user="stranger")
    await eventually(lambda: command.message is not None)
    await bot.adapter.slash.expire(time.time() + slash.TOKEN_SECONDS + 1)
    assert command.message is None


async def test_buttons_take_the_press_of_those_who_may(bot: Bot, server: DiscordServer) -> None:
    assert isinstance(bot.adapter, HasButtons)
    anna = server.direct("anna")
    asked = server.say(anna, "do it")
    await bot.heard(1)
    target = bot.target(asked)
    question = Question("ask-1", ("once", "always", "deny"))
    sent = await bot.adapter.send(target, outbound("may I?", kind="question", question=question))
    press = server.press(anna, sent.message_id, "once", user="stranger")
    await eventually(lambda: server.world.ephemeral)
    assert server.world.ephemeral == [(press.id, "this is not yours to answer")]
    assert bot.core.presses == []
    bot.core.allowed = {server.user_id("anna")}
    press = server.press(anna, sent.message_id, "always")
    await eventually(lambda: press.acknowledged is not None)
    assert press.response == {"type": 6}
    (taken,) = bot.core.presses
    assert (taken.ask, taken.choice, taken.message_id, taken.chat_id) == ("ask-1", "always", sent.message_id, anna)
    await bot.adapter.settle(target, sent.message_id, "may I? **always**, by anna")
    shown = server.by_bot(anna)[0]
    assert shown["components"] == []
    assert shown["content"] == "may I? **always**, by anna"


async def test_buttons_work_after_a_restart_and_in_threads(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    server = bot.server
    general = server.channel("general")
    await bot.start()
    asked = server.say(general, f"{server.mention} do it")
    await bot.heard(1)
    target = bot.target(asked)
    sent = await bot.adapter.send(target, outbound("may I?", question=Question("ask:2", ("yes", "no"))))
    await bot.stop()
    await bot.start()
    bot.core.allowed = {server.user_id("anna")}
    server.press(target.thread_id, sent.message_id, "no")
    await eventually(lambda: bot.core.presses)
    (press,) = bot.core.presses
    assert (press.ask, press.choice, press.chat_id, press.thread_id) == ("ask:2", "no", general, target.thread_id)


async def test_choices_that_fit_on_no_button_are_answered_in_words(bot: Bot, server: DiscordServer) -> None:
    target = Target("discord", server.direct("anna"))
    await bot.adapter.send(target, outbound("which?", question=Question("ask-3", ("x" * 81, "y"))))
    assert server.by_bot()[0]["components"] == []
