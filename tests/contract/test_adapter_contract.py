"""What every adapter owes the core, tried on each of them through its real way in."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
from harness.discord.server import DiscordServer
from harness.matrix.way import MatrixWay
from harness.telegram.emulator import Emulator
from harness.telegram.world import User

from hermesd.adapters import registry
from hermesd.adapters.contract import Adapter, CanAttach, Capabilities, Cursor, Inbound, Outbound, Target
from hermesd.adapters.errors import AdapterError, DeliveryError, Gone, NotAccepted, Unattended
from hermesd.adapters.fake import FakeAdapter

SECRET = "canary-4f1c"
NOWHERE = "404"  # a chat that nobody has
WAYS = ("fake", "fake by its socket", "local", "api_server", "discord", "matrix", "telegram", "webhook")


class Core:
    """A receiver whose journal commits when ``commit`` is set, and refuses while ``refusal`` is not empty."""

    def __init__(self) -> None:
        self.journal: dict[tuple[str, str], Inbound] = {}
        self.arrived = asyncio.Event()
        self.commit = asyncio.Event()
        self.commit.set()
        self.refusal = ""
        self.cancelled: list[Target] = []
        self.kept: dict[str, str] = {}

    async def receive(self, inbound: Inbound) -> bool:
        self.arrived.set()
        await self.commit.wait()
        if self.refusal:
            raise NotAccepted(self.refusal)
        place = (inbound.chat_id, inbound.message_id)
        new = place not in self.journal
        self.journal.setdefault(place, inbound)
        if inbound.cursor is not None:
            self.kept[inbound.cursor.name] = inbound.cursor.value
        return new

    def cancel(self, inbound_chat: Target) -> None:
        self.cancelled.append(inbound_chat)

    def attended(self, chat: Target) -> None: ...

    def lost(self, platform: str, error: AdapterError) -> None:
        raise AssertionError(f"{platform} was lost: {error}")

    async def cursor(self, platform: str, name: str) -> str:
        return self.kept.get(name, "")

    async def cursors(self, platform: str) -> dict[str, str]:
        return dict(self.kept)

    async def keep_cursor(self, platform: str, cursor: Cursor) -> None:
        self.kept[cursor.name] = cursor.value


class Refused(Exception):
    """The platform was not told that its message has been taken."""


class Way(Protocol):
    """The other side of an adapter: a person with a client."""

    adapter: Any

    def ids(self, chat: str, message_id: str) -> tuple[str, str]:
        """What the platform calls them."""

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        """Returns when the message is confirmed; raises `Refused`."""

    async def shown(self, chat: str, message_id: str) -> str:
        """What this person sees as the answer."""

    async def close(self) -> None: ...


class Named:
    """A platform on which people choose the names."""

    def ids(self, chat: str, message_id: str) -> tuple[str, str]:
        return chat, message_id


class FakeWay(Named):
    def __init__(self, tmp_path: Path):
        self.adapter = registry.make("fake", {"token": SECRET})
        assert isinstance(self.adapter, FakeAdapter)

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        try:
            await self.adapter.say(text, chat=chat, message_id=message_id)
        except NotAccepted as error:
            assert message_id in self.adapter.unconfirmed()
            raise Refused from error
        assert message_id not in self.adapter.unconfirmed()

    async def shown(self, chat: str, message_id: str) -> str:
        assert await self.adapter.wait(1, 30, chat=chat, reply_to=message_id)
        return self.adapter.transcript(chat=chat, reply_to=message_id)[-1].text

    async def close(self) -> None: ...


class FakeSocketWay(Named):
    """The fake as a test of an installed hermesd drives it."""

    def __init__(self, tmp_path: Path):
        self.path = str(tmp_path / "fake.sock")
        self.adapter = registry.make("fake", {"token": SECRET, "extra": {"socket": self.path}})

    async def _do(self, **request: Any) -> dict[str, Any]:
        try:
            reader, writer = await asyncio.open_unix_connection(self.path)
        except OSError as error:
            raise Refused from error
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()
        return dict(json.loads(line)) if line else {"accepted": False}

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        if not (await self._do(op="say", text=text, chat=chat, message_id=message_id))["accepted"]:
            raise Refused

    async def shown(self, chat: str, message_id: str) -> str:
        assert (await self._do(op="wait", count=1, timeout=30, chat=chat, reply_to=message_id))["met"]
        answers = await self._do(op="transcript", chat=chat, reply_to=message_id)
        return str(answers["messages"][-1]["text"])

    async def close(self) -> None: ...


class Screen:
    """A front that keeps what it is shown."""

    def __init__(self) -> None:
        self.answers: dict[str, Outbound] = {}
        self.changed = asyncio.Event()

    async def answer(self, reply_to: str, message: Outbound) -> None:
        self.answers[reply_to] = message
        self.changed.set()

    def stream(self, reply_to: str, text: str) -> None: ...
    def notice(self, reply_to: str, text: str) -> None: ...
    def closed(self) -> None: ...


class LocalWay(Named):
    def __init__(self, tmp_path: Path):
        self.adapter = registry.make("local", {"token": SECRET})
        assert isinstance(self.adapter, CanAttach)
        self.screens: dict[str, Screen] = {}
        self.chats: dict[str, Any] = {}

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        try:
            if chat not in self.chats:
                self.chats[chat] = self.adapter.attach(chat, self.screens.setdefault(chat, Screen()))
            await self.chats[chat].say(text, message_id)
        except AdapterError as error:
            raise Refused from error

    async def shown(self, chat: str, message_id: str) -> str:
        screen = self.screens[chat]
        while message_id not in screen.answers:
            screen.changed.clear()
            await screen.changed.wait()
        return screen.answers[message_id].text

    async def close(self) -> None: ...


class ApiWay(Named):
    def __init__(self, tmp_path: Path):
        self.adapter = registry.make("api_server", {"extra": {"port": 0, "key": SECRET}})
        self.client: aiohttp.ClientSession | None = None
        self.open: dict[tuple[str, str], aiohttp.ClientResponse] = {}
        self.responses: list[aiohttp.ClientResponse] = []

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        self.client = self.client or aiohttp.ClientSession()
        try:
            response = await self.client.post(
                f"{self.adapter.describe()['address']}/chat/completions",
                json={"messages": [{"role": "user", "content": text}], "stream": True},
                headers={
                    "Authorization": f"Bearer {SECRET}",
                    "X-Hermes-Session-Id": chat,
                    "Idempotency-Key": message_id,
                },
            )
        except aiohttp.ClientError as error:
            raise Refused from error
        if response.status != 200:
            response.close()
            raise Refused
        self.responses.append(response)
        self.open[(chat, message_id)] = response

    async def shown(self, chat: str, message_id: str) -> str:
        body = await self.open[(chat, message_id)].text()
        events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events)

    async def close(self) -> None:
        # A stream whose end is not read holds its connection, also beyond its session, until the collector complains.
        for response in self.responses:
            response.close()
        if self.client is not None:
            await self.client.close()


class WebhookWay(Named):
    """A program that signs as GitHub does, with a route for each chat, and somebody who reads hermesd's log."""

    def __init__(self, tmp_path: Path):
        routes = {name: {"prompt": "{text}"} for name in ("room", "a", "b")}
        settings = {"extra": {"port": 0, "secret": SECRET, "routes": routes, "home": str(tmp_path)}}
        self.adapter = registry.make("webhook", settings)
        self.client: aiohttp.ClientSession | None = None
        self.log = Log()

    def ids(self, chat: str, message_id: str) -> tuple[str, str]:
        return f"{chat}:{message_id}", message_id

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        self.client = self.client or aiohttp.ClientSession()
        body = json.dumps({"text": text}).encode()
        headers = {
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": message_id,
            "X-Hub-Signature-256": f"sha256={hmac.new(SECRET.encode(), body, 'sha256').hexdigest()}",
        }
        try:
            url = f"{self.adapter.describe()['url']}/webhooks/{chat}"
            async with self.client.post(url, data=body, headers=headers) as response:
                if response.status not in (200, 202):
                    raise Refused
        except aiohttp.ClientError as error:
            raise Refused from error

    async def shown(self, chat: str, message_id: str) -> str:
        begin = f"answer to event {message_id} of route {chat}: "
        while not (found := [line for line in self.log.lines if line.startswith(begin)]):
            await asyncio.sleep(0.002)
        return found[-1].removeprefix(begin)

    async def close(self) -> None:
        self.log.close()
        if self.client is not None:
            await self.client.close()


