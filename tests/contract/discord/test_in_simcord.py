"""The same adapter in ``simcord``, a Discord that others have written: what our own server shows must not be its fault.

It replaces discord.py's HTTP client in-process, so there is no connection; `DiscordAdapter.begin` is what a start is
without one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import simcord
from harness.discord.bot import Core, outbound

from hermesd.adapters.contract import AdapterSettings, Inbound, MenuEntry, Question, Target
from hermesd.adapters.discord.adapter import DiscordAdapter


class Sim:
    """A bot of ours, a guild, and two members of it."""

    def __init__(self, adapter: DiscordAdapter, core: Core, env: Any):
        self.adapter = adapter
        self.core = core
        self.env = env
        self.guild = env.create_guild()
        self.general = self.guild.create_text_channel("general")
        self.anna = self.guild.add_member(env.create_user("anna"))
        self.mallory = self.guild.add_member(env.create_user("mallory"))
        core.allowed = {str(self.anna.id)}

    @property
    def mention(self) -> str:
        assert self.adapter.client.user is not None
        return self.adapter.client.user.mention

    def last(self) -> Inbound:
        return list(self.core.journal.values())[-1]

    def target(self) -> Target:
        inbound = self.last()
        return Target("discord", inbound.chat_id, inbound.thread_id, inbound.message_id)


@asynccontextmanager
async def simulated() -> AsyncIterator[Sim]:
    # Not a fixture: simcord keeps its clock in a context variable, and a fixture ends in another context.
    adapter = DiscordAdapter(AdapterSettings("discord", token="t"))
    core = Core()
    await adapter.begin(core)
    async with simcord.run(adapter.client) as env:
        yield Sim(adapter, core, env)
        await adapter.stop()


async def test_a_mention_is_heard_and_answered_in_a_thread() -> None:
    async with simulated() as sim:
        await sim.anna.send(sim.general, "nobody is meant")
        message = await sim.anna.send(sim.general, f"{sim.mention} good day")
        inbound = sim.last()
        assert len(sim.core.journal) == 1
        assert (inbound.text, inbound.chat_id, inbound.thread_id) == ("good day", str(sim.general.id), str(message.id))
        sent = await sim.adapter.send(sim.target(), outbound("**hello**"))
        thread = sim.adapter.client.get_channel(message.id)
        assert thread is not None
        assert (await thread.fetch_message(int(sent.message_id))).content == "**hello**"  # type: ignore[union-attr]


async def test_a_direct_message_is_answered_edited_and_deleted() -> None:
    async with simulated() as sim:
        await sim.anna.send_dm("good day")
        assert sim.last().chat_type == "dm"
        target = sim.target()
        sent = await sim.adapter.send(target, outbound("draft"))
        await sim.adapter.edit(target, sent.message_id, outbound("final"))
        await sim.adapter.typing(target)
        await sim.adapter.react(target, "👀")
        shown = await sim.adapter.client.get_partial_messageable(int(target.chat_id)).fetch_message(
            int(sent.message_id)
        )
        assert shown.content == "final"
        await sim.adapter.delete(target, sent.message_id)


async def test_a_slash_command_is_deferred_and_then_answered() -> None:
    async with simulated() as sim:
        await sim.adapter.show_menu([MenuEntry("title", "name this conversation", "the new name")])
        result = await sim.anna.slash(sim.general, "title", argument="a new name")
        assert sim.last().text == "/title a new name"
        assert result.deferred
        await sim.adapter.send(sim.target(), outbound("done"))
        assert sim.general.last_message.content == "done"


async def test_a_button_takes_only_the_press_of_those_who_may() -> None:
    async with simulated() as sim:
        await sim.anna.send(sim.general, f"{sim.mention} do it")
        target = Target("discord", str(sim.general.id))
        question = Question("ask-1", ("once", "deny"))
        sent = await sim.adapter.send(target, outbound("may I?", kind="question", question=question))
        message = sim.general.last_message
        assert str(message.id) == sent.message_id
        refused = await sim.mallory.click(message, label="once")
        assert refused.ephemeral
        assert sim.core.presses == []
        await sim.anna.click(message, label="once")
        assert [(press.ask, press.choice, press.user_name) for press in sim.core.presses] == [("ask-1", "once", "anna")]
        await sim.adapter.settle(target, sent.message_id, "may I? once, by anna")
        assert sim.general.last_message.content == "may I? once, by anna"
