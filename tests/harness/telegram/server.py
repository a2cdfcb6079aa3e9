"""The HTTP of the Bot API: ``/bot<token>/<method>`` and ``/file/bot<token>/<path>``."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web

from harness.ports import free_port

from . import errors
from .faults import Fault, Faults
from .methods import Arguments, Methods
from .queue import Updates
from .webhook import Hook
from .world import World

LONG_POLL_LIMIT = 50  # Client.h:1610 LONG_POLL_MAX_TIMEOUT
UPLOAD_LIMIT = 50 << 20
CONFLICT_REST = 3.0
"""A second conflict within this many seconds is answered as late (Client.cpp:16244)."""

HASTY = 0.5
"""Who asks for the same again within this many seconds is handed one update at a time (Client.cpp:15716)."""


@dataclass(slots=True)
class Call:
    """One call of the bot, as it came, and its answer: 0 where it got none."""

    method: str
    arguments: dict[str, str]
    at: float
    files: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    status: int = 0
    description: str = ""


class _Cut(Exception):
    """The connection breaks."""


class Server:
    """One bot's Telegram. Everything of it runs on one event loop."""

    def __init__(self, token: str, seed: int = 0):
        self.token = token
        self.world = World(seed)
        self.updates = Updates(seed)
        self.hook = Hook(self.updates)
        self.hook.on_set = lambda: self._end_poll(errors.ended_by_webhook())
        self.methods = Methods(self.world, self.hook)
        self.faults = Faults()
        self.calls: list[Call] = []
        self.revoked = False
        self.conflict_rest = CONFLICT_REST
        self.hasty = HASTY
        self.conflicts = 0
        self._polled = (0.0, 0)  # when, and with which offset
        self.handed_out: Counter[int] = Counter()  # how often each update was in an answer
        self._poll: asyncio.Future[None] | None = None  # the one that waits for updates
        self.held = False  # updates gather, and a poll waits as if there were none
        self._conflict_at = 0.0
        self._runner: web.AppRunner | None = None
        self._never = asyncio.Event()
        self.port = free_port()  # it is listened on again after an outage
        self.changed = asyncio.Condition()
        self.hook.on_delivered = self._notify

    async def start(self) -> None:
        app = web.Application(client_max_size=UPLOAD_LIMIT + (1 << 20))
        app.router.add_route("*", "/bot{token}/{method}", self._called)
        app.router.add_get("/file/bot{token}/{path:.+}", self._downloaded)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handle_signals=False)
        await self._runner.setup()
        await self.listen()
        self.hook.start()

    async def listen(self) -> None:
        assert self._runner is not None
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = int(self._runner.addresses[0][1])

    async def go_dark(self) -> None:
        """Refuse connections and break those that are there; `listen` ends it."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()
        server = self._runner.server
        for connection in list(server.connections) if server is not None else []:
            if connection.transport is not None:
                connection.transport.abort()

    async def stop(self) -> None:
        self._never.set()
        self._end_poll(errors.other_poller())
        await self.hook.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def add_update(self, kind: str, what: dict[str, Any]) -> int:
        update_id = self.updates.add(kind, what)
        await self.wake()
        return update_id

    async def wake(self) -> None:
        """Something has changed: for those who poll, for the webhook, and for a test that waits."""
        if self._poll is not None and not self._poll.done() and self._has_some:
            self._poll.set_result(None)
        self.hook.wake()
        await self._notify()

    @property
    def _has_some(self) -> bool:
        return bool(len(self.updates)) and not self.held

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _called(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"].lower()
        call = Call(method, {}, time.time())
        try:
            arguments = await _arguments(request)
            call.arguments = arguments.values
            call.files = {name: (file[0], len(file[1]), file[2]) for name, file in arguments.files.items()}
            self.calls.append(call)
            fault = self.faults.next(method)
            answer = await self._answer(request.match_info["token"], method, arguments, fault)
            call.status = answer.status
        except errors.ApiError as error:
            call.status, call.description = error.code, error.description
            answer = _refusal(error)
        except (_Cut, ConnectionResetError):  # the second: the bot has died in mid-request
            if request.transport is not None:
                request.transport.abort()
            answer = web.Response(status=500)
        finally:
            await self.wake()
        return answer

    async def _answer(self, token: str, method: str, call: Arguments, fault: Fault | None) -> web.Response:
        self._check(token)
        if fault is not None:
            await asyncio.sleep(fault.delay)
            if fault.cut == "before":
                raise _Cut
            if fault.status and not fault.cut:
                return _unwell(fault.status)
            if fault.error is not None:
                raise fault.error
        if method == "getupdates":
            result = await self._get_updates(call)
        elif (run := self.methods.table.get(method)) is not None:
            result = run(call)
        else:
            raise errors.no_such_method()
        if fault is not None and fault.cut == "hang":
            await self.wake()
            await self._never.wait()
        if fault is not None and fault.cut and fault.status:
            return _unwell(fault.status)
        if fault is not None and fault.cut:
            raise _Cut
        return web.json_response({"ok": True, "result": result})

    def _check(self, token: str) -> None:
        if ":" not in token or not token.partition(":")[0].isdigit():
            raise errors.malformed_token()
        if token != self.token or self.revoked:
            raise errors.unauthorized()

    async def _get_updates(self, call: Arguments) -> list[dict[str, Any]]:
        """Client.cpp `do_get_updates`: a poll that must wait ends the one that waits already."""
        if self.hook.url:
            await self._rest_conflict()
            raise errors.webhook_is_active()
        offset = call.number("offset")
        hasty = offset == self._polled[1] and time.monotonic() < self._polled[0] + self.hasty
        self._polled = (time.monotonic(), offset)
        self.updates.acknowledge(offset)
        await self._notify()
        limit = call.number("limit") or 100
        if hasty:
            limit = 1
        seconds = min(call.number("timeout"), LONG_POLL_LIMIT)
        if not self._has_some and seconds > 0:
            self._end_poll(errors.other_poller())
            poll = self._poll = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(asyncio.shield(poll), seconds)
            except TimeoutError:
                pass
            except errors.ApiError:
                self.conflicts += 1
                await self._rest_conflict()
                raise
            finally:
                if self._poll is poll:
                    self._poll = None
        found = [] if self.held else self.updates.first(limit)
        self.handed_out.update(update["update_id"] for update in found)
        return found

    def _end_poll(self, error: errors.ApiError) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_exception(error)

    async def _rest_conflict(self) -> None:
        if time.monotonic() < self._conflict_at + self.conflict_rest:
            await asyncio.sleep(self.conflict_rest)
        self._conflict_at = time.monotonic()

    async def _downloaded(self, request: web.Request) -> web.StreamResponse:
        call = Call("file", {"path": request.match_info["path"]}, time.time())
        self.calls.append(call)
        fault = self.faults.next("file")
        try:
            self._check(request.match_info["token"])
            if fault is not None and fault.error is not None:
                raise fault.error
        except errors.ApiError as error:
            return _refusal(error)
        for file in self.world.files.values():
            if file.path == request.match_info["path"]:
                if fault is not None and fault.cut:
                    response = web.StreamResponse(headers={"Content-Length": str(len(file.data))})
                    await response.prepare(request)
                    await response.write(file.data[: len(file.data) // 2])
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                return web.Response(body=file.data, content_type="application/octet-stream")
        return web.json_response({"ok": False, "error_code": 404, "description": "Not Found"}, status=404)


def _unwell(status: int) -> web.Response:
    return web.Response(status=status, text="<html>the proxy is unwell</html>", content_type="text/html")


def _refusal(error: errors.ApiError) -> web.Response:
    body: dict[str, Any] = {"ok": False, "error_code": error.code, "description": error.description}
    headers = {}
    if error.parameters:
        body["parameters"] = error.parameters
    if "retry_after" in error.parameters:
        headers["Retry-After"] = str(error.parameters["retry_after"])  # HttpConnection.cpp:72
    return web.json_response(body, status=error.code, headers=headers)


async def _arguments(request: web.Request) -> Arguments:
    values = {name: str(value) for name, value in request.query.items()}
    files = {}
    if request.content_type == "application/json":
        for name, value in (await request.json()).items():
            values[name] = value if isinstance(value, str) else json.dumps(value)
    elif request.content_type == "multipart/form-data":
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            content = await part.read(decode=True)
            if part.filename is None:
                values[part.name or ""] = content.decode()
            else:
                files[part.name or ""] = (part.filename, bytes(content), part.headers.get("Content-Type", ""))
    else:
        values |= {name: str(value) for name, value in (await request.post()).items()}
    return Arguments(values, files)
