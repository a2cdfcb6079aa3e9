from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hermesd.adapters import registry
from hermesd.adapters.contract import AdapterSettings, State
from hermesd.adapters.errors import StartLater, Unauthorized, Unavailable
from hermesd.supervisor import platforms as platforms_module
from hermesd.supervisor.platforms import Platforms


class Way:
    """One adapter: what happens when it starts and stops."""

    def __init__(self, start: Any = None, stop: Any = None, make: Any = None):
        self._start, self._stop, self.make = start, stop, make
        self.stopped = False

    async def start(self, receiver: Any) -> None:
        if self._start is not None:
            raise self._start

    async def stop(self) -> None:
        if isinstance(self._stop, Exception):
            raise self._stop
        if self._stop:
            await asyncio.sleep(self._stop)
        self.stopped = True

    def state(self) -> State:
        return State("online")


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> dict[str, Way]:
    made: dict[str, Way] = {}

    def make(name: str, settings: AdapterSettings) -> Way:
        if made[name].make is not None:
            raise made[name].make
        return made[name]

    monkeypatch.setattr(registry, "make", make)
    return made


async def start(ways: dict[str, Way]) -> Platforms:
    platforms = Platforms()
    platforms.make({name: AdapterSettings(name) for name in ways})
    await platforms.start(None)  # type: ignore[arg-type]
    return platforms


async def test_one_that_fails_does_not_keep_the_others_away(ways: dict[str, Way]) -> None:
    ways |= {
        "good": Way(),
        "missing": Way(make=Unavailable("pip install hermesd[telegram]")),
        "refused": Way(Unauthorized("wrong token")),
        "odd": Way(make=ImportError("libolm")),
        "broken": Way(KeyError("bug")),
    }
    platforms = await start(ways)
    assert list(platforms.live) == ["good"]
    states = platforms.states()
    assert states["good"].word == "online"
    assert (states["missing"].word, states["missing"].detail) == ("unavailable", "pip install hermesd[telegram]")
    assert states["refused"].detail == "wrong token"
    assert states["odd"].detail == "ImportError: libolm"
    assert states["broken"].detail == "KeyError: 'bug'"
    assert states["broken"].since > 0


async def test_all_are_stopped_whatever_one_of_them_does(
    ways: dict[str, Way], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(platforms_module, "STOP_SECONDS", 0.01)
    ways |= {"good": Way(), "slow": Way(stop=60), "broken": Way(stop=KeyError("bug"))}
    platforms = await start(ways)
    await platforms.stop()
    assert ways["good"].stopped
    assert not platforms.live
    assert "slow did not disconnect" in caplog.text
    assert "broken failed to stop" in caplog.text


class Taken(Way):
    """Its port is another program's for the first tries."""

    def __init__(self, tries: int, then: Exception | None = None):
        super().__init__()
        self.left, self._then = tries, then
        self.up = asyncio.Event()

    async def start(self, receiver: Any) -> None:
        self.left -= 1
        if self.left >= 0:
            raise StartLater("port taken", fix="another port")
        self.up.set()
        if self._then is not None:
            raise self._then


async def test_what_may_pass_is_tried_again_until_it_has(ways: dict[str, Way], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms_module, "RETRY_DELAYS", (0.001,))
    ways["api"] = taken = Taken(3)
    platforms = await start(ways)
    state = platforms.states()["api"]
    assert (state.word, state.detail, state.fix) == ("backing_off", "port taken", "another port")
    assert not platforms.live
    await asyncio.wait_for(taken.up.wait(), 5)
    await asyncio.sleep(0)
    assert platforms.states()["api"].word == "online"
    await platforms.stop()
    assert taken.stopped


async def test_a_try_that_fails_for_good_is_the_last(ways: dict[str, Way], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms_module, "RETRY_DELAYS", (0.001,))
    ways["api"] = taken = Taken(2, Unauthorized("wrong"))
    platforms = await start(ways)
    await asyncio.wait_for(taken.up.wait(), 5)
    await asyncio.sleep(0)
    assert platforms.states()["api"].word == "unavailable"
    assert not platforms.live


async def test_a_stop_ends_the_tries(ways: dict[str, Way]) -> None:
    ways["api"] = Taken(1)
    platforms = await start(ways)
    before = asyncio.all_tasks()
    await platforms.stop()
    assert asyncio.all_tasks() < before