class Log(logging.Handler):
    """Keeps what the adapter writes into hermesd's log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.logger = logging.getLogger("hermesd.adapters.webhook")
        self.logger.addHandler(self)
        self.logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def close(self) -> None:
        self.logger.removeHandler(self)
        self.logger.setLevel(logging.NOTSET)
        super().close()


class DiscordWay:
    """A person in direct messages on a server of ours. Each chat is somebody else's."""

    def __init__(self, tmp_path: Path):
        self.server = DiscordServer(token=SECRET).open()
        self.adapter = registry.make("discord", {"token": SECRET, "extra": self.server.extra})
        self.written: dict[tuple[str, str], str] = {}

    def ids(self, chat: str, message_id: str) -> tuple[str, str]:
        return self.server.direct(chat), self.written.get((chat, message_id), "1")

    def told(self) -> dict[str, Any]:
        return dict(self.adapter.describe())

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        before = self.told()["messages"]
        channel = self.server.direct(chat)
        if (chat, message_id) in self.written:
            self.server.repeat(channel, self.written[(chat, message_id)])
        else:
            self.written[(chat, message_id)] = self.server.say(channel, text, user=chat)
        if self.adapter.state().word != "online":
            raise Refused
        while self.told()["messages"] == before:
            await asyncio.sleep(0.002)
        while self.told()["waiting"]:
            if self.told()["held_up"] and self.told()["waiting"] == 1:
                raise Refused
            await asyncio.sleep(0.002)

    async def shown(self, chat: str, message_id: str) -> str:
        while not (answers := self.server.answers_to(self.written[(chat, message_id)])):
            await asyncio.sleep(0.002)
        return str(answers[-1]["content"])

    async def close(self) -> None:
        self.server.close()


