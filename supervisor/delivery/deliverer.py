"""Takes rows from the outbox to the adapters, one at a time per chat, and writes down what became of each.

A row is *sending* on disk before the platform is called and *sent* after it said yes; what lies between when hermesd
dies is ambiguous. At the next start it goes again with a mark, and so does a call that was cut, for an answer that may
come twice is better than one that may never come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hermesd.adapters.contract import Adapter, CanNotice, CanStream, Outbound, Target, capability
from hermesd.adapters.errors import AdapterError, DeliveryError, Retry, Unattended, Uncertain
from hermesd.supervisor.journal import Journal, outbox
from hermesd.supervisor.journal.errors import IllegalTransition, JournalError
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import UNCERTAIN, OutboxRow
from hermesd.supervisor.journal.states import OutboxState
from hermesd.supervisor.tasks import Tasks

from .absence import Absence, Lane

log = logging.getLogger("hermesd.delivery")

PERHAPS_AGAIN = "(You may have got this before: it is not known whether an earlier try arrived.)"


class Deliverer:
    """``adapters`` is the app's live map: a platform that is missing from it keeps its rows until it is there."""

    def __init__(self, journal: Journal, adapters: Mapping[str, Adapter], tasks: Tasks):
        self._journal = journal
        self._adapters = adapters
        self._tasks = tasks
        self._persistence = Persistence(journal, tasks)
        self._absence = Absence(self._persistence, tasks, self.deliver)
        self._lanes: dict[Lane, deque[OutboxRow]] = {}
        self._watchers: dict[int, list[asyncio.Future[None]]] = {}
        self._resting: dict[int, asyncio.Event] = {}  # rows that wait for their next try
        self._early: list[tuple[Target, str]] | None = None
        self._held: list[OutboxRow] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def recover(self) -> None:
        """Mark what an earlier life was sending when it ended. Called once, before this one sends anything.

        Text of running answers is kept back from here on until `take_up`, for the ways in that it is for, and whole
        messages are, because older ones of their chats go first.
        """
        self._early, self._held = [], []
        now = time.time()
        for row in await self._journal.write(outbox.recover, now):
            # No adapter of ours can be asked what it has, nor repeat a send without a double.
            log.warning("outbox row %d to %s goes again, marked: %s", row.id, row.target.platform, row.error)
            await self._persistence.write(outbox.postponed, row.id, now, UNCERTAIN, now)

    async def take_up(self) -> None:
        """Send what an earlier life left; called once, after the adapters have started."""
        early, self._early = self._early or [], None
        for target, text in early:
            self.stream(target, text)
        pending = await self._journal.read(outbox.by_state, OutboxState.PENDING, -1)
        held, self._held = self._held or [], None
        known = {row.id for lane in self._lanes.values() for row in lane}
        self.deliver(row for row in pending if row.id not in known and row.target.platform in self._adapters)
        known |= {row.id for row in pending}
        self.deliver(row for row in held if row.id not in known)

    def deliver(self, rows: Iterable[OutboxRow]) -> None:
        """Send rows that are in the outbox already, each after those of its chat before it."""
        if self._held is not None:
            self._held += rows
            return
        for row in rows:
            if row.state is not OutboxState.PENDING:
                continue  # the same message again, which has gone its way before
            key = _lane_of(row.target)
            if self._absence.holds(key, row):
                continue
            lane = self._lanes.get(key)
            if lane is None:
                self._lanes[key] = lane = deque()
                self._idle.clear()
                self._tasks.job(self._run_lane(key, lane), f"deliver {row.target.platform}:{row.target.chat_id}")
            lane.append(row)

    def attended(self, target: Target) -> None:
        """Somebody looks at this chat now: what waited for that goes, before what comes later."""
        self._absence.end(_lane_of(target))

    async def say(self, target: Target, message: Outbound, *, turn: str = "") -> None:
        """Put a message into the outbox and send it. Returns once it is on disk."""
        self.deliver([await self._journal.write(outbox.add, target, message, time.time(), turn=turn)])

    def say_soon(self, target: Target, message: Outbound, turn: str = "") -> None:
        """The same for a caller who does not wait; a full disk only delays it."""
        written = self._persistence.keep(outbox.add, target, message, time.time(), turn=turn)

        async def deliver() -> None:
            if (row := await written) is not None:
                self.deliver([row])

        self._tasks.job(deliver(), f"say {message.key}")

    async def retry(self, outbox_id: int) -> OutboxRow:
        """Send a failed or ambiguous row again, on request. Raises `IllegalTransition` or `UnknownRow`."""
        row = await self._journal.write(outbox.retried, outbox_id, time.time())
        self.deliver([row])
        return row

    async def drop(self, outbox_id: int, reason: str) -> None:
        """Give a row up that is not sent yet, on request. Raises `IllegalTransition` or `UnknownRow`."""
        await self._journal.write(outbox.dropped, outbox_id, reason, time.time())
        if (resting := self._resting.get(outbox_id)) is not None:
            resting.set()

    def watch(self, row: OutboxRow) -> asyncio.Future[None]:
        """Done when there is nothing more to wait for: it was sent or given up, or its way in is not up."""
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if row.state is OutboxState.PENDING:
            self._watchers.setdefault(row.id, []).append(watcher)
        else:
            watcher.set_result(None)
        return watcher

    def _left_its_lane(self, row: OutboxRow) -> None:
        for watcher in self._watchers.pop(row.id, ()):
            if not watcher.done():
                watcher.set_result(None)

    def stream(self, target: Target, text: str) -> None:
        """More text of a running answer, for ways in that show it as it comes."""
        if self._early is not None:
            self._early.append((target, text))
        elif (adapter := capability(self._adapters.get(target.platform), CanStream)) is not None:
            adapter.stream(target, text)

    def notice(self, target: Target, text: str) -> bool:
        """A passing word beside the conversation. False: this way in cannot show one."""
        adapter = capability(self._adapters.get(target.platform), CanNotice)
        if adapter is None:
            return False
        adapter.notice(target, text)
        return True

    async def wait_idle(self, timeout: float) -> bool:
        """True when nothing is on its way any more."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def _run_lane(self, key: Lane, lane: deque[OutboxRow]) -> None:
        try:
            while lane and not self._absence.holds(key, lane):
                again = None
                try:
                    again = await self._send(lane[0])
                except IllegalTransition as error:
                    log.warning("outbox row %d is not sent: %s", lane[0].id, error)  # it was given up meanwhile
                except JournalError:
                    # The row is not what this lane thinks: it stays as it is, and the ones behind it go on.
                    log.exception("outbox row %d cannot be sent", lane[0].id)
                if again is None:
                    self._left_its_lane(lane.popleft())
                else:
                    lane[0] = again
        finally:
            del self._lanes[key]
            if not self._lanes:
                self._idle.set()

    async def _send(self, row: OutboxRow) -> OutboxRow | None:
        """One attempt. Returns the row, as it is now, if it is still the next one of its lane."""
        adapter = self._adapters.get(row.target.platform)
        if adapter is None:
            # Its way in is down, or no longer configured: the row stays as it is, and a later start takes it up.
            log.warning("outbox row %d waits: %s is not up", row.id, row.target.platform)
            return None
        if (early := row.next_try_at - time.time()) > 0:
            await self._rest(row, early)
        await self._persistence.write(outbox.sending, row.id, time.time())
        message = row.message
        if row.uncertain:
            message = replace(message, text=f"{PERHAPS_AGAIN}\n\n{message.text}")
        try:
            sent = await adapter.send(row.target, message)
        except (Retry, Uncertain) as error:
            # The mark must outlive this hermesd as well, and every later try.
            uncertain = row.uncertain or isinstance(error, Uncertain)
            why = f"{UNCERTAIN}; {error}" if uncertain else str(error)
            row = replace(row, next_try_at=time.time() + error.after, error=why)
            await self._persistence.write(outbox.postponed, row.id, row.next_try_at, why, time.time())
            return row
        except Unattended as error:
            await self._absence.begin(row, f"{UNCERTAIN}; {error}" if row.uncertain else str(error))
            return None
        except (DeliveryError, AdapterError) as error:
            log.info("outbox row %d was not delivered: %s", row.id, error)
            why = f"{UNCERTAIN}; {error}" if row.uncertain else str(error)
            await self._persistence.write(outbox.failed, row.id, why, time.time())
            return None
        except Exception as error:  # an adapter's fault must not stop the lane; nobody knows whether it was sent
            log.exception("outbox row %d: the adapter of %s failed", row.id, row.target.platform)
            await self._persistence.write(outbox.ambiguous, row.id, f"{type(error).__name__}: {error}", time.time())
            return None
        await self._persistence.write(outbox.sent, row.id, sent.message_id, time.time())
        return None

    async def _rest(self, row: OutboxRow, seconds: float) -> None:
        """Until the next try; `drop` ends it early, so that those behind need not wait for it."""
        woken = self._resting[row.id] = asyncio.Event()
        try:
            await asyncio.wait_for(woken.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            del self._resting[row.id]


def _lane_of(target: Target) -> Lane:
    return target.platform, target.chat_id, target.thread_id
