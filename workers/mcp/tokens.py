"""Access tokens of the servers that want OAuth. The supervisor has them and refreshes them: a refresh token is good for
one use, and ten workers that each used it would lose it. Without the SDK: a worker makes this for itself at its start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from hermesd.ipc.messages import AccessToken, Message, TokenWanted
from hermesd.workers.mcp.errors import Unauthorised

PATIENCE = 60.0
"""Seconds for the supervisor's answer; a refresh is one request of its own, with a time-out of half of this."""


@dataclass(frozen=True, slots=True)
class _Known:
    token: str
    until: float  # monotonic seconds; 0 = not known


class Tokens:
    """Of one worker, on its loop. ``post`` sends to the supervisor."""

    def __init__(self, post: Callable[[Message], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._post = post
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, tuple[TokenWanted, asyncio.Future[str]]] = {}

    async def token(self, server: str, refused: str) -> str:
        """A token that is good now, as far as is known, and is not ``refused``. Raises `Unauthorised`."""
        known = self._known.get(server)
        if known is not None and known.token != refused and (not known.until or self._clock() < known.until):
            return known.token
        if server not in self._asked:
            wanted = TokenWanted(server, refused)
            self._asked[server] = wanted, asyncio.get_running_loop().create_future()
            self._post(wanted)
        try:
            # Others wait for the same answer.
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(self._asked[server][1])
        except TimeoutError:
            self._asked.pop(server, None)
            raise Unauthorised(server, "hermesd gave no token in time") from None

    def got(self, message: AccessToken) -> None:
        """The supervisor's answer."""
        if not message.error:
            until = self._clock() + message.seconds if message.seconds else 0.0
            self._known[message.server] = _Known(message.token, until)
        _, waiting = self._asked.pop(message.server, (None, None))
        if waiting is None or waiting.done():
            return
        if message.error:
            waiting.set_exception(Unauthorised(message.server, message.error))
            waiting.exception()  # whoever waited may have been cancelled
        else:
            waiting.set_result(message.token)

    def ask_again(self) -> None:
        """Another supervisor has taken over; what was asked of the one before died with it."""
        for wanted, _ in self._asked.values():
            self._post(wanted)
