"""kill -9 of a process that writes the journal: what was acknowledged is there, whole, and the file is sound.

Run as a program, this file is that process. ``kill_rounds`` is for a soak as well as for the test.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hermesd.adapters.contract import Inbound, Outbound
from hermesd.ipc.messages import Entry
from hermesd.supervisor.journal import Journal, inbox, outbox, sessions, turns
from hermesd.supervisor.journal.database import check, open_for_writing
from hermesd.supervisor.journal.rows import Origin
from hermesd.supervisor.journal.states import InboxState, TurnState

LANES = 8  # sessions that write at the same time; each waits for its write before it makes the next


@dataclass(frozen=True, slots=True)
class Killed:
    """What all rounds together came to."""

    rounds: int
    received: int  # acknowledged messages
    answered: int  # acknowledged answers
    surplus: int  # messages that were on disk, their acknowledgement cut off


def kill_rounds(directory: Path, rounds: int, seed: int) -> Killed:
    """Write and kill ``rounds`` times, in one file that lives through all of them; asserts after each."""
    chance = random.Random(seed)
    path = directory / "state.db"
    received: set[str] = set()
    answered: set[str] = set()
    for round_ in range(rounds):
        enough = 0 if round_ == 0 else chance.randrange(1500)  # 0: killed while it makes the file
        with subprocess.Popen(
            [sys.executable, __file__, str(path), str(round_)], stdout=subprocess.PIPE, text=True
        ) as child:
            try:
                assert child.stdout is not None
                assert child.stdout.readline() == "opening\n"
                lines = [child.stdout.readline() for _ in range(enough)]
            finally:
                child.kill()
            lines += child.stdout.readlines()
        assert child.returncode == -9, "the child ended by itself"
        words = [line.split() for line in lines]
        received |= {message for verb, message in words if verb == "received"}
        answered |= {message for verb, message in words if verb == "answered"}
        surplus = _examine(path, received, answered)
        assert surplus <= LANES * (round_ + 1)
    return Killed(rounds, len(received), len(answered), surplus)


def _examine(path: Path, received: set[str], answered: set[str]) -> int:
    with closing(open_for_writing(path)) as connection:
        assert check(connection, full=True) == []
        states = dict(connection.execute("SELECT message_id, state FROM inbox").fetchall())
        assert received <= states.keys()
        finished = {message for message, state in states.items() if state == InboxState.ANSWERED}
        assert answered <= finished
        # One operation is all or nothing: where the message is answered, everything else of its turn is there.
        replies = {row["reply_to"] for row in connection.execute("SELECT reply_to FROM outbox")}
        done = {row["turn"] for row in connection.execute("SELECT turn FROM turns WHERE state = 'done'")}
        said = dict(connection.execute("SELECT turn, COUNT(*) FROM transcripts GROUP BY turn").fetchall())
        assert replies == finished
        assert done == finished
        assert said == dict.fromkeys(finished, 2)
        return len(states.keys() - received)


def test_kill_9_at_random_moments_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    killed = kill_rounds(tmp_path, rounds=10, seed=20261122)
    assert killed.received > 500
    assert killed.answered > 500


# ---- the process that is killed -------------------------------------------------------------------------------------


async def write_for_ever(path: Path, round_: int) -> None:
    say("opening")
    journal = Journal(path)
    await journal.open()
    await journal.write(outbox.recover, time.time())
    await asyncio.gather(*(one_lane(journal, f"{round_}.{lane}") for lane in range(LANES)))


async def one_lane(journal: Journal, lane: str) -> None:
    key = f"agent:main:fake:dm:{lane}"
    session = await journal.write(sessions.get_or_create, key, Origin("fake", lane), time.time())
    number = 0
    while True:
        number += 1
        message = f"{lane}.{number}"
        row = await journal.write(inbox.receive, Inbound("fake", lane, message, "u", "question"), time.time())
        say(f"received {message}")
        assert row is not None
        await journal.write(inbox.queued, row.id, key, time.time())
        await journal.write(turns.dispatched, message, key, session.session_id, row.id, "w1", time.time())
        await journal.write(turns.accepted, message, "w1", time.time())
        await journal.write(
            turns.finish,
            message,
            TurnState.DONE,
            time.time(),
            entries=[Entry("user", "question"), Entry("assistant", "answer " * 50)],
            outgoing=[(row.target, Outbound(message, "answer " * 50))],
        )
        say(f"answered {message}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one write of less than PIPE_BUF: never half a line


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
