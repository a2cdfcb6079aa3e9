"""A hermesd whose sessions have had a turn each and wait for the next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.scene import Scene

AT_ONCE = 8
"""How many sessions have their first turn at the same time."""


@contextlib.contextmanager
def scene(sessions: int) -> Iterator[Scene]:
    workers = {"max": sessions + 1, "max_turns": AT_ONCE, "idle_timeout": "12h"}
    with Scene(ours={"workers": workers}) as made:
        made.start()
        for first in range(0, sessions, AT_ONCE):
            chats = [f"chat{number}" for number in range(first, min(first + AT_ONCE, sessions))]
            said = {chat: made.fake.say("hello", chat=chat) for chat in chats}
            for chat, message in said.items():
                made.fake.final(message, chat=chat)
        yield made


def pids(made: Scene, sessions: int) -> list[int]:
    found = [row["pid"] for row in made.daemon.workers()]
    if len(found) != sessions:
        raise RuntimeError(f"there are {len(found)} workers for {sessions} sessions")
    return found
