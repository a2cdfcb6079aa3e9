"""How a session is named on a command line: by its whole key, or by an ending of it that no other has. Pure.

An ending is made of whole parts: ``dm:42`` and ``42`` name ``agent:main:telegram:dm:42``, ``2`` does not.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

SHOWN = 8
"""Keys that an error names."""


def find(name: str, keys: Iterable[str]) -> list[str]:
    """The keys that are meant, in order: the whole one where it is there, else all that end so."""
    found = sorted({key for key in keys if key == name or key.endswith(f":{name}")})
    return [name] if name in found else found


def near(name: str, keys: Iterable[str]) -> list[str]:
    """Keys that may have been meant, the likeliest first."""
    parts = name.count(":") + 1
    by_end: dict[str, str] = {}
    for key in sorted(keys):
        by_end.setdefault(":".join(key.split(":")[-parts:]), key)
    return [by_end[end] for end in difflib.get_close_matches(name, by_end, n=3, cutoff=0.7)]


def ambiguous(name: str, keys: Collection[str]) -> str:
    """The sentence about a name that several sessions have."""
    shown = sorted(keys)[:SHOWN]
    more = f" and {len(keys) - len(shown)} more" if len(keys) > len(shown) else ""
    return f"{name} could be {len(keys)} sessions: {', '.join(shown)}{more}"


def did_you_mean(keys: Collection[str]) -> str:
    """What to do next about a name that no session has; "" where no key is near."""
    return f"did you mean {' or '.join(keys)}?" if keys else ""


MORE = "name more of the key"
"""What to do next about an ambiguous name."""
