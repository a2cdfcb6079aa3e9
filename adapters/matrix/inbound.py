"""An event of a room -> the message that it is, or why it is none. Pure; events are as the server sends them.

Whatever an event holds was written by a stranger: nothing in it is taken for granted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from hermesd.adapters.contract import Attachment, Inbound, Sticker
from hermesd.adapters.media import kinds
from hermesd.adapters.text import clean

from .addressing import Address, Me, Room, judge, mentions, without_mention
from .options import Options

Event = Mapping[str, Any]

MESSAGE, STICKER, ENCRYPTED, MEMBER, REACTION = (
    "m.room.message", "m.sticker", "m.room.encrypted", "m.room.member", "m.reaction",
)  # fmt: skip

QUOTE_LIMIT = 2000  # characters of a quoted message that are handed on

_FILES = {"m.image": kinds.IMAGE, "m.audio": kinds.AUDIO, "m.video": kinds.VIDEO, "m.file": kinds.DOCUMENT}
_SILENT = frozenset({"m.notice", "m.key.verification.request"})

# "> <@anna:server> what she said", a line for each of hers, then an empty one (spec: "Fallbacks for rich replies").
_FALLBACK = re.compile(r"(?:> .*\n?|>\n?)+\n")
_FALLBACK_SENDER = re.compile(r"> (?:\* )?<@[^>]+> ?")


def content_of(event: Event) -> Mapping[str, Any]:
    content = event.get("content")
    return content if isinstance(content, Mapping) else {}


def _text(holder: Mapping[str, Any], key: str) -> str:
    value = holder.get(key)
    return value if isinstance(value, str) else ""


def _part(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}


def relation_of(event: Event) -> Mapping[str, Any]:
    return _part(content_of(event), "m.relates_to")


def thread_of(event: Event) -> str:
    """The event that begins the thread which this one is in; "" for none."""
    relation = relation_of(event)
    return _text(relation, "event_id") if relation.get("rel_type") == "m.thread" else ""


def replied_to(event: Event) -> str:
    """The message that the writer has quoted. What a client adds for those that know no threads is no quote."""
    relation = relation_of(event)
    if relation.get("rel_type") == "m.thread" and relation.get("is_falling_back") is True:
        return ""
    return _text(_part(relation, "m.in_reply_to"), "event_id")


def why_not(event: Event, me: Me) -> str:
    """Why nobody needs to look at this event any closer, "" for one that may be a message."""
    if event.get("sender") == me.user_id:
        return "it is our own"
    if event.get("type") not in (MESSAGE, STICKER):
        return "it is no message"
    if "state_key" in event:
        return "it is state of the room"
    content = content_of(event)
    if not content:
        return "it was taken back"
    if relation_of(event).get("rel_type") == "m.replace":
        return "it changes an earlier message"
    if event.get("type") == MESSAGE and (not _text(content, "msgtype") or content["msgtype"] in _SILENT):
        # Programs speak in notices so that no other program answers them.
        return "it is a notice"
    return ""


def message(
    event: Event, *, platform: str, me: Me, room: Room, options: Options, joined: Collection[str], sender_name: str = ""
) -> tuple[Inbound, Address] | str:
    """The message of an event that `why_not` has nothing against; or why it gets no answer."""
    content = content_of(event)
    event_id, sender = _text(event, "event_id"), _text(event, "sender")
    if not event_id or not sender:
        return "it has no id or no sender"
    body, quoted = split_fallback(_text(content, "body")) if replied_to(event) else (_text(content, "body"), "")
    mentioned = mentions(me, content, body)
    address = judge(
        options, room, event_id=event_id, thread_id=thread_of(event), mentioned=mentioned, joined=joined
    )  # fmt: skip
    if isinstance(address, str):
        return address
    file = _attachment(event, content)
    text = _spoken(content, body, file)
    if mentioned:
        text = without_mention(me, text)
    text = clean(text)
    if not text.strip() and file is None:
        return "it says nothing"
    return (
        Inbound(
            platform=platform,
            chat_id=room.id,
            message_id=event_id,
            user_id=sender,
            text=text,
            user_name=clean(sender_name) or sender,
            chat_type="dm" if room.direct else "group",
            chat_name=clean(room.name),
            thread_id=address.thread_id,
            attachments=(file,) if file is not None else (),
            sent_at=_seconds(event),
            reply_to_id=replied_to(event),
            reply_to_text=clean(quoted)[:QUOTE_LIMIT],
        ),
        address,
    )


def _seconds(event: Event) -> float:
    stamp = event.get("origin_server_ts")
    return stamp / 1000 if isinstance(stamp, int | float) and not isinstance(stamp, bool) else 0.0


def split_fallback(body: str) -> tuple[str, str]:
    """A reply's own text, and what its client has quoted above it."""
    if not _FALLBACK_SENDER.match(body):
        return body, ""
    found = _FALLBACK.match(body)
    if found is None:
        return body, ""
    lines = [line[2:] if line.startswith("> ") else line[1:] for line in found.group().strip().split("\n")]
    lines[0] = re.sub(r"^(?:\* )?<@[^>]+> ?", "", lines[0])
    return body[found.end() :], "\n".join(lines)


def quote_of(event: Event) -> str:
    """What a quoted event says, in short."""
    content = content_of(event)
    body = split_fallback(_text(content, "body"))[0]
    return clean(body)[:QUOTE_LIMIT]


def _spoken(content: Mapping[str, Any], body: str, file: Attachment | None) -> str:
    if content.get("msgtype") == "m.emote":
        return f"* {body}"
    if content.get("msgtype") == "m.location":
        return f"{body} {_text(content, 'geo_uri')}".strip()
    if file is None:
        return body
    # A body beside a file name is a caption (spec: "Media captions"); alone it is the name.
    name = _text(content, "filename")
    return body if name and name != body else ""


def _attachment(event: Event, content: Mapping[str, Any]) -> Attachment | None:
    sticker = event.get("type") == STICKER
    kind = kinds.STICKER if sticker else _FILES.get(_text(content, "msgtype"), "")
    encrypted = _part(content, "file")
    address = _text(encrypted, "url") or _text(content, "url")
    if not kind or not address.startswith("mxc://"):
        return None
    info = _part(content, "info")
    mime = clean(_text(info, "mimetype")) or kinds.mime_of(_text(content, "filename") or _text(content, "body"))
    size = info.get("size")
    return Attachment(
        path="",
        name=clean(_text(content, "filename") or _text(content, "body")) or "file",
        mime=mime,
        kind=_kind(kind, mime, content),
        remote=json.dumps(dict(encrypted)) if encrypted else address,
        size=size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else 0,
        sticker=Sticker(address, emoji=clean(_text(content, "body")), animated=mime == "image/gif")
        if sticker
        else None,
    )


def _kind(kind: str, mime: str, content: Mapping[str, Any]) -> str:
    if kind == kinds.AUDIO and ("org.matrix.msc3245.voice" in content or "m.voice" in content):
        return kinds.VOICE
    if kind == kinds.IMAGE and mime == "image/gif":
        return kinds.ANIMATION
    if kind == kinds.IMAGE and mime.partition(";")[0].strip() == "image/svg+xml":
        return kinds.DOCUMENT  # a program more than a picture; no model of pictures reads it
    return kind
