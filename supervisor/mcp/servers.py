"""The MCP servers of all sessions: who may start one, and what is known of each. The shell around `budget`."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from hermesd.ipc.mcp import ServerSpec, ToolInfo
from hermesd.ipc.messages import KnownTools, Listed, Message, ServerNews, StartAnswer, StartRequest
from hermesd.supervisor.pool.worker import Worker

from . import budget as rules
from .budget import Action, Budget, State
from .memory import Kept, Memory

log = logging.getLogger("hermesd.mcp")

TRY_RESERVE = 15.0
"""Seconds that a try may take for killing, besides two times the server's connect_timeout: the first process may break
at the probe.
"""

REASON_LIMIT = 500

FORMER = 100
"""Servers of earlier configurations whose budgets are kept for the turns that still go by them."""


@dataclass(slots=True, eq=False)
class Entry:
    """One server in one configuration."""

    spec: ServerSpec
    budget: Budget = field(default_factory=Budget)
    tools: tuple[ToolInfo, ...] | None = None  # None: nobody has listed them
    holder: Worker | None = None  # whose try the others wait for
    waiting: dict[Worker, StartRequest] = field(default_factory=dict)
    lease: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is to be told to whoever wants to know which tools a server has, and no more."""

    tools: tuple[ToolInfo, ...] | None = None  # None: nobody has listed them
    failure: str = ""  # why they are not there and nobody should wait for them
    due: bool = False  # it has failed, and is to be tried again


