"""How late the event loop is: the one delay that every session feels."""

from __future__ import annotations

import asyncio

from .ticks import next_tick


class LoopLag:
    """Owned by the app; `run` is its background task."""

    STEP = 1.0
    KEPT = 120

    def __init__(self) -> None:
        self._lags: list[float] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = await next_tick(self.STEP)
            self._lags.append(max(0.0, loop.time() - due))
            del self._lags[: -self.KEPT]

    def p99(self) -> float:
        """Seconds, over the last two minutes."""
        return sorted(self._lags)[int(len(self._lags) * 0.99)] if self._lags else 0.0
