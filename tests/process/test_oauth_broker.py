"""The one process that refreshes tokens, against an authorization server that takes each refresh token once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hermesd.ipc.messages import AccessToken, TokenWanted
from hermesd.supervisor.config.settings import McpServer
from hermesd.supervisor.oauth.broker import Broker
from hermesd.supervisor.oauth.errors import LoginNeeded, RefreshFailed
from hermesd.supervisor.tasks import Tasks


class Authority:
    """Its token endpoint. ``good`` is the refresh token that it will take."""

    def __init__(self) -> None:
        self.good = "r0"
        self.count = 0
        self.forms: list[dict[str, str]] = []
        self.broken = False
        self.open = asyncio.Event()
        self.open.set()

    async def token(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        self.forms.append({key: str(value) for key, value in form.items()})
        await self.open.wait()
        if self.broken:
            return web.Response(status=503, text="later")
        if form["refresh_token"] != self.good:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.count += 1
        self.good = f"r{self.count}"
        return web.json_response({"access_token": f"a{self.count}", "refresh_token": self.good, "expires_in": 3600})


@pytest.fixture
async def authority() -> AsyncIterator[tuple[Authority, str]]:
    made = Authority()
    app = web.Application()
    app.router.add_post("/token", made.token)
    async with TestServer(app) as server:
        yield made, str(server.make_url("/token"))


@pytest.fixture
async def broker(tmp_path: Path, authority: tuple[Authority, str]) -> AsyncIterator[Broker]:
    tasks = Tasks(lambda name, error: None)
    servers = {"far": McpServer(url="https://mcp.example.com/mcp", auth="oauth"), "open": McpServer(url="http://x")}
    made = Broker(tmp_path, lambda: servers, tasks)
    login(made, authority[1])
    yield made
    await tasks.close()


def login(broker: Broker, endpoint: str, **tokens: Any) -> None:
    given = {"access_token": "a0", "refresh_token": "r0", "expires_in": 3600, "expires_at": time.time() - 1}
    broker.store.write("far", "", {**given, **tokens})
    broker.store.write("far", "client", {"client_id": "c"})
    broker.store.write("far", "meta", {"token_endpoint": endpoint, "resource": "https://mcp.example.com"})


async def test_ten_who_ask_at_once_are_one_refresh(broker: Broker, authority: tuple[Authority, str]) -> None:
    made, _ = authority
    made.open.clear()
    asking = [asyncio.ensure_future(broker.grant("far")) for _ in range(10)]
    while not made.forms:
        await asyncio.sleep(0.01)
    asking[0].cancel()  # who stops waiting ends nothing
    late = asyncio.ensure_future(broker.grant("far", "a0"))
    made.open.set()
    grants = await asyncio.gather(*asking[1:], late)
    assert {grant.access for grant in grants} == {"a1"}
    assert made.forms == [
        {"grant_type": "refresh_token", "refresh_token": "r0", "client_id": "c", "resource": "https://mcp.example.com"}
    ]
    assert (await broker.grant("far", "a0")).access == "a1"
    kept = json.loads(broker.store.file_of("far").read_text())
    assert (kept["access_token"], kept["refresh_token"]) == ("a1", "r1")
    assert (await broker.grant("far", "a1")).access == "a2"
    assert (made.count, broker.refreshes) == (2, 2)


async def test_an_ended_authorisation_is_not_asked_for_again_until_somebody_logs_in(
    broker: Broker, authority: tuple[Authority, str]
) -> None:
    made, endpoint = authority
    made.good = "another"
    for _ in range(3):
        with pytest.raises(LoginNeeded, match=r"invalid_grant.*: run hermesctl mcp login far"):
            await broker.grant("far")
    assert len(made.forms) == 1
    login(broker, endpoint, refresh_token="another")
    assert (await broker.grant("far")).access == "a1"


async def test_a_server_in_trouble_is_a_sentence_and_is_asked_again_later(
    broker: Broker, authority: tuple[Authority, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = authority
    made.broken = True
    monkeypatch.setattr("hermesd.supervisor.oauth.broker.PAUSE", 600.0)
    for _ in range(2):
        with pytest.raises(RefreshFailed, match="it answers 503"):
            await broker.grant("far")
    assert len(made.forms) == 1
    broker._failed["far"].until = 0.0
    made.broken = False
    assert (await broker.grant("far")).access == "a1"


async def test_what_a_worker_is_told(broker: Broker, authority: tuple[Authority, str]) -> None:
    told: asyncio.Queue[AccessToken] = asyncio.Queue()
    broker.wanted(TokenWanted("far"), told.put_nowait)
    answer = await told.get()
    assert (answer.token, answer.error) == ("a1", "")
    assert 3500 < answer.seconds < 3600
    broker.wanted(TokenWanted("open"), told.put_nowait)
    assert "is not configured with auth: oauth" in (await told.get()).error
    broker.store.file_of("far").unlink()
    broker.wanted(TokenWanted("far"), told.put_nowait)
    assert (await told.get()).error.endswith("has not been authorised yet: run hermesctl mcp login far")
