"""What exists on the server: people, places, messages, and the record of what the bot did. No network here."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

EPOCH_MS = 1420070400000
TEXT, DM, FORUM, THREAD = 0, 1, 15, 11  # channel types
VOICE = 1 << 13  # of a message's flags
MESSAGE_CONTENT = 1 << 15  # the gateway's intent
CONTENT_ALLOWED = 1 << 19  # the application's flag GATEWAY_MESSAGE_CONTENT_LIMITED
EVERYTHING = str(2251799813685247 & ~(1 << 3))  # permissions, but for "administrator", which stands for all
NO_HISTORY = str(int(EVERYTHING) & ~(1 << 16))
NO_THREADS = str(int(EVERYTHING) & ~(1 << 35))

Json = dict[str, Any]


class Refusal(Exception):
    """An error that the API answers with. Codes: Discord's documentation, Opcodes and Status Codes, JSON."""

    def __init__(self, status: int, code: int, message: str, *, headers: dict[str, str] | None = None, **more: Any):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"code": code, "message": message, **more}


@dataclass(frozen=True)
class Call:
    """One request of the bot, numbered from 1. ``ok``: it was carried out, whatever was answered."""

    number: int
    method: str
    path: str
    body: Any
    at: float
    files: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Interaction:
    id: str
    token: str
    channel: str
    at: float
    acknowledged: float | None = None
    response: Json | None = None  # the body of the callback
    message: Json | None = None  # the original response, once there is one


