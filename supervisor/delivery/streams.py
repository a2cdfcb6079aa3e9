"""Shows running answers on platforms that can edit: the shell around `progress`.

One call of a platform at a time for each answer, by whoever it is; between calls there is a timer and no task. Where
its messages are is written down (`journal.progress`), so that a later hermesd ends what this one began.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hermesd.adapters.contract import Adapter, CanEdit, CanFind, CanStream, Outbound, Target, capability
from hermesd.adapters.errors import AdapterError, Retry, Unauthorized, Uncertain
from hermesd.supervisor.journal import Journal, outbox
from hermesd.supervisor.journal import progress as kept
from hermesd.supervisor.journal.errors import JournalError
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import OutboxRow, ProgressRow
from hermesd.supervisor.tasks import Tasks

from . import progress
from .directives import Screen
from .rates import Rates
from .settings import DeliverySettings

log = logging.getLogger("hermesd.delivery")

LAST_CALL_SECONDS = 30.0
"""How long an answer's end waits for the call that is under way: an edit that comes late would undo the last one."""

SEEK_SECONDS = 60.0
"""For a platform to say under which id it has a message that was being sent when an earlier life ended."""

STILL_SECONDS = 10.0
"""How long a message of the agent's waits for what it said before to be shown."""

BEHIND_SECONDS = 0.1
"""Until it is looked again whether older messages of the same place have been sent."""


@dataclass(slots=True, eq=False)
class _Stream:
    """One running answer. ``early``: what came before it was known where an earlier life had shown it."""

    turn: str
    target: Target
    screen: Screen
    state: progress.State | None = None
    early: list[progress.Text | progress.Boundary] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    finding: asyncio.Task[None] | None = None
    call: asyncio.Task[None] | None = None
    ended: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)  # something has happened to it


