"""What a bot may call, by method name in small letters, with the checks of the official server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from telegram.constants import ReactionEmoji

from . import entities, errors, shapes
from .webhook import Hook
from .world import Chat, Message, World

TEXT_LIMIT = 4096  # UTF-16 units: td/telegram/MessageContent.cpp, option message_text_length_max
CAPTION_LIMIT = 1024
DOWNLOAD_LIMIT = 20 << 20  # Client.h:71 MAX_DOWNLOAD_FILE_SIZE
PHOTO_LIMIT = 10 << 20
ALBUM_LIMIT = 10  # td/telegram/MessageContent.cpp:5327 MAX_GROUPED_MESSAGES
STICKER_LIMITS = {"webp": 1 << 19, "tgs": 1 << 16, "webm": 1 << 18}  # td/telegram/StickerFormat.cpp:151
CALLBACK_DATA_LIMIT = 64

ACTIONS = frozenset({
    "typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "upload_document",
    "choose_sticker", "find_location", "record_video_note", "upload_video_note",
})  # fmt: skip

REACTIONS = frozenset(emoji.value for emoji in ReactionEmoji)

Files = dict[str, tuple[str, bytes, str]]  # field -> name, content, MIME type


class Arguments:
    """What came with a call, of whatever content type."""

    def __init__(self, values: dict[str, str], files: Files | None = None):
        self.values = values
        self.files = files or {}

    def text(self, name: str) -> str:
        return self.values.get(name, "")

    def number(self, name: str) -> int:
        try:
            return int(self.values.get(name) or 0)
        except ValueError:
            return 0

    def flag(self, name: str) -> bool:
        return self.values.get(name, "").lower() in ("true", "yes", "1")

    def json(self, name: str, default: Any = None) -> Any:
        value = self.values.get(name)
        if not value:
            return default
        try:
            return json.loads(value)
        except ValueError:
            raise errors.bad_json(name) from None


class Methods:
    """The bot's side of a `World`. Each method takes `Arguments` and returns what goes into ``result``."""

    def __init__(self, world: World, hook: Hook):
        self.world = world
        self.hook = hook
        self.commands: list[dict[str, Any]] = []
        self.callbacks: dict[str, dict[str, Any] | None] = {}  # open and answered callback queries
        self.drafts: dict[int, str] = {}  # by chat
        self.table: dict[str, Callable[[Arguments], Any]] = {
            "getme": self.get_me,
            "setwebhook": self.set_webhook,
            "deletewebhook": self.delete_webhook,
            "getwebhookinfo": lambda call: self.hook.info(),
            "sendmessage": self.send_message,
            "sendmessagedraft": self.send_message_draft,
            "editmessagetext": self.edit_text,
            "editmessagecaption": self.edit_caption,
            "editmessagereplymarkup": self.edit_markup,
            "deletemessage": self.delete_message,
            "sendchataction": self.send_chat_action,
            "setmessagereaction": self.set_reaction,
            "answercallbackquery": self.answer_callback,
            "setmycommands": self.set_commands,
            "getmycommands": lambda call: self.commands,
            "deletemycommands": self.delete_commands,
            "createforumtopic": self.create_topic,
            "getfile": self.get_file,
            "getchat": lambda call: shapes.full_chat(self._readable(call)),
            "sendmediagroup": self.send_media_group,
            **{f"send{kind}".replace("_", ""): self._sender(kind) for kind in _FOLDERS},
        }

    def get_me(self, call: Arguments) -> Any:
        return shapes.me(self.world.bot, topics=self.world.topics_enabled)

    def set_webhook(self, call: Arguments) -> Any:
        url = call.text("url")
        if url and not url.startswith("https://") and not self.hook.plain_http:
            raise errors.bad_webhook("An HTTPS URL must be provided for webhook")
        secret = call.text("secret_token")
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,256}", secret):
            raise errors.bad_secret()
        if call.flag("drop_pending_updates"):
            self.hook.updates.drop()
        self.hook.set(url, secret, call.number("max_connections"), call.json("allowed_updates"))
        return True

    def delete_webhook(self, call: Arguments) -> Any:
        if call.flag("drop_pending_updates"):
            self.hook.updates.drop()
        self.hook.set("", "", 0, None)
        return True

    # Messages.

    def send_message(self, call: Arguments) -> Any:
        chat = self._writable(call)
        text, marks = self._text(call, "text", "entities", TEXT_LIMIT, errors.text_too_long)
        return self._post(call, chat, text=text, entities=marks, link_preview=call.json("link_preview_options"))

    def send_message_draft(self, call: Arguments) -> Any:
        """Text of an answer that is being written: private chats only, a draft's id is not 0."""
        chat = self._writable(call)
        if chat.type != "private":
            raise errors.bad_request("TEXTDRAFT_PEER_INVALID")  # the server's, for what is no private chat
        if not call.number("draft_id"):
            raise errors.bad_request("RANDOM_ID_INVALID")  # the server's, for a draft id of 0
        text, _ = self._text(call, "text", "entities", TEXT_LIMIT, errors.text_too_long)
        self.drafts[chat.id] = text
        return True

    def _sender(self, kind: str) -> Callable[[Arguments], Any]:
        def send(call: Arguments) -> Any:
            chat = self._writable(call)
            caption, marks = self._caption(call.text("caption"), call.json("caption_entities"))
            media, file = self._media(kind, call, chat, call.text(kind))
            if kind == "sticker":
                caption, marks = "", []  # Client.cpp `process_send_sticker_query` reads none
            return self._post(call, chat, text=caption, entities=marks, media=media, file=file)

        return send

    def _media(self, kind: str, call: Arguments, chat: Chat, value: str) -> tuple[dict[str, Any], Any]:
        if kind == "voice" and chat.no_voice:
            raise errors.voice_forbidden()
        if value in self.world.files:
            file = self.world.files[value]
        else:
            upload = call.files.get(value.removeprefix("attach://") or kind) or call.files.get(kind)
            if upload is None:
                raise errors.no_file(kind) if not value else errors.wrong_file_id()
            name, data, mime = upload
            if kind == "photo" and not _is_picture(data):
                raise errors.bad_image()
            if kind == "photo" and len(data) > PHOTO_LIMIT:
                raise errors.file_too_big()
            if kind == "sticker" and chat.no_stickers:
                raise errors.no_right_to_stickers()
            file = self.world.add_file(data, name, mime, _FOLDERS[kind])
            if kind == "sticker":
                if (format_ := _sticker_format(data)) is None:
                    # What is none comes back as the file that it is: the server decides, td/telegram/
                    # DocumentsManager.cpp `on_get_document` reads of what type a document is.
                    return shapes.media("document", file), file
                file.sticker = {"is_animated": format_ == "tgs", "is_video": format_ == "webm"}
        return shapes.media(kind, file, sticker=file.sticker or None), file

    def send_media_group(self, call: Arguments) -> Any:
        """Client.cpp `process_send_media_group_query`: the items are read before the chat is looked for, and all of
        them are sent or none.
        """
        items = call.json("media")
        if items is None:
            raise errors.parameter_required("media")
        for item in items:
            self._check_item(item, call)
        chat = self._writable(call)
        kinds = {item["type"] for item in items}
        if len(items) > ALBUM_LIMIT:
            raise errors.album_too_long()
        if not items:
            raise errors.album_empty()
        for alone in ("audio", "document"):
            if alone in kinds and len(kinds) > 1:
                raise errors.album_mixed(alone)
        # One item is an ordinary message: td/telegram/MessagesManager.cpp `send_message_group`.
        album = self.world.new_album() if len(items) > 1 else ""
        prepared = []
        for number, item in enumerate(items, 1):
            caption, marks = self._caption(item.get("caption", ""), item.get("caption_entities"))
            try:
                media, file = self._media(item["type"], call, chat, item["media"])
            except errors.ApiError as error:
                raise errors.album_item_failed(number, error) from None
            prepared.append({"text": caption, "entities": marks, "media": media, "file": file, "album": album})
        return [self._post(call, chat, markup=None, **content) for content in prepared]

    def _check_item(self, item: dict[str, Any], call: Arguments) -> None:
        """Client.cpp `get_input_media`."""
        kind, media = item.get("type", ""), item.get("media", "")
        if not media or (media.startswith("attach://") and media.removeprefix("attach://") not in call.files):
            raise errors.bad_input_media("media not found")
        if kind == "animation":
            raise errors.bad_input_media(f'type "{kind}" can\'t be used in sendMediaGroup')
        if kind not in ("photo", "video", "document", "audio"):
            raise errors.bad_input_media(f'type "{kind}" is unsupported')

    def _post(self, call: Arguments, chat: Chat, **content: Any) -> dict[str, Any]:
        thread = self._thread(call, chat)
        reply_to = self._replied(call, chat)
        content.setdefault("markup", self._markup(call))
        message = self.world.post(
            chat, self.world.bot, thread=thread, reply_to=reply_to, silent=call.flag("disable_notification"), **content
        )
        return shapes.message(message)

    def edit_text(self, call: Arguments) -> Any:
        message = self._message(call, "edit")
        text, marks = self._text(call, "text", "entities", TEXT_LIMIT, errors.edited_text_too_long)
        if message.media:
            raise errors.no_text_to_edit()
        return self._edited(call, message, text, marks)

    def edit_caption(self, call: Arguments) -> Any:
        message = self._message(call, "edit")
        caption, marks = self._caption(call.text("caption"), call.json("caption_entities"))
        if not message.media:
            raise errors.no_caption_to_edit()
        return self._edited(call, message, caption, marks)

    def edit_markup(self, call: Arguments) -> Any:
        message = self._message(call, "edit")
        return self._edited(call, message, message.text, message.entities)

    def _edited(self, call: Arguments, message: Message, text: str, marks: list[dict[str, Any]]) -> Any:
        if message.sender is not self.world.bot or not message.editable:
            raise errors.cannot_be_edited()
        markup = self._markup(call)
        if (text, marks, markup) == (message.text, message.entities, message.markup):
            raise errors.not_modified()
        message.history.append(message.text)
        message.text, message.entities, message.markup = text, marks, markup
        message.edited = int(time.time())
        return shapes.message(message)

    def delete_message(self, call: Arguments) -> Any:
        message = self._message(call, "delete")
        if not message.editable:
            raise errors.cannot_be_deleted()
        message.deleted = True
        return True

    def send_chat_action(self, call: Arguments) -> Any:
        action = call.text("action")
        if action not in ACTIONS:
            raise errors.wrong_action()
        chat = self._writable(call)
        chat.typing.append((time.time(), action, call.number("message_thread_id")))
        return True

    def set_reaction(self, call: Arguments) -> Any:
        message = self._message(call, "react")
        reactions = call.json("reaction") or []
        for reaction in reactions:
            if reaction.get("type") != "emoji" or reaction.get("emoji") not in REACTIONS:
                raise errors.reaction_invalid()
        message.reaction = reactions[0]["emoji"] if reactions else ""
        return True

    def answer_callback(self, call: Arguments) -> Any:
        query = call.text("callback_query_id")
        if self.callbacks.get(query, {}) is not None:
            raise errors.query_too_old()
        self.callbacks[query] = {"text": call.text("text"), "alert": call.flag("show_alert")}
        return True

    def set_commands(self, call: Arguments) -> Any:
        commands = call.json("commands")
        if not isinstance(commands, list):
            raise errors.bad_request("Expected an Array of BotCommand")  # Client.cpp:10666
        for command in commands:
            if not re.fullmatch(r"[a-z0-9_]{1,32}", command["command"]):
                raise errors.command_invalid()
            if not 1 <= len(command["description"]) <= 256:
                raise errors.description_invalid()
        if len(commands) > 100:
            raise errors.bad_request("BOT_COMMANDS_TOO_MUCH")  # the server's, for more than 100
        self.commands = commands
        return True

    def delete_commands(self, call: Arguments) -> Any:
        self.commands = []
        return True

    def create_topic(self, call: Arguments) -> Any:
        chat = self._writable(call)
        if not (chat.is_forum or (chat.type == "private" and self.world.topics_enabled)):
            raise errors.no_forum()
        name, color = call.text("name"), call.number("icon_color") or 0x6FB9F0
        opened = self.world.post(
            chat, self.world.bot, service={"forum_topic_created": {"name": name, "icon_color": color}}
        )
        opened.thread = opened.id
        chat.topics[opened.id] = name
        return {"message_thread_id": opened.id, "name": name, "icon_color": color}

    def get_file(self, call: Arguments) -> Any:
        file_id = call.text("file_id")
        if not file_id:
            raise errors.file_id_missing()
        file = self.world.files.get(file_id) or self.world.files.get(file_id.removesuffix("s"))
        if file is None:
            raise errors.wrong_file_id()
        if file.size > DOWNLOAD_LIMIT:
            raise errors.file_too_big()
        return shapes.file(file)

    # Checks.

    def _readable(self, call: Arguments) -> Chat:
        wanted = call.text("chat_id")
        if not wanted:
            raise errors.chat_id_empty()
        chat = self.world.chats.get(call.number("chat_id"))
        if chat is None:
            raise errors.chat_not_found()
        return chat

    def _writable(self, call: Arguments) -> Chat:
        chat = self._readable(call)
        if chat.upgraded_to:
            raise errors.upgraded(chat.upgraded_to)
        if chat.blocked:
            raise errors.blocked()
        if chat.kicked:
            raise errors.kicked(chat.type)
        return chat

    def _message(self, call: Arguments, verb: str) -> Message:
        chat = self._writable(call)
        message = self.world.message(chat, call.number("message_id"))
        if message is None:
            raise errors.message_not_found(verb)
        return message

    def _thread(self, call: Arguments, chat: Chat) -> int:
        thread = call.number("message_thread_id")
        if not thread or not (chat.is_forum or chat.type == "private"):
            return 0  # Client.cpp:8289: elsewhere it is passed over
        if thread not in chat.topics:
            raise errors.thread_not_found()
        if thread in chat.closed_topics:
            raise errors.topic_closed()
        return thread

    def _replied(self, call: Arguments, chat: Chat) -> Message | None:
        wanted = call.json("reply_parameters")
        if not wanted:
            return None
        message = self.world.message(chat, int(wanted["message_id"]))
        if message is None and not wanted.get("allow_sending_without_reply"):
            raise errors.message_not_found("be replied")
        return message

    def _text(
        self, call: Arguments, name: str, marks: str, limit: int, too_long: Callable[[], errors.ApiError]
    ) -> tuple[str, list[dict[str, Any]]]:
        text = call.text(name)
        if not text:
            raise errors.text_empty()
        if call.text("parse_mode"):
            raise errors.unsupported_parse_mode()  # markup languages are not emulated: a bot sends entities
        text, found = entities.checked(text, call.json(marks))
        if entities.utf16(text) > limit:
            raise too_long()
        return text, found

    def _caption(self, caption: str, marks: Any) -> tuple[str, list[dict[str, Any]]]:
        if not caption.strip():
            return "", []
        caption, found = entities.checked(caption, marks)
        if entities.utf16(caption) > CAPTION_LIMIT:
            raise errors.caption_too_long()
        return caption, found

    def _markup(self, call: Arguments) -> dict[str, Any] | None:
        markup: dict[str, Any] | None = call.json("reply_markup")
        for row in (markup or {}).get("inline_keyboard", []):
            for button in row:
                if len(str(button.get("callback_data", "x")).encode()) not in range(1, CALLBACK_DATA_LIMIT + 1):
                    raise errors.button_data_invalid()
        return markup if markup and markup.get("inline_keyboard") else None


_FOLDERS = {
    "photo": "photos",
    "document": "documents",
    "audio": "music",
    "voice": "voice",
    "video": "videos",
    "animation": "animations",
    "video_note": "video_notes",
    "sticker": "stickers",
}


def _sticker_format(data: bytes) -> str | None:
    """ "webp", "tgs" or "webm"; None for what Telegram shows as an ordinary file."""
    magics = {"tgs": data[:2] == b"\x1f\x8b", "webm": data[:4] == b"\x1a\x45\xdf\xa3"}
    magics["webp"] = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    found = next((name for name, fits in magics.items() if fits), None)
    return found if found is not None and len(data) <= STICKER_LIMITS[found] else None


def _is_picture(data: bytes) -> bool:
    return data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