@dataclass
class World:
    """One server ("guild") with channels, direct channels, and everything that is in them."""

    token: str = "MTIz.wire.token"
    intents: int = MESSAGE_CONTENT  # privileged ones that are switched on in the developer portal
    nonce_seconds: float = 180.0
    voice_refusal: Refusal | None = None  # of a channel that takes no voice messages
    sessions_left: int = 1000
    permissions: str = EVERYTHING
    channels: dict[str, Json] = field(default_factory=dict)
    messages: dict[str, list[Json]] = field(default_factory=dict)
    users: dict[str, Json] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # of the content server, by path
    calls: list[Call] = field(default_factory=list)
    commands: list[Json] = field(default_factory=list)
    interactions: dict[str, Interaction] = field(default_factory=dict)
    ephemeral: list[tuple[str, str]] = field(default_factory=list)  # interaction, text
    typing: list[str] = field(default_factory=list)
    _nonces: dict[tuple[str, str], tuple[float, Json]] = field(default_factory=dict)
    _last_id: int = 0

    def __post_init__(self) -> None:
        self.bot = self.user("hermes", bot=True)
        self.owner = self.user("owner")
        self.guild = self.new_id()
        self.application = self.bot["id"]

    # ---- making things -----------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """A snowflake of now; later ones are larger (Discord's documentation, Reference, Snowflakes)."""
        self._last_id = max(self._last_id + 1, (int(time.time() * 1000) - EPOCH_MS) << 22)
        return str(self._last_id)

    def user(self, name: str, *, bot: bool = False) -> Json:
        for known in self.users.values():
            if known["username"] == name:
                return known
        made = {
            "id": self.new_id(), "username": name, "discriminator": "0", "avatar": None, "global_name": None, "bot": bot
        }  # fmt: skip
        self.users[made["id"]] = made
        return made

    def channel(self, name: str, *, type_: int = TEXT) -> str:
        """A channel of the guild."""
        return self._place(
            {
                "id": self.new_id(), "type": type_, "name": name, "position": 0, "guild_id": self.guild,
                "permission_overwrites": [], "topic": None, "last_message_id": None, "parent_id": None, "nsfw": False,
            }
        )  # fmt: skip

    def direct(self, user: str) -> str:
        """The direct channel with somebody."""
        recipient = self.user(user)
        for channel in self.channels.values():
            if channel["type"] == DM and channel["recipients"][0]["id"] == recipient["id"]:
                return str(channel["id"])
        return self._place(
            {"id": self.new_id(), "type": DM, "recipients": [recipient], "last_message_id": None, "flags": 0}
        )

    def thread(self, parent: str, name: str, *, id_: str = "", owner: str = "") -> str:
        return self._place(
            {
                "id": id_ or self.new_id(), "type": THREAD, "name": name, "parent_id": parent, "guild_id": self.guild,
                "owner_id": owner or self.owner["id"], "last_message_id": None, "message_count": 0, "member_count": 1,
                "rate_limit_per_user": 0, "flags": 0, "total_message_sent": 0,
                "thread_metadata": {
                    "archived": False, "auto_archive_duration": 1440, "locked": False,
                    "archive_timestamp": now(), "create_timestamp": now(),
                },
            }
        )  # fmt: skip

    def _place(self, channel: Json) -> str:
        self.channels[channel["id"]] = channel
        self.messages[channel["id"]] = []
        return str(channel["id"])

    def message(
        self, channel: str, author: Json, content: str, *, id_: str = "", attachments: Iterable[Json] = (), **more: Any
    ) -> Json:
        """Write a message. ``more``: further fields of it."""
        place = self.place(channel)
        made = {
            "id": id_ or self.new_id(), "channel_id": channel, "author": author, "content": content, "timestamp": now(),
            "edited_timestamp": None, "tts": False, "mention_everyone": False, "mention_roles": [],
            "mentions": self._mentioned(content), "attachments": list(attachments), "embeds": [], "pinned": False,
            "type": 0, "components": [], "flags": 0, **more,
        }  # fmt: skip
        if reference := made.get("message_reference"):
            made["type"] = 19
            quoted = self.find(reference["channel_id"], reference["message_id"])
            made["referenced_message"] = quoted
            if quoted is not None and quoted["author"] not in made["mentions"] and not author["bot"]:
                made["mentions"] = [*made["mentions"], quoted["author"]]
        self.messages[channel].append(made)
        place["last_message_id"] = made["id"]
        return made

    def _mentioned(self, content: str) -> list[Json]:
        return [self.users[found] for found in re.findall(r"<@!?(\d+)>", content) if found in self.users]

    def attach(self, message_id: str, channel: str, name: str, content: bytes, mime: str, base: str) -> Json:
        """A file on the content server, and its entry of a message."""
        id_ = self.new_id()
        path = f"/attachments/{channel}/{id_}/{name}"
        self.files[path] = content
        return {
            "id": id_, "filename": name, "size": len(content), "content_type": mime, "url": f"{base}{path}",
            "proxy_url": f"{base}{path}",
        }  # fmt: skip

    # ---- finding them ------------------------------------------------------------------------------------------------

    def place(self, channel: str) -> Json:
        if channel not in self.channels:
            raise Refusal(404, 10003, "Unknown Channel")
        return self.channels[channel]

    def find(self, channel: str, message: str) -> Json | None:
        return next((one for one in self.messages.get(channel, ()) if one["id"] == message), None)

    def get(self, channel: str, message: str) -> Json:
        self.place(channel)
        if (found := self.find(channel, message)) is None:
            raise Refusal(404, 10008, "Unknown Message")
        return found

    def history(self, channel: str, *, limit: int, after: int = 0, before: int = 0) -> list[Json]:
        """Newest first, as Discord gives it; with ``after`` those that follow it. None at all without the permission
        READ_MESSAGE_HISTORY (Get Channel Messages).
        """
        if self.place(channel)["type"] != DM and not int(self.permissions) & (1 << 16):
            return []
        found = [one for one in self.messages[channel] if int(one["id"]) > after]
        found = [one for one in found if not before or int(one["id"]) < before]
        chosen = found[:limit] if after else found[-limit:]
        return [self.seen(without_nonce(one), self.intents) for one in reversed(chosen)]

    def seen(self, message: Json, intents: int) -> Json:
        """As a bot with these intents sees it. Without the privileged one, content is there only in direct messages,
        when it is mentioned, and in its own.
        """
        if intents & MESSAGE_CONTENT or self.channels[message["channel_id"]]["type"] == DM:
            return message
        if message["author"]["id"] == self.bot["id"] or self.bot in message["mentions"]:
            return message
        return {**message, "content": "", "attachments": [], "embeds": [], "components": []}

    def by_bot(self, channel: str | None = None) -> list[Json]:
        """What the bot has said, oldest first."""
        places = [channel] if channel is not None else [*self.messages]
        found = [one for place in places for one in self.messages.get(place, ()) if one["author"] is self.bot]
        return sorted(found, key=lambda one: int(one["id"]))

    # ---- what the bot does -------------------------------------------------------------------------------------------

    def post(self, channel: str, body: Json, attachments: list[Json]) -> tuple[Json, bool]:
        """The bot writes. Returns the message and whether it is new."""
        self.place(channel)
        content = check_content(body, attachments)
        if int(body.get("flags") or 0) & VOICE:
            if refusal := self.voice_refusal:
                raise refusal
            check_voice(body, content, attachments)
        nonce = str(body.get("nonce") or "")
        if len(nonce) > 25:
            raise invalid("nonce", "Must be 25 or fewer in length.")
        # "checked for uniqueness in the past few minutes … that message will be returned" (Create Message).
        written, known = self._nonces.get((channel, nonce), (0.0, None))
        if body.get("enforce_nonce") and known is not None and time.monotonic() - written < self.nonce_seconds:
            return known, False
        more: Json = {"components": body.get("components") or [], "flags": body.get("flags") or 0}
        if reference := body.get("message_reference"):
            more |= self._reference(channel, reference)
        made = self.message(channel, self.bot, content, attachments=attachments, **more)
        made["mentions"] = made["mentions"] if "users" in (body.get("allowed_mentions") or {}).get("parse", ()) else []
        if nonce:
            made["nonce"] = nonce
            self._nonces[(channel, nonce)] = (time.monotonic(), made)
        return made, True

    def _reference(self, channel: str, reference: Json) -> Json:
        elsewhere = str(reference.get("channel_id") or channel) != channel
        if elsewhere or self.find(channel, str(reference["message_id"])) is None:
            if reference.get("fail_if_not_exists", True) or elsewhere:
                raise invalid("message_reference", "Unknown message")
            return {}
        return {
            "message_reference": {
                "message_id": str(reference["message_id"]), "channel_id": channel, "guild_id": self.guild, "type": 0
            }
        }  # fmt: skip

    def edit(self, channel: str, message: str, body: Json) -> Json:
        found = self.get(channel, message)
        if found["author"] is not self.bot:
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        if "content" in body:
            found["content"] = check_content(body, found["attachments"])
        if "components" in body:
            found["components"] = body["components"] or []
        found["edited_timestamp"] = now()
        return found

    def start_thread(self, channel: str, message: str, name: str) -> Json:
        if not int(self.permissions) & (1 << 35):
            raise Refusal(403, 50013, "Missing Permissions")
        self.get(channel, message)
        if message in self.channels:
            raise Refusal(400, 160004, "A thread has already been created for this message")
        if not 0 < len(name) <= 100:
            raise invalid("name", "Must be between 1 and 100 in length.")
        return self.channels[self.thread(channel, name, id_=message, owner=self.bot["id"])]

    def react(self, channel: str, message: str, emoji: str, *, add: bool) -> None:
        found = self.get(channel, message)
        reactions = [one for one in found.get("reactions", ()) if one["emoji"]["name"] != emoji]
        if add:
            entry: Json = {"emoji": {"id": None, "name": emoji}, "count": 1, "me": True, "me_burst": False}
            reactions.append({**entry, "count_details": {"burst": 0, "normal": 1}, "burst_colors": []})
        found["reactions"] = reactions

    def signs(self, channel: str, message: str) -> list[str]:
        return [one["emoji"]["name"] for one in self.get(channel, message).get("reactions", ())]

    # ---- payloads ----------------------------------------------------------------------------------------------------

    def application_payload(self) -> Json:
        return {
            "id": self.application, "name": "hermes", "icon": None, "description": "", "rpc_origins": [],
            "bot_public": True, "bot_require_code_grant": False, "verify_key": "",
            "flags": CONTENT_ALLOWED if self.intents & MESSAGE_CONTENT else 0, "team": None, "owner": self.owner,
        }  # fmt: skip

    def guild_payload(self) -> Json:
        everyone = {
            "id": self.guild, "name": "@everyone", "color": 0, "hoist": False, "position": 0, "managed": False,
            "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
            "permissions": self.permissions, "mentionable": False, "flags": 0,
        }  # fmt: skip
        places = [one for one in self.channels.values() if one.get("guild_id") == self.guild]
        return {
            "id": self.guild, "name": "Guild", "icon": None, "splash": None, "owner_id": self.owner["id"],
            "afk_timeout": 300, "verification_level": 0, "default_message_notifications": 0,
            "explicit_content_filter": 0, "roles": [everyone], "emojis": [], "features": [], "mfa_level": 0,
            "system_channel_flags": 0, "premium_tier": 0, "preferred_locale": "en-US", "nsfw_level": 0, "stickers": [],
            "channels": [one for one in places if one["type"] != THREAD],
            "threads": [one for one in places if one["type"] == THREAD],
            "members": [self.member(self.bot)], "member_count": 2, "voice_states": [], "presences": [],
            "stage_instances": [], "guild_scheduled_events": [], "large": False, "unavailable": False,
            "joined_at": now(),
        }  # fmt: skip

    def member(self, user: Json) -> Json:
        return {"user": user, "roles": [], "joined_at": now(), "deaf": False, "mute": False, "flags": 0}

    def event_of(self, message: Json) -> Json:
        """A message as the gateway tells it."""
        if self.channels[message["channel_id"]].get("guild_id"):
            member = {key: value for key, value in self.member(message["author"]).items() if key != "user"}
            return {**message, "guild_id": self.guild, "member": member}
        return dict(message)


