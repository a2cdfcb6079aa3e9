"""The thread that owns a worker's ZeroMQ socket, so that control works while the agent is busy.

It polls the socket, a wake descriptor, the keeper's death and the worker's own standard output. It never runs agent
code. What arrives is handed to the main thread's event loop. What the main thread sends goes out there and then while
this thread waits, and otherwise through a queue; the link has a guard for that.

On a connection that was made anew the other end may be a supervisor that knows nothing of this worker, or not yet. So
nothing but hellos goes out there before it has spoken; what the agent says meanwhile waits in the link, where text
merges.

A C call that holds the GIL silences this thread too; the supervisor then judges by the kernel's figures.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hermesd.ipc.errors import LocalError
from hermesd.ipc.link import DEFAULT_TIMING, Confirmed, Delivered, EpochOpened, Event, Link, Received, Refused
from hermesd.ipc.messages import Heartbeat, Hello, Kept, Logs, Message, Snapshot, Welcome
from hermesd.ipc.sockets import CurveClient, Dealer
from hermesd.workers.containment import identity as processes

from .bond import Bond, Verdict
from .patience import LOOK_EVERY

log = logging.getLogger("hermesd.worker.link")

HELLO_EVERY = 1.0
"""Seconds between hellos until one is answered, and while the worker has no keeper."""

WHOLE_SECONDS = 2.0
"""Heartbeats that are this far apart come at whole seconds of the system's clock, and hermesd has fewer wake-ups."""

TALK = 1.0
"""Seconds after a message in which more of them are expected."""

HELLO_AGAIN = 0.02
"""Seconds until the next try when a connection that was made this moment does not take the hello yet."""

WATCHDOG_EXTRA = 3.0
"""Seconds that the watchdog waits longer than this thread: it is for a worker in which this thread cannot run."""

LOGS_UNDER_WAY = 4
"""Frames of log records that are sent and not acknowledged: the rest of the window is for what people wait for."""

LAST_LOGS = 400
"""Frames of them at the end, when nobody waits for anything else."""


@dataclass(frozen=True, slots=True)
class Unsendable:
    """A message that the wire cannot carry, for its size for one; it was dropped."""

    message: Message
    error: LocalError


class LogSource(Protocol):
    """Where the link thread takes finished log records from. Implemented by `hermesd.workers.logs.WireHandler`."""

    def notify(self, call: Callable[[], None]) -> None: ...

    def take(self, now: float, *, ending: bool = False) -> Logs | None: ...

    def due(self, now: float) -> float | None: ...


class Output(Protocol):
    """Something printed that the link thread reads. Implemented by `hermesd.workers.capture.Capture`."""

    descriptor: int

    def read(self) -> bool: ...

    def tick(self, now: float) -> None: ...

    def flush(self) -> None: ...


class Watchdog(Protocol):
    """Ends the process if it is not wound up again in time. Implemented by `hermesd.workers.watchdog.Watchdog`."""

    def wind_up(self, seconds: float) -> None: ...

    def let_go(self) -> None: ...


