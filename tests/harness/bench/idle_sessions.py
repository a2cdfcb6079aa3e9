"""A hermesd whose sessions have had a turn each and wait for the next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from harness.scene import Scene

AT_ONCE = 8
"""How many sessions have their first turn at the same time."""


@contextlib.contextmanager
def scene(
    sessions: int, turns: int = AT_ONCE, *, model: Mapping[str, Any] | None = None, more: int = 1, **ours: Any
) -> Iterator[Scene]:
    """The chats are chat0 and so on. ``turns``: how many run at once. ``model``: of the agent ``llm``, if it is that
    one. ``more``: so many workers there may be besides. ``ours``: more under ``hermesd:``.
    """
    workers = {"max": sessions + more, "max_turns": turns, "idle_timeout": "12h"}
    with Scene(ours={"workers": workers, **ours}) as made:
        if ours.get("agent") == "llm" and model is not None:
            made.configure_llm(model)
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
