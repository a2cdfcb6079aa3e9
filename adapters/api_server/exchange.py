"""A request and its answer: what the core says about a message, waiting for the HTTP handlers that want it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hermesd.adapters.api_server.openai import ApiProblem
from hermesd.adapters.contract import Outbound, Target

KEEP_SECONDS = 300.0
KEEP_COUNT = 1000


@dataclass(frozen=True, slots=True)
class Delta:
    """Streamed text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A word beside the conversation."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A message before the answer."""

    message: Outbound


@dataclass(frozen=True, slots=True)
class Answered:
    """The end: the answer, or the agent's error."""

    message: Outbound


@dataclass(frozen=True, slots=True)
class Failed:
    """The end: there is no answer."""

    problem: ApiProblem


Event = Delta | Notice | Said | Answered | Failed


@dataclass(slots=True, eq=False)
class Exchange:
    """One message in the core. Several handlers may listen: a client that repeats a request joins it."""

    target: Target
    fingerprint: str
    streamed: bool  # deltas and notices are kept only if somebody shows them
    lasting: bool  # of a session that outlives it
    accepted: asyncio.Future[None]
    delivered: asyncio.Future[bool]
    events: list[Event] = field(default_factory=list)
    listeners: set[asyncio.Event] = field(default_factory=set)
    handlers: int = 0
    handed_in: bool = False  # the core may have it, and has not refused it
    ended_at: float = 0.0

    @property
    def end(self) -> Answered | Failed | None:
        last = self.events[-1] if self.events else None
        return last if isinstance(last, Answered | Failed) else None

    def push(self, event: Event) -> None:
        """Add an event; nothing follows an end."""
        if self.end is not None or (isinstance(event, Delta | Notice) and not self.streamed):
            return
        self.events.append(event)
        for listener in self.listeners:
            listener.set()

    async def follow(self, idle: float | None = None) -> AsyncGenerator[Event | None, None]:
        """Every event from the first to the end; None after each ``idle`` seconds without one. Close it after use."""
        ready = asyncio.Event()
        self.listeners.add(ready)
        seen = 0
        try:
            while True:
                while seen < len(self.events):
                    seen += 1
                    yield self.events[seen - 1]
                    if isinstance(self.events[seen - 1], Answered | Failed):
                        return
                ready.clear()
                try:
                    async with asyncio.timeout(idle):
                        await ready.wait()
                except TimeoutError:
                    yield None
        finally:
            self.listeners.discard(ready)


class Exchanges:
    """All exchanges by target: the open ones, and for a while the ended ones that a client may ask for again."""

    def __init__(self, abandoned: Callable[[Target], None]):
        self._abandoned = abandoned
        self._open: dict[Target, Exchange] = {}
        self._ended: OrderedDict[Target, Exchange] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, target: Target, fingerprint: str, *, streamed: bool, lasting: bool) -> Exchange:
        loop = asyncio.get_running_loop()
        exchange = Exchange(target, fingerprint, streamed, lasting, loop.create_future(), loop.create_future())
        self._open[target] = exchange
        return exchange

    def find(self, target: Target, now: float) -> Exchange | None:
        """The exchange of this message, open or ended less than `KEEP_SECONDS` ago."""
        while self._ended and now - next(iter(self._ended.values())).ended_at > KEEP_SECONDS:
            self._ended.popitem(last=False)
        return self._open.get(target) or self._ended.get(target)

    def fail_all(self, problem: Callable[[Exchange], ApiProblem]) -> None:
        """End those that the core has. What becomes of the others is told by who hands them in."""
        for exchange in self._open.values():
            if exchange.accepted.done():
                exchange.push(Failed(problem(exchange)))

    @asynccontextmanager
    async def attend(self, exchange: Exchange, now: Callable[[], float], *, keep: bool) -> AsyncIterator[None]:
        """Around everything that a handler does for an exchange. When the last handler leaves one whose answer has not
        been delivered, the core is told that nobody waits for it any more.
        """
        exchange.handlers += 1
        try:
            yield
        finally:
            exchange.handlers -= 1
            if not exchange.handlers and self._open.get(exchange.target) is exchange:
                self._close(exchange, now(), keep=keep)

    def _close(self, exchange: Exchange, now: float, *, keep: bool) -> None:
        del self._open[exchange.target]
        if not exchange.delivered.done():
            exchange.delivered.set_result(False)
        if not isinstance(exchange.end, Answered):
            if exchange.handed_in:
                self._abandoned(exchange.target)
        elif keep and exchange.delivered.result():
            exchange.ended_at = now
            self._ended[exchange.target] = exchange
            if len(self._ended) > KEEP_COUNT:
                self._ended.popitem(last=False)
