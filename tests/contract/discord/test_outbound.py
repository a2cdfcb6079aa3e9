"""What people see: answers, edits, threads, files, and each message once."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from harness.discord.bot import Bot, eventually, outbound
from harness.discord.server import DiscordServer
from harness.discord.world import NO_HISTORY, NO_THREADS, VOICE, Refusal
from harness.ogg import ogg_opus

from hermesd.adapters.contract import Attachment, CanDelete, CanEdit, CanFind, CanReact, CanType, Outbound, Target
from hermesd.adapters.discord import sending
from hermesd.adapters.errors import Gone, Rejected, Retry, Uncertain


async def asked(bot: Bot, channel: str, text: str = "question") -> Target:
    """Somebody asks; where the answer goes."""
    message = bot.server.say(channel, text)
    await eventually(lambda: any(one.message_id == message for one in bot.core.journal.values()))
    return bot.target(message)


async def test_it_can_what_the_core_looks_for(bot: Bot) -> None:
    for capability in (CanEdit, CanFind, CanDelete, CanType, CanReact):
        assert isinstance(bot.adapter, capability)


async def test_an_answer_quotes_its_question_and_pings_nobody(bot: Bot, server: DiscordServer) -> None:
    target = await asked(bot, server.direct("anna"))
    await bot.adapter.send(target, outbound("@everyone <@1> good day"))
    call = server.calls("POST", "/messages$")[-1]
    assert call.body["allowed_mentions"]["parse"] == []
    assert not call.body["allowed_mentions"].get("replied_user")
    assert str(call.body["message_reference"]["message_id"]) == target.reply_to
    assert server.by_bot()[0]["content"] == "@everyone <@1> good day"
    await bot.adapter.send(target, outbound("no quote", "k2", quotes=False))
    assert "message_reference" not in server.calls("POST", "/messages$")[-1].body


async def test_progress_makes_no_notification(bot: Bot, server: DiscordServer) -> None:
    target = await asked(bot, server.direct("anna"))
    await bot.adapter.send(target, outbound("writing", kind="progress", final=False))
    assert server.by_bot()[0]["flags"] == 1 << 12  # SUPPRESS_NOTIFICATIONS


async def test_a_send_whose_answer_was_cut_goes_again_and_is_there_once(bot: Bot, server: DiscordServer) -> None:
    target = await asked(bot, server.direct("anna"))
    assert not bot.adapter.capabilities(target).exact_resends, "Discord forgets a nonce"
    server.fail("POST", "/messages$", carried_out=True)
    with pytest.raises(Uncertain):
        await bot.adapter.send(target, outbound("once"))
    assert await find(bot, target, outbound("once")) is None, "Discord itself knows it for now"
    assert not server.calls("GET", "/messages$")
    sent = await bot.adapter.send(target, outbound("once"))
    assert [one["id"] for one in server.by_bot()] == [sent.message_id]
    await bot.adapter.send(target, outbound("once", "k2"))
    assert len(server.by_bot()) == 2


# ---- what may be there already ---------------------------------------------------------------------------------------


async def find(
    bot: Bot, target: Target, *forms: Outbound, since: float = 0.0, others: Iterable[str] = ()
) -> str | None:
    assert isinstance(bot.adapter, CanFind)
    return await bot.adapter.find(target, forms, since=since, others=[*others])


async def test_what_was_cut_long_ago_is_found(bot: Bot, server: DiscordServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "NONCE_SECONDS", 0.0)
    target = await asked(bot, server.direct("anna"))
    server.fail("POST", "/messages$", carried_out=True)
    with pytest.raises(Uncertain):
        await bot.adapter.send(target, outbound("once"))
    assert await find(bot, target, outbound("once")) == server.by_bot()[0]["id"]


async def test_what_an_earlier_life_sent_is_found_in_each_of_its_forms_and_nothing_else(
    bot: Bot, server: DiscordServer
) -> None:
    target = await asked(bot, server.direct("anna"))
    begun = time.time()
    first = (await bot.adapter.send(target, outbound("once"))).message_id
    await bot.stop()
    await bot.start()
    assert await find(bot, target, outbound("once")) == first
    assert await find(bot, target, outbound("once more"), outbound("once")) == first
    assert await find(bot, target, outbound("once", quotes=False)) is None
    assert await find(bot, target, outbound("another answer")) is None
    assert await find(bot, target, outbound("once"), others=[first]) is None, "it is another message's"
    later = await asked(bot, server.direct("anna"), "and then?")
    assert await find(bot, later, outbound("once")) is None, "it is older than what it would answer"
    nobody = Target("discord", target.chat_id)
    loose = (await bot.adapter.send(nobody, outbound("told", "k2"))).message_id
    assert await find(bot, nobody, outbound("told"), since=begun) == loose
    assert await find(bot, nobody, outbound("told"), since=begun + 2 * sending.CLOCK_SECONDS) is None


async def test_of_an_answer_that_was_being_written_the_beginning_is_found(bot: Bot, server: DiscordServer) -> None:
    target = await asked(bot, server.direct("anna"))
    growing = outbound("The answer is ▉", kind="progress", final=False)
    first = (await bot.adapter.send(target, growing)).message_id
    assert await find(bot, target, replace(growing, key="k2", text="The answer is that ▉")) == first
    assert await find(bot, target, replace(growing, key="k2", text="Another answer is ▉")) is None
    assert await find(bot, target, outbound("The answer is that", "k2")) is None


@pytest.mark.parametrize("since", [True, False])
async def test_where_nobody_can_look_it_is_uncertain(make_bot: Callable[..., Bot], since: bool) -> None:
    bot = make_bot(free_response_channels="", auto_thread=False)
    server = bot.server
    channel = server.channel("general")
    await bot.start()
    target = await asked(bot, channel, f"{server.mention} question")
    await bot.adapter.send(target, outbound("once"))
    begun = time.time() if since else 0.0
    server.fail("GET", "/messages$", status=403, body={"code": 50013, "message": "Missing Permissions"})
    with pytest.raises(Uncertain, match="Missing Permissions"):
        await find(bot, target, outbound("once"), since=begun)
    await bot.stop()
    server.world.permissions = NO_HISTORY
    await bot.start()
    with pytest.raises(Uncertain, match="shows nothing"):
        await find(bot, target, outbound("once"), since=begun)
    with pytest.raises(Uncertain, match="since when"):
        await find(bot, Target("discord", channel), outbound("once"))
    with pytest.raises(Gone):
        await find(bot, Target("discord", "12345"), outbound("once"), since=time.time())


async def test_what_is_too_far_back_is_uncertain(
    bot: Bot, server: DiscordServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "LOOKED_AT", 3)
    anna = server.direct("anna")
    target = await asked(bot, anna)
    assert await find(bot, target, outbound("once")) is None
    for number in range(3):
        server.say(anna, f"message {number}")
    with pytest.raises(Uncertain, match="not among the last 3"):
        await find(bot, target, outbound("once"))


async def test_files_are_told_apart(bot: Bot, server: DiscordServer, tmp_path: Path) -> None:
    target = await asked(bot, server.direct("anna"))
    parts = []
    for name, content in (("Bericht (1).pdf", b"%PDF-1.7"), ("table.csv", b"1,2"), ("ogg", ogg_opus([20] * 50))):
        (tmp_path / name).write_bytes(content)
        kind = "voice" if name == "ogg" else "document"
        parts.append(Outbound(name, "", files=(Attachment(str(tmp_path / name), name, kind=kind),)))
    sent = [(await bot.adapter.send(target, part)).message_id for part in parts]
    await bot.stop()
    for entry in (one["attachments"][0] for one in server.by_bot()):
        entry["filename"] = entry["filename"].replace(" (", "_").replace(")", "")  # as Discord does
    await bot.start()
    assert [await find(bot, target, part) for part in parts] == sent
    assert [await find(bot, target, part, others=[message]) for part, message in zip(parts, sent, strict=True)] == (
        [None] * 3
    )


async def test_two_alike_messages_are_two(bot: Bot, server: DiscordServer) -> None:
    """Whatever came between question and answer: nobody has said that one of them was sent before."""
    target = await asked(bot, server.direct("anna"))
    await bot.stop()
    await bot.start()
    sent = [await bot.adapter.send(target, outbound("Working…", key)) for key in ("k1", "k2")]
    assert [one["id"] for one in server.by_bot()] == [one.message_id for one in sent]


async def test_a_limit_parks_the_message_and_not_a_task(bot: Bot, server: DiscordServer) -> None:
    target = await asked(bot, server.direct("anna"))
    server.limit("/messages$", 600.0, method="POST")
    async with asyncio.timeout(30.0):
        with pytest.raises(Retry) as parked:
            await bot.adapter.send(target, outbound("later"))
    assert parked.value.after == pytest.approx(600.0)


async def test_a_short_limit_is_slept_through(bot: Bot, server: DiscordServer) -> None:
    target = await asked(bot, server.direct("anna"))
    server.limit("/messages$", 0.2, method="POST")
    await bot.adapter.send(target, outbound("soon"))
    assert len(server.by_bot()) == 1


async def test_a_global_limit_holds_every_call_back(bot: Bot, server: DiscordServer) -> None:
    anna, ben = await asked(bot, server.direct("anna")), await asked(bot, server.direct("ben"))
    server.limit("/messages$", 600.0, method="POST", everything=True)
    with pytest.raises(Retry):
        await bot.adapter.send(anna, outbound("later"))
    before = len(server.world.calls)
    with pytest.raises(Retry) as parked:
        await bot.adapter.send(ben, outbound("later too"))
    assert 500.0 < parked.value.after <= 600.0
    assert len(server.world.calls) == before


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, 50001, Gone), (403, 50007, Gone), (404, 10003, Gone), (403, 50013, Rejected), (400, 50035, Rejected),
        (403, 20016, Retry), (413, 40005, Rejected), (503, 0, Uncertain),
    ],
)  # fmt: skip
async def test_what_discord_says_becomes_what_to_do(
    bot: Bot, server: DiscordServer, status: int, code: int, error: type[Exception]
) -> None:
    target = await asked(bot, server.direct("anna"))
    server.fail("POST", "/messages$", status=status, body={"code": code, "message": "no"})
    with pytest.raises(error, match="cannot send"):
        await bot.adapter.send(target, outbound("hello"))


async def test_an_edit_may_be_repeated_and_knows_what_is_gone(bot: Bot, server: DiscordServer) -> None:
    target = await asked(bot, server.direct("anna"))
    sent = await bot.adapter.send(target, outbound("draft"))
    for _ in range(2):
        assert await bot.adapter.edit(target, sent.message_id, outbound("**final**")) == sent
    assert server.by_bot()[0]["content"] == "**final**"
    await bot.adapter.delete(target, sent.message_id)
    await bot.adapter.delete(target, sent.message_id)
    assert server.by_bot() == []
    with pytest.raises(Gone):
        await bot.adapter.edit(target, sent.message_id, outbound("too late"))


async def test_typing_and_reactions(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    target = await asked(bot, anna)
    await bot.adapter.typing(target)
    assert server.world.typing == [anna]
    for sign in ("👀", "👀", "✅"):
        await bot.adapter.react(target, sign)
        assert server.world.signs(anna, target.reply_to) == [sign]
    await bot.adapter.react(target, "")
    assert server.world.signs(anna, target.reply_to) == []


async def test_a_reaction_of_an_earlier_life_is_replaced(bot: Bot, server: DiscordServer) -> None:
    anna = server.direct("anna")
    target = await asked(bot, anna)
    await bot.adapter.react(target, "👀")
    await bot.stop()
    await bot.start()
    await bot.adapter.react(target, "✅")
    assert server.world.signs(anna, target.reply_to) == ["✅"]


async def test_reactions_can_be_switched_off(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot(reactions="false")
    await bot.start()
    target = await asked(bot, bot.server.direct("anna"))
    await bot.adapter.react(target, "👀")
    assert bot.server.calls("PUT", "reactions") == []


# ---- threads ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def general(make_bot: Callable[..., Bot]) -> tuple[Bot, str]:
    bot = make_bot()
    channel = bot.server.channel("general")
    await bot.start()
    await bot.settled()
    return bot, channel


async def test_a_mention_starts_a_thread_with_its_first_answer(general: tuple[Bot, str]) -> None:
    bot, channel = general
    server = bot.server
    target = await asked(bot, channel, f"{server.mention} what is  new?\nmuch")
    assert (target.chat_id, target.thread_id) == (channel, target.reply_to)
    assert target.thread_id not in server.world.channels, "nothing is made for somebody who may not be answered"
    await asyncio.gather(bot.adapter.typing(target), bot.adapter.send(target, outbound("this")))
    assert server.world.channels[target.thread_id]["name"] == "what is  new?"
    assert [one["content"] for one in server.by_bot(target.thread_id)] == ["this"]
    assert len(server.calls("POST", "/threads$")) == 1
    await bot.adapter.react(target, "👀")
    assert server.world.signs(channel, target.reply_to) == ["👀"]


async def test_in_a_joined_thread_no_mention_is_needed_also_after_a_restart(general: tuple[Bot, str]) -> None:
    bot, channel = general
    target = await asked(bot, channel, f"{bot.server.mention} begin")
    await bot.adapter.send(target, outbound("this"))
    more = await asked(bot, target.thread_id, "and more")
    assert (more.chat_id, more.thread_id) == (channel, target.thread_id)
    await bot.stop()
    await bot.start()
    after = await asked(bot, target.thread_id, "and after the restart")
    sent = await bot.adapter.send(after, outbound("quoted", "k2"))
    assert bot.server.answers_to(after.reply_to)[0]["id"] == sent.message_id


async def test_a_thread_that_is_there_already_is_answered_in(general: tuple[Bot, str]) -> None:
    bot, channel = general
    target = await asked(bot, channel, f"{bot.server.mention} begin")
    bot.server.world.start_thread(channel, target.reply_to, "made by an earlier life")
    await bot.adapter.send(target, outbound("this"))
    assert [one["content"] for one in bot.server.by_bot(target.thread_id)] == ["this"]


async def test_a_thread_that_cannot_be_had_leaves_the_answer_in_the_channel(general: tuple[Bot, str]) -> None:
    bot, channel = general
    target = await asked(bot, channel, f"{bot.server.mention} begin")
    bot.server.world.permissions = NO_THREADS
    sent = await bot.adapter.send(target, outbound("this"))
    assert bot.server.answers_to(target.reply_to)[0]["channel_id"] == channel
    await bot.adapter.edit(target, sent.message_id, outbound("this, edited"))
    assert bot.server.by_bot(channel)[0]["content"] == "this, edited"


async def test_without_the_permission_no_thread_is_meant(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    bot.server.world.permissions = NO_THREADS
    channel = bot.server.channel("general")
    await bot.start()
    target = await asked(bot, channel, f"{bot.server.mention} begin")
    assert target.thread_id == ""


async def test_a_post_of_a_forum_is_answered_in_the_post(make_bot: Callable[..., Bot]) -> None:
    bot = make_bot()
    server = bot.server
    forum = server.forum("questions")
    await bot.start()
    post = server.thread(forum, "how?")
    first = server.say(post, f"{server.mention} how?", id_=post)
    await bot.heard(1)
    target = bot.target(first)
    assert (target.chat_id, target.thread_id) == (forum, post)
    await bot.adapter.send(target, outbound("so"))
    assert [one["content"] for one in server.by_bot(post)] == ["so"]
    await bot.adapter.react(target, "👀")
    assert server.world.signs(post, first) == ["👀"]


# ---- files -----------------------------------------------------------------------------------------------------------


async def test_files_go_out_with_their_text(bot: Bot, server: DiscordServer, tmp_path: Path) -> None:
    target = await asked(bot, server.direct("anna"))
    path = tmp_path / "x"
    path.write_bytes(b"%PDF-1.7")
    message = Outbound("k1", "here", files=(Attachment(str(path), "report.pdf"),))
    server.fail("POST", "/messages$", carried_out=True)
    with pytest.raises(Uncertain):
        await bot.adapter.send(target, message)
    await bot.adapter.send(target, message)
    (shown,) = server.by_bot()
    assert shown["content"] == "here"
    assert [one["filename"] for one in shown["attachments"]] == ["report.pdf"]
    assert server.calls("POST", "/messages$")[-1].files == (("report.pdf", b"%PDF-1.7"),)
    with pytest.raises(Rejected, match=r"cannot send lost\.pdf"):
        await bot.adapter.send(target, replace(message, files=(Attachment(str(tmp_path / "lost"), "lost.pdf"),)))


async def test_several_files_are_one_message_that_is_there_once(
    bot: Bot, server: DiscordServer, tmp_path: Path
) -> None:
    target = await asked(bot, server.direct("anna"))
    albums = bot.adapter.capabilities(target).albums
    assert albums is not None
    names = [f"{number}.webp" for number in range(albums.most)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    files = tuple(Attachment(str(tmp_path / name), name, "image/webp", "sticker") for name in names)
    assert {albums.sort(file) for file in files} == {albums.sort(Attachment("/a", "a.pdf"))}
    assert albums.sort(Attachment("/a", "a.ogg", "audio/ogg", "voice")) == ""
    message = Outbound("k1", "look", files=files)
    server.fail("POST", "/messages$", carried_out=True)
    with pytest.raises(Uncertain):
        await bot.adapter.send(target, message)
    sent = await bot.adapter.send(target, message)
    (shown,) = server.by_bot()
    assert (shown["id"], shown["content"], sent.others) == (sent.message_id, "look", ())
    assert [file["filename"] for file in shown["attachments"]] == names
    with pytest.raises(Rejected):
        await bot.adapter.send(target, Outbound("k2", "", files=(*files, files[0])))


async def test_a_recording_goes_out_as_a_voice_message(bot: Bot, server: DiscordServer, tmp_path: Path) -> None:
    target = await asked(bot, server.direct("anna"))
    path = tmp_path / "said.ogg"
    path.write_bytes(ogg_opus([20] * 50 + [80] * 50))
    message = Outbound("k1", "", files=(Attachment(str(path), "said.ogg", "audio/ogg", "voice"),))
    server.fail("POST", "/messages$", carried_out=True)
    with pytest.raises(Uncertain):
        await bot.adapter.send(target, message)
    await bot.adapter.send(target, message)
    (shown,) = server.by_bot()
    assert shown["flags"] == VOICE
    (file,) = shown["attachments"]
    assert file["duration_secs"] == 2.0
    assert list(base64.b64decode(file["waveform"])) == [0] * 10 + [255] * 10
    assert shown["message_reference"]["message_id"] == target.reply_to
    assert server.calls("POST", "/messages$")[-1].files[0][1] == path.read_bytes()
    assert bot.adapter.capabilities(target).bare == {"voice"}


async def test_where_voice_messages_are_not_allowed_a_recording_is_a_file(
    bot: Bot, server: DiscordServer, tmp_path: Path
) -> None:
    target = await asked(bot, server.direct("anna"))
    server.world.voice_refusal = Refusal(400, 50173, "You cannot send voice messages in this channel.")
    for name, content in (("said.ogg", ogg_opus([20] * 50)), ("said.mp3", b"ID3 and so on")):
        (tmp_path / name).write_bytes(content)
        file = Attachment(str(tmp_path / name), name, kind="voice")
        await bot.adapter.send(target, Outbound(name, "", files=(file,)))
    first, second = server.by_bot()
    assert (first["flags"], second["flags"]) == (0, 0)
    assert [one["attachments"][0]["filename"] for one in (first, second)] == ["said.ogg", "said.mp3"]


async def test_files_come_in_when_they_are_fetched(bot: Bot, server: DiscordServer, tmp_path: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(100)
    files = (("a.png", picture, "image/png"), ("n.txt", b"note", "text/plain; charset=utf-8"))
    message = server.say(server.direct("anna"), "", files=files)
    await bot.heard(1)
    image, note = bot.core.inbound(message).attachments
    assert (image.kind, image.size, note.kind, note.mime) == ("image", len(picture), "document", "text/plain")
    got = await bot.adapter.fetch(image, tmp_path, 1000)
    assert Path(got.path).read_bytes() == picture
    with pytest.raises(Rejected, match="are allowed"):
        await bot.adapter.fetch(note, tmp_path, 3)


async def test_an_address_that_has_expired_is_asked_for_again(bot: Bot, server: DiscordServer, tmp_path: Path) -> None:
    message = server.say(server.direct("anna"), "", files=(("n.txt", b"note", "text/plain"),))
    await bot.heard(1)
    (note,) = bot.core.inbound(message).attachments
    old = replace(note, remote=note.remote.replace("n.txt", "expired.txt"))
    got = await bot.adapter.fetch(old, tmp_path, 1000)
    assert Path(got.path).read_bytes() == b"note"
    server.world.files.clear()
    with pytest.raises(Gone):
        await bot.adapter.fetch(old, tmp_path, 1000)


async def test_what_lies_in_this_network_is_not_fetched(make_bot: Callable[..., Bot], tmp_path: Path) -> None:
    bot = make_bot(private_media=False)
    await bot.start()
    message = bot.server.say(bot.server.direct("anna"), "", files=(("n.txt", b"note", "text/plain"),))
    await bot.heard(1)
    with pytest.raises(Rejected, match="private network"):
        await bot.adapter.fetch(bot.core.inbound(message).attachments[0], tmp_path, 1000)


async def test_a_page_that_calls_itself_a_picture_is_refused(bot: Bot, server: DiscordServer, tmp_path: Path) -> None:
    message = server.say(server.direct("anna"), "", files=(("a.png", b"<html>", "image/png"),))
    await bot.heard(1)
    with pytest.raises(Rejected, match="is not an image"):
        await bot.adapter.fetch(bot.core.inbound(message).attachments[0], tmp_path, 1000)
    assert [*tmp_path.iterdir()] == []
