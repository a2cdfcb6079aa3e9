"""Users, chats and messages of the emulated Telegram. No JSON and no network here."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from dataclasses import dataclass, field
from typing import Any

BOT_ID = 7_318_204_455  # beyond 32 bits, as the ids of new accounts are
BOT_USERNAME = "hermesd_test_bot"

FIRST_USER = 8_000_000_001
FIRST_SUPERGROUP = 2_400_000_001
"""A supergroup's id is -100 followed by at least ten digits."""


@dataclass(slots=True)
class User:
    id: int
    first_name: str
    username: str = ""
    last_name: str = ""
    is_bot: bool = False
    language_code: str = ""


@dataclass(slots=True)
class File:
    file_id: str
    unique_id: str
    data: bytes
    name: str
    mime: str
    size: int  # what Telegram says; a test may claim more than it has
    path: str  # below the file server's root
    sticker: dict[str, Any] = field(default_factory=dict)  # what is known of it besides


@dataclass(slots=True)
class Message:
    id: int
    chat: Chat
    sender: User | None
    date: int
    text: str = ""
    entities: list[dict[str, Any]] = field(default_factory=list)
    media: dict[str, Any] = field(default_factory=dict)  # {"photo": [...]}, {"sticker": {...}}
    file: File | None = None
    sender_chat: Chat | None = None
    reply_to: Message | None = None
    quote: str = ""
    thread: int = 0
    album: str = ""
    markup: dict[str, Any] | None = None
    link_preview: dict[str, Any] | None = None
    service: dict[str, Any] = field(default_factory=dict)
    edited: int = 0
    silent: bool = False
    deleted: bool = False
    editable: bool = True
    reaction: str = ""  # the bot's own
    history: list[str] = field(default_factory=list)  # what it said before each edit

    @property
    def media_kind(self) -> str:
        return next(iter(self.media), "")


@dataclass(slots=True)
class Chat:
    id: int
    type: str  # "private" | "group" | "supergroup" | "channel"
    title: str = ""
    username: str = ""
    user: User | None = None  # of a private chat
    is_forum: bool = False
    topics: dict[int, str] = field(default_factory=dict)
    closed_topics: set[int] = field(default_factory=set)
    blocked: bool = False
    kicked: bool = False
    no_voice: bool = False
    no_stickers: bool = False
    upgraded_to: int = 0
    messages: dict[int, Message] = field(default_factory=dict)
    typing: list[tuple[float, str, int]] = field(default_factory=list)  # when, what, in which thread

    @property
    def bot_may_read(self) -> bool:
        return not (self.blocked or self.kicked)


class World:
    """Everything that Telegram knows. ``seed`` decides the ids that are random there."""

    def __init__(self, seed: int = 0):
        self._random = random.Random(seed)
        self.bot = User(BOT_ID, "Hermes", BOT_USERNAME, is_bot=True)
        self.topics_enabled = False  # of private chats: a switch at @BotFather
        self.users: dict[int, User] = {}
        self.chats: dict[int, Chat] = {}
        self.files: dict[str, File] = {}
        self._user_ids = itertools.count(FIRST_USER)
        self._supergroups = itertools.count(FIRST_SUPERGROUP)
        self._groups = itertools.count(4_100_000_001)
        # One counter for all private chats and basic groups of an account, one for each supergroup: that is how
        # message ids are given out there.
        self._account_messages = itertools.count(1)
        self._chat_messages: dict[int, itertools.count[int]] = {}
        self._albums = itertools.count(13_900_000_000_000_001)

    def add_user(self, name: str, username: str = "", *, user_id: int = 0) -> User:
        user = User(user_id or next(self._user_ids), name, username, language_code="en")
        self.users[user.id] = user
        return user

    def private(self, user: User) -> Chat:
        """The user's chat with the bot; the bot knows it from now on."""
        return self.chats.setdefault(user.id, Chat(user.id, "private", user=user, username=user.username))

    def add_group(self, title: str, kind: str = "supergroup", *, forum: bool = False) -> Chat:
        chat_id = -next(self._groups) if kind == "group" else -(10**12) - next(self._supergroups)
        chat = self.chats[chat_id] = Chat(chat_id, kind, title, is_forum=forum)
        return chat

    def next_message_id(self, chat: Chat) -> int:
        if chat.type in ("private", "group"):
            return next(self._account_messages)
        # The first message of a forum tells that it was made, and is its general topic.
        first = 2 if chat.is_forum else 1
        return next(self._chat_messages.setdefault(chat.id, itertools.count(first)))

    def post(self, chat: Chat, sender: User | None, **content: Any) -> Message:
        message = Message(self.next_message_id(chat), chat, sender, int(time.time()), **content)
        chat.messages[message.id] = message
        return message

    def message(self, chat: Chat, message_id: int) -> Message | None:
        found = chat.messages.get(message_id)
        return None if found is None or found.deleted else found

    def new_album(self) -> str:
        return str(next(self._albums))

    def add_file(self, data: bytes, name: str, mime: str, folder: str) -> File:
        unique = hashlib.sha256(data + name.encode()).hexdigest()
        number = len(self.files) + 1
        file = File(
            file_id=f"AgACAgIAAx{number:04d}{self._random.getrandbits(96):024x}",
            unique_id=f"AQAD{unique[:12]}",
            data=data,
            name=name,
            mime=mime,
            size=len(data),
            path=f"{folder}/file_{number}{'.' + name.rpartition('.')[2] if '.' in name else ''}",
        )
        self.files[file.file_id] = file
        return file