class LinkThread:
    """``on_event`` is called on the event loop's thread through ``call_soon``, once per delivered event.

    Each `EpochOpened` among them has to be answered by posting a `Snapshot`; what is posted before it, and is not
    durable, is dropped, for the snapshot tells it. ``on_abandoned`` is called here, when neither keeper nor supervisor
    is there any more, and does not return.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        identity: str,
        link: Link,
        hello: Hello,
        heartbeat: float,
        idle_heartbeat: float,
        call_soon: Callable[[Callable[[], None]], object],
        on_event: Callable[[Event | Unsendable], None],
        logs: LogSource,
        keeper_pidfd: int,
        adopt_timeout: float,
        watchdog: Watchdog,
        on_abandoned: Callable[[], None],
        captures: Sequence[Output],
        security: CurveClient | None = None,
    ):
        self._pid = os.getpid()
        self._link = link
        self._hello = hello
        self._heartbeat = heartbeat
        self._idle_heartbeat = idle_heartbeat
        self._call_soon = call_soon
        self._on_event = on_event
        self._logs = logs
        self._keeper_pidfd = keeper_pidfd
        self._adopt_timeout = adopt_timeout
        self._bond = Bond(adopt_timeout)
        self._watchdog = watchdog
        self._on_abandoned = on_abandoned
        self._captures = {capture.descriptor: capture for capture in captures}
        self._outgoing: deque[Message] = deque()
        self._turn = ""
        self._welcomed = False  # once in its life
        self._answered = False  # the supervisor has spoken on the present connection
        self._connections = 0
        self._next_hello = 0.0
        self._snapshots_due = 0
        self._next_beat = 0.0
        self._guard = threading.Lock()  # of the link: held by the thread but while it waits, or by a `post`
        self._sleeps_until = -math.inf
        self._talked_at = -math.inf
        self._arrived: deque[Event | Unsendable] = deque()
        self._delivery_due = False
        self._logs_under_way = 0
        self._loop_asked = False
        self._loop_asked_at = 0.0
        self._stopping = threading.Event()
        self._flush_seconds = 0.0
        self._deadline = math.inf
        self._dealer = Dealer(endpoint, identity.encode(), security=security)
        logs.notify(self._dealer.wake)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # ---- called from the main thread ---------------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Send a message; returns at once. Order among posts is kept."""
        if not self._send_at_once(message):
            self._outgoing.append(message)
            self._dealer.wake()

    def _send_at_once(self, message: Message) -> bool:
        """Spare it the way through the thread, which costs more than all the rest, when nothing else is under way.

        The messages of a burst go through the queue: there text merges into few frames.
        """
        if os.getpid() != self._pid or not self._guard.acquire(blocking=False):
            return False
        try:
            if self._outgoing or self._snapshots_due or self._stopping.is_set():
                return False
            if not (self._is_open() and self._link.is_at_rest):
                return False
            try:
                self._link.send(message)
            except LocalError:
                return False  # the thread comes to the same, and tells
            now = self._talked_at = time.monotonic()
            self._link.flush(now, self._dealer.send)
            due = self._link.due()
            if due is not None and due < self._sleeps_until:
                self._dealer.wake()
            else:
                self._dealer.look_again()
            return True
        finally:
            self._guard.release()

    @property
    def backlog(self) -> int:
        """Messages that are not on the wire yet; an agent that streams faster than this drains waits."""
        return len(self._outgoing) + self._link.queued

    def turn_is(self, turn: str) -> None:
        """Tell which turn runs, "" for none; the heartbeat reports it and beats faster while one does."""
        self._turn = turn
        self._next_beat = 0.0
        self._dealer.wake()

    def stop(self, timeout: float) -> None:
        """Send what is left for at most ``timeout`` seconds, then end the thread."""
        self._flush_seconds = timeout
        self._stopping.set()
        self._dealer.wake()
        self._thread.join(timeout + 1.0)

    # ---- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        # The thread that takes the signal writes the dump, and reads the others' stacks while they run on: only its own
        # is sure to be whole. The main thread is to take it, whose stack says where the agent is.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
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
        flushed = False
        # The first hello goes out when the connection is made; this is for one whose making was not told.
        self._next_hello = time.monotonic() + HELLO_EVERY
        while True:
            if self._stopping.is_set() and not flushed:
                flushed = True
                # From now on, when this thread has come to it: what it sends last must not be dropped by the close.
                self._deadline = time.monotonic() + self._flush_seconds
                for capture in self._captures.values():
                    capture.flush()
            with self._guard:
                now = time.monotonic()
                self._say_hello(now)
                if self._welcomed:
                    self._queue_what_waits(now)
                if self._answered:
                    self._link.flush(now, self._dealer.send)
                if flushed and (now >= self._deadline or not self._unfinished()):
                    return self._dealer.close()
                due = self._sleeps_until = self._due(now)
            self._deliver()
            self._dealer.poll(max(0.0, due - now))
            now = time.monotonic()
            for descriptor in self._dealer.readable:
                if descriptor == self._keeper_pidfd:
                    self._dealer.unwatch(descriptor)
                    self._bond.keeper_died()
                    self._next_hello = now
                else:
                    self._captures[descriptor].read()
            with self._guard:
                for frame in self._dealer.recv_all():
                    self._receive(frame, now)
            self._look_after_itself(now)

    def _deliver(self) -> None:
        """Hand what has arrived to the main thread: last of all, for it waits for the interpreter's lock."""
        if self._arrived and not self._delivery_due:
            self._delivery_due = True
            self._call_soon(self._on_arrived)

    def _on_arrived(self) -> None:
        self._delivery_due = False
        for _ in range(len(self._arrived)):
            try:
                self._on_event(self._arrived.popleft())
            except Exception:
                log.exception("an event of the link could not be handled")

    def _due(self, now: float) -> float:
        """When something has to be done even if nothing happens."""
        due = [now + 60.0]
        if self._says_hello():
            due.append(self._next_hello)
        if self._bond.keeperless:
            due.append(now + LOOK_EVERY)
        if self._answered:
            link_due = self._link.due()
            if link_due is not None:
                due.append(link_due)
            if now - self._talked_at < TALK:
                # Not later than what a `post` would have to be sent again: so it need not wake this thread for that.
                due.append(now + DEFAULT_TIMING.resend)
        if self._is_open():
            due.append(self._next_beat)
            logs_due = self._logs.due(now) if self._logs_under_way < LOGS_UNDER_WAY else None
            if logs_due is not None:
                due.append(logs_due)
        if self._stopping.is_set():
            due.append(self._deadline)
        return min(due)

    def _is_open(self) -> bool:
        return self._answered and self._welcomed

    def _says_hello(self) -> bool:
        return not self._is_open() or self._bond.keeperless

    def _say_hello(self, now: float) -> None:
        if self._dealer.connections != self._connections:
            self._connections = self._dealer.connections
            self._answered = False
            self._next_hello = now
        elif not self._dealer.connected and self._answered:
            self._answered = False
            self._next_hello = now + HELLO_EVERY
        if self._says_hello() and now >= self._next_hello:
            sent = self._dealer.send(self._link.seal(replace(self._hello, epoch=self._link.epoch)))
            if self._dealer.connected and not sent:
                self._next_hello = now + HELLO_AGAIN
            elif self._bond.keeperless:
                self._next_hello = now + min(HELLO_EVERY, self._adopt_timeout / 4)
            else:
                self._next_hello = now + HELLO_EVERY

    def _receive(self, frame: bytes, now: float) -> None:
        heard = self._link.last_heard
        for event in self._link.receive(frame, now):
            self._take(event)
        if not self._answered and self._link.last_heard != heard:
            self._answered = True
            self._link.reconnected(now)
            self._next_beat = now  # a supervisor that has taken over does not know when the next one was due

    def _look_after_itself(self, now: float) -> None:
        match self._bond.look(self._link.last_heard, now):
            case Verdict.WIND_UP:
                self._watchdog.wind_up(self._adopt_timeout + WATCHDOG_EXTRA)
            case Verdict.END:
                self._on_abandoned()

    def _kept(self, message: Kept) -> None:
        """Watch another keeper from now on. One that is dead as well is none."""
        pidfd = processes.open_pidfd(processes.Identity(message.pid, message.start_ticks))
        if pidfd is None:
            log.warning("the keeper %d that this worker was told of is dead", message.pid)
            return
        if self._keeper_pidfd >= 0:
            if not self._bond.keeperless:
                self._dealer.unwatch(self._keeper_pidfd)
            os.close(self._keeper_pidfd)
        self._keeper_pidfd = pidfd
        self._dealer.watch(pidfd)
        if self._bond.keeperless:
            self._bond.kept()
            self._watchdog.let_go()

    def _unfinished(self) -> bool:
        statistics = self._link.statistics()
        return bool(self._outgoing or statistics.queued or statistics.unacknowledged)

    def _take(self, event: Event) -> None:
        match event:
            case Received(message=Welcome()):
                self._welcomed = True
            case Received(message=Kept() as kept):
                self._kept(kept)
            case EpochOpened(dropped=dropped):
                self._snapshots_due += 1
                for message in dropped:
                    if isinstance(message, Logs):
                        self._link.send(message)
                self._arrived.append(event)
            case Delivered(message=Logs()):
                self._logs_under_way -= 1
            case Received() | Confirmed():
                self._talked_at = time.monotonic()
                self._arrived.append(event)
            case Refused(error=error):
                log.warning("dropped a frame of the supervisor: %s", error)

    def _queue_what_waits(self, now: float) -> None:
        while self._outgoing:
            message = self._outgoing.popleft()
            if self._snapshots_due and not message.DURABLE:
                self._snapshots_due -= isinstance(message, Snapshot)
                if self._snapshots_due or not isinstance(message, Snapshot):
                    continue
            try:
                self._link.send(message)
            except LocalError as error:
                self._arrived.append(Unsendable(message, error))
        for capture in self._captures.values():
            capture.tick(now)
        if not self._answered:
            return
        if now >= self._next_beat:
            self._next_beat = next_beat(now, self._heartbeat if self._turn else self._idle_heartbeat)
            self._beat(now, self._next_beat - now)
        ending = self._stopping.is_set()
        # Bounded at the end, too: a thread of the agent may go on logging.
        for _ in range(LAST_LOGS if ending else LOGS_UNDER_WAY - self._logs_under_way):
            batch = self._logs.take(now, ending=ending)
            if batch is None:
                break
            self._link.send(batch)
            self._logs_under_way += 1

    def _beat(self, now: float, next_in: float) -> None:
        age = now - self._loop_asked_at if self._loop_asked else 0.0
        if self._turn and not self._loop_asked:
            self._loop_asked, self._loop_asked_at = True, now
            self._call_soon(self._loop_ran)
        self._link.send(Heartbeat(self._turn, age, time.process_time(), next_in))

    def _loop_ran(self) -> None:
        self._loop_asked = False


def next_beat(now: float, every: float) -> float:
    """When the heartbeat after the one at ``now`` is due, in seconds of the same clock."""
    return now + every if every < WHOLE_SECONDS else math.floor(now + every)
