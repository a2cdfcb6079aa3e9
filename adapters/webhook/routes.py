"""A route as it is written, in config.yaml or in webhook_subscriptions.json, in the form of hermes-agent's. Pure.

A key that would change what becomes of an event, and that hermesd does not act on, keeps the route from being served:
an event that a filter was meant to hold back must not reach an agent.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hermesd.adapters.contract import Delivery, Target
from hermesd.adapters.webhook.github import PREFIX
from hermesd.adapters.webhook.signatures import SCHEMES

NO_SECRET = "INSECURE_NO_AUTH"
"""hermes-agent's word for a route that asks for none."""

LOG = "log"

GITHUB_COMMENT = "github_comment"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")

_KNOWN = frozenset(
    {"events", "secret", "prompt", "deliver", "deliver_extra", "deliver_only", "enabled", "description", "created_at",
     "signature"}
)  # fmt: skip
_NOT_SERVED = {
    "filters": "payload filters",
    "script": "scripts",
    "coalesce": "joining events",
    "cron_job": "cron jobs",
}
_WITHOUT_EFFECT = frozenset({"skills", "toolsets", "mirror_to_session", "retry_on_script_failure", "profile"})
_EXTRA = frozenset({"chat_id", "thread_id", "message_thread_id", "repo", "pr_number"})


class BadRoute(Exception):
    """A route that means nothing: the text says which key, and what would be right."""


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """What is written about a route. ``secret`` "" asks nobody to prove anything."""

    name: str
    source: str
    secret: str = field(default="", repr=False)
    scheme: str = "auto"
    events: tuple[str, ...] = ()
    prompt: str = ""
    deliver: str = LOG
    chat: str = ""  # a template; "" is the home channel; of github_comment "github:OWNER/REPO#NUMBER"
    thread: str = ""
    verbatim: bool = False
    enabled: bool = True
    description: str = ""
    problem: str = ""  # why it is not served as it stands
    warnings: tuple[str, ...] = ()

    def delivery(self, platform: str, chat: str) -> Delivery:
        """Where answers go, as it is written: for people. ``platform`` and ``chat`` are those of the event itself."""
        match self.deliver:
            case "log":
                target = Target(platform, chat)
            case "github_comment":
                target = Target(platform, self.chat)
            case _:
                target = Target(self.deliver, self.chat, self.thread)
        return Delivery(target, self.verbatim)


def parse(name: str, value: Any, *, source: str, secret: str, on_loopback: bool) -> RouteSpec:
    """Check one route. ``secret`` is that of routes without one of their own. Raises `BadRoute`."""
    if not NAME.fullmatch(name):
        raise BadRoute(f"{name!r:.80} is not a name for a route: use letters, digits, '-', '_' and '.'")
    if not isinstance(value, Mapping):
        raise BadRoute(f"route {name} is {_kind(value)}: write a mapping of its settings")
    own = value.get("secret")
    if own is not None and not isinstance(own, str):
        raise BadRoute(f"route {name}: secret is {_kind(own)}: write it in quotes")
    wanted = secret if own is None else own
    scheme = _text(name, value, "signature") or "auto"
    if scheme not in SCHEMES:
        raise BadRoute(f"route {name}: signature is {scheme!r}: use one of {', '.join(SCHEMES)}")
    deliver = _text(name, value, "deliver") or LOG
    chat, thread = _extra(name, value.get("deliver_extra"), deliver)
    spec = RouteSpec(
        name=name,
        source=source,
        secret="" if wanted == NO_SECRET else wanted,
        scheme=scheme,
        events=_events(name, value.get("events")),
        prompt=_text(name, value, "prompt"),
        deliver=deliver,
        chat=chat,
        thread=thread,
        verbatim=_flag(name, value, "deliver_only", False),
        enabled=_flag(name, value, "enabled", True),
        description=_text(name, value, "description"),
        problem=_problem(value, wanted, on_loopback),
        warnings=tuple(_warnings(name, value)),
    )
    if spec.verbatim and spec.deliver == LOG:
        raise BadRoute(f"route {name}: deliver_only needs a platform in deliver; {LOG} is none")
    return spec


def _problem(value: Mapping[str, Any], secret: str, on_loopback: bool) -> str:
    for key, what in _NOT_SERVED.items():
        if value.get(key):
            return f"it has {key}:, and hermesd knows no {what}; take the key out to have every event taken"
    if value.get("profile") not in (None, "", "default"):
        return "it is for another profile of hermes-agent (profile:)"
    if not on_loopback and secret in ("", NO_SECRET):
        return "it has no secret, and this address is open to other machines"
    return ""


def _warnings(name: str, value: Mapping[str, Any]) -> list[str]:
    found = []
    for key in value:
        if key in _WITHOUT_EFFECT and value[key] and value[key] != "default":
            found.append(f"route {name}: {key} has no effect here")
        elif key not in _KNOWN | _WITHOUT_EFFECT | set(_NOT_SERVED):
            near = difflib.get_close_matches(str(key), _KNOWN, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append(f"route {name}: {key!r:.80} is not a known key and has no effect{hint}")
    return found


def _events(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise BadRoute(f"route {name}: events is {_kind(value)}: write a list of names, as [push, issues]")
    return tuple(word.strip() for word in words if word.strip())


def _extra(name: str, value: Any, deliver: str) -> tuple[str, str]:
    """Chat and thread."""
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        raise BadRoute(f"route {name}: deliver_extra is {_kind(value)}: write a mapping, as {{chat_id: '42'}}")
    texts = {}
    for key in _EXTRA & set(value):
        part = value[key]
        if isinstance(part, bool) or not isinstance(part, str | int | None):
            raise BadRoute(f"route {name}: deliver_extra.{key} is {_kind(part)}: write an id")
        texts[key] = "" if part is None else str(part).strip()
    if deliver == GITHUB_COMMENT:
        if not texts.get("repo") or not texts.get("pr_number"):
            raise BadRoute(f"route {name}: deliver_extra needs repo and pr_number for {GITHUB_COMMENT}")
        return f"{PREFIX}{texts['repo']}#{texts['pr_number']}", ""
    thread = texts.get("thread_id") or texts.get("message_thread_id") or ""
    if thread and not texts.get("chat_id"):
        raise BadRoute(f"route {name}: deliver_extra names a thread and no chat_id")
    return texts.get("chat_id", ""), thread


def _text(name: str, value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise BadRoute(f"route {name}: {key} is {_kind(text)}: write a text")
    return text if key == "prompt" else text.strip()


def _flag(name: str, value: Mapping[str, Any], key: str, default: bool) -> bool:
    flag = value.get(key, default)
    if not isinstance(flag, bool):
        raise BadRoute(f"route {name}: {key} is {_kind(flag)}: write true or false")
    return flag


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    return {dict: "a mapping", list: "a list", bool: "true or false", str: "a text"}.get(type(value), "a number")
