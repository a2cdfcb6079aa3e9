"""The life of a turn: from its worker's promise to its end on disk, and what its agent says in between.

The shell of `turn_life`: every step is written down before the next one follows from it, and whoever waits for an
answer gets one, however the turn ends. Which turn may begin is decided elsewhere (`lanes`, `router`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from hermesd.adapters.contract import Attachment, Outbound, Question, Target
from hermesd.ipc.errors import LocalError
from hermesd.ipc.ids import AskId, SessionKey
from hermesd.ipc.keeping import Gone
from hermesd.ipc.messages import (
    Accept,
    Answer,
    Ask,
    Delta,
    Described,
    Entry,
    Finished,
    Interrupt,
    Message,
    Send,
    StartTurn,
    Status,
    Steer,
    Steered,
    ToolUse,
)
from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.journal import Journal, answers, chats, inbox, outbox, persistence, sessions, turns
from hermesd.supervisor.journal.errors import JournalError
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import InboxRow, OutboxRow
from hermesd.supervisor.journal.states import InboxState, OutboxState, TurnState
from hermesd.supervisor.journal.turns import TurnEnd
from hermesd.supervisor.patience import insist_in
from hermesd.supervisor.pool import worker_life
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks

from . import prompt, targets, turn_life, words
from .approvals import Approvals
from .lane import Lane, Turn
from .lane_settings import LaneSettings
from .presence import Presence
from .stickers import Stickers

if TYPE_CHECKING:
    from hermesd.supervisor.pool.pool import Pool

log = logging.getLogger("hermesd.gateway")

INTERRUPT_ARRIVES = 1.0
"""Seconds for a worker's link thread to acknowledge an interrupt. It is silent longer only if C code holds the GIL."""

INTERRUPT_GRACE = 2.5
"""Seconds for an interrupted turn to end; then its worker is killed. Confirmed within 5 s, the stack dump included."""

MAX_STREAMED = 8 << 20
"""Characters of one turn that are shown as they come: no final answer can be longer, and who shows them keeps them."""

DELTA_COST = 64
"""What a piece of text counts besides its own characters: very small ones cost more than they hold."""

MAX_TOKENS = 1 << 40
"""Of one turn: more is no count, and SQLite's integers have 64 bits."""

OUTCOMES = {
    "done": (turn_life.Event.FINISHED, TurnState.DONE),
    "failed": (turn_life.Event.FAILED, TurnState.FAILED),
    "interrupted": (turn_life.Event.INTERRUPTED, TurnState.INTERRUPTED),
}


class LaneKeeper(Protocol):
    """What a turn's end sets in motion: `hermesd.supervisor.gateway.lanes.Lanes`."""

    @property
    def pool(self) -> Pool: ...

    @property
    def settings(self) -> LaneSettings: ...

    def live(self, lane: Lane, event: worker_life.Event) -> None:
        """The lane's worker takes an event of its own life."""

    def plan_soon(self) -> None:
        """A slot may be free."""

    def submit(self, row: InboxRow, key: SessionKey) -> Turn:
        """A message that needs a turn of its own."""

    def retire_if_over(self, lane: Lane) -> None:
        """A stateless session ends with its last turn."""

    def turn_over(self, lane: Lane, turn: Turn) -> None:
        """A worker has ended a turn."""

    def turn_begins(self) -> None:
        """A worker has been given one."""


