"""Asking the user before certain tools are called."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Sequence
from typing import Any

from hermesd.workers.agents.contract import Out, Tool

from .state import State

ONCE, SESSION, ALWAYS, DENY = CHOICES = ("once", "session", "always", "deny")

SHOWN = 200
"""Characters of a call's arguments in the question: a chat is no place for whole files."""

DENIED = "The user denied this call; it was not made. Do not try it again unless you are asked to."
UNANSWERED = "Nobody answered whether this call may be made, so it was not made."


class Approvals:
    """Of one turn. ``globs`` are matched with ``server_tool``, as the model knows a tool, and with ``server.tool``."""

    def __init__(self, globs: Sequence[str], seconds: float, state: State) -> None:
        self._globs = globs
        self._seconds = seconds
        self._state = state
        # Calls run side by side; their user is asked one question at a time.
        self._asking = asyncio.Lock()

    def needed(self, name: str, tool: Tool) -> bool:
        full = f"{tool.server}.{tool.name}"
        return full not in self._state.approved and any(
            fnmatch.fnmatchcase(one, glob) for glob in self._globs for one in (name, full)
        )

    async def refusal(self, name: str, tool: Tool, arguments: str, out: Out) -> str:
        """Why a call is not made, for the model; "" if it may be."""
        if not self.needed(name, tool):
            return ""
        async with self._asking:
            if not self.needed(name, tool):  # approved for the one before it
                return ""
            full = f"{tool.server}.{tool.name}"
            choice = await out.ask(question(full, arguments), CHOICES, self._seconds)
            if choice in (SESSION, ALWAYS):
                self._state.approve(full, always=choice == ALWAYS)
            if choice == DENY:
                return DENIED
            return "" if choice in CHOICES else UNANSWERED


def question(tool: str, arguments: Any) -> str:
    shown = str(arguments)
    shown = shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 1]}…"
    return f"May I call {tool} with {shown}?" if shown.strip("{} ") else f"May I call {tool}?"
