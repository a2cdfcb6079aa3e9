"""An update of Telegram becomes an `Inbound` or a `Press`, or is passed over with a reason. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from telegram import CallbackQuery, Chat, Message, Update, User

from hermesd.adapters.contract import Attachment, Inbound, Press, Sticker
from hermesd.adapters.media import kinds
from hermesd.adapters.telegram import addressing, buttons
from hermesd.adapters.telegram.options import TelegramOptions
from hermesd.adapters.text import clean

ALLOWED_UPDATES = ("message", "channel_post", "callback_query")
"""What hermesd asks Telegram for."""

_CHAT_TYPES = {Chat.PRIVATE: "dm", Chat.GROUP: "group", Chat.SUPERGROUP: "group", Chat.CHANNEL: "channel"}
_PICTURES = ("image/jpeg", "image/png", "image/webp")
_START = re.compile(r"/start(?:@\w+)?(?:\s.*)?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Passed:
    """Nothing for the core; ``reason`` is for the log."""

    reason: str


def translate(update: Update, me: User, platform: str, options: TelegramOptions) -> Inbound | Press | Passed:
    """What the core gets of an update."""
    if update.callback_query is not None:
        return _press(update.callback_query, platform)
    message = update.message or update.channel_post
    if message is None:
        return Passed("it is no message")
    if message.from_user is not None and message.from_user.is_bot and message.sender_chat is None:
        return Passed("another bot wrote it")  # two bots that answer each other never end
    if not addressing.is_addressed(message, me, options):
        return Passed("it is not addressed to the bot")
    attachments = _attachments(message)
    text = _text(message, me)
    if not text and not attachments:
        return Passed("it is a service message, or of a kind that is not supported")
    return _inbound(message, platform, text, attachments)


def _inbound(message: Message, platform: str, text: str, attachments: tuple[Attachment, ...]) -> Inbound:
    user_id, user_name = _sender(message)
    answered = addressing.quoted(message)
    quote = message.quote.text if message.quote is not None else ""
    return Inbound(
        platform=platform,
        chat_id=str(message.chat.id),
        message_id=str(message.message_id),
        user_id=user_id,
        text=text,
        user_name=clean(user_name),
        chat_type=_CHAT_TYPES.get(message.chat.type, "group"),
        chat_name=clean(message.chat.title or message.chat.full_name or ""),
        thread_id=thread_of(message),
        attachments=attachments,
        sent_at=message.date.timestamp(),
        reply_to_id=str(answered.message_id) if answered is not None else "",
        reply_to_text=clean(quote or (answered.text or answered.caption or "" if answered is not None else "")),
        album=message.media_group_id or "",
    )


def thread_of(message: Message) -> str:
    """The topic. Only a forum's: in an ordinary group every chain of replies has such an id, too. The general topic of
    a forum is the chat itself; messages in it mostly have no topic.
    """
    topic = message.message_thread_id
    if not topic or not message.is_topic_message or addressing.is_general(message.chat.id, topic):
        return ""
    return str(topic)


def _sender(message: Message) -> tuple[str, str]:
    """(id, name). Who writes as a channel or as an anonymous admin is known as that chat and as nobody else."""
    if message.sender_chat is not None:
        return str(message.sender_chat.id), message.sender_chat.title or message.sender_chat.full_name or ""
    if message.from_user is not None:
        return str(message.from_user.id), message.from_user.full_name
    return "", ""


def _text(message: Message, me: User) -> str:
    text = addressing.without_address(message, me)
    if _START.fullmatch(text):
        return "/help"  # what every Telegram client sends when somebody opens a bot for the first time
    place = ""
    if message.location is not None:
        place = f"{message.location.latitude}, {message.location.longitude}"
    if message.venue is not None:
        place = f"{message.venue.title}, {message.venue.address} ({place})"
    if place:
        return clean(f"[location: {place}]")
    if message.contact is not None:
        name = " ".join(filter(None, (message.contact.first_name, message.contact.last_name)))
        return clean(f"[contact: {name}, {message.contact.phone_number}]")
    return clean(text)


def _attachments(message: Message) -> tuple[Attachment, ...]:
    found = _attachment(message)
    return () if found is None else (found,)


def _attachment(message: Message) -> Attachment | None:
    if message.photo:
        largest = max(message.photo, key=lambda size: size.width * size.height)
        return Attachment(
            "", "photo.jpg", "image/jpeg", kinds.IMAGE, remote=largest.file_id, size=largest.file_size or 0
        )
    if (animation := message.animation) is not None:  # comes as a document as well, which is passed over
        return _file(animation.file_id, animation.file_name, animation.mime_type, animation.file_size, kinds.ANIMATION)
    if (voice := message.voice) is not None:
        return _file(voice.file_id, "voice.ogg", voice.mime_type or "audio/ogg", voice.file_size, kinds.VOICE)
    if (audio := message.audio) is not None:
        return _file(audio.file_id, audio.file_name, audio.mime_type, audio.file_size, kinds.AUDIO)
    if (video := message.video) is not None:
        return _file(video.file_id, video.file_name, video.mime_type, video.file_size, kinds.VIDEO)
    if (note := message.video_note) is not None:
        return _file(note.file_id, "video.mp4", "video/mp4", note.file_size, kinds.VIDEO)
    if (document := message.document) is not None:
        kind = kinds.IMAGE if document.mime_type in _PICTURES else kinds.DOCUMENT
        return _file(document.file_id, document.file_name, document.mime_type, document.file_size, kind)
    if (sticker := message.sticker) is not None:
        ending, mime = "webp", "image/webp"
        if sticker.is_animated:
            ending, mime = "tgs", "application/x-tgsticker"
        elif sticker.is_video:
            ending, mime = "webm", "video/webm"
        return Attachment(
            "", f"sticker.{ending}", mime, kinds.STICKER, remote=sticker.file_id, size=sticker.file_size or 0,
            sticker=Sticker(
                sticker.file_unique_id, clean(sticker.emoji or ""), clean(sticker.set_name or ""),
                animated=sticker.is_animated or sticker.is_video,
            ),
        )  # fmt: skip
    return None


def _file(file_id: str, name: str | None, mime: str | None, size: int | None, kind: str) -> Attachment:
    mime = mime or (kinds.mime_of(name) if name else "application/octet-stream")
    return Attachment("", clean(name or f"{kind}{kinds.suffix_of(mime)}"), mime, kind, remote=file_id, size=size or 0)


def _press(query: CallbackQuery, platform: str) -> Press | Passed:
    message = query.message
    if not isinstance(message, Message):
        return Passed("the message of the button is not there any more")
    pressed = buttons.pressed(message.reply_markup, query.data or "")
    if pressed is None:
        return Passed("it is no button of hermesd's")
    ask, number, choice = pressed
    return Press(
        platform=platform,
        chat_id=str(message.chat.id),
        message_id=str(message.message_id),
        user_id=str(query.from_user.id),
        ask=ask,
        choice=choice,
        user_name=clean(query.from_user.full_name),
        thread_id=thread_of(message),
        number=number,
    )