class Turns:
    """Owned by `Lanes`. ``turn_timeout`` in seconds, 0 = none; ``on_crash`` as configured."""

    def __init__(
        self,
        *,
        lanes: LaneKeeper,
        journal: Journal,
        persistence: Persistence,
        deliverer: Deliverer,
        approvals: Approvals,
        tasks: Tasks,
        stickers: Stickers,
        presence: Presence,
        turn_timeout: float,
        on_crash: str,
    ):
        self._lanes = lanes
        self._journal = journal
        self._persistence = persistence
        self._deliverer = deliverer
        self._approvals = approvals
        self._tasks = tasks
        self._stickers = stickers
        self._presence = presence
        self._turn_timeout = turn_timeout
        self._on_crash = on_crash

    def reconfigure(self, on_crash: str, turn_timeout: float) -> None:
        """What becomes of a turn whose worker dies from now on, and how long a turn that begins now may take."""
        self._on_crash, self._turn_timeout = on_crash, turn_timeout

    def said(self, lane: Lane, turn: Turn, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        """Something that the worker says about its running turn. A durable message is settled once it is on disk."""
        turn.active_at = time.monotonic()
        match message:
            case Accept():
                self._tasks.job(self._accepted(lane, turn, worker, settle), f"accept {turn.id}")
            case Delta():
                turn.streamed += len(message.text) + DELTA_COST
                if turn.streamed <= MAX_STREAMED:
                    self._deliverer.stream(turn.target, message.text, turn.id)
            case ToolUse():
                if message.state == "started":
                    self._deliverer.boundary(turn.id)
                self._deliverer.notice(turn.target, f"tool {message.name} {message.state} {message.args}".rstrip())
            case Status():
                self._deliverer.notice(turn.target, message.text)
            case Finished():
                self._finished(lane, turn, message, settle)
            case Send():
                self._deliverer.boundary(turn.id)
                self._send(turn.target, message, settle)
            case Ask():
                self._deliverer.boundary(turn.id)
                self._ask(lane, turn, message, settle)
            case Steered():
                self._steered(lane, turn, message)
            case Described():
                self._described(turn, message)

    def _described(self, turn: Turn, message: Described) -> None:
        for file in turn.row.inbound.attachments:
            if file.sticker is not None and file.sticker.unique_id == message.unique_id:
                self._tasks.job(self._stickers.learn(file.sticker, message.text), f"keep sticker {message.unique_id}")

    async def dispatch(self, lane: Lane, turn: Turn) -> None:
        worker = lane.worker
        if worker is None or turn.state is not turn_life.State.QUEUED or lane.session is None:
            return
        if worker.ended_for:
            return  # being killed; its end makes room for another
        if lane.current is not turn or lane.life is not worker_life.State.IDLE:
            return
        turn.apply(turn_life.Event.DISPATCH)
        self._lanes.live(lane, worker_life.Event.TURN_STARTED)
        try:
            turn.attempt = await self._journal.write(
                turns.dispatched, turn.id, turn.key, lane.session.session_id, turn.row.id, worker.id, time.time()
            )
        except JournalError as error:
            # Refused, not unavailable, is possible too: an earlier step of the same row waits for the disk.
            log.error("turn %s waits: %s", turn.id, error)
            await asyncio.sleep(persistence.RETRY_SECONDS)
            if self._still_dispatched(lane, turn, worker):
                turn.apply(turn_life.Event.WORKER_GONE)
                if turn.interrupt_reason:
                    lane.current = None
                    self.end_unstarted(turn, turn_life.Event.CANCELLED, words.interrupted(""))
                self._lanes.live(lane, worker_life.Event.TURN_ENDED)
                self._lanes.retire_if_over(lane)
            return
        if not self._still_dispatched(lane, turn, worker):
            return
        turn.started_at = time.monotonic()
        self._lanes.turn_begins()
        self.start(lane, turn, worker)

    def start(self, lane: Lane, turn: Turn, worker: Worker) -> None:
        """Send a turn that is dispatched on disk. A worker that has had it before does not run it twice."""
        inbound = turn.row.inbound
        start = StartTurn(
            turn=turn.id,
            text=turn.text,
            sender=inbound.user_id,
            sender_name=inbound.user_name,
            attachments=prompt.files_of(inbound),
            attempt=turn.attempt,
            timeout=self._turn_timeout,
            config=self._lanes.settings.agent_config,
        )
        try:
            self._lanes.pool.send(worker, start)
        except LocalError as error:  # larger than a frame, for one
            answer = Outbound(f"{turn.id}:answer", words.cannot_be_given(str(error)), kind="error")
            self._end(lane, turn, turn_life.Event.FAILED, TurnState.FAILED, answer, error=str(error))
            self._lanes.turn_over(lane, turn)
            return
        if turn.interrupt_reason:
            self._lanes.pool.send(worker, Interrupt(turn.id, turn.interrupt_reason))

    @staticmethod
    def _still_dispatched(lane: Lane, turn: Turn, worker: Worker) -> bool:
        """Whether the world is, after a wait for the journal, what it was before."""
        return lane.current is turn and lane.worker is worker and turn.state is turn_life.State.DISPATCHED

    async def _accepted(self, lane: Lane, turn: Turn, worker: Worker, settle: Callable[[], None]) -> None:
        await self._persistence.keep(turns.accepted, turn.id, worker.id, time.time())
        if lane.worker is worker and turn.state is turn_life.State.DISPATCHED:
            turn.apply(turn_life.Event.ACCEPTED)
            self._presence.began(turn.target)
        settle()

    def _finished(self, lane: Lane, turn: Turn, message: Finished, settle: Callable[[], None]) -> None:
        event, outcome = OUTCOMES.get(message.outcome, OUTCOMES["failed"])
        text, kind = message.text, "answer"
        if event is turn_life.Event.FAILED:
            text, kind = words.failed(message.error), "error"
        elif event is turn_life.Event.INTERRUPTED:
            text, kind = words.interrupted(message.text, turn.overran), "error" if turn.overran else "answer"
        entries: tuple[Entry, ...] = ()
        if outcome is TurnState.DONE or (outcome is TurnState.INTERRUPTED and message.text):
            now = time.time()
            entries = (Entry("user", message.given or turn.text, now), Entry("assistant", message.text, now))
        answer = Outbound(f"{turn.id}:answer", text, kind=kind, usage=dict(message.usage))
        tokens = _tokens(message.usage, "prompt_tokens"), _tokens(message.usage, "completion_tokens")
        if lane.session is not None:
            lane.session = replace(
                lane.session,
                prompt_tokens=lane.session.prompt_tokens + tokens[0],
                completion_tokens=lane.session.completion_tokens + tokens[1],
            )
        self._end(
            lane, turn, event, outcome, answer, entries=entries, error=message.error, settle=settle, tokens=tokens
        )
        self._lanes.turn_over(lane, turn)

    def lost_its_worker(self, lane: Lane, turn: Turn, gone: Gone) -> None:
        # A worker that we ended ourselves (the session was stopped, hermesd stops) did not die of the message.
        killed = turn.killed + (lane.life is not worker_life.State.STOPPING)
        event = turn_life.after_death(
            accepted=turn.accepted,
            interrupted=bool(turn.interrupt_reason),
            killed=killed,
            on_crash=self._on_crash,
        )
        counted = killed > turn.killed
        turn.killed = killed
        was_accepted = turn.accepted
        how = lane.last_end
        match event:
            case turn_life.Event.WORKER_GONE:
                turn.apply(event)
                self._approvals.drop(lane.key)
                self._deliverer.streams.again(turn.id)
                self._persistence.persist(turns.requeued, turn.id, time.time(), error=how, killed_worker=counted)
                lane.queue.appendleft(turn)
                lane.current = None
                self._queue_steering(lane)
            case turn_life.Event.INTERRUPTED:
                kind = "error" if turn.overran else "answer"
                answer = Outbound(f"{turn.id}:answer", words.interrupted("", turn.overran), kind=kind)
                self._end(lane, turn, event, TurnState.INTERRUPTED, answer, error=turn.interrupt_reason)
            case turn_life.Event.POISONOUS:
                answer = Outbound(
                    f"{turn.id}:answer", words.dead_letter(killed, may_retry=not lane.ephemeral), kind="error"
                )
                outcome = TurnState.LOST if was_accepted else TurnState.FAILED
                self._end(lane, turn, event, outcome, answer, error=how, dead_letter=True, killed_worker=counted)
            case _:
                answer = Outbound(f"{turn.id}:answer", words.lost(how, may_retry=not lane.ephemeral), kind="error")
                self._end(lane, turn, event, TurnState.LOST, answer, error=how, killed_worker=counted)

    def _end(
        self,
        lane: Lane,
        turn: Turn,
        event: turn_life.Event,
        outcome: TurnState,
        answer: Outbound,
        *,
        entries: tuple[Entry, ...] = (),
        error: str = "",
        dead_letter: bool = False,
        killed_worker: bool = False,
        settle: Callable[[], None] | None = None,
        tokens: tuple[int, int] = (0, 0),
    ) -> None:
        """A dispatched turn is over: write it down whole, then deliver its answer."""
        answer = _for_its_reader(turn.row, answer)
        turn.apply(event)
        self._presence.ended(turn.target, turn.state)
        self._approvals.drop(lane.key)
        self._deliverer.streams.end(turn.id)
        lane.current = None
        # What its user has stopped includes what was handed to it; a limit that has run out is no word of the user's.
        stopped = turn.state is turn_life.State.INTERRUPTED and not turn.overran
        used = stopped or turn.state is turn_life.State.DONE
        self._queue_steering(lane, used=used)
        self._lanes.plan_soon()
        written = self._persistence.keep(
            turns.finish,
            turn.id,
            outcome,
            time.time(),
            entries=entries,
            outgoing=((turn.target, answer),),
            error=error,
            dead_letter=dead_letter,
            killed_worker=killed_worker,
            tokens=tokens,
            used=used,
        )
        self._tasks.job(self._ended(turn, written, settle), f"end {turn.id}")

    async def _ended(
        self, turn: Turn, written: Coroutine[Any, Any, TurnEnd | None], settle: Callable[[], None] | None = None
    ) -> None:
        try:
            end = await written
            if settle is not None:
                settle()
            if end is not None:
                self._deliverer.deliver(end.outbox)
        finally:
            turn.ended.set_result(turn.state)

    def end_unstarted(self, turn: Turn, event: turn_life.Event, text: str, *, reason: str = "") -> None:
        """A turn that no worker has is over. Without ``text`` nobody is told; ``reason`` is for the journal."""
        turn.apply(event)
        if not text:
            self._deliverer.abandon(turn.id, turn.target)
        failed = event is turn_life.Event.FAILED
        answer = Outbound(f"{turn.id}:answer", text, kind="error" if failed else "answer")
        answer = _for_its_reader(turn.row, answer)
        if turn.attempt:
            # A worker had it before, so that it has a row of its own that must end too.
            outcome = TurnState.FAILED if failed else TurnState.INTERRUPTED
            outgoing = ((turn.target, answer),) if text else ()
            written = self._persistence.keep(
                turns.finish, turn.id, outcome, time.time(),
                outgoing=outgoing, error=reason or text, dropped=not text,
            )  # fmt: skip
            self._tasks.job(self._ended(turn, written), f"end {turn.id}")
            return
        state = InboxState.FAILED if failed else InboxState.DROPPED
        self._persistence.persist(inbox.finish, turn.row.id, state, time.time(), error=reason or text)
        if text:
            self._deliverer.say_soon(turn.target, answer, turn.id)
        turn.ended.set_result(turn.state)

    def interrupt(self, lane: Lane, turn: Turn, reason: str) -> None:
        if turn.interrupt_reason:
            return
        turn.interrupt_reason = reason
        if turn.state is turn_life.State.QUEUED:
            # Granted, and its worker is not there yet.
            lane.current = None
            self.end_unstarted(turn, turn_life.Event.CANCELLED, words.interrupted(""))
            self._lanes.plan_soon()
            self._lanes.retire_if_over(lane)
            return
        if turn.started_at and lane.worker is not None:
            self._lanes.pool.send(lane.worker, Interrupt(turn.id, reason))
        insist_in(INTERRUPT_ARRIVES, partial(self._insist, lane, turn, False))
        insist_in(INTERRUPT_GRACE, partial(self._insist, lane, turn, True))

    def overrun(self, lane: Lane, turn: Turn, reason: str) -> None:
        """Its time is over: it is interrupted, and its worker is killed if that does not help."""
        if not turn.interrupt_reason:
            log.warning("turn %s of %s is ended: %s", turn.id, lane.key, reason)
            turn.overran = reason
            self.interrupt(lane, turn, reason)

    def warn_quiet(self, turn: Turn, now: float, limit: float) -> None:
        """Its user hears that nothing is heard, once, and it goes on. ``limit`` in seconds, 0 = none."""
        turn.warned = True
        if turn.row.inbound.delivery is not None:
            return  # nobody waits for an event's answer
        text = words.still_quiet(now - max(turn.started_at, turn.active_at), limit)
        message = Outbound(f"{turn.id}:quiet", text, kind="notice", final=False)
        self._deliverer.say_soon(turn.target, message, turn.id)

    def _insist(self, lane: Lane, turn: Turn, last: bool) -> None:
        if lane.current is not turn or lane.worker is None or (turn.interrupt_arrived and not last):
            return
        log.warning("turn %s does not end: killing worker %s", turn.id, lane.worker.id)
        self._lanes.live(lane, worker_life.Event.KILL)

    async def tell_lost(self, row: InboxRow) -> None:
        own = row.inbound.history is not None
        answer = Outbound(f"{row.turn}:answer", words.lost_with_hermesd(may_retry=not own), kind="error")
        answer = _for_its_reader(row, answer)
        end = await self._persistence.keep(
            turns.finish, row.turn, TurnState.LOST, time.time(), outgoing=((row.target, answer),), error="hermesd ended"
        )
        if end is not None:
            self._deliverer.deliver(end.outbox)
        if own:
            await self._persistence.keep(sessions.end, row.session_key, "lost", time.time())
        self._deliverer.questions.turn_over(row.turn)

    def steer(self, lane: Lane, message: Steer, row: InboxRow) -> None:
        """Hand a message to the running turn; if the agent does not take it, it is queued like any other."""
        assert lane.worker is not None
        lane.steering.append(row)
        self._lanes.pool.send(lane.worker, message)

    def _steered(self, lane: Lane, turn: Turn, message: Steered) -> None:
        if not lane.steering:
            return
        row = lane.steering.popleft()
        if message.taken:
            lane.steered.append(row)
            self._persistence.persist(inbox.handed, row.id, turn.id, lane.key)
            self._deliverer.say_soon(row.target, Outbound(f"steered:{row.id}", words.STEERED, kind="notice"))
        else:
            self._lanes.submit(row, lane.key)

    def _queue_steering(self, lane: Lane, *, used: bool = False) -> None:
        """The turn is over, or has lost its worker. What it was handed is a message like any other then, unless it has
        taken it and ended well (``used``): an agent holds what it takes in memory, up to its next step.
        """
        taken, lane.steered = lane.steered, []
        for row in taken if not used else ():
            self._persistence.persist(inbox.handed_back, row.id)
            self._lanes.submit(row, lane.key)
        while lane.steering:
            self._lanes.submit(lane.steering.popleft(), lane.key)

    def send_late(self, lane: Lane, message: Send, settle: Callable[[], None]) -> None:
        """Of a turn that is over: what an agent does in the background ends when it ends."""
        if lane.session is None or lane.ephemeral:
            log.warning("a message of turn %s came too late for its chat", message.turn)
            settle()
            return
        origin = lane.session.origin
        self._send(Target(origin.platform, origin.chat_id, origin.thread_id), message, settle)

    def _send(self, here: Target, message: Send, settle: Callable[[], None]) -> None:
        files = tuple(Attachment(file.path, file.name, file.mime) for file in message.files)
        outgoing = Outbound(f"{message.turn}:send:{message.id}", message.text, files=files, kind="extra", final=False)
        if message.target:
            self._tasks.job(self._send_elsewhere(here, outgoing, message, settle), f"send {message.id}")
            return
        # Queued for the disk at once: it must not come after the end of its turn, which may be right behind it.
        written = self._persistence.keep(outbox.add, here, outgoing, time.time(), turn=message.turn)
        self._tasks.job(self._sent(written, settle), f"send {message.id}")

    async def _send_elsewhere(
        self, here: Target, outgoing: Outbound, message: Send, settle: Callable[[], None]
    ) -> None:
        """To another chat, if anybody has ever written from there: an agent is no way to reach strangers."""
        target = targets.parse(message.target)
        if target is None or not await self._knows(target):
            text = words.cannot_send(message.target)
            target, outgoing = here, Outbound(outgoing.key, text, kind="notice", final=False)
        await self._sent(self._persistence.keep(outbox.add, target, outgoing, time.time(), turn=message.turn), settle)

    async def _knows(self, target: Target) -> bool:
        try:
            return await self._journal.read(chats.seen, target.platform, target.chat_id)
        except JournalError:
            return False

    async def _sent(self, written: Coroutine[Any, Any, OutboxRow | None], settle: Callable[[], None]) -> None:
        row = await written
        settle()
        if row is not None:
            self._deliverer.deliver([row])

    def _ask(self, lane: Lane, turn: Turn, message: Ask, settle: Callable[[], None]) -> None:
        written = None
        if not lane.ephemeral:
            asked = Question(message.ask, message.choices)
            key = f"{turn.id}:ask:{message.ask}"
            outgoing = Outbound(key, message.question, kind="question", final=False, question=asked)
            written = self._persistence.keep(outbox.add, turn.target, outgoing, time.time(), turn=turn.id)
        self._tasks.job(self._asked(lane, turn, message, written, settle), f"ask {message.ask}")

    async def _asked(
        self,
        lane: Lane,
        turn: Turn,
        message: Ask,
        written: Coroutine[Any, Any, OutboxRow | None] | None,
        settle: Callable[[], None],
    ) -> None:
        row = await written if written is not None else None
        settle()
        self.wait_for_user(lane, turn, message)
        if row is not None and lane.current is turn:
            gone = self._deliverer.watch(row)
            self._deliverer.deliver([row])
            try:
                await asyncio.wait_for(gone, message.timeout)
            except TimeoutError:
                return  # its time is over; a platform that was down for so long shows it as such
            if not await self._reached(row):
                self._approvals.refuse(AskId(message.ask))

    async def _reached(self, row: OutboxRow) -> bool:
        """Whether a question may have got to its user: an agent does not wait for one who was not asked."""
        try:
            state = (await self._journal.read(outbox.show, row.id)).state
        except JournalError:
            return True
        return state in (OutboxState.SENT, OutboxState.AMBIGUOUS)

    def wait_for_user(self, lane: Lane, turn: Turn, ask: Ask) -> None:
        """Its agent waits for an answer, whoever may have asked the user. Once for each question."""
        if lane.current is not turn or not turn.accepted or ask.ask in turn.asks:
            return
        turn.asks[ask.ask] = ask
        if (answer := turn.answered.get(ask.ask)) is not None and lane.worker is not None:
            # It was on the wire when the hermesd before ended. Its user has decided and is not asked again.
            self._lanes.pool.send(lane.worker, answer)
            return
        turn.apply(turn_life.Event.ASKED)
        self._lanes.live(lane, worker_life.Event.ASKED)
        self._approvals.open(lane.key, ask, lambda answer: self._answered(lane, turn, answer))
        if lane.ephemeral:
            # A stateless request has no way to answer: its agent is told at once instead of waiting for nobody.
            self._approvals.refuse(AskId(ask.ask))

    def _answered(self, lane: Lane, turn: Turn, answer: Answer) -> None:
        if lane.current is not turn or lane.worker is None or turn.state is not turn_life.State.WAITING:
            return
        turn.active_at = time.monotonic()
        written = self._persistence.keep(answers.record, turn.id, answer)
        self._tasks.job(self._pass_on(lane, turn, answer, written), f"answer {answer.ask}")
        if not self._approvals.of(lane.key):
            turn.apply(turn_life.Event.ANSWERED)
            self._lanes.live(lane, worker_life.Event.ANSWERED)

    async def _pass_on(self, lane: Lane, turn: Turn, answer: Answer, written: Coroutine[Any, Any, None]) -> None:
        await written
        if lane.current is turn and lane.worker is not None:
            self._lanes.pool.send(lane.worker, answer)


def _for_its_reader(row: InboxRow, answer: Outbound) -> Outbound:
    """A failure that is told to a chat which has not asked for anything names the event that it is about."""
    if row.inbound.delivery is None or answer.kind != "error":
        return answer
    return replace(answer, text=words.about_event(row.inbound.chat_name, row.id, answer.text))


def _tokens(usage: Mapping[str, Any], name: str) -> int:
    """What an agent, anybody's, says it has used; 0 for what is no count."""
    count = usage.get(name)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < MAX_TOKENS else 0
