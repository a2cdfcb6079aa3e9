"""hermes-agent's approvals as questions to the user: its threads wait in a queue of ``tools.approval``, ours to answer.

The queue is first in, first out, and answers go to its head: so the question that is asked is always the head's, one at
a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from hermesd.workers.agents.contract import Out

from . import library

log = logging.getLogger("hermesd.hermes")

ONCE, SESSION, ALWAYS, DENY = "once", "session", "always", "deny"

SHOWN = 200
"""Characters of a command in the question; hermes-agent has blackened what looks like a secret."""


def choices_for(asked: Mapping[str, Any]) -> tuple[str, ...]:
    if asked.get("smart_denied"):  # its own judgement was no: the user may overrule it for this once
        return (ONCE, DENY)
    return (ONCE, SESSION, ALWAYS, DENY) if asked.get("allow_permanent", True) else (ONCE, SESSION, DENY)


def question_for(asked: Mapping[str, Any]) -> str:
    command = str(asked.get("command") or "")
    shown = command if len(command) <= SHOWN else f"{command[: SHOWN - 1]}…"
    why = str(asked.get("description") or "").strip()
    return f"May I run `{shown}`?" + (f" It is marked: {why}" if why else "")


class Approvals:
    """Of one turn: `begin` before the run, `end` after it, both on the loop."""

    def __init__(self, key: str, out: Out, seconds: float, spawn: Callable[[Any, str], None]) -> None:
        self._key = key
        self._out = out
        self._seconds = seconds
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, Mapping[str, Any]]] = deque()  # until when it waits, and for what
        self._asking = asyncio.Lock()
        self._over = False

    def begin(self) -> None:
        # What was approved for ever it reads when it is imported: in the keeper, and before others' approvals.
        library.approval.load_permanent_allowlist()
        library.approval.register_gateway_notify(self._key, self._notified)

    def end(self) -> None:
        """Nobody is asked any more, and whoever waits is told no."""
        self._over = True
        library.approval.unregister_gateway_notify(self._key)

    def _notified(self, asked: Mapping[str, Any]) -> None:
        """In a thread of the agent's, which waits for the answer as soon as this returns."""
        self._loop.call_soon_threadsafe(self._queue, asked)

    def _queue(self, asked: Mapping[str, Any]) -> None:
        # A little less than its own patience: an answer that comes after it would go to the next in the queue.
        self._waiting.append((self._loop.time() + self._seconds - 2.0, asked))
        if not self._over:
            self._spawn(self._ask_next(), "ask for approval")

    async def _ask_next(self) -> None:
        async with self._asking:
            if self._over or not self._waiting:
                return
            until, asked = self._waiting.popleft()
            left = until - self._loop.time()
            if left <= 0 or (found := self._head(asked)) is None:
                return  # it waits no longer: that was its no
            choice = DENY
            try:
                choice = await self._out.ask(question_for(found), choices_for(found), left) or DENY
            finally:
                self._resolve(found, choice)

    def _resolve(self, found: Mapping[str, Any], choice: str) -> None:
        if not self._over and self._head(found) is found:
            library.approval.resolve_gateway_approval(self._key, choice)

    def _head(self, otherwise: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Whom an answer would go to: two threads may have entered the queue in one order and told us in the other."""
        queues = getattr(library.approval, "_gateway_queues", None)
        if not isinstance(queues, dict):
            return otherwise
        queue = queues.get(self._key)
        return getattr(queue[0], "data", otherwise) if queue else None
