"""Takes rows from the outbox to the adapters, one at a time per chat, and writes down what became of each.

A row is *sending* on disk before the platform is called and *sent* after it said yes; what lies between when hermesd
dies is ambiguous. At the next start it goes again with a mark, for an answer that may come twice is better than one
that may never come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hermesd.adapters.contract import Adapter, CanNotice, CanStream, Outbound, Target, capability
from hermesd.adapters.errors import AdapterError, DeliveryError, Retry
from hermesd.supervisor.journal import Journal, outbox
from hermesd.supervisor.journal.errors import JournalError
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import OutboxRow
from hermesd.supervisor.journal.states import OutboxState
from hermesd.supervisor.tasks import Tasks

log = logging.getLogger("hermesd.delivery")

UNCERTAIN = "an earlier try was cut: the platform may have it"
"""The error of a row that goes again all the same."""

PERHAPS_AGAIN = "(You may have got this before: hermesd ended while it was sending it.)"

_Lane = tuple[str, str, str]


class Deliverer:
    """``adapters`` is the app's live map: a platform that is missing from it keeps its rows until it is there."""

    def __init__(self, journal: Journal, adapters: Mapping[str, Adapter], tasks: Tasks):
        self._journal = journal
        self._adapters = adapters
        self._tasks = tasks
        self._persistence = Persistence(journal, tasks)
        self._lanes: dict[_Lane, deque[OutboxRow]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def recover(self) -> None:
        """Take up what an earlier life left; called once, after the adapters have started."""
        now = time.time()
        for row in await self._journal.write(outbox.recover, now):
            # No adapter of ours can be asked what it has, nor repeat a send without a double.
            log.warning("outbox row %d to %s goes again, marked: %s", row.id, row.target.platform, row.error)
            await self._persistence.write(outbox.postponed, row.id, now, UNCERTAIN, now)
        pending = await self._journal.read(outbox.by_state, OutboxState.PENDING, -1)
        known = {row.id for lane in self._lanes.values() for row in lane}
        self.deliver(row for row in pending if row.id not in known and row.target.platform in self._adapters)

    def deliver(self, rows: Iterable[OutboxRow]) -> None:
        """Send rows that are in the outbox already, each after those of its chat before it."""
        for row in rows:
            if row.state is not OutboxState.PENDING:
                continue  # the same message again, which has gone its way before
            key = (row.target.platform, row.target.chat_id, row.target.thread_id)
            lane = self._lanes.get(key)
            if lane is None:
                self._lanes[key] = lane = deque()
                self._idle.clear()
                self._tasks.job(self._run_lane(key, lane), f"deliver {row.target.platform}:{row.target.chat_id}")
            lane.append(row)

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

    def stream(self, target: Target, text: str) -> None:
        """More text of a running answer, for ways in that show it as it comes."""
        if (adapter := capability(self._adapters.get(target.platform), CanStream)) is not None:
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

    async def _run_lane(self, key: _Lane, lane: deque[OutboxRow]) -> None:
        try:
            while lane:
                try:
                    done = await self._send(lane[0])
                except JournalError:
                    # The row is not what this lane thinks: it stays as it is, and the ones behind it go on.
                    log.exception("outbox row %d cannot be sent", lane[0].id)
                    done = True
                if done:
                    lane.popleft()
        finally:
            del self._lanes[key]
            if not self._lanes:
                self._idle.set()

    async def _send(self, row: OutboxRow) -> bool:
        """One attempt. False: the row is still the next one of its lane."""
        adapter = self._adapters.get(row.target.platform)
        if adapter is None:
            # Its way in is down, or no longer configured: the row stays as it is, and a later start takes it up.
            log.warning("outbox row %d waits: %s is not up", row.id, row.target.platform)
            return True
        if (early := row.next_try_at - time.time()) > 0:
            await asyncio.sleep(early)
        await self._persistence.write(outbox.sending, row.id, time.time())
        uncertain = row.error == UNCERTAIN
        message = replace(row.message, text=f"{PERHAPS_AGAIN}\n\n{row.message.text}") if uncertain else row.message
        try:
            sent = await adapter.send(row.target, message)
        except Retry as error:
            next_try = time.time() + error.after
            # The mark must outlive this hermesd as well.
            await self._persistence.write(
                outbox.postponed, row.id, next_try, UNCERTAIN if uncertain else str(error), time.time()
            )
            await asyncio.sleep(error.after)
            return False
        except (DeliveryError, AdapterError) as error:
            log.info("outbox row %d was not delivered: %s", row.id, error)
            await self._persistence.write(outbox.failed, row.id, str(error), time.time())
            return True
        except Exception as error:  # an adapter's fault must not stop the lane; nobody knows whether it was sent
            log.exception("outbox row %d: the adapter of %s failed", row.id, row.target.platform)
            await self._persistence.write(outbox.ambiguous, row.id, f"{type(error).__name__}: {error}", time.time())
            return True
        await self._persistence.write(outbox.sent, row.id, sent.message_id, time.time())
        return True
