"""The webhook server over HTTP: what senders hear, and what the core gets."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hermesd.adapters import registry
from hermesd.adapters.contract import HasRoutes, Inbound
from hermesd.adapters.errors import NotAccepted, Rejected, StartLater
from hermesd.adapters.webhook import endpoint, signatures
from hermesd.adapters.webhook.adapter import WebhookAdapter

SECRET = "s3cret-of-the-route"
FILE = "webhook_subscriptions.json"

# A push as GitHub posts it, shortened: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
GITHUB_PUSH = b'{"ref":"refs/heads/main","repository":{"full_name":"octo/repo"},"head_commit":{"message":"Mend it"}}'

# A merge request as GitLab posts it (https://docs.gitlab.com/user/project/integrations/webhook_events/), shortened.
GITLAB_MERGE_REQUEST = b'{"object_kind":"merge_request","event_type":"merge_request","object_attributes":{"iid":1}}'


class Core:
    """Keeps what it is given, by chat and id, as the journal does."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Inbound] = {}
        self.refusal: NotAccepted | None = None

    async def receive(self, inbound: Inbound) -> bool:
        if self.refusal is not None:
            raise self.refusal
        place = (inbound.chat_id, inbound.message_id)
        new = place not in self.kept
        self.kept[place] = inbound
        return new

    @property
    def texts(self) -> list[str]:
        return [inbound.text for inbound in self.kept.values()]


class Server:
    """An adapter that is up, and a sender."""

    def __init__(self, home: Path):
        self.home = home
        self.core = Core()
        self.adapter: Any = None
        self.client = aiohttp.ClientSession()

    async def start(self, **extra: Any) -> Server:
        self.adapter = registry.make("webhook", {"extra": {"port": 0, "home": str(self.home), **extra}})
        await self.adapter.start(self.core)
        return self

    async def post(self, route: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, Any], Any]:
        """Status, body and headers of the answer."""
        url = f"{self.adapter.describe()['url']}/webhooks/{route}"
        async with self.client.post(url, data=body, headers=headers) as response:
            return response.status, await response.json(), response.headers

    async def push(
        self, route: str = "r", body: bytes = GITHUB_PUSH, **headers: str
    ) -> tuple[int, dict[str, Any], Any]:
        """As GitHub does it."""
        signed = signatures.sign("github", SECRET, body, headers.pop("delivery", "72d3162e"), 0.0)
        return await self.post(route, body, {"X-GitHub-Event": "push", **signed, **headers})

    def write(self, routes: Any) -> None:
        text = routes if isinstance(routes, str) else json.dumps(routes)
        (self.home / FILE).write_text(text, "utf-8")

    async def close(self) -> None:
        await self.client.close()
        if self.adapter is not None:
            await self.adapter.stop()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    yield made
    await made.close()


ROUTE = {"r": {"secret": SECRET, "prompt": "{repository.full_name} {ref}: {head_commit.message}"}}


