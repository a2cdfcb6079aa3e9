"""Servers with ``scope: host``: one worker holds the instance of each, and the calls of all sessions go through here.

A holder is a worker like any other, bound to a server instead of a session: it is contained, measured and killed as
they are, and what it holds costs no session anything but the calls that are under way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from hermesd.ipc.ids import WorkerId
from hermesd.ipc.keeping import Gone
from hermesd.ipc.mcp import ServerSpec, is_the_same
from hermesd.ipc.messages import Message, SharedCall, SharedCancel, SharedResult
from hermesd.supervisor.patience import insist_in
from hermesd.supervisor.pool.enforcement import Enforcer
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker

from .servers import Standing

log = logging.getLogger("hermesd.mcp")

IDLE_SECONDS = 60.0
"""Without a call, after which a holder ends whose server does not run any more."""

DEATHS = 5
WITHIN = 60.0
"""So many ends of a server's holders within so many seconds, and no further one is started until they are over."""

AT_REST = frozenset({"stopped", "broken", "parked"})
"""States of `hermesd.workers.mcp.slot` in which nothing of a server runs."""


@dataclass(slots=True)
class _Call:
    worker: WorkerId  # whose it is
    call: str  # its name there


@dataclass(slots=True)
class _Holder:
    server: str
    worker: Worker
    calls: dict[str, _Call] = field(default_factory=dict)  # by the name that the holder knows
    count: int = 0
    timer: asyncio.TimerHandle | None = None
    unwanted: bool = False  # the configuration has another one, or none; it ends after the last call
    broken: str = ""  # the limit that it is killed for


