"""Connections at work, over adapters that do what they are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hermesd.adapters import registry
from hermesd.adapters.contract import AdapterSettings, Identity, State
from hermesd.adapters.errors import AdapterError, Conflict, StartLater, Unauthorized, Unavailable
from hermesd.supervisor.platforms import Platforms, connection
from hermesd.supervisor.platforms.connection_life import Event
from hermesd.supervisor.platforms.platforms import UnknownPlatform
from hermesd.supervisor.tasks import Tasks


class Way:
    """One adapter: what happens each time it starts, and when it stops."""

    def __init__(self, *starts: Any, stop: Any = None, make: Any = None):
        self.starts, self._stop, self.make = list(starts), stop, make
        self.started = self.stopped = 0
        self.up = asyncio.Event()

    async def start(self, receiver: Any) -> None:
        self.started += 1
        what = self.starts.pop(0) if self.starts else None
        if isinstance(what, Exception):
            raise what
        if what:
            await asyncio.sleep(what)
        self.up.set()

    async def stop(self) -> None:
        self.stopped += 1
        if isinstance(self._stop, Exception):
            raise self._stop
        if self._stop:
            await asyncio.sleep(self._stop)

    def state(self) -> State:
        return State("online", received_at=7.0)


class Remote(Way):
    """One whose service is somebody else's."""

    secret = "token-1"

    def identity(self) -> Identity:
        return Identity("telegram-bot-token", self.secret)


Start = Callable[..., Any]


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Start]:
    monkeypatch.setattr(connection.life, "REMOTE_DELAYS", (60.0,))
    tasks = Tasks(lambda name, error: None)
    made: list[Platforms] = []

    async def begin(locks: str = "locks", paused: frozenset[str] = frozenset(), **ways: Way) -> Platforms:
        def make(name: str, settings: AdapterSettings) -> Way:
            if ways[name].make is not None:
                raise ways[name].make
            return ways[name]

        monkeypatch.setattr(registry, "make", make)
        ups: list[str] = []
        gone: list[str] = []
        platforms = Platforms(
            tasks, environ={"HERMES_GATEWAY_LOCK_DIR": str(tmp_path / locks)}, home=tmp_path,
            on_up=ups.append, on_gone=gone.append,
        )  # fmt: skip
        platforms.ups, platforms.gone = ups, gone  # type: ignore[attr-defined]
        made.append(platforms)
        platforms.make({name: AdapterSettings(name) for name in ways})
        for one in platforms.connections.values():
            one._local_delays = (0.001,)
        await platforms.start(object(), paused)  # type: ignore[arg-type]
        return platforms

    yield begin
    for platforms in made:
        await platforms.stop()
    await tasks.close()


async def test_one_that_fails_does_not_keep_the_others_away(start: Start) -> None:
    platforms = await start(
        good=Way(),
        missing=Way(make=Unavailable("pip install hermesd[telegram]")),
        refused=Way(Unauthorized("wrong token")),
        odd=Way(make=ImportError("libolm")),
        broken=Way(KeyError("bug")),
        wrong=Way(AdapterError("a bad setting", fix="a good one")),
    )
    assert list(platforms.live) == ["good"]
    states = platforms.states()
    assert states["good"].word == "online"
    assert (states["missing"].word, states["missing"].detail) == ("unavailable", "pip install hermesd[telegram]")
    assert (states["refused"].word, states["refused"].detail) == ("refused", "wrong token")
    assert states["odd"].detail == "ImportError: libolm"
    assert states["broken"].detail == "KeyError: 'bug'"
    assert states["broken"].since > 0
    assert (states["wrong"].word, states["wrong"].fix) == ("unavailable", "a good one")


async def test_all_are_stopped_whatever_one_of_them_does(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "STOP_SECONDS", 0.01)
    ways = {"good": Way(), "slow": Way(stop=60), "broken": Way(stop=KeyError("bug"))}
    platforms = await start(**ways)
    await platforms.stop()
    assert ways["good"].stopped == 1
    assert not platforms.live
    assert "slow did not disconnect" in caplog.text
    assert "broken failed to stop" in caplog.text


async def test_what_may_pass_is_tried_again_until_it_has(start: Start) -> None:
    way = Way(*(StartLater("port taken", fix="another port") for _ in range(3)))
    platforms = await start(api=way)
    state = platforms.states()["api"]
    assert (state.word, state.detail, state.fix) == ("backing_off", "port taken", "another port")
    await asyncio.wait_for(way.up.wait(), 30)
    await platforms.connections["api"].settled()
    assert platforms.states()["api"].word == "online"
    assert platforms.ups == ["api"]
    assert way.started == 4
    assert way.stopped == 3  # a start that failed half way may have left something


async def test_one_that_messages_wait_for_is_tried_sooner_until_it_is_up(start: Start) -> None:
    way = Way(*(StartLater("503") for _ in range(1000)))
    platforms = await start(api=way)
    connection = platforms.connections["api"]
    connection._local_delays = (0.01, 3600.0)
    async with asyncio.timeout(30.0):
        while connection.next_try_at < time.time() + 3000:
            await asyncio.sleep(0.001)
        platforms.hurry("api")
        before = way.started
        while way.started < before + 3:  # nor do the next ones wait for longer
            await asyncio.sleep(0.001)
        way.starts.clear()
        await way.up.wait()
    await connection.settled()
    assert platforms.ups == ["api"]
    platforms.lost("api", StartLater("503"))
    assert connection.next_try_at > time.time() + 3000, "nothing waits any more"
    platforms.hurry("nobody")


async def test_a_fault_that_nobody_understood_is_tried_again(start: Start) -> None:
    way = Way(RuntimeError("a bug of its library"))
    platforms = await start(api=way)
    await way.up.wait()
    await platforms.connections["api"].settled()
    assert platforms.states()["api"].word == "online"


