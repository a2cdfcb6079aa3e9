"""Calls about messages that are at their platform, and for which no row of the outbox stands: one is taken back, the
buttons of another go. They keep to the platform's rates, and what it puts off goes again, with a timer and no task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from hermesd.adapters.contract import Adapter, Target
from hermesd.adapters.errors import AdapterError, Retry, Uncertain
from hermesd.supervisor.tasks import Tasks

from .rates import Rates, backed_off

log = logging.getLogger("hermesd.delivery")

TRIES = 8


@dataclass(slots=True, eq=False)
class _Aside:
    target: Target
    name: str
    call: Callable[[Adapter], Awaitable[None]]
    over: Callable[[], Awaitable[None]]
    urgent: bool
    booked: float = 0.0  # the time of its token of the platform's, 0: it has none
    failures: int = 0


class Asides:
    """Owned by the deliverer. ``rates_of``: the buckets of a platform, which messages use too."""

    def __init__(self, adapters: Mapping[str, Adapter], tasks: Tasks, rates_of: Callable[[str], Rates]):
        self._adapters = adapters
        self._tasks = tasks
        self._rates_of = rates_of
        self._under_way: set[tuple[Target, str]] = set()

    def soon(
        self,
        target: Target,
        name: str,
        call: Callable[[Adapter], Awaitable[None]],
        over: Callable[[], Awaitable[None]],
        *,
        urgent: bool = False,
    ) -> None:
        """Call the platform as soon as it allows it, and ``over`` when that is done, or never will be. Neither for a
        platform that is down: whoever brings it up asks again. ``urgent``: it goes like a message, not like progress.
        """
        if (target, name) not in self._under_way:
            self._under_way.add((target, name))
            self._go(_Aside(target, name, call, over, urgent))

    def _go(self, aside: _Aside) -> None:
        target, loop = aside.target, asyncio.get_running_loop()
        adapter = self._adapters.get(target.platform)
        if adapter is None:
            self._under_way.discard((target, aside.name))
            return
        if (free := self._free_at(aside, adapter)) > loop.time():
            loop.call_at(free, self._go, aside)
        else:
            aside.booked = 0.0
            self._tasks.job(self._make(aside, adapter), aside.name)

    def _free_at(self, aside: _Aside, adapter: Adapter) -> float:
        """When it may go; now, if its tokens have been taken."""
        now, chat = asyncio.get_running_loop().time(), aside.target.chat_id
        rates, facts = self._rates_of(aside.target.platform), adapter.capabilities(aside.target)
        if not aside.urgent:
            return rates.spare(chat, facts, now)
        if aside.booked:
            return max(aside.booked, now + rates.closed_for(chat, now))
        if (free := rates.when(chat, facts, now)) > now:
            return free
        aside.booked = rates.book(chat, facts, now)
        return aside.booked

    async def _make(self, aside: _Aside, adapter: Adapter) -> None:
        target, loop = aside.target, asyncio.get_running_loop()
        try:
            await aside.call(adapter)
        except (Retry, Uncertain) as error:
            if isinstance(error, Retry):
                self._rates_of(target.platform).heed(target.chat_id, error, loop.time())
            aside.failures += 1
            if aside.failures < TRIES:
                loop.call_later(backed_off(error.after, aside.failures), self._go, aside)
                return
            log.info("cannot %s now: %s", aside.name, error)  # a later start tries it again
            self._under_way.discard((target, aside.name))
            return
        except AdapterError as error:
            log.info("cannot %s: %s", aside.name, error)
        except Exception:  # an adapter's fault in what nobody waits for
            log.exception("the adapter of %s failed to %s", target.platform, aside.name)
        self._under_way.discard((target, aside.name))
        await aside.over()
