"""The pool's door: what comes in under a worker's name is that worker's, of its own session, or dropped and counted."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

import pytest
from harness.door import CODEC, Door
from harness.mutations import mutated
from hypothesis import given, settings
from hypothesis import strategies as st

from hermesd.ipc.messages import (
    Accept,
    Ask,
    Assign,
    Delta,
    Finished,
    Heartbeat,
    Hello,
    Logs,
    Message,
    Send,
    Snapshot,
    StartTurn,
    Steered,
)
from hermesd.ipc.sockets import Dealer
from hermesd.supervisor.pool.dropped import PoolCounts

MINE, OTHERS = "agent:main:test:dm:mine", "agent:main:test:dm:other"
MESSAGES: list[Message] = [
    Heartbeat("mine", 0.5), Accept("mine"), Delta("mine", "text"), Send("s", "mine", "", "text"), Logs(()),
    Ask("a", "mine", "sure?", ("yes", "no"), 30.0), Finished("mine", "done", "text"), Steered("mine", True),
    Snapshot(MINE, "s", True, "", "mine"),
]  # fmt: skip


def test_nothing_that_a_worker_says_raises_or_reaches_another_session(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        door = Door(tmp_path)
        runner.run(door.__aenter__())

        @settings(max_examples=500)
        @given(st.lists(st.tuples(st.sampled_from(MESSAGES), st.integers(0, 2**32)), max_size=5))
        def examples(said: list[tuple[Message, int]]) -> None:
            runner.run(_say(door, said))

        examples()
        assert door.pool.counts().false_claims > 50
        runner.run(door.__aexit__())


async def _say(door: Door, said: list[tuple[Message, int]]) -> None:
    mine, other = door.worker(MINE), door.worker(OTHERS)
    for played, turn in ((mine, "mine"), (other, "other")):
        door.pool.send(played.worker, StartTurn(turn, "text", "user"))
        played.hear()
    for message, seed in said:
        chance = random.Random(seed)
        door.put(mine.identity, mutated(mine.frame(message), [mine.frame(message)], ["other", OTHERS, ""], chance))
    assert OTHERS not in door.heard.said
    for message in door.heard.said.get(MINE, []):
        assert getattr(message, "turn", "mine") in ("mine", "")
    other.say(Finished("other", "done", "answer"))
    assert door.heard.said[OTHERS] == [Finished("other", "done", "answer")]
    door.heard.said = {}
    for played in (mine, other):
        door.pool.kill(played.worker)


@pytest.mark.parametrize(
    "claim",
    [
        Accept("other"), Delta("other", "text"), Finished("other", "done", "not mine to say"), Steered("other", True),
        Send("s", "other", "agent:main:test:dm:other", "text"), Ask("a", "other", "sure?", ("yes",), 3.0),
        Heartbeat("other", 0.0), Accept("a turn that nobody has"), Accept(""),
        Snapshot(OTHERS, "s", True), Snapshot(MINE, "s", True, turn="other"),
        Snapshot(MINE, "s", True, asks=(Ask("a", "other", "sure?", ("yes",), 3.0),)),
    ],
    ids=lambda claim: f"{claim.KIND}-{getattr(claim, 'turn', '')}",
)  # fmt: skip
async def test_a_worker_that_speaks_for_another_session_is_ended_and_counted(
    claim: Message, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Door(tmp_path) as door:
        mine, other = door.worker(MINE), door.worker(OTHERS)
        for played, turn in ((mine, "mine"), (other, "other")):
            door.pool.send(played.worker, StartTurn(turn, "text", "user"))
            played.hear()
        with caplog.at_level(logging.ERROR):
            door.put(mine.identity, mine.frame(claim))
        assert door.heard.said == {}
        assert door.launcher.killed == [mine.worker.id]
        assert door.heard.gone == [mine.worker.id]
        assert door.pool.counts().false_claims == 1
        assert "speaks for others" in caplog.text
        door.put(mine.identity, mine.frame(Accept("mine")))  # a late frame of the dead
        assert door.pool.counts().foreign_frames == 1
        other.say(Accept("other"))
        assert door.heard.said == {OTHERS: [Accept("other")]}


async def test_what_is_late_is_still_the_workers_own(tmp_path: Path) -> None:
    async with Door(tmp_path) as door:
        mine = door.worker(MINE)
        for turn in ("first", "second"):
            door.pool.send(mine.worker, StartTurn(turn, "text", "user"))
            mine.hear()
        mine.say(Steered("first", False))
        assert door.heard.said == {MINE: [Steered("first", False)]}
        assert door.pool.counts().false_claims == 0


async def test_a_second_connection_under_a_workers_name_gets_nowhere_without_its_token(tmp_path: Path) -> None:
    async with Door(tmp_path) as door:
        mine = door.worker(MINE)
        door.pool.send(mine.worker, StartTurn("mine", "text", "user"))
        mine.hear()
        waiting = door.pool.take(Assign(OTHERS, "s", "test", "chat", "user", "User"))  # has not said hello yet
        spec = door.launcher.specs[waiting.id]
        names = {
            b"the name that people see": waiting.id.encode(),
            b"a guess": f"{waiting.id}.{'0' * 32}".encode(),
            b"the whole name": spec.wire_name.encode(),
            b"the whole name of one that is there": mine.identity,
        }
        dealers = [Dealer(door.endpoint, name) for name in names.values()]
        try:
            for dealer in dealers:
                for frame in (
                    CODEC.encode(Hello(waiting.id, "0" * 32, 1, 1, "")),
                    CODEC.encode(Accept("other"), 1),
                ):
                    async with asyncio.timeout(60):
                        while not dealer.send(frame):
                            await asyncio.sleep(0.001)

            async with asyncio.timeout(60):
                while _dropped(door.pool.counts()) < 8:
                    await asyncio.sleep(0.001)
            assert door.heard.said == {}
            assert not waiting.connected
            counts = door.pool.counts()
            # Of the two under the name of the one that is there, the hello is refused and the other is a false claim.
            assert (counts.foreign_frames, counts.refused_hellos) == (4, 3)
            assert counts.intruded_at > 0
        finally:
            for dealer in dealers:
                dealer.close()


def _dropped(counts: PoolCounts) -> int:
    return counts.foreign_frames + counts.refused_hellos + counts.peer_errors + counts.false_claims