class TestSenders:
    async def test_github(self, server: Server) -> None:
        await server.start(routes=ROUTE)
        status, said, _ = await server.push()
        assert status == 202
        assert said == {"status": "accepted", "route": "r", "event": "push", "delivery_id": "72d3162e"}
        (inbound,) = server.core.kept.values()
        assert (inbound.text, inbound.chat_id) == ("octo/repo refs/heads/main: Mend it", "r:72d3162e")

    @pytest.mark.parametrize("secret", ["token", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    async def test_gitlab_with_a_secret_token_or_a_signing_token(self, server: Server, secret: str) -> None:
        await server.start(routes={"r": {"secret": secret, "events": ["merge_request"], "signature": "gitlab"}})
        signed = signatures.sign("gitlab", secret, GITLAB_MERGE_REQUEST, "f5e5f430-f57b", endpoint.time.time())
        headers = {"X-Gitlab-Event": "Merge Request Hook", "X-Gitlab-Event-UUID": "13792a34", **signed}
        status, said, _ = await server.post("r", GITLAB_MERGE_REQUEST, headers)
        assert (status, said["event"], said["delivery_id"]) == (202, "Merge Request Hook", "f5e5f430-f57b")
        assert (await server.post("r", GITLAB_MERGE_REQUEST, headers))[1]["status"] == "duplicate"

    async def test_anybody(self, server: Server) -> None:
        await server.start(routes={"r": {"secret": SECRET, "prompt": "{message}"}})
        body = b'{"message": "disk full", "event_type": "alert"}'
        for scheme in ("generic", "bearer"):
            signed = signatures.sign(scheme, SECRET, body, f"id-{scheme}", endpoint.time.time())
            assert (await server.post("r", body, signed))[0] == 202
        assert server.core.texts == ["disk full", "disk full"]

    async def test_a_delivery_that_comes_again_is_answered_200_and_kept_once(self, server: Server) -> None:
        await server.start(routes=ROUTE)
        assert (await server.push())[0] == 202
        assert (await server.push())[:2] == (
            200, {"status": "duplicate", "route": "r", "event": "push", "delivery_id": "72d3162e"},
        )  # fmt: skip
        assert len(server.core.kept) == 1

    async def test_the_same_request_again_is_the_same_delivery_also_without_an_id(self, server: Server) -> None:
        await server.start(routes=ROUTE)
        signed = signatures.sign("generic", SECRET, GITHUB_PUSH, "", endpoint.time.time())
        del signed["X-Request-ID"]
        assert [(await server.post("r", GITHUB_PUSH, signed))[0] for _ in range(2)] == [202, 200]

    async def test_events_that_a_route_does_not_want(self, server: Server) -> None:
        await server.start(routes={"r": {"secret": SECRET, "events": ["issues"]}})
        status, said, _ = await server.push()
        assert (status, said) == (200, {"status": "ignored", "route": "r", "event": "push"})
        assert not server.core.kept


class TestRefusals:
    async def test_a_wrong_or_missing_signature(self, server: Server) -> None:
        await server.start(routes=ROUTE)
        status, said, _ = await server.push(body=GITHUB_PUSH + b" ", **{"X-Hub-Signature-256": "sha256=00"})
        assert (status, "is not that of this body" in said["error"]) == (401, True)
        status, said, _ = await server.post("r", GITHUB_PUSH, {})
        assert (status, "not signed" in said["error"]) == (401, True)
        assert SECRET not in json.dumps(said)

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
    async def test_a_body_that_is_nothing(self, server: Server, body: bytes) -> None:
        await server.start(routes=ROUTE)
        status, said, _ = await server.push(body=body)
        assert (status, said["error"].startswith("the body is")) == (400, True)

    async def test_an_unknown_route_and_a_wrong_method(self, server: Server) -> None:
        await server.start(routes=ROUTE)
        assert (await server.push("other"))[:2] == (404, {"error": "there is no route 'other'"})
        async with server.client.get(f"{server.adapter.describe()['url']}/webhooks/r") as response:
            assert response.status == 405
            assert "POST /webhooks/{route}" in (await response.json())["error"]

    async def test_a_body_that_is_too_large_with_its_length_and_without(self, server: Server) -> None:
        await server.start(routes=ROUTE, max_body_bytes=1000)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"x" * 500

        url = f"{server.adapter.describe()['url']}/webhooks/r"
        for data in (b"x" * 1001, pieces()):
            async with server.client.post(url, data=data) as response:
                assert response.status == 413
                assert "1000 bytes" in (await response.json())["error"]

    async def test_a_body_that_does_not_come(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(endpoint, "BODY_SECONDS", 0.05)
        await server.start(routes=ROUTE)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.adapter.describe()["port"])
        writer.write(b"POST /webhooks/r HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    async def test_more_than_the_rate(self, server: Server) -> None:
        await server.start(routes={**ROUTE, "other": {"secret": SECRET}}, rate_limit=2)
        for delivery in ("1", "2"):
            assert (await server.push(delivery=delivery))[0] == 202
        status, said, headers = await server.push(delivery="3")
        assert (status, "more than 2" in said["error"]) == (429, True)
        assert 1 <= int(headers["Retry-After"]) <= 60
        assert (await server.push("other", delivery="3"))[0] == 202, "each route has its own"
        unsigned = [(await server.post("other", b"{}", {}))[0] for _ in range(3)]
        assert unsigned == [401] * 3, "who is refused takes nothing of it away"
        assert (await server.push("other", delivery="4"))[0] == 202

    async def test_what_cannot_be_kept_may_come_again(self, server: Server) -> None:
        await server.start(routes=ROUTE)
        server.core.refusal = NotAccepted("the message cannot be kept: disk full", code="journal")
        status, said, headers = await server.push()
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "disk full" in said["error"]
        server.core.refusal = NotAccepted("no chat is named, and telegram has no home channel", code="undeliverable")
        status, said, headers = await server.push()
        assert (status, headers["Retry-After"], "telegram" in said["error"]) == (503, "60", False)
        server.core.refusal = None
        assert (await server.push())[0] == 202

    async def test_a_payload_that_does_not_say_where_to(self, server: Server) -> None:
        extra = {"deliver": "telegram", "deliver_extra": {"chat_id": "{chat}"}}
        await server.start(routes={"r": {"secret": SECRET, **extra}})
        status, said, _ = await server.push()
        assert (status, said["error"]) == (
            400, "the payload has no chat, which this route's deliver_extra.chat_id asks for",
        )  # fmt: skip

    async def test_routes_that_are_off_or_not_understood(self, server: Server) -> None:
        await server.start(
            routes={"off": {"secret": SECRET, "enabled": False}, "f": {"secret": SECRET, "filters": [1]}}
        )
        assert (await server.push("off"))[0] == 403
        status, said, _ = await server.push("f")
        assert (status, "not served" in said["error"]) == (503, True)
        problems = {route.name: route.problem for route in server.adapter.routes()}
        assert "switched off" in problems["off"]
        assert "filters" in problems["f"]


class TestWithoutASecret:
    async def test_programs_of_this_machine_may_use_it_and_web_pages_may_not(self, server: Server) -> None:
        await server.start(routes={"r": {}})
        assert (await server.post("r", b'{"type": "x"}', {}))[0] == 202
        assert (await server.post("r", b"{}", {"Host": "evil.example:8644"}))[0] == 403
        assert (await server.post("r", b"{}", {"Origin": "http://localhost"}))[0] == 403
        (warning,) = server.adapter.describe()["warnings"]
        assert "has no secret" in warning

    async def test_with_one_it_may_be_behind_any_name(self, server: Server) -> None:
        await server.start(routes=ROUTE)
        assert (await server.push(Host="hooks.example"))[0] == 202


class TestSubscriptions:
    async def test_routes_come_and_go_with_the_file(self, server: Server) -> None:
        await server.start(secret=SECRET)
        assert (await server.push())[0] == 404
        server.write({"r": {"prompt": "{ref}"}})
        assert (await server.push())[0] == 202
        server.write({})
        assert (await server.push(delivery="2"))[0] == 404
        assert server.core.texts == ["refs/heads/main"]

    async def test_a_broken_file_changes_nothing_and_is_told(
        self, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.write({"r": {"secret": SECRET}})
        await server.start()
        server.write('{"r": {"secret": ')
        with caplog.at_level(logging.ERROR):
            assert (await server.push())[0] == 202
        assert "broken JSON" in caplog.text
        (fault,) = server.adapter.describe()["faults"]
        assert "line 1: broken JSON" in fault
        assert "broken JSON" in server.adapter.state().detail
        assert server.adapter.state().fix
        assert (await server.push("other"))[0] == 404, "the routes are known"

    async def test_one_that_was_broken_from_the_start_loses_no_event(self, server: Server) -> None:
        server.write("{")
        await server.start(secret=SECRET)
        status, _, headers = await server.push()
        assert (status, headers["Retry-After"]) == (503, "60")
        server.write({"r": {}})
        assert (await server.push())[0] == 202

    async def test_config_goes_first(self, server: Server) -> None:
        server.write({"r": {"secret": "other"}})
        await server.start(routes=ROUTE)
        assert (await server.push())[0] == 202
        (warning,) = server.adapter.describe()["warnings"]
        assert "the former is served" in warning

    async def test_one_without_a_secret_is_not_served_to_other_machines(self, server: Server) -> None:
        server.write({"open": {}, "r": {"secret": SECRET}})
        await server.start(host="0.0.0.0")
        status, _, _ = await server.post("open", b"{}", {})
        assert status == 503
        assert (await server.push())[0] == 202


class TestPeople:
    async def test_subscribing_testing_and_removing(self, server: Server) -> None:
        await server.start()
        adapter = server.adapter
        assert isinstance(adapter, HasRoutes)
        made = await adapter.subscribe("alerts", {"prompt": "{message}", "events": ["alert"]})
        assert made.created
        assert len(made.secret) >= 32
        held = json.loads((server.home / FILE).read_text())["alerts"]
        assert held["secret"] == made.secret
        assert held["created_at"].endswith("Z")
        sample = adapter.sample("alerts", "", "")
        async with server.client.post(sample.url, data=sample.body, headers=sample.headers) as response:
            assert (response.status, (await response.json())["event"]) == (202, "alert")
        (shown,) = adapter.routes()
        assert (shown.counts, shown.received_at > 0, shown.checks) == ({"accepted": 1}, True, "a secret")
        assert made.secret not in repr((shown, made, sample))
        changed = await adapter.subscribe("alerts", {"events": []})
        assert (changed.created, changed.secret, changed.route.events) == (False, made.secret, ())
        assert json.loads((server.home / FILE).read_text())["alerts"]["prompt"] == "{message}"
        await adapter.unsubscribe("alerts")
        assert not adapter.routes()

    async def test_what_cannot_be_is_said_and_changes_nothing(self, server: Server) -> None:
        await server.start(routes=ROUTE)
        server.write({"kept": {}})
        adapter = server.adapter
        for name, fields, said in (
            ("r", {}, "is in config.yaml"),
            ("A b", {}, "cannot call"),
            ("x", {"deliver_only": True}, "needs a platform"),
            ("x", {"filters": [{"field": "ref"}]}, "would not be served"),
            ("x", {"deliver": "github_comment"}, "repo and pr_number"),
        ):
            with pytest.raises(Rejected, match=said):
                await adapter.subscribe(name, fields)
        with pytest.raises(Rejected, match="there is no route") as error:
            await adapter.unsubscribe("kep")
        assert error.value.fix == "did you mean kept?"
        with pytest.raises(Rejected, match=r"is in config\.yaml"):
            await adapter.unsubscribe("r")
        with pytest.raises(Rejected, match="there is no route"):
            adapter.sample("nobody", "", "")
        server.write("{")
        with pytest.raises(Rejected, match="broken JSON"):
            await adapter.subscribe("x", {})
        assert (server.home / FILE).read_text() == "{"

    async def test_two_at_once_lose_nothing(self, server: Server) -> None:
        await server.start()
        await asyncio.gather(*(server.adapter.subscribe(f"r{number}", {}) for number in range(5)))
        assert len(json.loads((server.home / FILE).read_text())) == 5


async def test_a_port_that_somebody_has(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StartLater, match=r"cannot take webhooks on 127\.0\.0\.1:.* in use"):
            await server.start(port=taken.getsockname()[1])
    assert isinstance(server.adapter, WebhookAdapter)


async def test_health(server: Server) -> None:
    await server.start()
    async with server.client.get(f"{server.adapter.describe()['url']}/health") as response:
        assert await response.json() == {"status": "ok", "platform": "webhook"}
