"""The ways in: made by the registry, started and stopped here, one failing without the others.

Connections outlive workers: nothing that happens to a worker reaches an adapter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from itertools import chain, repeat

from hermesd.adapters import registry
from hermesd.adapters.contract import Adapter, AdapterSettings, Receiver, State
from hermesd.adapters.errors import AdapterError, StartLater

log = logging.getLogger("hermesd.platforms")

STOP_SECONDS = 3.0
"""For one adapter to disconnect."""

RETRY_DELAYS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between the tries of an adapter that said `StartLater`; the last one for ever."""


class Platforms:
    """``live`` holds what is up; `states` tells of all that is configured."""

    def __init__(self) -> None:
        self.live: dict[str, Adapter] = {}
        self._down: dict[str, State] = {}
        self._retries: set[asyncio.Task[None]] = set()

    def make(self, wanted: Mapping[str, AdapterSettings]) -> None:
        """Build every enabled platform's adapter, importing its client library. Blocks for as long as that takes."""
        for settings in wanted.values():
            try:
                # Live before it is started: an answer may be faster than the end of start.
                self.live[settings.name] = registry.make(settings.name, settings)
            except AdapterError as error:
                self._fail(settings.name, "unavailable", str(error), error.fix)
            except Exception as error:  # an adapter's fault must not keep the others, or hermesd, from starting
                log.exception("%s cannot be made", settings.name)
                self._fail(settings.name, "unavailable", f"{type(error).__name__}: {error}")

    async def start(self, receiver: Receiver) -> None:
        """Start them all at once. One that fails is told in `states` and in the log."""
        await asyncio.gather(*(self._start_one(name, adapter, receiver) for name, adapter in list(self.live.items())))

    async def _start_one(self, name: str, adapter: Adapter, receiver: Receiver) -> None:
        try:
            await adapter.start(receiver)
        except StartLater as error:
            self._fail(name, "backing_off", str(error), error.fix)
            retry = asyncio.create_task(self._retry(name, adapter, receiver), name=f"start {name} again")
            self._retries.add(retry)
            retry.add_done_callback(self._retries.discard)
        except AdapterError as error:
            self._fail(name, "unavailable", str(error), error.fix)
        except Exception as error:  # an adapter's fault must not keep the others, or hermesd, from starting
            log.exception("%s failed to start", name)
            self._fail(name, "unavailable", f"{type(error).__name__}: {error}")

    async def _retry(self, name: str, adapter: Adapter, receiver: Receiver) -> None:
        """Until what stood in its way has gone."""
        for delay in chain(RETRY_DELAYS, repeat(RETRY_DELAYS[-1])):
            await asyncio.sleep(delay)
            self.live[name] = adapter
            try:
                await adapter.start(receiver)
            except StartLater as error:
                self.live.pop(name, None)
                log.debug("%s is still backing off: %s", name, error)
            except AdapterError as error:
                self._fail(name, "unavailable", str(error), error.fix)
                return
            except Exception as error:  # an adapter's fault must not end hermesd
                log.exception("%s failed to start", name)
                self._fail(name, "unavailable", f"{type(error).__name__}: {error}")
                return
            else:
                del self._down[name]
                log.warning("%s is online now", name)
                return

    def _fail(self, name: str, word: str, reason: str, fix: str = "") -> None:
        self.live.pop(name, None)
        self._down[name] = State(word, reason, time.time(), fix=fix)
        log.error("%s is %s: %s%s", name, word, reason, f" (fix: {fix})" if fix else "")

    def lost(self, name: str, error: AdapterError) -> None:
        """Called by `Reception` for an adapter whose connection has ended."""
        adapter = self.live.pop(name, None)
        if adapter is None:
            return
        self._fail(name, "backing_off", str(error), error.fix)
        stopping = asyncio.create_task(self._stop_one(name, adapter), name=f"stop {name}")
        self._retries.add(stopping)
        stopping.add_done_callback(self._retries.discard)

    async def stop(self) -> None:
        """Disconnect them all at once; the map stays empty afterwards."""
        for retry in list(self._retries):
            retry.cancel()
        if self._retries:
            await asyncio.wait(list(self._retries))
        await asyncio.gather(*(self._stop_one(name, adapter) for name, adapter in list(self.live.items())))
        self.live.clear()

    async def _stop_one(self, name: str, adapter: Adapter) -> None:
        try:
            await asyncio.wait_for(adapter.stop(), STOP_SECONDS)
        except TimeoutError:
            log.error("%s did not disconnect within %.0f s", name, STOP_SECONDS)
        except Exception:  # one adapter's fault must not keep the others from stopping
            log.exception("%s failed to stop", name)

    def states(self) -> dict[str, State]:
        return {**self._down, **{name: adapter.state() for name, adapter in self.live.items()}}
