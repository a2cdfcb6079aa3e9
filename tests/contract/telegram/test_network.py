"""Telegram whose name does not lead there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from harness.telegram.core import Core
from harness.telegram.emulator import PNG, Emulator

from hermesd.adapters.contract import Outbound, Target
from hermesd.adapters.errors import StartLater
from hermesd.adapters.telegram import network

from .conftest import Connect

NOWHERE = "telegram.invalid"  # no resolver knows a name under it: RFC 6761, section 6.4


async def test_a_server_is_reached_at_an_address_when_its_name_is_not_known(
    telegram: Emulator, connect: Connect, core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)
    there = {"base_url": f"http://{NOWHERE}:{telegram.server.port}"}
    with pytest.raises(StartLater):
        await connect(**there)
    adapter = await connect(**there, fallback_ips=["127.0.0.1"])
    assert adapter.describe()["reached_at"] == "127.0.0.1"
    ann = telegram.user("Ann")
    telegram.send("photo", PNG, ann)
    [inbound] = await core.until(lambda: core.inbounds)
    await adapter.send(Target("telegram", str(ann.id)), Outbound("k", "hello"))
    assert [message.text for message in telegram.sent()] == ["hello"]
    [photo] = inbound.attachments
    assert Path((await adapter.fetch(photo, tmp_path, 1000)).path).read_bytes() == PNG


class Net(httpx.AsyncBaseTransport):
    """Lets connections to ``open_to`` through; everything is on record."""

    def __init__(self, *open_to: str):
        self.open_to = set(open_to)
        self.tried: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.tried.append(request)
        if request.url.host not in self.open_to:
            raise httpx.ConnectError("no route", request=request)
        return httpx.Response(200, request=request)

    @property
    def hosts(self) -> list[str]:
        hosts = [request.url.host for request in self.tried]
        self.tried.clear()
        return hosts


HOST = "api.telegram.org"


async def test_the_name_stays_in_the_request_and_in_its_handshake() -> None:
    net = Net("192.0.2.1")
    async with httpx.AsyncClient(transport=network.Transport(network.Ways(HOST, ["192.0.2.1"]), net)) as client:
        await client.post(f"https://{HOST}/bot/getMe", content=b"body", timeout=9.0)
    request = net.tried[-1]
    assert (request.headers["Host"], request.extensions["sni_hostname"]) == (HOST, HOST)
    assert request.extensions["timeout"] == {"connect": network.CONNECT_SECONDS, "read": 9.0, "write": 9.0, "pool": 9.0}
    assert (request.url.path, await request.aread()) == ("/bot/getMe", b"body")


async def test_an_address_that_worked_is_kept_until_it_does_not() -> None:
    net = Net("192.0.2.2")
    ways = network.Ways(HOST, ["192.0.2.1", "192.0.2.2"])
    async with httpx.AsyncClient(transport=network.Transport(ways, net)) as client:
        await client.get(f"https://{HOST}/")
        assert net.hosts == [HOST, "192.0.2.1", "192.0.2.2"]
        await client.get(f"https://{HOST}/")
        assert net.hosts == ["192.0.2.2"]
        net.open_to = {HOST}
        await client.get(f"https://{HOST}/")
        assert net.hosts == ["192.0.2.2", HOST]
        assert ways.chosen == ""
        net.open_to = set()
        with pytest.raises(httpx.ConnectError):
            await client.get(f"https://{HOST}/")
        net.tried.clear()
        with pytest.raises(httpx.ConnectError):
            await client.get("https://elsewhere.example/")
        assert net.hosts == ["elsewhere.example"]


async def test_what_may_have_been_sent_is_not_sent_again() -> None:
    class Cut(Net):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.tried.append(request)
            raise httpx.ReadError("cut", request=request)

    net = Cut()
    async with httpx.AsyncClient(transport=network.Transport(network.Ways(HOST, ["192.0.2.1"]), net)) as client:
        with pytest.raises(httpx.ReadError):
            await client.get(f"https://{HOST}/")
    assert net.hosts == [HOST]


@pytest.fixture
async def resolver() -> AsyncIterator[str]:
    """DNS over HTTPS, without the S."""
    asked = 0

    async def resolve(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        assert (request.query["name"], request.query["type"]) == (HOST, "A")
        assert request.headers["Accept"] == "application/dns-json"
        answers = [
            {"name": HOST, "type": 5, "data": "alias.example."}, {"name": HOST, "type": 1, "data": "10.0.0.1"},
            {"name": HOST, "type": 1, "data": "149.154.166.110"},
        ]  # fmt: skip
        # A second answer would be another one.
        return web.json_response({"Status": 0, "Answer": answers if asked == 1 else []})

    app = web.Application()
    app.router.add_get("/resolve", resolve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_resolvers_are_asked_in_their_order_once_and_only_when_they_are_needed(resolver: str) -> None:
    net = Net(HOST)
    ways = network.Ways(HOST, resolvers=["http://127.0.0.1:9/resolve", f"{resolver}/nothing", f"{resolver}/resolve"])
    async with httpx.AsyncClient(transport=network.Transport(ways, net)) as client:
        await client.get(f"https://{HOST}/")
        net.open_to = {"149.154.166.110"}
        await client.get(f"https://{HOST}/")
    assert net.hosts == [HOST, HOST, "149.154.166.110"]
    assert await ways.others() == ("149.154.166.110",)
