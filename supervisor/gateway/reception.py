"""Where a message enters: journalled first, then let in or not, then given to a command or to its session's agent.

The order is a matter of safety. On disk before the platform is told "got it", so nothing is lost; the access gate
before anything is started for it, so a stranger costs a row and no process.

A chat's messages to its agent are answered in their order. Its slash commands are not: each is answered when its answer
is known, so that /status and /help never wait for a /stop that takes its seconds.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hermesd.adapters.contract import Cursor, Delivery, Inbound, Outbound, Press, Pressed, Target
from hermesd.adapters.errors import AdapterError, NotAccepted
from hermesd.ipc.ids import AskId, SessionKey
from hermesd.ipc.messages import Steer
from hermesd.supervisor.access.policy import AccessPolicy, judge
from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.journal import Journal, cursors, inbox, outbox, sessions, turns
from hermesd.supervisor.journal.errors import JournalError
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import InboxRow, OutboxRow
from hermesd.supervisor.journal.states import InboxState, TurnState
from hermesd.supervisor.sessions.key import session_key
from hermesd.supervisor.tasks import Tasks

from . import busy, prompt, turn_life, words
from .arrivals import Arrivals
from .commands.registry import Commands, parse
from .lane import Lane
from .lanes import Lanes
from .stickers import Stickers

log = logging.getLogger("hermesd.gateway")

CALLER_GONE = "the caller is gone"

LOCAL = "local"

ANSWER_ONLY = frozenset({"api_server"})
"""Platforms on which nobody is there who has not just asked something."""

ENDS_WHAT_WAITS = frozenset({"stop", "new", "reset"})
"""Commands that take back what their user has written before, also what has not reached the session's queue yet."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about messages that come in."""

    policy: AccessPolicy
    busy_mode: busy.BusyMode
    group_sessions_per_user: bool
    thread_sessions_per_user: bool
    platforms: frozenset[str] = frozenset()  # where something can be sent to
    homes: Mapping[str, Target] = field(default_factory=dict)  # platform -> its home channel


