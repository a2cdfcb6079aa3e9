"""Files both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.telegram import errors
from harness.telegram.core import Core
from harness.telegram.emulator import PNG, Emulator

from hermesd.adapters.contract import Attachment, Outbound, Target
from hermesd.adapters.errors import Gone, Rejected, Retry, Uncertain
from hermesd.adapters.telegram.adapter import TelegramAdapter

from .conftest import Connect

LIMIT = 20 << 20


async def received(core: Core) -> Attachment:
    return (await core.until(lambda: core.inbounds))[0].attachments[0]


async def test_a_file_is_fetched_from_the_configured_server(
    telegram: Emulator, core: Core, connect: Connect, tmp_path: Path
) -> None:
    adapter = await connect()
    telegram.send("document", b"%PDF-1.7 " * 20_000, telegram.user(), name="../../plan.pdf", mime="application/pdf")
    file = await adapter.fetch(await received(core), tmp_path, LIMIT)
    assert Path(file.path).parent == tmp_path
    assert Path(file.path).read_bytes() == b"%PDF-1.7 " * 20_000
    assert (file.name, file.size, file.mime) == ("plan.pdf", 180_000, "application/pdf")


async def test_a_photo_is_fetched_in_its_largest_size_and_must_be_one(
    telegram: Emulator, core: Core, connect: Connect, tmp_path: Path
) -> None:
    adapter = await connect()
    telegram.send("photo", PNG, telegram.user(), name="photo.jpg", mime="image/jpeg")
    photo = await received(core)
    file = await adapter.fetch(photo, tmp_path, LIMIT)
    assert file.mime == "image/png"  # by its content, whatever Telegram says
    telegram.server.world.files[photo.remote].data = b"<html>not a picture</html>"
    with pytest.raises(Rejected, match="not an image"):
        await adapter.fetch(photo, tmp_path, LIMIT)
    assert len(list(tmp_path.iterdir())) == 1


async def test_what_is_too_large_is_refused_before_it_is_fetched(
    telegram: Emulator, core: Core, connect: Connect, tmp_path: Path
) -> None:
    adapter = await connect()
    telegram.send("video", b"x", telegram.user(), name="film.mp4", mime="video/mp4", claims=(20 << 20) + 1)
    film = await received(core)
    with pytest.raises(Rejected, match="20 MB"):
        await adapter.fetch(film, tmp_path, LIMIT)
    assert not telegram.calls("getFile")
    with pytest.raises(Rejected, match="File is too big"):
        await adapter.fetch(film, tmp_path, 100 << 20)
    assert not telegram.calls("file")


async def test_a_file_that_lies_about_its_size_is_cut_off(
    telegram: Emulator, core: Core, connect: Connect, tmp_path: Path
) -> None:
    adapter = await connect()
    telegram.send("document", b"x" * 300_000, telegram.user(), name="a.txt", mime="text/plain", claims=10)
    with pytest.raises(Rejected, match="larger than 1000"):
        await adapter.fetch(await received(core), tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []


async def test_what_goes_wrong_in_fetching_tells_no_token(
    telegram: Emulator, core: Core, connect: Connect, tmp_path: Path
) -> None:
    adapter = await connect()
    telegram.send("document", b"x" * 500_000, telegram.user(), name="a.txt", mime="text/plain")
    file = await received(core)
    telegram.cut("file")
    telegram.fail("file", errors.ApiError(500, "Internal Server Error"))
    telegram.fail("file", errors.ApiError(404, "Not Found"))
    telegram.fail("getFile", errors.wrong_file_id())
    for kind in (Gone, Retry, Retry, Gone):
        with pytest.raises(kind) as caught:
            await adapter.fetch(file, tmp_path, LIMIT)
        assert telegram.token not in f"{caught.value} {caught.value.__cause__}"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
async def adapter(connect: Connect) -> TelegramAdapter:
    return await connect()


def attachment(tmp_path: Path, name: str, kind: str, data: bytes = PNG) -> Attachment:
    path = tmp_path / name
    path.write_bytes(data)
    return Attachment(str(path), name, kind=kind, size=len(data))


@pytest.mark.parametrize(
    ("name", "kind", "method", "field"),
    [
        ("a.png", "image", "sendPhoto", "photo"),
        ("a.gif", "animation", "sendAnimation", "animation"),
        ("a.ogg", "voice", "sendVoice", "voice"),
        ("a.mp3", "audio", "sendAudio", "audio"),
        ("a.mp4", "video", "sendVideo", "video"),
        ("a.pdf", "document", "sendDocument", "document"),
    ],
)
async def test_a_file_is_sent_as_what_it_is_with_its_caption(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path, name: str, kind: str, method: str, field: str
) -> None:
    ann = telegram.user()
    chat = telegram.private(ann)
    asked = telegram.say("?", ann)
    file = attachment(tmp_path, name, kind)
    target = Target("telegram", str(chat.id), reply_to=str(asked))
    sent = await adapter.send(target, Outbound("k", "**look**", (file,)))
    [call] = telegram.calls(method)
    assert call.files[field][:2] == (name, len(PNG))
    message = chat.messages[int(sent.message_id)]
    assert field in message.media
    assert message.file is not None
    assert message.file.data == PNG
    assert message.text == "look"
    assert message.entities[0]["type"] == "bold"
    assert message.reply_to is chat.messages[asked]


async def test_what_cannot_be_shown_as_such_is_sent_as_a_document(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path
) -> None:
    chat = telegram.private(telegram.user())
    target = Target("telegram", str(chat.id))
    await adapter.send(target, Outbound("k", "", (attachment(tmp_path, "a.png", "image", b"no picture"),)))
    large = attachment(tmp_path, "large.png", "image", PNG + bytes(10_000_001))
    await adapter.send(target, Outbound("k", "", (large,)))
    chat.no_voice = True
    await adapter.send(target, Outbound("k", "", (attachment(tmp_path, "a.ogg", "voice"),)))
    assert [message.media_kind for message in telegram.sent(chat)] == ["document"] * 3
    assert len(telegram.calls("sendPhoto")) == 1  # the large one was not even tried


async def test_a_sent_file_that_was_cut_is_uncertain_and_its_caption_can_be_edited(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path
) -> None:
    chat = telegram.private(telegram.user())
    target = Target("telegram", str(chat.id))
    file = attachment(tmp_path, "a.pdf", "document")
    telegram.cut("sendDocument", "after")
    with pytest.raises(Uncertain):
        await adapter.send(target, Outbound("k", "one", (file,)))
    sent = await adapter.send(target, Outbound("k", "one", (file,)))
    await adapter.edit(target, sent.message_id, Outbound("k", "*two*"))
    assert chat.messages[int(sent.message_id)].text == "two"


async def test_what_cannot_be_sent_is_refused_here(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target("telegram", str(telegram.private(telegram.user()).id))
    with pytest.raises(Rejected, match="No such file"):
        await adapter.send(target, Outbound("k", "", (Attachment(str(tmp_path / "none.pdf"), "none.pdf"),)))
    with pytest.raises(Rejected, match="empty"):
        await adapter.send(target, Outbound("k", "", (attachment(tmp_path, "a.txt", "document", b""),)))
    big = tmp_path / "big.bin"
    with big.open("wb") as out:
        out.truncate(50_000_001)  # sparse
    with pytest.raises(Rejected, match="Telegram takes 50000000"):
        await adapter.send(target, Outbound("k", "", (Attachment(str(big), "big.bin"),)))
    two = (attachment(tmp_path, "a.pdf", "document"), attachment(tmp_path, "b.pdf", "document"))
    with pytest.raises(Rejected, match="several files"):
        await adapter.send(target, Outbound("k", "", two))
    assert not telegram.calls("sendDocument")
