"""The session's MCP tools as a model is offered them. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hermesd.workers.agents.contract import Tool

NAME_LENGTH = 64
"""Characters of a function's name that OpenAI takes; letters, digits, _ and - are all it may have."""

DESCRIPTION_LENGTH = 4096

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]")


class BadArguments(ValueError):
    """What a model wrote for a tool's arguments is no JSON object; the text is for the model."""


@dataclass(frozen=True, slots=True)
class Offer:
    """``tools`` by the name that the model knows them by; ``schemas`` as the endpoint wants them."""

    tools: dict[str, Tool] = field(default_factory=dict)
    schemas: list[dict[str, Any]] = field(default_factory=list)


def offer(tools: Iterable[Tool]) -> Offer:
    """Every tool under a name of its own, ``<server>_<tool>``; the same tools always get the same names."""
    made = Offer()
    for tool in tools:
        name = _unique(_allowed(f"{tool.server}_{tool.name}"), made.tools)
        made.tools[name] = tool
        function = {
            "name": name,
            "description": tool.description[:DESCRIPTION_LENGTH],
            "parameters": tool.schema or {"type": "object", "properties": {}},
        }
        made.schemas.append({"type": "function", "function": function})
    return made


def arguments_of(written: str) -> dict[str, Any]:
    """A call's arguments; nothing at all means none. Raises `BadArguments`."""
    if not written.strip():
        return {}
    try:
        arguments = json.loads(written)
    except ValueError as error:
        raise BadArguments(f"the arguments are not valid JSON ({error}), so nothing was called: {written[:200]}") from (
            error
        )
    if not isinstance(arguments, dict):
        raise BadArguments(f"the arguments must be a JSON object, so nothing was called: {written[:200]}")
    return arguments


def _allowed(name: str) -> str:
    name = _FORBIDDEN.sub("_", name)
    if len(name) <= NAME_LENGTH:
        return name
    # Cut names would meet each other; a digest of the whole keeps them apart, also over the life of the server.
    return f"{name[: NAME_LENGTH - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _unique(name: str, taken: dict[str, Tool]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[: NAME_LENGTH - 4]}_{number}"
    return free
