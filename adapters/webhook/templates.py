"""``{pull_request.title}``: texts with places for what an event holds, as hermes-agent's routes have them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_PLACE = re.compile(r"\{([a-zA-Z0-9_.-]+)\}")

RAW = "__raw__"
RAW_LIMIT = 4000
PART_LIMIT = 2000
"""Characters of a whole payload, and of an object or list in it, that go into a text."""

TEXT_LIMIT = 100_000
"""Characters of a rendered text: more is no prompt."""

_NOTHING = object()


def render(template: str, payload: Any, more: Mapping[str, str]) -> str:
    """Fill a template in, once: what the payload brings is not looked at for places. An unknown place stays as it is.

    ``more`` are values besides the payload's, which go before them.
    """

    def fill(match: re.Match[str]) -> str:
        found = _value(match[1], payload, more)
        return match[0] if found is _NOTHING else _shown(found, PART_LIMIT)

    return _cut(_PLACE.sub(fill, template), TEXT_LIMIT)


def unknown(template: str, payload: Any, more: Mapping[str, str]) -> list[str]:
    """The places that `render` leaves as they are."""
    return [name for name in _PLACE.findall(template) if _value(name, payload, more) is _NOTHING]


def whole(payload: Any) -> str:
    """A payload as indented JSON, cut where it is long."""
    return _cut(json.dumps(payload, indent=2, ensure_ascii=False), RAW_LIMIT)


def _value(name: str, payload: Any, more: Mapping[str, str]) -> Any:
    if name == RAW:
        return whole(payload)
    if name in more:
        return more[name]
    value = payload
    for part in name.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _NOTHING
    return value


def _shown(value: Any, limit: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return _cut(json.dumps(value, indent=2, ensure_ascii=False), limit)
    return json.dumps(value)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more characters)"
