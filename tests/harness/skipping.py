"""An event loop whose clock jumps over what would only be waited for: ten minutes pass in a second.

Everything that is to live by this clock, servers too, must run on this loop. It sees what the threads of its executors
do; of other threads it is told by `SkippingLoop.hold_for`, and of processes that work for somebody here by ``holds``.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hermesd.supervisor.journal import Journal

GRACE = 0.005
"""Seconds in which something has to be heard, or time is skipped."""

T = TypeVar("T")


class SkippingLoop(asyncio.SelectorEventLoop):
    """``holds``: while it is true, time passes as it does for everybody."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self.holds: Callable[[], bool] = lambda: False
        self._elsewhere = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return super().time() + self.skipped

    @property
    def waits_for_others(self) -> bool:
        return self._elsewhere > 0 or self.holds()

    def hold_for(self, future: asyncio.Future[T]) -> asyncio.Future[T]:
        """Somebody else works on it: until it is done, time passes as it does for everybody."""
        self._elsewhere += 1
        future.add_done_callback(self._done_elsewhere)
        return future

    def _done_elsewhere(self, future: asyncio.Future[T]) -> None:
        self._elsewhere -= 1

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        return self.hold_for(super().run_in_executor(executor, func, *args))


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop):
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= GRACE:
            return super().select(timeout)
        found = super().select(GRACE)
        if not found and not self._loop.waits_for_others:
            self._loop.skipped += timeout - GRACE
        return found


class HeldJournal(Journal):
    """Whose commits take no time of the clock that jumps, however slow the disk is."""

    def __init__(self, path: Path, loop: SkippingLoop):
        super().__init__(path)
        self._loop = loop

    def write(self, operation: Any, /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        return self._loop.hold_for(super().write(operation, *args, **kwargs))


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
