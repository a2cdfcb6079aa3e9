"""Takes updates that Telegram posts to us; 200 only after they are on disk."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from hermesd.adapters.errors import NotAccepted
from hermesd.adapters.serving import port_of, serve
from hermesd.adapters.telegram.options import Webhook

log = logging.getLogger("hermesd.adapters.telegram")

HEADER = "X-Telegram-Bot-Api-Secret-Token"
BODY_LIMIT = 1 << 20
STOP_SECONDS = 1.0
RETRY_AFTER = 5
"""Seconds after which Telegram shall send again what could not be kept (WebhookActor.cpp:649 heeds it)."""


class WebhookServer:
    """An HTTP server for one path."""

    def __init__(self, webhook: Webhook, take: Callable[[dict[str, Any]], Awaitable[None]], alive: Callable[[], None]):
        self._webhook = webhook
        self._take = take
        self._alive = alive
        self._runner: web.AppRunner | None = None
        self.port = webhook.port

    async def start(self) -> None:
        """Raises `StartLater` when somebody else has the port."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_post(self._webhook.path, self._posted)
        self._runner = await serve(
            app, self._webhook.host, self._webhook.port, what="take Telegram's webhook",
            fix="set TELEGRAM_WEBHOOK_PORT to a free port", stop=STOP_SECONDS,
        )  # fmt: skip
        self.port = port_of(self._runner)

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _posted(self, request: web.Request) -> web.Response:
        said = request.headers.get(HEADER, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(said, self._webhook.secret.encode()):
            log.warning("a post to Telegram's webhook without its secret, from %s, was refused", request.remote)
            return web.Response(status=403)
        try:
            update = json.loads(await request.read())
            if not isinstance(update, dict) or not isinstance(update.get("update_id"), int):
                raise ValueError("it has no update_id")
        except ValueError as error:
            log.warning("a post to Telegram's webhook is no update: %s", error)
            return web.Response(status=400)
        self._alive()
        try:
            await self._take(update)
        except NotAccepted as error:
            log.warning("an update of Telegram waits there: %s", error)
            return web.Response(status=503, headers={"Retry-After": str(RETRY_AFTER)})
        return web.Response()
