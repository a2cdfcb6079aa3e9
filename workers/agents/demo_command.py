"""How the demo agent reads its commands. Pure; a `Mistake` is the reply to the one who made it."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Mistake(Exception):
    """What is wrong with a command, and what would be right."""


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    argument: str = ""


def parse(text: str, usages: Mapping[str, str]) -> Command | None:
    """The command in ``text``, None where it is none. ``usages`` maps each name to its usage line, as ``!ask TEXT``.

    In a usage, a word in capitals outside brackets is an argument that must be there.
    """
    stripped = text.strip()
    if not stripped.startswith("!") or not stripped[1:2].isalpha():
        return None
    word, *rest = stripped[1:].split(maxsplit=1)
    name, argument = word.lower(), "".join(rest)
    if name not in usages:
        near = difflib.get_close_matches(name, usages, n=1)
        raise Mistake(f"There is no !{name}" + (f"; did you mean !{near[0]}?" if near else ".") + " See !help.")
    wanted = usages[name].partition(" ")[2]
    if wanted and not wanted.startswith("[") and not argument:
        raise Mistake(f"!{name} needs more: {usages[name]}")
    if argument and not wanted:
        raise Mistake(f"!{name} takes nothing after it.")
    return Command(name, argument)


def parse_call(argument: str) -> tuple[str, str, dict[str, Any]]:
    """``SERVER.TOOL {json}`` as server, tool and arguments; without JSON there are none. The server has no dot."""
    name, *rest = argument.split(maxsplit=1)
    server, dot, tool = name.partition(".")
    if not (server and dot and tool):
        raise Mistake(f"{name!r} does not name a tool; write !call SERVER.TOOL {{json}}, and see !tools")
    if not rest:
        return server, tool, {}
    try:
        arguments = json.loads(rest[0])
    except ValueError as error:
        raise Mistake(f'The arguments are not valid JSON: {error}. An example: {{"timezone": "UTC"}}') from error
    if not isinstance(arguments, dict):
        raise Mistake(f'The arguments must be a JSON object like {{"timezone": "UTC"}}, not {json.dumps(arguments)}')
    return server, tool, arguments


def parse_count(argument: str, default: float, largest: float) -> float:
    """A number from 0 to ``largest``."""
    if not argument:
        return default
    try:
        number = float(argument)
    except ValueError:
        number = math.nan
    if not 0 <= number <= largest:
        raise Mistake(f"{argument!r} is not a number from 0 to {largest:g}")
    return number
