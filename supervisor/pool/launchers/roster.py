"""Which keepers there are: our own, which starts the new workers, and those that earlier hermesds have left.

A keeper that dies is not the end of anything: its workers live on, and another one is started to hold them. Only when
none can be started, hermesd gives up and leaves the decision to the service manager.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from hermesd.supervisor.errors import StartFailed
from hermesd.supervisor.instance.errors import InstanceError

from .contract import Launcher

log = logging.getLogger("hermesd.pool")

GIVE_UP_AFTER = 3
"""Failed starts within `WINDOW` seconds."""

WINDOW = 60.0

SHORT_LIFE = 5.0
"""Seconds; a keeper that dies sooner is replaced more slowly each time."""

FIRST_DELAY, MAX_DELAY = 0.1, 10.0


def delay(failures: int) -> float:
    """Seconds before the next start after so many failed starts or short lives in a row."""
    return 0.0 if failures == 0 else min(MAX_DELAY, FIRST_DELAY * 4.0 ** min(failures - 1, 8))


class Roster:
    """``on_up`` is called when a keeper has taken a dead one's place, ``on_given_up`` when none could be started."""

    def __init__(self, make_own: Callable[[], Launcher], on_up: Callable[[], None], on_given_up: Callable[[str], None]):
        self._make_own = make_own
        self._on_up = on_up
        self._on_given_up = on_given_up
        self.own: Launcher = make_own()
        self.adopted: list[Launcher] = []
        self._own_since = 0.0
        self._short_lives = 0
        self._failures: deque[float] = deque()
        self._replacing: asyncio.Task[None] | None = None

    @property
    def all(self) -> list[Launcher]:
        """Our own first."""
        return [self.own, *self.adopted]

    def get(self, pid: int) -> Launcher | None:
        """The living one with this pid."""
        return next((launcher for launcher in self.all if launcher.pid == pid and launcher.state != "gone"), None)

    async def start(self) -> None:
        """Ready to launch when it returns. Raises `StartFailed`."""
        await self.own.start()
        self._own_since = time.monotonic()

    def died(self, launcher: Launcher, reason: str) -> None:
        """One of them is dead, unasked: forget an adopted one, replace our own."""
        if launcher is not self.own:
            self.adopted = [known for known in self.adopted if known is not launcher]
            return
        log.error("%s; starting another one", reason)
        lived = time.monotonic() - self._own_since
        self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE else 0
        self._replacing = asyncio.get_running_loop().create_task(self._replace(reason), name="replace the keeper")
        self._replacing.add_done_callback(self._replaced)

    async def _replace(self, reason: str) -> None:
        while True:
            await asyncio.sleep(delay(self._short_lives + len(self._failures)))
            launcher = self._make_own()
            try:
                await launcher.start()
                if launcher.state == "gone":
                    raise StartFailed(f"the keeper {launcher.pid} died as soon as it was ready")
            except (StartFailed, InstanceError, OSError) as error:
                log.error("cannot start another keeper: %s", error)
                now = time.monotonic()
                self._failures.append(now)
                while now - self._failures[0] > WINDOW:
                    self._failures.popleft()
                if len(self._failures) >= GIVE_UP_AFTER:
                    self._on_given_up(f"{reason}; no other could be started: {error}")
                    return
                continue
            break
        self.own = launcher
        self._own_since = time.monotonic()
        self._failures.clear()
        log.info("the keeper %d has taken over", launcher.pid)
        self._on_up()

    def _replaced(self, task: asyncio.Task[None]) -> None:
        self._replacing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("replacing the keeper failed", exc_info=error)
            self._on_given_up(f"replacing the keeper failed: {type(error).__name__}: {error}")

    async def close(self, timeout: float) -> None:
        """End them all, at once."""
        await self._stop_replacing()
        await asyncio.gather(*(launcher.stop(timeout) for launcher in self.all))

    async def leave_alone(self, end_own: bool, timeout: float) -> None:
        """Let go of those that hold workers; ``end_own``: ours holds none."""
        await self._stop_replacing()
        for launcher in self.adopted:
            launcher.leave_alone()
        if end_own:
            await self.own.stop(timeout)
        else:
            self.own.leave_alone()

    async def _stop_replacing(self) -> None:
        if (task := self._replacing) is not None:
            task.cancel()
            await asyncio.wait([task])