class Streams:
    """Owned by the deliverer. ``rates_of``: the buckets of a platform, which messages use too.

    ``is_waited_for``: whether messages of other turns than this one go first to a place.
    """

    def __init__(
        self,
        journal: Journal,
        adapters: Mapping[str, Adapter],
        tasks: Tasks,
        settings: DeliverySettings,
        rates_of: Callable[[str], Rates],
        is_waited_for: Callable[[Target, str], bool] = lambda target, turn: False,
    ):
        self._journal = journal
        self._adapters = adapters
        self._tasks = tasks
        self._settings = settings
        self._rates_of = rates_of
        self._is_waited_for = is_waited_for
        self._persistence = Persistence(journal, tasks)
        self._streams: dict[str, _Stream] = {}

    def reconfigure(self, settings: DeliverySettings) -> None:
        """For answers that begin from now on."""
        self._settings = settings

    # ---- what the agent says

    def text(self, turn: str, target: Target, text: str) -> None:
        """More of the answer of a turn."""
        if (stream := self._stream(turn, target)) is not None:
            self._feed(stream, progress.Text(text))

    def boundary(self, turn: str) -> None:
        """What follows stands below what comes now: a tool's call, a question, a message of its own."""
        if (stream := self._streams.get(turn)) is not None and not stream.ended:
            self._feed(stream, progress.Boundary())

    def adopt(self, turn: str, target: Target, text: str, breaks: Sequence[int]) -> None:
        """The worker of an earlier life goes on: all of its text so far, with the boundaries in it."""
        at = 0
        for end in (*breaks, len(text)):
            self.text(turn, target, text[at:end])
            if end < len(text):
                self.boundary(turn)
            at = end

    def again(self, turn: str) -> None:
        """The turn is run once more: its text begins anew, in the messages that are there."""
        stream = self._streams.get(turn)
        if stream is None or stream.state is None:
            return
        self.end(turn)
        fresh = self._streams[turn] = _Stream(turn, stream.target, self._screen(stream.target))
        if stream.call is None:
            self._reopen(fresh, stream)
        else:
            stream.call.add_done_callback(lambda _: self._reopen(fresh, stream))

    def _reopen(self, fresh: _Stream, before: _Stream) -> None:
        """Go on in the messages of an earlier try."""
        assert before.state is not None
        shown = [one for one in before.state.messages if one.id and not one.dead]
        known = [progress.Known(one.begins, one.id, one.segment) for one in shown]
        if self._streams.get(fresh.turn) is fresh:
            self._open(fresh, (*known, *before.state.known), uncertain=before.state.uncertain)

    # ---- the end

    async def finish(self, turn: str, target: Target) -> progress.State | None:
        """No more progress: how the answer is shown now, by this life or an earlier one. None: not at all."""
        stream = self._streams.get(turn)
        if stream is not None:
            self.end(turn)
            if stream.finding is not None:
                # A second search would have a row of its own for what both find, which nobody would ever finish.
                await asyncio.wait([stream.finding])
            if stream.call is not None:
                await asyncio.wait([stream.call], timeout=LAST_CALL_SECONDS)
            if stream.state is not None:
                state = await self._with_unknown(stream.state, turn, target)
                self._streams.pop(turn, None)
                return state
        rows, uncertain = await self._of_turn(turn, target)
        self._streams.pop(turn, None)
        if not rows and not uncertain:
            return None
        return progress.restored(self._style(target), [_known(row) for row in rows], uncertain=uncertain)

    def end(self, turn: str) -> None:
        """The turn is over: nothing more is shown of it but its answer."""
        if (stream := self._streams.get(turn)) is not None and not stream.ended:
            stream.ended = True
            stream.moved.set()
            self._hush(stream)
            if stream.state is not None:
                stream.state, _ = progress.step(stream.state, progress.End(), self._now())

    async def abandon(self, turn: str, target: Target, now: float) -> list[OutboxRow]:
        """The turn is over and nobody gets an answer: what is shown stays, without the cursor. Returns the edits that
        make it so. ``now``: Unix seconds.
        """
        state = await self.finish(turn, target)
        shown = [one for one in state.messages if one.id and not one.dead] if state is not None else []
        ends = [(one.id, text) for one in shown if (text := one.text.rstrip()) and one.shown != text]
        return await self._persistence.keep(kept.end_in_place, turn, target, ends, now) or []

    async def still(self, turn: str) -> None:
        """Wait until what was said before the last boundary is shown, so that what comes next stands below it; not for
        ever, for a platform may be slow, but for as long as it wants no calls.
        """
        stream = self._streams.get(turn)
        if stream is None:
            return
        target, until = stream.target, self._now() + STILL_SECONDS
        while not stream.ended and not (stream.state is not None and progress.is_still(stream.state)):
            if closed := self._rates_of(target.platform).closed_for(target.chat_id, self._now()):
                until = max(until, self._now() + closed + STILL_SECONDS)
            stream.moved.clear()
            try:
                async with asyncio.timeout_at(until):
                    await stream.moved.wait()
            except TimeoutError:
                return

    # ---- inside

    def _stream(self, turn: str, target: Target) -> _Stream | None:
        stream = self._streams.get(turn)
        if stream is not None:
            return None if stream.ended else stream
        adapter = self._adapters.get(target.platform)
        if not self._settings.streaming.enabled or capability(adapter, CanEdit) is None:
            return None
        if capability(adapter, CanStream) is not None:
            return None
        stream = self._streams[turn] = _Stream(turn, target, self._screen(target))
        stream.finding = self._tasks.job(self._find(stream), f"progress of {turn}")
        return stream

    def _screen(self, target: Target) -> Screen:
        adapter = self._adapters.get(target.platform)
        return Screen(images=adapter is not None and adapter.capabilities(target).max_file_bytes > 0)

    async def _find(self, stream: _Stream) -> None:
        """Whether an earlier life has shown something of it."""
        try:
            rows, uncertain = await self._of_turn(stream.turn, stream.target)
        except JournalError as error:
            log.warning("the progress of %s is not shown: %s", stream.turn, error)
            stream.ended = True
            stream.moved.set()
            return
        if self._streams.get(stream.turn) is stream:
            self._open(stream, [_known(row) for row in rows], uncertain=uncertain)

    async def _of_turn(self, turn: str, target: Target) -> tuple[list[ProgressRow], bool]:
        """What an earlier life has shown of it, and whether something may be there besides that it was just sending."""
        uncertain = False
        for row in await self._journal.read(kept.announced, turn):
            adapter = self._adapters.get(target.platform)
            if adapter is not None and not _knows_again(adapter, target):
                uncertain = True
                continue
            try:
                found = await self._sent_again(row)
            except Uncertain as error:
                log.info("what was shown last of %s may be there: %s", turn, error)
                uncertain = True
                continue
            if found:
                await self._persistence.write(kept.keep, replace(row, message_id=found, text=""))
            elif found is not None:
                await self._persistence.write(kept.retract, turn, row.number)
        return await self._journal.read(kept.of_turn, turn), uncertain

    async def _with_unknown(self, state: progress.State, turn: str, target: Target) -> progress.State:
        """A call that failed may have shown its message all the same: with the ids of those, where they can be had."""
        announced = {row.number for row in await self._journal.read(kept.announced, turn)}
        if not announced:
            return state
        rows, uncertain = await self._of_turn(turn, target)
        state = progress.found(state, {row.number: row.message_id for row in rows if row.number in announced})
        return replace(state, uncertain=state.uncertain or uncertain)

    async def _sent_again(self, row: ProgressRow) -> str | None:
        """The id of a message that may be there already; "" where there is none to be had, None for not now. Raises
        `Uncertain`.
        """
        until = self._now() + SEEK_SECONDS
        while (adapter := self._adapters.get(row.target.platform)) is not None and self._now() < until:
            rates, now, facts = self._rates_of(row.target.platform), self._now(), adapter.capabilities(row.target)
            if (free := rates.spare(row.target.chat_id, facts, now)) > now:
                await asyncio.sleep(free - now)
                continue
            message = self._message(row.turn, row.number, row.target, row.text)
            looking = False
            try:
                if (finder := capability(adapter, CanFind)) is not None:
                    looking = True
                    others = await self._journal.read(outbox.ids_of_others, row.target)
                    if found := await finder.find(row.target, (message,), since=0.0, others=others):
                        return found
                    looking = False
                return (await adapter.send(row.target, message)).message_id
            except (Retry, Uncertain) as error:  # not connected yet, mostly
                if looking and isinstance(error, Uncertain):
                    raise
                if isinstance(error, Retry):
                    rates.heed(row.target.chat_id, error, self._now())
                await asyncio.sleep(min(error.after, 1.0))
            except Unauthorized:
                await asyncio.sleep(1.0)
            except AdapterError as error:
                log.info("what was shown last of %s is not found again: %s", row.turn, error)
                return ""
        return None

    def _message(self, turn: str, index: int, target: Target, text: str) -> Outbound:
        mode = self._settings.reply_to_mode.get(target.platform, "first")
        quotes = mode == "all" or (mode != "off" and index == 0)
        return Outbound(f"{turn}:progress:{index}", text, kind="progress", final=False, quotes=quotes)

    def _open(self, stream: _Stream, known: Sequence[progress.Known], *, uncertain: bool = False) -> None:
        # What might be there already without our knowing it is not begun once more: the answer says that it is again.
        style = self._style(stream.target)
        stream.state = progress.State(style, tuple(known), over=uncertain, uncertain=uncertain)
        stream.moved.set()
        if stream.ended:
            stream.state, _ = progress.step(stream.state, progress.End(), self._now())
        early, stream.early = stream.early, []
        for event in early:
            self._feed(stream, event)

    def _style(self, target: Target) -> progress.Style:
        streaming = self._settings.streaming
        style = progress.Style(streaming.interval, streaming.threshold, streaming.cursor)
        if (adapter := self._adapters.get(target.platform)) is None:
            return style
        facts = adapter.capabilities(target)
        return replace(style, limit=facts.max_length, unit=facts.unit)

    def _feed(self, stream: _Stream, event: progress.Text | progress.Boundary) -> None:
        if stream.state is None:
            stream.early.append(event)
        elif isinstance(event, progress.Text):
            if visible := stream.screen.feed(event.text):
                self._step(stream, progress.Text(visible))
        else:
            if visible := stream.screen.pause():
                self._step(stream, progress.Text(visible))
            self._step(stream, event)

    def _step(self, stream: _Stream, event: progress.Event) -> None:
        assert stream.state is not None
        stream.state, actions = progress.step(stream.state, event, self._now())
        stream.moved.set()
        for action in actions:
            match action:
                case progress.Keep(index):
                    self._keep(stream, stream.state.messages[index], index)
                case progress.WakeAt(at):
                    self._wake_at(stream, at)
                case progress.Send() | progress.Edit():
                    self._call(stream, action)

    def _call(self, stream: _Stream, action: progress.Send | progress.Edit) -> None:
        adapter = self._adapters.get(stream.target.platform)
        now = self._now()
        if adapter is None or capability(adapter, CanEdit) is None:
            self._step(stream, progress.Held(now + progress.SLOWEST))  # it is down; its answer waits for it
            return
        target = stream.target
        if isinstance(action, progress.Send) and self._is_waited_for(target, stream.turn):
            # What is on its way to this place comes first: an answer must not stand below the beginning of the next.
            self._step(stream, progress.Held(now + BEHIND_SECONDS))
            return
        free = self._rates_of(target.platform).spare(target.chat_id, adapter.capabilities(target), now)
        if free > now:
            self._step(stream, progress.Held(free))
            return
        stream.call = self._tasks.job(self._called(stream, adapter, action), f"show {stream.turn}")

    async def _called(self, stream: _Stream, adapter: Adapter, action: progress.Send | progress.Edit) -> None:
        event = await self._result(stream, adapter, action)
        stream.call = None
        self._step(stream, event)

    async def _result(
        self, stream: _Stream, adapter: Adapter, action: progress.Send | progress.Edit
    ) -> progress.Done | progress.Failed | progress.Held:
        target, rates = stream.target, self._rates_of(stream.target.platform)
        message = self._message(stream.turn, action.index, target, action.text)
        exact = _knows_again(adapter, target)
        try:
            if isinstance(action, progress.Edit):
                editor = capability(adapter, CanEdit)
                assert editor is not None
                return progress.Done((await editor.edit(target, action.message_id, message)).message_id)
            if stream.state is not None:
                shown = stream.state.messages[action.index]
                row = ProgressRow(stream.turn, action.index, target, "", shown.segment, shown.begins, action.text)
                await self._persistence.write(kept.announce, row)
            if (closed := rates.closed_for(target.chat_id, self._now())) > 0:  # while that was written
                self._not_sent(stream, action, exact)
                return progress.Held(self._now() + closed)
            sent = await adapter.send(target, message)
            if not sent.message_id:  # there is nothing to be found under an id
                await self._persistence.write(kept.retract, stream.turn, action.index)
            return progress.Done(sent.message_id)
        except Retry as error:
            rates.heed(target.chat_id, error, self._now(), always=True)
            self._not_sent(stream, action, exact)
            return progress.Failed(progress.Failure.LATER, error.after)
        except Uncertain as error:
            harmless = isinstance(action, progress.Edit) or exact
            failure = progress.Failure.LATER if harmless else progress.Failure.UNKNOWN
            return progress.Failed(failure, error.after)
        except AdapterError as error:
            log.info("the progress of %s is not shown any more: %s", stream.turn, error)
            self._not_sent(stream, action, exact)
            return progress.Failed(progress.Failure.NEVER)
        except Exception:  # an adapter's fault: the answer itself goes its own way
            log.exception("the adapter of %s failed to show progress", target.platform)
            return progress.Failed(progress.Failure.NEVER)

    def _not_sent(self, stream: _Stream, action: progress.Send | progress.Edit, exact: bool) -> None:
        """What was announced is not there, and needs no mark."""
        if isinstance(action, progress.Send) and not exact:
            self._persistence.persist(kept.retract, stream.turn, action.index)

    def _keep(self, stream: _Stream, message: progress.Message, index: int) -> None:
        row = ProgressRow(
            stream.turn,
            index,
            stream.target,
            message.id,
            message.segment,
            message.begins,
            message.text if message.closed else "",
        )
        self._persistence.persist(kept.keep, row)

    def _wake_at(self, stream: _Stream, at: float) -> None:
        if stream.timer is not None:
            if abs(stream.timer.when() - at) < 0.001 and not stream.timer.cancelled():
                return
            stream.timer.cancel()
        stream.timer = asyncio.get_running_loop().call_at(at, self._woken, stream)

    def _woken(self, stream: _Stream) -> None:
        stream.timer = None
        if not stream.ended:
            self._step(stream, progress.Tick())

    def _hush(self, stream: _Stream) -> None:
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _knows_again(adapter: Adapter, target: Target) -> bool:
    """Whether what may have arrived can be had by its id."""
    return adapter.capabilities(target).exact_resends or capability(adapter, CanFind) is not None


def _known(row: ProgressRow) -> progress.Known:
    return progress.Known(row.begins, row.message_id, row.segment, row.text)
