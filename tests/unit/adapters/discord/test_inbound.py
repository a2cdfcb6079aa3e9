"""A message as discord.py parses it from the wire, as the core takes it."""

from __future__ import annotations

from typing import Any

import discord
import pytest
from harness.discord.world import World

from hermesd.adapters.contract import Attachment, Cursor, Inbound
from hermesd.adapters.discord import inbound
from hermesd.adapters.discord.addressing import Kind
from hermesd.adapters.discord.client import Client
from hermesd.adapters.discord.inbound import command_chat, command_text
from hermesd.adapters.discord.options import Options

SPOKEN = {"duration_secs": 2.0, "waveform": "AA=="}


class Parser:
    """discord.py's own parsing, fed with events of a server of ours."""

    def __init__(self) -> None:
        self.world = World()
        self.messages: list[discord.Message] = []
        self.client = Client(Options("token"), message=self.messages.append)
        state: Any = self.client._connection
        state.user = discord.user.ClientUser(state=state, data=self.world.bot)  # type: ignore[arg-type]
        self.state = state

    def enter(self) -> None:
        self.state._add_guild_from_data(self.world.guild_payload())

    def write(self, channel: str, text: str, *, user: str = "anna", **more: Any) -> discord.Message:
        made = self.world.message(channel, self.world.user(user), text, **more)
        self.state.parse_message_create(self.world.event_of(made))
        return self.messages[-1]

    def take(self, message: discord.Message) -> Inbound | None:
        place = inbound.place_of(message.channel, message.guild)
        return inbound.from_message("discord", message, command_chat(place), place, int(self.world.bot["id"]))


@pytest.fixture
def parser() -> Parser:
    return Parser()


async def test_a_direct_message(parser: Parser) -> None:
    channel = parser.world.direct("anna")
    message = parser.write(channel, "good day")
    taken = parser.take(message)
    assert taken is not None
    assert (taken.chat_id, taken.chat_type, taken.text, taken.user_name) == (channel, "dm", "good day", "anna")
    assert taken.user_id == str(parser.world.user("anna")["id"])
    assert taken.cursor == Cursor(f"dm:{channel}", str(message.id))
    assert taken.sent_at == pytest.approx(message.created_at.timestamp())


async def test_our_mention_goes_and_others_are_named(parser: Parser) -> None:
    channel = parser.world.channel("general")
    parser.enter()
    ben = parser.world.user("ben")["id"]
    text = f"<@{parser.world.bot['id']}> ask <@!{ben}> and <@404> <:party:123456789012345678>"
    message = parser.write(channel, text)
    taken = parser.take(message)
    assert taken is not None
    assert taken.text == "ask @ben and <@404> :party:"
    assert (taken.chat_type, taken.chat_name) == ("group", "general")
    assert taken.cursor == Cursor(channel, str(message.id))
    assert inbound.mentions(message, int(parser.world.bot["id"]))


async def test_a_reply_brings_what_it_answers(parser: Parser) -> None:
    channel = parser.world.direct("anna")
    first = parser.write(channel, "the first " + "x" * 600)
    reference = {"message_id": str(first.id), "channel_id": channel, "type": 0}
    taken = parser.take(parser.write(channel, "and?", message_reference=reference))
    assert taken is not None
    assert taken.reply_to_id == str(first.id)
    assert taken.reply_to_text == ("the first " + "x" * 600)[:500]


async def test_files_stickers_and_voice(parser: Parser) -> None:
    channel = parser.world.direct("anna")
    attach = parser.world.attach
    files = [
        attach("", channel, "cat.png", b"12345", "image/png", "http://cdn"),
        attach("", channel, "voice-message.ogg", b"1", "audio/ogg", "http://cdn") | SPOKEN,
        attach("", channel, "tune.mp3", b"1", "audio/mpeg", "http://cdn"),
        attach("", channel, "paper.pdf", b"1", "application/pdf", "http://cdn"),
    ]  # fmt: skip
    stickers = [{"id": "77", "name": "wave", "format_type": 1}, {"id": "78", "name": "spin", "format_type": 3}]
    message = parser.write(channel, "", attachments=files, sticker_items=stickers, flags=1 << 13)
    taken = parser.take(message)
    assert taken is not None
    kinds = [file.kind for file in taken.attachments]
    assert kinds == ["image", "voice", "audio", "document", "sticker", "sticker"]
    first = taken.attachments[0]
    assert isinstance(first, Attachment)
    assert (first.size, first.mime, first.path) == (5, "image/png", "")
    assert first.remote.startswith(f"{channel}/{message.id}/")
    still, moving = (file.sticker for file in taken.attachments[-2:])
    assert still is not None
    assert moving is not None
    assert (still.unique_id, still.animated, moving.animated) == ("77", False, True)


async def test_a_forwarded_message_says_what_it_forwards(parser: Parser) -> None:
    channel = parser.world.direct("anna")
    snapshot = {"message": {"content": "forwarded", "type": 0, "embeds": [], "attachments": [], "flags": 0,
                            "timestamp": "2026-01-01T00:00:00+00:00", "edited_timestamp": None}}  # fmt: skip
    taken = parser.take(parser.write(channel, "", message_snapshots=[snapshot]))
    assert taken is not None
    assert taken.text == "forwarded"


async def test_what_says_nothing_is_nothing(parser: Parser) -> None:
    assert parser.take(parser.write(parser.world.direct("anna"), "")) is None
    assert not inbound.is_speech(parser.write(parser.world.direct("anna"), "joined", type=7))


async def test_text_is_clean(parser: Parser) -> None:
    taken = parser.take(parser.write(parser.world.direct("anna"), "a\x00\r\nb\x1b[31m\ud800"))
    assert taken is not None
    assert taken.text == "a\nb[31m\ufffd"


async def test_places(parser: Parser) -> None:
    world = parser.world
    channel, forum = world.channel("general"), world.channel("forum", type_=15)
    thread, post = world.thread(channel, "t"), world.thread(forum, "p")
    parser.enter()
    places = {
        name: inbound.place_of(message.channel, message.guild)
        for name, message in {
            "channel": parser.write(channel, "x"), "thread": parser.write(thread, "x"), "post": parser.write(post, "x"),
            "dm": parser.write(world.direct("anna"), "x"),
        }.items()
    }  # fmt: skip
    assert [place.kind for place in places.values()] == [Kind.CHANNEL, Kind.THREAD, Kind.POST, Kind.DM]
    assert (places["thread"].parent, places["post"].parent) == (channel, forum)
    assert [place.may_thread for place in places.values()] == [True, False, False, False]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"name": "status"}, "/status"),
        ({"name": "title", "options": [{"value": " a b"}]}, "/title  a b"),
        ({"name": "n", "options": [{"value": None}, {"value": 3}]}, "/n 3"),
    ],
)
def test_commands_are_what_their_user_would_have_typed(data: Any, text: str) -> None:
    assert command_text(data) == text
