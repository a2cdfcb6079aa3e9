"""Settings that are checked and kept, and that nothing acts upon yet: whoever sets one is told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .document import KeyPath
from .errors import Origin, Problem

# Key path ("*": every name there) -> what happens instead. A section's line speaks for all that is in it.
NOT_YET: Mapping[str, str] = {
    "hermesd.web": "there is no page and there are no metrics; hermesctl status and top show the figures",
    "session_reset": "a session starts anew with /new only",
    "reset_by_type": "a session starts anew with /new only",
    "reset_by_platform": "a session starts anew with /new only",
}

# The file is hermes-agent's too: what it reads there is nobody's mistake.
_HERMES = frozenset(
    {
        "session_reset", "reset_by_type", "reset_by_platform",
    }
)  # fmt: skip


def without_effect(values: Mapping[str, Any], origin_of: Callable[[KeyPath], tuple[str, Origin]]) -> Iterator[Problem]:
    """A warning for each key of `NOT_YET` that is in ``values``, which hold what was written and no defaults."""
    for pattern, instead in NOT_YET.items():
        for path in _present(values, tuple(pattern.split(".")), ()):
            name, origin = _place(path, values, origin_of)
            message = f"is read and has no effect in this version: {instead}"
            yield Problem(name, message, "", origin, quiet=pattern in _HERMES)


def _present(value: Any, pattern: tuple[str, ...], path: KeyPath) -> Iterator[KeyPath]:
    if not pattern:
        if value is not None and value != {}:
            yield path
        return
    if not isinstance(value, Mapping):
        return
    for key in value if pattern[0] == "*" else [pattern[0]] if pattern[0] in value else []:
        yield from _present(value[key], pattern[1:], (*path, key))


def _place(
    path: KeyPath, values: Mapping[str, Any], origin_of: Callable[[KeyPath], tuple[str, Origin]]
) -> tuple[str, Origin]:
    """Where it was written; of a section that only variables fill, the first of them."""
    name, origin = origin_of(path)
    value: Any = values
    for key in path:
        value = value[key]
    while not origin.file and isinstance(value, Mapping) and value:
        key, value = next(iter(value.items()))
        path = (*path, key)
        name, origin = origin_of(path)
    return name, origin
