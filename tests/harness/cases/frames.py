"""Frames that are nearly right, at the real door: nothing raises or reaches another session, memory is flat."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.door import CODEC, Door, Played
from harness.mutations import mutated
from hermesd.ipc.messages import (
    Accept,
    Ask,
    Delta,
    File,
    Finished,
    Heartbeat,
    Hello,
    LogRecord,
    Logs,
    Message,
    Ready,
    Send,
    ServerReport,
    Servers,
    Snapshot,
    StartTurn,
    Status,
    Steered,
    ToolUse,
)  # fmt: skip

LOOK_EVERY = 500  # mutations between two looks at the victim
GROWTH = 16 << 20  # bytes that the process may have grown by: the allocator's own business, at any number of frames


class Raised(logging.Handler):
    """What the supervisor caught at a task's edge is what it raised."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.records.append(self.format(record))


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``times`` is the number of mutations."""
    raised = Raised()
    log = logging.getLogger("hermesd")
    level, propagate = log.level, log.propagate
    log.addHandler(raised)
    log.propagate = False  # a line for each dropped worker would be most of the output
    try:
        with tempfile.TemporaryDirectory(prefix="hd-") as place:
            result = asyncio.run(_run(Path(place), times, random.Random(seed), say))
    finally:
        log.removeHandler(raised)
        log.setLevel(level)
        log.propagate = propagate
    assert not raised.records, f"{len(raised.records)} exceptions, the first: {raised.records[0]}"
    return result


async def _run(place: Path, times: int, chance: random.Random, say: Callable[[str], None]) -> dict[str, Any]:
    async with Door(place) as door:
        numbers = itertools.count(1)
        victim = Victim(door)
        before = 0
        began = time.monotonic()
        evil, messages = _evil(door, next(numbers))
        others = [CODEC.encode(message, 1 if message.RELIABLE else 0) for message in messages]
        workers = 1
        for number in range(times):
            if evil.worker.id not in door.pool.workers:
                workers += 1
                evil, messages = _evil(door, next(numbers))
            names = [*victim.names, "", "t0", evil.worker.turn]
            identity = evil.identity
            if chance.random() < 0.02:  # under a name that it does not have
                identity = chance.choice((victim.worker.id.encode(), b"w99-dead.0", chance.randbytes(20) or b"x"))
            door.put(identity, mutated(evil.frame(chance.choice(messages)), others, names, chance))
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                victim.look()
                evil.worker.link.frames(time.monotonic())  # what waits for it goes out, as over a socket
                await asyncio.sleep(0)
            if number == times // 10:
                before = _memory()
            if number % 10_000 == 9_999:
                say(f"{number + 1} mutations, {workers} workers dropped or used up, {_memory() >> 20} MB, "
                    f"{(number + 1) / (time.monotonic() - began):.0f}/s")  # fmt: skip
        victim.look()
        gc.collect()
        grown = _memory() - before
        counts = door.pool.counts()
        result = {
            "mutations": times, "per_second": round(times / (time.monotonic() - began)), "workers": workers,
            "unreadable": counts.peer_errors, "false_claims": counts.false_claims,
            "foreign_frames": counts.foreign_frames, "refused_hellos": counts.refused_hellos,
            "grown_bytes": grown, "victims_turns": victim.turns,
        }  # fmt: skip
        assert grown < GROWTH, f"the process has grown by {grown >> 20} MB: {result}"
        assert not set(door.heard.gone) & {victim.worker.id}, "the victim was ended"
        return result


class Victim:
    """Another session, which goes on as if nothing were."""

    def __init__(self, door: Door):
        self._door = door
        self._played = door.worker("agent:main:test:dm:victim")
        self.worker = self._played.worker
        self.turns = 0
        self.names: list[str] = []
        self._begin()

    def look(self) -> None:
        """End its turn and begin the next; what was heard of it is what it said, all of it, and nothing else."""
        turn = f"victim-turn-{self.turns}"
        said: list[Message] = [Delta(turn, "part"), Send(f"victim-send-{self.turns}", turn, "", "x")]
        said.append(Finished(turn, "done", f"answer {self.turns}"))
        for message in said:
            self._played.say(message)
        heard = self._door.heard.said.get("agent:main:test:dm:victim", [])
        assert heard == [Accept(turn), *said], heard
        assert self.worker.turn in ("", turn)
        self._door.heard.said = {}
        self.turns += 1
        self._begin()

    def _begin(self) -> None:
        turn = f"victim-turn-{self.turns}"
        self.names = [turn, str(self.worker.session), f"victim-send-{self.turns}", f"victim-ask-{self.turns}"]
        self._door.pool.send(self.worker, StartTurn(turn, "text", "user"))
        heard = self._played.hear()
        assert [message for message in heard if isinstance(message, StartTurn)] == [StartTurn(turn, "text", "user")]
        self._played.say(Accept(turn))


def _evil(door: Door, number: int) -> tuple[Played, list[Message]]:
    """A worker in the middle of a turn, and a message of every kind that it might say next."""
    played = door.worker(f"agent:main:test:dm:evil-{number}")
    turn = f"evil-turn-{number}"
    door.pool.send(played.worker, StartTurn(turn, "text", "user"))
    played.hear()
    for message in (Ready(), Accept(turn)):
        played.say(message)
    report = ServerReport("time", 1, "ready", 4711, 12345, "", "why")
    messages: list[Message] = [
        Hello(played.worker.id, "0" * 32, 4711, 1, "1"), Heartbeat(turn, 0.5), Ready("no"), Accept(turn),
        Delta(turn, "text ä"), ToolUse(turn, "time.now", "{}", "started"), Status(turn, "thinks"),
        Finished(turn, "done", "text", usage={"prompt_tokens": 3}),
        Send("s1", turn, "", "text", (File("/etc/passwd", "passwd"),)),
        Ask("a1", turn, "sure?", ("yes", "no"), 30.0), Steered(turn, True),
        Snapshot(str(played.worker.session), "s", True, "", turn, "so far", (Ask("a1", turn, "?", ("yes",), 3.0),)),
        Servers((report, report)), Logs((LogRecord(1.0, 20, "agent", "text", turn, 5),), 3), StartTurn(turn, "x", "y"),
    ]  # fmt: skip
    return played, messages


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
