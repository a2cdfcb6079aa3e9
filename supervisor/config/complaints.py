"""Turns pydantic's findings into sentences for the one who wrote the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from .document import KeyPath
from .errors import Origin, Problem, nearest

_SECRET = re.compile(r"token|key|secret|password|authorization|env|headers", re.IGNORECASE)

# pydantic's kind of error -> (what is wrong, what would be right); {limit} is the bound that was passed.
_SENTENCES: Mapping[str, tuple[str, str]] = {
    "int_type": ("is not a whole number", "use a number such as 8"),
    "int_parsing": ("is not a whole number", "use a number such as 8"),
    "int_parsing_size": ("is not a whole number", "use a number such as 8"),
    "int_from_float": ("is not a whole number", "use a number such as 8"),
    "bool_type": ("is neither true nor false", "use true or false"),
    "bool_parsing": ("is neither true nor false", "use true or false"),
    "string_type": ("is not a text", "write one word, or a text in quotes"),
    "dict_type": ("is not a section", "indent its keys below it, as 'key: value'"),
    "model_type": ("is not a section", "indent its keys below it, as 'key: value'"),
    "tuple_type": ("is not a list", "use [a, b] or one '- item' a line"),
    "list_type": ("is not a list", "use [a, b] or one '- item' a line"),
    "greater_than": ("is too small", "use more than {limit}"),
    "greater_than_equal": ("is too small", "use at least {limit}"),
    "less_than_equal": ("is too large", "use at most {limit}"),
}


def explain(
    error: ValidationError, values: Mapping[str, Any], origin_of: Callable[[KeyPath], tuple[str, Origin]]
) -> list[Problem]:
    """One problem for each value that is wrong, in the order of the file."""
    problems: dict[KeyPath, Problem] = {}
    for found in error.errors(include_url=False):
        path = _existing(found["loc"], values)
        key, origin = origin_of(path)
        value = _written(path, values, found["input"])
        message, fix = _sentence(found["type"], found.get("ctx") or {}, found["msg"], value)
        secret = any(isinstance(part, str) and _SECRET.search(part) for part in path[-3:]) or _SECRET.search(key)
        what = message if secret or isinstance(value, dict | list) else f"{shown(value)} {message}"
        problems.setdefault(path, Problem(key, what, fix, origin))
    return sorted(
        problems.values(), key=lambda problem: (problem.origin.file, problem.origin.line, problem.origin.column)
    )


def shown(value: Any) -> str:
    """A value as an error message quotes it, cut where it is long."""
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(getattr(value, "source", value))
    text = str(value)
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"'


def _existing(loc: tuple[int | str, ...], values: Any) -> KeyPath:
    """The part of pydantic's location that is in the values: it adds names of its own for unions and the like."""
    path: list[int | str] = []
    for part in loc:
        if not _has(values, part):
            break
        values = values[part]
        path.append(part)
    return tuple(path) or tuple(loc)


def _has(values: Any, part: int | str) -> bool:
    if isinstance(values, Mapping):
        return part in values
    return isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)


def _written(path: KeyPath, values: Any, otherwise: Any) -> Any:
    """The value as it stands in the file; pydantic's own idea of it may be converted already (``30m`` -> 1800.0)."""
    for part in path:
        if not _has(values, part):
            return otherwise
        values = values[part]
    return values


def _sentence(kind: str, context: Mapping[str, Any], message: str, value: Any) -> tuple[str, str]:
    if kind in ("size", "duration"):
        return context["message"], context["fix"]
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        near = nearest(str(value), choices)
        fix = f"did you mean {near}? " if near else ""
        return "is not known here", f"{fix}use one of: {', '.join(choices)}"
    if kind == "value_error":
        return str(context["error"]), "see the value's description in the documentation"
    if kind in _SENTENCES:
        what, fix = _SENTENCES[kind]
        limit = next((context[name] for name in ("ge", "gt", "le", "lt") if name in context), "")
        return what, fix.format(limit=f"{limit:g}" if isinstance(limit, float) else limit)
    return f"is not right: {message}", ""
