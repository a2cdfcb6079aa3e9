"""The sessions at work: performs what the tables and the router decide, and feeds back what comes of it.

This is the shell around three pure parts: `router` (who may go now), `worker_life` and `turn_life` (what an event
means). It keeps no rule of its own. All of it runs on the event loop; the journal's order of writes is the order of
calls, so a step is never on disk before the one it follows from.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import Attachment, Outbound, Target
from hermesd.ipc.errors import LocalError
from hermesd.ipc.ids import AskId, SessionKey, TurnId
from hermesd.ipc.keeping import Gone
from hermesd.ipc.messages import (
    Accept,
    Answer,
    Ask,
    Assign,
    Delta,
    Entry,
    File,
    Finished,
    Interrupt,
    Logs,
    Message,
    Rewind,
    Send,
    StartTurn,
    Status,
    Steer,
    Steered,
    ToolUse,
)
from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.journal import Journal, inbox, outbox, sessions, transcripts, turns
from hermesd.supervisor.journal.errors import JournalError, JournalUnavailable
from hermesd.supervisor.journal.rows import InboxRow, Origin
from hermesd.supervisor.journal.states import InboxState, TurnState
from hermesd.supervisor.journal.turns import TurnEnd
from hermesd.supervisor.pool import backoff, worker_life
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks

from . import turn_life, words
from .approvals import Approvals
from .lane import Lane, Turn
from .router import Evict, Grant, LaneView, Wait, plan

log = logging.getLogger("hermesd.gateway")

START_SECONDS = 60.0
"""From a worker's launch to its agent; an agent that imports a large library takes ten."""

INTERRUPT_ARRIVES = 1.0
"""Seconds for a worker's link thread to acknowledge an interrupt. It is silent longer only if C code holds the GIL."""

INTERRUPT_GRACE = 2.5
"""Seconds for an interrupted turn to end; then its worker is killed. Confirmed within 5 s, the stack dump included."""

JOURNAL_RETRY = 1.0

