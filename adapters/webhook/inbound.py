"""From a request that has proved who sent it to a message. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from hermesd.adapters.contract import Delivery, Inbound, Target
from hermesd.adapters.text import clean
from hermesd.adapters.webhook import github, templates
from hermesd.adapters.webhook.routes import GITHUB_COMMENT, LOG, RouteSpec
from hermesd.adapters.webhook.signatures import Verified

KNOWN_FOR = 3600.0
"""Seconds that a delivery's id is known: GitHub's "redeliver" sends the old one, which is meant to have an effect."""

# What a sender calls one delivery, the same in each of its tries. GitLab's event UUID is shared by the events that one
# causes, so that it stands for a delivery only together with its body.
_IDS = ("x-github-delivery", "idempotency-key", "webhook-id", "svix-id", "x-request-id")
_ID = re.compile(r"[!-~]{1,100}")

PING = "ping"


class BadEvent(Exception):
    """The sender must send something else; the text says what."""


def parse_body(body: bytes, content_type: str) -> Any:
    """JSON, or a form: GitHub's has the JSON in a field called payload. Raises `BadEvent`."""
    if not body.strip():
        raise BadEvent("the body is empty: send a JSON object")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadEvent(f"the body is not UTF-8: {error}") from error
    if content_type == "application/x-www-form-urlencoded":
        fields = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
        if "payload" not in fields:
            return fields
        text = fields["payload"]
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadEvent(f"the body is not JSON: {error}") from error
    except RecursionError:
        raise BadEvent("the body is not JSON: it is nested too deeply") from None


def events_of(headers: Mapping[str, str], payload: Any) -> tuple[str, ...]:
    """What a route may call this event; the first is what its sender calls it. Never empty.

    GitLab's header says "Merge Request Hook", its payload and most people ``merge_request``.
    """
    fields = payload if isinstance(payload, dict) else {}
    if name := headers.get("x-github-event", ""):
        return (clean(name),)
    if name := headers.get("x-gitlab-event", ""):
        short = name.removesuffix(" Hook").strip().lower().replace(" ", "_")
        kinds = (fields.get(key) for key in ("object_kind", "event_name", "event_type"))
        names = (name, short, *(kind for kind in kinds if isinstance(kind, str)))
        return tuple(dict.fromkeys(clean(word) for word in names))
    for key in ("event_type", "type"):
        said = fields.get(key)
        if isinstance(said, str) and said.strip():
            return (clean(said.strip()),)
    return ("unknown",)


def takes(route: RouteSpec, events: tuple[str, ...]) -> bool:
    """Whether a route wants such an event. GitHub's ping, with which it tries a new hook, only if that is named."""
    if route.events:
        return bool(set(route.events) & set(events))
    return events != (PING,)


def delivery_id(headers: Mapping[str, str], verified: Verified | None, body: bytes) -> str:
    """What tells this delivery from others, "" when nothing does."""
    for header in _IDS:
        if given := headers.get(header, ""):
            # A longer one, or one with signs that names of sessions do not have, stands for itself by its digest.
            return given if _ID.fullmatch(given) else _digest(given.encode("utf-8", "surrogateescape"))
    if given := headers.get("x-gitlab-event-uuid", ""):
        return _digest(given.encode("utf-8", "surrogateescape"), body)
    if verified is not None and verified.signed:
        return _digest(verified.signature.encode())
    return ""


def inbound(
    platform: str, route: RouteSpec, delivery: str, events: tuple[str, ...], payload: Any, now: float
) -> Inbound:
    """The message that an event is. Raises `BadEvent` when it lacks what says where its answer goes."""
    more = {"event_type": events[0], "route": route.name, "delivery_id": delivery}
    chat = f"{route.name}:{delivery}"
    if route.prompt:
        text = templates.render(route.prompt, payload, more)
    else:
        text = f"Webhook event '{events[0]}' on route '{route.name}':\n\n```json\n{templates.whole(payload)}\n```"
    return Inbound(
        platform=platform,
        chat_id=chat,
        message_id=delivery,
        user_id=f"{platform}:{route.name}",
        text=clean(text),
        user_name=route.name,
        chat_name=f"{platform}/{route.name}",
        trusted=True,
        history=(),
        sent_at=now,
        delivery=_delivery(platform, route, chat, payload, more),
        known_for=KNOWN_FOR,
    )


def _delivery(platform: str, route: RouteSpec, chat: str, payload: Any, more: Mapping[str, str]) -> Delivery:
    if route.deliver == LOG:
        return Delivery(Target(platform, chat))
    for key, template in (("chat_id", route.chat), ("thread_id", route.thread)):
        if missing := templates.unknown(template, payload, more):
            raise BadEvent(f"the payload has no {missing[0]}, which this route's deliver_extra.{key} asks for")
    target = Target(
        route.deliver,
        clean(templates.render(route.chat, payload, more)).strip(),
        clean(templates.render(route.thread, payload, more)).strip(),
    )
    if route.deliver == GITHUB_COMMENT:
        if not github.is_place(target.chat_id):
            raise BadEvent(f"{target.chat_id!r:.120} is no issue or pull request to comment on")
        return Delivery(Target(platform, target.chat_id), route.verbatim)
    if route.chat and not target.chat_id:
        raise BadEvent("this route's deliver_extra.chat_id is empty with this payload")
    return Delivery(target, route.verbatim)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