class McpServers:
    """All of it on the event loop. ``send`` gives a message to a worker that is connected."""

    def __init__(self, memory: Memory, send: Callable[[Worker, Message], None]):
        self._memory = memory
        self._send = send
        self._entries: dict[str, Entry] = {}
        self._former: dict[tuple[str, str], Entry] = {}  # of earlier configurations: turns that run still use them

    def configure(self, specs: Iterable[ServerSpec]) -> None:
        """These are the servers from now on; what is known of others is forgotten."""
        before, self._entries = self._entries, {}
        for spec in specs:
            entry = before.get(spec.name)
            if entry is not None and entry.spec.config == spec.config:
                entry.spec = spec
                self._entries[spec.name] = before.pop(spec.name)
            elif (former := self._former.pop((spec.name, spec.config), None)) is not None:
                former.spec = spec
                self._entries[spec.name] = former
            else:
                self._entries[spec.name] = self._remembered(spec)
        self._former |= {(name, entry.spec.config): entry for name, entry in before.items()}
        self._forget_old()
        self._changed()

    def entries(self) -> Iterator[Entry]:
        """In the configuration's order."""
        yield from self._entries.values()

    def entry(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def standing(self, name: str) -> Standing:
        if (entry := self._entries.get(name)) is None:
            return Standing()
        if entry.tools is not None:
            return Standing(entry.tools)
        if entry.budget.state in rules.WAITING or rules.half_open(entry.budget):
            return Standing(None, rules.sentence(entry.budget), rules.is_due(entry.budget, time.time()))
        return Standing()

    def pardon(self, name: str) -> bool:
        """A person says that it may be tried again now. False: there is no such server."""
        if (entry := self._entries.get(name)) is None:
            return False
        log.info("MCP server %s may be started again, as ordered", name)
        self._step(entry, rules.pardoned(entry.budget))
        return True

    # ---- the workers' side -------------------------------------------------------------------------------------------

    def said(self, worker: Worker, message: StartRequest | ServerNews | Listed) -> None:
        entry = self._entry_of(message.server, message.config)
        match message:
            case StartRequest():
                self._asked(worker, entry, message)
            case ServerNews() if entry is not None:
                self._heard(worker, entry, message)
            case Listed() if entry is not None:
                if entry.tools != message.tools:
                    entry.tools = message.tools
                    self._changed()

    def taken_over(self, worker: Worker) -> None:
        """What an earlier hermesd's worker has running is known to start. Called when it has reported its servers."""
        for report in worker.servers:
            entry = self._entry_of(report.name, report.config)
            if entry is not None and report.state == "ready" and entry.budget.state is State.UNTRIED:
                self._step(entry, rules.ready(entry.budget))

    def gone(self, worker: Worker) -> None:
        """The worker has ended: it waits for nothing, and nothing comes of its try."""
        for entry in [*self._entries.values(), *self._former.values()]:
            entry.waiting.pop(worker, None)
            if entry.holder is worker:
                self._give_up(entry)

    def _entry_of(self, name: str, config: str) -> Entry | None:
        entry = self._entries.get(name)
        return entry if entry is not None and entry.spec.config == config else self._former.get((name, config))

    def _asked(self, worker: Worker, entry: Entry | None, request: StartRequest) -> None:
        if entry is None:
            # Of a configuration that its worker leaves as soon as it is idle.
            self._send(worker, StartAnswer(request.server, request.config, request.request, granted=True))
        elif request.for_tools and entry.tools is not None:
            self._tell_tools(worker, request, entry.tools)
        elif request.for_tools and rules.half_open(entry.budget):
            self._refuse(entry, worker, request)
        else:
            self._step(entry, rules.wanted(entry.budget, time.time()), worker, request)

    def _heard(self, worker: Worker, entry: Entry, news: ServerNews) -> None:
        reason, now = news.reason[:REASON_LIMIT], time.time()
        is_the_try = entry.holder is worker
        match news.event:
            case "spawned":
                entry.budget = replace(entry.budget, spawns=entry.budget.spawns + 1)
                self._changed()
            case "ready":
                self._step(entry, rules.ready(entry.budget))
            case "failed":
                after = rules.failed(
                    entry.budget,
                    news.grant,
                    reason,
                    now,
                    random.random(),
                    permanent=news.permanent,
                    is_the_try=is_the_try,
                )
                self._step(entry, after)
            case "crashed":
                self._step(entry, rules.crashed(entry.budget, news.grant, reason, now, random.random()))
            case "probe_broke":
                entry.budget = replace(entry.budget, probe=False)
                self._changed()
            case "withdrawn" if is_the_try:
                self._give_up(entry)

    # ---- the budget --------------------------------------------------------------------------------------------------

    def _give_up(self, entry: Entry) -> None:
        if entry.budget.state is State.TRYING:
            self._step(entry, rules.given_up(entry.budget))

    def _step(
        self,
        entry: Entry,
        after: tuple[Budget, tuple[Action, ...]],
        worker: Worker | None = None,
        request: StartRequest | None = None,
    ) -> None:
        """``worker`` and ``request``: whose question this is."""
        before, (entry.budget, actions) = entry.budget, after
        if entry.budget.state is not State.TRYING:
            self._end_try(entry)
        if entry.budget.state is not before.state and entry.budget.state in rules.WAITING:
            log.warning(
                "MCP server %s is left alone for %.0f s: %s",
                entry.spec.name, entry.budget.next_try - time.time(), rules.sentence(entry.budget),
            )  # fmt: skip
        for action in actions:
            self._act(entry, action, worker, request)
        if entry.budget != before:
            self._changed()

    def _act(self, entry: Entry, action: Action, worker: Worker | None, request: StartRequest | None) -> None:
        match action:
            case Action.GRANT:
                assert worker is not None
                assert request is not None
                self._grant(entry, worker, request)
            case Action.WAIT:
                assert worker is not None
                assert request is not None
                entry.waiting[worker] = request
            case Action.REFUSE:
                assert worker is not None
                assert request is not None
                self._refuse(entry, worker, request)
            case Action.GRANT_WAITING:
                for waiter, asked in self._take_waiting(entry):
                    if asked.for_tools and entry.tools is not None:
                        self._tell_tools(waiter, asked, entry.tools)
                    else:
                        self._grant(entry, waiter, asked)
            case Action.REFUSE_WAITING:
                for waiter, asked in self._take_waiting(entry):
                    self._refuse(entry, waiter, asked)
            case Action.NEXT:
                for waiter, asked in self._take_waiting(entry):  # the first becomes the try, the others wait again
                    self._asked(waiter, entry, asked)

    def _take_waiting(self, entry: Entry) -> list[tuple[Worker, StartRequest]]:
        waiting = list(entry.waiting.items())
        entry.waiting.clear()
        return waiting

    def _grant(self, entry: Entry, worker: Worker, request: StartRequest) -> None:
        if entry.budget.state is State.TRYING:
            self._end_try(entry)
            entry.holder = worker
            entry.lease = asyncio.get_running_loop().call_later(
                2 * entry.spec.connect_timeout + TRY_RESERVE, self._give_up, entry
            )
        budget = entry.budget
        self._send(
            worker,
            StartAnswer(
                request.server,
                request.config,
                request.request,
                granted=True,
                grant=budget.round,
                probe=budget.probe,
                again=rules.half_open(budget),
            ),
        )

    def _refuse(self, entry: Entry, worker: Worker, request: StartRequest) -> None:
        self._send(
            worker,
            StartAnswer(
                request.server, request.config, request.request, granted=False,
                reason=rules.sentence(entry.budget), next_try=entry.budget.next_try,
            ),
        )  # fmt: skip

    def _tell_tools(self, worker: Worker, request: StartRequest, tools: tuple[ToolInfo, ...]) -> None:
        self._send(worker, KnownTools(request.server, request.config, request.request, tools))

    @staticmethod
    def _end_try(entry: Entry) -> None:
        entry.holder = None
        if entry.lease is not None:
            entry.lease.cancel()
            entry.lease = None

    def _forget_old(self) -> None:
        """A turn outlives few reloads; whoever waits for an answer gets it all the same."""
        old = list(self._former.items())[:-FORMER]
        for key, entry in old:
            if not entry.waiting and entry.holder is None:
                del self._former[key]

    # ---- for the next hermesd ----------------------------------------------------------------------------------------

    def _remembered(self, spec: ServerSpec) -> Entry:
        kept = self._memory.take(spec.name, spec.config)
        return Entry(spec) if kept is None else Entry(spec, kept.budget, kept.tools)

    def _changed(self) -> None:
        self._memory.keep(
            Kept(entry.spec.name, entry.spec.config, entry.budget, entry.tools) for entry in self._entries.values()
        )
