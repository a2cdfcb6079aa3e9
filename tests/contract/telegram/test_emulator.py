"""The emulated Bot API is one that python-telegram-bot believes: nothing in its answers is left over or missing."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from harness.telegram import errors, methods
from harness.telegram.emulator import PNG, Emulator
from harness.telegram.world import Chat
from telegram import (
    Bot,
    BotCommand,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    LinkPreviewOptions,
    Message,
    MessageEntity,
    ReplyParameters,
    TelegramObject,
    Update,
)
from telegram import error as tg


@pytest.fixture
async def bot(telegram: Emulator) -> AsyncIterator[Bot]:
    async with Bot(telegram.token, base_url=telegram.base_url, base_file_url=f"{telegram.url}/file/bot") as bot:
        yield bot


@pytest.fixture
def chat(telegram: Emulator) -> Chat:
    return telegram.private(telegram.user("Ann", "ann_bee"))


def leftovers(found: Any, path: str = "") -> list[str]:
    """Where python-telegram-bot met a field that it does not know."""
    if isinstance(found, list | tuple):
        return [word for number, one in enumerate(found) for word in leftovers(one, f"{path}[{number}]")]
    if not isinstance(found, TelegramObject):
        return []
    words = [f"{path or type(found).__name__}.{name}" for name in found.api_kwargs]
    for kind in type(found).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if not name.startswith("_") and name != "api_kwargs":
                words += leftovers(getattr(found, name, None), f"{path or type(found).__name__}.{name}")
    return words


def test_leftovers_are_found() -> None:
    shape = {"message_id": 1, "date": 1, "chat": {"id": 1, "type": "private", "colour": "red"}, "hat": 1}
    assert sorted(leftovers(Message.de_json(shape, None))) == ["Message.chat.colour", "Message.hat"]


Call = Callable[[Bot, Chat, int], Awaitable[Any]]

KEYBOARD = InlineKeyboardMarkup([[InlineKeyboardButton("yes", callback_data="y")]])

CALLS: dict[str, Call] = {
    "getMe": lambda bot, chat, said: bot.get_me(),
    "getChat": lambda bot, chat, said: bot.get_chat(chat.id),
    "getWebhookInfo": lambda bot, chat, said: bot.get_webhook_info(),
    "setWebhook": lambda bot, chat, said: bot.set_webhook("http://127.0.0.1:1/x", secret_token="s"),
    "deleteWebhook": lambda bot, chat, said: bot.delete_webhook(),
    "sendMessage": lambda bot, chat, said: bot.send_message(
        chat.id, "bold https://example.org /help @ann_bee", entities=[MessageEntity("bold", 0, 4)],
        reply_parameters=ReplyParameters(said), reply_markup=KEYBOARD,
        link_preview_options=LinkPreviewOptions(is_disabled=True),
    ),
    "sendMessageDraft": lambda bot, chat, said: bot.send_message_draft(chat.id, 7, "half an ans"),
    "editMessageText": lambda bot, chat, said: _edited(bot, chat),
    "editMessageCaption": lambda bot, chat, said: _edited_caption(bot, chat),
    "editMessageReplyMarkup": lambda bot, chat, said: _edited_markup(bot, chat),
    "deleteMessage": lambda bot, chat, said: bot.delete_message(chat.id, said),
    "sendChatAction": lambda bot, chat, said: bot.send_chat_action(chat.id, "typing"),
    "setMessageReaction": lambda bot, chat, said: bot.set_message_reaction(chat.id, said, "👀"),
    "setMyCommands": lambda bot, chat, said: bot.set_my_commands([BotCommand("help", "this list")]),
    "getMyCommands": lambda bot, chat, said: bot.get_my_commands(),
    "deleteMyCommands": lambda bot, chat, said: bot.delete_my_commands(),
    "createForumTopic": lambda bot, chat, said: bot.create_forum_topic(chat.id, "Research"),
    "getFile": lambda bot, chat, said: _file(bot, chat),
    "answerCallbackQuery": lambda bot, chat, said: _answered(bot, chat),
    "sendPhoto": lambda bot, chat, said: bot.send_photo(chat.id, PNG, caption="a *photo*"),
    "sendDocument": lambda bot, chat, said: bot.send_document(chat.id, b"%PDF", filename="a.pdf"),
    "sendAudio": lambda bot, chat, said: bot.send_audio(chat.id, b"ID3", filename="a.mp3"),
    "sendVoice": lambda bot, chat, said: bot.send_voice(chat.id, b"OggS"),
    "sendVideo": lambda bot, chat, said: bot.send_video(chat.id, b"mp4", filename="a.mp4"),
    "sendVideoNote": lambda bot, chat, said: bot.send_video_note(chat.id, b"mp4"),
    "sendAnimation": lambda bot, chat, said: bot.send_animation(chat.id, b"GIF89a", filename="a.gif"),
    "sendSticker": lambda bot, chat, said: _sticker(bot, chat),
    "sendMediaGroup": lambda bot, chat, said: bot.send_media_group(
        chat.id, [InputMediaPhoto(PNG), InputMediaPhoto(PNG + b"2", caption="two")]
    ),
}  # fmt: skip


BAD_ALBUMS = {
    'Parameter "media" is required': [],
    "Can't parse InputMedia: media not found": [("photo", "")],
    "Can't parse InputMedia: type \"animation\" can't be used in sendMediaGroup": [("animation", PNG)],
    'Can\'t parse InputMedia: type "sticker" is unsupported': [("sticker", PNG)],
    "Too many messages to send as an album": [("photo", PNG)] * 11,
    "Document can't be mixed with other media types": [("photo", PNG), ("document", PNG)],
    "Audio can't be mixed with other media types": [("audio", PNG), ("document", PNG)],
    'Failed to send message #2 with the error message "IMAGE_PROCESS_FAILED"': [("photo", PNG), ("photo", b"none")],
}
"""What an album is refused for, and one that is."""


@pytest.mark.parametrize("text", BAD_ALBUMS)
async def test_an_album_is_sent_whole_or_refused_whole(telegram: Emulator, text: str) -> None:
    chat = telegram.private(telegram.user())
    items = BAD_ALBUMS[text]
    form = aiohttp.FormData({"chat_id": str(chat.id)})
    media = []
    for number, (kind, data) in enumerate(items):
        media.append({"type": kind, "media": f"attach://f{number}" if data else ""})
        form.add_field(f"f{number}", data or b"x", filename="a.png")
    if media:
        form.add_field("media", json.dumps(media))
    url = f"{telegram.base_url}{telegram.token}/sendMediaGroup"
    async with aiohttp.ClientSession() as session, session.post(url, data=form) as response:
        answer = await response.json()
    assert (answer["error_code"], answer["description"]) == (400, errors.bad_request(text).description)
    assert not telegram.sent(chat)


async def _edited(bot: Bot, chat: Chat) -> Any:
    return await bot.edit_message_text("two", chat.id, (await bot.send_message(chat.id, "one")).message_id)


async def _edited_caption(bot: Bot, chat: Chat) -> Any:
    photo = await bot.send_photo(chat.id, PNG, caption="one")
    return await bot.edit_message_caption(chat.id, photo.message_id, caption="two")


async def _edited_markup(bot: Bot, chat: Chat) -> Any:
    sent = await bot.send_message(chat.id, "one")
    return await bot.edit_message_reply_markup(chat.id, sent.message_id, reply_markup=KEYBOARD)


async def _file(bot: Bot, chat: Chat) -> Any:
    sent = await bot.send_document(chat.id, b"%PDF", filename="a.pdf")
    assert sent.document is not None
    file = await bot.get_file(sent.document.file_id)
    content = io.BytesIO()
    await file.download_to_memory(content)
    assert content.getvalue() == b"%PDF"
    return file


async def _sticker(bot: Bot, chat: Chat) -> Any:
    """One that a person has sent before."""
    [update] = await bot.get_updates(offset=-1)
    assert update.message is not None
    assert update.message.sticker is not None
    return await bot.send_sticker(chat.id, update.message.sticker.file_id)


async def _answered(bot: Bot, chat: Chat) -> Any:
    [update] = await bot.get_updates(offset=-1)
    assert update.callback_query is not None
    return [update, await bot.answer_callback_query(update.callback_query.id, "noted", show_alert=True)]


@pytest.mark.parametrize("method", CALLS)
async def test_every_answer_parses_without_rest(telegram: Emulator, bot: Bot, chat: Chat, method: str) -> None:
    assert chat.user is not None
    telegram.server.world.topics_enabled = True
    said = telegram.say("a question", chat.user)
    if method == "answerCallbackQuery":
        sent = await bot.send_message(chat.id, "?", reply_markup=KEYBOARD)
        telegram.press(chat.user, chat, sent.message_id, "yes")
    if method == "sendSticker":
        telegram.sticker(chat.user, emoji="🦊")
    answer = await CALLS[method](bot, chat, said)
    assert leftovers(answer) == []
    assert telegram.calls(method)[-1].status == 200


def test_every_method_of_the_emulator_is_tried(telegram: Emulator) -> None:
    assert {method.lower() for method in CALLS} == set(telegram.server.methods.table)


async def test_every_kind_of_update_parses_without_rest(telegram: Emulator, bot: Bot, chat: Chat) -> None:
    ann = chat.user
    assert ann is not None
    group, channel = telegram.group("G", "group"), telegram.group("C", "channel")
    forum = telegram.group("F", forum=True)
    first = telegram.say("text /help @ann_bee https://example.org", ann)
    telegram.say("a reply", ann, reply_to=first, quote="text")
    telegram.say("Ann, look", ann, group, mention=ann)
    telegram.say("in a topic", ann, forum, thread=telegram.topic(forum))
    telegram._post(None, channel, text="from a channel", sender_chat=channel)
    for kind in ("photo", "voice", "audio", "video", "video_note", "animation", "document"):
        telegram.send(kind, PNG, ann, name="a.bin", mime="application/x-thing", caption="" if "note" in kind else "c")
    telegram.sticker(ann)
    telegram.album([PNG, PNG], ann, caption="two")
    sent = await bot.send_message(chat.id, "?", reply_markup=KEYBOARD)
    telegram.press(ann, chat, sent.message_id, "yes")
    chat.messages[sent.message_id].deleted = True
    telegram.press_data(ann, chat, sent.message_id, "y")
    updates = await bot.get_updates(timeout=1)
    assert len(updates) == telegram.waiting() == 17
    assert leftovers(updates) == []


async def test_an_offset_acknowledges_and_nothing_else_does(telegram: Emulator, bot: Bot, chat: Chat) -> None:
    assert chat.user is not None
    telegram.server.hasty = 600.0
    for number in range(3):
        telegram.say(str(number), chat.user)
    first = await bot.get_updates()
    assert [update.update_id for update in await bot.get_updates()] == [first[0].update_id]  # Client.cpp:15716, hasty
    second = await bot.get_updates(offset=first[1].update_id, limit=1)
    assert [update.update_id for update in second] == [first[1].update_id]
    assert telegram.waiting() == 2
    assert await bot.get_updates(offset=first[2].update_id + 1, timeout=0) == ()
    assert telegram.waiting() == 0


REFUSALS: dict[str, tuple[Call, str]] = {
    "no text": (lambda bot, chat, said: bot.send_message(chat.id, ""), "Message text is empty"),
    "only spaces": (lambda bot, chat, said: bot.send_message(chat.id, "  "), "Text must be non-empty"),
    "long text": (lambda bot, chat, said: bot.send_message(chat.id, "x" * 4097), "Message is too long"),
    "long by UTF-16": (lambda bot, chat, said: bot.send_message(chat.id, "😀" * 2049), "Message is too long"),
    "long caption": (
        lambda bot, chat, said: bot.send_photo(chat.id, PNG, caption="x" * 1025),
        "Message caption is too",
    ),
    "unknown chat": (lambda bot, chat, said: bot.send_message(1, "x"), "Chat not found"),
    "unknown message": (lambda bot, chat, said: bot.edit_message_text("x", chat.id, 999), "Message to edit not found"),
    "another's": (lambda bot, chat, said: bot.edit_message_text("x", chat.id, said), "Message can't be edited"),
    "nothing to delete": (lambda bot, chat, said: bot.delete_message(chat.id, 999), "Message to delete not found"),
    "entity past the end": (
        lambda bot, chat, said: bot.send_message(chat.id, "abc", entities=[MessageEntity("bold", 1, 9)]),
        "Entity beginning at UTF-16 offset 1 ends after the end of the text at UTF-16 offset 3",
    ),
    "entity in a pair": (
        lambda bot, chat, said: bot.send_message(chat.id, "😀b", entities=[MessageEntity("bold", 1, 1)]),
        "Entity begins in a middle",
    ),
    "callback data": (
        lambda bot, chat, said: bot.send_message(
            chat.id, "?", reply_markup=InlineKeyboardMarkup([[InlineKeyboardButton("x", callback_data="y" * 65)]])
        ),
        "Button_data_invalid",
    ),
    "old query": (lambda bot, chat, said: bot.answer_callback_query("1"), "Query is too old"),
    "reaction": (lambda bot, chat, said: bot.set_message_reaction(chat.id, said, "✅"), "Reaction_invalid"),
    "command": (lambda bot, chat, said: bot.set_my_commands([BotCommand("a-b", "x")]), "Bot_command_invalid"),
    "file": (lambda bot, chat, said: bot.get_file("none"), "Wrong file_id"),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_what_telegram_refuses_it_refuses(telegram: Emulator, bot: Bot, chat: Chat, what: str) -> None:
    assert chat.user is not None
    call, text = REFUSALS[what]
    said = telegram.say("a question", chat.user)
    with pytest.raises(tg.BadRequest, match=f"(?i){text}"):
        await call(bot, chat, said)


async def test_nothing_is_changed_by_an_edit_that_changes_nothing(bot: Bot, chat: Chat) -> None:
    sent = await bot.send_message(chat.id, "one")
    with pytest.raises(tg.BadRequest, match="not modified"):
        await bot.edit_message_text("one", chat.id, sent.message_id)


async def test_a_wrong_token_and_flood_control(telegram: Emulator, bot: Bot, chat: Chat) -> None:
    telegram.fail("sendMessage", errors.retry_after(9))
    with pytest.raises(tg.RetryAfter, match="9"):
        await bot.send_message(chat.id, "x")
    for token in ("7318204455:wrong", "nonsense"):
        stranger = Bot(token, base_url=telegram.base_url)
        with pytest.raises(tg.InvalidToken):
            await stranger.initialize()
        await stranger.shutdown()


async def test_numbers_pass_32_bits(telegram: Emulator, bot: Bot) -> None:
    user = telegram.user("Ann", user_id=(1 << 52) - 1)
    telegram.say("hello", user)
    [update] = await bot.get_updates()
    assert isinstance(update, Update)
    assert update.effective_user is not None
    assert update.effective_user.id == (1 << 52) - 1
    assert (await bot.send_message(user.id, "x")).chat.id == (1 << 52) - 1
    assert methods.TEXT_LIMIT == 4096
