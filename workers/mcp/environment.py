"""The environment of an MCP server: an allow-list, never a deny-list.

Filtering by what looks like a secret leaks the ones with unusual names and starves servers of harmless ones. So a
server sees what every program needs to find its files and speak its user's language, and what its own configuration
names.
"""

from __future__ import annotations

from collections.abc import Mapping

ALLOWED = frozenset({"PATH", "HOME", "USER", "LANG", "TERM", "TZ", "SHELL", "TMPDIR"})
ALLOWED_PREFIXES = ("LC_", "XDG_")
TAG = "HERMESD_TAG"  # set by the exec shim for each container; a configured value would forge another's


def server_environment(base: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of one server: the allowed part of ``base`` and all that its configuration names.

    >>> server_environment({"PATH": "/bin", "OPENAI_API_KEY": "k"}, {"TOKEN": "t"})
    {'PATH': '/bin', 'TOKEN': 't'}
    """
    environment = {name: value for name, value in base.items() if allowed(name, value)}
    environment.update(named)
    environment.pop(TAG, None)
    return environment


def allowed(name: str, value: str) -> bool:
    """Whether a variable of the worker may pass. Old bash exports functions as values that begin with ``()``."""
    return (name in ALLOWED or name.startswith(ALLOWED_PREFIXES)) and not value.startswith("()")
