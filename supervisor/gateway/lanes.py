"""The sessions at work: performs what the tables and the router decide, and feeds back what comes of it.

This is the shell around two pure parts: `router` (who may go now) and `worker_life` (what an event means for a
worker). It keeps no rule of its own; the life of a turn is in `turns`. All of it runs on the event loop; the journal's
order of writes is the order of calls, so a step is never on disk before the one it follows from.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from hermesd.adapters.contract import Outbound, Target
from hermesd.ipc.ids import SessionKey, TurnId
from hermesd.ipc.keeping import Gone
from hermesd.ipc.messages import (
    Interrupt,
    Logs,
    Message,
    Send,
    Snapshot,
)
from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.journal import Journal, inbox, sessions, turns
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import InboxRow
from hermesd.supervisor.journal.states import InboxState
from hermesd.supervisor.mcp.holders import Holders
from hermesd.supervisor.pool import backoff, worker_life
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks

from . import prompt, turn_life, words
from .adoption import Adoption
from .approvals import Approvals
from .drain_order import DrainOrder
from .early_answers import EarlyAnswers
from .lane import Lane, Turn
from .lane_settings import LaneSettings
from .past import Past, Pasts
from .presence import Presence
from .recycling import Recycling
from .router import Evict, Grant, LaneView, Start, Wait, plan
from .session_orders import SessionOrders
from .starting import Starting
from .stickers import Stickers
from .stopping import Stopping
from .time_limits import is_worth_a_warning, overrun
from .turns import Turns

log = logging.getLogger("hermesd.gateway")

START_SECONDS = 60.0
"""From a worker's launch to its agent; an agent that imports a large library takes ten."""


