"""A homeserver that is away for longer than a moment: the core connects anew, in its own time, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from harness.matrix.bot import Bot, direct
from harness.matrix.core import Core
from harness.matrix.synapse import Synapse

from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.matrix import outage
from hermesd.supervisor.platforms.connection import Connection
from hermesd.supervisor.platforms.connection_life import Event, State
from hermesd.supervisor.platforms.token_lock import TokenLock
from hermesd.supervisor.tasks import Tasks


class Gateway(Core):
    """The core of an adapter, which tells the connection of its end, as `Reception` does."""

    connection: Connection

    def lost(self, platform: str, error: AdapterError) -> None:
        super().lost(platform, error)
        self.connection.lost(error)


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)  # a state can only be asked for


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    failed: list[BaseException] = []
    made = Tasks(lambda name, error: failed.append(error))
    yield made
    await made.close()
    assert not failed


@pytest.mark.slow
async def test_after_a_long_outage_the_core_has_connected_anew_and_nothing_is_lost(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "GIVE_UP_SECONDS", 0.0)
    core, ups = Gateway(), []
    with Synapse(tmp_path / "synapse") as server:
        account, anna = server.person("bot"), server.person("anna")
        locks = {"HERMES_GATEWAY_LOCK_DIR": str(tmp_path / "locks")}
        settings = AdapterSettings(
            "matrix",
            extra={"media_dir": str(tmp_path / "media"), "homeserver": server.url},
            environ={"MATRIX_ACCESS_TOKEN": account.token},
        )
        connection = core.connection = Connection(
            settings,
            tasks,
            make_lock=lambda identity: TokenLock(identity, locks, tmp_path),
            on_change=lambda connection: None,
            on_up=lambda connection: ups.append(connection.name),
            remote_delays=(0.2, 0.4, 60.0),
        )
        connection.use(core)
        connection.make()
        connection.happen(Event.WANTED)
        try:
            await until(lambda: connection.state is State.ONLINE)
            bot = Bot(server, tmp_path, account)
            room = await direct(bot, anna)
            anna.say(room, "before")
            await core.message("before")
            heard_at = connection.shown().received_at
            await asyncio.to_thread(server.stop)
            # Given up, and tried twice in vain by the table; the third try is far away.
            await until(lambda: connection.tries == 3)
            shown = connection.shown()
            assert shown.word == "backing_off"
            assert shown.detail.startswith("cannot ")
            assert shown.received_at >= heard_at, "it is not forgotten with the adapter that knew it"
            await asyncio.to_thread(server.start)
            anna.say(room, "while you were away")
            connection.happen(Event.TIMER)  # the minute is over
            await core.message("while you were away")
            await until(lambda: connection.shown().word == "online")
            assert connection.shown().detail == ""
            assert core.texts == ["before", "while you were away"]
            assert (connection.connects, ups) == (2, ["matrix", "matrix"])
        finally:
            connection.happen(Event.STOP)
            await connection.settled()
            account.close()
            anna.close()
