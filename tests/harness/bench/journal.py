"""Turns a second that the journal takes, with the writes that the core makes for each; nothing is kept in memory.

Beside it: the same statements on the same file by one thread that commits each of them, as a program does that writes
before it goes on.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import Inbound, Outbound
from hermesd.ipc.messages import Entry
from hermesd.supervisor.journal import Journal, inbox, outbox, sessions, turns
from hermesd.supervisor.journal.database import open_for_writing
from hermesd.supervisor.journal.rows import Origin
from hermesd.supervisor.journal.states import TurnState

from . import place
from .effort import Effort, Say
from .row import Row, Series

QUESTION = "hello " * 20
ANSWER = "answer " * 100


def measure(effort: Effort, say: Say) -> list[Row]:
    ours: dict[int, list[float]] = {count: [] for count in effort.sessions}
    plain: list[float] = []
    for number in range(effort.runs):
        for count in effort.sessions:
            with place.temporary() as directory:
                total = effort.journalled_turns * (1 if count == 1 else 4)
                ours[count].append(asyncio.run(_journalled(directory, count, max(1, total // count))))
        with place.temporary() as directory:
            plain.append(_committed_one_by_one(directory, effort.journalled_turns))
        say(f"run {number + 1} of {effort.runs}")
    return [
        Row(
            "journal",
            f"journalled turns, {count} session{'s' if count > 1 else ''}",
            "turns/s",
            Series("the journal", ours[count]),
            (Series("sqlite3, one commit per write", plain),),
            lower_is_better=False,
        )
        for count in effort.sessions
    ]


async def _journalled(directory: Path, count: int, each: int) -> float:
    """Turns a second of so many sessions that write at the same time, each waiting for its own writes."""
    journal = Journal(directory / "state.db")
    await journal.open()
    try:
        began = time.perf_counter()

        async def talk(session: int) -> None:
            for step in _conversation(session, each):
                step.result = await journal.write(step.operation, *step.args, **step.kwargs)

        await asyncio.gather(*(talk(session) for session in range(count)))
        return count * each / (time.perf_counter() - began)
    finally:
        await journal.close()


def _committed_one_by_one(directory: Path, each: int) -> float:
    connection = open_for_writing(directory / "state.db")
    try:
        began = time.perf_counter()
        for step in _conversation(0, each):
            step.result = _commit(connection, step)
        return each / (time.perf_counter() - began)
    finally:
        connection.close()


def _commit(connection: sqlite3.Connection, step: _Step) -> Any:
    connection.execute("BEGIN IMMEDIATE")
    result = step.operation(connection, *step.args, **step.kwargs)
    connection.execute("COMMIT")
    return result


class _Step:
    """One write; whoever runs it puts its result here."""

    def __init__(self, operation: Callable[..., Any], *args: Any, **kwargs: Any):
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.result: Any = None


def _conversation(number: int, count: int) -> Any:
    """The writes of one session that has ``count`` turns, in the order of the core; later ones need earlier results."""
    key = f"agent:main:bench:dm:{number}"
    first = Inbound("bench", str(number), "0", "user", "hello")
    yield (created := _Step(sessions.get_or_create, key, Origin.of(first), time.time()))
    for step in range(count):
        turn, worker, now = f"t{number}-{step}", f"w{number}", time.time()
        yield (received := _Step(inbox.receive, Inbound("bench", str(number), f"m{step}", "user", QUESTION), now))
        row = received.result
        yield _Step(inbox.queued, row.id, key, now)
        yield _Step(turns.dispatched, turn, key, created.result.session_id, row.id, worker, now)
        yield _Step(turns.accepted, turn, worker, now)
        yield (
            ended := _Step(
                turns.finish, turn, TurnState.DONE, now,
                entries=(Entry("user", QUESTION, now), Entry("assistant", ANSWER, now)),
                outgoing=((row.target, Outbound(f"{turn}:answer", ANSWER)),),
            )
        )  # fmt: skip
        part = ended.result.outbox[0]
        yield _Step(outbox.sending, part.id, now)
        yield _Step(outbox.sent, part.id, "p1", now)