class Reception:
    """Implements `hermesd.adapters.contract.Receiver` for every way in."""

    def __init__(
        self,
        *,
        journal: Journal,
        lanes: Lanes,
        deliverer: Deliverer,
        commands: Commands,
        tasks: Tasks,
        rules: Rules,
        stickers: Stickers,
        media: Path,
        on_lost: Callable[[str, AdapterError], None],
    ):
        self._journal = journal
        self._on_lost = on_lost
        self._persistence = Persistence(journal, tasks)
        self._lanes = lanes
        self._deliverer = deliverer
        self._commands = commands
        self._tasks = tasks
        self._rules = rules
        self.refused = 0
        self._arrivals = Arrivals(
            adapters=deliverer.adapters,
            persistence=self._persistence,
            stickers=stickers,
            media=media,
            tasks=tasks,
            hand_on=self._hand_on,
        )
        self._resumed = False
        self._early: list[InboxRow] = []  # came before what an earlier life left was taken up
        self._arriving: set[asyncio.Task[InboxRow | JournalError | None]] = set()
        self._abandoned: dict[Target, bool] = {}  # of what is not admitted yet: whether its caller has gone

    def reconfigure(self, rules: Rules) -> None:
        """Go by other rules, from the next message on."""
        self._rules = rules

    def key_of(self, inbound: Inbound) -> SessionKey:
        return session_key(
            inbound,
            group_sessions_per_user=self._rules.group_sessions_per_user,
            thread_sessions_per_user=self._rules.thread_sessions_per_user,
        )

    async def receive(self, inbound: Inbound) -> bool:
        if self._lanes.draining:
            raise NotAccepted("hermesd is stopping", code="draining")
        if inbound.delivery is not None:
            inbound = replace(inbound, delivery=self._addressed(inbound.delivery))
        # Its own task: an adapter that is cancelled in mid-call leaves a message on disk, which must have its way.
        self._abandoned.setdefault(_place(inbound), False)
        arriving = self._tasks.job(self._take(inbound), f"receive {inbound.message_id}")
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arriving.discard)
        taken = await asyncio.shield(arriving)
        if isinstance(taken, JournalError):
            raise NotAccepted(f"the message cannot be kept: {taken}", code="journal") from taken
        return taken is not None

    def undeliverable(self, target: Target) -> str:
        """Why nothing can get to the target of a `Delivery` as things are configured, or ""."""
        if target.platform not in self._rules.platforms:
            return f"platform {target.platform!r} is not configured"
        if target.platform in ANSWER_ONLY:
            return f"{target.platform} has nobody to send something to"
        if not target.chat_id and target.platform not in self._rules.homes and target.platform != LOCAL:
            return f"no chat is named, and {target.platform} has no home channel"
        return ""

    def _addressed(self, delivery: Delivery) -> Delivery:
        """With the home channel for a chat that is not named. Raises `NotAccepted`."""
        if reason := self.undeliverable(delivery.target):
            raise NotAccepted(f"the answer cannot be delivered: {reason}", code="undeliverable")
        if delivery.target.chat_id:
            return delivery
        home = self._rules.homes.get(delivery.target.platform, delivery.target)
        return replace(delivery, target=replace(home, thread_id=delivery.target.thread_id or home.thread_id))

    async def _take(self, inbound: Inbound) -> InboxRow | JournalError | None:
        try:
            row = await self._journal.write(inbox.receive, inbound, time.time())
        except JournalError as error:
            self._abandoned.pop(_place(inbound), None)
            return error
        if row is None:
            self._abandoned.pop(_place(inbound), None)
        elif self._resumed:
            self._admit(row)
        else:
            self._early.append(row)
        return row

    def cancel(self, inbound_chat: Target) -> None:
        place = replace(inbound_chat, thread_id="")
        if place in self._abandoned:
            self._abandoned[place] = True
        else:
            self._lanes.orders.cancel(inbound_chat, CALLER_GONE)

    async def pressed(self, press: Press) -> Pressed:
        # Whoever may talk may press: the gate is asked as for a message of theirs.
        said = Inbound(
            platform=press.platform,
            chat_id=press.chat_id,
            message_id=press.message_id,
            user_id=press.user_id,
            text=press.choice,
            user_name=press.user_name,
            user_id_alt=press.user_id_alt,
            thread_id=press.thread_id,
        )
        verdict = judge(self._rules.policy, said)
        if not verdict.allowed:
            self.refused += 1
            log.warning("refused a press of %s user %r: %s", press.platform, press.user_id, verdict.reason)
            return Pressed(False, words.NOT_YOURS_TO_ANSWER)
        by = press.user_name or press.user_id
        try:
            taken = await self._lanes.early_answers.answer_one(AskId(press.ask), press.choice, by, press.number)
        except ValueError as error:
            return Pressed(False, str(error))
        if not taken:
            return Pressed(False, words.QUESTION_IS_OVER)
        return Pressed(True, words.pressed(press.choice, by))

    def lost(self, platform: str, error: AdapterError) -> None:
        self._on_lost(platform, error)

    async def cursor(self, platform: str, name: str) -> str:
        return await self._journal.read(cursors.get, platform, name)

    async def cursors(self, platform: str) -> Mapping[str, str]:
        return await self._journal.read(cursors.all_of, platform)

    async def keep_cursor(self, platform: str, cursor: Cursor) -> None:
        try:
            await self._journal.write(cursors.keep, platform, cursor)
        except JournalError as error:
            raise NotAccepted(f"the cursor cannot be kept: {error}", code="journal") from error

    def attended(self, chat: Target) -> None:
        self._deliverer.attended(chat)

    async def resume(self) -> None:
        """Take up what an earlier life left, oldest first; called once, when everything is up.

        What comes in meanwhile waits on disk: its session's older messages and their answers go first. A message whose
        agent had started is not run again by itself: its tools may have acted.
        """
        unfinished = await self._journal.read(inbox.unfinished)
        if self._arriving:
            await asyncio.wait(set(self._arriving))  # then every row of this life among them is known by its number
        early = {row.id for row in self._early}
        for row in unfinished:
            if row.id in early:
                continue
            if row.inbound.history is not None and row.inbound.delivery is None:
                # The caller of a stateless request went with its connection.
                await self._journal.write(_give_up, row, time.time(), "hermesd was restarted; the caller is gone")
                continue
            if row.state is InboxState.RECEIVED:
                if row.turn and (
                    self._lanes.adoption.steered(row) or not await self._journal.write(inbox.handed_back, row.id)
                ):
                    continue
                self._admit(replace(row, turn=""))
            else:
                self._lanes.resume(row, SessionKey(row.session_key))
        await self._journal.write(sessions.end_left, time.time())
        self._resumed = True
        for row in self._early:
            self._admit(row)
        self._early.clear()

    def _admit(self, row: InboxRow) -> None:
        if self._abandoned.pop(_place(row.inbound), False):
            self._tasks.job(self._finish(row, InboxState.DROPPED, CALLER_GONE), f"drop {row.id}")
            return
        verdict = judge(self._rules.policy, row.inbound)
        if not verdict.allowed:
            self.refused += 1
            log.warning(
                "refused a message of %s user %r: %s", row.inbound.platform, row.inbound.user_id, verdict.reason
            )
            self._tasks.job(self._finish(row, InboxState.REFUSED, verdict.reason), f"refuse {row.id}")
            return
        if row.inbound.delivery is not None and row.inbound.delivery.verbatim:
            self._tasks.job(self._pass_on(row), f"pass on {row.id}")
            return
        key = self.key_of(row.inbound)
        command = parse(row.inbound.text)
        if command is not None and row.inbound.history is None:
            self._tasks.job(self._command(row, key, *command), f"command {command[0]}")
            return
        # Not at once: a command that came before it begins in the loop's next round, and must find what was before it.
        asyncio.get_running_loop().call_soon(self._arrivals.add, row, key)

    def _hand_on(self, row: InboxRow, key: SessionKey) -> None:
        lane = self._lanes.lane_of(key)
        running = lane.current if lane is not None else None
        verdict = busy.judge(
            self._rules.busy_mode,
            running=running is not None,
            waiting=running is not None and running.state is turn_life.State.WAITING,
            own_session=row.inbound.history is not None,
        )
        if verdict is busy.Verdict.INTERRUPT_THEN_QUEUE and running is not None:
            # By its target, not by its session: whatever runs there a moment later may be this new message.
            self._lanes.orders.cancel(running.target, "a new message came")
            self._lanes.submit(row, key)
        elif verdict is busy.Verdict.STEER and running is not None and lane is not None and _can_steer(lane, row):
            self._lanes.turns.steer(lane, Steer(running.id, prompt.text_of(row.inbound, key)), row)
        else:
            self._lanes.submit(row, key)

    async def _command(self, row: InboxRow, key: SessionKey, name: str, argument: str) -> None:
        if name in ENDS_WHAT_WAITS:
            for waiting in self._arrivals.forget(key):
                await self._finish(waiting, InboxState.DROPPED, f"taken back by /{name}")
        answer = await self._commands.run(name, argument, row, key)
        if answer is None:
            return  # the command has made a turn of its message, which is answered in its own time
        message = Outbound(f"command:{row.id}", answer, kind="notice")
        if (outgoing := await self._persistence.keep(_answer, row, message, time.time())) is not None:
            self._deliverer.deliver([outgoing])

    async def _pass_on(self, row: InboxRow) -> None:
        message = Outbound(f"event:{row.id}", row.inbound.text)
        if (outgoing := await self._persistence.keep(_answer, row, message, time.time())) is not None:
            self._deliverer.deliver([outgoing])

    async def _finish(self, row: InboxRow, state: InboxState, error: str) -> None:
        await self._persistence.keep(inbox.finish, row.id, state, time.time(), error=error)


def _can_steer(lane: Lane, row: InboxRow) -> bool:
    """Whether a message can be handed to what its session is at: words only, and to a worker that has that turn."""
    if lane.worker is None or lane.current is None or lane.current.state is turn_life.State.QUEUED:
        return False
    return bool(row.inbound.text.strip()) and not row.inbound.attachments


def _place(inbound: Inbound) -> Target:
    """How an adapter names the message when it cancels it."""
    return Target(inbound.platform, inbound.chat_id, reply_to=inbound.message_id)


def _answer(connection: sqlite3.Connection, row: InboxRow, message: Outbound, now: float) -> OutboxRow:
    """A message needs no agent any more and its answer waits in the outbox: both or neither."""
    inbox.finish(connection, row.id, InboxState.ANSWERED, now)
    return outbox.add(connection, row.target, message, now)


def _give_up(connection: sqlite3.Connection, row: InboxRow, now: float, error: str) -> None:
    """End a stateless request of an earlier life, its turn and its session."""
    if row.turn:
        turns.finish(connection, row.turn, TurnState.FAILED, now, error=error)
    else:
        inbox.finish(connection, row.id, InboxState.DROPPED, now, error=error)
    if row.session_key:
        sessions.end(connection, row.session_key, "restarted", now)
