"""Nothing that was written is lost: over restarts, over refusals of the core, in the order of each channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from harness.discord.bot import Bot, eventually
from harness.discord.server import DiscordServer

from hermesd.adapters.discord import intake


async def test_what_was_written_while_it_was_down_is_read_on_oldest_first(bot: Bot, server: DiscordServer) -> None:
    general, anna = server.channel("general"), server.direct("anna")
    server.say(anna, "known")
    await bot.heard(1)
    await bot.stop()
    for number in range(3):
        server.say(anna, f"direct {number}")
        server.say(general, f"{server.mention} channel {number}")
        server.say(general, "chatter")
    await bot.start()
    heard = await bot.heard(7)
    assert [text for text in heard if text.startswith("direct")] == ["direct 0", "direct 1", "direct 2"]
    assert [text for text in heard if text.startswith("channel")] == ["channel 0", "channel 1", "channel 2"]


async def test_a_thread_that_began_while_it_was_down_is_read_on(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    general = bot.server.channel("general")
    await bot.start()
    await bot.settled()
    await bot.stop()
    thread = bot.server.thread(general, "news")
    bot.server.say(thread, f"{bot.server.mention} in the thread")
    await bot.start()
    assert await bot.heard(1) == ["in the thread"]


async def test_what_was_read_is_not_asked_for_again(bot: Bot, server: DiscordServer) -> None:
    general = server.channel("general")
    server.say(general, f"{server.mention} once")
    await bot.heard(1)
    await bot.stop()
    before = len(server.calls("GET", f"/channels/{general}/messages$"))
    await bot.start()
    await bot.settled()
    assert len(server.calls("GET", f"/channels/{general}/messages$")) == before
    assert len(bot.core.journal) == 1


async def test_what_was_written_before_the_first_start_is_not_for_us(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    general = bot.server.channel("general")
    old = str(int(bot.server.world.new_id()) - (3600_000 << 22))
    bot.server.world.message(general, bot.server.world.user("anna"), f"{bot.server.mention} an hour ago", id_=old)
    await bot.start()
    await bot.settled()
    bot.server.say(general, f"{bot.server.mention} now")
    assert await bot.heard(1) == ["now"]


async def test_a_live_message_waits_until_its_channel_is_read_on(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    server.say(anna, "first")
    await bot.heard(1)
    await bot.stop()
    server.say(anna, "missed")
    waits = asyncio.Event()
    # Cut, after which it is asked again.
    server.fail("GET", f"/channels/{anna}/messages$", carried_out=True, until=waits.is_set)
    await bot.start()
    server.say(anna, "live")
    await eventually(lambda: bot.adapter.describe()["waiting"] == 1, what="the live message waits")
    waits.set()
    assert await bot.heard(3) == ["first", "missed", "live"]


async def test_a_message_that_comes_twice_is_journalled_once(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    first = server.say(anna, "once")
    server.repeat(anna, first)
    server.say(anna, "twice")
    assert await bot.heard(2) == ["once", "twice"]


async def test_messages_that_come_out_of_step_are_all_journalled(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    late = server.world.new_id()
    server.say(anna, "first")
    server.say(anna, "written before, told after", id_=late)
    assert await bot.heard(2) == ["first", "written before, told after"]


async def test_one_that_was_not_told_before_the_end_is_read_though_a_later_one_was(
    bot: Bot, server: DiscordServer
) -> None:
    anna = server.direct("anna")
    untold = server.world.new_id()
    server.say(anna, "told")
    await bot.heard(1)
    await bot.stop()
    server.world.message(anna, server.world.user("anna"), "never told", id_=untold)
    server.world.messages[anna].sort(key=lambda one: int(one["id"]))
    await bot.start()
    assert await bot.heard(2) == ["told", "never told"]


async def test_a_message_that_is_refused_holds_its_channel_up_and_no_other(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    bot.core.refusal = "the disk is full"
    first = server.say(anna, "one")
    server.say(anna, "two")
    await eventually(lambda: bot.adapter.describe()["held_up"] == "the disk is full")
    assert bot.core.kept.get(f"dm:{anna}", "") == ""
    assert bot.adapter.describe()["waiting"] == 2
    bot.core.refusal = ""
    assert await bot.heard(2) == ["one", "two"]
    assert int(bot.core.kept[f"dm:{anna}"]) > int(first)


async def test_a_message_that_was_refused_until_the_end_is_there_after_the_restart(
    bot: Bot, server: DiscordServer
) -> None:
    anna = server.direct("anna")
    server.say(anna, "known")
    await bot.heard(1)
    bot.core.refusal = "hermesd is stopping"
    server.say(anna, "late")
    await eventually(lambda: bot.adapter.describe()["held_up"])
    await bot.stop()
    bot.core.refusal = ""
    await bot.start()
    assert await bot.heard(2) == ["known", "late"]


async def test_a_long_backlog_is_cut_and_the_log_says_so(
    bot: Bot, server: DiscordServer, caplog: pytest.LogCaptureFixture
) -> None:
    anna = server.direct("anna")
    server.say(anna, "known")
    await bot.heard(1)
    await bot.stop()
    for number in range(130):
        server.say(anna, f"message {number}")
    with caplog.at_level(logging.WARNING):
        await bot.start()
        heard = await bot.heard(101)
    await bot.settled()
    assert heard[1:] == [f"message {number}" for number in range(30, 130)]
    assert len(bot.core.journal) == 101
    assert "has 130 messages for us since the last time, of which the oldest 30 are left out" in caplog.text


async def test_a_channel_that_may_not_be_read_keeps_no_other_from_it(bot: Bot, server: DiscordServer) -> None:
    anna, ben = server.direct("anna"), server.direct("ben")
    server.say(anna, "from anna")
    server.say(ben, "from ben", user="ben")
    await bot.heard(2)
    await bot.stop()
    server.say(anna, "more from anna")
    server.say(ben, "more from ben", user="ben")
    server.fail("GET", f"/channels/{anna}/messages$", status=403, body={"code": 50001, "message": "Missing Access"})
    await bot.start()
    assert "more from ben" in await bot.heard(3)


@pytest.mark.parametrize(
    ("status", "headers"), [(429, {"Retry-After": "0.05"}), (403, {}), (400, {})],
    ids=["Cloudflare's limit", "Cloudflare's refusal", "any refusal"],
)  # fmt: skip
async def test_a_channel_that_cannot_be_read_now_is_read_later_and_keeps_no_other_from_it(
    bot: Bot, server: DiscordServer, monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(intake, "AGAIN_SECONDS", 0.05)
    anna = server.direct("anna")
    server.say(anna, "known")
    await bot.heard(1)
    await bot.stop()
    server.say(anna, "missed")
    # Without Via, as what stands before Discord answers; discord.py makes a plain HTTPException of most of it.
    server.fail("GET", f"/channels/{anna}/messages$", status=status, headers=headers, count=1000)
    await bot.start()
    server.say(anna, "live")
    server.say(server.direct("ben"), "from a new place", user="ben")
    assert await bot.heard(2) == ["known", "from a new place"]
    await eventually(lambda: bot.adapter.describe()["faults"], what="the fault is told")
    assert (
        f"cannot read on in Discord channel direct messages: injected (status {status}"
        in (bot.adapter.describe()["faults"][0])
    )
    server.rest.faults.clear()
    assert (await bot.heard(4))[2:] == ["missed", "live"]
    await bot.settled()
    assert bot.adapter.describe()["faults"] == []


async def test_ten_channels_at_once_lose_nothing_over_restarts(bot: Bot, server: DiscordServer) -> None:
    places = [server.direct(f"user{number}") for number in range(5)] + [server.channel(f"c{n}") for n in range(5)]
    said: list[str] = []
    for place in places:
        said.append("hello")
        server.say(place, f"{server.mention} hello")
    await bot.heard(len(places))
    for life in range(4):
        talking = asyncio.create_task(_talk(server, places, life, said))
        await asyncio.sleep(0.03 * life)
        await bot.stop()
        await talking
        await bot.start()
    await bot.heard(len(said))
    await bot.settled()
    assert sorted(bot.core.texts) == sorted(said)
    for place in places:
        mine = [one.text for one in bot.core.journal.values() if one.chat_id == place or one.thread_id == place]
        assert len(mine) >= 5


async def _talk(server: DiscordServer, places: list[str], life: int, said: list[str]) -> None:
    for round_ in range(5):
        for number, place in enumerate(places):
            text = f"life {life} round {round_} place {number}"
            said.append(text)
            await asyncio.to_thread(server.say, place, f"{server.mention} {text}")


async def test_in_a_busy_channel_the_last_mentions_are_found_among_much_else(
    make_bot: Callable[..., Bot], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intake, "LOOKED_AT", 300)
    bot = make_bot()
    server, world = bot.server, bot.server.world
    general = server.channel("general")
    await bot.start()
    await bot.settled()
    await bot.stop()
    world.message(general, world.user("anna"), f"{server.mention} too long ago")
    for number in range(400):
        mention = f"{server.mention} " if number % 150 == 149 else ""
        world.message(general, world.user("anna"), f"{mention}message {number}")
    await bot.start()
    assert await bot.heard(2) == ["message 149", "message 299"]
    await bot.settled()
    assert len(bot.core.journal) == 2
    assert "only the last 300 messages were looked at" in caplog.text
