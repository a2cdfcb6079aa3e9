"""The way back to the chat that an agent is given for each turn."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hermesd.ipc.codec import clean
from hermesd.ipc.messages import Ask, Delta, File, Message, Send, Status, ToolUse

BACKLOG_HIGH = 200
"""Messages not yet on the wire at which a streaming agent is made to wait."""

ARGS_PREVIEW = 200

UNKNOWN_TYPE = "application/octet-stream"


class TurnOut:
    """Implements `hermesd.workers.agents.contract.Out` for one turn.

    ``post`` hands a message to the link thread; ``durable`` waits until the supervisor has it on disk; ``asked`` sends
    a question and returns the future of its answer. While nobody takes what an agent says it is made to wait, and
    nothing is lost: a supervisor may be on its way.
    """

    def __init__(
        self,
        turn: str,
        *,
        post: Callable[[Message], None],
        backlog: Callable[[], int],
        durable: Callable[[Message], asyncio.Future[None]],
        asked: Callable[[Ask], asyncio.Future[str]],
    ):
        self._turn = turn
        self._post = post
        self._backlog = backlog
        self._durable = durable
        self._asked = asked
        self._parts: list[str] = []
        self._length = 0
        self.breaks: list[int] = []  # lengths of the text so far at which something else came into the chat
        self.used: dict[str, int] = {}

    @property
    def text(self) -> str:
        """All deltas so far. Joined when it is wanted: an answer that grows by every one of them costs its square."""
        self._parts[:] = ["".join(self._parts)]
        return self._parts[0]

    async def delta(self, text: str) -> None:
        text = clean(text)
        if not text:
            return
        self._parts.append(text)
        self._length += len(text)
        self._post(Delta(self._turn, text))
        await self._room()

    async def tool(self, name: str, args: str | dict[str, Any], state: str) -> None:
        if state == "started":
            self._break()
        preview = args if isinstance(args, str) else json.dumps(args, ensure_ascii=False, default=str)
        self._post(ToolUse(self._turn, clean(name), clean(preview)[:ARGS_PREVIEW], state))
        await self._room()

    async def status(self, text: str) -> None:
        self._post(Status(self._turn, clean(text)))
        await self._room()

    async def send(self, target: str, text: str, files: Sequence[str] = ()) -> None:
        missing = [path for path in files if not os.path.isfile(path)]
        if missing:
            raise FileNotFoundError(f"cannot send {', '.join(missing)}: no such file")
        described = tuple(
            File(os.path.abspath(path), os.path.basename(path), mimetypes.guess_type(path)[0] or UNKNOWN_TYPE)
            for path in files
        )
        self._break()
        await self._durable(Send(secrets.token_hex(8), self._turn, clean(target), clean(text), described))

    async def usage(self, tokens: Mapping[str, int]) -> None:
        for name, count in tokens.items():
            self.used[name] = self.used.get(name, 0) + count

    async def ask(self, question: str, choices: Sequence[str] = ("approve", "deny"), timeout: float = 300.0) -> str:
        self._break()
        answer = self._asked(
            Ask(secrets.token_hex(8), self._turn, clean(question), tuple(clean(choice) for choice in choices), timeout)
        )
        try:
            # The supervisor owns the clock of the question; this bound only covers its absence.
            return await asyncio.wait_for(answer, timeout + 30.0)
        except TimeoutError:
            return ""

    def _break(self) -> None:
        if self._length and self.breaks[-1:] != [self._length]:
            self.breaks.append(self._length)

    async def _room(self) -> None:
        while self._backlog() > BACKLOG_HIGH:
            await asyncio.sleep(0.01)
