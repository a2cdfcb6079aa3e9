"""Which invitation is tried when, with a homeserver that can be made to take its time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mautrix.errors import MatrixUnknownRequestError, MForbidden, MUnknownToken

from hermesd.adapters.contract import Cursor
from hermesd.adapters.errors import Unauthorized
from hermesd.adapters.matrix import invites
from hermesd.adapters.matrix.invites import AT_ONCE, Invites
from hermesd.adapters.matrix.rooms import Rooms

ME = "@me:here"
ANNA = "@anna:here"


class Server:
    """``slow``: rooms whose joins do not end; ``failing``: what the others of them end with, once."""

    def __init__(self) -> None:
        self.slow: set[str] = set()
        self.failing: dict[str, Exception] = {}
        self.joined: list[str] = []
        self.direct: dict[str, list[str]] = {}
        self.asked: dict[str, int] = {}
        self.kept = ""
        self._changed = asyncio.Condition()

    async def join_room_by_id(self, room: str) -> None:
        self.asked[room] = self.asked.get(room, 0) + 1
        await self._tell()
        if room in self.slow:
            await asyncio.Event().wait()
        if (error := self.failing.pop(room, None)) is not None:
            raise error
        self.joined.append(room)

    async def set_account_data(self, kind: str, content: dict[str, list[str]]) -> None:
        await asyncio.sleep(0)  # another one may be set meanwhile
        self.direct = content

    async def keep(self, cursor: Cursor) -> None:
        self.kept = cursor.value
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(30.0), self._changed:
            await self._changed.wait_for(condition)


@pytest.fixture
async def server() -> Server:
    return Server()


def asked_into(*rooms: str, direct: bool = True) -> dict[str, Any]:
    content = {"membership": "invite", "is_direct": direct}
    event = {"type": "m.room.member", "state_key": ME, "sender": ANNA, "content": content}
    return {"rooms": {"invite": {room: {"invite_state": {"events": [event]}} for room in rooms}}}


def made(server: Server, kept: str = "", *, reads_on: bool = True) -> Invites:
    return Invites(server, Rooms(server), server.keep, kept, reads_on=reads_on)  # type: ignore[arg-type]


async def told(waiting: Invites, batch: dict[str, Any]) -> None:
    """As by a sync whose token was kept."""
    await waiting.take(batch, ME)
    waiting.settle()


@pytest.fixture
async def waiting(server: Server) -> AsyncIterator[Invites]:
    found = made(server)
    running = asyncio.create_task(found.run())
    yield found
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def left(server: Server) -> list[str]:
    return list(json.loads(server.kept))


async def test_one_that_takes_long_keeps_no_other_waiting(
    server: Server, waiting: Invites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invites, "CALL_SECONDS", 0.02)
    monkeypatch.setattr(invites, "SHORTEST", 0.01)
    monkeypatch.setattr("hermesd.adapters.matrix.calls.AFTER", 0.01)
    slow = [f"!slow{number}" for number in range(3 * AT_ONCE)]
    server.slow.update(slow)
    await told(waiting, asked_into(*slow))
    await server.until(lambda: all(server.asked.get(room, 0) >= 2 for room in slow))
    await told(waiting, asked_into("!room"))
    before = sum(server.asked.values())
    await server.until(lambda: "!room" in server.joined)
    assert sum(server.asked.values()) - before <= AT_ONCE, "it goes before those that have failed"
    assert sorted(left(server)) == sorted([*slow, "!room"]) or sorted(left(server)) == sorted(slow)


async def test_no_more_are_joined_at_once_than_that(server: Server, waiting: Invites) -> None:
    rooms = [f"!{number}" for number in range(AT_ONCE + 3)]
    server.slow.update(rooms)
    await told(waiting, asked_into(*rooms))
    await server.until(lambda: len(server.asked) == AT_ONCE)
    await asyncio.sleep(0)
    assert len(server.asked) == AT_ONCE


async def test_all_of_them_are_marked_as_direct(server: Server, waiting: Invites) -> None:
    rooms = [f"!{number}" for number in range(AT_ONCE)]
    await told(waiting, asked_into(*rooms))
    await server.until(lambda: server.kept == "{}")
    assert sorted(server.direct[ANNA]) == sorted(rooms)


async def test_one_that_failed_is_tried_again_and_one_that_is_refused_is_over(
    server: Server, waiting: Invites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invites, "SHORTEST", 0.01)
    monkeypatch.setattr("hermesd.adapters.matrix.calls.AFTER", 0.01)
    server.failing = {"!later": MatrixUnknownRequestError(502, "<html>"), "!never": MForbidden(403, "banned")}
    await told(waiting, asked_into("!later", "!never"))
    await server.until(lambda: server.kept == "{}")
    assert server.joined == ["!later"]
    assert server.asked == {"!later": 2, "!never": 1}


async def test_what_waited_before_is_joined_by_the_next_life(server: Server) -> None:
    running = asyncio.create_task(made(server, json.dumps({"!room": ANNA})).run())
    await server.until(lambda: server.kept == "{}")
    assert server.direct == {ANNA: ["!room"]}
    running.cancel()


async def test_a_token_that_is_refused_ends_it(server: Server) -> None:
    server.failing = {"!room": MUnknownToken(401, "revoked")}
    with pytest.raises(Unauthorized):
        await made(server, json.dumps({"!room": ""})).run()


@pytest.mark.parametrize("kept", ["", json.dumps({"!room": ANNA})])
async def test_none_is_joined_before_the_sync_that_told_of_it_is_behind_us(server: Server, kept: str) -> None:
    """Else a death in between would have the next life take what was said there for history."""
    found = made(server, kept, reads_on=False)
    running = asyncio.create_task(found.run())
    if not kept:
        await found.take(asked_into("!room"), ME)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (server.asked, running.done()) == ({}, False)
    found.settle()
    await server.until(lambda: server.joined == ["!room"])
    running.cancel()