OUTCOMES = {
    "done": (turn_life.Event.FINISHED, TurnState.DONE),
    "failed": (turn_life.Event.FAILED, TurnState.FAILED),
    "interrupted": (turn_life.Event.INTERRUPTED, TurnState.INTERRUPTED),
}


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Times in seconds. ``reap`` is what a stopping worker has before it is killed."""

    max_workers: int
    max_turns: int
    idle_timeout: float
    on_crash: str
    turn_timeout: float
    stop_grace: float
    work_dir: Path
    agent_settings: dict[str, Any]

    @property
    def reap(self) -> float:
        return 2.0 * self.stop_grace + 1.0


class Lanes:
    """Implements `hermesd.supervisor.pool.pool.PoolListener`.

    ``on_escalation`` is called when workers crash all over; ``on_logs`` with the log records of a worker.
    """

    def __init__(
        self,
        *,
        settings: LaneSettings,
        journal: Journal,
        deliverer: Deliverer,
        tasks: Tasks,
        on_escalation: Callable[[int], None],
        on_logs: Callable[[Worker, Logs], None],
    ):
        self.settings = settings
        self.approvals = Approvals()
        self._journal = journal
        self._deliverer = deliverer
        self._tasks = tasks
        self._on_escalation = on_escalation
        self._on_logs = on_logs
        self._lanes: dict[SessionKey, Lane] = {}
        self._crashes = backoff.CrashWindow()
        self._pool: Pool | None = None
        self._plan_due = False
        self.draining = False

    def use(self, pool: Pool) -> None:
        """Called once by the app: pool and lanes know each other."""
        self._pool = pool

    @property
    def pool(self) -> Pool:
        assert self._pool is not None
        return self._pool

    @property
    def lanes(self) -> dict[SessionKey, Lane]:
        return self._lanes

    @property
    def running(self) -> int:
        return sum(lane.current is not None for lane in self._lanes.values())

    @property
    def waiting(self) -> int:
        return sum(len(lane.queue) for lane in self._lanes.values())

    # ---- messages in -------------------------------------------------------------------------------------------------

    def submit(self, row: InboxRow, key: SessionKey) -> Turn:
        """Queue a message for its session's agent. The row is marked *queued*; its turn begins when the router says.

        A row that had a turn in an earlier life of hermesd goes on with it.
        """
        lane = self._lane(key, ephemeral=row.inbound.history is not None)
        turn = Turn(
            id=TurnId(row.turn or f"t{secrets.token_hex(8)}"),
            key=key,
            row=row,
            text=row.inbound.text,
            queued_at=time.monotonic(),
            ended=asyncio.get_running_loop().create_future(),
            attempt=row.attempt,
            killed=row.killed,
        )
        if row.state is not InboxState.QUEUED:
            self._persist(inbox.queued, row.id, key, time.time())
        if lane.life is worker_life.State.QUARANTINED:
            self._end_unstarted(turn, turn_life.Event.FAILED, words.still_quarantined(lane.retry_at - time.monotonic()))
            return turn
        lane.queue.append(turn)
        self._plan_soon()
        return turn

    def resume(self, row: InboxRow, key: SessionKey) -> None:
        """Take up a message that an earlier life of hermesd had begun to work on."""
        if row.state is InboxState.ACCEPTED and self.settings.on_crash != "retry":
            self._tasks.job(self._resume_lost(row), f"tell {row.id}")
            return
        if row.state in (InboxState.DISPATCHED, InboxState.ACCEPTED):
            self._persist(turns.requeued, row.turn, time.time(), error="hermesd ended")
            row = replace(row, state=InboxState.QUEUED)
        self.submit(row, key)

    async def _resume_lost(self, row: InboxRow) -> None:
        answer = Outbound(f"{row.turn}:answer", words.lost_with_hermesd(), kind="error")
        end = await self._keep(
            turns.finish, row.turn, TurnState.LOST, time.time(), outgoing=((row.target, answer),), error="hermesd ended"
        )
        if end is not None:
            self._deliverer.deliver(end.outbox)

    def steer(self, lane: Lane, message: Steer, row: InboxRow) -> None:
        """Hand a message to the running turn; if the agent does not take it, it is queued like any other."""
        assert lane.worker is not None
        lane.steering.append(row)
        self.pool.send(lane.worker, message)

    def _steered(self, lane: Lane, message: Steered) -> None:
        if not lane.steering:
            return
        row = lane.steering.popleft()
        if message.taken:
            self._persist(inbox.finish, row.id, InboxState.ANSWERED, time.time())
            self._say(row.target, Outbound(f"steered:{row.id}", words.STEERED, kind="notice"))
        else:
            self.submit(row, lane.key)

    def _queue_steering(self, lane: Lane) -> None:
        """The turn is over, or has lost its worker: what it was handed and did not take is a message like any other."""
        while lane.steering:
            self.submit(lane.steering.popleft(), lane.key)

    def lane_of(self, key: SessionKey) -> Lane | None:
        return self._lanes.get(key)

    def _lane(self, key: SessionKey, *, ephemeral: bool) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            now = time.monotonic()
            lane = self._lanes[key] = Lane(key, ephemeral, idle_since=now, life_since=now)
            lane.settled.set()
        return lane

    # ---- orders ------------------------------------------------------------------------------------------------------

    async def interrupt(self, key: SessionKey, reason: str, *, clear_queue: bool = False) -> int:
        """End the running turn, and drop the waiting ones if asked. Returns how many turns ended by it.

        Returns when they have ended: within 5 s, for a worker that does not obey is killed.
        """
        lane = self._lanes.get(key)
        if lane is None:
            return 0
        ended = 0
        if clear_queue:
            while lane.queue:
                self._end_unstarted(lane.queue.popleft(), turn_life.Event.CANCELLED, words.interrupted(""))
                ended += 1
        turn = lane.current
        if turn is not None:
            self._interrupt_turn(lane, turn, reason)
            await asyncio.shield(turn.ended)
            ended += 1
        return ended

    def cancel(self, target: Target, reason: str) -> None:
        """Take the turn that answers ``target.reply_to`` back, wherever it is."""
        wanted = (target.platform, target.chat_id, target.reply_to)

        def meant(turn: Turn) -> bool:
            inbound = turn.row.inbound
            return (inbound.platform, inbound.chat_id, inbound.message_id) == wanted

        for lane in list(self._lanes.values()):
            for turn in [turn for turn in lane.queue if meant(turn)]:
                lane.queue.remove(turn)
                self._end_unstarted(turn, turn_life.Event.CANCELLED, "")
                self._retire_if_over(lane)
            if lane.current is not None and meant(lane.current):
                self._interrupt_turn(lane, lane.current, reason)

    async def stop_session(self, key: SessionKey, reason: str) -> bool:
        """Interrupt what runs, end the worker, keep the conversation. False: there was nothing to end."""
        lane = self._lanes.get(key)
        if lane is None or (lane.life not in worker_life.WITH_PROCESS and lane.current is None):
            return False
        with self._held(lane):
            await self.interrupt(key, reason)
            self._live(lane, worker_life.Event.STOP)
            await lane.settled.wait()
        return True

    @contextlib.contextmanager
    def _held(self, lane: Lane) -> Iterator[None]:
        """Give the lane no turn meanwhile: it would be a casualty of what is done to its worker."""
        lane.held += 1
        try:
            yield
        finally:
            lane.held -= 1
            self._plan_soon()

    async def restart_session(self, key: SessionKey, reason: str) -> bool:
        """End the worker and start a new one with the conversation; also pardons a quarantined session."""
        if await self._journal.write(sessions.current, key) is None:
            return False
        lane = self._lane(key, ephemeral=False)
        await self.stop_session(key, reason)
        self._live(lane, worker_life.Event.PARDON)
        lane.restarting = True
        self._live(lane, worker_life.Event.WANTED)
        return True

    async def reset_session(self, key: SessionKey, reason: str) -> str:
        """Begin the conversation anew. Returns the new session id. Raises `JournalError` when there never was one."""
        lane = self._lane(key, ephemeral=False)
        with self._held(lane):
            await self.interrupt(key, reason, clear_queue=True)
            row = await self._journal.write(sessions.reset, key, reason, time.time())
            self._live(lane, worker_life.Event.PARDON)
            self._live(lane, worker_life.Event.STOP)
            await lane.settled.wait()
            lane.session = row
        return row.session_id

    def answer(self, key: SessionKey, choice: str, by: str) -> Ask | None:
        """A user's answer to the session's oldest question."""
        return self.approvals.answer(key, choice, by)

    async def rewind(self, key: SessionKey, turn: str) -> None:
        """Take what this turn left out of the conversation, on disk and in the worker, because it is run again."""
        session = await self._journal.write(sessions.current, key)
        cut = await self._journal.write(transcripts.cut_turn, session.session_id, turn) if session is not None else 0
        lane = self._lanes.get(key)
        if cut and lane is not None and lane.worker is not None and lane.worker.ready:
            self.pool.send(lane.worker, Rewind(cut))

    # ---- stopping everything -----------------------------------------------------------------------------------------

    async def drain(self, timeout: float, progress: Callable[[int], None]) -> int:
        """Start nothing more and let what runs end. Returns the turns that had to be interrupted.

        A turn that does not end within ``stop_grace`` of its interrupt loses its worker.
        """
        self.draining = True
        deadline = time.monotonic() + timeout
        while (running := [lane.current for lane in self._lanes.values() if lane.current is not None]) and (
            left := deadline - time.monotonic()
        ) > 0:
            progress(len(running))
            await asyncio.wait([turn.ended for turn in running], timeout=min(left, 1.0))
        late = [lane for lane in self._lanes.values() if lane.current is not None]
        if late:
            interrupted = asyncio.gather(*(self.interrupt(lane.key, "hermesd stops") for lane in late))
            await asyncio.wait([interrupted], timeout=self.settings.stop_grace)
            for lane in late:
                if lane.current is not None:
                    self._live(lane, worker_life.Event.KILL)
            await interrupted
        return len(late)

    async def stop_workers(self, timeout: float) -> bool:
        """Ask every worker to end. True when all of them did within the time."""
        for lane in list(self._lanes.values()):
            lane.restarting = False
            self._live(lane, worker_life.Event.STOP)
        self.pool.stop_spares(self.settings.stop_grace)
        return await self.pool.wait_all_gone(timeout)

    # ---- the router --------------------------------------------------------------------------------------------------

    def _plan_soon(self) -> None:
        if not self._plan_due:
            self._plan_due = True
            asyncio.get_running_loop().call_soon(self._plan)

    def _plan(self) -> None:
        self._plan_due = False
        if self.draining:
            return
        views = [
            LaneView(
                key=lane.key,
                worker=lane.life,
                idle_since=lane.idle_since,
                holds_slot=lane.current is not None,
                wants=bool(lane.queue) and not lane.held and lane.life is not worker_life.State.BACKOFF,
                waiting_since=lane.queue[0].queued_at if lane.queue else 0.0,
            )
            for lane in self._lanes.values()
        ]
        for decision in plan(views, max_turns=self.settings.max_turns, max_workers=self.settings.max_workers):
            lane = self._lanes[decision.key]
            match decision:
                case Grant():
                    lane.current = lane.last_turn = lane.queue.popleft()
                    lane.current.place = 0
                    self._live(lane, worker_life.Event.WANTED)
                case Evict():
                    self._live(lane, worker_life.Event.HIBERNATE)
                case Wait(place=place):
                    self._tell_place(lane.queue[0], place)

    def _tell_place(self, turn: Turn, place: int) -> None:
        if turn.place == place:
            return
        first_time = not turn.place
        turn.place = place
        text = words.place_in_line(place, self.running)
        if not self._deliverer.notice(turn.target, text) and first_time:
            self._say(turn.target, Outbound(f"{turn.id}:place", text, kind="notice", final=False), turn.id)

    # ---- the life of a worker ----------------------------------------------------------------------------------------

    def _live(self, lane: Lane, event: worker_life.Event) -> None:
        """Take one event: look the step up, then perform its actions."""
        step = worker_life.step(lane.life, event)
        if step.state is not lane.life:
            lane.cancel_timer()
            lane.life, lane.life_since = step.state, time.monotonic()
            if step.state is worker_life.State.IDLE:
                lane.idle_since = lane.life_since
                self._arm(lane, self.settings.idle_timeout, worker_life.Event.HIBERNATE)
        if step.state in worker_life.WITH_PROCESS:
            lane.settled.clear()
        else:
            lane.settled.set()
        for action in step.actions:
            self._act(lane, action)

    def _act(self, lane: Lane, action: worker_life.Action) -> None:
        match action:
            case worker_life.Action.START:
                self._arm(lane, START_SECONDS, worker_life.Event.START_TIMED_OUT)
                self._tasks.job(self._start_worker(lane), f"start {lane.key}")
            case worker_life.Action.POLITE_STOP:
                self._arm(lane, self.settings.reap, worker_life.Event.TIMER)
                if lane.worker is not None:
                    self.pool.stop_worker(lane.worker, "the session rests", self.settings.stop_grace)
            case worker_life.Action.KILL:
                if lane.worker is not None:
                    self.pool.kill(lane.worker, dump=lane.current is not None)
            case worker_life.Action.OFFER:
                self._offer(lane)
            case worker_life.Action.ARM_BACKOFF:
                seconds = backoff.delay(lane.crashes.count(time.monotonic()), random.random())
                lane.retry_at = time.monotonic() + seconds
                self._arm(lane, seconds, worker_life.Event.TIMER)
            case worker_life.Action.ARM_QUARANTINE:
                lane.retry_at = time.monotonic() + backoff.QUARANTINE_SECONDS
                self._arm(lane, backoff.QUARANTINE_SECONDS, worker_life.Event.TIMER)
            case worker_life.Action.TELL_QUARANTINE:
                self._quarantine(lane)
            case worker_life.Action.FORGET_CRASHES:
                lane.crashes.clear()

    def _arm(self, lane: Lane, seconds: float, event: worker_life.Event) -> None:
        lane.cancel_timer()
        lane.timer = asyncio.get_running_loop().call_later(seconds, self._live, lane, event)

    def _offer(self, lane: Lane) -> None:
        """The lane may have become able to take a turn."""
        if lane.life is worker_life.State.IDLE and lane.current is not None:
            self._tasks.job(self._dispatch(lane, lane.current), f"dispatch {lane.current.id}")
        elif lane.life is worker_life.State.HIBERNATED and (lane.current is not None or lane.restarting):
            if not self.draining:
                self._live(lane, worker_life.Event.WANTED)
        elif lane.life is worker_life.State.HIBERNATED and lane.ephemeral and not lane.queue:
            self._forget(lane)
        self._plan_soon()

    def _forget(self, lane: Lane) -> None:
        """A stateless request's session ends with its reply."""
        if self._lanes.get(lane.key) is lane:
            lane.cancel_timer()
            del self._lanes[lane.key]
            self._persist(sessions.end, lane.key, "answered", time.time())

    def _quarantine(self, lane: Lane) -> None:
        crashes = lane.crashes.count(time.monotonic())
        log.error("session %s is quarantined after %d crashes", lane.key, crashes)
        text = words.quarantined(crashes, backoff.QUARANTINE_SECONDS / 60)
        waiting = [lane.current] if lane.current is not None else []
        waiting += lane.queue
        lane.queue.clear()
        lane.current = None
        for turn in waiting:
            self._end_unstarted(turn, turn_life.Event.FAILED, text)
        if not waiting and (last := lane.last_turn) is not None:
            # Not as an answer to that message: it has had one.
            target = replace(last.target, reply_to="")
            self._say(target, Outbound(f"{last.id}:quarantine:{lane.restarts}", text, kind="error"), last.id)

    async def _start_worker(self, lane: Lane) -> None:
        first = lane.current
        history: tuple[Entry, ...] = ()
        while lane.life is worker_life.State.STARTING:
            try:
                history = await self._open_session(lane, first)
                break
            except JournalError as error:
                # The disk's fault, not the agent's: no crash is counted.
                log.error("cannot start a worker for %s yet: %s", lane.key, error)
                await asyncio.sleep(JOURNAL_RETRY)
        if lane.life is not worker_life.State.STARTING or lane.session is None:
            self._live(lane, worker_life.Event.ENDED)
            return
        origin = lane.session.origin
        lane.restarting = False
        lane.worker = self.pool.take(
            Assign(
                session_key=lane.key,
                session_id=lane.session.session_id,
                platform=origin.platform,
                chat_id=origin.chat_id,
                user_id=origin.user_id,
                user_name=origin.user_name,
                history=history,
                settings=self.settings.agent_settings,
                workdir=str(self.settings.work_dir / lane.session.session_id),
            )
        )

    async def _open_session(self, lane: Lane, first: Turn | None) -> tuple[Entry, ...]:
        """See that the lane has its session; returns the conversation so far."""
        if lane.session is None:
            origin = Origin.of(first.row.inbound) if first is not None else Origin("local", "")
            lane.session = await self._journal.write(
                sessions.get_or_create, lane.key, origin, time.time(), ephemeral=lane.ephemeral
            )
        if first is not None and first.row.inbound.history is not None:
            return tuple(Entry(said.role, said.text) for said in first.row.inbound.history)
        rows = await self._journal.write(transcripts.load, lane.session.session_id)
        return tuple(row.entry for row in rows)

    # ---- the pool's side ---------------------------------------------------------------------------------------------

    def worker_ready(self, worker: Worker, error: str) -> None:
        lane = self._lane_with(worker)
        if lane is not None and lane.life is not worker_life.State.IDLE:
            self._live(lane, worker_life.Event.READY)

    def worker_logs(self, worker: Worker, logs: Logs) -> None:
        self._on_logs(worker, logs)

    def worker_has(self, worker: Worker, message: Message) -> None:
        lane = self._lane_with(worker)
        if lane is not None and lane.current is not None and isinstance(message, Interrupt):
            lane.current.interrupt_arrived = True

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        lane = self._lane_with(worker)
        turn = lane.current if lane is not None else None
        about = getattr(message, "turn", "")
        if lane is None or turn is None or about != turn.id:
            # Said before the supervisor's word that this turn is over reached the worker; nobody waits for it.
            log.info("a %s of worker %s is about turn %s, which is over", message.KIND, worker.id, about)
            settle()
            return
        match message:
            case Accept():
                self._tasks.job(self._accepted(lane, turn, worker, settle), f"accept {turn.id}")
            case Delta():
                self._deliverer.stream(turn.target, message.text)
            case ToolUse():
                self._deliverer.notice(turn.target, f"tool {message.name} {message.state} {message.args}".rstrip())
            case Status():
                self._deliverer.notice(turn.target, message.text)
            case Finished():
                self._finished(lane, turn, message, settle)
            case Send():
                self._tasks.job(self._send(turn, message, settle), f"send {message.id}")
            case Ask():
                self._tasks.job(self._ask(lane, turn, message, settle), f"ask {message.ask}")
            case Steered():
                self._steered(lane, message)

    def worker_gone(self, worker: Worker, gone: Gone) -> None:
        lane = self._lane_with(worker)
        if lane is None:
            return
        lane.worker = None
        lane.last_end = words.how_it_ended(gone.exit_code)
        expected = lane.life is worker_life.State.STOPPING
        log.log(
            logging.INFO if expected else logging.ERROR,
            "worker %s of %s ended: %s, %d processes left over and killed, %.1f s CPU",
            worker.id,
            lane.key,
            lane.last_end,
            gone.left_over,
            gone.cpu_seconds,
        )
        turn = lane.current
        if turn is not None and turn.state is not turn_life.State.QUEUED:
            self._turn_lost_its_worker(lane, turn, gone)
        if expected:
            self._live(lane, worker_life.Event.ENDED)
        else:
            self._crashed(lane)

    def _crashed(self, lane: Lane) -> None:
        now = time.monotonic()
        lane.restarts += 1
        often = lane.crashes.add(now) >= backoff.QUARANTINE_AFTER
        self._live(lane, worker_life.Event.CRASHED_OFTEN if often else worker_life.Event.CRASHED)
        if (count := self._crashes.add(now)) > backoff.ESCALATE_AFTER:
            self._on_escalation(count)

    def _lane_with(self, worker: Worker) -> Lane | None:
        lane = self._lanes.get(worker.session) if worker.session is not None else None
        return lane if lane is not None and lane.worker is worker else None

    # ---- the life of a turn ------------------------------------------------------------------------------------------

    async def _dispatch(self, lane: Lane, turn: Turn) -> None:
        worker = lane.worker
        if worker is None or turn.state is not turn_life.State.QUEUED or lane.session is None:
            return
        if lane.current is not turn or lane.life is not worker_life.State.IDLE:
            return
        turn.apply(turn_life.Event.DISPATCH)
        self._live(lane, worker_life.Event.TURN_STARTED)
        try:
            turn.attempt = await self._journal.write(
                turns.dispatched, turn.id, turn.key, lane.session.session_id, turn.row.id, worker.id, time.time()
            )
        except JournalError as error:
            # Refused, not unavailable, is possible too: an earlier step of the same row waits for the disk.
            log.error("turn %s waits: %s", turn.id, error)
            await asyncio.sleep(JOURNAL_RETRY)
            if self._still_dispatched(lane, turn, worker):
                turn.apply(turn_life.Event.WORKER_GONE)
                if turn.interrupt_reason:
                    lane.current = None
                    self._end_unstarted(turn, turn_life.Event.CANCELLED, words.interrupted(""))
                self._live(lane, worker_life.Event.TURN_ENDED)
                self._retire_if_over(lane)
            return
        if not self._still_dispatched(lane, turn, worker):
            return
        turn.started_at = time.monotonic()
        inbound = turn.row.inbound
        start = StartTurn(
            turn=turn.id,
            text=turn.text,
            sender=inbound.user_id,
            sender_name=inbound.user_name,
            attachments=tuple(File(file.path, file.name, file.mime) for file in inbound.attachments),
            attempt=turn.attempt,
            timeout=self.settings.turn_timeout,
        )
        try:
            self.pool.send(worker, start)
        except LocalError as error:  # larger than a frame, for one
            answer = Outbound(f"{turn.id}:answer", words.failed(str(error)), kind="error")
            self._end(lane, turn, turn_life.Event.FAILED, TurnState.FAILED, answer, error=str(error))
            self._turn_over(lane)
            return
        if turn.interrupt_reason:
            self.pool.send(worker, Interrupt(turn.id, turn.interrupt_reason))

    @staticmethod
    def _still_dispatched(lane: Lane, turn: Turn, worker: Worker) -> bool:
        """Whether the world is, after a wait for the journal, what it was before."""
        return lane.current is turn and lane.worker is worker and turn.state is turn_life.State.DISPATCHED

    async def _accepted(self, lane: Lane, turn: Turn, worker: Worker, settle: Callable[[], None]) -> None:
        await self._keep(turns.accepted, turn.id, worker.id, time.time())
        if lane.worker is worker and turn.state is turn_life.State.DISPATCHED:
            turn.apply(turn_life.Event.ACCEPTED)
        settle()

    def _finished(self, lane: Lane, turn: Turn, message: Finished, settle: Callable[[], None]) -> None:
        event, outcome = OUTCOMES.get(message.outcome, OUTCOMES["failed"])
        text, kind = message.text, "answer"
        if event is turn_life.Event.FAILED:
            text, kind = words.failed(message.error), "error"
        elif event is turn_life.Event.INTERRUPTED:
            text = words.interrupted(message.text)
        entries: tuple[Entry, ...] = ()
        if outcome is TurnState.DONE or (outcome is TurnState.INTERRUPTED and message.text):
            now = time.time()
            entries = (Entry("user", turn.text, now), Entry("assistant", message.text, now))
        answer = Outbound(f"{turn.id}:answer", text, kind=kind, usage=dict(message.usage))
        self._end(lane, turn, event, outcome, answer, entries=entries, error=message.error, settle=settle)
        self._turn_over(lane)

    def _turn_over(self, lane: Lane) -> None:
        self._live(lane, worker_life.Event.TURN_ENDED)
        self._retire_if_over(lane)

    def _turn_lost_its_worker(self, lane: Lane, turn: Turn, gone: Gone) -> None:
        # A worker that we ended ourselves (the session was stopped, hermesd stops) did not die of the message.
        killed = turn.killed + (lane.life is not worker_life.State.STOPPING)
        event = turn_life.after_death(
            accepted=turn.accepted,
            interrupted=bool(turn.interrupt_reason),
            killed=killed,
            on_crash=self.settings.on_crash,
        )
        counted = killed > turn.killed
        turn.killed = killed
        was_accepted = turn.accepted
        how = words.how_it_ended(gone.exit_code)
        match event:
            case turn_life.Event.WORKER_GONE:
                turn.apply(event)
                self.approvals.drop(lane.key)
                self._persist(turns.requeued, turn.id, time.time(), error=how, killed_worker=counted)
                lane.queue.appendleft(turn)
                lane.current = None
                self._queue_steering(lane)
            case turn_life.Event.INTERRUPTED:
                answer = Outbound(f"{turn.id}:answer", words.interrupted(""))
                self._end(lane, turn, event, TurnState.INTERRUPTED, answer, error=turn.interrupt_reason)
            case turn_life.Event.POISONOUS:
                answer = Outbound(f"{turn.id}:answer", words.dead_letter(killed), kind="error")
                outcome = TurnState.LOST if was_accepted else TurnState.FAILED
                self._end(lane, turn, event, outcome, answer, error=how, dead_letter=True, killed_worker=counted)
            case _:
                answer = Outbound(f"{turn.id}:answer", words.lost(gone.exit_code), kind="error")
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
    ) -> None:
        """A dispatched turn is over: write it down whole, then deliver its answer."""
        turn.apply(event)
        self.approvals.drop(lane.key)
        lane.current = None
        self._queue_steering(lane)
        self._plan_soon()
        written = self._keep(
            turns.finish,
            turn.id,
            outcome,
            time.time(),
            entries=entries,
            outgoing=((turn.target, answer),),
            error=error,
            dead_letter=dead_letter,
            killed_worker=killed_worker,
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

    def _end_unstarted(self, turn: Turn, event: turn_life.Event, text: str) -> None:
        """A turn that no worker has is over."""
        turn.apply(event)
        failed = event is turn_life.Event.FAILED
        answer = Outbound(f"{turn.id}:answer", text, kind="error" if failed else "answer")
        if turn.attempt:
            # A worker had it before, so that it has a row of its own that must end too.
            outcome = TurnState.FAILED if failed else TurnState.INTERRUPTED
            outgoing = ((turn.target, answer),) if text else ()
            written = self._keep(turns.finish, turn.id, outcome, time.time(), outgoing=outgoing, error=text)
            self._tasks.job(self._ended(turn, written), f"end {turn.id}")
            return
        state = InboxState.FAILED if failed else InboxState.DROPPED
        self._persist(inbox.finish, turn.row.id, state, time.time(), error=text)
        if text:
            self._say(turn.target, answer, turn.id)
        turn.ended.set_result(turn.state)

    def _retire_if_over(self, lane: Lane) -> None:
        """A stateless request that was taken back before it began leaves a session that nobody will ask again."""
        if lane.ephemeral and lane.current is None and not lane.queue:
            self._live(lane, worker_life.Event.RETIRE)
            self._offer(lane)

    def _interrupt_turn(self, lane: Lane, turn: Turn, reason: str) -> None:
        if turn.interrupt_reason:
            return
        turn.interrupt_reason = reason
        if turn.state is turn_life.State.QUEUED:
            # Granted, and its worker is not there yet.
            lane.current = None
            self._end_unstarted(turn, turn_life.Event.CANCELLED, words.interrupted(""))
            self._plan_soon()
            self._retire_if_over(lane)
            return
        loop = asyncio.get_running_loop()
        if turn.started_at and lane.worker is not None:
            self.pool.send(lane.worker, Interrupt(turn.id, reason))
        loop.call_later(INTERRUPT_ARRIVES, self._insist, lane, turn, False)
        loop.call_later(INTERRUPT_GRACE, self._insist, lane, turn, True)

    def _insist(self, lane: Lane, turn: Turn, last: bool) -> None:
        if lane.current is not turn or lane.worker is None or (turn.interrupt_arrived and not last):
            return
        log.warning("turn %s does not end: killing worker %s", turn.id, lane.worker.id)
        self._live(lane, worker_life.Event.KILL)

    # ---- what an agent says besides ----------------------------------------------------------------------------------

    async def _send(self, turn: Turn, message: Send, settle: Callable[[], None]) -> None:
        files = tuple(Attachment(file.path, file.name, file.mime) for file in message.files)
        outgoing = Outbound(f"{turn.id}:send:{message.id}", message.text, files=files, kind="extra", final=False)
        row = await self._keep(outbox.add, turn.target, outgoing, time.time(), turn=turn.id)
        settle()
        if row is not None:
            self._deliverer.deliver([row])

    async def _ask(self, lane: Lane, turn: Turn, message: Ask, settle: Callable[[], None]) -> None:
        row = None
        if not lane.ephemeral:
            text = words.question(message.question, message.choices)
            outgoing = Outbound(f"{turn.id}:ask:{message.ask}", text, kind="question", final=False)
            row = await self._keep(outbox.add, turn.target, outgoing, time.time(), turn=turn.id)
        settle()
        if lane.current is not turn or not turn.accepted:
            return
        turn.apply(turn_life.Event.ASKED)
        self._live(lane, worker_life.Event.ASKED)
        self.approvals.open(lane.key, message, lambda answer: self._answered(lane, turn, answer))
        if lane.ephemeral:
            # A stateless request has no way to answer: its agent is told at once instead of waiting for nobody.
            self.approvals.refuse(AskId(message.ask))
        elif row is not None:
            self._deliverer.deliver([row])

    def _answered(self, lane: Lane, turn: Turn, answer: Answer) -> None:
        if lane.current is not turn or lane.worker is None or turn.state is not turn_life.State.WAITING:
            return
        self.pool.send(lane.worker, answer)
        if not self.approvals.of(lane.key):
            turn.apply(turn_life.Event.ANSWERED)
            self._live(lane, worker_life.Event.ANSWERED)

    # ---- the journal -------------------------------------------------------------------------------------------------

    def _say(self, target: Target, message: Outbound, turn: str = "") -> None:
        written = self._keep(outbox.add, target, message, time.time(), turn=turn)

        async def deliver() -> None:
            if (row := await written) is not None:
                self._deliverer.deliver([row])

        self._tasks.job(deliver(), f"say {message.key}")

    def _persist(self, operation: Any, *args: Any, **kwargs: Any) -> None:
        """Write in the background, in the order of the calls, for as long as it takes."""
        self._tasks.job(self._keep(operation, *args, **kwargs), operation.__name__)

    def _keep(self, operation: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Write until the disk has it; the first try is queued before this returns, so that order is kept.

        What the operation itself refuses is a fault of ours: it is logged with its cause, and the result is None.
        """
        return self._kept(self._journal.write(operation, *args, **kwargs), operation, args, kwargs)

    async def _kept(
        self, written: asyncio.Future[Any], operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        while True:
            try:
                return await written
            except JournalUnavailable as error:
                log.error("%s", error)
                await asyncio.sleep(JOURNAL_RETRY)
                written = self._journal.write(operation, *args, **kwargs)
            except JournalError:
                log.exception("cannot write %s%r down", operation.__name__, args)
                return None
