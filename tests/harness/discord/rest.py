"""The REST API and the content server: routes, refusals, rate limits, and calls that are cut."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from .gateway import Gateway
from .world import Call, Interaction, Json, Refusal, World, without_nonce

PREFIX = "/api/v10"
ACKNOWLEDGE_SECONDS = 3.0
EPHEMERAL = 1 << 6


@dataclass
class Fault:
    """What befalls the next ``count`` calls whose method and path match.

    ``status`` 0: the connection is cut, 200: nothing but the delay; ``carried_out``: only after the call was carried
    out; ``until``: it is held up for so long.
    """

    method: str
    path: re.Pattern[str]
    count: int
    status: int = 0
    body: Json | None = None
    headers: dict[str, str] | None = None
    carried_out: bool = False
    delay: float = 0.0
    until: Callable[[], object] = lambda: True


class Cut(Exception):
    """The connection is closed without an answer."""


class Rest:
    """``base``: the URL of this server."""

    def __init__(self, world: World, gateway: Gateway):
        self.world = world
        self.gateway = gateway
        self.base = ""
        self.faults: list[Fault] = []
        self.weather: Callable[[Call], Fault | None] = lambda call: None  # asked for what was not planned
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Awaitable[Any]]]] = [
            (method, re.compile(f"^{path}$"), handler)
            for method, path, handler in (
                ("GET", "/users/@me", self._me),
                ("GET", "/oauth2/applications/@me", self._application),
                ("GET", "/gateway/bot", self._gateway_bot),
                ("GET", r"/channels/(\d+)", self._channel),
                ("GET", r"/channels/(\d+)/messages", self._history),
                ("POST", r"/channels/(\d+)/messages", self._post),
                ("GET", r"/channels/(\d+)/messages/(\d+)", self._get),
                ("PATCH", r"/channels/(\d+)/messages/(\d+)", self._edit),
                ("DELETE", r"/channels/(\d+)/messages/(\d+)", self._delete),
                ("POST", r"/channels/(\d+)/messages/(\d+)/threads", self._start_thread),
                ("PUT", r"/channels/(\d+)/messages/(\d+)/reactions/([^/]+)/@me", self._react),
                ("DELETE", r"/channels/(\d+)/messages/(\d+)/reactions/([^/]+)/@me", self._unreact),
                ("POST", r"/channels/(\d+)/typing", self._typing),
                ("GET", r"/applications/(\d+)/commands", self._commands),
                ("PUT", r"/applications/(\d+)/commands", self._register),
                ("POST", r"/interactions/(\d+)/([^/]+)/callback", self._callback),
                ("PATCH", r"/webhooks/(\d+)/([^/]+)/messages/@original", self._edit_original),
                ("DELETE", r"/webhooks/(\d+)/([^/]+)/messages/@original", self._delete_original),
            )
        ]

    async def content(self, request: web.Request) -> web.Response:
        """The content server."""
        found = self.world.files.get(request.path)
        return web.Response(status=404) if found is None else web.Response(body=found)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(PREFIX)
        body, files = await _read(request)
        call = Call(len(self.world.calls) + 1, request.method, path, body, time.time(), tuple(files))
        self.world.calls.append(call)
        fault = self._fault(call)
        if fault is not None and fault.delay:
            await asyncio.sleep(fault.delay)
        while fault is not None and not fault.until():
            await asyncio.sleep(0.005)
        if fault is not None and not fault.carried_out:
            return self._befall(request, fault)
        try:
            if request.headers.get("Authorization") != f"Bot {self.world.token}":
                raise Refusal(401, 0, "401: Unauthorized")
            answer = await self._carry_out(request, call)
        except Refusal as refusal:
            return _json(refusal.body, refusal.status, refusal.headers)
        if fault is not None and fault.status != 200:
            return self._befall(request, fault)
        return web.Response(status=204) if answer is None else _json(answer)

    def _fault(self, call: Call) -> Fault | None:
        for fault in self.faults:
            if fault.method in ("", call.method) and fault.path.search(call.path):
                fault.count -= 1
                if fault.count <= 0:
                    self.faults.remove(fault)
                return fault
        return self.weather(call)

    def _befall(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.status == 0:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return _json(fault.body or {"message": "injected", "code": 0}, fault.status, fault.headers or {})

    async def _carry_out(self, request: web.Request, call: Call) -> Any:
        for method, pattern, handler in self._routes:
            if method == call.method and (match := pattern.match(call.path)):
                return await handler(*map(unquote, match.groups()), request=request, call=call)
        raise Refusal(404, 0, "404: Not Found")

    # ---- who we are --------------------------------------------------------------------------------------------------

    async def _me(self, **_: Any) -> Json:
        return self.world.bot

    async def _application(self, **_: Any) -> Json:
        return self.world.application_payload()

    async def _gateway_bot(self, **_: Any) -> Json:
        left = self.world.sessions_left
        limit = {"total": 1000, "remaining": left, "reset_after": 43_200_000, "max_concurrency": 1}
        return {"url": self.gateway.address, "shards": 1, "session_start_limit": limit}

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def _channel(self, channel: str, **_: Any) -> Json:
        return self.world.place(channel)

    async def _history(self, channel: str, *, request: web.Request, **_: Any) -> list[Json]:
        asked = request.query
        return self.world.history(
            channel, limit=int(asked.get("limit", 50)), after=int(asked.get("after", 0)),
            before=int(asked.get("before", 0)),
        )  # fmt: skip

    async def _get(self, channel: str, message: str, **_: Any) -> Json:
        return without_nonce(self.world.get(channel, message))

    async def _post(self, channel: str, *, call: Call, **_: Any) -> Json:
        attachments = [
            self.world.attach("", channel, name, content, "application/octet-stream", self.base)
            for name, content in call.files
        ]
        message, new = self.world.post(channel, call.body, attachments)
        if new:
            await self.gateway.dispatch("MESSAGE_CREATE", self.world.event_of(message))
        return message

    async def _edit(self, channel: str, message: str, *, call: Call, **_: Any) -> Json:
        edited = self.world.edit(channel, message, call.body)
        await self.gateway.dispatch("MESSAGE_UPDATE", self.world.event_of(edited))
        return edited

    async def _delete(self, channel: str, message: str, **_: Any) -> None:
        self.world.messages[channel].remove(self.world.get(channel, message))

    async def _start_thread(self, channel: str, message: str, *, call: Call, **_: Any) -> Json:
        thread = self.world.start_thread(channel, message, str(call.body.get("name") or ""))
        await self.gateway.dispatch("THREAD_CREATE", {**thread, "newly_created": True})
        return thread

    async def _react(self, channel: str, message: str, emoji: str, **_: Any) -> None:
        self.world.react(channel, message, emoji, add=True)

    async def _unreact(self, channel: str, message: str, emoji: str, **_: Any) -> None:
        self.world.react(channel, message, emoji, add=False)

    async def _typing(self, channel: str, **_: Any) -> None:
        self.world.place(channel)
        self.world.typing.append(channel)

    # ---- commands and buttons ----------------------------------------------------------------------------------------

    async def _commands(self, application: str, **_: Any) -> list[Json]:
        return self.world.commands

    async def _register(self, application: str, *, call: Call, **_: Any) -> list[Json]:
        for command in call.body:
            if not re.fullmatch(r"[-_\w]{1,32}", command["name"]) or command["name"] != command["name"].lower():
                raise Refusal(400, 50035, f"Invalid Form Body: name {command['name']!r}")
            if not 0 < len(command["description"]) <= 100:
                raise Refusal(400, 50035, f"Invalid Form Body: description of {command['name']}")
        # Each comes back with what Discord adds.
        self.world.commands = [
            {"id": self.world.new_id(), "application_id": application, "version": "1", **one} for one in call.body
        ]
        return self.world.commands

    async def _callback(self, interaction: str, token: str, *, call: Call, **_: Any) -> None:
        found = self.world.interactions.get(interaction)
        if found is None or found.token != token or time.monotonic() - found.at > ACKNOWLEDGE_SECONDS:
            raise Refusal(404, 10062, "Unknown interaction")
        if found.acknowledged is not None:
            raise Refusal(400, 40060, "Interaction has already been acknowledged.")
        found.acknowledged = time.monotonic() - found.at
        found.response = call.body
        data = call.body.get("data") or {}
        if call.body["type"] == 4 and data.get("flags", 0) & EPHEMERAL:
            self.world.ephemeral.append((interaction, data["content"]))
        elif call.body["type"] in (4, 5):
            found.message = self.world.message(found.channel, self.world.bot, data.get("content") or "")

    async def _edit_original(self, application: str, token: str, *, call: Call, **_: Any) -> Json:
        found = self._by_token(token)
        assert found.message is not None
        return self.world.edit(found.channel, found.message["id"], call.body)

    async def _delete_original(self, application: str, token: str, **_: Any) -> None:
        found = self._by_token(token)
        assert found.message is not None
        self.world.messages[found.channel].remove(found.message)
        found.message = None

    def _by_token(self, token: str) -> Interaction:
        for found in self.world.interactions.values():
            if found.token == token and found.message is not None:
                return found
        raise Refusal(404, 10015, "Unknown Webhook")


async def _read(request: web.Request) -> tuple[Any, list[tuple[str, bytes]]]:
    if request.content_type == "multipart/form-data":
        body: Any = {}
        files: list[tuple[str, bytes]] = []
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            content = await part.read()  # type: ignore[union-attr]
            if part.name == "payload_json":  # type: ignore[union-attr]
                body = json.loads(content)
            else:
                files.append((str(part.filename), bytes(content)))  # type: ignore[union-attr]
        return body, files
    if request.can_read_body and request.content_type == "application/json":
        return await request.json(), []
    return None, []


def _json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # discord.py compares the content type exactly (discord/http.py:96), so no charset.
    sent = {**(headers or {}), "Content-Type": "application/json"}
    return web.Response(body=json.dumps(data).encode(), status=status, headers=sent)