def now() -> str:
    return datetime.now(UTC).isoformat()


def without_nonce(message: Json) -> Json:
    """Discord does not keep a nonce with the message (discord.py's issue 2451)."""
    return {key: value for key, value in message.items() if key != "nonce"}


def check_content(body: Json, attachments: list[Json]) -> str:
    content = str(body.get("content") or "").strip()
    if len(content) > 2000:
        raise invalid("content", "Must be 2000 or fewer in length.")
    if len(attachments) > 10:  # its documentation, Create Message: "up to 10 files"
        raise invalid("attachments", "Must be 10 or fewer in length.")
    if not content and not attachments:
        raise Refusal(400, 50006, "Cannot send an empty message")
    return content


def check_voice(body: Json, content: str, attachments: list[Json]) -> None:
    """What its documentation asks of a voice message; the texts and codes are those of its list of JSON error codes."""
    if content or body.get("embeds") or body.get("components"):
        raise Refusal(400, 50159, "Voice messages do not support additional content.")
    if len(attachments) != 1:
        raise Refusal(400, 50160, "Voice messages must have a single audio attachment.")
    (said,) = body.get("attachments") or [{}]
    if not said.get("duration_secs") or not 0 < len(base64.b64decode(said.get("waveform") or "")) <= 256:
        raise Refusal(400, 50161, "Voice messages must have supporting metadata.")
    attachments[0] |= {key: said[key] for key in ("duration_secs", "waveform")} | {"content_type": "audio/ogg"}


def invalid(field_: str, why: str) -> Refusal:
    errors = {field_: {"_errors": [{"code": "BASE_TYPE_BAD", "message": why}]}}
    return Refusal(400, 50035, "Invalid Form Body", errors=errors)