class TelegramWay:
    """A person with a client of an emulated Telegram, which numbers chats and messages by itself."""

    def __init__(self, tmp_path: Path):
        self.telegram = Emulator(token=f"7318204455:{SECRET}").__enter__()
        self.adapter = registry.make(
            "telegram", {"token": self.telegram.token, "extra": {"base_url": self.telegram.base_url}}
        )
        self.users: dict[str, User] = {}
        self.said: dict[tuple[str, str], int] = {}

    def ids(self, chat: str, message_id: str) -> tuple[str, str]:
        user = self.users.get(chat)
        return (str(user.id) if user else "1", str(self.said.get((chat, message_id), 1)))

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        user = self.users.setdefault(chat, self.telegram.user(chat))
        place = self.telegram.private(user)
        number = self.said.get((chat, message_id), 0)
        if not number:
            number = self.said[chat, message_id] = self.telegram.say(text, user)
        elif not self.telegram.update_of(place, number):
            self.telegram.again(place, number)
        update = self.telegram.update_of(place, number)
        server = self.telegram.server
        before = server.handed_out[update]

        def settled() -> bool:
            """Acknowledged, or handed out for a second time, or nobody asks for it."""
            refused = server.handed_out[update] > before + 1
            return update not in server.updates or refused or self.adapter.state().word == "stopped"

        await self.telegram.wait_async(settled)
        if update in server.updates:
            raise Refused

    async def shown(self, chat: str, message_id: str) -> str:
        place, number = self.telegram.private(self.users[chat]), self.said[chat, message_id]
        return (await self.telegram.wait_async(lambda: self.telegram.answers(place, number)))[-1].text

    async def close(self) -> None:
        self.telegram.__exit__(None, None, None)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "fake": FakeWay,
    "fake by its socket": FakeSocketWay,
    "local": LocalWay,
    "api_server": ApiWay,
    "discord": DiscordWay,
    "telegram": TelegramWay,
    "webhook": WebhookWay,
}


@pytest.fixture(params=WAYS)
async def way(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Way]:
    if request.param == "matrix":
        made: Any = MatrixWay(request.getfixturevalue("synapse"), tmp_path, Refused)
    else:
        made = MAKERS[request.param](tmp_path)
    yield made
    if made.adapter.state().word != "stopped":
        await made.adapter.stop()
    await made.close()


