"""The thread that owns a worker's ZeroMQ socket, so that control works while the agent is busy.

It polls the socket, a wake descriptor, the keeper's death and the worker's own standard output. It never runs agent
code. What the main thread sends is put into a queue here; what arrives is handed to the main thread's event loop.

A C call that holds the GIL silences this thread too; the supervisor then judges by the kernel's figures.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hermesd.ipc.errors import LocalError
from hermesd.ipc.link import Confirmed, Event, Link, Received, Refused
from hermesd.ipc.messages import Heartbeat, Hello, Logs, Message, Welcome
from hermesd.ipc.sockets import Dealer

log = logging.getLogger("hermesd.worker.link")

IDLE_HEARTBEAT_FACTOR = 5.0
"""An idle worker beats this much slower: two hundred of them must not cost the supervisor a measurable core."""

HELLO_EVERY = 1.0
"""Seconds between hellos until one is answered."""


@dataclass(frozen=True, slots=True)
class Unsendable:
    """A message that the wire cannot carry, for its size for one; it was dropped."""

    message: Message
    error: LocalError


class LogSource(Protocol):
    """Where the link thread takes finished log records from."""

    def take(self, now: float) -> Logs | None: ...


class Output(Protocol):
    """Something printed that the link thread reads. Implemented by `hermesd.workers.capture.Capture`."""

    descriptor: int

    def read(self) -> bool: ...

    def tick(self, now: float) -> None: ...

    def flush(self) -> None: ...


class LinkThread:
    """``on_event`` is called on the event loop's thread through ``call_soon``, once per delivered event."""

    def __init__(
        self,
        *,
        endpoint: str,
        identity: str,
        link: Link,
        hello: Hello,
        heartbeat: float,
        call_soon: Callable[[Callable[[], None]], object],
        on_event: Callable[[Event | Unsendable], None],
        logs: LogSource,
        keeper_pidfd: int,
        on_keeper_death: Callable[[], None],
        captures: Sequence[Output],
    ):
        self._endpoint = endpoint
        self._link = link
        self._hello = hello
        self._heartbeat = heartbeat
        self._call_soon = call_soon
        self._on_event = on_event
        self._logs = logs
        self._keeper_pidfd = keeper_pidfd
        self._on_keeper_death = on_keeper_death
        self._captures = {capture.descriptor: capture for capture in captures}
        self._outgoing: deque[Message] = deque()
        self._turn = ""
        self._welcomed = False
        self._next_beat = 0.0
        self._queued = 0
        self._loop_asked = False
        self._loop_asked_at = 0.0
        self._stopping = threading.Event()
        self._dealer = Dealer(endpoint, identity.encode())
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # ---- called from the main thread ---------------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Send a message; returns at once. Order among posts is kept."""
        self._outgoing.append(message)
        self._dealer.wake()

    @property
    def backlog(self) -> int:
        """Messages that are not on the wire yet; an agent that streams faster than this drains waits."""
        return len(self._outgoing) + self._queued

    def turn_is(self, turn: str) -> None:
        """Tell which turn runs, "" for none; the heartbeat reports it and beats faster while one does."""
        self._turn = turn
        self._next_beat = 0.0
        self._dealer.wake()

    def stop(self, timeout: float) -> None:
        """Send what is left for at most ``timeout`` seconds, then end the thread."""
        self._deadline = time.monotonic() + timeout
        self._stopping.set()
        self._dealer.wake()
        self._thread.join(timeout + 1.0)

    # ---- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException:
            # Without its link a worker can neither answer nor be told anything: its keeper cleans up after it.
            log.exception("the link thread failed")
            logging.shutdown()
            os._exit(71)

    def _serve(self) -> None:
        for descriptor in (self._keeper_pidfd, *self._captures):
            if descriptor >= 0:
                self._dealer.watch(descriptor)
        next_hello, flushed = 0.0, False
        self._dealer.wait_connected(HELLO_EVERY)
        while True:
            now = time.monotonic()
            if not self._welcomed and now >= next_hello:
                self._link.send(self._hello)
                next_hello = now + HELLO_EVERY
            if self._stopping.is_set() and not flushed:
                flushed = True
                for capture in self._captures.values():
                    capture.flush()
            if self._welcomed:
                self._queue_what_waits(now)
            self._link.flush(now, self._dealer.send)
            self._queued = self._link.statistics().queued
            if self._stopping.is_set() and (now >= self._deadline or not self._unfinished()):
                return self._dealer.close()
            due = [self._next_beat if self._welcomed else next_hello]
            link_due = self._link.due()
            if link_due is not None:
                due.append(link_due)
            if self._stopping.is_set():
                due.append(self._deadline)
            self._dealer.poll(max(0.0, min(due) - now))
            now = time.monotonic()
            for frame in self._dealer.recv_all():
                for event in self._link.receive(frame, now):
                    self._take(event)
            for descriptor in self._dealer.readable:
                if descriptor == self._keeper_pidfd:
                    self._dealer.unwatch(descriptor)
                    self._on_keeper_death()
                else:
                    self._captures[descriptor].read()

    def _unfinished(self) -> bool:
        statistics = self._link.statistics()
        return bool(self._outgoing or statistics.queued or statistics.unacknowledged)

    def _take(self, event: Event) -> None:
        match event:
            case Received(message=Welcome()):
                self._welcomed = True
            case Received() | Confirmed():
                self._call_soon(lambda: self._on_event(event))
            case Refused(error=error):
                log.warning("dropped a frame of the supervisor: %s", error)

    def _queue_what_waits(self, now: float) -> None:
        while self._outgoing:
            message = self._outgoing.popleft()
            try:
                self._link.send(message)
            except LocalError as error:
                self._call_soon(partial(self._on_event, Unsendable(message, error)))
        if now >= self._next_beat:
            self._beat(now)
            self._next_beat = now + (self._heartbeat if self._turn else self._heartbeat * IDLE_HEARTBEAT_FACTOR)
        for capture in self._captures.values():
            capture.tick(now)
        while (batch := self._logs.take(now)) is not None:
            self._link.send(batch)
            if not self._stopping.is_set():
                break

    def _beat(self, now: float) -> None:
        age = now - self._loop_asked_at if self._loop_asked else 0.0
        if self._turn and not self._loop_asked:
            self._loop_asked, self._loop_asked_at = True, now
            self._call_soon(self._loop_ran)
        self._link.send(Heartbeat(self._turn, age))

    def _loop_ran(self) -> None:
        self._loop_asked = False