class Holders:
    """On the event loop. ``pool`` is there once both are made; ``grace`` gives a stopping worker's seconds.

    ``standing``: what is known of a server's tools without a process.
    """

    def __init__(
        self, pool: Callable[[], Pool], grace: Callable[[], float], standing: Callable[[str], Standing]
    ) -> None:
        self._pool = pool
        self._grace = grace
        self._standing = standing
        self._specs: dict[str, ServerSpec] = {}
        self._holders: dict[str, _Holder] = {}
        self._leaving: dict[WorkerId, _Holder] = {}
        self._deaths: dict[str, deque[float]] = {}
        self._waiting: dict[str, list[tuple[Worker, SharedCall]]] = {}  # by server, for the end of the one before
        self._enforcer: Enforcer | None = None

    def use(self, enforcer: Enforcer) -> None:
        """Called once: who is to be told of calls, and measures what holders have used up."""
        self._enforcer = enforcer

    def configure(self, specs: Iterable[ServerSpec]) -> None:
        """These are the servers from now on. A holder of another process ends when its calls have ended."""
        before, self._specs = self._specs, {spec.name: spec for spec in specs if spec.shared}
        for name, holder in list(self._holders.items()):
            if not is_the_same(name, before.values(), self._specs.values()):
                self._deaths.pop(name, None)
                self._leave(holder)
                self._end_if_idle(holder)

    def pardon(self, server: str) -> None:
        """A person says that it may be tried again now, whatever has become of its holders."""
        self._deaths.pop(server, None)

    def said(self, worker: Worker, message: SharedCall | SharedCancel | SharedResult) -> None:
        """A message of a session's worker or of a holder. Called by the pool."""
        match message:
            case SharedCall():
                self._call(worker, message)
            case SharedCancel():
                self._cancel(worker, message)
            case SharedResult():
                self._result(worker, message)

    def gone(self, worker: Worker, gone: Gone) -> None:
        """A worker is dead: a holder takes the calls that are under way along, a session its own only."""
        holder = self._of(worker)
        if holder is not None:
            self._forget(holder)
            why = holder.broken or (self._enforcer.why_it_ended(worker, gone) if self._enforcer is not None else "")
            if holder.broken or not worker.ending:
                self._deaths.setdefault(holder.server, deque(maxlen=DEATHS)).append(time.monotonic())
                log.error("the worker %s that held MCP server %s died: %s, %d calls were under way", worker.id,
                          holder.server, why or f"exit code {gone.exit_code}", len(holder.calls))  # fmt: skip
            reason = f"MCP server {holder.server!r} ended during the call, together with the worker that held it"
            for call in holder.calls.values():
                self._answer(call, SharedResult("", error=f"{reason}: {why}" if why else reason))
            holder.calls.clear()
            for caller, call_after in self._waiting.pop(holder.server, ()):
                self._call(caller, call_after)
            return
        for server, waiting in self._waiting.items():
            self._waiting[server] = [each for each in waiting if each[0] is not worker]
        for holder in [*self._holders.values(), *self._leaving.values()]:
            for name, call in list(holder.calls.items()):
                if call.worker == worker.id:
                    del holder.calls[name]
                    self._tell(holder, SharedCancel(name))
            self._end_if_idle(holder)

    def under_way(self, worker: Worker) -> int:
        """Calls that this worker is at, for other sessions."""
        holder = self._of(worker)
        return len(holder.calls) if holder is not None else 0

    def busy(self) -> Iterator[Worker]:
        """The holders that are at a call."""
        for holder in [*self._holders.values(), *self._leaving.values()]:
            if holder.calls:
                yield holder.worker

    def recycle(self, worker: Worker, reason: str) -> None:
        """End a holder that has used up what it may; one with calls under way is looked at again after the last."""
        holder = self._of(worker)
        if holder is None or holder.calls or worker.ending:
            return
        worker.ended_for = f"recycled: {reason}"
        log.info("the worker %s that holds MCP server %s is recycled: %s", worker.id, holder.server, reason)
        self._leave(holder)
        self._end_if_idle(holder)

    def end(self, worker: Worker, reason: str) -> None:
        """Kill a holder, whatever it does; the calls that are under way fail."""
        holder = self._of(worker)
        if holder is None:
            return
        worker.ended_for = holder.broken = reason
        self._leave(holder)
        self._pool().kill(worker)

    def _call(self, worker: Worker, message: SharedCall) -> None:
        mine = _Call(worker.id, message.call)
        if worker.serves:
            self._answer(mine, SharedResult("", error="a shared MCP server cannot call another one"))
            return
        if message.server not in self._specs:
            reason = f"there is no MCP server {message.server!r} that all sessions share any more"
            self._answer(mine, SharedResult("", error=reason))
            return
        is_waited_for = True
        if message.is_of_tools:
            standing = self._standing(message.server)
            if standing.tools is not None:
                self._answer(mine, SharedResult("", tools=standing.tools))
                return
            if standing.failure:
                self._answer(mine, SharedResult("", error=f"MCP server {message.server!r}: {standing.failure}"))
                if not standing.due:
                    return
                is_waited_for = False
        holder = self._holders.get(message.server)
        if holder is None:
            if any(each.server == message.server and each.worker.ending for each in self._leaving.values()):
                # Two of a server side by side might be in each other's way, by a port or a lock.
                if is_waited_for:
                    self._waiting.setdefault(message.server, []).append((worker, message))
                return
            if (wait := self._wait(message.server)) > 0:
                if is_waited_for:
                    again = f"it is tried again in {wait:.0f} s, or after: hermesctl mcp reset {message.server}"
                    reason = f"has taken {DEATHS} workers along; {again}"
                    self._answer(mine, SharedResult("", error=f"MCP server {message.server!r} {reason}"))
                return
            holder = self._holders[message.server] = _Holder(message.server, self._pool().take_holder(message.server))
        holder.count += 1
        name = f"{worker.id}/{holder.count}"
        if is_waited_for:
            holder.calls[name] = mine
            if self._enforcer is not None:
                self._enforcer.turn_begins()
        self._tell(holder, replace(message, call=name))
        if not is_waited_for:
            self._end_if_idle(holder)

    def _cancel(self, worker: Worker, message: SharedCancel) -> None:
        for waiting in self._waiting.values():
            waiting[:] = [each for each in waiting if (each[0], each[1].call) != (worker, message.call)]
        for holder in [*self._holders.values(), *self._leaving.values()]:
            for name, call in holder.calls.items():
                if call == _Call(worker.id, message.call):
                    del holder.calls[name]
                    self._tell(holder, SharedCancel(name))
                    self._end_if_idle(holder)
                    return

    def _result(self, worker: Worker, message: SharedResult) -> None:
        holder = self._of(worker)
        call = holder.calls.pop(message.call, None) if holder is not None else None
        if holder is None or call is None:
            return  # of a call that was cancelled, or nobody's
        self._answer(call, message)
        if self._enforcer is not None and not holder.calls:
            self._enforcer.after_calls(worker)
        self._end_if_idle(holder)

    def _answer(self, call: _Call, result: SharedResult) -> None:
        worker = self._pool().workers.get(call.worker)
        if worker is not None:
            self._pool().send(worker, replace(result, call=call.call))

    def _tell(self, holder: _Holder, message: Message) -> None:
        if holder.worker.connected:
            self._pool().send(holder.worker, message)
        else:
            holder.worker.errands.append(message)

    def _of(self, worker: Worker) -> _Holder | None:
        holder = self._holders.get(worker.serves) if worker.serves else None
        return holder if holder is not None and holder.worker is worker else self._leaving.get(worker.id)

    def _wait(self, server: str) -> float:
        """Seconds until another holder may be started."""
        deaths = self._deaths.get(server)
        return deaths[0] + WITHIN - time.monotonic() if deaths is not None and len(deaths) == DEATHS else 0.0

    def _forget(self, holder: _Holder) -> None:
        if holder.timer is not None:
            holder.timer.cancel()
        self._leaving.pop(holder.worker.id, None)
        if self._holders.get(holder.server) is holder:
            del self._holders[holder.server]

    def _leave(self, holder: _Holder) -> None:
        """It gets no further call."""
        holder.unwanted = True
        self._leaving[holder.worker.id] = holder
        if self._holders.get(holder.server) is holder:
            del self._holders[holder.server]

    def _end_if_idle(self, holder: _Holder) -> None:
        if holder.calls or holder.worker.ending:
            return
        if holder.unwanted:
            worker, grace = holder.worker, self._grace()
            self._pool().stop_worker(worker, "it is not needed any more", grace)
            insist_in(2 * grace + 1.0, partial(self._kill, worker))
        elif holder.timer is None:
            holder.timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._look, holder)

    def _kill(self, worker: Worker) -> None:
        if self._pool().workers.get(worker.id) is worker:
            self._pool().kill(worker)

    def _look(self, holder: _Holder) -> None:
        holder.timer = None
        own = [report for report in holder.worker.servers if report.name == holder.server]
        if not holder.calls and own and all(report.state in AT_REST for report in own):
            self._leave(holder)
        self._end_if_idle(holder)
