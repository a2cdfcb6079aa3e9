"""One configured platform: performs what `connection_life` decides about its connection.

What is done to the adapter is done one step after the other, in the order in which the table asked for it: a disconnect
that takes its seconds is over before the next connect begins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from hermesd.adapters import registry
from hermesd.adapters.contract import Adapter, AdapterSettings, HasIdentity, Receiver, capability
from hermesd.adapters.contract import State as Shown
from hermesd.adapters.errors import AdapterError, Conflict, StartLater, Unauthorized
from hermesd.supervisor.tasks import Tasks

from . import connection_life as life
from .connection_life import Action, Event, State
from .token_lock import TokenLock

log = logging.getLogger("hermesd.platforms")

START_SECONDS = 30.0
"""For one adapter to connect; a service that does not even say no is not reachable."""

STOP_SECONDS = 3.0
"""For one adapter to disconnect."""


class Connection:
    """``on_up`` is called each time the platform is usable again; ``make_lock`` makes the lock of a token."""

    def __init__(
        self,
        settings: AdapterSettings,
        tasks: Tasks,
        *,
        make_lock: Callable[[Any], TokenLock],
        on_change: Callable[[Connection], None],
        on_up: Callable[[Connection], None],
        remote_delays: Sequence[float] = life.REMOTE_DELAYS,
        local_delays: Sequence[float] = life.LOCAL_DELAYS,
    ):
        self.settings = settings
        self.name = settings.name
        self.state = State.STOPPED
        self.adapter: Adapter | None = None  # the last one that was made, also when it is not connected
        self.next_try_at = 0.0  # Unix seconds; 0: no timer runs
        self.tries = 0  # that have failed in a row
        self.connects = 0  # in this life of hermesd
        self._tasks = tasks
        self._make_lock = make_lock
        self._on_change = on_change
        self._on_up = on_up
        self._remote_delays, self._local_delays = remote_delays, local_delays
        self._receiver: Receiver | None = None
        self._reason = self._fix = ""
        self._since = time.time()
        self._received_at = 0.0  # Unix seconds, of the adapters before this one
        self._timer: asyncio.TimerHandle | None = None
        self._awaited = False  # messages wait for it
        self._lock: TokenLock | None = None
        self._one_step = asyncio.Lock()
        self._steps: set[asyncio.Task[None]] = set()
        self._started: Adapter | None = None  # it has to be stopped
        self._starting: asyncio.Task[None] | None = None

    @property
    def is_remote(self) -> bool:
        """It talks to a service of somebody else's."""
        return capability(self.adapter, HasIdentity) is not None

    def use(self, receiver: Receiver) -> None:
        """Called once, before the first event."""
        self._receiver = receiver

    def make(self) -> None:
        """Import the client library and build the adapter, not started. Blocks for as long as that takes."""
        try:
            self.adapter = registry.make(self.name, self.settings)
        except AdapterError as error:
            self._fail(Event.BROKEN, error)
        except Exception as error:  # an adapter's fault must not keep the others, or hermesd, from starting
            log.exception("%s cannot be made", self.name)
            self._fail(Event.BROKEN, error)

    def happen(self, event: Event, reason: str = "", fix: str = "") -> None:
        """Feed one event. Raises `IllegalEvent`."""
        step = life.step(self.state, event)
        if step.state is not self.state or reason:
            if self.state is State.ONLINE and time.time() - self._since >= life.STEADY_SECONDS:
                self.tries = 0
            self.state, self._since, self._reason, self._fix = step.state, time.time(), reason, fix
        self._disarm()
        for action in step.actions:
            self._act(action)
        self._on_change(self)

    def lost(self, error: AdapterError) -> None:
        """The adapter says that its connection has ended."""
        if self.state in life.UP:
            self._fail(_event_of(error, after_start=True), error)

    def hurry(self) -> None:
        """Messages wait for it: until it is up it is tried as often as after the first failure."""
        self._awaited = self.state not in life.UP
        if self.state is State.BACKING_OFF and self._timer is not None:
            soon = asyncio.get_running_loop().time() + self._delay()
            if self._timer.when() > soon:
                self._disarm()
                self._arm_timer()

    def shown(self) -> Shown:
        """For ``hermesctl status`` and ``platforms``."""
        said = self.adapter.state() if self.adapter is not None else Shown("stopped")
        received_at = max(said.received_at, self._received_at)
        if self.adapter is not None and self.state is State.ONLINE:
            return replace(said, received_at=received_at)
        return Shown(self.state.value, self._reason, self._since, received_at, self._fix)

    async def settled(self) -> None:
        """Until what was asked for has been done."""
        while self._steps:
            await asyncio.wait(set(self._steps))

    def _act(self, action: Action) -> None:
        match action:
            case Action.CONNECT:
                self._next_step(self._connect(), "connect")
            case Action.DISCONNECT:
                if self._starting is not None:
                    self._starting.cancel()
                self._next_step(self._disconnect(), "disconnect")
            case Action.ARM_TIMER:
                self._arm()
            case Action.FORGET_TRIES:
                self.tries = 0
            case Action.TAKE_UP:
                self._awaited = False
                self._on_up(self)

    def _next_step(self, coroutine: Coroutine[Any, Any, None], what: str) -> None:
        step = self._tasks.job(coroutine, f"{what} {self.name}")
        self._steps.add(step)
        step.add_done_callback(self._steps.discard)

    def _arm(self) -> None:
        self.tries += 1
        self._arm_timer()

    def _delay(self) -> float:
        delays = self._remote_delays if self.is_remote else self._local_delays
        return life.delay(self.state, self.tries, delays, awaited=self._awaited)

    def _arm_timer(self) -> None:
        seconds = self._delay()
        self.next_try_at = time.time() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self.happen, Event.TIMER)

    def _disarm(self) -> None:
        self.next_try_at = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _connect(self) -> None:
        async with self._one_step:
            if not self._is_wanted() or self._started is not None:
                return  # what came meanwhile wants it otherwise, or an earlier step has done it
            self._starting = asyncio.ensure_future(self._start())
            try:
                await asyncio.wait([self._starting])
                if self._starting.cancelled():
                    return
                error = self._starting.exception()
            finally:
                self._starting.cancel()
                self._starting = None
            if not self._is_wanted():
                return
            if error is None:
                self.connects += 1
                log.info("%s is online", self.name)
                self.happen(Event.STARTED)
            else:
                if not isinstance(error, AdapterError):
                    log.error("%s failed to start", self.name, exc_info=error)
                self._fail(_event_of(error, after_start=False), error)

    def _is_wanted(self) -> bool:
        return self.state is State.CONNECTING

    async def _start(self) -> None:
        assert self._receiver is not None
        if self.adapter is not None:
            self._received_at = max(self._received_at, self.adapter.state().received_at)
        if self.adapter is None or self.connects or self.tries:
            self.adapter = registry.make(self.name, self.settings)
            self._on_change(self)
        adapter = self.adapter
        self._take_token(adapter)
        self._started = adapter
        try:
            async with asyncio.timeout(START_SECONDS):
                await adapter.start(self._receiver)
        except TimeoutError as error:
            raise StartLater(f"cannot connect within {START_SECONDS:.0f} s") from error

    def _take_token(self, adapter: Adapter) -> None:
        holder = capability(adapter, HasIdentity)
        identity = holder.identity() if holder is not None else None
        if identity is None or self._lock is not None:
            return
        lock = self._make_lock(identity)
        try:
            owner = lock.take()
        except OSError as error:
            log.warning("%s: cannot keep a lock for its token in %s: %s", self.name, lock.path.parent, error)
            return
        if owner is not None:
            raise Conflict(f"its token is in use by {owner}", fix=f"stop that one, or use another token; {lock.path}")
        self._lock = lock

    async def _disconnect(self) -> None:
        async with self._one_step:
            adapter, self._started = self._started, None
            if adapter is not None:
                await self._stop(adapter)
            if self._lock is not None and self.state not in life.UP:
                self._lock.release()
                self._lock = None

    async def _stop(self, adapter: Adapter) -> None:
        try:
            await asyncio.wait_for(adapter.stop(), STOP_SECONDS)
        except TimeoutError:
            log.error("%s did not disconnect within %.0f s", self.name, STOP_SECONDS)
        except Exception:  # one adapter's fault must not keep the others from stopping
            log.exception("%s failed to stop", self.name)

    def _fail(self, event: Event, error: BaseException) -> None:
        reason = str(error) if isinstance(error, AdapterError) else f"{type(error).__name__}: {error}"
        fix = error.fix if isinstance(error, AdapterError) else ""
        self.happen(event, reason, fix)
        again = f"; again in {self.next_try_at - time.time():.0f} s" if self.next_try_at else ""
        level = logging.WARNING if self.tries > 1 else logging.ERROR
        log.log(level, "%s is %s: %s%s%s", self.name, self.state.value, reason, f" (fix: {fix})" if fix else "", again)


def _event_of(error: BaseException, *, after_start: bool) -> Event:
    """What an error of an adapter means. A start that the adapter calls hopeless is: a wrong setting. A fault that
    nobody has understood may pass, and the next try is made with a new adapter.
    """
    match error:
        case Conflict():
            return Event.CONFLICTED
        case Unauthorized():
            return Event.DENIED
        case StartLater() | OSError() | TimeoutError():
            return Event.FAILED
    return Event.BROKEN if isinstance(error, AdapterError) and not after_start else Event.FAILED