@pytest.fixture
async def core() -> Core:
    return Core()


def answer(text: str) -> Outbound:
    return Outbound(key="k1", text=text)


def place(way: Way, chat: str = "room", message_id: str = "m1") -> Target:
    chat_id, reply_to = way.ids(chat, message_id)
    return Target(way.adapter.name, chat_id, reply_to=reply_to)


async def test_an_adapter_has_what_the_core_calls(way: Way, core: Core) -> None:
    assert isinstance(way.adapter, Adapter)
    assert isinstance(way.adapter.capabilities(place(way)), Capabilities)


async def test_its_state_tells_whether_it_is_online(way: Way, core: Core) -> None:
    assert way.adapter.state().word == "stopped"
    await way.adapter.start(core)
    assert way.adapter.state().word == "online"
    assert way.adapter.state().since > 0
    await way.adapter.stop()
    assert way.adapter.state().word == "stopped"


async def test_a_description_is_json_and_holds_no_secret(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    assert SECRET not in json.dumps(way.adapter.describe())


async def test_a_message_arrives_clean_and_with_its_sender(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    await way.hand_in("a\x00b\r\nc\x1b[31m \ud800", chat="room", message_id="m7")
    inbound = core.journal[way.ids("room", "m7")]
    assert inbound.text == "ab\nc[31m \ufffd"
    assert inbound.platform == way.adapter.name
    assert inbound.user_id != ""
    assert inbound.chat_type == "dm"


async def test_a_message_is_confirmed_only_after_it_is_on_disk(way: Way, core: Core) -> None:
    core.commit.clear()
    await way.adapter.start(core)
    handing_in = asyncio.create_task(way.hand_in("hello"))
    await core.arrived.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(handing_in), 0.05)
    core.commit.set()
    await handing_in
    assert len(core.journal) == 1


async def test_a_message_that_could_not_be_kept_is_not_confirmed_and_may_come_again(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    core.refusal = "the disk is full"
    with pytest.raises(Refused):
        await way.hand_in("hello")
    assert core.journal == {}
    core.refusal = ""
    await way.hand_in("hello")
    assert len(core.journal) == 1


async def test_a_message_that_comes_twice_is_confirmed_twice_and_kept_once(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    await way.hand_in("hello")
    await way.hand_in("hello")
    assert len(core.journal) == 1


async def test_an_answer_reaches_the_one_who_asked(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    await way.hand_in("hello")
    reading = asyncio.create_task(way.shown("room", "m1"))
    sent = await way.adapter.send(place(way), answer("good day"))
    assert sent.message_id != ""
    assert await reading == "good day"


async def test_chats_do_not_mix(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    await way.hand_in("one", chat="a", message_id="1")
    await way.hand_in("two", chat="b", message_id="1")
    readings = [asyncio.create_task(way.shown(chat, "1")) for chat in ("a", "b")]
    await way.adapter.send(place(way, "b", "1"), answer("for b"))
    await way.adapter.send(place(way, "a", "1"), answer("for a"))
    assert await asyncio.gather(*readings) == ["for a", "for b"]


async def test_a_chat_that_the_platform_does_not_know_is_gone_or_has_nobody_in_it(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    with pytest.raises((Gone, Unattended), match="cannot"):
        await way.adapter.send(replace(place(way), chat_id=NOWHERE), answer("hello"))


async def test_no_message_comes_in_after_stop(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    await way.hand_in("before")
    await way.adapter.stop()
    with pytest.raises(Refused):
        await way.hand_in("after", message_id="m2")
    assert list(core.journal) == [way.ids("room", "m1")]


async def test_nothing_is_sent_after_stop_without_an_error(way: Way, core: Core) -> None:
    await way.adapter.start(core)
    await way.hand_in("before")
    await way.adapter.stop()
    with pytest.raises(DeliveryError):
        await way.adapter.send(place(way), answer("too late"))


async def test_stop_ends_every_task_even_with_messages_open(way: Way, core: Core) -> None:
    before = asyncio.all_tasks()
    await way.adapter.start(core)
    await way.hand_in("never answered")
    async with asyncio.timeout(30):
        await way.adapter.stop()
    await way.close()
    assert asyncio.all_tasks() - before == set()
