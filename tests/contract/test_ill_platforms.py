"""Services that fall ill, with each platform's real adapter: an answer arrives once, and nobody is called in vain.

Ten minutes of 503, and 429 for thirty seconds. The clock jumps over what would only be waited for.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from harness import skipping
from harness.matrix.synapse import Synapse
from harness.networks import outage, weather
from harness.networks.outage import Ear, Ill
from harness.networks.weather import Trouble
from harness.skipping import HeldJournal, SkippingLoop

from hermesd.adapters.contract import Outbound, Target
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN, Deliverer
from hermesd.supervisor.gateway import turn_life
from hermesd.supervisor.gateway.presence import Presence
from hermesd.supervisor.platforms import Platforms
from hermesd.supervisor.tasks import Tasks

OUT_SECONDS = 600.0
SOON_SECONDS = 60.0
WINDOW_SECONDS = 30.0
WORDS = [f"word{number}" for number in range(240)]
UNDER_WAY = 0.1
"""A call that left before the refusal came is none that was made in vain."""

Network = Callable[[SkippingLoop], AbstractAsyncContextManager[Ill]]

pytestmark = pytest.mark.slow


@pytest.fixture(params=["telegram", "discord", "matrix"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Network:
    if request.param == "matrix":
        synapse: Synapse = request.getfixturevalue("synapse")
        return lambda loop: outage.matrix(loop, synapse, tmp_path / "media")
    return {"telegram": outage.telegram, "discord": outage.discord}[request.param]


class Hermesd:
    """What of hermesd an answer passes on its way out."""

    def __init__(self, loop: SkippingLoop, ill: Ill, place: Path):
        self._ill = ill
        self._tasks = Tasks(lambda name, error: None)
        self._journal = HeldJournal(place / "state.db", loop)
        self._platforms = Platforms(
            self._tasks, environ={"HERMES_GATEWAY_LOCK_DIR": str(place / "locks")}, home=place, on_up=self._is_up
        )
        # Unix seconds that go with the loop's clock.
        began = time.time() - loop.time()
        self.deliverer = Deliverer(
            self._journal, self._platforms.live, self._tasks,
            on_missing=self._platforms.hurry, clock=lambda: began + loop.time(),
        )  # fmt: skip

    def _is_up(self, name: str) -> None:
        self._tasks.job(self.deliverer.platform_up(name), f"take up {name}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Hermesd]:
        ear = Ear()
        ear.on_lost = self._platforms.lost
        await self._journal.open()
        await self.deliverer.recover()
        self._platforms.make({self._ill.settings.name: self._ill.settings})
        await self._platforms.start(ear)
        try:
            await self._platforms.connections[self._ill.settings.name].settled()
            await self.deliverer.take_up()
            async with asyncio.timeout(SOON_SECONDS):
                while self.word != "online":
                    await asyncio.sleep(0.1)
            yield self
        finally:
            self._ill.out = False
            await self._platforms.stop()
            await self._tasks.close()
            await self._journal.close()

    @property
    def word(self) -> str:
        return self._platforms.states()[self._ill.settings.name].word

    @contextmanager
    def working(self, asked: Target) -> Iterator[None]:
        """A turn runs that answers this message."""
        writing, heed = [asked], self.deliverer.heed
        presence = Presence(self._platforms.live, self._tasks, lambda: writing, self.deliverer.closed_for, heed)
        self._tasks.job(presence.run(), "presence")
        presence.began(asked)
        yield
        writing.clear()
        presence.ended(asked, turn_life.State.DONE)

    async def answer(self, text: str, turn: str = "t1") -> None:
        await self.deliverer.say(self._ill.target, Outbound(f"{turn}:answer", text), turn=turn)


def test_an_answer_in_ten_minutes_of_503_arrives_once_within_a_minute_after(network: Network, tmp_path: Path) -> None:
    async def scenario(loop: SkippingLoop) -> None:
        async with network(loop) as ill, Hermesd(loop, ill, tmp_path).running() as hermesd:
            ill.out = True
            await asyncio.sleep(5.0)
            await hermesd.answer("The answer.")
            await asyncio.sleep(OUT_SECONDS)
            assert await ill.texts() == []
            ill.out, well = False, loop.time()
            while not await ill.texts():
                assert loop.time() - well < SOON_SECONDS, hermesd.word
                await asyncio.sleep(0.25)
            await asyncio.sleep(SOON_SECONDS)
            [text] = await ill.texts()
            assert text.removeprefix(PERHAPS_AGAIN).strip() == "The answer."

    skipping.run(scenario)


def test_nothing_is_called_in_a_window_and_all_that_was_said_is_whole_once(network: Network, tmp_path: Path) -> None:
    """429 for thirty seconds on every third edit, and one sign of typing. A tool's call and the answer's end fall into
    one window; a message of a first try is taken back.
    """
    edits, signs = itertools.count(1), itertools.count(1)

    def befalls(word: str) -> Trouble | None:
        is_limited = (word == "edit" and next(edits) % 3 == 0) or (word == "type" and next(signs) == 2)
        return Trouble(weather.LIMITED, WINDOW_SECONDS, 429) if is_limited else None

    async def scenario(loop: SkippingLoop) -> None:
        async with network(loop) as ill, Hermesd(loop, ill, tmp_path).running() as hermesd:
            words = iter(WORDS)

            def limited() -> list[tuple[float, str]]:
                return [(at, word) for at, word, kind in ill.seen if kind == weather.LIMITED]

            def in_a_window() -> bool:
                """Of an edit, and not the first one."""
                left = hermesd.deliverer.closed_for(ill.target)
                return len(limited()) > 1 and limited()[-1][1] == "edit" and 25.0 < left < 28.0

            async def say(enough: Callable[[], bool]) -> list[str]:
                said: list[str] = []
                while not enough():
                    said.append(next(words))
                    hermesd.deliverer.stream(ill.target, f"{said[-1]} ", "t1")
                    await asyncio.sleep(1.0)
                return said

            await say(lambda: len(ill.seen) >= 2)
            hermesd.deliverer.boundary("t1")
            await say(lambda: [word for _, word, _ in ill.seen].count("send") == 2)
            hermesd.deliverer.streams.again("t1")
            ill.befalls = befalls
            with hermesd.working(ill.asked):
                above = await say(in_a_window)
                hermesd.deliverer.boundary("t1")
                until = loop.time() + 3.0
                answer = await say(lambda: loop.time() > until)
            await hermesd.answer(" ".join(answer))
            wanted = [" ".join(above), " ".join(answer)]
            began = loop.time()
            while await ill.texts() != wanted:
                assert loop.time() < began + 600.0, await ill.texts()
                await asyncio.sleep(1.0)
            await asyncio.sleep(SOON_SECONDS)
            assert await ill.texts() == wanted
            inside = [
                (word, at - until)
                for until, _ in limited()
                for at, word, _ in ill.seen
                if until + UNDER_WAY < at < until + WINDOW_SECONDS
            ]
            assert inside == []
            assert {word for _, word, kind in ill.seen if kind} == {"edit", "type"}
            assert {"send", "edit", "delete", "type"} <= {word for _, word, kind in ill.seen if not kind}

    skipping.run(scenario)
