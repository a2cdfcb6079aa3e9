"""The instance's list of keepers, as hermesd writes it: ``{"schema": 1, "keepers": [{"pid", "start_ticks", ...}]}``.

Written by `hermesd.supervisor.instance.keepers`, by rename, so that a reader always sees a whole one.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from hermesd.workers.containment.identity import Identity, identify, stat_fields


class Listed(NamedTuple):
    """One keeper of the list."""

    identity: Identity
    socket: str

    @property
    def lives(self) -> bool:
        fields = stat_fields(self.identity.pid)
        return fields is not None and fields[0] not in (b"Z", b"X") and identify(self.identity.pid) == self.identity


def read(path: str) -> list[Listed]:
    """Nothing where there is no list, or none that can be read: then no other keeper is known."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read())
    except (OSError, ValueError):
        return []


def parse(text: str) -> list[Listed]:
    """Raises ValueError for what is no list of keepers."""
    document = json.loads(text)
    try:
        entries = document["keepers"]
        return [
            Listed(Identity(int(entry["pid"]), int(entry["start_ticks"])), str(entry["socket"])) for entry in entries
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"cannot read the list of keepers: {error!r}") from error
