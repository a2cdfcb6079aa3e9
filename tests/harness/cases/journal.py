"""kill -9 of a process that writes the journal: what was acknowledged is there, whole, and the file is sound.

Run as a program, this file is that process.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import Inbound, Outbound
from hermesd.ipc.messages import Entry
from hermesd.supervisor.journal import Journal, inbox, outbox, sessions, turns
from hermesd.supervisor.journal.database import check, open_for_writing
from hermesd.supervisor.journal.rows import Origin
from hermesd.supervisor.journal.states import InboxState, TurnState

LANES = 8  # sessions that write at the same time; each waits for its write before it makes the next

MOST_LINES = 1500
"""Acknowledgements that a process may give before it is killed."""


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Write and kill ``times`` times, in one file that lives through all of them; asserts after each."""
    with tempfile.TemporaryDirectory(prefix="hd-") as place:
        history = _History(Path(place) / "state.db", random.Random(seed))
        for number in range(times):
            history.one(number)
            if (number + 1) % 10 == 0:
                say(f"killed {number + 1} of {times} times, sound; {len(history.received)} messages acknowledged")
        return {
            "killed": times,
            "messages_acknowledged": len(history.received),
            "answers_acknowledged": len(history.answered),
            "missing": 0,
            "kept_without_an_acknowledgement": history.surplus,
            "bytes": history.path.stat().st_size,
        }


class _History:
    """What all processes so far have been told that it is on disk."""

    def __init__(self, path: Path, chance: random.Random):
        self.path = path
        self.received: set[str] = set()
        self.answered: set[str] = set()
        self.surplus = 0  # messages that were on disk, their acknowledgement cut off
        self._chance = chance

    def one(self, number: int) -> None:
        enough = 0 if number == 0 else self._chance.randrange(MOST_LINES)  # 0: killed while it makes the file
        with subprocess.Popen(
            [sys.executable, "-P", __file__, str(self.path), str(number)], stdout=subprocess.PIPE, text=True
        ) as child:
            try:
                assert child.stdout is not None
                assert child.stdout.readline() == "opening\n"
                lines = [child.stdout.readline() for _ in range(enough)]
            finally:
                child.kill()
            lines += child.stdout.readlines()
        assert child.returncode == -9, "the writer ended by itself"
        words = [line.split() for line in lines]
        self.received |= {message for verb, message in words if verb == "received"}
        self.answered |= {message for verb, message in words if verb == "answered"}
        self._examine()
        assert self.surplus <= LANES * (number + 1)

    def _examine(self) -> None:
        with closing(open_for_writing(self.path)) as connection:
            assert (faults := check(connection, full=True)) == [], faults
            states = dict(connection.execute("SELECT message_id, state FROM inbox").fetchall())
            assert self.received <= states.keys(), f"missing: {self.received - states.keys()}"
            finished = {message for message, state in states.items() if state == InboxState.ANSWERED}
            assert self.answered <= finished, f"not answered any more: {self.answered - finished}"
            # One operation is all or nothing: where the message is answered, everything else of its turn is there.
            replies = {row["reply_to"] for row in connection.execute("SELECT reply_to FROM outbox")}
            done = {row["turn"] for row in connection.execute("SELECT turn FROM turns WHERE state = 'done'")}
            said = dict(connection.execute("SELECT turn, COUNT(*) FROM transcripts GROUP BY turn").fetchall())
            assert replies == done == finished, "a part of a turn's end is there without the others"
            assert said == dict.fromkeys(finished, 2), "a transcript is there in part"
            self.surplus = len(states.keys() - self.received)


# ---- the process that is killed -------------------------------------------------------------------------------------


async def write_for_ever(path: Path, round_: int) -> None:
    tell("opening")
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
        tell(f"received {message}")
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
        tell(f"answered {message}")


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one write of less than PIPE_BUF: never half a line


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
