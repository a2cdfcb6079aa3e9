"""Files both ways."""

from __future__ import annotations

from dataclasses import replace
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
WEBP = b"RIFF\x20\x00\x00\x00WEBPVP8 " + bytes(32)
TGS = b"\x1f\x8b\x08" + bytes(32)
WEBM = b"\x1a\x45\xdf\xa3" + bytes(32)


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


async def test_a_file_that_the_server_names_by_its_path_is_read_there(
    telegram: Emulator, core: Core, connect: Connect, tmp_path: Path
) -> None:
    """As a Bot API server with ``--local`` does."""
    adapter = await connect()
    telegram.send("document", b"%PDF-1.7", telegram.user(), name="plan.pdf", mime="application/pdf")
    received_file = await received(core)
    there, kept = tmp_path / "server" / "file_1.pdf", tmp_path / "kept"
    there.parent.mkdir()
    telegram.server.world.files[received_file.remote].path = str(there)
    telegram.fail("file", errors.ApiError(404, "Not Found"))
    with pytest.raises(Rejected, match="names a path"):
        await adapter.fetch(received_file, kept, LIMIT)
    there.write_bytes(b"%PDF-1.7 " * 20_000)
    file = await adapter.fetch(received_file, kept, LIMIT)
    assert (Path(file.path).parent, file.size) == (kept, 180_000)
    assert Path(file.path).read_bytes() == there.read_bytes()
    assert there.exists()
    with pytest.raises(Rejected, match="larger than 1000"):
        await adapter.fetch(received_file, kept, 1000)
    assert len(list(kept.iterdir())) == 1


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


VISUAL = (("a.png", "image"), ("b.mp4", "video"), ("c.png", "image"))


async def test_an_album_is_one_call_and_a_message_for_each_file(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path
) -> None:
    ann = telegram.user()
    chat = telegram.private(ann)
    asked = telegram.say("?", ann)
    files = tuple(attachment(tmp_path, name, kind, PNG + name.encode()) for name, kind in VISUAL)
    target = Target("telegram", str(chat.id), reply_to=str(asked))
    sent = await adapter.send(target, Outbound("k", "**look**", files))
    shown = telegram.sent(chat)
    assert [sent.message_id, *sent.others] == [str(message.id) for message in shown]
    assert [(message.media_kind, message.text) for message in shown] == [
        ("photo", "look"),
        ("video", ""),
        ("photo", ""),
    ]
    assert [message.file.data for message in shown if message.file] == [PNG + name.encode() for name, _ in VISUAL]
    assert shown[0].entities[0]["type"] == "bold"
    assert len({message.album for message in shown}) == 1
    assert shown[0].album
    assert {message.reply_to.id for message in shown if message.reply_to} == {asked}
    assert [call.status for call in telegram.calls() if call.method.startswith("send")] == [200]


async def test_an_album_is_tried_otherwise_as_a_message_is_and_one_with_a_bad_file_is_refused(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path
) -> None:
    chat = telegram.group("Forum", forum=True)
    target = Target("telegram", str(chat.id), "77")  # a topic that is not there
    files = tuple(attachment(tmp_path, name, "document") for name in ("a.pdf", "b.pdf"))
    await adapter.send(target, Outbound("k", "", files))
    assert [message.thread for message in telegram.sent(chat)] == [0, 0]
    bad = (
        *(attachment(tmp_path, name, "image") for name in ("a.png", "b.png")),
        attachment(tmp_path, "c.png", "image", b"?"),
    )
    with pytest.raises(Rejected, match="image_process_failed"):
        await adapter.send(target, Outbound("k", "", bad))
    telegram.cut("sendMediaGroup", "after")
    with pytest.raises(Uncertain):
        await adapter.send(replace(target, thread_id=""), Outbound("k", "", files))


async def test_what_goes_into_one_album(adapter: TelegramAdapter) -> None:
    albums = adapter.capabilities(Target("telegram", "1")).albums
    assert albums is not None
    kinds_ = ("image", "video", "audio", "document", "voice", "animation", "sticker")
    files = [Attachment("/f", "f.webp", "image/webp", kind, size=100) for kind in kinds_]
    assert [albums.sort(file) for file in files] == ["visual", "visual", "audio", "document", "", "", ""]
    assert albums.sort(Attachment("/f", "f.png", "image/png", "image", size=10_000_001)) == "document"


@pytest.mark.parametrize(
    ("name", "mime", "data", "shown"),
    [
        ("a.webp", "image/webp", WEBP, "sticker"),
        ("a.tgs", "application/x-tgsticker", TGS, "sticker"),
        ("a.webm", "video/webm", WEBM, "sticker"),
        ("a.png", "image/png", PNG, "photo"),
        ("a.webp", "image/webp", WEBP + bytes(1 << 19), "photo"),
        ("a.tgs", "application/x-tgsticker", TGS + bytes(1 << 16), "document"),
        ("a.webm", "video/webm", WEBM + bytes(1 << 18), "video"),
    ],
)
async def test_a_sticker_is_sent_as_one_where_telegram_has_such(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path, name: str, mime: str, data: bytes, shown: str
) -> None:
    chat = telegram.private(telegram.user())
    file = replace(attachment(tmp_path, name, "sticker", data), mime=mime)
    target = Target("telegram", str(chat.id))
    assert "sticker" in adapter.capabilities(target).bare
    await adapter.send(target, Outbound("k", "", (file,)))
    [message] = telegram.sent(chat)
    assert message.media_kind == shown


async def test_what_goes_with_a_sticker_goes_before_it(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path
) -> None:
    chat = telegram.private(telegram.user())
    file = replace(attachment(tmp_path, "a.webp", "sticker", WEBP), mime="image/webp")
    target = Target("telegram", str(chat.id))
    sent = await adapter.send(target, Outbound("k", "perhaps again", (file,)))
    text, sticker = telegram.sent(chat)
    assert (text.text, sticker.media_kind, sent.message_id) == ("perhaps again", "sticker", str(sticker.id))


async def test_where_stickers_are_not_allowed_it_is_a_picture(
    telegram: Emulator, adapter: TelegramAdapter, tmp_path: Path
) -> None:
    chat = telegram.group()
    chat.no_stickers = True
    file = replace(attachment(tmp_path, "a.webp", "sticker", WEBP), mime="image/webp")
    await adapter.send(Target("telegram", str(chat.id)), Outbound("k", "", (file,)))
    assert [message.media_kind for message in telegram.sent(chat)] == ["photo"]


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
    two = (attachment(tmp_path, "a.pdf", "document"), attachment(tmp_path, "b.mp3", "audio"))
    with pytest.raises(Rejected, match="one album"):
        await adapter.send(target, Outbound("k", "", two))
    assert not telegram.calls("sendDocument")
