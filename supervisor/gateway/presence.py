"""What people see of a turn besides its answer: that somebody writes, and a sign on their message.

Nothing of it is journalled and no failure of it is anybody's affair: an answer must never wait for an emoji.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from hermesd.adapters.contract import Adapter, CanReact, CanType, Target, capability
from hermesd.adapters.errors import AdapterError, Retry
from hermesd.supervisor.tasks import Tasks

from . import turn_life

log = logging.getLogger("hermesd.gateway")

SIGN_TRIES = 3
"""For a sign on a message that the platform puts off."""

TYPING_SECONDS = 2.0
"""Between two signs of typing; platforms show one for about five."""

CALL_SECONDS = 10.0
"""For one call: a platform that hangs must not gather them."""

BEGUN = "👀"
SIGN_OF_END: Mapping[turn_life.State, str] = {
    turn_life.State.DONE: "✅",
    turn_life.State.FAILED: "❌",
    turn_life.State.LOST: "❌",
    turn_life.State.INTERRUPTED: "",
}


class Presence:
    """``writing`` yields the targets whose turns run and do not wait for their user; ``closed_for`` tells for how many
    seconds the platform of a target wants no calls for its chat, and ``heed`` is told when it says so here.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        tasks: Tasks,
        writing: Callable[[], Iterable[Target]],
        closed_for: Callable[[Target], float] = lambda target: 0.0,
        heed: Callable[[Target, Retry], None] = lambda target, error: None,
    ):
        self._adapters = adapters
        self._tasks = tasks
        self._writing = writing
        self._closed_for = closed_for
        self._heed = heed
        self._typing: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        self._reacting: dict[Target, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Shows who writes, for as long as hermesd runs."""
        while True:
            await asyncio.sleep(TYPING_SECONDS)
            for target in self._writing():
                self.type_in(target)

    def type_in(self, target: Target) -> None:
        """Show it now; not while an earlier call for the same chat has not returned."""
        adapter = capability(self._adapters.get(target.platform), CanType)
        place = (target.platform, target.chat_id, target.thread_id)
        if adapter is None or place in self._typing or self._closed_for(target):
            return
        call = self._tasks.job(self._call(adapter.typing(target), target, "typing"), f"typing in {target.chat_id}")
        self._typing[place] = call
        call.add_done_callback(lambda _: self._typing.pop(place, None))

    def began(self, target: Target) -> None:
        """A turn has begun to run."""
        self.type_in(target)
        self._react(target, BEGUN)

    def ended(self, target: Target, state: turn_life.State) -> None:
        """It is over."""
        self._react(target, SIGN_OF_END.get(state, ""))

    def _react(self, target: Target, sign: str) -> None:
        adapter = capability(self._adapters.get(target.platform), CanReact)
        if adapter is None or not target.reply_to:
            return
        before = self._reacting.get(target)

        async def in_order() -> None:
            if before is not None:
                await asyncio.wait([before])  # the last sign must be the last call
            for _ in range(SIGN_TRIES):
                while closed := self._closed_for(target):
                    await asyncio.sleep(closed)
                if not await self._call(adapter.react(target, sign), target, "reacting"):
                    return

        call = self._tasks.job(in_order(), f"react in {target.chat_id}")
        self._reacting[target] = call
        call.add_done_callback(lambda done: self._reacting.pop(target) if self._reacting.get(target) is done else None)

    async def _call(self, coroutine: Awaitable[None], target: Target, what: str) -> bool:
        """Whether the platform has closed the chat instead."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await coroutine
        except Retry as error:
            log.debug("%s in %s:%s: %s", what, target.platform, target.chat_id, error)
            self._heed(target, error)
            return error.flood
        except (AdapterError, TimeoutError) as error:
            log.debug("%s in %s:%s: %s", what, target.platform, target.chat_id, str(error) or "it took too long")
        except Exception:  # an adapter's fault in what nobody waits for
            log.exception("%s in %s:%s failed", what, target.platform, target.chat_id)
        return False
