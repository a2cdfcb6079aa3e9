"""An event loop whose clock jumps over what would only be waited for: ten minutes pass in a second.

Everything that is to live by this clock, servers too, must run on this loop. What it cannot see, another process that
works for somebody here, is told by ``holds``.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

GRACE = 0.005
"""Seconds for the threads of this process (the journal's) to say something before time is skipped."""

T = TypeVar("T")


class SkippingLoop(asyncio.SelectorEventLoop):
    """``holds``: while it is true, time passes as it does for everybody."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self.holds: Callable[[], bool] = lambda: False
        super().__init__(_Selector(self))

    def time(self) -> float:
        return super().time() + self.skipped


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop):
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= GRACE:
            return super().select(timeout)
        found = super().select(GRACE)
        if not found and not self._loop.holds():
            self._loop.skipped += timeout - GRACE
        return found


def run(work: Callable[[SkippingLoop], Coroutine[Any, Any, T]]) -> T:
    """``work(loop)`` on such a loop of its own."""
    made: list[SkippingLoop] = []

    def make() -> SkippingLoop:
        made.append(SkippingLoop())
        return made[-1]

    async def begin() -> T:
        return await work(made[0])

    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(begin())
