"""Takes messages from the outbox to the adapters, one at a time per chat, and writes down what became of each.

A row is *sending* on disk before the platform is called and *sent* after it said yes; what lies between when hermesd
dies is ambiguous. At the next start it goes again with a mark, and so does a call that was cut, for an answer that may
come twice is better than one that may never come. Where a second call is harmless, it needs no mark.

A chat whose next message has to wait (for the platform's rates, for its own next try) is *parked*: a timer and no task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from hermesd.adapters.contract import Adapter, CanNotice, CanStream, Outbound, Target, capability
from hermesd.adapters.errors import AdapterError, Retry
from hermesd.adapters.media.download import AddressJudge, is_public
from hermesd.supervisor.journal import Journal, outbox, progress
from hermesd.supervisor.journal.errors import IllegalTransition, JournalError
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import OutboxRow
from hermesd.supervisor.journal.states import OutboxState
from hermesd.supervisor.tasks import Tasks

from .absence import Absence, Lane
from .albums import joined, receipts, together
from .asides import Asides
from .attempt import Away, Later, Lost, Outcome, Sent, Unknown, attempt
from .parts import PERHAPS_AGAIN, parts_of
from .preparation import Preparation, Prepared
from .questions import Questions
from .rates import Rates, backed_off
from .settings import DeliverySettings
from .stale import Stale
from .streams import Streams

__all__ = ["PERHAPS_AGAIN", "Deliverer"]

log = logging.getLogger("hermesd.delivery")


@dataclass(slots=True, eq=False)
class _Lane:
    """The messages to one thread of one chat. It runs, or is parked, or is not there."""

    key: Lane
    rows: deque[OutboxRow] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    given_up: int = 0  # its first row, if that is not to be sent any more
    booked: float = 0.0  # the time of its token of the platform's, 0: it has none
    failures: int = 0  # of its first row, in a row
    denied: bool = False  # it waits for its platform to accept us


class Deliverer:
    """``adapters`` is the app's live map: a platform that is missing from it keeps its rows until it is there, and
    ``on_missing`` is told its name; ``may_return`` knows whether it will come back by itself. ``on_denied`` is told of
    one that does not accept who we are, and why. ``clock``: Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        adapters: Mapping[str, Adapter],
        tasks: Tasks,
        settings: DeliverySettings | None = None,
        *,
        may_fetch: AddressJudge = is_public,
        on_missing: Callable[[str], None] = lambda platform: None,
        on_denied: Callable[[str, AdapterError], None] = lambda platform, error: None,
        may_return: Callable[[str], bool] = lambda platform: False,
        clock: Callable[[], float] = time.time,
    ):
        settings = settings or DeliverySettings()
        self._journal = journal
        self._adapters = self.adapters = adapters
        self._tasks = tasks
        self._on_missing = on_missing
        self._on_denied = on_denied
        self._may_return = may_return
        self._clock = clock
        self._persistence = Persistence(journal, tasks)
        self._rates: dict[str, Rates] = {}
        self.streams = Streams(journal, adapters, tasks, settings, self._rates_of, self._is_waited_for)
        self._preparation = Preparation(journal, self.streams, settings, may=may_fetch)
        asides = Asides(adapters, tasks, self._rates_of)
        self._stale = Stale(asides, self._persistence)
        self.questions = Questions(journal, adapters, tasks, asides)
        self._absence = Absence(self._persistence, tasks, self.deliver)
        self._lanes: dict[Lane, _Lane] = {}
        self._watchers: dict[int, list[asyncio.Future[None]]] = {}
        self._awaiting: dict[int, str] = {}  # messages with watchers that wait for a platform to return, by row
        self._early: list[Callable[[], None]] | None = None
        self._held: list[OutboxRow] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def reconfigure(self, settings: DeliverySettings) -> None:
        """Go by other settings from the next message and the next answer on."""
        self._preparation.settings = settings
        self.streams.reconfigure(settings)

    # ---- from one life to the next -----------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Mark what an earlier life was sending when it ended. Called once, before this one sends anything.

        Text of running answers is kept back from here on until `take_up`, for the ways in that it is for, and whole
        messages are, because older ones of their chats go first.
        """
        self._early, self._held = [], []
        now = self._clock()
        for row in await self._journal.write(outbox.recover, now):
            log.warning("outbox row %d to %s goes again: %s", row.id, row.target.platform, row.error)
            await self._persistence.write(outbox.postponed, row.id, now, row.doubt, now)

    async def take_up(self) -> None:
        """Send what an earlier life left; called once, after the adapters have started."""
        early, self._early = self._early or [], None
        for say in early:
            say()
        pending = await self._journal.read(outbox.by_state, OutboxState.PENDING, -1)
        held, self._held = self._held or [], None
        known = self._on_their_way()
        self.deliver(row for row in pending if row.id not in known and row.target.platform in self._adapters)
        for platform in {row.target.platform for row in pending} - set(self._adapters):
            self._on_missing(platform)
        known |= {row.id for row in pending}
        self.deliver(row for row in held if row.id not in known)
        self._stale.take_back(await self._journal.write(progress.stale))
        await self.questions.take_up()

    async def platform_up(self, name: str) -> None:
        """A platform can be sent to again: send what has waited for it."""
        if self._held is not None:
            return  # `take_up` comes, and finds it up
        pending = await self._journal.read(outbox.by_state, OutboxState.PENDING, -1)
        known = self._on_their_way()
        self.deliver(row for row in pending if row.target.platform == name and row.id not in known)
        for lane in [lane for lane in self._lanes.values() if lane.denied and lane.key[0] == name]:
            for index, row in enumerate(together(lane.rows)):
                lane.rows[index] = replace(row, next_try_at=0.0)
            self._wake(lane)
        self._stale.take_back([row for row in await self._journal.write(progress.stale) if row.target.platform == name])
        await self.questions.take_up()

    def platform_gone(self, name: str) -> None:
        """It will not come back by itself: nobody need wait to see what becomes of a message to it."""
        for message in [message for message, platform in self._awaiting.items() if platform == name]:
            self._tell(message)

    def _on_their_way(self) -> set[int]:
        return {row.id for lane in self._lanes.values() for row in lane.rows}

    # ---- messages ----------------------------------------------------------------------------------------------------

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
                lane = self._lanes[key] = _Lane(key)
                self._idle.clear()
            lane.rows.append(row)
            if lane.task is None and lane.timer is None:
                self._start(lane)

    def attended(self, target: Target) -> None:
        """Somebody looks at this chat now: what waited for that goes, before what comes later."""
        self._absence.end(_lane_of(target))

    async def say(self, target: Target, message: Outbound, *, turn: str = "") -> None:
        """Put a message into the outbox and send it. Returns once it is on disk."""
        self.deliver([await self._journal.write(outbox.add, target, message, self._clock(), turn=turn)])

    def say_soon(self, target: Target, message: Outbound, turn: str = "") -> None:
        """The same for a caller who does not wait; a full disk only delays it."""
        written = self._persistence.keep(outbox.add, target, message, self._clock(), turn=turn)

        async def deliver() -> None:
            if (row := await written) is not None:
                self.deliver([row])

        self._tasks.job(deliver(), f"say {message.key}")

    async def retry(self, outbox_id: int) -> OutboxRow:
        """Send a failed or ambiguous row again, on request. Raises `IllegalTransition` or `UnknownRow`."""
        row = await self._journal.write(outbox.retried, outbox_id, self._clock())
        self.deliver([row])
        return row

    async def drop(self, outbox_id: int, reason: str) -> None:
        """Give a row up that is not sent yet, on request. Raises `IllegalTransition` or `UnknownRow`."""
        await self._journal.write(outbox.dropped, outbox_id, reason, self._clock())
        for lane in self._lanes.values():
            if lane.rows and lane.rows[0].id == outbox_id:
                # Those behind it need not wait for it; if the platform thinks otherwise, it says so again.
                lane.given_up = outbox_id
                self._rates_of(lane.key[0]).reopen(lane.key[1])
                self._wake(lane)
                return

    def watch(self, row: OutboxRow) -> asyncio.Future[None]:
        """Done when there is nothing more to wait for: all its parts were sent or given up, or its way in is not up and
        will not be by itself.
        """
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if row.state is OutboxState.PENDING:
            self._watchers.setdefault(row.part_of or row.id, []).append(watcher)
        else:
            watcher.set_result(None)
        return watcher

    def closed_for(self, target: Target) -> float:
        """Seconds for which the platform wants no calls for this chat; for what nobody waits for."""
        return self._rates_of(target.platform).closed_for(target.chat_id, self._now())

    def heed(self, target: Target, error: Retry) -> None:
        """What the platform has said to a call of somebody else's."""
        self._rates_of(target.platform).heed(target.chat_id, error, self._now())

    async def wait_idle(self, timeout: float) -> bool:
        """True when nothing is on its way any more."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True

    # ---- answers that are being written ------------------------------------------------------------------------------

    def stream(self, target: Target, text: str, turn: str = "") -> None:
        """More text of a running answer: for ways in that show it as it comes, and for those that can edit."""
        if self._early is not None:
            self._early.append(lambda: self.stream(target, text, turn))
        elif (adapter := capability(self._adapters.get(target.platform), CanStream)) is not None:
            adapter.stream(target, text)
        elif turn:
            self.streams.text(turn, target, text)

    def adopt_stream(self, target: Target, text: str, turn: str, breaks: Sequence[int]) -> None:
        """All the text so far of an answer that an earlier life was showing; ``breaks``: where boundaries are in it."""
        if self._early is not None:
            self._early.append(lambda: self.adopt_stream(target, text, turn, breaks))
        elif (adapter := capability(self._adapters.get(target.platform), CanStream)) is not None:
            adapter.stream(target, text)
        else:
            self.streams.adopt(turn, target, text, breaks)

    def boundary(self, turn: str) -> None:
        """The agent calls a tool, asks, or sends something: what it says next stands below that."""
        if self._early is not None:
            self._early.append(lambda: self.boundary(turn))
        else:
            self.streams.boundary(turn)

    def abandon(self, turn: str, target: Target) -> None:
        """The turn is over and has no answer: what was shown of it stays."""

        async def end() -> None:
            self.deliver(await self.streams.abandon(turn, target, self._clock()))

        self._tasks.job(end(), f"end the progress of {turn}")

    def notice(self, target: Target, text: str) -> bool:
        """A passing word beside the conversation. False: this way in cannot show one."""
        adapter = capability(self._adapters.get(target.platform), CanNotice)
        if adapter is None:
            return False
        adapter.notice(target, text)
        return True

    # ---- the lanes ---------------------------------------------------------------------------------------------------

    def _start(self, lane: _Lane) -> None:
        platform, chat, _ = lane.key
        lane.task = self._tasks.job(self._run(lane), f"deliver {platform}:{chat}")

    def _park(self, lane: _Lane, seconds: float) -> None:
        lane.timer = asyncio.get_running_loop().call_later(seconds, self._wake, lane)

    def _wake(self, lane: _Lane) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
            self._start(lane)

    async def _run(self, lane: _Lane) -> None:
        """Until it is empty, or has to wait."""
        wait = 0.0
        try:
            while lane.rows and not wait and not self._absence.holds(lane.key, lane.rows):
                row = lane.rows[0]
                try:
                    wait = await self._advance(lane, row)
                except IllegalTransition as error:
                    log.warning("outbox row %d is not sent: %s", row.id, error)  # it was given up meanwhile
                    self._left(lane)
                except Exception:
                    # The row is not what this lane thinks, or its adapter what we think: it stays as it is on disk, and
                    # the ones behind it go on.
                    log.exception("outbox row %d cannot be sent", row.id)
                    self._left(lane)
        finally:
            lane.task = None
            if lane.rows and wait:
                self._park(lane, wait)
            else:
                del self._lanes[lane.key]
                if not self._lanes:
                    self._idle.set()

    async def _advance(self, lane: _Lane, row: OutboxRow) -> float:
        """One step for the next row. Returns for how many seconds the lane has to wait, 0 for not at all."""
        if row.id == lane.given_up:
            self._left(lane)
            return 0.0
        adapter = self._adapters.get(row.target.platform)
        if adapter is None:
            # Its way in is down, or no longer configured: the row stays, and goes when it is up.
            log.warning("outbox row %d waits: %s is not up", row.id, row.target.platform)
            self._on_missing(row.target.platform)
            self._left(lane, returns=self._may_return(row.target.platform))
            return 0.0
        if (early := row.next_try_at - self._clock()) > 0:
            return early
        if not row.part_of:
            if not await self._cut(lane, row, adapter):
                return 0.0
            rows = together(lane.rows)
        elif (wait := self._rate_wait(lane, row, adapter)) > 0:
            return wait
        elif not (rows := await self._begin(lane, adapter)):
            return 0.0
        lane.booked, now = 0.0, self._clock()
        row = joined(rows)
        ids = [one.id for one in rows]
        if (closed := self.closed_for(row.target)) > 0:  # while that was written
            await self._persistence.write(outbox.together, outbox.postponed, ids, now + closed, row.error, now)
            for index, one in enumerate(rows):
                lane.rows[index] = replace(one, next_try_at=now + closed)
            return closed
        lane.denied = False
        outcome = await attempt(adapter, row, partial(self._journal.read, outbox.ids_of_others, row.target, row.id))
        await self._conclude(lane, rows, row, outcome)
        return 0.0

    async def _conclude(self, lane: _Lane, rows: list[OutboxRow], row: OutboxRow, outcome: Outcome) -> None:
        """Write down what the call came to. ``row``: its ``rows``, the lane's first ones, as the one that was sent."""
        now, ids = self._clock(), [one.id for one in rows]
        match outcome:
            case Sent(message_id, anew, left, others):
                await self._persistence.write(outbox.sent_together, receipts(rows, message_id, others), now)
                await self._below(lane, row, anew, left)
                self._left(lane, len(rows))
                self.questions.sent(row, message_id)
            case Later(after, error, uncertain, edits, anew, left, denied, overall):
                # Before anything is written: nobody may call meanwhile.
                rates = self._rates_of(row.target.platform)
                if overall:
                    rates.close_all(self._now() + after)
                elif denied is None:  # it may be a fault of this message
                    lane.failures += 1
                    after = backed_off(after, lane.failures)
                    rates.close(row.target.chat_id, self._now() + after)
                # The mark must outlive this hermesd as well, and every later try.
                why = f"{row.doubt}; {error}" if uncertain else error
                if edits != row.platform_message_id:
                    await self._persistence.write(outbox.placeholder, row.id, edits)
                # Who is accepted again need not wait: another connection takes it from the disk.
                next_try_at = now if denied is not None else now + after
                await self._persistence.write(outbox.together, outbox.postponed, ids, next_try_at, why, now)
                for index, one in enumerate(rows):
                    lane.rows[index] = replace(one, next_try_at=now + after, error=why, platform_message_id=edits)
                await self._below(lane, row, anew, left)
                if denied is not None:
                    lane.denied = True
                    self._on_denied(row.target.platform, denied)
            case Away(error):
                for one in rows:
                    await self._absence.begin(one, f"{row.doubt}; {error}" if row.uncertain else error)
                self._left(lane, len(rows))
            case Lost(error, refused):
                why = f"{row.doubt}; {error}" if row.uncertain else error
                if refused and len(rows) > 1:
                    log.info("outbox rows %d to %d go one by one: %s", ids[0], ids[-1], error)
                    await self._persistence.write(outbox.together, outbox.apart, ids, why, now)
                    for index, one in enumerate(rows):
                        lane.rows[index] = replace(one, message=replace(one.message, album=""), error=why)
                else:
                    await self._persistence.write(outbox.together, outbox.failed, ids, why, now)
                    self._left(lane, len(rows))
            case Unknown(error):
                why = f"{row.doubt}; {error}" if row.begun else error
                await self._persistence.write(outbox.together, outbox.ambiguous, ids, why, now)
                self._left(lane, len(rows))

    async def _begin(self, lane: _Lane, adapter: Adapter) -> list[OutboxRow]:
        """What goes now, *sending* on disk. What was given up meanwhile is left out of its album."""
        takes_albums = adapter.capabilities(lane.rows[0].target).albums is not None
        rows = together(lane.rows) if takes_albums else [lane.rows[0]]
        if len(rows) == 1:
            await self._persistence.write(outbox.sending, rows[0].id, self._clock())
            return rows
        begun = set(await self._persistence.write(outbox.sending_together, [row.id for row in rows], self._clock()))
        if not begun:
            self._left(lane, len(rows))
            return []
        given_up = {row.id for row in rows} - begun
        lane.rows = deque(row for row in lane.rows if row.id not in given_up)
        return [row for row in rows if row.id in begun]

    async def _cut(self, lane: _Lane, row: OutboxRow, adapter: Adapter) -> bool:
        """Put the parts of a message in its place. True: the first of them may go at once, and is *sending* on disk."""
        try:
            prepared = await self._preparation.prepare(row, adapter)
        except JournalError:
            raise
        except Exception:  # whatever is wrong with its files, its text must come
            log.exception("outbox row %d is sent as it is", row.id)
            prepared = Prepared(parts_of(row.message, adapter.capabilities(row.target)).parts)
        parts = [(part.message, part.edits) for part in prepared.parts]
        # One commit instead of two, where nothing has to be taken back before the first part is sent.
        begin = not prepared.stale and self._rate_wait(lane, row, adapter) <= 0
        (first, *others), stale = await self._persistence.write(
            progress.end_in_parts,
            row.id,
            parts,
            prepared.ends,
            prepared.stale,
            self._clock(),
            uncertain=prepared.uncertain,
            begin=begin,
        )
        lane.rows.popleft()
        lane.rows.extendleft(reversed([first, *others]))
        self._stale.take_back(stale)
        return begin

    def _rate_wait(self, lane: _Lane, row: OutboxRow, adapter: Adapter) -> float:
        """Seconds until the platform's rates allow the call. 0: its tokens have been taken."""
        now = self._now()
        rates, chat = self._rates_of(row.target.platform), row.target.chat_id
        facts = adapter.capabilities(row.target)
        if lane.booked >= rates.closed_until(chat) and lane.booked:
            return max(0.0, lane.booked - now)
        if (free := rates.when(chat, facts, now)) > now:
            return free - now
        lane.booked = rates.book(chat, facts, now)
        return max(0.0, lane.booked - now)

    def _left(self, lane: _Lane, count: int = 1, *, returns: bool = False) -> None:
        """The first rows, which are of one message, have nothing more to wait for here. ``returns``: their platform is
        tried for, and then they go.
        """
        row = lane.rows.popleft()
        for _ in range(count - 1):
            lane.rows.popleft()
        lane.failures = 0
        message = row.part_of or row.id
        if lane.rows and row.part_of and lane.rows[0].part_of == row.part_of:
            return
        if not returns:
            self._tell(message)
        elif message in self._watchers:
            self._awaiting[message] = row.target.platform

    def _tell(self, message: int) -> None:
        self._awaiting.pop(message, None)
        for watcher in self._watchers.pop(message, ()):
            if not watcher.done():
                watcher.set_result(None)

    async def _below(self, lane: _Lane, row: OutboxRow, anew: bool, left: str) -> None:
        """A part that was to take a shown message's place stands below it: so must those after it."""
        if left:
            self._stale.take_back_one(row.target, left)
        for index, later in enumerate(list(lane.rows)):
            if anew and index and later.part_of == row.part_of and later.platform_message_id:
                await self._persistence.write(outbox.placeholder, later.id, "")
                lane.rows[index] = replace(later, platform_message_id="")
                self._stale.take_back_one(row.target, later.platform_message_id)

    def _is_waited_for(self, target: Target, turn: str) -> bool:
        """Whether a message of another turn is the next to this thread of this chat. Behind one of this turn's own,
        which may itself wait for what the turn has said before, it is no older.
        """
        lane = self._lanes.get(_lane_of(target))
        return lane is not None and bool(lane.rows) and lane.rows[0].turn != turn

    def _rates_of(self, platform: str) -> Rates:
        return self._rates.setdefault(platform, Rates())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _lane_of(target: Target) -> Lane:
    return target.platform, target.chat_id, target.thread_id
