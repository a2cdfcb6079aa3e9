"""What the core sends is shown in Telegram, and what Telegram refuses is told by what may be done next."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from harness.telegram import errors
from harness.telegram.core import Core
from harness.telegram.emulator import Emulator
from harness.telegram.world import Chat, Message

from hermesd.adapters.contract import MenuEntry, Outbound, Target
from hermesd.adapters.errors import AdapterError, Gone, Rejected, Retry, Unauthorized, Uncertain
from hermesd.adapters.telegram.adapter import TelegramAdapter

from .conftest import Connect


def to(chat: Chat, *, thread: int = 0, reply_to: int = 0) -> Target:
    return Target("telegram", str(chat.id), str(thread or ""), str(reply_to or ""))


def says(text: str, **more: Any) -> Outbound:
    return Outbound(key="k", text=text, **more)


@pytest.fixture
async def adapter(connect: Connect) -> TelegramAdapter:
    return await connect()


@pytest.fixture
def chat(telegram: Emulator) -> Chat:
    return telegram.private(telegram.user("Ann"))


def shown(telegram: Emulator, chat: Chat) -> Message:
    return telegram.sent(chat)[-1]


async def test_markdown_is_shown_as_entities(telegram: Emulator, adapter: TelegramAdapter, chat: Chat) -> None:
    sent = await adapter.send(to(chat), says("# Hi\n\n**bold** 😀 `code` [site](https://example.org/a)"))
    message = shown(telegram, chat)
    assert sent.message_id == str(message.id)
    assert message.text == "Hi\n\nbold 😀 code site"
    assert [(one["type"], one["offset"], one["length"]) for one in message.entities] == [
        ("bold", 0, 2), ("bold", 4, 4), ("code", 12, 4), ("text_link", 17, 4),
    ]  # fmt: skip
    assert "parse_mode" not in telegram.calls("sendMessage")[-1].arguments


async def test_an_answer_quotes_its_question_unless_told_not_to(
    telegram: Emulator, adapter: TelegramAdapter, chat: Chat
) -> None:
    question = telegram.say("?", chat.user)  # type: ignore[arg-type]
    await adapter.send(to(chat, reply_to=question), says("quoted"))
    assert shown(telegram, chat).reply_to is chat.messages[question]
    await adapter.send(to(chat, reply_to=question), says("not quoted", quotes=False))
    assert shown(telegram, chat).reply_to is None


async def test_an_answer_to_a_deleted_question_is_shown_without_it(
    telegram: Emulator, adapter: TelegramAdapter, chat: Chat
) -> None:
    question = telegram.say("?", chat.user)  # type: ignore[arg-type]
    chat.messages[question].deleted = True
    await adapter.send(to(chat, reply_to=question), says("all the same"))
    assert shown(telegram, chat).text == "all the same"


async def test_links_have_no_preview_unless_it_is_wanted(
    telegram: Emulator, adapter: TelegramAdapter, connect: Connect, chat: Chat
) -> None:
    await adapter.send(to(chat), says("see https://example.org"))
    assert shown(telegram, chat).link_preview == {"is_disabled": True}
    await adapter.stop()
    other = await connect(link_previews=True)
    await other.send(to(chat), says("see https://example.org"))
    assert not (shown(telegram, chat).link_preview or {}).get("is_disabled")


async def test_progress_makes_no_noise_and_an_answer_does(
    telegram: Emulator, adapter: TelegramAdapter, chat: Chat
) -> None:
    await adapter.send(to(chat), says("I am at it", kind="progress"))
    assert shown(telegram, chat).silent
    await adapter.send(to(chat), says("done"))
    assert not shown(telegram, chat).silent


async def test_a_topic_is_written_to_and_one_that_has_gone_is_replaced_by_the_chat(
    telegram: Emulator, adapter: TelegramAdapter
) -> None:
    telegram.user("Ann")
    forum = telegram.group("Forum", forum=True)
    topic = telegram.topic(forum)
    await adapter.send(to(forum, thread=topic), says("in the topic"))
    assert shown(telegram, forum).thread == topic
    telegram.delete_topic(forum, topic)
    await adapter.send(to(forum, thread=topic), says("where to?"))
    assert (shown(telegram, forum).text, shown(telegram, forum).thread) == ("where to?", 0)
    closed = telegram.topic(forum)
    forum.closed_topics.add(closed)
    await adapter.send(to(forum, thread=closed), says("closed"))
    assert (shown(telegram, forum).text, shown(telegram, forum).thread) == ("closed", 0)


async def test_entities_that_telegram_refuses_are_left_out(
    telegram: Emulator, adapter: TelegramAdapter, chat: Chat
) -> None:
    telegram.fail("sendMessage", errors.entity_past_end(3, 9))
    await adapter.send(to(chat), says("**bold** for @ann_bee"))
    message = shown(telegram, chat)
    assert message.text == "**bold** for ＠ann_bee"
    assert message.entities == []


async def test_nobody_is_pinged(telegram: Emulator, adapter: TelegramAdapter, chat: Chat) -> None:
    await adapter.send(to(chat), says("ask @ann_bee and [her](tg://user?id=42), not me@example.org"))
    kinds = {one["type"] for one in shown(telegram, chat).entities}
    assert not kinds & {"mention", "text_mention", "text_link"}
    assert "@ann_bee" in shown(telegram, chat).text


async def test_a_group_that_has_become_a_supergroup_is_followed(telegram: Emulator, adapter: TelegramAdapter) -> None:
    old = telegram.group("Kitchen", "group")
    new = telegram.upgrade(old)
    await adapter.send(to(old), says("first"))
    await adapter.send(to(old), says("second"))
    assert [message.text for message in telegram.sent(new)] == ["first", "second"]
    assert len(telegram.calls("sendMessage")) == 3  # its new id is known after the first
    await adapter.typing(to(old))
    assert new.typing


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (errors.chat_not_found(), Gone),
        (errors.blocked(), Gone),
        (errors.kicked("supergroup"), Gone),
        (errors.unauthorized(), Unauthorized),
        (errors.text_too_long(), Rejected),
        (errors.bad_request("something new"), Rejected),
        (errors.retry_after(17), Retry),
        (errors.ApiError(500, "Internal Server Error"), Uncertain),
    ],
)
async def test_a_refusal_says_what_may_be_done(
    telegram: Emulator, adapter: TelegramAdapter, chat: Chat, refusal: errors.ApiError, kind: type[AdapterError]
) -> None:
    telegram.fail("sendMessage", refusal)
    with pytest.raises(kind) as caught:
        await adapter.send(to(chat), says("hello"))
    assert str(caught.value).startswith("cannot send to Telegram: ")
    assert telegram.token not in str(caught.value)
    if isinstance(caught.value, Retry):
        assert caught.value.after == 17.0


async def test_a_chat_that_blocked_the_bot_is_gone(telegram: Emulator, adapter: TelegramAdapter, chat: Chat) -> None:
    chat.blocked = True
    with pytest.raises(Gone, match="blocked by the user"):
        await adapter.send(to(chat), says("hello"))


async def test_a_cut_connection_is_uncertain_and_one_that_was_never_made_is_not(
    telegram: Emulator, adapter: TelegramAdapter, chat: Chat
) -> None:
    telegram.cut("sendMessage", "after")
    with pytest.raises(Uncertain):
        await adapter.send(to(chat), says("perhaps"))
    assert shown(telegram, chat).text == "perhaps"
    telegram.cut("sendMessage", "before")
    with pytest.raises(Uncertain):
        await adapter.send(to(chat), says("perhaps not"))
    telegram.bad_gateway("sendMessage", 502)
    with pytest.raises(Uncertain):
        await adapter.send(to(chat), says("who knows"))
    telegram.go_dark()
    with pytest.raises(Retry) as caught:
        await adapter.send(to(chat), says("surely not"))
    assert not isinstance(caught.value, Uncertain)
    telegram.come_back()
    assert [message.text for message in telegram.sent(chat)] == ["perhaps"]


async def test_an_answer_that_never_comes_is_uncertain(
    telegram: Emulator, adapter: TelegramAdapter, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = adapter._bot
    assert bot is not None
    original = bot.send_message
    monkeypatch.setattr(type(bot), "send_message", lambda self, **arguments: original(**arguments, read_timeout=1.0))
    telegram.cut("sendMessage", "hang")
    with pytest.raises(Uncertain):
        await adapter.send(to(chat), says("hello"))
    await telegram.wait_async(lambda: telegram.sent(chat))
    assert shown(telegram, chat).text == "hello"


async def test_a_send_that_waits_holds_up_no_other(telegram: Emulator, adapter: TelegramAdapter, chat: Chat) -> None:
    other = telegram.private(telegram.user("Bob"))
    telegram.cut("sendMessage", "hang")
    waiting = asyncio.create_task(adapter.send(to(chat), says("slow")))
    await telegram.wait_async(lambda: telegram.sent(chat))
    async with asyncio.timeout(30):
        await adapter.send(to(other), says("quick"))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_an_edit_changes_a_message_and_may_be_repeated(
    telegram: Emulator, adapter: TelegramAdapter, chat: Chat
) -> None:
    sent = await adapter.send(to(chat), says("draft"))
    for _ in range(2):
        assert await adapter.edit(to(chat), sent.message_id, says("**final**")) == sent
    assert telegram.calls("editMessageText")[-1].status == 400  # "message is not modified" is what was wanted
    message = shown(telegram, chat)
    assert (message.text, message.history) == ("final", ["draft"])
    telegram.cut("editMessageText", "after")
    with pytest.raises(Retry):
        await adapter.edit(to(chat), sent.message_id, says("again"))
    assert shown(telegram, chat).link_preview == {"is_disabled": True}


async def test_an_edit_of_what_is_gone_or_fixed(telegram: Emulator, adapter: TelegramAdapter, chat: Chat) -> None:
    sent = await adapter.send(to(chat), says("hello"))
    chat.messages[int(sent.message_id)].editable = False
    with pytest.raises(Rejected):
        await adapter.edit(to(chat), sent.message_id, says("other"))
    chat.messages[int(sent.message_id)].editable = True
    telegram.fail("editMessageText", errors.retry_after(3))
    with pytest.raises(Retry) as caught:
        await adapter.edit(to(chat), sent.message_id, says("other"))
    assert caught.value.after == 3.0
    telegram.fail("editMessageText", errors.entity_past_end(1, 1))
    await adapter.edit(to(chat), sent.message_id, says("*plain*"))
    assert shown(telegram, chat).text == "*plain*"
    await adapter.delete(to(chat), sent.message_id)
    assert telegram.sent(chat) == []
    with pytest.raises(Gone):
        await adapter.edit(to(chat), sent.message_id, says("other"))
    await adapter.delete(to(chat), sent.message_id)  # it is not there: that is what was wanted


async def test_somebody_types(telegram: Emulator, adapter: TelegramAdapter) -> None:
    telegram.user("Ann")
    forum = telegram.group("Forum", forum=True)
    topic = telegram.topic(forum)
    await adapter.typing(to(forum, thread=topic))
    assert [(action, thread) for _, action, thread in forum.typing] == [("typing", topic)]
    telegram.fail("sendChatAction", errors.retry_after(5))
    with pytest.raises(Retry):
        await adapter.typing(to(forum))


async def test_reactions_are_made_where_they_are_wanted(
    telegram: Emulator, adapter: TelegramAdapter, connect: Connect, chat: Chat
) -> None:
    asked = telegram.say("?", chat.user)  # type: ignore[arg-type]
    await adapter.react(to(chat, reply_to=asked), "👀")
    assert not telegram.calls("setMessageReaction")  # off unless TELEGRAM_REACTIONS says so, as in hermes-agent
    await adapter.stop()
    other = await connect(reactions=True)
    seen = []
    for sign in ("👀", "✅", "❌", ""):
        await other.react(to(chat, reply_to=asked), sign)
        seen.append(chat.messages[asked].reaction)
    assert seen == ["👀", "👍", "👎", ""]  # Telegram knows no check mark among its reactions


async def test_the_menu_is_registered_as_telegram_can_show_it(telegram: Emulator, adapter: TelegramAdapter) -> None:
    await adapter.show_menu(
        [MenuEntry("status", "how it is"), MenuEntry("reload-mcp", "again", "[NAME]"), MenuEntry("große", "no")]
    )
    assert telegram.commands == [
        {"command": "status", "description": "how it is"},
        {"command": "reload_mcp", "description": "[NAME] - again"},
    ]


async def test_what_cannot_be_a_message_is_refused_here(adapter: TelegramAdapter, chat: Chat) -> None:
    with pytest.raises(Rejected, match="empty"):
        await adapter.send(to(chat), says("  \n"))
    with pytest.raises(Gone, match="numbers"):
        await adapter.send(replace(to(chat), chat_id="!room:example.org"), says("hello"))


async def test_capabilities_are_in_telegrams_own_units(adapter: TelegramAdapter, chat: Chat) -> None:
    able = adapter.capabilities(to(chat))
    assert (able.max_length, able.unit("a😀"), able.max_caption, able.markdown) == (4096, 3, 1024, True)
    assert able.chat_rate != adapter.capabilities(Target("telegram", "-1001")).chat_rate
    await adapter.send(to(chat), says("😀" * 2048))
    with pytest.raises(Rejected, match="too long"):
        await adapter.send(to(chat), says("😀" * 2048 + "a"))


async def test_the_lock_is_by_the_token(telegram: Emulator, adapter: TelegramAdapter) -> None:
    identity = adapter.identity()
    assert identity is not None
    assert (identity.scope, identity.secret) == ("telegram-bot-token", telegram.token)
    assert telegram.token not in repr(identity)


async def test_state_and_description(telegram: Emulator, adapter: TelegramAdapter, core: Core) -> None:
    assert adapter.state().word == "online"
    assert adapter.describe() == {
        "mode": "polling", "account": "@hermesd_test_bot", "id": "7318204455", "server": telegram.url,
        "require_mention": False, "warnings": [],
    }  # fmt: skip
