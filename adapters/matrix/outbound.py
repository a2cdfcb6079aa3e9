"""A message of hermesd -> the event that is sent. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hermesd.adapters.contract import Attachment, Outbound, Target
from hermesd.adapters.media import kinds
from hermesd.adapters.text import clean

from .render import html

Content = dict[str, Any]

MAX_LENGTH = 10_000
"""Bytes of one message in UTF-8. An event may have 65,536 (spec: "Size limits"), and an edit holds its text twice, the
second time for old clients, each as JSON, which doubles quotes and line ends at worst; encryption makes it a third
longer. So a plain body always fits; its HTML is left out where it would not (`fitted`).
"""

EVENT_BYTES = 46_000
"""Of a content before encryption: 4/3 of it and what the server adds stay below 65,536."""

_MSGTYPES = {
    kinds.IMAGE: "m.image", kinds.ANIMATION: "m.image", kinds.VOICE: "m.audio",
    kinds.AUDIO: "m.audio", kinds.VIDEO: "m.video", kinds.DOCUMENT: "m.file",
}  # fmt: skip

_QUIET = frozenset({"notice", "progress"})
"""Kinds that are shown without a notification, and that no other program answers."""


def transaction(*parts: str) -> str:
    """The same parts make the same id, by which the server recognises an event that comes twice."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:40]


def text(message: Outbound, target: Target, body: str | None = None) -> Content:
    """A message of text."""
    return fitted({**_body(message, message.text if body is None else body), **relation(message, target)})


def edit(message: Outbound, event_id: str, body: str | None = None) -> Content:
    """What makes the message ``event_id`` read so."""
    new = _body(message, message.text if body is None else body)
    shown = {**new, "body": f"* {new['body']}"}
    if "formatted_body" in new:
        shown["formatted_body"] = f"* {new['formatted_body']}"
    return fitted({**shown, "m.new_content": new, "m.relates_to": {"rel_type": "m.replace", "event_id": event_id}})


def file(message: Outbound, target: Target, attachment: Attachment, stored: Mapping[str, Any]) -> Content:
    """A message with one file. ``stored`` is {"url": mxc}, or {"file": ...} for one that was encrypted."""
    made: Content = {
        "msgtype": _MSGTYPES.get(kinds.shown_as(attachment.name, attachment.mime, attachment.kind), "m.file"),
        "body": attachment.name,
        "filename": attachment.name,
        "info": {"mimetype": attachment.mime, **({"size": attachment.size} if attachment.size else {})},
        "m.mentions": {},
        **stored,
    }
    if (said := clean(message.text)).strip():
        made["body"] = said
        _format(made, said)
    if attachment.kind == kinds.VOICE:
        made["org.matrix.msc3245.voice"] = {}
        made["org.matrix.msc1767.audio"] = {}
    return fitted({**made, **relation(message, target)})


def is_sticker(attachment: Attachment) -> bool:
    """What clients show of an ``m.sticker`` is a picture; Telegram's animations are files to them."""
    return attachment.kind == kinds.STICKER and attachment.mime.startswith("image/")


def sticker(message: Outbound, target: Target, attachment: Attachment, stored: Mapping[str, Any]) -> Content:
    """The content of an ``m.sticker``; its text is what it shows."""
    shown = attachment.sticker.emoji if attachment.sticker is not None else ""
    info = {"mimetype": attachment.mime, **({"size": attachment.size} if attachment.size else {})}
    return {
        "body": clean(message.text) or shown or attachment.name,
        "info": info,
        **stored,
        **relation(message, target),
    }


def reaction(event_id: str, sign: str) -> Content:
    return {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": sign}}


def relation(message: Outbound, target: Target) -> Content:
    """The thread and the quote of a message."""
    quoted = target.reply_to if message.quotes else ""
    if target.thread_id:
        # Clients without threads show the reply; the others do not, where it "falls back" (spec: "Threading").
        shown = quoted and quoted != target.thread_id
        return {
            "m.relates_to": {
                "rel_type": "m.thread",
                "event_id": target.thread_id,
                "is_falling_back": not shown,
                "m.in_reply_to": {"event_id": target.reply_to or target.thread_id},
            }
        }
    return {"m.relates_to": {"m.in_reply_to": {"event_id": quoted}}} if quoted else {}


def _body(message: Outbound, body: str) -> Content:
    body = clean(body)  # half a surrogate pair is status 500 to Synapse, which would be tried again for ever
    # An empty list of mentions: nobody is notified because a name of theirs happens to be in the text.
    made: Content = {"msgtype": "m.notice" if message.kind in _QUIET else "m.text", "body": body, "m.mentions": {}}
    _format(made, body)
    return made


def _format(content: Content, body: str) -> None:
    if formatted := html(body):
        content["format"] = "org.matrix.custom.html"
        content["formatted_body"] = formatted


def fitted(content: Content) -> Content:
    """The content without its HTML, if it would be too large with it: the text alone is as it was written."""
    if size_of(content) <= EVENT_BYTES:
        return content
    cut = {key: value for key, value in content.items() if key not in ("format", "formatted_body")}
    if isinstance(new := cut.get("m.new_content"), dict):
        cut["m.new_content"] = {key: value for key, value in new.items() if key not in ("format", "formatted_body")}
    return cut


def size_of(content: Mapping[str, Any]) -> int:
    """Bytes of canonical JSON, which is what the server measures."""
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