class Lanes:
    """Implements `hermesd.supervisor.pool.listeners.PoolListener`.

    ``on_escalation`` is called when workers crash all over; ``on_logs`` with the log records of a worker.
    """

    def __init__(
        self,
        *,
        settings: LaneSettings,
        journal: Journal,
        deliverer: Deliverer,
        tasks: Tasks,
        stickers: Stickers,
        on_escalation: Callable[[int], None],
        on_logs: Callable[[Worker, Logs], None],
    ):
        self.settings = settings
        self.approvals = Approvals(lambda ask, outcome: deliverer.questions.over(ask.turn, ask.ask, outcome))
        self._journal = journal
        self._deliverer = deliverer
        self._tasks = tasks
        self._on_escalation = on_escalation
        self._on_logs = on_logs
        self._lanes: dict[SessionKey, Lane] = {}
        self._pasts = Pasts()
        self._tidied: asyncio.TimerHandle | None = None
        self._crashes = backoff.CrashWindow()
        self._persistence = Persistence(journal, tasks)
        self.presence = Presence(deliverer.adapters, tasks, self.writing, deliverer.closed_for, deliverer.heed)
        self.turns = Turns(
            lanes=self,
            journal=journal,
            persistence=self._persistence,
            deliverer=deliverer,
            approvals=self.approvals,
            tasks=tasks,
            stickers=stickers,
            presence=self.presence,
            turn_timeout=settings.turn_timeout,
            on_crash=settings.on_crash,
        )
        self._time_limits = settings.time_limits
        self._starting = Starting(self, journal)
        self.stopping = Stopping(self)
        self.orders = SessionOrders(self, self.turns, journal)
        self.early_answers = EarlyAnswers(journal, self._persistence, self.approvals, deliverer)
        self.adoption = Adoption(self, self.turns, self._persistence, deliverer)
        self._pool: Pool | None = None
        self._recycling: Recycling | None = None
        self._plan_due = False
        self.draining = False  # hermesd stops
        self.drain_order = DrainOrder()

    def use(self, pool: Pool, holders: Holders | None = None) -> None:
        """Called once by the app: pool and lanes know each other."""
        self._pool = pool
        self._recycling = Recycling(self, pool, self._tasks, holders)

    @property
    def pool(self) -> Pool:
        assert self._pool is not None
        return self._pool

    @property
    def recycling(self) -> Recycling:
        assert self._recycling is not None
        return self._recycling

    @property
    def lanes(self) -> dict[SessionKey, Lane]:
        return self._lanes

    def writing(self) -> Iterator[Target]:
        """Where somebody waits for an answer that an agent is at, and not for a word of the user's."""
        for lane in self._lanes.values():
            if lane.current is not None and lane.current.state is turn_life.State.RUNNING:
                yield lane.current.target

    @property
    def running(self) -> int:
        return sum(lane.current is not None for lane in self._lanes.values())

    @property
    def waiting(self) -> int:
        return sum(len(lane.queue) for lane in self._lanes.values())

    def reconfigure(self, settings: LaneSettings) -> None:
        """Go by other settings from now on, as far as they are not of a worker that runs already."""
        before, self.settings = self.settings, settings
        self._time_limits = settings.time_limits
        self.recycling.enforcer.reconfigure(settings.limits)
        self.turns.reconfigure(settings.on_crash, settings.turn_timeout)
        idle = sorted(
            (lane for lane in self._lanes.values() if lane.life is worker_life.State.IDLE and lane.current is None),
            key=lambda lane: lane.idle_since,
        )
        if settings.idle_timeout != before.idle_timeout:
            for lane in idle:
                left = lane.idle_since + settings.idle_timeout - time.monotonic()
                self._arm(lane, max(0.0, left), worker_life.Event.HIBERNATE)
        processes = sum(lane.life in worker_life.WITH_PROCESS for lane in self._lanes.values())
        for lane in idle[: max(0, processes - settings.max_workers)]:
            self.live(lane, worker_life.Event.HIBERNATE)
        self.plan_soon()

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
            text=prompt.text_of(row.inbound, key),
            queued_at=time.monotonic(),
            ended=asyncio.get_running_loop().create_future(),
            attempt=row.attempt,
            killed=row.killed,
        )
        if row.state is not InboxState.QUEUED:
            self._persistence.persist(inbox.queued, row.id, key, time.time())
        lane.queue.append(turn)
        if self.drain_order.covers(key) and row.inbound.delivery is None:
            self._deliverer.notice(turn.target, words.DRAINED)
        self.refuse_if_quarantined(lane)
        self.plan_soon()
        return turn

    def refuse_if_quarantined(self, lane: Lane) -> None:
        """Nobody answers what waits there, unless what holds the lane (a /new) is about to end the quarantine."""
        if lane.life is not worker_life.State.QUARANTINED or lane.held:
            return
        text = words.still_quarantined(lane.retry_at - time.monotonic())
        while lane.queue:
            self.turns.end_unstarted(lane.queue.popleft(), turn_life.Event.FAILED, text)

    def resume(self, row: InboxRow, key: SessionKey) -> None:
        """Take up a message that an earlier life of hermesd had begun to work on."""
        if self.adoption.holds(row):
            return
        if row.state is InboxState.ACCEPTED and self.settings.on_crash != "retry":
            self._tasks.job(self.turns.tell_lost(row), f"tell {row.id}")
            return
        if row.state in (InboxState.DISPATCHED, InboxState.ACCEPTED):
            self._persistence.persist(turns.requeued, row.turn, time.time(), error="hermesd ended")
            self._deliverer.questions.turn_over(row.turn)
            row = replace(row, state=InboxState.QUEUED)
        self.submit(row, key)

    def lane_of(self, key: SessionKey) -> Lane | None:
        """None for a session without a worker in which nothing waits either."""
        return self._lanes.get(key)

    def past_of(self, key: SessionKey) -> Past:
        """How the workers of a session ended, also of one that has no lane."""
        lane = self._lanes.get(key)
        return self._pasts.of(key) if lane is None else Past(lane.restarts, lane.last_end)

    def open(self, key: SessionKey, *, ephemeral: bool = False) -> Lane:
        """The lane of a session that somebody has an order for, or whose worker lives already."""
        return self._lane(key, ephemeral=ephemeral)

    def _lane(self, key: SessionKey, *, ephemeral: bool) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            now, past = time.monotonic(), self._pasts.of(key)
            lane = self._lanes[key] = Lane(key, ephemeral, idle_since=now, life_since=now)
            lane.restarts, lane.last_end = past.restarts, past.last_end
            lane.settled.set()
        return lane

    # ---- the router --------------------------------------------------------------------------------------------------

    def plan_soon(self) -> None:
        if not self._plan_due:
            self._plan_due = True
            asyncio.get_running_loop().call_soon(self._plan)

    def _plan(self) -> None:
        self._plan_due = False
        if self.draining:
            return
        self._forget_what_is_over()
        views = [
            LaneView(
                key=lane.key,
                worker=lane.life,
                idle_since=lane.idle_since,
                holds_slot=lane.current is not None,
                wants=self._may_begin(lane) and lane.life is not worker_life.State.BACKOFF,
                waiting_since=lane.queue[0].queued_at if lane.queue else lane.restart_asked_at,
                restarting=lane.restarting and lane.life is worker_life.State.HIBERNATED,
            )
            for lane in self._lanes.values()
        ]
        for decision in plan(views, max_turns=self.settings.max_turns, max_workers=self.settings.max_workers):
            lane = self._lanes[decision.key]
            match decision:
                case Grant():
                    lane.current = lane.last_turn = lane.queue.popleft()
                    lane.current.place = 0
                    self.live(lane, worker_life.Event.WANTED)
                case Start():
                    self.live(lane, worker_life.Event.WANTED)
                case Evict():
                    self.live(lane, worker_life.Event.HIBERNATE)
                case Wait(place=place):
                    self._tell_place(lane.queue[0], place)

    def _forget_what_is_over(self) -> None:
        if self._pasts.take_from(self._lanes, time.monotonic()) and self._tidied is None:
            # Nothing else happens when the last crash of a lane has become old.
            self._tidied = asyncio.get_running_loop().call_later(backoff.CRASH_WINDOW + 1.0, self._tidy)

    def _tidy(self) -> None:
        self._tidied = None
        self.plan_soon()

    def _may_begin(self, lane: Lane) -> bool:
        return bool(lane.queue) and not lane.held and not self.drain_order.covers(lane.key)

    def _tell_place(self, turn: Turn, place: int) -> None:
        if turn.place == place or turn.row.inbound.delivery is not None:  # nobody waits for an event's answer
            return
        first_time = not turn.place
        turn.place = place
        text = words.place_in_line(place, self.running)
        if not self._deliverer.notice(turn.target, text) and first_time:
            self._deliverer.say_soon(
                turn.target, Outbound(f"{turn.id}:place", text, kind="notice", final=False), turn.id
            )

    # ---- the life of a worker ----------------------------------------------------------------------------------------

    def live(self, lane: Lane, event: worker_life.Event) -> None:
        """Take one event: look the step up, then perform its actions."""
        step = worker_life.step(lane.life, event)
        if step.state is not lane.life:
            lane.cancel_timer()
            lane.life, lane.life_since = step.state, time.monotonic()
            if step.state is worker_life.State.IDLE:
                lane.idle_since = lane.life_since
                self._arm(lane, self.settings.idle_timeout, worker_life.Event.HIBERNATE)
        if step.state not in (worker_life.State.HIBERNATED, worker_life.State.STARTING):
            lane.started(f"its new worker has ended: {lane.last_end}" if lane.last_end else "it was stopped meanwhile")
        if step.state in worker_life.WITH_PROCESS:
            lane.settled.clear()
        else:
            lane.settled.set()
        for action in step.actions:
            self._act(lane, action)

    def _act(self, lane: Lane, action: worker_life.Action) -> None:
        match action:
            case worker_life.Action.START:
                self._tasks.job(self._start_worker(lane), f"start {lane.key}")
            case worker_life.Action.POLITE_STOP:
                self._arm(lane, self.settings.reap, worker_life.Event.TIMER)
                if lane.worker is not None:
                    self.pool.stop_worker(lane.worker, "hermesd ends it", self.settings.stop_grace)
            case worker_life.Action.KILL:
                if lane.worker is not None:
                    self.pool.kill(lane.worker, dump=lane.current is not None or bool(lane.worker.ended_for))
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
        lane.timer = asyncio.get_running_loop().call_later(seconds, self.live, lane, event)

    def _offer(self, lane: Lane) -> None:
        """The lane may have become able to take a turn."""
        if lane.life is worker_life.State.IDLE and lane.current is not None:
            self._tasks.job(self.turns.dispatch(lane, lane.current), f"dispatch {lane.current.id}")
        elif lane.life is worker_life.State.HIBERNATED and lane.current is not None:
            if not self.draining:
                self.live(lane, worker_life.Event.WANTED)
        elif lane.life is worker_life.State.HIBERNATED and lane.ephemeral and not lane.queue:
            self._forget(lane)
        self.plan_soon()

    def turn_over(self, lane: Lane, turn: Turn) -> None:
        """Its worker has ended a turn, and has the next one unless it is worn out."""
        self.recycling.after_turn(lane)
        self.live(lane, worker_life.Event.TURN_ENDED)
        # Not before its end is on disk: till then the worker has the only copy of an answer that nobody asks for again.
        turn.ended.add_done_callback(lambda _: self.retire_if_over(lane))

    def turn_begins(self) -> None:
        self.recycling.enforcer.turn_begins()

    def retire_if_over(self, lane: Lane) -> None:
        """A stateless session whose turn has ended, or was taken back before it began, is over."""
        if lane.ephemeral and lane.current is None and not lane.queue:
            self.live(lane, worker_life.Event.RETIRE)
            self._offer(lane)

    def _forget(self, lane: Lane) -> None:
        """A stateless request's session ends with its reply."""
        if self._lanes.get(lane.key) is lane:
            lane.cancel_timer()
            del self._lanes[lane.key]
            self._persistence.persist(sessions.end, lane.key, "answered", time.time())

    def _quarantine(self, lane: Lane) -> None:
        crashes = lane.crashes.count(time.monotonic())
        log.error("session %s is quarantined after %d crashes", lane.key, crashes)
        text = words.quarantined(crashes, backoff.QUARANTINE_SECONDS / 60)
        waiting = [lane.current] if lane.current is not None else []
        waiting += lane.queue
        lane.queue.clear()
        lane.current = None
        for turn in waiting:
            self.turns.end_unstarted(turn, turn_life.Event.FAILED, text)
        if not waiting and (last := lane.last_turn) is not None:
            # Not as an answer to that message: it has had one.
            target = replace(last.target, reply_to="")
            self._deliverer.say_soon(
                target, Outbound(f"{last.id}:quarantine:{lane.restarts}", text, kind="error"), last.id
            )

    async def _start_worker(self, lane: Lane) -> None:
        if await self._starting.start(lane):
            # From here on: what came before was the journal's time, not the agent's.
            self._arm(lane, START_SECONDS, worker_life.Event.START_TIMED_OUT)

    # ---- the pool's side ---------------------------------------------------------------------------------------------

    def worker_ready(self, worker: Worker, error: str) -> None:
        lane = self.lane_with(worker)
        if lane is None:
            return
        # One that was taken over counts as ready already.
        if lane.life in (worker_life.State.STARTING, worker_life.State.STOPPING):
            lane.started(error)
            self.live(lane, worker_life.Event.READY)

    def worker_forked(self, worker: Worker) -> None:
        if (lane := self.lane_with(worker)) is not None:
            self.adoption.record(lane, worker)

    def worker_snapshot(self, worker: Worker, snapshot: Snapshot) -> None:
        if (lane := self.lane_with(worker)) is not None:
            self.adoption.snapshot(lane, worker, snapshot)

    def worker_logs(self, worker: Worker, logs: Logs) -> None:
        self._on_logs(worker, logs)

    def worker_has(self, worker: Worker, message: Message) -> None:
        lane = self.lane_with(worker)
        if lane is not None and lane.current is not None and isinstance(message, Interrupt):
            lane.current.interrupt_arrived = True

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        lane = self.lane_with(worker)
        turn = lane.current if lane is not None else None
        about = getattr(message, "turn", "")
        if lane is not None and isinstance(message, Send) and (turn is None or about != turn.id):
            self.turns.send_late(lane, message, settle)
            return
        if lane is None or turn is None or about != turn.id:
            # Said before the supervisor's word that this turn is over reached the worker; nobody waits for it.
            log.info("a %s of worker %s is about turn %s, which is over", message.KIND, worker.id, about)
            settle()
            return
        self.turns.said(lane, turn, worker, message, settle)

    def worker_gone(self, worker: Worker, gone: Gone) -> None:
        self.adoption.forget(worker)
        lane = self.lane_with(worker)
        if lane is None:
            return
        lane.worker = None
        lane.last_end = (
            worker.ended_for or self.recycling.enforcer.why_it_ended(worker, gone) or words.how_it_ended(gone.exit_code)
        )
        expected = lane.life is worker_life.State.STOPPING
        stacks = self.pool.stacks_of(worker.id)
        log.log(
            logging.INFO if expected else logging.ERROR,
            "worker %s of %s ended: %s, %d processes left over and killed, %.1f s CPU%s",
            worker.id,
            lane.key,
            lane.last_end,
            gone.left_over,
            gone.cpu_seconds,
            f"; its stacks: {stacks}" if stacks else "",
            extra={"session": lane.key, "worker": worker.id},
        )
        turn = lane.current
        if turn is not None and turn.state is not turn_life.State.QUEUED:
            self.turns.lost_its_worker(lane, turn, gone)
        if expected:
            self.live(lane, worker_life.Event.ENDED)
        elif gone.exit_code is None and not worker.pid:
            # Its start went down with its keeper: a fault of nobody's agent, so that no crash is counted.
            self.live(lane, worker_life.Event.CRASHED)
        else:
            self._crashed(lane)

    def worker_hung(self, worker: Worker) -> None:
        """The watch has judged it hung and has its evidence: it is killed, and what it was doing counts as a crash."""
        lane = self.lane_with(worker)
        if lane is None:
            self.pool.kill(worker, dump=True)
        else:
            self.live(lane, worker_life.Event.HUNG)

    def check_time_limits(self, now: float) -> None:
        """End the turns whose time is over; called about once a second with the monotonic time."""
        for lane in list(self._lanes.values()):
            turn = lane.current
            if turn is None or not turn.started_at or turn.interrupt_reason:
                continue
            waits = turn.state is turn_life.State.WAITING
            reason = overrun(
                self._time_limits, now=now, started_at=turn.started_at, active_at=turn.active_at, waits_for_user=waits
            )
            if reason:
                self.turns.overrun(lane, turn, reason)
            elif not (waits or turn.warned) and is_worth_a_warning(
                self._time_limits, now=now, started_at=turn.started_at, active_at=turn.active_at
            ):
                self.turns.warn_quiet(turn, now, self._time_limits.quiet)

    def _crashed(self, lane: Lane) -> None:
        now = time.monotonic()
        lane.restarts += 1
        often = lane.crashes.add(now) >= backoff.QUARANTINE_AFTER
        self.live(lane, worker_life.Event.CRASHED_OFTEN if often else worker_life.Event.CRASHED)
        if (count := self._crashes.add(now)) > backoff.ESCALATE_AFTER:
            self._on_escalation(count)

    def lane_with(self, worker: Worker) -> Lane | None:
        """The lane whose worker this is; None once it has another one, or none."""
        lane = self._lanes.get(worker.session) if worker.session is not None else None
        return lane if lane is not None and lane.worker is worker else None
