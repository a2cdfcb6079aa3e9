"""The core's commands as Telegram's menu takes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hermesd.adapters.contract import MenuEntry

LIMIT = 100  # core.telegram.org/bots/api#setmycommands
DESCRIPTION_LIMIT = 256
_NAME = re.compile(r"[a-z0-9_]{1,32}")


def commands(entries: Iterable[MenuEntry]) -> list[tuple[str, str]]:
    """(name, description) of each that Telegram can show; it knows no hyphens, which the core takes as underscores."""
    shown = []
    for entry in entries:
        name = entry.name.lower().replace("-", "_")
        if _NAME.fullmatch(name):
            description = f"{entry.argument} - {entry.help}" if entry.argument else entry.help
            shown.append((name, (description or entry.name)[:DESCRIPTION_LIMIT]))
    return shown[:LIMIT]
