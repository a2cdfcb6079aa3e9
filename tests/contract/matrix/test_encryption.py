"""An encrypted room at a real Synapse: the other side is mautrix' own client with keys of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from harness.matrix.bot import Bot
from harness.matrix.person import Event, Person
from mautrix.client import Client
from mautrix.client.state_store.memory import MemoryStateStore
from mautrix.types import EventType, MessageType, TextMessageEventContent, TrustState

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import AdapterError, Unavailable
from hermesd.adapters.matrix import crypto, sending

LIMIT = 1 << 20
UNREADABLE = {
    "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgAEnACgAkLmt6qF84IK++J7UDH2Za1YVchHyprqTqsg",
    "session_id": "nobody knows it", "sender_key": "x", "device_id": "y",
}  # fmt: skip
"""An event whose key nobody has."""


@pytest.fixture(autouse=True)
def _libraries(lacking: Callable[[str], NoReturn]) -> None:
    if importlib.util.find_spec("olm") is None:
        lacking("the libraries of Matrix' encryption are not installed: ./scripts/test installs them (cmake, g++)")


class Keys(MemoryStateStore):  # type: ignore[misc]
    async def find_shared_rooms(self, user_id: str) -> list[str]:
        return [room for room, members in self.members.items() if user_id in members]


class Secretive:
    """A person whose client encrypts."""

    def __init__(self, person: Person, url: str):
        self.person = person
        self.client = Client(
            mxid=person.user_id, device_id=person.device_id, base_url=url, token=person.token, state_store=Keys()
        )
        self.read: list[Any] = []
        self._more = asyncio.Condition()

    async def begin(self) -> None:
        from mautrix.crypto import MemoryCryptoStore, OlmMachine

        machine = OlmMachine(self.client, MemoryCryptoStore(self.person.user_id, "key"), self.client.state_store)
        machine.share_keys_min_trust = machine.send_keys_min_trust = TrustState.UNVERIFIED
        await machine.load()
        self.client.crypto = machine
        await machine.share_keys()
        self.client.add_event_handler(EventType.ROOM_MESSAGE, self._message)
        self.client.start(None)

    async def _message(self, event: Any) -> None:
        if event.sender != self.person.user_id:
            self.read.append(event)
            async with self._more:
                self._more.notify_all()

    async def heard(self, text: str, seconds: float = 20.0) -> Any:
        def find() -> Any:
            return next((one for one in self.read if one.content.body == text), None)

        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(find)
        return find()

    async def say(self, room: str, text: str) -> str:
        content = TextMessageEventContent(msgtype=MessageType.TEXT, body=text)
        return str(await self.client.send_message(room, content))

    async def end(self) -> None:
        self.client.stop()
        await self.client.api.session.close()


@pytest.fixture
async def carla(bot: Bot, anna: Person, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Secretive]:
    logging.getLogger("mau").setLevel(logging.ERROR)
    made = Secretive(anna, bot.server.url)
    await made.begin()
    bot.environ["MATRIX_ENCRYPTION"] = "true"
    yield made
    await made.end()


async def encrypted_room(bot: Bot, carla: Secretive) -> str:
    room = await asyncio.to_thread(carla.person.create_room, bot.user_id, direct=True, encrypted=True)

    def joined() -> bool:
        members = carla.client.state_store.members.get(room, {})
        return str(getattr(members.get(bot.user_id), "membership", "")) == "join"

    async with asyncio.timeout(60.0):
        while not joined():
            await asyncio.sleep(0.05)  # mautrix has no event for what its store knows
    return room


async def raw(person: Person, room: str, event_id: str) -> Event:
    return await asyncio.to_thread(person.event, room, event_id)


async def test_a_conversation_is_encrypted_both_ways_also_after_a_restart(bot: Bot, carla: Secretive) -> None:
    await bot.start()
    room = await encrypted_room(bot, carla)
    asked = await carla.say(room, "a secret")
    message = await bot.core.message("a secret")
    assert message.message_id == asked
    sent = await bot.send(room, "another *secret*", "1", reply_to=asked)
    answer = await carla.heard("another *secret*")
    assert answer.content.formatted_body == "another <em>secret</em>"
    for event_id in (asked, sent.message_id):
        event = await raw(carla.person, room, event_id)
        assert event["type"] == "m.room.encrypted"
        assert "secret" not in json.dumps(event)
    await bot.stop()
    late = await carla.say(room, "while you were away")
    await bot.start()
    assert (await bot.core.message("while you were away")).message_id == late
    again = await bot.send(room, "another *secret*", "1")
    assert again == sent, "exact resends hold for encrypted messages too"
    await bot.send(room, "after the restart", "2")
    await carla.heard("after the restart")


async def test_without_encryption_an_encrypted_room_is_told_so_once_and_doctor_knows(
    bot: Bot, carla: Secretive
) -> None:
    del bot.environ["MATRIX_ENCRYPTION"]
    await bot.start()
    room = await encrypted_room(bot, carla)
    for number in range(3):
        await carla.say(room, f"secret {number}")
    await asyncio.to_thread(
        carla.person.wait, lambda: [one for one in carla.person.messages(room, bot.user_id) if one["content"]]
    )
    carla.person.say(room, "in the open")
    await bot.core.message("in the open")
    carla.person.look()
    [told] = carla.person.messages(room, bot.user_id)
    assert (told["content"]["msgtype"], told["content"]["body"][:26]) == ("m.notice", "I cannot read this message")
    [warning] = bot.adapter.describe()["warnings"]
    assert room in warning


async def test_a_file_is_encrypted_both_ways(bot: Bot, carla: Secretive, tmp_path: Path) -> None:
    from mautrix.crypto.attachments import decrypt_attachment, encrypt_attachment

    await bot.start()
    room = await encrypted_room(bot, carla)
    (tmp_path / "a.txt").write_bytes(b"to her")
    await bot.send(room, "for you", files=(Attachment(str(tmp_path / "a.txt"), "a.txt", "text/plain"),))
    content = (await carla.heard("for you")).content
    ciphertext, _ = carla.person.download(content.file.url)
    assert b"to her" not in ciphertext
    keys = content.file
    assert decrypt_attachment(ciphertext, keys.key.key, keys.hashes["sha256"], keys.iv) == b"to her"

    secret, info = encrypt_attachment(b"to him")
    info.url = carla.person.upload(secret, "application/octet-stream", "x")
    content = {"msgtype": "m.file", "body": "b.txt", "info": {"mimetype": "text/plain"}, "file": info.serialize()}
    await carla.client.send_message_event(room, EventType.ROOM_MESSAGE, content)
    await bot.core.until(lambda: bot.core.inbox)
    [file] = bot.core.inbox[0].attachments
    stored = await bot.adapter.fetch(file, tmp_path / "media", LIMIT)
    assert Path(stored.path).read_bytes() == b"to him"


async def test_a_message_whose_key_comes_later_is_read_then_also_by_the_next_life(
    bot: Bot, carla: Secretive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bot.start()
    room = await encrypted_room(bot, carla)
    await carla.say(room, "first")
    await bot.core.message("first")
    await bot.stop()
    # The key of a new session goes out after the message: as when to-device messages are late.
    store = carla.client.crypto.crypto_store
    await store.remove_outbound_group_session(room)
    machine = carla.client.crypto
    late: list[Any] = []
    real = carla.client.send_to_device

    async def hold(event_type: Any, messages: Any) -> None:
        late.append((event_type, messages))

    carla.client.send_to_device = hold
    asked = await carla.say(room, "second")
    assert late
    assert machine
    await bot.start()
    await bot.core.until(lambda: asked in bot.core.kept.get("undecrypted", ""))
    await bot.again()
    assert bot.adapter.describe()["undecrypted"] == 1
    for event_type, messages in late:
        await real(event_type, messages)
    assert (await bot.core.message("second")).message_id == asked
    await bot.core.until(lambda: asked not in bot.core.kept["undecrypted"])


async def test_one_whose_key_never_comes_is_given_up_and_told_once(
    bot: Bot, carla: Secretive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crypto, "PATIENCE", 0.5)
    monkeypatch.setattr("hermesd.adapters.matrix.reading.RETRY_UNDECRYPTED", 0.2)
    await bot.start()
    room = await encrypted_room(bot, carla)
    for _ in range(3):
        carla.person.put(room, "m.room.encrypted", UNREADABLE)

    async with asyncio.timeout(60.0):
        while bot.adapter.describe()["undecrypted"] or not carla.read:
            await asyncio.sleep(0.05)
    await bot.send(room, "last", "last")
    await carla.heard("last")
    assert [one.content.body[:26] for one in carla.read] == ["I cannot read this message", "last"]
    assert bot.core.inbox == []


@pytest.mark.parametrize("gone", [True, False])
async def test_one_that_waited_in_a_room_that_is_gone_keeps_no_life_from_starting(
    bot: Bot, carla: Secretive, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr("hermesd.adapters.matrix.reading.RETRY_UNDECRYPTED", 0.2)
    await bot.start()
    room = await encrypted_room(bot, carla)
    lost = carla.person.put(room, "m.room.encrypted", UNREADABLE)
    await bot.core.until(lambda: lost in bot.core.kept.get("undecrypted", ""))
    await bot.stop()
    if gone:
        bot.server.admin.call("DELETE", f"/_synapse/admin/v1/rooms/{room}", {"purge": True})
    else:
        rows = json.loads(bot.core.kept["undecrypted"])
        bot.core.kept["undecrypted"] = json.dumps([[room, event_id, 1.0] for room, event_id, _ in rows])
    await bot.start()
    await bot.core.until(lambda: bot.core.kept["undecrypted"] == "[]")
    assert bot.adapter.describe()["given_up"] == 1
    if not gone:
        said = await carla.heard(sending.UNREADABLE)
        assert said.content.msgtype is MessageType.NOTICE


async def test_keys_of_another_device_are_refused_with_what_to_do(bot: Bot, carla: Secretive) -> None:
    await bot.start()
    await bot.stop()
    for path in (bot.directory / "matrix").glob("crypto.db*"):
        path.unlink()
    with pytest.raises(AdapterError, match="other keys for device") as caught:
        await bot.start()
    assert "crypto.db" in caught.value.fix


async def test_without_the_libraries_it_says_what_to_install(
    bot: Bot, carla: Secretive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mautrix.crypto", None)
    with pytest.raises(Unavailable, match=r"pip install 'hermesd\[encryption\]'"):
        await bot.start()
