"""What people do in Telegram arrives, is acknowledged only when it is kept, and is never dropped."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from harness.telegram import errors
from harness.telegram.core import Core
from harness.telegram.emulator import PNG, Emulator
from telegram import error as telegram_error

from hermesd.adapters.errors import Conflict, StartLater, Unauthorized
from hermesd.adapters.telegram import polling

from .conftest import Connect

MISTYPED = "7318204455:AAF-emulated_token_of_35_charactres"


async def test_what_was_written_while_nobody_was_there_arrives(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    ann = telegram.user("Ann")
    said = [telegram.say(f"number {number}", ann) for number in range(250)]  # more than one answer holds
    await connect()
    await core.until(lambda: len(core.kept) == 250)
    assert [int(one.message_id) for one in core.inbounds] == said
    await telegram.wait_async(lambda: telegram.waiting() == 0)
    assert not any(call.arguments.get("drop_pending_updates") == "true" for call in telegram.calls())


async def test_a_message_tells_who_where_and_when(telegram: Emulator, core: Core, connect: Connect) -> None:
    ann = telegram.user("Ann", "ann_b")
    group = telegram.group("Kitchen")
    await connect()
    telegram.say("hello", ann, group)
    inbound = await core.message("hello")
    assert inbound.chat_id == str(group.id)
    assert inbound.chat_id.startswith("-100")
    assert int(inbound.user_id) == ann.id > 2**32
    assert (inbound.user_name, inbound.chat_name, inbound.chat_type) == ("Ann", "Kitchen", "group")
    assert inbound.sent_at > 1_700_000_000
    assert inbound.thread_id == ""


async def test_what_the_core_refuses_is_not_acknowledged_and_what_is_kept_of_other_chats_is(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    ann, bob = telegram.user("Ann"), telegram.user("Bob")
    core.refusal, core.refuse_only = "the disk is full", "from Ann"
    refused = telegram.say("1 from Ann", ann)
    kept = telegram.say("2 from Bob", bob)
    after = telegram.say("3 also Ann's", ann)
    await connect()
    await core.until(lambda: core.times.get((str(ann.id), str(refused)), 0) >= 2)
    # Nothing behind the refused one of its chat was taken before it; the other chat's was, and comes again.
    assert [one.text for one in core.inbounds] == ["2 from Bob"]
    assert telegram.waiting() == 3
    core.refusal = ""
    await core.until(lambda: len(core.kept) == 3)
    await telegram.wait_async(lambda: telegram.waiting() == 0)
    assert core.times[str(bob.id), str(kept)] >= 2
    assert [one.text for one in core.inbounds if one.chat_id == str(ann.id)] == ["1 from Ann", "3 also Ann's"]
    assert core.times[str(ann.id), str(after)] == 1


async def test_stopping_acknowledges_nothing_that_was_not_kept(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    core.refusal = "stopping"
    ann = telegram.user("Ann")
    said = telegram.say("hello", ann)
    adapter = await connect()
    await core.until(lambda: core.times)
    await adapter.stop()
    assert telegram.waiting() == 1
    assert telegram.update_of(telegram.private(ann), said)


async def test_an_update_that_nobody_can_read_does_not_stop_those_behind_it(
    telegram: Emulator, core: Core, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    telegram.raw_update({"message": {"message_id": "no number", "chat": 7}})
    telegram.raw_update({"thing_of_next_year": {"id": 1}})
    ann = telegram.user("Ann")
    telegram.say("behind it", ann)
    await connect()
    await core.message("behind it")
    await telegram.wait_async(lambda: telegram.waiting() == 0)
    assert "cannot be read" in caplog.text


async def test_ids_that_begin_anew_after_a_quiet_week_are_no_obstacle(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    ann = telegram.user("Ann")
    await connect()
    telegram.say("before", ann)
    await core.message("before")
    await telegram.wait_async(lambda: telegram.waiting() == 0)
    telegram.server.updates.begin_anew(17)
    telegram.say("after", ann)
    await core.message("after")
    await telegram.wait_async(lambda: telegram.waiting() == 0)


async def test_a_broken_connection_is_made_again(
    telegram: Emulator, core: Core, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "RETRY_DELAYS", (0.05,))
    ann = telegram.user("Ann")
    adapter = await connect()
    telegram.cut("getUpdates", "before", 2)
    telegram.bad_gateway("getUpdates")
    telegram.cut("getUpdates", "after")
    telegram.go_dark()
    async with asyncio.timeout(60):
        while adapter.state().word != "backing_off":
            await asyncio.sleep(0.01)
    telegram.come_back()
    telegram.say("are you there", ann)
    await core.message("are you there")
    assert adapter.state().word == "online"
    assert not core.losses


async def test_each_answer_of_telegrams_is_a_sign_of_life(telegram: Emulator, core: Core, connect: Connect) -> None:
    adapter = await connect()
    before = adapter.state().received_at
    assert before > 0
    telegram.say("hello", telegram.user("Ann"))
    await core.message("hello")
    assert adapter.state().received_at > before


async def test_flood_control_of_the_poll_is_waited_for(telegram: Emulator, core: Core, connect: Connect) -> None:
    telegram.fail("getUpdates", errors.retry_after(1))
    await connect()
    telegram.say("patience", telegram.user("Ann"))
    await core.message("patience")
    tries = [call for call in telegram.calls("getUpdates") if call.status]
    assert tries[0].status == 429
    assert tries[1].at - tries[0].at >= 1.0


async def test_a_long_outage_is_handed_to_the_core(
    telegram: Emulator, core: Core, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "RETRY_DELAYS", (0.02,))
    monkeypatch.setattr(polling, "GIVE_UP_SECONDS", 0.3)
    adapter = await connect()
    telegram.go_dark()
    await core.until(lambda: core.losses)
    assert isinstance(core.losses[0], StartLater)
    assert adapter.state().word == "backing_off"


async def test_a_token_that_is_revoked_is_told(telegram: Emulator, core: Core, connect: Connect) -> None:
    await connect()
    telegram.server.revoked = True
    telegram.go_dark()
    telegram.come_back()
    await core.until(lambda: core.losses)
    assert isinstance(core.losses[0], Unauthorized)
    assert "@BotFather" in core.losses[0].fix
    assert telegram.token not in str(core.losses[0])


async def test_a_token_that_is_wrong_is_told_at_once_and_does_not_leak(telegram: Emulator, connect: Connect) -> None:
    with pytest.raises(Unauthorized) as caught:
        await connect(token=MISTYPED)
    assert MISTYPED not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "@BotFather" in caught.value.fix


async def test_telegram_that_is_not_there_may_come_later(telegram: Emulator, connect: Connect) -> None:
    telegram.go_dark()
    with pytest.raises(StartLater, match="cannot connect to Telegram"):
        await connect()


async def test_another_poller_is_a_conflict_within_a_minute(
    telegram: Emulator, core: Core, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outside of this test with Telegram's own delay as well.
    assert sum(polling.CONFLICT_DELAYS) + 4 * telegram.server.conflict_rest < 60
    monkeypatch.setattr(polling, "CONFLICT_DELAYS", (0.05, 0.05, 0.05))
    monkeypatch.setattr(polling, "HAND_OVER_SECONDS", 0.1)
    telegram.server.conflict_rest = 0.05
    adapter = await connect()
    rival = polling.UpdatesBot(telegram.token, base_url=telegram.base_url)

    async def poll() -> None:
        while True:
            with contextlib.suppress(telegram_error.Conflict):
                await rival.raw_updates(0, 20)

    async with rival:
        polling_too = asyncio.create_task(poll())
        await core.until(lambda: core.losses)
        polling_too.cancel()
        await asyncio.gather(polling_too, return_exceptions=True)
    assert isinstance(core.losses[0], Conflict)
    assert "only one bot instance" in str(core.losses[0])
    assert adapter.state().word == "conflict"


async def test_a_poll_that_an_earlier_life_left_at_telegram_is_no_conflict(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    dead = polling.UpdatesBot(telegram.token, base_url=telegram.base_url)
    await dead.initialize()
    held = asyncio.create_task(dead.raw_updates(0, 50))
    await telegram.wait_async(lambda: telegram.calls("getUpdates"))
    await connect()
    with pytest.raises(Exception, match="terminated by other getUpdates"):
        await held
    await dead.shutdown()
    telegram.say("hello", telegram.user("Ann"))
    await core.message("hello")
    assert not core.losses


async def test_the_token_is_in_no_log(
    telegram: Emulator, core: Core, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        # pytest's handler sets the root's level; a log level of DEBUG must not make the libraries tell.
        await connect()
        telegram.cut("getUpdates")
        telegram.say("hello", telegram.user("Ann"))
        await core.message("hello")
    assert telegram.token not in caplog.text
    assert caplog.text


async def test_topics_are_threads_and_chains_of_replies_are_not(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    ann = telegram.user("Ann")
    forum = telegram.group("Forum", forum=True)
    topic = telegram.topic(forum)
    await connect()
    telegram.say("in a topic", ann, forum, thread=topic)
    telegram.say("in the general one", ann, forum)
    inside = await core.message("in a topic")
    assert inside.thread_id == str(topic)
    assert (inside.reply_to_id, inside.reply_to_text) == ("", "")  # the message that opened the topic is no quotation
    assert (await core.message("in the general one")).thread_id == ""


async def test_a_reply_brings_what_it_answers(telegram: Emulator, core: Core, connect: Connect) -> None:
    ann = telegram.user("Ann")
    await connect()
    first = telegram.say("the train leaves at nine and I am late", ann)
    telegram.say("what?", ann, reply_to=first)
    telegram.say("when?", ann, reply_to=first, quote="leaves at nine")
    inbound = await core.message("what?")
    assert inbound.reply_to_id == str(first)
    assert inbound.reply_to_text == "the train leaves at nine and I am late"
    assert (await core.message("when?")).reply_to_text == "leaves at nine"


async def test_an_album_is_one_thing_in_several_messages(telegram: Emulator, core: Core, connect: Connect) -> None:
    ann = telegram.user("Ann")
    await connect()
    numbers = telegram.album([PNG, PNG + b"2", PNG + b"3"], ann, caption="our cat")
    await core.until(lambda: len(core.kept) == 3)
    assert [int(one.message_id) for one in core.inbounds] == numbers
    assert len({one.album for one in core.inbounds} - {""}) == 1
    assert [one.text for one in core.inbounds] == ["our cat", "", ""]
    assert all(one.attachments[0].kind == "image" and one.attachments[0].remote for one in core.inbounds)


@pytest.mark.parametrize(
    ("sent", "name", "mime", "kind"),
    [
        ("photo", "", "image/jpeg", "image"),
        ("voice", "", "audio/ogg", "voice"),
        ("audio", "song.mp3", "audio/mpeg", "audio"),
        ("video", "clip.mp4", "video/mp4", "video"),
        ("video_note", "", "video/mp4", "video"),
        ("animation", "cat.mp4", "video/mp4", "animation"),
        ("document", "plan.pdf", "application/pdf", "document"),
        ("document", "scan.png", "image/png", "image"),
    ],
)
async def test_a_file_arrives_as_what_it_is(
    telegram: Emulator, core: Core, connect: Connect, sent: str, name: str, mime: str, kind: str
) -> None:
    ann = telegram.user("Ann")
    await connect()
    caption = "" if sent == "video_note" else "see"
    telegram.send(sent, b"x" * 5000, ann, name=name, mime=mime, caption=caption)
    inbound = (await core.until(lambda: core.inbounds))[0]
    [file] = inbound.attachments
    assert (inbound.text, file.kind, file.size, file.path) == (caption, kind, 5000, "")
    assert file.mime == mime
    assert file.remote
    assert file.name.endswith({"": "." + {"photo": "jpg", "voice": "ogg"}.get(sent, "mp4")}.get(name, name))


@pytest.mark.parametrize(
    ("how", "mime", "animated"),
    [
        ({}, "image/webp", False),
        ({"animated": True}, "application/x-tgsticker", True),
        ({"video": True}, "video/webm", True),
    ],
)
async def test_a_sticker_says_what_it_is(
    telegram: Emulator, core: Core, connect: Connect, how: dict[str, bool], mime: str, animated: bool
) -> None:
    ann = telegram.user("Ann")
    await connect()
    telegram.sticker(ann, emoji="🦊", set_name="Foxes", **how)
    [file] = (await core.until(lambda: core.inbounds))[0].attachments
    assert (file.kind, file.mime) == ("sticker", mime)
    assert file.sticker is not None
    assert file.sticker.unique_id
    assert (file.sticker.emoji, file.sticker.set_name, file.sticker.animated) == ("🦊", "Foxes", animated)


async def test_in_a_group_that_wants_mentions_only_they_arrive(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    ann = telegram.user("Ann")
    group, free = telegram.group("Kitchen"), telegram.group("Free")
    adapter = await connect(require_mention=True, mention_patterns=[r"\bhermes\b"], free_response_chats=[str(free.id)])
    bot = adapter.describe()["account"]
    ours = telegram.server.world.post(group, telegram.server.world.bot, text="an answer of the bot")
    telegram.say("nobody in particular", ann, group)
    telegram.say(f"{bot}, what is the time?", ann, group)
    telegram.say("Hermes may know", ann, group)
    telegram.say("and this?", ann, group, reply_to=ours.id)
    telegram.say(f"/status{bot}", ann, group)
    telegram.say("/status@another_bot", ann, group)
    telegram.say("anything", ann, free)
    telegram.say("the last", ann)
    await core.message("the last")
    assert [one.text for one in core.inbounds if one.chat_id == str(group.id)] == [
        "what is the time?", "Hermes may know", "and this?", f"/status{bot}",
    ]  # fmt: skip
    assert [one.text for one in core.inbounds if one.chat_id == str(free.id)] == ["anything"]
