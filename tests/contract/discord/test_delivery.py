"""The outbox and this platform together: nothing is swallowed, nothing comes twice without saying so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.discord.bot import Bot, eventually
from harness.discord.server import DiscordServer
from harness.discord.world import NO_HISTORY

from hermesd.adapters.contract import AdapterSettings, Attachment, Outbound, Target
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN, Deliverer
from hermesd.supervisor.journal import Journal
from hermesd.supervisor.platforms.connection_life import Event
from hermesd.supervisor.platforms.platforms import Platforms
from hermesd.supervisor.tasks import Tasks


class Core:
    """Lives of an outbox, in which a bot comes and goes."""

    def __init__(self, bot: Bot, place: Path):
        self.bot = bot
        self.live: dict[str, Any] = {}
        self.journal = Journal(place / "state.db")
        self.tasks = Tasks(lambda name, error: None)
        self.deliverer = Deliverer(self.journal, self.live, self.tasks)

    async def begin(self) -> None:
        await self.journal.open()
        await self.up()

    async def up(self) -> None:
        self.live["discord"] = await self.bot.start()
        await self.deliverer.platform_up("discord")

    async def down(self) -> None:
        """The platform is lost; what is on its way waits for the next connection."""
        self.live.clear()
        await self.bot.stop()

    async def end(self) -> None:
        await self.tasks.close()
        await self.journal.close()

    async def say(self, target: Target, *messages: Outbound) -> None:
        for message in messages:
            await self.deliverer.say(target, message)

    async def idle(self) -> None:
        assert await self.deliverer.wait_idle(20.0)

    async def errors(self) -> list[tuple[str, str]]:
        return await self.journal.read(
            lambda connection: [tuple(row) for row in connection.execute("SELECT state, error FROM outbox ORDER BY id")]
        )


@pytest.fixture
async def make_core(make_bot: Callable[..., Bot], tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    made: list[Core] = []

    async def make(**extra: Any) -> Core:
        made.append(Core(make_bot(**extra), tmp_path))
        await made[-1].begin()
        return made[-1]

    yield make
    for core in made:
        await core.end()


async def cut_in_mid_call(core: Core, target: Target, message: Outbound) -> None:
    """Discord has it, and its word of that is lost with the connection; it has forgotten the nonce since."""
    server = core.bot.server
    server.fail("POST", "/messages$", carried_out=True)
    await core.say(target, message)
    while not (await core.errors())[-1][1]:
        await asyncio.sleep(0.005)
    await core.down()
    server.world.nonce_seconds = 0.0


async def test_alike_messages_are_all_sent_by_a_new_connection(
    make_core: Callable[..., Any], server: DiscordServer, tmp_path: Path
) -> None:
    core = await make_core()
    message = server.say(server.direct("anna"), "question")
    await core.bot.heard(1)
    target = core.bot.target(message)
    await core.down()
    await core.up()
    await core.say(target, *(Outbound(f"w{number}", "Working…", kind="extra") for number in range(2)))
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_bytes(name.encode())
        await core.say(target, Outbound(name, "", files=(Attachment(str(tmp_path / name), name),)))
    await core.idle()
    shown = [one["content"] or one["attachments"][0]["filename"] for one in server.by_bot()]
    assert shown == ["Working…", "Working…", "one.csv", "two.csv"]
    assert {state for state, _ in await core.errors()} == {"sent"}


async def test_alike_answers_to_a_command_are_all_sent(make_core: Callable[..., Any], server: DiscordServer) -> None:
    core = await make_core()
    command = server.slash(server.direct("anna"), "status")
    await eventually(lambda: command.acknowledged is not None)
    await core.bot.heard(1)
    messages = [Outbound(f"w{number}", "Working…", kind="extra") for number in range(3)]
    await core.say(core.bot.target(command.id), *messages)
    await core.idle()
    assert [one["content"] for one in server.by_bot()] == ["Working…"] * 3


async def test_one_that_answers_nothing_is_there_once_though_its_connection_and_nonce_are_gone(
    make_core: Callable[..., Any], server: DiscordServer
) -> None:
    core = await make_core()
    anna = Target("discord", server.direct("anna"))
    await core.say(anna, Outbound("k1", "the build is red"))
    await core.idle()
    await cut_in_mid_call(core, anna, Outbound("k2", "the build is red"))
    assert len(server.by_bot()) == 2
    await core.up()
    await core.idle()
    assert [one["content"] for one in server.by_bot()] == ["the build is red"] * 2
    assert [state for state, _ in await core.errors()] == ["sent"] * 2


async def test_where_the_channel_may_not_be_read_it_comes_again_and_says_so_and_holds_nothing_up(
    make_core: Callable[..., Any], server: DiscordServer
) -> None:
    server.world.permissions = NO_HISTORY
    channel = Target("discord", server.channel("news"))
    core = await make_core()
    await cut_in_mid_call(core, channel, Outbound("k1", "the build is red"))
    await core.up()
    await core.say(channel, Outbound("k2", "the build is green"))
    await core.idle()
    assert [one["content"] for one in server.by_bot()] == [
        "the build is red", f"{PERHAPS_AGAIN}\n\nthe build is red", "the build is green",
    ]  # fmt: skip


async def test_what_is_sent_after_the_token_was_rotated_waits_for_the_new_one(
    server: DiscordServer, tmp_path: Path
) -> None:
    tasks = Tasks(lambda name, error: None)
    journal = Journal(tmp_path / "state.db")
    await journal.open()
    ups: list[str] = []
    platforms = Platforms(tasks, environ={"HERMES_GATEWAY_LOCK_DIR": str(tmp_path)}, home=tmp_path, on_up=ups.append)
    deliverer = Deliverer(journal, platforms.live, tasks, on_denied=platforms.denied)
    settings = AdapterSettings("discord", token=server.world.token, extra=server.extra)
    platforms.make({"discord": settings})
    connection = platforms.connections["discord"]
    connection._remote_delays = (0.01,)
    try:
        await platforms.start(Bot(server).core)
        await connection.settled()
        server.world.token = "the new one"
        anna = Target("discord", server.direct("anna"))
        await deliverer.say(anna, Outbound("k1", "hello"))
        await eventually(lambda: platforms.states()["discord"].word == "refused", what="the state tells")
        assert "DISCORD_BOT_TOKEN" in platforms.states()["discord"].fix
        assert server.by_bot() == []
        connection.settings = replace(settings, token=server.world.token)
        await platforms.order("discord", Event.RECONNECT)
        await deliverer.platform_up(ups[-1])
        assert await deliverer.wait_idle(10.0)
        assert [one["content"] for one in server.by_bot()] == ["hello"]
    finally:
        await platforms.stop()
        await tasks.close()
        await journal.close()
