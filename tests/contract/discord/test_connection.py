"""How a bot's connection begins, breaks, comes back, and ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from harness.discord.bot import Bot, eventually
from harness.discord.server import DiscordServer
from harness.discord.world import MESSAGE_CONTENT

from hermesd.adapters.contract import AdapterSettings, HasIdentity
from hermesd.adapters.discord.adapter import DiscordAdapter
from hermesd.adapters.errors import StartLater, Unauthorized

BREAKS: dict[str, Callable[[DiscordServer], None]] = {
    "closed": lambda server: server.drop(4000),
    "closed by a restart of Discord's": lambda server: server.drop(1001),
    "cut without a word": lambda server: server.cut(),
    "asked to reconnect": lambda server: server.reconnect(),
}


@pytest.mark.parametrize("how", BREAKS)
async def test_a_broken_connection_is_resumed_and_nothing_is_missed(how: str, bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    server.say(anna, "before")
    await bot.heard(1)
    server.gateway.refuse_sockets = True
    BREAKS[how](server)
    await eventually(lambda: bot.adapter.state().word == "backing_off", what="the state tells")
    server.say(anna, "while it was broken")
    server.gateway.refuse_sockets = False
    assert await bot.heard(2) == ["before", "while it was broken"]
    assert (server.gateway.identifies, server.gateway.resumes) == (1, 1)
    await eventually(lambda: bot.adapter.state().word == "online")
    assert bot.core.lost_by == []


async def test_what_a_session_missed_that_cannot_be_resumed_is_read_on(bot: Bot, server: DiscordServer) -> None:
    anna, general = server.direct("anna"), server.channel("later")
    server.say(anna, "before")
    await bot.heard(1)
    server.gateway.refuse_sockets = True
    server.gateway.forget_sessions()
    server.drop(4000)
    await eventually(lambda: bot.adapter.state().word == "backing_off")
    server.say(anna, "to you")
    server.say(general, f"{server.mention} in a channel")
    server.gateway.refuse_sockets = False
    assert sorted(await bot.heard(3)) == ["before", "in a channel", "to you"]
    assert (server.gateway.identifies, server.gateway.resumes) == (2, 0)


async def test_a_wrong_token_is_refused_with_what_to_do(server: DiscordServer) -> None:
    adapter = DiscordAdapter(AdapterSettings("discord", token="wrong", extra=server.extra))
    bot = Bot(server)
    with pytest.raises(Unauthorized) as refused:
        await adapter.start(bot.core)
    assert "DISCORD_BOT_TOKEN" in refused.value.fix
    assert adapter.state().word == "refused"
    await adapter.stop()
    assert server.gateway.identifies == 0


async def test_a_token_that_is_revoked_ends_the_connection(bot: Bot, server: DiscordServer) -> None:
    server.drop(4004)
    await eventually(lambda: bot.core.lost_by)
    assert isinstance(bot.core.lost_by[0], Unauthorized)
    assert "4004" in str(bot.core.lost_by[0])


async def test_an_intent_that_is_off_is_told_before_a_session_is_spent(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    bot.server.world.intents = 0
    with pytest.raises(Unauthorized) as refused:
        await bot.start()
    assert "Message Content Intent" in refused.value.fix
    assert bot.server.gateway.identifies == 0


async def test_an_intent_that_is_refused_by_the_gateway_says_the_same(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    bot.server.gateway.close_next = [4014]
    with pytest.raises(Unauthorized) as refused:
        await bot.start()
    assert "4014" in str(refused.value)
    assert "Message Content Intent" in refused.value.fix


async def test_without_the_intent_a_bot_hears_direct_messages_and_mentions(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot(message_content=False, require_mention=False)
    server = bot.server
    server.world.intents = 0
    general = server.channel("general")
    await bot.start()
    server.say(general, "not for you")
    server.say(general, f"{server.mention} for you")
    server.say(server.direct("anna"), "directly")
    assert sorted(await bot.heard(2)) == ["directly", "for you"]
    assert server.world.intents & MESSAGE_CONTENT == 0


async def test_a_discord_that_is_not_there_is_tried_later(server: DiscordServer, make_bot: Callable[..., Bot]) -> None:
    bot = make_bot(base_url="http://127.0.0.1:9/api/v10")
    with pytest.raises(StartLater, match="cannot connect to Discord"):
        await bot.start()


async def test_a_bot_without_sessions_left_begins_none(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    bot.server.world.sessions_left = 0
    with pytest.raises(StartLater, match="0 of 1000 are left"):
        await bot.start()
    assert bot.server.gateway.identifies == 0


async def test_the_second_half_of_the_sessions_is_spread_over_the_day(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    bot.server.world.sessions_left = 100
    await bot.start()  # the last one was long ago
    await bot.stop()
    with pytest.raises(StartLater, match=r"for another 4\d\d s"):
        await bot.start()
    assert bot.server.gateway.identifies == 1
    bot.core.kept["identified"] = str(time.time() - 500)
    await bot.start()
    assert bot.server.gateway.identifies == 2


async def test_the_state_tells_when_discord_last_gave_a_sign(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    bot.server.gateway.heartbeat_ms = 50
    await bot.start()
    first = bot.adapter.state().received_at
    await eventually(lambda: bot.adapter.state().received_at > first, what="an acknowledged heartbeat counts")
    assert bot.server.gateway.heartbeats > 0


async def test_a_discord_that_does_not_answer_holds_no_stop_up(bot: Bot) -> None:
    with bot.server.hanging():
        async with asyncio.timeout(30.0):
            await bot.stop()
    assert bot.adapter.state().word == "stopped"


async def test_the_lock_is_hermes_agents(bot: Bot) -> None:
    assert isinstance(bot.adapter, HasIdentity)
    identity = bot.adapter.identity()
    assert identity is not None
    assert identity.scope == "discord-bot-token"
    assert identity.secret == bot.server.world.token
    assert bot.server.world.token not in repr(identity)


async def test_two_bots_in_one_process_have_servers_of_their_own(bot: Bot) -> None:
    with DiscordServer(token="another.one") as elsewhere:
        other = Bot(elsewhere)
        await other.start()
        bot.server.say(bot.server.direct("anna"), "here")
        elsewhere.say(elsewhere.direct("anna"), "there")
        assert await bot.heard(1) == ["here"]
        assert await other.heard(1) == ["there"]
        await other.stop()


async def test_what_a_person_should_know_is_told_to_doctor(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot(message_content="no", free_response_channels=["4"])
    server = bot.server
    bot.extra["allowed_channels"] = [server.channel("general")]
    server.world.sessions_left = 200
    await bot.start()
    await bot.settled()
    content, sessions, unseen = bot.adapter.describe()["warnings"]
    assert "message_content is false" in content
    assert "801 of the 1000 sessions" in sessions
    assert "channel 4, which free_response_channels names" in unseen
