"""An `Outbound` becomes the arguments of a call, and a refused call another one that may be taken. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from telegram import (
    InputFile,
    InputMediaAudio,
    InputMediaDocument,
    InputMediaPhoto,
    InputMediaVideo,
    LinkPreviewOptions,
    ReplyParameters,
)

from hermesd.adapters.contract import Albums, Attachment, Outbound, Target
from hermesd.adapters.errors import Rejected
from hermesd.adapters.media import kinds
from hermesd.adapters.telegram import addressing, buttons
from hermesd.adapters.telegram.calls import Failure
from hermesd.adapters.telegram.options import TelegramOptions
from hermesd.adapters.telegram.render import plain, rendered

TEXT_LIMIT = 4096  # UTF-16 units
CAPTION_LIMIT = 1024
UPLOAD_LIMIT = 50 * 1000 * 1000  # core.telegram.org/bots/api#sending-files
PHOTO_LIMIT = 10 * 1000 * 1000
STICKER_LIMITS = {"image/webp": 1 << 19, "application/x-tgsticker": 1 << 16, "video/webm": 1 << 18}
"""Bytes of a sticker by its format, and there are no others: td/telegram/StickerFormat.cpp `get_max_sticker_file_size`,
core.telegram.org/bots/api#sendsticker.
"""

_METHODS = {
    kinds.IMAGE: "photo",
    kinds.ANIMATION: "animation",
    kinds.VOICE: "voice",
    kinds.AUDIO: "audio",
    kinds.VIDEO: "video",
    kinds.STICKER: "sticker",
}
# core.telegram.org/bots/api#sendmediagroup: documents and audio only among themselves, photos and videos mixed.
_SORTS = {"photo": "visual", "video": "visual", "document": "document", "audio": "audio"}
_INPUTS: dict[str, Any] = {
    "photo": InputMediaPhoto, "video": InputMediaVideo, "document": InputMediaDocument, "audio": InputMediaAudio,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to send a message; `relent` makes the next one of it."""

    target: Target
    message: Outbound
    chat_id: int
    in_thread: bool = True
    formatted: bool = True
    as_document: bool = False
    as_sticker: bool = True

    @property
    def file(self) -> Attachment | None:
        return self.message.files[0] if self.message.files else None

    @property
    def field(self) -> str:
        """How the Bot API calls the file: ``photo`` of ``sendPhoto``."""
        if self.file is None or self.as_document:
            return "document"
        return field_of(self.file, as_sticker=self.as_sticker)


def field_of(file: Attachment, *, as_sticker: bool = True) -> str:
    """``photo`` of ``sendPhoto``."""
    kind = file.kind
    if kind == kinds.STICKER and not (as_sticker and 0 < file.size <= STICKER_LIMITS.get(file.mime, 0)):
        kind = kinds.shown_as(file.name, file.mime, kind)
    if kind == kinds.IMAGE and file.size > PHOTO_LIMIT:
        return "document"
    return _METHODS.get(kind, "document")


ALBUMS = Albums(lambda file: _SORTS.get(field_of(file), ""), most=10, most_bytes=UPLOAD_LIMIT)


def plan(target: Target, message: Outbound, chat_id: int) -> Plan:
    """Raises `Rejected` for what cannot be one call of Telegram's."""
    sorts = {ALBUMS.sort(file) for file in message.files}
    if len(message.files) > 1 and (len(sorts) > 1 or "" in sorts or message.question is not None):
        raise Rejected("cannot send these files in one album of Telegram's")
    made = Plan(target, message, chat_id)
    if made.file is None and not message.text.strip():
        raise Rejected("cannot send an empty message to Telegram")
    return made


def relent(tried: Plan, found: Failure) -> Plan | None:
    """What to try when Telegram refused it so; None: nothing."""
    if found.kind == "moved" and tried.chat_id != found.chat_id:
        return replace(tried, chat_id=found.chat_id)
    if found.thread_is_gone and tried.in_thread and tried.target.thread_id:
        return replace(tried, in_thread=False)
    if found.entities_are_refused and tried.formatted:
        return replace(tried, formatted=False)
    if found.sticker_is_refused and tried.field == "sticker":
        return replace(tried, as_sticker=False)
    if len(tried.message.files) > 1:
        return None  # which of them it is, Telegram does not say: the core sends them one by one
    if found.file_kind_is_refused and tried.file is not None and tried.field != "document":
        return replace(tried, as_document=True)
    return None


def words(text: str, *, formatted: bool) -> tuple[str, list[Any]]:
    """Text and its entities."""
    return rendered(text) if formatted else (plain(text), [])


def text_arguments(made: Plan, options: TelegramOptions) -> dict[str, Any]:
    """For ``send_message``."""
    text, entities = words(made.message.text, formatted=made.formatted)
    return {
        **_place(made),
        "text": text,
        "entities": entities,
        "link_preview_options": link_preview(options),
        "reply_markup": buttons.keyboard(made.message.question),
    }


def file_arguments(made: Plan) -> dict[str, Any]:
    """For ``send_photo`` and its like, without the file."""
    caption, entities = words(made.message.text, formatted=made.formatted) if made.message.text.strip() else ("", [])
    return {
        **_place(made),
        "caption": caption or None,
        "caption_entities": entities,
        "reply_markup": buttons.keyboard(made.message.question),
    }


def sticker_arguments(made: Plan) -> dict[str, Any]:
    """For ``send_sticker``, without the file: it has no caption."""
    return {**_place(made), "reply_markup": buttons.keyboard(made.message.question)}


def album_arguments(made: Plan, files: Sequence[InputFile]) -> dict[str, Any]:
    """For ``send_media_group``: the text is the caption of the first, which clients show for all of an album."""
    media: list[Any] = []
    for file, content in zip(made.message.files, files, strict=True):
        text = made.message.text if not media else ""
        caption, entities = words(text, formatted=made.formatted) if text.strip() else ("", [])
        media.append(_INPUTS[field_of(file)](content, caption=caption or None, caption_entities=entities))
    return {**_place(made), "media": media}


def edit_arguments(chat_id: int, message_id: int, message: Outbound, *, formatted: bool) -> dict[str, Any]:
    """For ``edit_message_text``. A keyboard that is not sent again is taken away."""
    text, entities = words(message.text, formatted=formatted)
    return {
        "chat_id": chat_id,
        "message_id": message_id,
        "text": text,
        "entities": entities,
        "reply_markup": buttons.keyboard(message.question),
    }


def link_preview(options: TelegramOptions) -> LinkPreviewOptions:
    return LinkPreviewOptions(is_disabled=not options.link_previews)


def thread_of(target: Target) -> int | None:
    """The topic of a target, None for the chat itself."""
    return int(target.thread_id) if target.thread_id.isdigit() else None


def _place(made: Plan) -> dict[str, Any]:
    thread = thread_of(made.target)
    place: dict[str, Any] = {
        "chat_id": made.chat_id,
        "message_thread_id": thread if made.in_thread and not addressing.is_general(made.chat_id, thread) else None,
        "disable_notification": made.message.kind == "progress",
    }
    if made.message.quotes and made.target.reply_to.isdigit():
        # The question may have been deleted meanwhile; its answer is wanted all the same.
        place["reply_parameters"] = ReplyParameters(int(made.target.reply_to), allow_sending_without_reply=True)
    return place