async def test_a_try_that_fails_for_good_is_the_last(start: Start) -> None:
    way = Way(StartLater("later"), AdapterError("wrong"))
    platforms = await start(api=way)
    while way.started < 2:
        await asyncio.sleep(0)
    await platforms.connections["api"].settled()
    assert platforms.states()["api"].word == "unavailable"
    assert not platforms.connections["api"].next_try_at


async def test_hermesd_does_not_wait_for_other_peoples_services(start: Start) -> None:
    way = Remote(60)
    platforms = await start(telegram=way)
    assert platforms.states()["telegram"].word == "connecting"
    while not way.started:
        await asyncio.sleep(0)
    await platforms.stop()
    assert way.stopped == 1


async def test_a_lost_connection_is_made_anew_and_the_others_stay(start: Start) -> None:
    lost, other = Remote(), Way()
    platforms = await start(telegram=lost, other=other)
    await platforms.connections["telegram"].settled()
    platforms.lost("telegram", StartLater("network is down"))
    assert platforms.states()["telegram"].word == "backing_off"
    assert "telegram" not in platforms.live
    assert platforms.connections["telegram"].next_try_at > 0
    await platforms.order("telegram", Event.RECONNECT)
    assert platforms.states()["telegram"].word == "online"
    assert (lost.started, lost.stopped) == (2, 1)
    assert (other.started, other.stopped) == (1, 0)
    assert sorted(platforms.ups) == ["other", "telegram", "telegram"]


async def test_one_that_refuses_a_message_because_of_who_we_are_is_connected_anew_and_says_what_is_wrong(
    start: Start,
) -> None:
    remote, local = Remote(), Way()
    platforms = await start(matrix=remote, webhook=local)
    await platforms.connections["matrix"].settled()
    for name in ("matrix", "webhook", "nobody"):
        platforms.denied(name, Unauthorized("M_UNKNOWN_TOKEN", fix="a new token"))
    state = platforms.states()["matrix"]
    assert (state.word, state.detail, state.fix) == ("backing_off", "M_UNKNOWN_TOKEN", "a new token")
    assert platforms.connections["matrix"].next_try_at > 0
    assert platforms.states()["webhook"].word == "online"
    platforms.denied("matrix", Unauthorized("late"))
    assert platforms.states()["matrix"].detail == "M_UNKNOWN_TOKEN"


async def test_a_conflict_is_a_state_of_its_own_and_is_looked_at_again(start: Start) -> None:
    platforms = await start(telegram=Remote())
    await platforms.connections["telegram"].settled()
    platforms.lost("telegram", Conflict("another poller"))
    assert platforms.states()["telegram"].word == "conflict"
    assert platforms.connections["telegram"].next_try_at > 0


async def test_what_waits_may_wait_for_one_that_is_tried_for_alone(start: Start) -> None:
    platforms = await start(
        up=Way(), out=Remote(*(StartLater("503") for _ in range(10))), refused=Way(Unauthorized("wrong token")),
        missing=Way(make=Unavailable("pip install")), held=Way(),
    )  # fmt: skip
    await platforms.connections["out"].settled()
    names = [*platforms.connections, "nobody"]
    assert [name for name in names if platforms.may_return(name)] == ["up", "out", "held"]
    assert platforms.gone == ["missing", "refused"]
    await platforms.order("held", Event.PAUSE)
    assert platforms.gone[2:] == ["held"]
    assert not platforms.may_return("held")
    platforms.lost("up", Unauthorized("revoked"))
    assert platforms.gone[3:] == ["up"]
    await platforms.stop()
    assert platforms.gone[4:] == [], "hermesd stops, and what waits goes on in its next life"


async def test_what_is_late_of_a_connection_that_is_down_changes_nothing(start: Start) -> None:
    platforms = await start(telegram=Remote())
    await platforms.order("telegram", Event.PAUSE)
    platforms.lost("telegram", StartLater("late"))
    platforms.lost("nobody", StartLater("late"))
    assert platforms.states()["telegram"].word == "paused"


async def test_a_pause_ends_a_start_and_a_resume_begins_one(start: Start) -> None:
    way = Remote(60)
    platforms = await start(telegram=way)
    await asyncio.sleep(0)
    await asyncio.wait_for(platforms.order("telegram", Event.PAUSE), 30)
    assert platforms.states()["telegram"].word == "paused"
    assert not platforms.live
    await asyncio.wait_for(platforms.order("telegram", Event.RESUME), 30)
    assert platforms.states()["telegram"].word == "online"


async def test_what_was_paused_starts_paused(start: Start) -> None:
    way = Way()
    platforms = await start(paused=frozenset({"api", "no longer configured"}), api=way)
    assert platforms.states()["api"].word == "paused"
    assert way.started == 0


async def test_an_unknown_name_is_told_with_the_nearest(start: Start) -> None:
    platforms = await start(telegram=Way())
    with pytest.raises(UnknownPlatform, match="did you mean telegram"):
        await platforms.order("telegrm", Event.PAUSE)


async def test_a_start_that_takes_too_long_backs_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "START_SECONDS", 0.01)
    platforms = await start(telegram=Remote(60))
    await platforms.connections["telegram"].settled()
    state = platforms.states()["telegram"]
    assert (state.word, state.detail) == ("backing_off", "cannot connect within 0 s")


async def test_a_token_of_this_process_is_taken_by_nobody_else_and_given_back(start: Start, tmp_path: Path) -> None:
    first = await start(telegram=Remote())
    await first.connections["telegram"].settled()
    (lock,) = (tmp_path / "locks").iterdir()
    assert Remote.secret not in lock.read_text() + lock.name
    await first.order("telegram", Event.PAUSE)
    assert not lock.exists()
