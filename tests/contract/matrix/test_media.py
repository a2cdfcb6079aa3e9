"""Files both ways through the store of a real Synapse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from harness.matrix.bot import Bot, direct, shown
from harness.matrix.person import Person

from hermesd.adapters.contract import Attachment, Sticker
from hermesd.adapters.errors import Gone, Rejected
from hermesd.adapters.media import kinds

GIF = b"GIF89a" + bytes(20)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
OGG = b"OggS" + bytes(100)
LIMIT = 1 << 20


class TestIn:
    @pytest.mark.parametrize(
        ("content", "kind", "mime", "data"),
        [
            ({"msgtype": "m.image", "body": "a.png", "info": {"mimetype": "image/png"}}, "image", "image/png", PNG),
            ({"msgtype": "m.image", "body": "a.gif", "info": {"mimetype": "image/gif"}}, "animation", "image/gif", GIF),
            (
                {"msgtype": "m.image", "body": "a.svg", "info": {"mimetype": "image/svg+xml"}},
                "document", "image/svg+xml", b"<svg/>",
            ),
            ({"msgtype": "m.audio", "body": "a.ogg", "org.matrix.msc3245.voice": {}}, "voice", "audio/ogg", OGG),
            ({"msgtype": "m.audio", "body": "a.ogg"}, "audio", "audio/ogg", OGG),
            ({"msgtype": "m.video", "body": "a.mp4"}, "video", "video/mp4", b"video"),
            ({"msgtype": "m.file", "body": "../a.pdf"}, "document", "application/pdf", b"%PDF"),
        ],
    )  # fmt: skip
    async def test_each_kind_of_file_arrives_as_what_it_is(
        self, bot: Bot, anna: Person, tmp_path: Path, content: dict[str, object], kind: str, mime: str, data: bytes
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        anna.say(room, "", url=anna.upload(data, mime, "x"), **content)
        [message] = await bot.core.until(lambda: bot.core.inbox)
        [file] = message.attachments
        assert (file.path, file.kind, file.mime, message.text) == ("", kind, mime, "")
        stored = await bot.adapter.fetch(file, tmp_path / "media", LIMIT)
        assert Path(stored.path).read_bytes() == data
        assert Path(stored.path).parent == tmp_path / "media"
        assert stored.size == len(data)

    async def test_a_caption_is_the_text_and_a_sticker_has_an_id_that_is_the_same_for_everybody(
        self, bot: Bot, anna: Person
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        mxc = anna.upload(PNG, "image/png", "a.png")
        anna.say(room, "look at this", msgtype="m.image", filename="a.png", url=mxc)
        message = await bot.core.message("look at this")
        assert message.attachments[0].name == "a.png"
        anna.put(room, "m.sticker", {"body": "🦊", "url": mxc, "info": {"mimetype": "image/png"}})
        await bot.core.until(lambda: len(bot.core.inbox) == 2)
        [file] = bot.core.inbox[1].attachments
        assert (file.kind, file.sticker) == ("sticker", Sticker(mxc, "🦊"))

    async def test_a_file_that_is_too_large_not_what_it_says_or_not_there_is_refused_with_the_reason(
        self, bot: Bot, anna: Person, tmp_path: Path
    ) -> None:
        await bot.start()
        mxc = anna.upload(b"<html>" + bytes(1000), "image/png", "a.png")
        file = Attachment("", "a.png", "image/png", kinds.IMAGE, mxc)
        with pytest.raises(Rejected, match="not an image"):
            await bot.adapter.fetch(file, tmp_path, LIMIT)
        with pytest.raises(Rejected, match="1006 bytes, 100 are allowed"):
            await bot.adapter.fetch(file, tmp_path, 100)
        with pytest.raises(Rejected, match="2000 bytes, 100 are allowed"):
            await bot.adapter.fetch(replace(file, size=2000), tmp_path, 100)
        with pytest.raises(Gone, match="not there any more"):
            await bot.adapter.fetch(replace(file, remote="mxc://localhost/nothing"), tmp_path, LIMIT)
        for odd in ("http://127.0.0.1/x", "mxc://localhost", "mxc://../../x", "mxc://a/b/c", ""):
            with pytest.raises(Rejected, match="no address"):
                await bot.adapter.fetch(replace(file, remote=odd), tmp_path, LIMIT)
        assert [path for path in tmp_path.iterdir() if path.is_file()] == []


class TestOut:
    @pytest.mark.parametrize(
        ("kind", "name", "msgtype"),
        [
            ("image", "a.png", "m.image"), ("animation", "a.gif", "m.image"), ("voice", "a.ogg", "m.audio"),
            ("audio", "a.mp3", "m.audio"), ("video", "a.mp4", "m.video"), ("document", "a.pdf", "m.file"),
        ],
    )  # fmt: skip
    async def test_each_kind_of_file_is_shown_as_what_it_is(
        self, bot: Bot, anna: Person, tmp_path: Path, kind: str, name: str, msgtype: str
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        (tmp_path / name).write_bytes(PNG)
        mime = kinds.mime_of(name)
        file = Attachment(str(tmp_path / name), name, mime, kind, size=len(PNG))
        sent = await bot.send(room, "see **here**", files=(file,))
        content = (await shown(anna, room, sent.message_id))["content"]
        assert content["msgtype"] == msgtype
        assert (content["body"], content["filename"]) == ("see **here**", name)
        assert content["formatted_body"] == "see <strong>here</strong>"
        assert content["info"] == {"mimetype": mime, "size": len(PNG)}
        assert ("org.matrix.msc3245.voice" in content) == (kind == "voice")
        assert anna.download(content["url"]) == (PNG, mime)

    async def test_a_file_without_a_word_has_its_name_for_one_and_a_sticker_is_one(
        self, bot: Bot, anna: Person, tmp_path: Path
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        (tmp_path / "a.png").write_bytes(PNG)
        file = Attachment(str(tmp_path / "a.png"), "a.png", "image/png", "image")
        sent = await bot.send(room, "", "1", files=(file,))
        again = await bot.send(room, "", "1", files=(file,))
        sticker = await bot.send(room, "", "2", files=(replace(file, kind="sticker"),))
        assert (await shown(anna, room, sticker.message_id))["type"] == "m.sticker"
        animated = replace(file, kind="sticker", name="a.tgs", mime="application/x-tgsticker")
        unseen = await bot.send(room, "", "3", files=(animated,))
        assert (await shown(anna, room, unseen.message_id))["content"]["msgtype"] == "m.file"
        assert sent == again
        [image, *_] = anna.messages(room, bot.user_id)
        assert image["content"]["body"] == "a.png"

    async def test_the_servers_limit_is_known_and_what_is_not_there_is_refused(
        self, bot: Bot, anna: Person, tmp_path: Path
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        assert bot.adapter.capabilities(bot.target(room)).max_file_bytes == 1 << 20
        gone = Attachment(str(tmp_path / "gone"), "gone", "text/plain")
        with pytest.raises(Rejected, match="No such file"):
            await bot.send(room, "", files=(gone,))
        (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
        with pytest.raises(Rejected, match="upload"):
            await bot.send(room, "", files=(replace(gone, path=str(tmp_path / "large")),))
