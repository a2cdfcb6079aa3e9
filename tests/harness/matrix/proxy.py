"""Stands before a homeserver and passes everything on, but for what a test wants to go wrong.

With ``with`` it runs on an event loop of its own, so that a test that waits for processes does not hold it up.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from harness.loops import end_tasks
from harness.networks import weather
from harness.networks.weather import Trouble

# RFC 9110, section 7.6.1, and what aiohttp sets by itself.
_OWN = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length", "accept-encoding"}
_LIMIT = 64 << 20


class Proxy:
    """``with Proxy(synapse.url) as proxy:``. ``trouble`` is asked for each call, on the proxy's own loop."""

    def __init__(self, server: str):
        self._server = server
        self.trouble: Callable[[web.Request], Trouble | None] = lambda request: None
        self.url = ""
        self._working = 0
        self._bodies: dict[int, bytes] = {}
        self._counts: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="matrix proxy", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(30.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result(30.0)
        asyncio.run_coroutine_threadsafe(end_tasks(), self._loop).result(30.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def start(self) -> None:
        """Listen, on the running loop."""
        app = web.Application(client_max_size=_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))

    async def stop(self) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0)  # closed transports end in the loop's next round

    @property
    def works(self) -> bool:
        """Whether the homeserver is at work for somebody, long polls apart."""
        return self._working > 0

    def body_of(self, request: web.Request) -> bytes:
        """For ``trouble``."""
        return self._bodies.get(id(request), b"")

    def count(self, ending: str) -> int:
        """How many calls of paths that end so have been passed on."""
        return sum(count for path, count in list(self._counts.items()) if path.endswith(ending))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = self._bodies[id(request)] = await request.read()
        try:
            trouble = self.trouble(request)
        finally:
            del self._bodies[id(request)]
        kind = trouble.kind if trouble is not None else ""
        if trouble is not None and kind == weather.SLOW:
            await asyncio.sleep(trouble.seconds)
        if kind == weather.CUT:
            return _cut(request)
        if trouble is not None and kind == weather.LIMITED:
            return _limited(trouble.seconds)
        if trouble is not None and kind == weather.UNWELL:
            return _unwell(trouble.status)
        polls = request.path.endswith("/sync") and "since" in request.query
        self._working += not polls
        try:
            answer = await (self._polled(request, body) if polls else self._passed_on(request, body))
        except aiohttp.ClientError:
            return _cut(request)
        finally:
            self._working -= not polls
        if kind == weather.LOST:
            return _cut(request)
        if trouble is not None and kind == weather.UNWELL_LATE:
            return _unwell(trouble.status)
        return answer

    async def _polled(self, request: web.Request, body: bytes) -> web.Response:
        """A long poll ends by the time of this loop too, which may go faster than the homeserver's (`skipping`)."""
        try:
            async with asyncio.timeout(float(request.query.get("timeout", 0)) / 1000 + 1.0):
                return await self._passed_on(request, body)
        except TimeoutError:
            return web.json_response({"next_batch": request.query["since"]})

    async def _passed_on(self, request: web.Request, body: bytes) -> web.Response:
        assert self._session is not None
        self._counts[request.path] += 1
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
        url = URL(self._server + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            content = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
            return web.Response(status=answer.status, body=content, headers=kept)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _unwell(status: int) -> web.Response:
    return web.Response(status=status, text="<html>the proxy is unwell</html>", content_type="text/html")


def _limited(seconds: float) -> web.Response:
    # As Synapse has it: synapse/api/errors.py, LimitExceededError.
    body = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": int(seconds * 1000)}
    headers = {"Retry-After": str(int(seconds + 1))}
    return web.Response(status=429, text=json.dumps(body), content_type="application/json", headers=headers)
